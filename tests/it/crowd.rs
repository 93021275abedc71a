//! Thousands of web sockets open at the same time, every message of each verified.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Barrier, Semaphore};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{accept_async_with_config, client_async_with_config};

use crate::heavy::{HEAVY_GUARD, alone, raise_open_files, scaled};
use crate::support::tunnel::route_to;
use crate::support::{Client, Proxy};

/// Handshakes under way at a time, below any accept queue.
const OPENERS: usize = 256;

/// Messages of each socket while all are open.
const ROUNDS: usize = 3;

/// Buffers of the peers: thousands of sockets of the usual size would fill the machine.
fn small() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(1024).write_buffer_size(0)
}

/// Echoes every message of every connection.
async fn serve(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(echo(stream));
    }
}

async fn echo(stream: TcpStream) {
    let mut socket = accept_async_with_config(stream, Some(small())).await.expect("a handshake");
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// One of many: opens, waits until all are open, talks, and waits until all have talked.
async fn member(addr: SocketAddr, number: usize, door: Arc<Semaphore>, all: Arc<Barrier>) {
    let permit = door.acquire().await.expect("the semaphore stays open");
    let stream = TcpStream::connect(addr).await.expect("connecting to the proxy");
    let request = format!("ws://{addr}/{number}");
    let (mut socket, _) =
        client_async_with_config(request, stream, Some(small())).await.expect("a handshake");
    drop(permit);
    all.wait().await;
    for round in 0..ROUNDS {
        let text = format!("socket {number}, round {round} ").repeat(1 + number % 50);
        let message = Message::binary(text.into_bytes());
        socket.send(message.clone()).await.expect("the proxy takes a message");
        let echoed = socket.next().await.expect("an echo").expect("a whole message");
        assert!(echoed == message, "socket {number} got another message in round {round}");
    }
    all.wait().await;
    socket.close(None).await.expect("a close");
    while let Some(Ok(_)) = socket.next().await {}
}

on_both_drivers! {
    fn thousands_of_sockets_echo_at_the_same_time(driver) {
        let _alone = alone();
        raise_open_files();
        let count = scaled(2_000, 5_000);
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let backend = listener.local_addr().expect("a bound socket has an address");
        runtime.spawn(serve(listener));
        let proxy = Proxy::start(driver, &route_to(&format!("http://{backend}")));
        let (door, all) = (Arc::new(Semaphore::new(OPENERS)), Arc::new(Barrier::new(count)));
        let members = (0..count).map(|number| {
            runtime.spawn(member(proxy.addr(), number, Arc::clone(&door), Arc::clone(&all)))
        });
        let members: Vec<_> = members.collect();
        runtime.block_on(async {
            for member in members {
                let ended = tokio::time::timeout(HEAVY_GUARD, member).await;
                ended.expect("guard: a socket is stuck").expect("a socket's messages come back");
            }
        });
        proxy.wait_for_logs("Tunnel closed gracefully", count);
        runtime.shutdown_timeout(Duration::ZERO);
        // It is as ready as before for whoever comes next.
        let mut client = Client::connect(proxy.addr());
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        assert_eq!(client.read_response().status, 502);
    }
}
