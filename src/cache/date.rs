//! Moments, and the three forms of an HTTP-date (RFC 9110 §5.6.7).
//!
//! Dates decide what is stale, so a form that the RFC does not know is no date. Two things are
//! forgiven that parsers such as the crate `httpdate` refuse: the case of the letters, and a day of
//! the week that does not fit the date, which nobody needs.

use crate::http1::field::trim;

/// Milliseconds since the UNIX epoch by the worker's clock.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Moment(pub u64);

impl Moment {
    /// Returns the moment that many seconds after the epoch.
    pub const fn from_seconds(seconds: u64) -> Self {
        Self(seconds.saturating_mul(1000))
    }

    /// Returns the whole seconds since the epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// Returns the milliseconds since `earlier`; none if the clock went back.
    pub const fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the moment that many milliseconds later.
    #[must_use]
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// Parses an HTTP-date into seconds since the epoch; one before the epoch is 0.
///
/// # Examples
///
/// ```
/// use phantom_frame::cache::date::parse;
///
/// assert_eq!(parse(b"Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
/// assert_eq!(parse(b"Sunday, 06-Nov-94 08:49:37 GMT"), Some(784_111_777));
/// assert_eq!(parse(b"Sun Nov  6 08:49:37 1994"), Some(784_111_777));
/// assert_eq!(parse(b"Sun, 06 Nov 1994 08:49:37 UTC"), None);
/// ```
pub fn parse(value: &[u8]) -> Option<u64> {
    let value = trim(value);
    imf_fixdate(Reader(value))
        .or_else(|| rfc850_date(Reader(value)))
        .or_else(|| asctime_date(Reader(value)))
}

/// `Sun, 06 Nov 1994 08:49:37 GMT`
fn imf_fixdate(mut text: Reader<'_>) -> Option<u64> {
    text.one_of(&WEEKDAYS)?;
    text.literal(b", ")?;
    let day = text.digits(2)?;
    text.literal(b" ")?;
    let month = text.one_of(&MONTHS)?;
    text.literal(b" ")?;
    let year = text.digits(4)?;
    text.literal(b" ")?;
    let time = text.time_of_day()?;
    text.literal(b" GMT")?;
    text.end()?;
    seconds(year, month, day, time)
}

/// `Sunday, 06-Nov-94 08:49:37 GMT`
fn rfc850_date(mut text: Reader<'_>) -> Option<u64> {
    text.one_of(&LONG_WEEKDAYS)?;
    text.literal(b", ")?;
    let day = text.digits(2)?;
    text.literal(b"-")?;
    let month = text.one_of(&MONTHS)?;
    text.literal(b"-")?;
    // RFC 9110 §5.6.7 wants the century by the clock. This is what it comes to until 2120 for every
    // year in which HTTP was spoken.
    let year = match text.digits(2)? {
        short @ 0..70 => 2000 + short,
        short => 1900 + short,
    };
    text.literal(b" ")?;
    let time = text.time_of_day()?;
    text.literal(b" GMT")?;
    text.end()?;
    seconds(year, month, day, time)
}

/// `Sun Nov  6 08:49:37 1994`
fn asctime_date(mut text: Reader<'_>) -> Option<u64> {
    text.one_of(&WEEKDAYS)?;
    text.literal(b" ")?;
    let month = text.one_of(&MONTHS)?;
    text.literal(b" ")?;
    let day = if text.literal(b" ").is_some() { text.digits(1)? } else { text.digits(2)? };
    text.literal(b" ")?;
    let time = text.time_of_day()?;
    text.literal(b" ")?;
    let year = text.digits(4)?;
    text.end()?;
    seconds(year, month, day, time)
}

/// What of a date has not been read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    /// Reads `wanted`, whose letters may come in any case.
    fn literal(&mut self, wanted: &[u8]) -> Option<()> {
        let (start, rest) = self.0.split_at_checked(wanted.len())?;
        start.eq_ignore_ascii_case(wanted).then(|| self.0 = rest)
    }

    /// Reads one of these words and returns which, counted from 0.
    fn one_of(&mut self, words: &[&str]) -> Option<u64> {
        let at = words.iter().position(|word| self.literal(word.as_bytes()).is_some())?;
        u64::try_from(at).ok()
    }

    /// Reads a number of exactly this many digits, at most 4.
    fn digits(&mut self, count: usize) -> Option<u64> {
        let (digits, rest) = self.0.split_at_checked(count)?;
        let number = digits.iter().try_fold(0, |number, byte| {
            byte.is_ascii_digit().then(|| number * 10 + u64::from(byte - b'0'))
        })?;
        self.0 = rest;
        Some(number)
    }

    /// Reads `08:49:37` and returns the seconds since midnight. A leap second counts as the next.
    fn time_of_day(&mut self) -> Option<u64> {
        let hour = self.digits(2)?;
        self.literal(b":")?;
        let minute = self.digits(2)?;
        self.literal(b":")?;
        let second = self.digits(2)?;
        (hour < 24 && minute < 60 && second <= 60).then_some((hour * 60 + minute) * 60 + second)
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

/// Returns the seconds since the epoch; `month` counts from 0.
fn seconds(year: u64, month: u64, day: u64, time: u64) -> Option<u64> {
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let lengths = [31, if is_leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let month = usize::try_from(month).ok()?;
    if day == 0 || day > *lengths.get(month)? {
        return None;
    }
    if year < 1970 {
        return Some(0);
    }
    // Leap years before this one since the epoch; 1972 was the first.
    let before = year - 1;
    let leaps = (before / 4 - before / 100 + before / 400) - (1969 / 4 - 1969 / 100 + 1969 / 400);
    let days = (year - 1970) * 365 + leaps + lengths.iter().take(month).sum::<u64>() + day - 1;
    Some(days * 86_400 + time)
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

const LONG_WEEKDAYS: [&str; 7] =
    ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
