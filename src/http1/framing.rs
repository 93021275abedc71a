//! Where a body ends; ambiguity is an error (RFC 9112 §6).
//!
//! Two parties that disagree about this see different messages in the same bytes: that is request
//! smuggling. RFC 9112 §6.3 lets a recipient repair some of the ambiguous cases; here none is.

use super::{
    field::{Fields, folds_to, is, is_token, members},
    head::Version,
};

/// The longest length accepted, in bytes: what every peer's signed 64-bit arithmetic can hold.
const LENGTH_MAX: u64 = i64::MAX as u64;

/// Where a body ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Framing {
    /// After this many bytes; `Length(0)` is no body.
    Length(u64),
    /// After the last chunk and its trailers.
    Chunked,
    /// When the sender closes the connection; responses only.
    UntilClose,
}

/// Why the framing of a message is refused. The caller must read nothing more from the connection.
///
/// From a client each is a 400, except [`FramingError::UnknownCoding`]; from a backend a 502.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FramingError {
    /// A Content-Length that is not `1*DIGIT` or does not fit, or a field whose name a backend may
    /// take for it.
    BadLength,
    /// More than one Content-Length line, even with equal values.
    TwoLengths,
    /// Content-Length and Transfer-Encoding together.
    TwoFramings,
    /// A transfer coding other than chunked, or a field whose name a backend may take for
    /// Transfer-Encoding (501).
    UnknownCoding,
    /// Transfer-Encoding where chunked is not the last coding, is there twice or has parameters, or
    /// which is not a list of codings at all.
    ChunkedNotFinal,
    /// Transfer-Encoding in a HTTP/1.0 message (RFC 9112 §6.1).
    ChunkedOnHttp10,
}

/// Returns how the body of a request is framed (RFC 9112 §6.3). Without a framing field there is
/// none: `Length(0)`.
///
/// # Errors
///
/// See [`FramingError`]. The caller must answer and close; what follows the head is never parsed.
///
/// # Examples
///
/// ```
/// use phantom_frame::http1::framing::{Framing, FramingError, request_framing};
/// use phantom_frame::http1::head::RequestHead;
///
/// let framing = |bytes: &'static [u8]| {
///     let head = RequestHead::parse(bytes, bytes.len(), Vec::new(), 100).unwrap();
///     request_framing(head.version(), head.fields())
/// };
/// assert_eq!(framing(b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\n"), Ok(Framing::Length(5)));
/// assert_eq!(
///     framing(b"PUT / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\n"),
///     Err(FramingError::BadLength)
/// );
/// ```
pub fn request_framing(version: Version, fields: Fields<'_>) -> Result<Framing, FramingError> {
    Ok(declared(version, fields)?.unwrap_or(Framing::Length(0)))
}

/// Returns how the body of a response is framed (RFC 9112 §6.3).
///
/// `answers_head`: the request was HEAD. A response to HEAD and a 1xx, 204 or 304 have no body
/// whatever their fields say, but their fields must still be sound: the client reads them too.
///
/// # Errors
///
/// See [`FramingError`]. The caller must close the backend connection and answer 502.
pub fn response_framing(
    answers_head: bool,
    status: u16,
    version: Version,
    fields: Fields<'_>,
) -> Result<Framing, FramingError> {
    let declared = declared(version, fields)?;
    if answers_head || matches!(status, 100..=199 | 204 | 304) {
        return Ok(Framing::Length(0));
    }
    Ok(declared.unwrap_or(Framing::UntilClose))
}

/// Returns the framing that the fields declare, if any.
fn declared(version: Version, fields: Fields<'_>) -> Result<Option<Framing>, FramingError> {
    let mut lengths = Lines::default();
    let mut codings = Lines::default();
    for field in fields.iter() {
        if folds_to(field.name, "content-length") {
            lengths.add(field.value, is(field.name, "content-length"));
        } else if folds_to(field.name, "transfer-encoding") {
            codings.add(field.value, is(field.name, "transfer-encoding"));
        }
    }
    match (lengths, codings) {
        (Lines::None, Lines::None) => Ok(None),
        (Lines::One(length), Lines::None) => Ok(Some(Framing::Length(parse_length(length)?))),
        (Lines::Several, Lines::None) => Err(FramingError::TwoLengths),
        (Lines::Lookalike, Lines::None) => Err(FramingError::BadLength),
        (Lines::None, Lines::Lookalike) => Err(FramingError::UnknownCoding),
        (Lines::None, Lines::One(_) | Lines::Several) if version == Version::Http10 => {
            Err(FramingError::ChunkedOnHttp10)
        }
        (Lines::None, Lines::One(coding)) if is(coding, "chunked") => Ok(Some(Framing::Chunked)),
        (Lines::None, Lines::One(_) | Lines::Several) => Err(coding_fault(fields)),
        (_, _) => Err(FramingError::TwoFramings),
    }
}

