//! Content codings that bodies are stored in, and whether a client takes them (RFC 9110 §12.5.3).
//!
//! When in doubt, identity: a member that does not parse says nothing, and a client without the field
//! gets plain bytes, although the RFC would let us send it anything.

use crate::config::CompressStrategy;
use crate::http1::field::Fields;

/// A content coding (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `br` (RFC 7932).
    Brotli,
    /// `gzip` (RFC 1952).
    Gzip,
    /// `deflate`: zlib (RFC 1950), not the bare stream that some senders mistook it for.
    Deflate,
}

impl Coding {
    /// Returns the coding of a route's `compress_strategy`.
    pub const fn of(strategy: CompressStrategy) -> Option<Self> {
        match strategy {
            CompressStrategy::None => None,
            CompressStrategy::Brotli => Some(Self::Brotli),
            CompressStrategy::Gzip => Some(Self::Gzip),
            CompressStrategy::Deflate => Some(Self::Deflate),
        }
    }

    /// Returns its name in `Content-Encoding`.
    pub const fn token(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
        }
    }

    fn is_named(self, name: &[u8]) -> bool {
        // An old name that recipients take for the same (RFC 9110 §8.4.1.3).
        let is_alias = self == Self::Gzip && name.eq_ignore_ascii_case(b"x-gzip");
        is_alias || name.eq_ignore_ascii_case(self.token().as_bytes())
    }
}

/// Which of two forms of a body a client is sent, where both are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// The coded one.
    Coded,
    /// The plain one: the coding is not accepted, or identity has the higher weight.
    Identity,
    /// Both are refused. The plain one is sent all the same: a 406 helps nobody.
    Neither,
}

/// Returns which form of a body the client of a request would rather have, as `Accept-Encoding` says.
pub fn accepts(request: Fields<'_>, coding: Coding) -> Preference {
    preference(request.list("accept-encoding"), coding)
}

/// Decides by the members of `Accept-Encoding`. Where one is named twice, its lowest weight counts.
fn preference<'a>(members: impl Iterator<Item = &'a [u8]>, coding: Coding) -> Preference {
    let (mut coded, mut identity, mut any) = (None, None, None);
    for (name, weight) in members.filter_map(weighted) {
        let slot = match name {
            b"*" => &mut any,
            name if coding.is_named(name) => &mut coded,
            name if name.eq_ignore_ascii_case(b"identity") => &mut identity,
            _ => continue,
        };
        *slot = Some(slot.map_or(weight, |known: u16| known.min(weight)));
    }
    let coded = coded.or(any).unwrap_or(0);
    // Identity needs no mention; `*` matters to it only as a refusal.
    let is_refused = identity.or(any) == Some(0);
    match identity {
        Some(identity) if identity > coded => Preference::Identity,
        _ if coded > 0 => Preference::Coded,
        _ if is_refused => Preference::Neither,
        _ => Preference::Identity,
    }
}

/// Reads `name [;q=weight]`; the weight is in thousandths.
fn weighted(member: &[u8]) -> Option<(&[u8], u16)> {
    let mut parts = member.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
    let (name, weight) = (parts.next()?, parts.next());
    if parts.next().is_some() {
        return None;
    }
    let weight = match weight {
        None => 1000,
        Some([b'q' | b'Q', b'=', value @ ..]) => thousandths(value)?,
        Some(_) => return None,
    };
    Some((name, weight))
}

