//! Request and response heads: where one ends, and its parts as spans into the bytes it came in.
//!
//! A head arrives in any pieces. [`HeadScanner`] finds its end without going back over what it has
//! seen; only then is the head parsed, once, and nothing is copied out of it.

use memchr::{memchr, memchr_iter};

use super::field::{Field, Fields, is_text_byte, is_token, is_token_byte};

/// The most fields any head may have, whatever the caller allows. Arbitrary; what it bounds is the
/// parser's array on the stack, 16 KiB.
pub const FIELDS_MAX: usize = 512;

/// Fields for which the parser first makes room: more than browsers send. Setting up room for
/// [`FIELDS_MAX`] would cost every head what only few need.
const FIELDS_USUAL: usize = 32;

/// Empty lines tolerated before a request. RFC 9112 §2.2 asks for one, because old clients send a
/// line end too many after a body; the number is arbitrary.
const EMPTY_LINES_MAX: u8 = 4;

/// The protocol version of a message, of those we speak.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0: no chunks, no upgrade, connections close unless agreed otherwise.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// A piece of the head's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Offset of the first byte; `start <= end <= len` of the head.
    start: u32,
    /// Offset behind the last byte.
    end: u32,
}

/// Where the name and the value of one field line are in the head's bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FieldSpan {
    name: Span,
    value: Span,
}

/// Why a head is refused. The caller must read nothing more from the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeadError {
    /// The start line or a field line is malformed: whitespace before a colon, a folded line, a
    /// bare CR, a control byte, an empty name (400).
    Syntax,
    /// A line ends in LF alone. RFC 9112 §2.2 allows to accept it; servers that do not accept it
    /// then disagree with us about where the head ends (400).
    BareLineFeed,
    /// No complete head within the allowed bytes (431).
    TooLong,
    /// More field lines than allowed (431).
    TooManyFields,
    /// A well-formed version that is neither HTTP/1.0 nor HTTP/1.1 (505).
    Version,
}

/// Finds the end of a head incrementally: never looks at a byte twice, however small the pieces.
///
/// One scanner finds one head.
#[derive(Clone, Debug, Default)]
pub struct HeadScanner {
    /// Bytes already searched for a line end.
    seen: usize,
    /// Offset of the line that has begun; `line_start <= seen`.
    line_start: usize,
    /// Empty lines skipped before the start line.
    empty_lines: u8,
    /// The start line has begun, so that the next empty line ends the head.
    begun: bool,
}

impl HeadScanner {
    /// Makes a scanner that has seen nothing.
    pub const fn new() -> Self {
        Self { seen: 0, line_start: 0, empty_lines: 0, begun: false }
    }

    /// Returns the length of the head, its final empty line included, once it is complete.
    ///
    /// `bytes` is everything received since the head began: what the last call was given, and more
    /// behind it. Up to four empty lines before the start line are skipped and counted in the
    /// length (RFC 9112 §2.2); [`ResponseHead::parse`] refuses them.
    ///
    /// # Errors
    ///
    /// [`HeadError::TooLong`] as soon as a head of at most `bytes_max` bytes has become impossible,
    /// [`HeadError::BareLineFeed`] as soon as one is seen, [`HeadError::Syntax`] if the first byte
    /// cannot begin a head at all. The caller must answer and close.
    pub fn scan(&mut self, bytes: &[u8], bytes_max: usize) -> Result<Option<usize>, HeadError> {
        let window = bytes.get(..bytes_max).unwrap_or(bytes);
        loop {
            if !self.begun && !self.begin(window)? {
                break;
            }
            let unseen = window.get(self.seen..).unwrap_or_default();
            let Some(at) = memchr(b'\n', unseen) else {
                self.seen = window.len();
                break;
            };
            let end = self.seen + at + 1;
            let is_empty = match window.get(self.line_start..end).unwrap_or_default() {
                [b'\r', b'\n'] => true,
                [.., b'\r', b'\n'] => false,
                _ => return Err(HeadError::BareLineFeed),
            };
            self.seen = end;
            self.line_start = end;
            match (is_empty, self.begun) {
                (true, true) => return Ok(Some(end)),
                (true, false) => self.count_empty_line()?,
                (false, true) => {}
                // A line that begins with CR and goes on is not a start line.
                (false, false) => return Err(HeadError::Syntax),
            }
        }
        if bytes.len() >= bytes_max { Err(HeadError::TooLong) } else { Ok(None) }
    }

