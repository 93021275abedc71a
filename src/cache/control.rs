//! `Cache-Control` in responses and in requests (RFC 9111 §5.2).
//!
//! Nothing is allocated. The difficulty is what is not quite a directive: a restriction is believed
//! however it is written, a permission only in its proper form, and a lifetime that cannot be read
//! is none (RFC 9111 §4.2.1). Text inside a quoted string is never a directive.

use crate::http1::field::{Fields, is, is_token, is_token_byte, members, trim};

/// The longest time a directive can say, in seconds, about 68 years; more is read as this (RFC 9111
/// §1.2.2).
pub const SECONDS_MAX: u64 = 1 << 31;

/// One directive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Directive<'a> {
    /// The name in the case it was sent in; may be empty if `is_sound` is false.
    pub name: &'a [u8],
    /// What stands behind `=`, without its quotes; escapes in it are as they came.
    pub argument: Option<&'a [u8]>,
    /// Whether name and argument are written as RFC 9111 §5.2 says.
    pub is_sound: bool,
}

/// Returns the directives of one field value.
///
/// A `;` separates too: who writes one means a comma, and must not have written `private` in vain. So
/// does a comma behind a quote that is never closed. Directives in such a place are not sound.
pub fn directives(value: &[u8]) -> impl Iterator<Item = Directive<'_>> {
    let mut texts = Texts { rest: value, closes_quotes: true };
    std::iter::from_fn(move || texts.next_text()).filter_map(|(text, is_apart)| {
        let text = trim(text);
        (!text.is_empty()).then(|| directive(text, is_apart))
    })
}

/// Cuts a value into the texts of its directives.
struct Texts<'a> {
    rest: &'a [u8],
    /// No quote has been found yet that is not closed. Looking for the end of each anew would take
    /// time quadratic in the length of the value.
    closes_quotes: bool,
}

impl<'a> Texts<'a> {
    /// Returns the next text, and whether it is set apart from the next by a comma.
    fn next_text(&mut self) -> Option<(&'a [u8], bool)> {
        if self.rest.is_empty() {
            return None;
        }
        let end = if self.closes_quotes { unquoted_end(self.rest) } else { None };
        let (end, is_apart) = end.unwrap_or_else(|| {
            self.closes_quotes = false;
            let is_end = |byte: &u8| matches!(byte, b',' | b';');
            (self.rest.iter().position(is_end).unwrap_or(self.rest.len()), false)
        });
        let (text, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest.get(1..).unwrap_or_default();
        Some((text, is_apart))
    }
}

/// Returns where the first text ends, and whether in a comma or with the value; `None` if a quote in
/// it is never closed.
fn unquoted_end(value: &[u8]) -> Option<(usize, bool)> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in value.iter().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_quoted => is_escaped = true,
            b'"' => is_quoted = !is_quoted,
            b',' | b';' if !is_quoted => return Some((at, *byte == b',')),
            _ => {}
        }
    }
    (!is_quoted).then_some((value.len(), true))
}

/// Reads one directive; `text` has no whitespace around it and is not empty.
fn directive(text: &[u8], is_apart: bool) -> Directive<'_> {
    let end = text.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end).unwrap_or_default();
    let argument = trim(rest).strip_prefix(b"=");
    let (argument, is_written) = match argument {
        Some([b'"', inside @ .., b'"']) => (Some(inside), true),
        Some(argument) => (Some(argument), is_token(argument)),
        None => (None, rest.is_empty()),
    };
    let is_tight = rest.is_empty() || rest.starts_with(b"=");
    Directive { name, argument, is_sound: is_apart && is_written && is_tight && !name.is_empty() }
}

impl Directive<'_> {
    /// Returns the argument as seconds, [`SECONDS_MAX`] at most (RFC 9111 §1.2.2).
    fn seconds(&self) -> Option<u64> {
        if self.is_sound { parse_seconds(self.argument?) } else { None }
    }
}

/// Parses `1*DIGIT`; more than [`SECONDS_MAX`] is read as that.
pub fn parse_seconds(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_u64, |seconds, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some((seconds * 10 + digit).min(SECONDS_MAX))
    })
}

/// What a response's directives say together: those of `Cache-Control`, or of a field in its place.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Directives {
    flags: u8,
    /// `max-age` in seconds. Unreadable and contradicting ones are 0 (RFC 9111 §4.2.1).
    pub max_age: Option<u64>,
    /// `s-maxage` in seconds, in the same manner.
    pub s_maxage: Option<u64>,
    /// `stale-while-revalidate` in seconds (RFC 5861 §3), in the same manner.
    pub stale_while_revalidate: Option<u64>,
    /// `stale-if-error` in seconds (RFC 5861 §4), in the same manner.
    pub stale_if_error: Option<u64>,
}