/// What is known of the lines of one framing field.
#[derive(Clone, Copy, Default)]
enum Lines<'a> {
    #[default]
    None,
    /// Exactly one, with this value.
    One(&'a [u8]),
    Several,
    /// At least one under a name with `_` for `-`: some backends read it, others do not.
    Lookalike,
}

impl<'a> Lines<'a> {
    fn add(&mut self, value: &'a [u8], is_exact: bool) {
        *self = match self {
            _ if !is_exact => Self::Lookalike,
            Self::None => Self::One(value),
            Self::One(_) | Self::Several => Self::Several,
            Self::Lookalike => Self::Lookalike,
        }
    }
}

/// Parses `1*DIGIT` (RFC 9110 §8.6).
fn parse_length(value: &[u8]) -> Result<u64, FramingError> {
    // Not `str::parse`: it takes "+5", and a backend may well disagree about that.
    if value.is_empty() {
        return Err(FramingError::BadLength);
    }
    let digits = value.iter().try_fold(0_u64, |length, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    });
    digits.filter(|&length| length <= LENGTH_MAX).ok_or(FramingError::BadLength)
}

/// Returns what is wrong with codings that are not one line with the one coding `chunked`.
fn coding_fault(fields: Fields<'_>) -> FramingError {
    let mut chunked = 0_usize;
    let mut is_last = false;
    for coding in fields.all("transfer-encoding").flat_map(members) {
        if !is_token(coding) {
            return FramingError::ChunkedNotFinal;
        }
        is_last = is(coding, "chunked");
        chunked += usize::from(is_last);
    }
    match (chunked, is_last) {
        (0, _) | (1, true) => FramingError::UnknownCoding,
        (_, _) => FramingError::ChunkedNotFinal,
    }
}

#[cfg(test)]
mod tests {
    use FramingError::{
        BadLength, ChunkedNotFinal, ChunkedOnHttp10, TwoFramings, TwoLengths, UnknownCoding,
    };

    use super::*;
    use crate::http1::head::RequestHead;

    fn with_fields<T>(fields: &[u8], check: impl Fn(Fields<'_>) -> T) -> T {
        let bytes = [b"GET / HTTP/1.1\r\n", fields, b"\r\n"].concat();
        let len = bytes.len();
        check(RequestHead::parse(bytes, len, Vec::new(), 100).unwrap().fields())
    }

    fn request(fields: &str) -> Result<Framing, FramingError> {
        with_fields(fields.as_bytes(), |fields| request_framing(Version::Http11, fields))
    }

    fn response(answers_head: bool, status: u16, fields: &str) -> Result<Framing, FramingError> {
        with_fields(fields.as_bytes(), |fields| {
            response_framing(answers_head, status, Version::Http11, fields)
        })
    }

    #[test]
    fn one_sound_field_or_none_frames_a_request() {
        assert_eq!(request(""), Ok(Framing::Length(0)));
        assert_eq!(request("Content-Length: 0\r\n"), Ok(Framing::Length(0)));
        assert_eq!(request("content-length:\t 42 \r\n"), Ok(Framing::Length(42)));
        assert_eq!(request("Content-Length: 0042\r\n"), Ok(Framing::Length(42)));
        assert_eq!(request("Transfer-Encoding: chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(request("TRANSFER-encoding:  CHUNKED\t\r\n"), Ok(Framing::Chunked));
    }

    #[test]
    fn a_length_is_digits_below_two_to_the_63() {
        let max = i64::MAX as u64;
        for (value, expected) in [
            (format!("{}", max - 1), Ok(Framing::Length(max - 1))),
            (format!("{max}"), Ok(Framing::Length(max))),
            (format!("{}", max + 1), Err(BadLength)),
            ("18446744073709551616".to_string(), Err(BadLength)),
            ("99999999999999999999999999".to_string(), Err(BadLength)),
        ] {
            assert_eq!(request(&format!("Content-Length: {value}\r\n")), expected, "{value}");
        }
        for value in [
            "", "+5", "-5", "5 5", "5,5", "5, 5", "5,", "0x5", "5.0", "1e3", "five", "5;a",
            "\"5\"", "5_0", "\u{b2}", "\u{660}",
        ] {
            let fields = format!("Content-Length: {value}\r\n");
            assert_eq!(request(&fields), Err(BadLength), "{value}");
        }
    }

    #[test]
    fn a_second_length_is_refused() {
        for fields in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nX: y\r\ncontent-length: 6\r\n",
            "Content-Length: 5\r\nContent-Length:\r\n",
        ] {
            assert_eq!(request(fields), Err(TwoLengths), "{fields}");
        }
    }

    #[test]
    fn a_length_beside_a_coding_is_refused() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: identity\r\nContent-Length: x\r\n",
            "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n",
            "Content_Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        ] {
            assert_eq!(request(fields), Err(TwoFramings), "{fields}");
        }
    }

