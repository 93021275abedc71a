//! The chunked coding: an incremental decoder that works in the caller's buffer, and chunk heads
//! for writing (RFC 9112 §7.1).
//!
//! Chunk lines are where proxies and servers have disagreed most often: about a lone LF, spaces
//! around the size, what an extension may hold. So every line follows the grammar to the byte.

use memchr::memchr;

use super::{
    field::{is_text_byte, is_token_byte},
    head::check_fields,
};

/// The last chunk's line; trailers and an empty line follow it.
pub const LAST_CHUNK: &[u8] = b"0\r\n";

/// The largest chunk accepted, in bytes: what every peer's signed 64-bit arithmetic can hold.
const SIZE_MAX: u64 = i64::MAX as u64;

/// Hexadecimal digits of a size, leading zeros included: what 64 bits need.
const SIZE_DIGITS_MAX: u8 = 16;

/// Bytes of extensions on one chunk line. Arbitrary: nobody is known to use any.
const EXTENSION_BYTES_MAX: u16 = 256;

/// Fields in a trailer section, the default limit of a head.
const TRAILER_FIELDS_MAX: usize = 100;

/// Why a chunked body is refused. Where it ends is no longer known: the caller must forward nothing
/// more of it and close both connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChunkError {
    /// A chunk line, the end of a chunk or a trailer field is malformed.
    Syntax,
    /// A chunk of 2^63 bytes or more, or a size of more than 16 digits.
    SizeOverflow,
    /// More than 256 bytes of extensions on one line.
    LineTooLong,
    /// A trailer section longer than allowed, or one of more than 100 fields.
    TrailersTooLong,
}

/// What one call of [`Decoder::decode`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decoded {
    /// `bytes[..payload]` is body data; `payload <= consumed`.
    pub payload: usize,
    /// Bytes of input used. What lies behind them does not belong to the body.
    pub consumed: usize,
    /// The body is complete, its trailers included.
    pub done: bool,
}

/// An incremental decoder that compacts the data to the front of the caller's buffer.
///
/// One decoder decodes one body. It allocates only if there are trailers.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// The trailer lines received so far, each with its CRLF; at most `trailer_bytes_max` bytes.
    trailers: Vec<u8>,
    trailer_bytes_max: usize,
}

impl Decoder {
    /// Makes a decoder that allows `trailer_bytes_max` bytes of trailer lines, line ends included.
    pub fn new(trailer_bytes_max: usize) -> Self {
        let state = State::Size { size: 0, digits: 0 };
        Self { state, trailers: Vec::new(), trailer_bytes_max }
    }

    /// Decodes the next bytes of the body in place; any cut between two calls is fine.
    ///
    /// Unless the body is `done`, all of `bytes` is consumed. What is left in `bytes[payload..]` is
    /// meaningless up to `consumed`, and untouched behind it. Each byte of data moves at most once,
    /// and not at all before the first chunk line in `bytes`.
    ///
    /// # Errors
    ///
    /// The caller must drop the decoder and close: see [`ChunkError`].
    ///
    /// # Examples
    ///
    /// ```
    /// use phantom_frame::http1::chunked::Decoder;
    ///
    /// let mut bytes = *b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\nnext";
    /// let decoded = Decoder::new(8192).decode(&mut bytes).unwrap();
    /// assert!(decoded.done);
    /// assert_eq!(&bytes[..decoded.payload], b"abc");
    /// assert_eq!(&bytes[decoded.consumed..], b"next");
    /// ```
    pub fn decode(&mut self, bytes: &mut [u8]) -> Result<Decoded, ChunkError> {
        let mut payload = 0;
        let mut consumed = 0;
        while self.state != State::Done && consumed < bytes.len() {
            let rest = bytes.get(consumed..).unwrap_or_default();
            let State::Data { left } = self.state else {
                consumed += self.take_line(rest)?;
                continue;
            };
            // A chunk may be longer than memory; the part at hand is not.
            let here = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
            if payload != consumed {
                bytes.copy_within(consumed..consumed + here, payload);
            }
            payload += here;
            consumed += here;
            self.state = match left - here as u64 {
                0 => State::DataCr,
                left => State::Data { left },
            };
        }
        Ok(Decoded { payload, consumed, done: self.state == State::Done })
    }

