//! Web sockets between peers that nobody here wrote: tokio-tungstenite on both sides, and axum as
//! most users have it.

use std::future::Future;
use std::net::SocketAddr;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::handshake::client::generate_key;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async, client_async};

use crate::support::tunnel::route_to;
use crate::support::{AxumBackend, GUARD, Proxy, Random};

/// What a close says in these tests: a code of the range for applications (RFC 6455 §7.4.2).
const CLOSE_CODE: u16 = 4321;

type Socket = WebSocketStream<TcpStream>;

/// Runs a test's peers on a runtime of their own.
fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let guarded = async { tokio::time::timeout(GUARD, test).await };
    runtime.expect("a runtime").block_on(guarded).expect("guard: the peers are still busy")
}

/// A tungstenite server: echoes messages, closes when it is told to, and agrees on `chat`.
struct Server(TcpListener);

impl Server {
    async fn bind() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a free port on loopback"))
    }

    fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().expect("a bound socket has an address"))
    }

    /// Serves one connection; returns the close frame of the client, if it sent one.
    async fn serve_one(self) -> Option<CloseFrame> {
        let (stream, _) = self.0.accept().await.expect("accepting on loopback");
        let mut socket = accept_hdr_async(stream, agree).await.expect("a handshake");
        let mut close = None;
        while let Some(message) = socket.next().await {
            match message.expect("a whole message") {
                Message::Text(text) if text == "close" => {
                    socket.close(Some(close_frame())).await.expect("a close");
                }
                Message::Close(frame) => close = frame,
                message @ (Message::Text(_) | Message::Binary(_)) => {
                    socket.send(message).await.expect("an echo");
                }
                Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
            }
        }
        close
    }
}

#[expect(
    clippy::result_large_err,
    clippy::unnecessary_wraps,
    reason = "tungstenite fixes the callback's signature"
)]
fn agree(request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
    let offered = request.headers().get("sec-websocket-protocol");
    if offered.is_some_and(|list| list.to_str().unwrap_or_default().contains("chat")) {
        let chat = http::HeaderValue::from_static("chat");
        response.headers_mut().insert("sec-websocket-protocol", chat);
    }
    Ok(response)
}

fn close_frame() -> CloseFrame {
    CloseFrame { code: CloseCode::from(CLOSE_CODE), reason: "enough".into() }
}

/// Connects a tungstenite client through the proxy.
async fn connect(addr: SocketAddr, path: &str, protocol: Option<&str>) -> (Socket, Option<String>) {
    let mut request = http::Request::get(format!("ws://{addr}{path}"))
        .header("Host", addr.to_string())
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", generate_key());
    if let Some(protocol) = protocol {
        request = request.header("Sec-WebSocket-Protocol", protocol);
    }
    let request = request.body(()).expect("a request");
    let stream = TcpStream::connect(addr).await.expect("connecting to the proxy");
    // The client checks the accept key and that the subprotocol is one it asked for.
    let (socket, response) = client_async(request, stream).await.expect("a handshake");
    let agreed = response.headers().get("sec-websocket-protocol");
    (socket, agreed.map(|value| value.to_str().expect("text").to_owned()))
}

/// Sends messages of every kind and size and expects each back.
async fn exchange(socket: &mut Socket) {
    let mut random = Random::new(21);
    let text = "zażółć gęślą jaźń ".repeat(1000);
    let mut messages = vec![
        Message::text(""),
        Message::text("hello"),
        Message::text(text),
        Message::binary(vec![0_u8; 0]),
    ];
    for len in [1, 125, 126, 65_535, 65_536, 1 << 20] {
        messages.push(Message::binary(random.bytes(len)));
    }
    for message in messages {
        socket.send(message.clone()).await.expect("the proxy takes a message");
        let echoed = socket.next().await.expect("an echo").expect("a whole message");
        assert!(echoed == message, "{} bytes came back otherwise", message.len());
    }
    socket.send(Message::Ping("are you there".into())).await.expect("a ping");
    let pong = socket.next().await.expect("a pong").expect("a whole message");
    assert_eq!(pong, Message::Pong("are you there".into()));
    // As a chat does: many under way at once.
    for number in 0..500_u32 {
        socket.feed(Message::text(number.to_string())).await.expect("the proxy takes a message");
    }
    socket.flush().await.expect("the proxy takes messages");
    for number in 0..500_u32 {
        let echoed = socket.next().await.expect("an echo").expect("a whole message");
        assert_eq!(echoed, Message::text(number.to_string()));
    }
}

