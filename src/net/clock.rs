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