    /// Returns the trailer lines, each with its CRLF, without the empty line behind them; empty if
    /// there are none. They are complete, and as strictly checked as the fields of a head, once a
    /// call of [`Decoder::decode`] was `done`.
    pub fn trailers(&self) -> &[u8] {
        &self.trailers
    }

    /// Takes the next byte of what is not data, or several of a trailer line. Returns how many; none
    /// for the byte that turns out to begin a trailer line.
    fn take_line(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        if self.state == State::TrailerLine {
            return self.take_trailers(bytes);
        }
        let Some(&byte) = bytes.first() else { return Ok(0) };
        self.state = self.state.step(byte)?;
        if self.state == State::Done {
            self.check_trailers()?;
        }
        Ok(usize::from(self.state != State::TrailerLine))
    }

    /// Takes bytes of a trailer line, up to its end if `bytes` reach that far. Returns how many.
    fn take_trailers(&mut self, bytes: &[u8]) -> Result<usize, ChunkError> {
        let end = memchr(b'\n', bytes).map(|at| at + 1);
        let taken = bytes.get(..end.unwrap_or(bytes.len())).unwrap_or_default();
        if self.trailers.len() + taken.len() > self.trailer_bytes_max {
            return Err(ChunkError::TrailersTooLong);
        }
        self.trailers.extend_from_slice(taken);
        if end.is_some() {
            if !self.trailers.ends_with(b"\r\n") {
                return Err(ChunkError::Syntax);
            }
            self.state = State::LineStart;
        }
        Ok(taken.len())
    }

    fn check_trailers(&mut self) -> Result<(), ChunkError> {
        if self.trailers.is_empty() {
            return Ok(());
        }
        let lines = memchr::memchr_iter(b'\n', &self.trailers).count();
        if lines > TRAILER_FIELDS_MAX {
            return Err(ChunkError::TrailersTooLong);
        }
        let len = self.trailers.len();
        self.trailers.extend_from_slice(b"\r\n");
        let checked = check_fields(&self.trailers, TRAILER_FIELDS_MAX);
        self.trailers.truncate(len);
        checked.map_err(|_| ChunkError::Syntax)
    }
}

/// Writes the line that begins a chunk of `len` bytes, such as `1a2b\r\n`, and returns the used part
/// of `out`. The data and CRLF follow it.
///
/// `len` must not be zero: that line ends the body, see [`LAST_CHUNK`].
pub fn chunk_head(len: usize, out: &mut [u8; 18]) -> &[u8] {
    debug_assert!(len != 0, "a chunk of no bytes ends the body");
    *out = *b"0000000000000000\r\n";
    let mut rest = len;
    let mut start = 15;
    for (at, digit) in out.iter_mut().enumerate().take(16).rev() {
        *digit = b"0123456789abcdef"[rest & 0xf];
        start = at;
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    out.get(start..).unwrap_or_default()
}

/// What the next byte is part of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// The size of a chunk.
    Size { size: u64, digits: u8 },
    /// An extension of a chunk line, `taken` bytes into the line's extensions.
    Extension { size: u64, taken: u16, part: Part },
    /// The LF of a chunk line.
    SizeLf { size: u64 },
    /// The data of a chunk.
    Data { left: u64 },
    /// The CR behind the data.
    DataCr,
    /// The LF behind the data.
    DataLf,
    /// The first byte of a trailer line, or the CR of the final empty line.
    LineStart,
    /// A trailer line.
    TrailerLine,
    /// The LF of the final empty line.
    EndLf,
    /// Behind the body.
    Done,
}