/// Closes from this side and expects the answer and then the end.
async fn close(socket: &mut Socket) {
    socket.close(Some(close_frame())).await.expect("a close");
    let answer = socket.next().await.expect("the answer").expect("a whole frame");
    assert!(matches!(answer, Message::Close(_)), "{answer:?}");
    assert!(socket.next().await.is_none(), "the end after the close");
    let after = socket.send(Message::text("x")).await;
    assert!(matches!(after, Err(Error::ConnectionClosed | Error::AlreadyClosed)), "{after:?}");
}

on_both_drivers! {
    fn a_tungstenite_client_and_server_exchange_messages_of_every_size(driver) {
        let proxy = run(async {
            let server = Server::bind().await;
            let proxy = Proxy::start(driver, &route_to(&server.url()));
            let serving = tokio::spawn(server.serve_one());
            let (mut socket, agreed) = connect(proxy.addr(), "/any/path?q=1", None).await;
            assert_eq!(agreed, None);
            exchange(&mut socket).await;
            close(&mut socket).await;
            let got = serving.await.expect("a server").expect("a close frame");
            assert_eq!((u16::from(got.code), got.reason.as_str()), (CLOSE_CODE, "enough"));
            proxy
        });
        proxy.wait_for_log("Tunnel closed gracefully");
    }

    fn a_close_by_the_server_reaches_the_client_with_its_code(driver) {
        run(async {
            let server = Server::bind().await;
            let proxy = Proxy::start(driver, &route_to(&server.url()));
            let serving = tokio::spawn(server.serve_one());
            let (mut socket, _) = connect(proxy.addr(), "/", None).await;
            socket.send(Message::text("close")).await.expect("the proxy takes a message");
            let close = socket.next().await.expect("a close").expect("a whole frame");
            assert_eq!(close, Message::Close(Some(close_frame())));
            assert!(socket.next().await.is_none(), "the end after the close");
            serving.await.expect("a server");
        });
    }

    fn both_sides_agree_on_a_subprotocol(driver) {
        run(async {
            let server = Server::bind().await;
            let proxy = Proxy::start(driver, &route_to(&server.url()));
            let serving = tokio::spawn(server.serve_one());
            let offer = Some("mqtt, chat");
            let (mut socket, agreed) = connect(proxy.addr(), "/", offer).await;
            assert_eq!(agreed.as_deref(), Some("chat"));
            close(&mut socket).await;
            serving.await.expect("a server");
        });
    }

    fn axum_behind_a_mount_echoes_messages_of_every_size(driver) {
        let backend = AxumBackend::start();
        let config = format!("{}bind_to = \"/app\"\n", route_to(&backend.url()));
        let proxy = Proxy::start(driver, &config);
        run(async {
            let (mut socket, agreed) = connect(proxy.addr(), "/app/ws", Some("chat")).await;
            assert_eq!(agreed.as_deref(), Some("chat"));
            exchange(&mut socket).await;
            close(&mut socket).await;
        });
        proxy.wait_for_log("Tunnel closed gracefully");
    }

    fn many_sockets_talk_to_axum_at_once(driver) {
        let backend = AxumBackend::start();
        let proxy = Proxy::start(driver, &route_to(&backend.url()));
        let addr = proxy.addr();
        run(async {
            let sockets = (0..100_u32).map(|socket| {
                tokio::spawn(async move {
                    let (mut stream, _) = connect(addr, "/ws", None).await;
                    for round in 0..20_u32 {
                        let message = Message::text(format!("{socket}/{round}"));
                        stream.send(message.clone()).await.expect("the proxy takes a message");
                        let echoed = stream.next().await.expect("an echo");
                        assert_eq!(echoed.expect("a whole message"), message);
                    }
                    close(&mut stream).await;
                })
            });
            for socket in sockets.collect::<Vec<_>>() {
                socket.await.expect("a socket's messages come back");
            }
        });
        proxy.wait_for_logs("Tunnel closed gracefully", 100);
    }
}

#[test]
fn a_tungstenite_client_is_refused_in_words_it_understands() {
    let backend = AxumBackend::start();
    let proxy = Proxy::start_with_arguments(&["--backend", &backend.url(), "--port", "0"]);
    let addr = SocketAddr::from(([127, 0, 0, 1], proxy.addr().port()));
    run(async {
        let stream = TcpStream::connect(addr).await.expect("connecting to the proxy");
        let refused = client_async(format!("ws://{addr}/status/503"), stream).await;
        let Err(Error::Http(response)) = refused else { panic!("{refused:?}") };
        assert_eq!(response.status().as_u16(), 503);
    });
}