/// Reads a `qvalue` (RFC 9110 §12.4.2).
fn thousandths(value: &[u8]) -> Option<u16> {
    let (whole, decimals) = match value {
        [whole] => (whole, &[][..]),
        [whole, b'.', decimals @ ..] => (whole, decimals),
        _ => return None,
    };
    if decimals.len() > 3 || !matches!(whole, b'0' | b'1') {
        return None;
    }
    let mut sum = u16::from(whole - b'0') * 1000;
    for (digit, unit) in decimals.iter().zip([100, 10, 1]) {
        sum += u16::from(digit.is_ascii_digit().then(|| digit - b'0')?) * unit;
    }
    (sum <= 1000).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::RequestHead;

    const CODINGS: [Coding; 3] = [Coding::Brotli, Coding::Gzip, Coding::Deflate];

    fn of(value: &str, coding: Coding) -> Preference {
        let members = value.split(',').map(|member| member.trim().as_bytes());
        preference(members.filter(|member| !member.is_empty()), coding)
    }

    #[test]
    fn a_client_takes_what_it_names() {
        use Coding::{Brotli, Deflate, Gzip};
        use Preference::{Coded, Identity, Neither};
        for (value, coding, expected) in [
            ("", Gzip, Identity),
            ("gzip", Gzip, Coded),
            ("GZIP", Gzip, Coded),
            ("x-gzip", Gzip, Coded),
            ("gzip", Brotli, Identity),
            ("gzip, deflate, br, zstd", Brotli, Coded),
            ("gzip, deflate", Deflate, Coded),
            ("gzipped", Gzip, Identity),
            ("*", Brotli, Coded),
            ("*;q=0.1", Brotli, Coded),
            ("gzip;q=0", Gzip, Identity),
            ("gzip;q=0.000", Gzip, Identity),
            ("gzip;q=0.001", Gzip, Coded),
            ("gzip; q=0", Gzip, Identity),
            ("gzip ;Q=0.5", Gzip, Coded),
            ("gzip;q=0, *", Gzip, Identity),
            ("*;q=0", Gzip, Neither),
            ("*;q=0, gzip", Gzip, Coded),
            ("*;q=0, identity", Gzip, Identity),
            ("identity;q=0", Gzip, Neither),
            ("identity;q=0, gzip;q=0.2", Gzip, Coded),
            ("identity;q=0, *", Gzip, Coded),
            ("identity, gzip;q=0.5", Gzip, Identity),
            ("identity;q=0.5, gzip;q=0.5", Gzip, Coded),
            ("identity;q=0.5, *;q=0.4", Gzip, Identity),
            ("gzip, gzip;q=0", Gzip, Identity),
            ("identity", Gzip, Identity),
        ] {
            assert_eq!(of(value, coding), expected, "{value:?} {coding:?}");
        }
    }

    #[test]
    fn a_member_that_does_not_parse_says_nothing() {
        for value in [
            "gzip;q=",
            "gzip;q=2",
            "gzip;q=1.001",
            "gzip;q=0.0001",
            "gzip;q=.5",
            "gzip;q=-1",
            "gzip;q=0x1",
            "gzip;q=1;q=1",
            "gzip;level=9",
            "gzip;q =1",
            "gzip q=1",
            ";q=1",
        ] {
            assert_eq!(of(value, Coding::Gzip), Preference::Identity, "{value}");
        }
        for value in ["gzip;q=1", "gzip;q=1.", "gzip;q=1.000", "gzip;q=0.5", "gzip;q=0.999"] {
            assert_eq!(of(value, Coding::Gzip), Preference::Coded, "{value}");
        }
    }

    fn head(text: &str) -> RequestHead<&[u8]> {
        RequestHead::parse(text.as_bytes(), text.len(), Vec::new(), 10).expect("a head")
    }

    #[test]
    fn all_lines_of_the_field_count() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\nAccept-Encoding: br;q=0,\r\n\
                    accept-encoding: gzip\r\n\r\n";
        let named = head(text);
        assert_eq!(accepts(named.fields(), Coding::Gzip), Preference::Coded);
        assert_eq!(accepts(named.fields(), Coding::Brotli), Preference::Identity);
        let silent = head("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        for coding in CODINGS {
            assert_eq!(accepts(silent.fields(), coding), Preference::Identity);
        }
    }

    #[test]
    fn every_strategy_has_its_coding() {
        assert_eq!(Coding::of(CompressStrategy::None), None);
        let strategies =
            [CompressStrategy::Brotli, CompressStrategy::Gzip, CompressStrategy::Deflate];
        let codings = strategies.map(|strategy| Coding::of(strategy).expect("a coding"));
        assert_eq!(codings, CODINGS);
        assert_eq!(CODINGS.map(Coding::token), ["br", "gzip", "deflate"]);
    }
}