    /// Looks at the first byte of a line before the head has begun. Returns false if there is none.
    ///
    /// A peer that speaks something else, TLS for one, is found out here instead of by a timeout.
    fn begin(&mut self, window: &[u8]) -> Result<bool, HeadError> {
        match window.get(self.line_start) {
            None => return Ok(false),
            Some(b'\r') => {}
            Some(b'\n') => return Err(HeadError::BareLineFeed),
            Some(&byte) if is_token_byte(byte) => self.begun = true,
            Some(_) => return Err(HeadError::Syntax),
        }
        Ok(true)
    }

    fn count_empty_line(&mut self) -> Result<(), HeadError> {
        self.empty_lines += 1;
        if self.empty_lines > EMPTY_LINES_MAX { Err(HeadError::Syntax) } else { Ok(()) }
    }
}

/// The head of a request, as spans into the bytes `B` that it owns.
#[derive(Debug)]
pub struct RequestHead<B> {
    bytes: B,
    method: Span,
    target: Span,
    version: Version,
    fields: Vec<FieldSpan>,
}

impl<B: AsRef<[u8]>> RequestHead<B> {
    /// Parses a complete request head (RFC 9112 §3, §5).
    ///
    /// `len` is what [`HeadScanner::scan`] returned for `bytes`; bytes behind it are kept and not
    /// looked at. `slots` is any vector, cleared first, so that a recycled one saves the
    /// allocation. `fields_max` counts up to [`FIELDS_MAX`]. Whether the target means anything is
    /// the question of [`target::parse`](super::target::parse).
    ///
    /// # Errors
    ///
    /// The caller must answer as [`HeadError`] says and close; `bytes` and `slots` are dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use phantom_frame::http1::head::{RequestHead, Version};
    ///
    /// let bytes = b"GET /chat HTTP/1.1\r\nHost: a.example\r\n\r\n";
    /// let head = RequestHead::parse(&bytes[..], bytes.len(), Vec::new(), 100).unwrap();
    /// assert_eq!((head.method(), head.target()), ("GET", &b"/chat"[..]));
    /// assert_eq!(head.version(), Version::Http11);
    /// assert_eq!(head.fields().first("host"), Some(&b"a.example"[..]));
    /// ```
    pub fn parse(
        bytes: B,
        len: usize,
        slots: Vec<FieldSpan>,
        fields_max: usize,
    ) -> Result<Self, HeadError> {
        let head = bytes.as_ref().get(..len).ok_or(HeadError::Syntax)?;
        let (line, section) = split_line(skip_empty_lines(head))?;
        let (method, line) = split_space(line)?;
        let (target, version) = split_space(line)?;
        if !is_token(method) || target.is_empty() || !target.iter().all(|&b| is_target_byte(b)) {
            return Err(HeadError::Syntax);
        }
        let version = parse_version(version)?;
        let (method, target) = (Span::within(head, method)?, Span::within(head, target)?);
        let fields = parse_fields(head, section, slots, fields_max)?;
        Ok(Self { bytes, method, target, version, fields })
    }

    /// Returns the method, any token (RFC 9110 §9.1); its case matters.
    pub fn method(&self) -> &str {
        // A token is ASCII, so the check never fails; it is cheaper than storing a string.
        str::from_utf8(self.method.of(self.bytes.as_ref())).unwrap_or_default()
    }

    /// Returns the target as it was sent: never empty, without whitespace and control bytes.
    pub fn target(&self) -> &[u8] {
        self.target.of(self.bytes.as_ref())
    }

