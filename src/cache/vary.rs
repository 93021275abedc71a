//! `Vary`: which fields of a request choose among stored responses (RFC 9111 §4.1).
//!
//! The chosen fields' values make up the secondary key. They are normalised only where two spellings
//! mean the same; what is doubtful stays apart, at the cost of an entry more.

use std::cmp::Ordering;

use crate::http1::field::{Fields, is, is_token, is_token_byte, members, trim};

/// The most names in one `Vary`; more are treated as `*`. Arbitrary: real ones have up to five.
pub const NAMES_MAX: usize = 16;

/// The longest secondary key in bytes; a longer one makes the response unstorable.
pub const SECONDARY_BYTES_MAX: usize = 1024;

/// The most members of an `Accept-*` field that are put in order.
const CHOICES_MAX: usize = 16;

/// Begins the value of a field that the request has. Values have no control bytes, so that nothing in
/// them can be taken for one of these.
const PRESENT: u8 = 1;
/// Stands between two lines whose order and cut matter.
const NEXT_LINE: u8 = 2;
/// Begins the members of an `Accept-*` field that have been put in order.
const IN_ORDER: u8 = 3;
/// Ends what belongs to one name.
const END: u8 = 0;

/// What the `Vary` lines of a response come to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum VaryKind {
    /// Any request with the same key matches.
    None,
    /// No request is known to match.
    Star,
    /// A request matches whose fields of these names say the same.
    Names(Vary),
}

/// The names in a response's `Vary`, in lower case, in order, each once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vary {
    names: Box<[Box<str>]>,
}

/// Returns whether no request is known to match.
///
/// A member that is no field name may mean anything, and is taken for `*`; so are too many.
pub(super) fn is_star(response: Fields<'_>) -> bool {
    let mut names = response.list("vary").enumerate();
    names.any(|(at, name)| name == b"*" || !is_token(name) || at >= NAMES_MAX)
}

impl Vary {
    /// Reads the `Vary` lines of a response.
    pub fn of(response: Fields<'_>) -> VaryKind {
        if is_star(response) {
            return VaryKind::Star;
        }
        let lower = |name: &[u8]| String::from_utf8_lossy(name).to_ascii_lowercase();
        let mut names: Vec<_> = response.list("vary").map(lower).map(Box::from).collect();
        names.sort_unstable();
        names.dedup();
        if names.is_empty() {
            VaryKind::None
        } else {
            VaryKind::Names(Self { names: names.into() })
        }
    }

    /// Returns the names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(AsRef::as_ref)
    }

    /// Returns the secondary key of a request; `None` if it is longer than
    /// [`SECONDARY_BYTES_MAX`], and then the response is not stored.
    pub fn secondary(&self, request: Fields<'_>) -> Option<Box<[u8]>> {
        let mut key = Vec::new();
        let mut len = 0_usize;
        self.write(request, &mut |byte| {
            len += 1;
            if len <= SECONDARY_BYTES_MAX {
                key.push(byte);
            }
        });
        (len <= SECONDARY_BYTES_MAX).then(|| key.into())
    }

    /// Returns whether a request has this secondary key. Allocates nothing.
    pub fn matches(&self, secondary: &[u8], request: Fields<'_>) -> bool {
        let mut rest = secondary.iter();
        let mut is_same = true;
        self.write(request, &mut |byte| is_same &= rest.next() == Some(&byte));
        is_same && rest.next().is_none()
    }

    fn write(&self, request: Fields<'_>, out: &mut impl FnMut(u8)) {
        for name in &self.names {
            let mut lines = request.all(name).peekable();
            if lines.peek().is_some() {
                out(PRESENT);
                write_value(name, lines, request, out);
            }
            out(END);
        }
    }
}

/// Writes the value of a field that the request has, on these lines.
fn write_value<'a>(
    name: &str,
    lines: impl Iterator<Item = &'a [u8]>,
    request: Fields<'_>,
    out: &mut impl FnMut(u8),
) {
    match name {
        // Not lists; a comma in a cookie is a comma.
        "cookie" | "authorization" => write_joined(lines, NEXT_LINE, out),
        "accept-encoding" | "accept-language" | "accept-charset" => {
            let mut room = [Choice::default(); CHOICES_MAX];
            match choices(name, lines, &mut room) {
                Some(choices) => write_choices(choices, out),
                None => write_list(request.all(name), out),
            }
        }
        _ => write_list(lines, out),
    }
}

