//! `Range`: one range of bytes out of a stored body (RFC 9110 §14).
//!
//! A range is an offer to send less. What we do not serve, several ranges or another unit, is ignored
//! and answered with the whole body.

use crate::http1::field::{is, members};

use super::conditional::Answer;

/// Returns what a `Range` value asks of a body of `len` bytes.
///
/// # Examples
///
/// ```
/// use phantom_frame::cache::{Answer, range::single};
///
/// assert_eq!(single(b"bytes=2-", 5), Answer::Partial { first: 2, last: 4 });
/// assert_eq!(single(b"bytes=5-", 5), Answer::Unsatisfiable);
/// assert_eq!(single(b"bytes=0-1,3-4", 5), Answer::Whole);
/// ```
pub fn single(value: &[u8], len: u64) -> Answer {
    asked(value).map_or(Answer::Whole, |range| range.of(len))
}

/// A range as it was asked for.
enum Asked {
    From { first: u64, last: Option<u64> },
    Suffix { len: u64 },
}

impl Asked {
    fn of(&self, len: u64) -> Answer {
        let end = len.saturating_sub(1);
        match *self {
            // No Content-Range can say "nothing of nothing".
            Self::Suffix { len: 1.. } if len == 0 => Answer::Whole,
            Self::Suffix { len: 0 } => Answer::Unsatisfiable,
            Self::Suffix { len: asked } => {
                Answer::Partial { first: len.saturating_sub(asked), last: end }
            }
            Self::From { first, .. } if first >= len => Answer::Unsatisfiable,
            Self::From { first, last } => {
                Answer::Partial { first, last: last.map_or(end, |last| last.min(end)) }
            }
        }
    }
}

/// Reads a single range; `None` if there is no such thing.
fn asked(value: &[u8]) -> Option<Asked> {
    let at = value.iter().position(|&byte| byte == b'=')?;
    let (unit, set) = value.split_at_checked(at)?;
    let mut ranges = members(set.get(1..)?).filter(|range| !range.is_empty());
    let range = ranges.next()?;
    if ranges.next().is_some() || !is(unit, "bytes") {
        return None;
    }
    let at = range.iter().position(|&byte| byte == b'-')?;
    let (first, last) = range.split_at_checked(at)?;
    let last = last.get(1..)?;
    if first.is_empty() {
        return Some(Asked::Suffix { len: number(last)? });
    }
    let first = number(first)?;
    let last = if last.is_empty() { None } else { Some(number(last)?) };
    // Backwards is not a range (RFC 9110 §14.1.1).
    last.is_none_or(|last| first <= last).then_some(Asked::From { first, last })
}

/// Parses `1*DIGIT`; more than 64 bits is the greatest number, which lies behind every body.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}
