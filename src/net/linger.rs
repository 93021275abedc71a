//! Closing a connection so that the peer gets to read the last thing we sent.
//!
//! A close with unread data sends RST, and RST may overtake a response on its way (RFC 9112 9.6).

use std::time::Duration;

use super::inbox::{Inbox, Size};
use super::stream::Stream;
use super::sweeper::Watch;

/// How long a peer may take to notice the end. Arbitrary; nginx waits as long.
const LINGER: Duration = Duration::from_secs(5);

/// Sends FIN, then reads and drops what still comes until the peer closes too, for at most 5 s.
///
/// # Cancellation
///
/// Safe; the socket is then closed at once.
pub async fn close(stream: &Stream, inbox: &mut Inbox, watch: &Watch) {
    stream.shutdown_write();
    watch.set_in(Some(LINGER));
    inbox.take();
    loop {
        match inbox.fill(stream, watch, Size::Large).await {
            Ok(0) | Err(_) => return,
            Ok(_) => drop(inbox.take()),
        }
    }
}
