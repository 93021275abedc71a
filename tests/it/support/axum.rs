//! A backend as most users have it: axum on tokio, on threads of its own.
//!
//! | route | answer |
//! |---|---|
//! | `/hello` | `hello` |
//! | `/ws` | WebSocket echo, subprotocol `chat` |
//! | `POST /echo` | the body, streamed |
//! | `/sse` | the event `ready`, then one for each [`AxumBackend::send_event`] |
//! | `/big/{n}` | `n` bytes of [`big_bytes`], streamed in chunks |
//! | `/headers` | the fields received, `name: value` lines |
//! | `/cookies` | two `Set-Cookie` fields |
//! | `/redirect` | 302 to `/hello` |
//! | `/status/{code}` | that status, the code as body |
//! | `/slow/{ms}` | `slow`, after that many milliseconds |
//! | others | 404 with the method and target received |

use std::convert::Infallible;
use std::fmt::Write;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::sse::{Event, Sse};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::Stream;
use futures_util::stream;
use tokio::runtime::Runtime;
use tokio::sync::broadcast;

use super::Random;

/// Bytes of one chunk of `/big/{n}`.
const CHUNK_BYTES: usize = 64 * 1024;

/// The largest WebSocket message that `/ws` echoes, in bytes.
const MESSAGE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// A running axum server on 127.0.0.1; it ends when it is dropped.
#[derive(Debug)]
pub struct AxumBackend {
    addr: SocketAddr,
    events: broadcast::Sender<String>,
    runtime: Option<Runtime>,
}

impl AxumBackend {
    /// Starts the server on a free port.
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port on loopback");
        listener.set_nonblocking(true).expect("a listener for tokio");
        let addr = listener.local_addr().expect("a bound socket has an address");
        let (events, _) = broadcast::channel(64);
        let router = router(events.clone());
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).expect("in a runtime");
            axum::serve(listener, router).await.expect("axum serves until it is dropped");
        });
        Self { addr, events, runtime: Some(runtime) }
    }

    /// Returns the address.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Returns the value for `proxy_url`.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Sends an event to everyone who listens to `/sse` and has received `ready`.
    pub fn send_event(&self, data: &str) {
        self.events.send(data.to_owned()).expect("someone listens to /sse");
    }
}

impl Drop for AxumBackend {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Does not wait, so that a test may drop it within a runtime of its own.
            runtime.shutdown_background();
        }
    }
}

/// Returns the body of `/big/{count}`.
pub fn big_bytes(count: usize) -> Vec<u8> {
    let mut chunks = big_chunks(count);
    std::iter::from_fn(|| chunks.next()).flatten().collect()
}

fn router(events: broadcast::Sender<String>) -> Router {
    Router::new()
        .route("/hello", get(async || "hello"))
        .route("/ws", get(websocket))
        .route("/echo", post(async |body: Body| body))
        .route("/sse", get(sse))
        .route("/big/{n}", get(big))
        .route("/headers", get(headers))
        .route("/cookies", get(cookies))
        .route("/redirect", get(redirect))
        .route("/status/{code}", get(status))
        .route("/slow/{ms}", get(slow))
        .fallback(async |method: Method, uri: Uri| {
            (StatusCode::NOT_FOUND, format!("{method} {uri}"))
        })
        .with_state(events)
}

async fn websocket(upgrade: WebSocketUpgrade) -> Response {
    let upgrade = upgrade.protocols(["chat"]).max_message_size(MESSAGE_BYTES_MAX);
    upgrade.max_frame_size(MESSAGE_BYTES_MAX).on_upgrade(echo)
}

async fn echo(mut socket: WebSocket) {
    while let Some(Ok(message)) = socket.recv().await {
        let data = matches!(message, Message::Text(_) | Message::Binary(_));
        if data && socket.send(message).await.is_err() {
            return;
        }
    }
}

async fn sse(
    State(events): State<broadcast::Sender<String>>,
) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let listener = events.subscribe();
    Sse::new(stream::unfold((Some("ready".to_owned()), listener), async |(first, mut listener)| {
        let data = match first {
            Some(data) => data,
            None => listener.recv().await.ok()?,
        };
        Some((Ok(Event::default().data(data)), (None, listener)))
    }))
}

async fn big(Path(count): Path<usize>) -> Body {
    Body::from_stream(stream::iter(big_chunks(count).map(Ok::<_, Infallible>)))
}

fn big_chunks(count: usize) -> impl Iterator<Item = Bytes> {
    let mut random = Random::new(1);
    (0..count).step_by(CHUNK_BYTES).map(move |start| {
        let bytes = random.bytes(CHUNK_BYTES.min(count - start));
        Bytes::from(bytes)
    })
}

async fn headers(fields: HeaderMap) -> String {
    let mut lines = String::new();
    for (name, value) in &fields {
        let value = value.as_bytes().escape_ascii();
        writeln!(lines, "{name}: {value}").expect("a string takes all text");
    }
    lines
}

async fn cookies() -> impl IntoResponse {
    let both = [(header::SET_COOKIE, "first=1; Path=/"), (header::SET_COOKIE, "second=2; Path=/")];
    (AppendHeaders(both), "cookies")
}

async fn redirect() -> impl IntoResponse {
    (StatusCode::FOUND, [(header::LOCATION, "/hello")])
}

async fn status(Path(code): Path<u16>) -> (StatusCode, String) {
    (StatusCode::from_u16(code).expect("a status of three digits"), code.to_string())
}

async fn slow(Path(ms): Path<u64>) -> &'static str {
    tokio::time::sleep(Duration::from_millis(ms)).await;
    "slow"
}
