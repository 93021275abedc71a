//! Durations as people write them: `500ms`, `10s`, `1h30m`, or a plain number of seconds.

use std::time::Duration;

use super::fault::Complaint;
use super::raw::quote;

/// The longest duration a key takes: a year. Arbitrary; it keeps every deadline within the range of
/// the clock.
pub(super) const DURATION_MAX: Duration = Duration::from_hours(365 * 24);

/// The units in the order in which they may follow each other, with their milliseconds.
const UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Reads a duration: numbers with units, the largest unit first, each at most once.
pub(super) fn parse(text: &str) -> Result<Duration, Complaint> {
    if let Ok(seconds) = digits(text) {
        return from_secs(seconds);
    }
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut total_ms: u64 = 0;
    while !rest.is_empty() {
        let letters = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (number, tail) = rest.split_at_checked(letters).ok_or_else(|| malformed(text))?;
        let end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(end).ok_or_else(|| malformed(text))?;
        let (_, unit_ms) = units.find(|(name, _)| *name == unit).ok_or_else(|| malformed(text))?;
        let number = digits(number).map_err(|()| malformed(text))?;
        let part_ms = number.checked_mul(*unit_ms).ok_or_else(too_long)?;
        total_ms = total_ms.checked_add(part_ms).ok_or_else(too_long)?;
        rest = tail;
    }
    if text.is_empty() {
        return Err(malformed(text));
    }
    bounded(Duration::from_millis(total_ms))
}

/// A duration of whole seconds.
pub(super) fn from_secs(seconds: u64) -> Result<Duration, Complaint> {
    bounded(Duration::from_secs(seconds))
}

fn bounded(duration: Duration) -> Result<Duration, Complaint> {
    if duration <= DURATION_MAX { Ok(duration) } else { Err(too_long()) }
}

// Not `str::parse` alone: it takes "+5".
fn digits(text: &str) -> Result<u64, ()> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        text.parse().map_err(drop)
    } else {
        Err(())
    }
}

fn malformed(text: &str) -> Complaint {
    Complaint::new(format!("{} is not a duration", quote(text)))
        .with_remedy("try `\"500ms\"`, `\"10s\"`, `\"5m\"`, `\"1h30m\"`, or a number of seconds")
}

fn too_long() -> Complaint {
    Complaint::new("a duration is at most 365 days").with_remedy("try `\"365d\"`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_with_units_add_up() {
        for (text, ms) in [
            ("500ms", 500),
            ("10s", 10_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
            ("1h30m", 5_400_000),
            ("1d1h1m1s1ms", 90_061_001),
            ("0", 0),
            ("0s", 0),
            ("75", 75_000),
            ("365d", 31_536_000_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "s",
            "10 s",
            "-1s",
            "+1s",
            "1.5s",
            "10x",
            "10S",
            "30m1h",
            "1s1s",
            "1h30",
            "ms",
            "1é",
            "366d",
            "31536001",
            "99999999999999999999s",
            "99999999999999999999",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