impl State {
    /// Returns the state after `byte`. Data and trailer lines are taken in pieces, not here.
    fn step(self, byte: u8) -> Result<Self, ChunkError> {
        match (self, byte) {
            (Self::Size { digits: 1.., size }, b'\r') => Ok(Self::SizeLf { size }),
            (Self::Size { digits: 1.., size }, b';') => {
                Ok(Self::Extension { size, taken: 1, part: Part::Name { is_empty: true } })
            }
            (Self::Size { size, digits }, _) => add_digit(size, digits, byte),
            (Self::Extension { size, part, .. }, b'\r') if part.may_end() => {
                Ok(Self::SizeLf { size })
            }
            (Self::Extension { taken: EXTENSION_BYTES_MAX.., .. }, _) => {
                Err(ChunkError::LineTooLong)
            }
            (Self::Extension { size, taken, part }, _) => {
                Ok(Self::Extension { size, taken: taken + 1, part: part.step(byte)? })
            }
            (Self::SizeLf { size: 0 }, b'\n') => Ok(Self::LineStart),
            (Self::SizeLf { size }, b'\n') => Ok(Self::Data { left: size }),
            (Self::DataCr, b'\r') => Ok(Self::DataLf),
            (Self::DataLf, b'\n') => Ok(Self::Size { size: 0, digits: 0 }),
            (Self::LineStart, b'\r') => Ok(Self::EndLf),
            (Self::LineStart, _) => Ok(Self::TrailerLine),
            (Self::EndLf, b'\n') => Ok(Self::Done),
            (_, _) => Err(ChunkError::Syntax),
        }
    }
}

/// Adds a digit to a size: `1*HEXDIG`, so no sign, no prefix and no whitespace anywhere.
fn add_digit(size: u64, digits: u8, byte: u8) -> Result<State, ChunkError> {
    let digit = char::from(byte).to_digit(16).ok_or(ChunkError::Syntax)?;
    if digits == SIZE_DIGITS_MAX {
        return Err(ChunkError::SizeOverflow);
    }
    // At most 15 digits so far, so nothing is shifted out.
    let size = size << 4 | u64::from(digit);
    if size > SIZE_MAX {
        return Err(ChunkError::SizeOverflow);
    }
    Ok(State::Size { size, digits: digits + 1 })
}

/// What the next byte of an extension is part of (RFC 9112 §7.1.1):
/// `*( BWS ";" BWS token [ BWS "=" BWS ( token / quoted-string ) ] )`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    Name {
        is_empty: bool,
    },
    /// Whitespace behind the name.
    NameEnd,
    Value {
        is_empty: bool,
    },
    Quoted,
    /// The byte behind a backslash.
    Escaped,
    /// The closing quote has just been read.
    Unquoted,
    /// Whitespace behind the value.
    ValueEnd,
}

impl Part {
    /// Returns whether the line may end here. A CR inside quotes never ends a line quietly: some
    /// servers would read on to the closing quote.
    const fn may_end(self) -> bool {
        matches!(
            self,
            Self::Name { is_empty: false } | Self::Value { is_empty: false } | Self::Unquoted
        )
    }

    fn step(self, byte: u8) -> Result<Self, ChunkError> {
        match (self, byte) {
            (Self::Name { is_empty: true } | Self::Value { is_empty: true }, b' ' | b'\t') => {
                Ok(self)
            }
            (Self::Name { .. } | Self::NameEnd, b' ' | b'\t') => Ok(Self::NameEnd),
            (Self::Name { is_empty: false } | Self::NameEnd, b'=') => {
                Ok(Self::Value { is_empty: true })
            }
            (Self::Value { is_empty: true }, b'"') => Ok(Self::Quoted),
            (Self::Value { .. } | Self::Unquoted | Self::ValueEnd, b' ' | b'\t') => {
                Ok(Self::ValueEnd)
            }
            (Self::Quoted, b'"') => Ok(Self::Unquoted),
            (Self::Quoted, b'\\') => Ok(Self::Escaped),
            (Self::Quoted | Self::Escaped, _) if is_text_byte(byte) => Ok(Self::Quoted),
            (Self::NameEnd | Self::ValueEnd, b';') => Ok(Self::Name { is_empty: true }),
            (_, b';') if self.may_end() => Ok(Self::Name { is_empty: true }),
            (Self::Name { .. }, _) if is_token_byte(byte) => Ok(Self::Name { is_empty: false }),
            (Self::Value { .. }, _) if is_token_byte(byte) => Ok(Self::Value { is_empty: false }),
            (_, _) => Err(ChunkError::Syntax),
        }
    }
}
