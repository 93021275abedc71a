//! Plain HTTP between a client and a backend that nobody here wrote: hyper and axum.

use std::convert::Infallible;
use std::net::SocketAddr;

use axum::body::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Body, Frame};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;

use crate::support::axum::big_bytes;
use crate::support::setup::front;
use crate::support::{AxumBackend, Checksum, GUARD, Proxy, Random, checksum};

/// Runs a client to its end, under a guard.
fn run<T>(client: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let guarded = async { tokio::time::timeout(GUARD * 3, client).await };
    runtime.block_on(guarded).expect("guard: the client has not ended")
}

/// Opens one connection; its driver ends with the sender.
async fn connect<B>(addr: SocketAddr) -> SendRequest<B>
where
    B: Body<Error = Infallible> + Send + 'static,
    B::Data: Send,
{
    let stream = tokio::net::TcpStream::connect(addr).await.expect("the proxy accepts");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("no bytes are needed");
    tokio::spawn(connection);
    sender
}

type Plain = SendRequest<Empty<Bytes>>;

async fn ask(sender: &mut Plain, method: &str, path: &str) -> (Response<()>, Bytes) {
    let request = Request::builder().method(method).uri(path).header("host", "app.example");
    let request = request.body(Empty::new()).expect("a request");
    sender.ready().await.expect("the connection persists");
    let response = sender.send_request(request).await.expect("a response");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    (Response::from_parts(parts, ()), body)
}

on_both_drivers! {
    fn pages_of_every_kind_go_over_one_connection(driver) {
        let backend = AxumBackend::start();
        let proxy = front(driver, &backend.url(), "");
        run(async {
            let mut sender = connect(proxy.addr()).await;
            let (head, body) = ask(&mut sender, "GET", "/hello").await;
            assert_eq!((head.status(), &*body), (StatusCode::OK, &b"hello"[..]));
            let (head, body) = ask(&mut sender, "HEAD", "/hello").await;
            assert_eq!((&head.headers()["content-length"], body.len()), (&"5".parse().unwrap(), 0));
            for status in [204, 304, 404, 500] {
                let (head, _) = ask(&mut sender, "GET", &format!("/status/{status}")).await;
                assert_eq!(head.status(), status);
            }
            let (head, body) = ask(&mut sender, "DELETE", "/none?x=%20y").await;
            assert_eq!((head.status(), &*body), (StatusCode::NOT_FOUND, &b"DELETE /none?x=%20y"[..]));
            let (_, body) = ask(&mut sender, "GET", "/big/3000000").await;
            assert!(*body == *big_bytes(3_000_000));
        });
    }

    fn both_cookies_arrive_and_a_redirect_is_the_clients_to_follow(driver) {
        let backend = AxumBackend::start();
        let proxy = front(driver, &backend.url(), "");
        run(async {
            let mut sender = connect(proxy.addr()).await;
            let (head, _) = ask(&mut sender, "GET", "/cookies").await;
            let cookies: Vec<_> = head.headers().get_all("set-cookie").iter().collect();
            assert_eq!(cookies, ["first=1; Path=/", "second=2; Path=/"]);
            let (head, body) = ask(&mut sender, "GET", "/redirect").await;
            assert_eq!((head.status(), body.len()), (StatusCode::FOUND, 0));
            assert_eq!(head.headers()["location"], "/hello");
        });
    }

    fn ten_mebibytes_are_echoed_while_they_are_sent(driver) {
        let backend = AxumBackend::start();
        let proxy = front(driver, &backend.url(), "");
        let bytes = Random::new(21).bytes(10 << 20);
        let expected = checksum(&bytes);
        let got = run(async {
            let pieces: Vec<_> = bytes.chunks(40_000).map(Bytes::copy_from_slice).collect();
            let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
            let request = Request::post("/echo").header("host", "app.example");
            let request = request.body(StreamBody::new(stream::iter(frames))).expect("a request");
            let response = connect(proxy.addr()).await.send_request(request).await;
            let mut body = response.expect("a response").into_body();
            let mut got = Checksum::default();
            while let Some(frame) = body.frame().await {
                got.update(&frame.expect("the rest of the body").into_data().expect("no trailers"));
            }
            got.finish()
        });
        assert_eq!(got, expected);
    }

    fn a_thousand_requests_go_over_one_connection(driver) {
        let backend = AxumBackend::start();
        let proxy = front(driver, &backend.url(), "");
        run(async {
            let mut sender = connect(proxy.addr()).await;
            for number in 0..1000 {
                let (head, body) = ask(&mut sender, "GET", &format!("/{number}")).await;
                assert_eq!(head.status(), StatusCode::NOT_FOUND);
                assert_eq!(&*body, format!("GET /{number}").as_bytes());
            }
        });
    }

    fn sixty_four_connections_get_their_own_answers(driver) {
        let backend = AxumBackend::start();
        let proxy = Proxy::start(driver, &format!("[server.app]\nproxy_url = \"{}\"", backend.url()));
        let addr = proxy.addr();
        run(async {
            let clients = (0..64).map(|client| tokio::spawn(async move {
                let mut sender = connect(addr).await;
                for number in 0..20 {
                    let path = format!("/{client}/{number}");
                    let (_, body) = ask(&mut sender, "GET", &path).await;
                    assert_eq!(&*body, format!("GET {path}").as_bytes());
                }
            }));
            for client in clients.collect::<Vec<_>>() {
                client.await.expect("a client's assertions hold");
            }
        });
    }
}