    /// Returns the version the client speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the fields in the order received.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(self.bytes.as_ref(), &self.fields)
    }

    /// Copies the head into bytes of its own, for whoever outlives the connection it came on.
    pub fn detach(&self) -> RequestHead<Box<[u8]>> {
        RequestHead {
            bytes: self.bytes.as_ref().into(),
            method: self.method,
            target: self.target,
            version: self.version,
            fields: self.fields.clone(),
        }
    }

    /// Returns the bytes, with whatever stood behind the head, and the vector for the next head.
    pub fn into_parts(self) -> (B, Vec<FieldSpan>) {
        (self.bytes, self.fields)
    }
}

/// The head of a response, as spans into the bytes `B` that it owns.
#[derive(Debug)]
pub struct ResponseHead<B> {
    bytes: B,
    version: Version,
    status: u16,
    reason: Span,
    fields: Vec<FieldSpan>,
}

impl<B: AsRef<[u8]>> ResponseHead<B> {
    /// Parses a complete response head (RFC 9112 §4, §5); arguments as in [`RequestHead::parse`].
    ///
    /// The space behind the status code may be missing together with the reason: common backends
    /// send it so, and nothing can be misread.
    ///
    /// # Errors
    ///
    /// The caller must close the backend connection and answer 502; `bytes` and `slots` are
    /// dropped.
    pub fn parse(
        bytes: B,
        len: usize,
        slots: Vec<FieldSpan>,
        fields_max: usize,
    ) -> Result<Self, HeadError> {
        let head = bytes.as_ref().get(..len).ok_or(HeadError::Syntax)?;
        let (line, section) = split_line(head)?;
        let (version, code) = line.split_at_checked("HTTP/1.1".len()).ok_or(HeadError::Syntax)?;
        let version = parse_version(version)?;
        let (status, reason) = parse_status(code)?;
        let reason = Span::within(head, reason)?;
        let fields = parse_fields(head, section, slots, fields_max)?;
        Ok(Self { bytes, version, status, reason, fields })
    }

    /// Returns the status code, 100 to 999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Returns the reason phrase, empty if there is none; bytes from 0x80 on are as they came.
    pub fn reason(&self) -> &[u8] {
        self.reason.of(self.bytes.as_ref())
    }

    /// Returns the version the backend speaks.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Returns the fields in the order received.
    pub fn fields(&self) -> Fields<'_> {
        Fields::new(self.bytes.as_ref(), &self.fields)
    }

    /// Returns the bytes, with whatever stood behind the head, and the vector for the next head.
    pub fn into_parts(self) -> (B, Vec<FieldSpan>) {
        (self.bytes, self.fields)
    }
}

impl Span {
    /// Returns where `part`, a slice of `head`, lies in it.
    fn within(head: &[u8], part: &[u8]) -> Result<Self, HeadError> {
        let start = part.as_ptr().addr().wrapping_sub(head.as_ptr().addr());
        debug_assert!(start + part.len() <= head.len(), "a part lies within its head");
        match (u32::try_from(start), u32::try_from(start + part.len())) {
            (Ok(start), Ok(end)) => Ok(Self { start, end }),
            _ => Err(HeadError::TooLong),
        }
    }