    #[test]
    fn every_other_spelling_of_chunked_is_refused() {
        for value in [
            "gzip, chunked",
            "gzip",
            "identity",
            "identity, chunked",
            "xchunked",
            "chunke",
            "chunkedchunked",
            "x-chunked",
            "cHuNkEd2",
            "compress",
            "chunked.",
            "-chunked",
            "'chunked'",
        ] {
            let fields = format!("Transfer-Encoding: {value}\r\n");
            assert_eq!(request(&fields), Err(UnknownCoding), "{value}");
        }
        for value in [
            "chunked, chunked",
            "chunked, gzip",
            "chunked, identity",
            "",
            ",",
            "chunked,",
            ",chunked",
            "chunked;q=1",
            "chunked;",
            "\"chunked\"",
            "chunked chunked",
            "chunked \t x",
            "chun ked",
            "[chunked]",
            "{chunked}",
            "gzip;q=1",
            "chunked/1",
            "\u{a0}chunked",
            "chunked\u{85}",
            "\u{212a}chunked",
            "chunked:",
            "chunked, , chunked",
            "chunked\\",
        ] {
            let fields = format!("Transfer-Encoding: {value}\r\n");
            assert_eq!(request(&fields), Err(ChunkedNotFinal), "{value}");
        }
    }

    #[test]
    fn a_second_coding_line_is_refused() {
        for (fields, expected) in [
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", ChunkedNotFinal),
            ("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", ChunkedNotFinal),
            ("Transfer-Encoding: chunked\r\nTransfer-encoding:\r\n", ChunkedNotFinal),
            ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", UnknownCoding),
        ] {
            assert_eq!(request(fields), Err(expected), "{fields}");
        }
    }

    #[test]
    fn names_that_backends_fold_into_framing_fields_are_refused() {
        assert_eq!(request("Content_Length: 5\r\n"), Err(BadLength));
        assert_eq!(request("CONTENT_LENGTH: 5\r\nContent-Length: 5\r\n"), Err(BadLength));
        assert_eq!(request("Content-Length: 5\r\nContent_Length: 5\r\n"), Err(BadLength));
        assert_eq!(request("Transfer_Encoding: chunked\r\n"), Err(UnknownCoding));
        assert_eq!(
            request("Transfer-Encoding: chunked\r\nTransfer_Encoding: x\r\n"),
            Err(UnknownCoding)
        );
        assert_eq!(
            request("Content-Length2: 5\r\nX-Content-Length: 7\r\n"),
            Ok(Framing::Length(0))
        );
    }

    #[test]
    fn http_1_0_has_no_codings() {
        for fields in [
            &b"Transfer-Encoding: chunked\r\n"[..],
            b"Transfer-Encoding: gzip\r\n",
            b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        ] {
            let framing = with_fields(fields, |f| request_framing(Version::Http10, f));
            assert_eq!(framing, Err(ChunkedOnHttp10));
            let framing = with_fields(fields, |f| response_framing(false, 200, Version::Http10, f));
            assert_eq!(framing, Err(ChunkedOnHttp10));
        }
        let both = b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n";
        let framing = with_fields(both, |f| request_framing(Version::Http10, f));
        assert_eq!(framing, Err(TwoFramings));
    }

    #[test]
    fn a_response_without_framing_lasts_until_close() {
        assert_eq!(response(false, 200, ""), Ok(Framing::UntilClose));
        assert_eq!(response(false, 200, "Content-Length: 7\r\n"), Ok(Framing::Length(7)));
        assert_eq!(response(false, 500, "Transfer-Encoding: chunked\r\n"), Ok(Framing::Chunked));
        assert_eq!(response(false, 205, "Content-Length: 0\r\n"), Ok(Framing::Length(0)));
    }

    #[test]
    fn a_bodiless_response_needs_sound_fields_all_the_same() {
        for (answers_head, status) in [
            (true, 200),
            (false, 100),
            (false, 101),
            (false, 103),
            (false, 199),
            (false, 204),
            (false, 304),
        ] {
            for fields in ["", "Content-Length: 7\r\n", "Transfer-Encoding: chunked\r\n"] {
                assert_eq!(response(answers_head, status, fields), Ok(Framing::Length(0)));
            }
            for (fields, expected) in [
                ("Content-Length: 7\r\nContent-Length: 7\r\n", TwoLengths),
                ("Content-Length: x\r\n", BadLength),
                ("Content-Length: 7\r\nTransfer-Encoding: chunked\r\n", TwoFramings),
                ("Transfer-Encoding: gzip\r\n", UnknownCoding),
            ] {
                assert_eq!(response(answers_head, status, fields), Err(expected), "{fields}");
            }
        }
        for status in [200, 203, 205, 206, 303, 305] {
            assert_eq!(response(false, status, ""), Ok(Framing::UntilClose), "{status}");
        }
    }
}
