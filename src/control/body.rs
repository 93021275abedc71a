//! Reading the body of a request, whole: commands are short.

use super::serve::Peer;
use crate::http1::chunked::Decoder;
use crate::http1::framing::Framing;
use crate::net::ReadError;
use crate::net::inbox::Size;

/// Bytes of a body. Arbitrary; some ten thousand patterns.
pub(super) const BODY_BYTES_MAX: usize = 1 << 20;

/// Bytes of trailers, which mean nothing here.
const TRAILER_BYTES_MAX: usize = 4 * 1024;

/// Why there is no body. Read nothing more from the connection.
#[derive(Debug)]
pub(super) enum BodyError {
    /// It is longer than [`BODY_BYTES_MAX`].
    TooLarge,
    /// Its chunks break the grammar.
    Malformed,
    /// It did not arrive.
    Read(ReadError),
}

impl From<ReadError> for BodyError {
    fn from(error: ReadError) -> Self {
        Self::Read(error)
    }
}

/// Reads the body that begins at the front of the inbox; what follows it stays there.
///
/// # Cancellation
///
/// Close the connection: a part of the body may be gone.
pub(super) async fn read(peer: &mut Peer, framing: Framing) -> Result<Vec<u8>, BodyError> {
    match framing {
        Framing::Length(length) => read_length(peer, length).await,
        Framing::Chunked => read_chunked(peer).await,
        // Requests have no such framing.
        Framing::UntilClose => Err(BodyError::Malformed),
    }
}

async fn read_length(peer: &mut Peer, length: u64) -> Result<Vec<u8>, BodyError> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > BODY_BYTES_MAX {
        return Err(BodyError::TooLarge);
    }
    let mut body = Vec::new();
    while body.len() < length {
        more(peer).await?;
        let filled = peer.inbox.filled();
        let count = filled.len().min(length - body.len());
        body.extend_from_slice(filled.get(..count).unwrap_or_default());
        peer.inbox.consume(count);
    }
    Ok(body)
}

async fn read_chunked(peer: &mut Peer) -> Result<Vec<u8>, BodyError> {
    let mut decoder = Decoder::new(TRAILER_BYTES_MAX);
    let mut body = Vec::new();
    loop {
        more(peer).await?;
        let bytes = peer.inbox.filled_mut();
        let decoded = decoder.decode(bytes).map_err(|_| BodyError::Malformed)?;
        if body.len() + decoded.payload > BODY_BYTES_MAX {
            return Err(BodyError::TooLarge);
        }
        body.extend_from_slice(bytes.get(..decoded.payload).unwrap_or_default());
        peer.inbox.consume(decoded.consumed);
        if decoded.done {
            return Ok(body);
        }
    }
}

/// Makes sure that at least one byte waits in the inbox.
async fn more(peer: &mut Peer) -> Result<(), ReadError> {
    if peer.inbox.is_empty() && peer.inbox.fill(&peer.stream, &peer.watch, Size::Large).await? == 0
    {
        return Err(ReadError::Closed);
    }
    Ok(())
}