    /// Returns the bytes. Empty if `bytes` are not the ones the span was made for: a buffer whose
    /// `as_ref` changes its mind must not panic a worker.
    fn of(self, bytes: &[u8]) -> &[u8] {
        bytes.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

impl FieldSpan {
    /// Returns the field line that this span marks in `bytes`.
    pub(super) fn of(self, bytes: &[u8]) -> Field<'_> {
        Field { name: self.name.of(bytes), value: self.value.of(bytes) }
    }
}

/// Checks a section of field lines with its final empty line, such as trailers, as strictly as the
/// fields of a head.
pub(super) fn check_fields(section: &[u8], fields_max: usize) -> Result<(), HeadError> {
    parse_fields(section, section, Vec::new(), fields_max).map(drop)
}

/// Parses the field lines in `section`, a slice of `head` that ends in the empty line (RFC 9112 §5).
fn parse_fields(
    head: &[u8],
    section: &[u8],
    mut slots: Vec<FieldSpan>,
    fields_max: usize,
) -> Result<Vec<FieldSpan>, HeadError> {
    // httparse takes LF for a line end; the scanner has refused it, but not every caller scanned.
    let ends_in_cr = |at: usize| section.get(..at).is_some_and(|line| line.ends_with(b"\r"));
    if !memchr_iter(b'\n', section).all(ends_in_cr) {
        return Err(HeadError::BareLineFeed);
    }
    let mut parsed = parse_fields_of::<FIELDS_USUAL>(head, section, &mut slots);
    if parsed == Err(HeadError::TooManyFields) && fields_max > FIELDS_USUAL {
        parsed = parse_fields_of::<FIELDS_MAX>(head, section, &mut slots);
    }
    parsed?;
    if slots.len() > fields_max { Err(HeadError::TooManyFields) } else { Ok(slots) }
}

/// Parses at most `N` field lines. A function of its own, so that the large array is on the stack
/// only while it is needed.
#[inline(never)]
fn parse_fields_of<const N: usize>(
    head: &[u8],
    section: &[u8],
    slots: &mut Vec<FieldSpan>,
) -> Result<(), HeadError> {
    let mut room = [httparse::EMPTY_HEADER; N];
    let fields = match httparse::parse_headers(section, &mut room) {
        Ok(httparse::Status::Complete((len, fields))) if len == section.len() => fields,
        Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooManyFields),
        Ok(_) | Err(_) => return Err(HeadError::Syntax),
    };
    slots.clear();
    for field in fields {
        let name = Span::within(head, field.name.as_bytes())?;
        slots.push(FieldSpan { name, value: Span::within(head, field.value)? });
    }
    Ok(())
}

/// Returns `head` without the empty lines before it, as many as the scanner tolerates.
fn skip_empty_lines(mut head: &[u8]) -> &[u8] {
    for _ in 0..EMPTY_LINES_MAX {
        head = head.strip_prefix(b"\r\n").unwrap_or(head);
    }
    head
}

/// Splits off the first line, without its CRLF.
fn split_line(bytes: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let at = memchr(b'\n', bytes).ok_or(HeadError::Syntax)?;
    let (line, rest) = bytes.split_at_checked(at + 1).ok_or(HeadError::Syntax)?;
    Ok((line.strip_suffix(b"\r\n").ok_or(HeadError::BareLineFeed)?, rest))
}

/// Splits at the first space. A second one stays in what follows, where nothing allows it.
fn split_space(line: &[u8]) -> Result<(&[u8], &[u8]), HeadError> {
    let at = memchr(b' ', line).ok_or(HeadError::Syntax)?;
    let (word, rest) = line.split_at_checked(at).ok_or(HeadError::Syntax)?;
    Ok((word, rest.strip_prefix(b" ").ok_or(HeadError::Syntax)?))
}

/// Returns whether `byte` may stand in a target: no whitespace, no control byte. Stricter readings
/// would refuse what browsers send (`|`, `"`, bytes from 0x80 on).
const fn is_target_byte(byte: u8) -> bool {
    matches!(byte, b'!'..=b'~' | 0x80..)
}

/// Parses `HTTP/DIGIT.DIGIT` (RFC 9112 §2.3).
fn parse_version(bytes: &[u8]) -> Result<Version, HeadError> {
    match bytes.strip_prefix(b"HTTP/") {
        Some(b"1.1") => Ok(Version::Http11),
        Some(b"1.0") => Ok(Version::Http10),
        Some([b'0'..=b'9', b'.', b'0'..=b'9']) => Err(HeadError::Version),
        _ => Err(HeadError::Syntax),
    }
}

/// Parses what follows the version of a status line: the code and the reason (RFC 9112 §4).
fn parse_status(bytes: &[u8]) -> Result<(u16, &[u8]), HeadError> {
    let [b' ', hundreds @ b'1'..=b'9', tens @ b'0'..=b'9', ones @ b'0'..=b'9', rest @ ..] = bytes
    else {
        return Err(HeadError::Syntax);
    };
    let digit = |byte: &u8| u16::from(byte - b'0');
    let reason = match rest {
        [] => rest,
        [b' ', reason @ ..] if reason.iter().all(|&byte| is_text_byte(byte)) => reason,
        _ => return Err(HeadError::Syntax),
    };
    Ok((digit(hundreds) * 100 + digit(tens) * 10 + digit(ones), reason))
}
