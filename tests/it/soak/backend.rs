//! The backend of the soak: it does what the target of each request says, good or bad.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::ledger::Ledger;
use super::plan::{End, Exchange, Framing, Tunnel, content, verify};
use super::stream;
use crate::support::tunnel::ACCEPTED;
use crate::support::{Backend, BackendConn};

/// Starts it.
pub(super) fn start(ledger: &Arc<Ledger>) -> Backend {
    let ledger = Arc::clone(ledger);
    Backend::scripted(move |conn: &mut BackendConn, _| while serve(conn, &ledger).is_some() {})
}

/// Serves one request; `None` when the connection is over.
fn serve(conn: &mut BackendConn, ledger: &Ledger) -> Option<()> {
    let head = conn.next_head()?;
    let head = String::from_utf8_lossy(&head).into_owned();
    let target = head.split(' ').nth(1)?.to_owned();
    if let Some(plan) = Tunnel::parse(&target) {
        conn.send(ACCEPTED);
        // One of them is idle for as long as the run takes.
        conn.set_guard(Duration::from_hours(1));
        tunnel(conn, plan);
        if plan.end == End::ClientLost {
            ledger.count(plan.end.word());
        }
        return None;
    }
    if let Some(plan) = Exchange::parse(&target) {
        assert!(ledger.is_first(plan.id), "request {} came twice", plan.id);
        verify(plan.id, 0, &conn.read_exact(plan.asked));
        return answer(conn, plan);
    }
    if let Some(number) = target.strip_prefix("/c/") {
        page(conn, number.parse().expect("a number"), &head);
        return Some(());
    }
    if let Some(code) = target.strip_prefix("/r/") {
        conn.send(format!("HTTP/1.1 {code} No\r\nContent-Length: 2\r\n\r\nno"));
        return Some(());
    }
    let how = target.strip_prefix("/b/").unwrap_or_else(|| panic!("{target} came through"));
    ledger.count(&format!("asked for {how}"));
    misbehave(conn, how);
    None
}

/// A cacheable page, always the same for a number.
fn page(conn: &mut BackendConn, number: u64, head: &str) {
    let tag = format!("\"{number}\"");
    let fields = format!("ETag: {tag}\r\nCache-Control: max-age=1\r\n");
    if head.to_ascii_lowercase().contains("if-none-match") {
        conn.send(format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"));
        return;
    }
    let body = content(number, 0, 500 + usize::try_from(number).expect("a small one") * 100);
    conn.send(format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {}\r\n\r\n", body.len()));
    if !head.starts_with("HEAD") {
        conn.send(body);
    }
}

fn answer(conn: &mut BackendConn, plan: Exchange) -> Option<()> {
    let body = content(plan.id + 1, 0, plan.answered);
    match plan.framing {
        Framing::Length => {
            conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len()));
            conn.send(body);
        }
        Framing::Chunked => {
            conn.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            for piece in body.chunks(777) {
                conn.send(format!("{:x}\r\n", piece.len()));
                conn.send(piece);
                conn.send("\r\n");
            }
            conn.send("0\r\n\r\n");
        }
        Framing::Close => {
            conn.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
            conn.send(body);
            return None;
        }
    }
    Some(())
}

/// Answers as no backend should.
fn misbehave(conn: &mut BackendConn, how: &str) {
    let half = "x".repeat(500);
    match how {
        "head" => conn.send("HTTP/1.1 200 OK\r\nContent-Le"),
        "length" => conn.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{half}")),
        "chunked" => {
            conn.send(format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{half}"
            ));
        }
        "garbage" => conn.send("what is this?\r\n\r\n"),
        "reset" => conn.reset(),
        "silent" => drop(conn.read_until_closed()),
        other => panic!("no such plan: {other}"),
    }
}

/// The backend's part of a tunnel.
fn tunnel(conn: &mut BackendConn, plan: Tunnel) {
    let mut writer = conn.second_handle();
    let down = if plan.end == End::BackendResets { plan.down / 2 } else { plan.down };
    let writing = thread::spawn(move || stream::write(&mut writer, plan.seed + 1, 0, down));
    if plan.end == End::BackendResets {
        writing.join().expect("no panic").ok();
        conn.reset();
        return;
    }
    let got = stream::read(conn, plan.seed, plan.up, plan.slow.1);
    let written = writing.join().expect("no panic");
    if plan.end.is_orderly() {
        assert_eq!(got, plan.up, "{plan}");
        written.expect("the client reads everything");
    }
    if plan.end == End::BackendCloses {
        conn.shutdown_write();
    }
    drop(conn.read_until_closed());
}
