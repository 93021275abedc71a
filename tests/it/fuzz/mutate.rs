//! Inputs made out of others: what the same seed repeats, and close enough to be understood in part.

use crate::support::Random;

/// Pieces that decide something in HTTP, TOML or JSON.
const PIECES: [&str; 96] = [
    "\r\n",
    "\n",
    "\r",
    "\r\n\r\n",
    "\n\n",
    "\0",
    " ",
    "\t",
    "\x0b",
    "\x0c",
    "\u{a0}",
    "\x7f",
    ":",
    ";",
    ",",
    "=",
    "\"",
    "\\",
    "/",
    "?",
    "#",
    "*",
    "@",
    "-",
    "+",
    "_",
    "%00",
    "0",
    "00",
    "1",
    "5",
    "a",
    "ff",
    "0x",
    "-1",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551616",
    "7fffffffffffffff",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "GET / HTTP/1.1",
    "POST",
    "HEAD",
    "CONNECT",
    "OPTIONS",
    "Host: a\r\n",
    "Host: b\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: 0\r\n",
    "content-length:5\r\n",
    "Content_Length: 5\r\n",
    "Content-Length",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: identity\r\n",
    "transfer-encoding",
    "Transfer_Encoding: chunked\r\n",
    "chunked",
    "Chunked",
    "gzip, chunked",
    "xchunked",
    "Connection: close\r\n",
    "Connection: keep-alive\r\n",
    "Connection: upgrade, te\r\n",
    "upgrade",
    "Upgrade: websocket\r\n",
    "TE: trailers\r\n",
    "Trailer: a\r\n",
    "Expect: 100-continue\r\n",
    "0\r\n\r\n",
    "5\r\nhello\r\n",
    "1;a=b\r\nx\r\n",
    "hello",
    "http://a",
    "https://[::1]:80",
    "[::1]",
    "a:80",
    "bytes=",
    "0-0",
    "no-store",
    "private",
    "max-age=60",
    "must-revalidate",
    "public",
    "q=0.5",
    "W/\"a\"",
    "Sun, 06 Nov 1994 08:49:37 GMT",
    "$env:SECRET",
    "[server.a]\n",
    "proxy_url = 'http://h'\n",
    "true",
    "1h30m",
    "{}",
    "null",
];

/// Changes inputs at random; its own state is only what it may put into them.
#[derive(Clone, Copy, Debug)]
pub struct Mutator<'a> {
    /// Parts of these get into each other.
    inputs: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    /// Makes a mutator that knows these inputs.
    pub fn new(inputs: &'a [Vec<u8>]) -> Self {
        Self { inputs }
    }

    /// Returns the input with one to four changes.
    pub fn mutated(self, input: &[u8], random: &mut Random) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=random.below(4) {
            self.change(&mut bytes, random);
        }
        bytes
    }

    fn change(self, bytes: &mut Vec<u8>, random: &mut Random) {
        let at = random.below(bytes.len() + 1);
        let until = (at + 1 + random.below(12)).min(bytes.len());
        let piece = PIECES[random.below(PIECES.len())].as_bytes();
        match random.below(9) {
            0 => drop(bytes.splice(at..at, random.bytes(1))),
            1 => drop(bytes.drain(at..until)),
            2 | 3 => drop(bytes.splice(at..at, piece.iter().copied())),
            4 => drop(bytes.splice(at..until, piece.iter().copied())),
            5 => {
                let part = bytes[at..until].to_vec();
                drop(bytes.splice(at..at, part));
            }
            6 => self.insert_part(bytes, at, random),
            7 => bytes.truncate(at),
            _ => flip(bytes, at, random),
        }
    }

    /// Puts a part of another input in: lines, as far as there are any.
    fn insert_part(self, bytes: &mut Vec<u8>, at: usize, random: &mut Random) {
        if self.inputs.is_empty() {
            return;
        }
        let other = &self.inputs[random.below(self.inputs.len())];
        let lines: Vec<_> = other.split_inclusive(|&byte| byte == b'\n').collect();
        if lines.is_empty() {
            return;
        }
        let start = random.below(lines.len());
        let end = (start + 1 + random.below(3)).min(lines.len());
        // At the beginning of a line, where it means most.
        let line_start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        drop(bytes.splice(line_start..line_start, lines[start..end].concat()));
    }
}

fn flip(bytes: &mut [u8], at: usize, random: &mut Random) {
    if let Some(byte) = bytes.get_mut(at) {
        *byte ^= 1 << random.below(8);
    }
}

#[test]
fn the_same_seed_makes_the_same_inputs() {
    let inputs = [b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), b"a\nb\n".to_vec()];
    let made = |seed| -> Vec<_> {
        let mut random = Random::new(seed);
        let mutator = Mutator::new(&inputs);
        (0..100).map(|_| mutator.mutated(&inputs[0], &mut random)).collect()
    };
    assert_eq!(made(7), made(7));
    assert_ne!(made(7), made(8));
    let changed = made(7).iter().filter(|made| **made != inputs[0]).count();
    assert!(changed > 90, "{changed}");
}
