//! The tokio baseline: the proxy one writes in an afternoon, without its mistakes.
//!
//! One `current_thread` runtime, so no wake crosses a thread; `TCP_NODELAY` on both sides; the heads
//! are passed on as they came and not checked; then `copy_bidirectional`. It does less than a proxy
//! must, which is the point: what it costs is what tokio costs.

use std::io;
use std::net::SocketAddr;

use memchr::memmem;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional_with_sizes};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Serves on this thread until `stop` is sent or dropped; tunnels that are left are cut.
///
/// `buffer` bytes are used for each direction of a tunnel.
///
/// # Errors
///
/// The system refuses a runtime or a listener.
pub fn run(
    listener: std::net::TcpListener,
    backend: SocketAddr,
    buffer: usize,
    stop: oneshot::Receiver<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(async {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        tokio::select! {
            _ = stop => Ok(()),
            ended = accept(listener, backend, buffer) => ended,
        }
    })
}

async fn accept(listener: TcpListener, backend: SocketAddr, buffer: usize) -> io::Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(async move {
            // A connection that was cut shows in the load, which misses its bytes.
            carry(client, backend, buffer).await.ok();
        });
    }
}

async fn carry(mut client: TcpStream, backend: SocketAddr, buffer: usize) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut head = Vec::with_capacity(4096);
    read_head(&mut client, &mut head).await?;
    let mut backend = TcpStream::connect(backend).await?;
    backend.set_nodelay(true)?;
    backend.write_all(&head).await?;
    head.clear();
    read_head(&mut backend, &mut head).await?;
    client.write_all(&head).await?;
    drop(head);
    copy_bidirectional_with_sizes(&mut client, &mut backend, buffer, buffer).await?;
    Ok(())
}

/// Reads until `head` holds an empty line; bytes behind it are early bytes and passed on with it.
async fn read_head(from: &mut TcpStream, head: &mut Vec<u8>) -> io::Result<()> {
    while memmem::find(head, b"\r\n\r\n").is_none() {
        if from.read_buf(head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}