impl Directives {
    /// `no-store`.
    pub const NO_STORE: u8 = 1;
    /// `private`, with or without a list of fields: caches may read the list as all.
    pub const PRIVATE: u8 = 1 << 1;
    /// `no-cache`, with or without a list of fields: caches may read the list as all.
    pub const NO_CACHE: u8 = 1 << 2;
    /// `must-revalidate`.
    pub const MUST_REVALIDATE: u8 = 1 << 3;
    /// `proxy-revalidate`.
    pub const PROXY_REVALIDATE: u8 = 1 << 4;
    /// `public`.
    pub const PUBLIC: u8 = 1 << 5;
    /// `must-understand`.
    pub const MUST_UNDERSTAND: u8 = 1 << 6;

    /// Reads every `Cache-Control` line of a response.
    pub fn of(response: Fields<'_>) -> Self {
        let mut all = Self::default();
        for directive in response.all("cache-control").flat_map(directives) {
            all.add(&directive);
        }
        all
    }

    /// Returns whether any of these directives is present.
    pub const fn has(self, flags: u8) -> bool {
        self.flags & flags != 0
    }

    /// Notes a directive without an argument that matters.
    pub(super) const fn set(&mut self, flag: u8) {
        self.flags |= flag;
    }

    fn add(&mut self, directive: &Directive<'_>) {
        let seconds = directive.seconds().unwrap_or(0);
        if let Some(flag) = flag(directive.name) {
            let is_permission = flag & (Self::PUBLIC | Self::MUST_UNDERSTAND) != 0;
            let is_plain = directive.is_sound && directive.argument.is_none();
            if is_plain || !is_permission {
                self.set(flag);
            }
        } else if let Some(slot) = self.slot(directive.name) {
            *slot = Some(match *slot {
                Some(known) if known != seconds => 0,
                Some(_) | None => seconds,
            });
        }
    }

    /// Returns where the argument of this directive is kept, if it is one of seconds.
    pub(super) fn slot(&mut self, name: &[u8]) -> Option<&mut Option<u64>> {
        match name.len() {
            7 if is(name, "max-age") => Some(&mut self.max_age),
            8 if is(name, "s-maxage") => Some(&mut self.s_maxage),
            14 if is(name, "stale-if-error") => Some(&mut self.stale_if_error),
            22 if is(name, "stale-while-revalidate") => Some(&mut self.stale_while_revalidate),
            _ => None,
        }
    }
}

/// Returns the flag of a directive that needs no argument.
pub(super) fn flag(name: &[u8]) -> Option<u8> {
    let (wanted, flag) = match name.len() {
        6 => ("public", Directives::PUBLIC),
        7 => ("private", Directives::PRIVATE),
        8 if is(name, "no-cache") => ("no-cache", Directives::NO_CACHE),
        8 => ("no-store", Directives::NO_STORE),
        15 if is(name, "must-revalidate") => ("must-revalidate", Directives::MUST_REVALIDATE),
        15 => ("must-understand", Directives::MUST_UNDERSTAND),
        16 => ("proxy-revalidate", Directives::PROXY_REVALIDATE),
        _ => return None,
    };
    is(name, wanted).then_some(flag)
}

/// What a request says to a cache: its directives, and which of the fields it has that matter.
///
/// # Examples
///
/// ```
/// use phantom_frame::cache::Demand;
/// use phantom_frame::http1::head::RequestHead;
///
/// let bytes = b"GET / HTTP/1.1\r\nCache-Control: no-cache\r\nRange: bytes=0-1\r\n\r\n";
/// let head = RequestHead::parse(&bytes[..], bytes.len(), Vec::new(), 100).unwrap();
/// let demand = Demand::of(head.fields());
/// assert!(demand.no_cache() && demand.has_range() && !demand.is_authorized());
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Demand {
    flags: u8,
    /// `max-age` in seconds: no older than this.
    pub(super) max_age: Option<u64>,
    /// `min-fresh` in seconds: fresh for so long at least.
    pub(super) min_fresh: Option<u64>,
    /// `max-stale` in seconds: stale for so long at most.
    pub(super) max_stale: Option<u64>,
    /// `stale-if-error` in seconds (RFC 5861 §4).
    pub(super) stale_if_error: Option<u64>,
}

