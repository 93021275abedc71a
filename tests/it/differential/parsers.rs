//! Other people's parsers of HTTP/1.1, each reduced to what it takes for requests.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::Uri;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use milo_parser::{
    CALLBACK_ACTIVE_ON_DATA, CALLBACK_ACTIVE_ON_MESSAGE_COMPLETE, CALLBACK_ACTIVE_ON_METHOD,
    CALLBACK_ACTIVE_ON_URL, Parser,
};
use monoio_codec::{Decoded, Decoder};
use monoio_http::h1::codec::decoder::{
    DirectWrapper, GenericHeadDecoder, PayloadDecoder, RequestHeadDecoder,
};
use tokio::io::{AsyncWriteExt, DuplexStream};
use tokio::runtime::Runtime;

/// Room for whatever a server answers: nobody reads it.
const DUPLEX_BYTES: usize = 1 << 20;

/// A request as another parser sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Theirs {
    /// The method.
    pub method: String,
    /// The target as it was sent, or as `http::Uri` writes it.
    pub target: String,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Offset of the first byte behind it, from a parser that tells.
    pub end: Option<usize>,
}

/// Returns the complete requests that a server of hyper's passes on.
pub fn hyper(runtime: &Runtime, input: &[u8]) -> Vec<Theirs> {
    let found = Rc::new(RefCell::new(Vec::new()));
    let theirs = Rc::clone(&found);
    runtime.block_on(async {
        let (mut client, server) = tokio::io::duplex(DUPLEX_BYTES + input.len());
        client.write_all(input).await.expect("there is room");
        client.shutdown().await.expect("a duplex ends in order");
        serve(server, theirs).await;
    });
    found.take()
}

async fn serve(server: DuplexStream, found: Rc<RefCell<Vec<Theirs>>>) {
    let service = service_fn(move |request: hyper::Request<Incoming>| {
        let found = Rc::clone(&found);
        async move {
            let (head, body) = request.into_parts();
            // A body that breaks off is the request's end; hyper then closes.
            if let Ok(body) = body.collect().await {
                let (method, target) = (head.method.to_string(), head.uri.to_string());
                let body = body.to_bytes().to_vec();
                found.borrow_mut().push(Theirs { method, target, body, end: None });
            }
            Ok::<_, Infallible>(hyper::Response::new(Empty::<Bytes>::new()))
        }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    let connection = builder.half_close(true).serve_connection(TokioIo::new(server), service);
    // An input that is no request is an error of the connection.
    connection.await.ok();
}

/// Returns the complete requests that monoio-http's decoders find.
pub fn monoio(input: &[u8]) -> Vec<Theirs> {
    let mut head = GenericHeadDecoder::<(), RequestHeadDecoder, DirectWrapper>::default();
    let mut bytes = BytesMut::from(input);
    let mut found = Vec::new();
    while let Ok(Decoded::Some((head, body))) = head.decode(&mut bytes) {
        let Some(body) = monoio_body(body, &mut bytes) else { break };
        let (method, target) = (head.method.to_string(), head.uri.to_string());
        found.push(Theirs { method, target, body, end: Some(input.len() - bytes.len()) });
    }
    found
}

fn monoio_body<F, S>(decoder: PayloadDecoder<F, S>, bytes: &mut BytesMut) -> Option<Vec<u8>>
where
    F: Decoder<Item = Bytes>,
    S: Decoder<Item = Option<Bytes>>,
{
    match decoder {
        PayloadDecoder::None => Some(Vec::new()),
        PayloadDecoder::Fixed(mut fixed) => match fixed.decode(bytes) {
            Ok(Decoded::Some(body)) => Some(body.to_vec()),
            _ => None,
        },
        PayloadDecoder::Streamed(mut streamed) => {
            let mut body = Vec::new();
            loop {
                match streamed.decode(bytes) {
                    Ok(Decoded::Some(Some(piece))) => body.extend_from_slice(&piece),
                    Ok(Decoded::Some(None)) => return Some(body),
                    _ => return None,
                }
            }
        }
    }
}

thread_local! {
    /// What Milo's callbacks, which are plain functions, tell: spans of the input.
    static MILO: RefCell<Milo> = RefCell::default();
}

#[derive(Debug, Default)]
struct Milo {
    method: (usize, usize),
    target: (usize, usize),
    data: Vec<(usize, usize)>,
    found: Vec<Spans>,
}

#[derive(Debug)]
struct Spans {
    method: (usize, usize),
    target: (usize, usize),
    data: Vec<(usize, usize)>,
    end: usize,
}

/// Returns the complete requests that Milo finds.
pub fn milo(input: &[u8]) -> Vec<Theirs> {
    MILO.take();
    let mut parser = Parser::new();
    parser.autodetect = false;
    parser.is_request = true;
    parser.active_callbacks = CALLBACK_ACTIVE_ON_METHOD
        | CALLBACK_ACTIVE_ON_URL
        | CALLBACK_ACTIVE_ON_DATA
        | CALLBACK_ACTIVE_ON_MESSAGE_COMPLETE;
    parser.callbacks.on_method =
        |_, at, len| MILO.with_borrow_mut(|milo| milo.method = (at, at + len));
    parser.callbacks.on_url =
        |_, at, len| MILO.with_borrow_mut(|milo| milo.target = (at, at + len));
    parser.callbacks.on_data =
        |_, at, len| MILO.with_borrow_mut(|milo| milo.data.push((at, at + len)));
    parser.callbacks.on_message_complete = |_, at, _| {
        MILO.with_borrow_mut(|milo| {
            let data = std::mem::take(&mut milo.data);
            let spans = Spans { method: milo.method, target: milo.target, data, end: at };
            milo.found.push(spans);
        });
    };
    parser.parse(input.as_ptr(), input.len());
    let text =
        |(start, end): (usize, usize)| String::from_utf8_lossy(&input[start..end]).into_owned();
    let found = MILO.take().found.into_iter().map(|spans| Theirs {
        method: text(spans.method),
        target: text(spans.target),
        body: spans.data.iter().flat_map(|&(start, end)| &input[start..end]).copied().collect(),
        end: Some(spans.end),
    });
    found.collect()
}

/// Returns whether another parser's target is ours: as sent, or as `http::Uri` writes it.
pub fn is_same_target(ours: &[u8], theirs: &str) -> bool {
    let as_uri = || Uri::try_from(ours).map(|uri| uri.to_string());
    ours == theirs.as_bytes() || as_uri().is_ok_and(|uri| uri == theirs)
}

#[test]
fn every_parser_finds_the_requests_of_a_plain_connection() {
    let input = b"GET /a?b HTTP/1.1\r\nHost: h\r\n\r\n\
        POST /c HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello\
        POST /d HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n\
        GET /unfinished HTTP/1.1\r\n";
    let runtime = runtime();
    for (name, found) in
        [("hyper", hyper(&runtime, input)), ("monoio", monoio(input)), ("milo", milo(input))]
    {
        let seen: Vec<_> =
            found.iter().map(|each| (&*each.method, &*each.target, &*each.body)).collect();
        let expected: [(&str, &str, &[u8]); 3] =
            [("GET", "/a?b", b""), ("POST", "/c", b"hello"), ("POST", "/d", b"abc")];
        assert_eq!(seen, expected, "{name}");
        let ends: Vec<_> = found.iter().filter_map(|each| each.end).collect();
        assert!(name == "hyper" || ends == [30, 83, 158], "{name}: {ends:?}");
    }
}

/// Returns what hyper runs on.
pub fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime")
}
