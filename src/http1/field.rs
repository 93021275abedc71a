//! Finding fields in a head, comma lists, hop-by-hop names.
//!
//! Names compare without case, values are opaque bytes. A field may stand on several lines; asking
//! for the `first` is right only where a second line has been refused or does not matter.

use super::head::FieldSpan;

/// The fields of one head, in the order they were received.
///
/// Borrows the head; copying it copies two slices.
#[derive(Clone, Copy, Debug)]
pub struct Fields<'a> {
    bytes: &'a [u8],
    spans: &'a [FieldSpan],
}

/// One field line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field<'a> {
    /// The name in the case it was sent in: a token (RFC 9110 §5.1), never empty.
    pub name: &'a [u8],
    /// The value without the whitespace around it; bytes from 0x80 on are as they came.
    pub value: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Pairs the bytes of a head with the spans of its fields.
    pub(super) const fn new(bytes: &'a [u8], spans: &'a [FieldSpan]) -> Self {
        Self { bytes, spans }
    }

    /// Returns every field line in the order received.
    pub fn iter(self) -> impl Iterator<Item = Field<'a>> {
        self.spans.iter().map(move |span| span.of(self.bytes))
    }

    /// Returns the value of every line named `name`, compared without case.
    pub fn all(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.iter().filter(|field| is(field.name, name)).map(|field| field.value)
    }

    /// Returns the value of the first line named `name`.
    pub fn first(self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// Returns whether any line is named `name`.
    pub fn has(self, name: &str) -> bool {
        self.first(name).is_some()
    }

    /// Returns the members of the comma list that all lines named `name` make up together (RFC 9110
    /// §5.6.1), without the whitespace around them and without empty ones.
    ///
    /// Quotes are not respected: this is for lists of tokens (`Connection`, `Upgrade`, `TE`).
    pub fn list(self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.all(name).flat_map(members).filter(|member| !member.is_empty())
    }

    /// Returns whether the list `name` has the member `token`, compared without case.
    pub fn has_token(self, name: &str, token: &str) -> bool {
        self.list(name).any(|member| is(member, token))
    }
}

/// Returns whether `name` is meant for the next hop only, whether or not `Connection` names it.
///
/// RFC 9110 §7.6.1 lists the first six; the authentication fields belong to a proxy the other side
/// chose, and `HTTP2-Settings` (RFC 7540 §3.2.1) means something only beside an h2c upgrade.
/// `Trailer` is not one: trailers are forwarded.
pub fn is_hop_by_hop(name: &[u8]) -> bool {
    HOP_BY_HOP.iter().any(|known| is(name, known))
}

const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "proxy-authenticate",
    "proxy-authentication-info",
    "proxy-authorization",
    "http2-settings",
];

/// Returns whether a name or token is `wanted`, compared without case.
pub fn is(name: &[u8], wanted: &str) -> bool {
    name.eq_ignore_ascii_case(wanted.as_bytes())
}

/// Returns whether `name` is `wanted` to a backend that maps `-` to `_` (CGI and its heirs do, and
/// so cannot tell the two apart). `wanted` is lowercase and written with `-`.
pub(super) fn folds_to(name: &[u8], wanted: &str) -> bool {
    name.len() == wanted.len() && starts_folded(name, wanted)
}

/// Returns whether `name` begins with `prefix` in the sense of [`folds_to`].
pub(super) fn starts_folded(name: &[u8], prefix: &str) -> bool {
    let fold = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    name.len() >= prefix.len() && name.iter().zip(prefix.bytes()).all(|(&a, b)| fold(a) == b)
}

/// Splits one value at its commas; members may be empty.
pub fn members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(trim)
}

/// Removes optional whitespace, space and tab only, from both ends (RFC 9110 §5.6.3).
///
/// `slice::trim_ascii` would also take form feeds and line ends, and hide a forged value.
pub fn trim(mut value: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = value {
        value = rest;
    }
    value
}

/// Returns whether `bytes` are a token (RFC 9110 §5.6.2), which is never empty.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Returns whether `byte` may stand in a token.
pub const fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Returns whether `byte` may stand in a field value or a reason phrase: tab, space, visible ASCII
/// and the opaque bytes from 0x80 on (RFC 9110 §5.5).
pub(super) const fn is_text_byte(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::RequestHead;

    fn head(fields: &str) -> RequestHead<Vec<u8>> {
        let bytes = format!("GET / HTTP/1.1\r\n{fields}\r\n").into_bytes();
        let len = bytes.len();
        RequestHead::parse(bytes, len, Vec::new(), 100).unwrap()
    }

    #[test]
    fn lines_are_found_without_case_and_in_order() {
        let head = head("A: 1\r\nb: 2\r\na: 3\r\n");
        let fields = head.fields();
        assert_eq!(fields.all("a").collect::<Vec<_>>(), [b"1", b"3"]);
        assert_eq!(fields.first("B"), Some(&b"2"[..]));
        assert!(fields.has("b") && !fields.has("c"));
        let names: Vec<_> = fields.iter().map(|field| field.name).collect();
        assert_eq!(names, [b"A", b"b", b"a"]);
    }

    #[test]
    fn a_list_runs_over_all_lines_and_skips_empty_members() {
        let head = head("X: a, ,b\t,\r\nY: no\r\nx: ,C\r\n");
        let list: Vec<_> = head.fields().list("x").collect();
        assert_eq!(list, [b"a", b"b", b"C"]);
        assert!(head.fields().has_token("x", "c"));
        assert!(!head.fields().has_token("x", "no"));
        assert!(!head.fields().has_token("x", ""));
    }

    #[test]
    fn hop_by_hop_names_are_known_in_any_case() {
        for name in HOP_BY_HOP {
            assert!(is_hop_by_hop(name.to_ascii_uppercase().as_bytes()), "{name}");
        }
        for name in ["trailer", "host", "content-length", "proxy-status", "te2", ""] {
            assert!(!is_hop_by_hop(name.as_bytes()), "{name}");
        }
    }

    #[test]
    fn only_space_and_tab_are_trimmed() {
        assert_eq!(trim(b" \t a b\t "), b"a b");
        assert_eq!(trim(b"\x0ba\x0c"), b"\x0ba\x0c");
        assert_eq!(trim(b" \t"), b"");
    }

    #[test]
    fn an_underscore_folds_to_a_hyphen() {
        assert!(folds_to(b"Content_Length", "content-length"));
        assert!(folds_to(b"CONTENT-LENGTH", "content-length"));
        assert!(!folds_to(b"Content-Lengths", "content-length"));
        assert!(!folds_to(b"Content.Length", "content-length"));
        assert!(starts_folded(b"X_Forwarded-For", "x-forwarded-"));
        assert!(!starts_folded(b"X_For", "x-forwarded-"));
    }
}