/// Writes the lines as one list without the whitespace around its commas (RFC 9110 §5.2).
fn write_list<'a>(lines: impl Iterator<Item = &'a [u8]>, out: &mut impl FnMut(u8)) {
    write_joined(lines.flat_map(list_members), b',', out);
}

fn write_joined<'a>(parts: impl Iterator<Item = &'a [u8]>, between: u8, out: &mut impl FnMut(u8)) {
    for (at, part) in parts.enumerate() {
        if at > 0 {
            out(between);
        }
        part.iter().copied().for_each(&mut *out);
    }
}

/// Splits a value at the commas that are outside of quoted strings.
fn list_members(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    let parts = value.split(move |&byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' => return !is_quoted,
            _ => {}
        }
        false
    });
    parts.map(trim)
}

/// One member of an `Accept-*` field.
#[derive(Clone, Copy, Default)]
struct Choice<'a> {
    /// Compared without case.
    name: &'a [u8],
    /// The first eight bytes of the name in lower case: most names differ there, and numbers are
    /// compared faster.
    start: u64,
    /// The quality in thousandths, 1000 if it is not stated.
    quality: u16,
}

impl<'a> Choice<'a> {
    fn new(name: &'a [u8], quality: u16) -> Self {
        let mut start = [0; 8];
        for (lower, byte) in start.iter_mut().zip(name) {
            *lower = byte.to_ascii_lowercase();
        }
        Self { name, start: u64::from_be_bytes(start), quality }
    }

    /// Puts the most wanted first, equals by name.
    ///
    /// RFC 9110 §12.5.4 gives the order of languages no meaning. A backend that takes it for a
    /// preference answers the first of two such clients for both; browsers state qualities.
    fn order(&self, other: &Self) -> Ordering {
        let starts = self.start.cmp(&other.start);
        let names = || self.lower().cmp(other.lower());
        other.quality.cmp(&self.quality).then(starts).then_with(names)
    }

    fn lower(&self) -> impl Iterator<Item = u8> {
        self.name.iter().map(u8::to_ascii_lowercase)
    }
}

/// Reads the members of an `Accept-*` field, in order; `None` if there are too many or one is not of
/// the form `name;q=0.5`.
fn choices<'a, 'r>(
    field: &str,
    lines: impl Iterator<Item = &'a [u8]>,
    room: &'r mut [Choice<'a>; CHOICES_MAX],
) -> Option<&'r [Choice<'a>]> {
    let mut count = 0;
    for member in lines.flat_map(members).filter(|member| !member.is_empty()) {
        *room.get_mut(count)? = choice(field, member)?;
        count += 1;
    }
    let choices = room.get_mut(..count)?;
    choices.sort_unstable_by(Choice::order);
    Some(choices)
}

fn choice<'a>(field: &str, member: &'a [u8]) -> Option<Choice<'a>> {
    let end = member.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(member.len());
    let (mut name, weight) = member.split_at_checked(end).filter(|(name, _)| !name.is_empty())?;
    // RFC 9110 §8.4.1.
    if field == "accept-encoding" && is(name, "x-gzip") {
        name = b"gzip";
    }
    if weight.is_empty() {
        return Some(Choice::new(name, 1000));
    }
    Some(Choice::new(name, quality(trim(trim(weight).strip_prefix(b";")?))?))
}

/// Parses `q=0.5` into thousandths (RFC 9110 §12.4.2).
fn quality(weight: &[u8]) -> Option<u16> {
    let ([b'q' | b'Q', b'=', whole @ (b'0' | b'1')], digits) = weight.split_at_checked(3)? else {
        return None;
    };
    let digits = match digits {
        [] => digits,
        [b'.', digits @ ..] if digits.len() <= 3 => digits,
        _ => return None,
    };
    let mut quality = u16::from(whole - b'0') * 1000;
    for (digit, worth) in digits.iter().zip([100, 10, 1]) {
        quality += u16::from(digit.is_ascii_digit().then(|| digit - b'0')?) * worth;
    }
    (quality <= 1000).then_some(quality)
}

/// Writes the members in order. Begins with a byte of its own: a list that is written as it came must
/// not be able to look like one in order.
fn write_choices(choices: &[Choice<'_>], out: &mut impl FnMut(u8)) {
    out(IN_ORDER);
    for choice in choices {
        choice.lower().for_each(&mut *out);
        // Two times seven bits, above the bytes of a name.
        let [high, low] = (choice.quality << 1).to_be_bytes();
        out(0x80 | high);
        out(0x80 | (low >> 1));
    }
}
