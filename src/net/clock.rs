//! The one place that reads the clocks of the data plane; everything else is handed an instant.

use std::time::{Instant, SystemTime};

/// Returns the monotonic time.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the monotonic clock")]
pub fn now() -> Instant {
    Instant::now()
}

/// Returns the wall-clock time as an IMF-fixdate (RFC 9110 5.6.7), always 29 bytes.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn http_date() -> String {
    httpdate::fmt_http_date(SystemTime::now())
}

/// Returns the wall-clock time in milliseconds since the UNIX epoch; 0 before it.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock")]
pub fn unix_millis() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
