//! Requests to the control endpoint, and what its metrics say.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Client, Proxy, Response};

/// The media type of commands.
pub const JSON: &str = "application/json";

/// Sends a GET and reads the answer; the connection persists.
pub fn get(client: &mut Client, path: &str) -> Response {
    client.send(format!("GET {path} HTTP/1.1\r\nHost: control\r\n\r\n"));
    client.read_response()
}

/// Sends a POST without a body and reads the answer; the connection persists.
pub fn post(client: &mut Client, path: &str) -> Response {
    client.send(format!("POST {path} HTTP/1.1\r\nHost: control\r\n\r\n"));
    client.read_response()
}

/// Sends a POST with a JSON body and reads the answer; the connection persists.
pub fn post_json(client: &mut Client, path: &str, body: &str) -> Response {
    client.send(format!(
        "POST {path} HTTP/1.1\r\nHost: control\r\nContent-Type: {JSON}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    client.read_response()
}

/// The samples of a proxy at one moment: by name and labels, as they are written, without the prefix.
#[derive(Clone, Debug, Default)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Asks a proxy without a token.
    pub fn of(proxy: &Proxy) -> Self {
        Self::at(proxy.control_addr())
    }

    /// Asks the control endpoint at this address without a token.
    pub fn at(addr: SocketAddr) -> Self {
        let answer = get(&mut Client::connect(addr), "/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        let media_type = Some("text/plain; version=0.0.4; charset=utf-8");
        assert_eq!(answer.field("content-type"), media_type);
        let samples = answer.text().lines().filter(|line| !line.starts_with('#'));
        let parse = |line: &str| {
            let (name, value) = line.rsplit_once(' ').expect("a sample has a value");
            let name = name.strip_prefix("phantom_frame_").expect("our prefix");
            (name.to_owned(), value.parse().expect("a number"))
        };
        Self(samples.map(parse).collect())
    }

    /// Returns one sample; 0 if it is not there.
    pub fn value(&self, name: &str) -> f64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Returns the sum of all samples whose name begins so.
    pub fn sum(&self, start: &str) -> f64 {
        self.0.iter().filter(|(name, _)| name.starts_with(start)).map(|(_, value)| value).sum()
    }

    /// Reports whether each of these samples has this value.
    pub fn are(&self, expected: &[(&str, f64)]) -> bool {
        expected.iter().all(|(name, value)| (self.value(name) - value).abs() < 1e-9)
    }
}