impl Demand {
    const NO_STORE: u8 = 1;
    const NO_CACHE: u8 = 1 << 1;
    const ONLY_IF_CACHED: u8 = 1 << 2;
    const AUTHORIZED: u8 = 1 << 3;
    const RANGE: u8 = 1 << 4;
    const CONDITIONAL: u8 = 1 << 5;
    const CONTROLLED: u8 = 1 << 6;
    const COOKIE: u8 = 1 << 7;

    /// Reads a request's fields, each once.
    ///
    /// `Pragma: no-cache` counts only where there is no `Cache-Control` (RFC 9111 §5.4).
    pub fn of(request: Fields<'_>) -> Self {
        let mut demand = Self::default();
        let mut pragma = false;
        for field in request.iter() {
            match field.name.len() {
                6 if is(field.name, "cookie") => demand.flags |= Self::COOKIE,
                5 if is(field.name, "range") => demand.flags |= Self::RANGE,
                6 if is(field.name, "pragma") => {
                    pragma |= members(field.value).any(|member| is(member, "no-cache"));
                }
                13 if is(field.name, "cache-control") => demand.add_line(field.value),
                13 if is(field.name, "authorization") => demand.flags |= Self::AUTHORIZED,
                8 | 13 | 17 | 19 if is_precondition(field.name) => {
                    demand.flags |= Self::CONDITIONAL;
                }
                _ => {}
            }
        }
        if pragma && demand.flags & Self::CONTROLLED == 0 {
            demand.flags |= Self::NO_CACHE;
        }
        demand
    }

    /// Returns whether neither the request nor its response may be stored (RFC 9111 §5.2.1.5).
    ///
    /// [`Terms::reuse`](super::Terms::reuse) reuses nothing for such a request; what the backend
    /// answers, a 304 included, changes no entry.
    pub const fn no_store(self) -> bool {
        self.flags & Self::NO_STORE != 0
    }

    /// Returns whether a stored response must be validated first (RFC 9111 §5.2.1.4).
    pub const fn no_cache(self) -> bool {
        self.flags & Self::NO_CACHE != 0
    }

    /// Returns whether the client would rather have a 504 than wait for the backend (RFC 9111
    /// §5.2.1.7).
    pub const fn only_if_cached(self) -> bool {
        self.flags & Self::ONLY_IF_CACHED != 0
    }

    /// Returns whether the request has an `Authorization` field.
    pub const fn is_authorized(self) -> bool {
        self.flags & Self::AUTHORIZED != 0
    }

    /// Returns whether the request has a `Cookie` field.
    pub const fn has_cookie(self) -> bool {
        self.flags & Self::COOKIE != 0
    }

    /// Returns whether the request has a `Range` field.
    pub const fn has_range(self) -> bool {
        self.flags & Self::RANGE != 0
    }

    /// Returns whether the request has a precondition (RFC 9110 §13.1), `If-Range` not counted.
    pub const fn is_conditional(self) -> bool {
        self.flags & Self::CONDITIONAL != 0
    }

    fn add_line(&mut self, value: &[u8]) {
        self.flags |= Self::CONTROLLED;
        for directive in directives(value) {
            self.add(&directive);
        }
    }

    /// Adds a directive; of contradicting ones the stricter counts, an unreadable one as the
    /// strictest.
    fn add(&mut self, directive: &Directive<'_>) {
        let name = directive.name;
        let seconds = directive.seconds();
        match name.len() {
            7 if is(name, "max-age") => stricter(&mut self.max_age, seconds.unwrap_or(0)),
            8 if is(name, "no-cache") => self.flags |= Self::NO_CACHE,
            8 if is(name, "no-store") => self.flags |= Self::NO_STORE,
            9 if is(name, "min-fresh") => {
                let seconds = seconds.unwrap_or(SECONDS_MAX);
                self.min_fresh = Some(self.min_fresh.unwrap_or(0).max(seconds));
            }
            9 if is(name, "max-stale") => {
                let any = if directive.argument.is_none() { u64::MAX } else { 0 };
                stricter(&mut self.max_stale, seconds.unwrap_or(any));
            }
            14 if is(name, "only-if-cached") => self.flags |= Self::ONLY_IF_CACHED,
            14 if is(name, "stale-if-error") => {
                stricter(&mut self.stale_if_error, seconds.unwrap_or(0));
            }
            _ => {}
        }
    }
}

fn stricter(slot: &mut Option<u64>, seconds: u64) {
    *slot = Some(slot.unwrap_or(u64::MAX).min(seconds));
}

fn is_precondition(name: &[u8]) -> bool {
    ["if-match", "if-none-match", "if-modified-since", "if-unmodified-since"]
        .iter()
        .any(|known| is(name, known))
}
