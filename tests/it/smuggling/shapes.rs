//! Requests that two servers could read differently, by the thousand. In each stands another request,
//! to `/smuggled`, that is nobody's: in a body, or behind what cannot be read.

use std::fmt::Write;

use crate::fuzz::mutate::Mutator;
use crate::support::Random;

/// The request that must never be one.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n";

/// Ways to write a length, with `N` for the digits.
pub const LENGTHS: [&str; 26] = [
    "Content-Length: N",
    "content-length:N",
    "Content-Length: \tN ",
    "Content-Length: 00N",
    "Content-Length: +N",
    "Content-Length: -N",
    "Content-Length: 0xN",
    "Content-Length: N, N",
    "Content-Length: N,",
    "Content-Length: ,N",
    "Content-Length: N 0",
    "Content-Length: N;a",
    "Content-Length: \"N\"",
    "Content-Length: N.0",
    "Content-Length: Ne0",
    "Content-Length: N\r\nContent-Length: N",
    "Content-Length: N\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: N",
    "Content-Length: 18446744073709551616N",
    "Content-Length : N",
    "Content-Length\t: N",
    " Content-Length: N",
    "Content-Length: N\r\n 0",
    "Content_Length: N",
    "Content-Length:\x0bN",
    "X: y\r\nContent-Length: N\x00",
];

/// Ways to write the coding.
pub const CODINGS: [&str; 46] = [
    "Transfer-Encoding: chunked",
    "transfer-encoding:chunked",
    "TRANSFER-ENCODING: CHUNKED",
    "Transfer-Encoding:\tchunked",
    "Transfer-Encoding: chunked \t",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding\t: chunked",
    "Transfer-Encoding\x0b: chunked",
    "Transfer-Encoding\x00: chunked",
    " Transfer-Encoding: chunked",
    "\tTransfer-Encoding: chunked",
    "X: y\r\n Transfer-Encoding: chunked",
    "X: y\nTransfer-Encoding: chunked",
    "X: y\rTransfer-Encoding: chunked",
    "X: y\r\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding\r\n: chunked",
    "Transfer-Encoding:\r\n chunked",
    "Transfer-Encoding: chunked\r\n ",
    "Transfer-Encoding: \x0bchunked",
    "Transfer-Encoding: \x0cchunked",
    "Transfer-Encoding: chunked\x0b",
    "Transfer-Encoding: chunked\x00",
    "Transfer-Encoding: \u{a0}chunked",
    "Transfer-Encoding: \u{85}chunked",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunkedx",
    "Transfer-Encoding: x-chunked",
    "Transfer-Encoding: chunk",
    "Transfer-Encoding: 'chunked'",
    "Transfer-Encoding: \"chunked\"",
    "Transfer-Encoding: chunked;q=1",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: gzip, chunked",
    "Transfer-Encoding: chunked, chunked",
    "Transfer-Encoding: chunked,",
    "Transfer-Encoding: , chunked",
    "Transfer-Encoding: identity",
    "Transfer-Encoding:",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding:\r\nTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked",
    "X-Transfer-Encoding: chunked",
    "Transfer-Encoding-X: chunked",
];

/// What may stand between the size of a chunk and the end of its line.
const EXTENSIONS: [&str; 22] = [
    "",
    ";",
    ";a",
    ";a=b",
    ";a=\"b\"",
    ";a=\"",
    ";a=\"\r\n",
    ";a\nb",
    ";a\rb",
    ";a=b;",
    ";;",
    " ;a",
    " ",
    "\t",
    "\0",
    ",",
    ";\x0b",
    "_",
    ";a=b=c",
    ";a=\"b\\\"c\"",
    ";\u{ff}",
    "; a = b",
];

/// How a line may end.
const LINE_ENDS: [&str; 6] = ["\r\n", "\n", "\r", "\r\r\n", "\n\r", ""];

/// How a chunked body may end.
const ENDS: [&str; 16] = [
    "0\r\n\r\n",
    "000\r\n\r\n",
    "0;a\r\n\r\n",
    "0\r\nX: y\r\n\r\n",
    "0\r\nContent-Length: 50\r\nTransfer_Encoding: x\r\nHost: i\r\n\r\n",
    "0\r\nX : y\r\n\r\n",
    "0\r\nX: y\r\n z\r\n\r\n",
    "0\r\n\n",
    "0\n\r\n",
    "0\n\n",
    "0\r\n\r",
    "0\r\r\n\r\n",
    " 0\r\n\r\n",
    "0 \r\n\r\n",
    "-0\r\n\r\n",
    "\r\n0\r\n\r\n",
];

/// Ways to write a size that is not the one meant, with `S` for its digits.
const SIZES: [&str; 14] = [
    "S",
    "0S",
    "0000000000S",
    "0xS",
    "0XS",
    "+S",
    "-S",
    " S",
    "\tS",
    "1000000000000000S",
    "10000000S",
    "S.0",
    "Sh",
    "\"S\"",
];

/// Bytes that some take for the end of a line, or of a value.
pub const JUNK: [&str; 18] = [
    "\n", "\r", "\r\r\n", "\n\r", "\r\n ", "\r\n\t", "\0", "\x0b", "\x0c", "\x1b", "\x7f",
    "\u{85}", "\u{a0}", "\u{ff}", "\\r\\n", "%0d%0a", "\r\n\r", "\u{8a}",
];

/// What may stand behind a request that is complete.
const GARBAGE: [&str; 16] = [
    "x:",
    "\0",
    " ",
    "\n",
    "\r",
    "\t",
    "0\r\n\r\n",
    "garbage\r\n\r\n",
    "\r\n\r\n\r\n\r\n\r\n",
    "\r\n ",
    ": y\r\n\r\n",
    "HTTP/1.1 200 OK\r\n\r\n",
    "GET /\r\n\r\n",
    "\x16\x03\x01\x02\0",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "\u{ef}\u{bb}\u{bf}",
];

/// A client's bytes.
#[derive(Clone, Debug)]
pub struct Shape {
    /// From the first byte on.
    pub bytes: Vec<u8>,
    /// Whether the request to [`SMUGGLED`] may have become one: by a mutation, which may have cut off
    /// what it stood in.
    pub is_mutated: bool,
}

/// Collects shapes; each has its number in its targets.
#[derive(Debug, Default)]
struct Shapes(Vec<Shape>);

impl Shapes {
    /// Adds a request with these lines behind its Host, and what follows them.
    fn add(&mut self, method: &str, lines: &str, rest: &str) {
        let number = self.0.len();
        let text = format!("{method} /s{number} HTTP/1.1\r\nHost: h\r\n{lines}\r\n\r\n{rest}");
        self.add_bytes(latin1(&text));
    }

    fn add_bytes(&mut self, bytes: Vec<u8>) {
        self.0.push(Shape { bytes, is_mutated: false });
    }
}

/// Returns text as bytes, one for each character.
pub fn latin1(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(c).expect("a byte")).collect()
}

/// Returns every shape, and `mutations` more that were made of them.
pub fn all(mutations: usize) -> Vec<Shape> {
    let mut shapes = Shapes::default();
    two_framings(&mut shapes);
    one_framing(&mut shapes);
    chunks(&mut shapes);
    junk(&mut shapes);
    hosts(&mut shapes);
    behind(&mut shapes);
    upgrades(&mut shapes);
    expectations(&mut shapes);
    let mut random = Random::new(0x5316);
    let inputs: Vec<_> = shapes.0.iter().map(|shape| shape.bytes.clone()).collect();
    let mutator = Mutator::new(&inputs);
    for _ in 0..mutations {
        let bytes = mutator.mutated(&inputs[random.below(inputs.len())], &mut random);
        shapes.0.push(Shape { bytes, is_mutated: true });
    }
    shapes.0
}

/// CL.TE, TE.CL and TE.TE: a length over everything beside chunks that end at once.
fn two_framings(shapes: &mut Shapes) {
    let body = format!("0\r\n\r\n{SMUGGLED}");
    for length in LENGTHS {
        for coding in CODINGS {
            let length = length.replace('N', &body.len().to_string());
            shapes.add("POST", &format!("{length}\r\n{coding}"), &body);
            shapes.add("POST", &format!("{coding}\r\n{length}"), &body);
        }
    }
}

/// A length, or a coding, whose body is the other request.
fn one_framing(shapes: &mut Shapes) {
    let chunked = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for method in ["POST", "GET", "HEAD", "DELETE", "OPTIONS", "PATCH"] {
        for length in LENGTHS {
            let length = length.replace('N', &SMUGGLED.len().to_string());
            shapes.add(method, &length, SMUGGLED);
            shapes.add(method, &format!("Connection: content-length, host\r\n{length}"), SMUGGLED);
        }
        for coding in CODINGS {
            shapes.add(method, coding, &chunked);
            let named = format!("Connection: transfer-encoding, te\r\n{coding}");
            shapes.add(method, &named, &chunked);
        }
    }
}

/// Chunks whose sizes, extensions and ends are written in every way.
fn chunks(shapes: &mut Shapes) {
    for body in chunked_bodies(SMUGGLED) {
        shapes.add("POST", "Transfer-Encoding: chunked", &body);
    }
}

/// Returns chunked bodies of one chunk in every way to write them.
pub fn chunked_bodies(data: &str) -> Vec<String> {
    let mut bodies = Vec::new();
    let size = format!("{:x}", data.len());
    for extension in EXTENSIONS {
        for line_end in LINE_ENDS {
            for end in ENDS {
                bodies.push(format!("{size}{extension}{line_end}{data}\r\n{end}"));
            }
        }
    }
    for form in SIZES {
        let size = form.replace('S', &size);
        for data_end in LINE_ENDS.into_iter().chain(["XX", " \r\n", "\r\nX"]) {
            bodies.push(format!("{size}\r\n{data}{data_end}0\r\n\r\n"));
        }
    }
    for end in ENDS {
        for data_end in LINE_ENDS {
            bodies.push(format!("{size}\r\n{data}{data_end}{end}"));
        }
    }
    bodies
}

/// Bytes in lines that some take for the end of the line.
fn junk(shapes: &mut Shapes) {
    let length = SMUGGLED.len();
    for junk in JUNK {
        for hidden in ["Transfer-Encoding: chunked", "Content-Length: 0", "X: y\r\n\r\n", "Host: i"]
        {
            let framed = format!("Content-Length: {length}\r\nX: a{junk}{hidden}");
            shapes.add("POST", &framed, SMUGGLED);
            shapes.add(
                "POST",
                &format!("X: a{junk}{hidden}\r\nContent-Length: {length}"),
                SMUGGLED,
            );
            shapes.add("POST", &format!("Content-Length: {length}{junk}{hidden}"), SMUGGLED);
        }
        for name in ["Content-Length", "Transfer-Encoding", "Host", "X"] {
            let (start, end) = name.split_at(name.len() / 2);
            for line in [
                format!("{junk}{name}: {length}"),
                format!("{name}{junk}: {length}"),
                format!("{start}{junk}{end}: {length}"),
                format!("{name}:{junk}{length}"),
            ] {
                shapes.add("POST", &format!("{line}\r\nContent-Length: {length}"), SMUGGLED);
            }
        }
        let number = shapes.0.len();
        let target = format!("GET /s{number}{junk}x HTTP/1.1{junk}\r\nHost: h\r\n\r\n{SMUGGLED}");
        shapes.add_bytes(latin1(&target.replacen(SMUGGLED, "", usize::from(is_opaque(junk)))));
    }
}

/// Returns whether these bytes may stand in a target.
fn is_opaque(junk: &str) -> bool {
    junk.chars().all(|c| c.is_ascii_graphic())
}

/// Targets and Hosts that name different servers.
fn hosts(shapes: &mut Shapes) {
    let targets = [
        "/",
        "http://i/",
        "http://i:81/a?b",
        "https://I.example",
        "//i/",
        "http://i@j/",
        "http:/i/",
        "http://i,j/",
        "i:80",
        "*",
        "http://[::1]/",
        "http://i\\j/",
        "http://i#j/",
        "/http://i/",
    ];
    let hosts = [
        "Host: h",
        "Host: i",
        "",
        "Host: h\r\nHost: i",
        "Host: h,i",
        "Host: h i",
        "Host:",
        "Host: h@i",
        "Host: h:99999",
        "Host: [::1]:80",
        "Host : i",
        "X-Host: i\r\nHost: h\r\nX-Forwarded-Host: i",
    ];
    for target in targets {
        for host in hosts {
            for version in ["HTTP/1.1", "HTTP/1.0"] {
                let mut text = format!("POST {target} {version}\r\n{host}\r\n");
                write!(text, "Content-Length: {}\r\n\r\n{SMUGGLED}", SMUGGLED.len()).expect("text");
                shapes.add_bytes(latin1(&text.replace("\r\n\r\nContent", "\r\nContent")));
            }
        }
    }
}

/// What stands behind a complete request and is none.
fn behind(shapes: &mut Shapes) {
    let chunked = "Transfer-Encoding: chunked";
    for garbage in GARBAGE {
        let behind = format!("{garbage}{SMUGGLED}");
        shapes.add("GET", "X: y", &behind);
        shapes.add("GET", "Connection: close", &behind);
        shapes.add("GET", "Connection: keep-alive, close", SMUGGLED);
        shapes.add("POST", "Content-Length: 0", &behind);
        shapes.add("POST", "Content-Length: 5", &format!("hello{behind}"));
        shapes.add("POST", chunked, &format!("0\r\n\r\n{behind}"));
        shapes.add("POST", chunked, &format!("5\r\nhello\r\n0\r\n\r\n{behind}"));
        shapes.add("POST", chunked, &format!("5\r\nhello\r\n0\r\nX: y\r\n\r\n{behind}"));
        let version = format!("GET / HTTP/1.0\r\n\r\n{SMUGGLED}");
        shapes.add_bytes(version.into_bytes());
    }
}

/// Requests behind upgrades: `/switch` is accepted, `/plain` refused by a rule, the others declined.
fn upgrades(shapes: &mut Shapes) {
    let offers = [
        "Connection: Upgrade\r\nUpgrade: websocket",
        "Connection: keep-alive, upgrade\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
        "Upgrade: a, b/2\r\nConnection: UPGRADE",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: my-proto",
    ];
    let length = format!("\r\nContent-Length: {}", SMUGGLED.len());
    let chunked = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n{SMUGGLED}", SMUGGLED.len());
    for path in ["switch", "plain", "declined"] {
        for offer in offers {
            for (lines, rest) in [
                ("", SMUGGLED.to_owned()),
                ("\r\nConnection: close", SMUGGLED.to_owned()),
                (&*length, SMUGGLED.repeat(2)),
                ("\r\nTransfer-Encoding: chunked", chunked.clone()),
                ("\r\nExpect: 100-continue", SMUGGLED.to_owned()),
                ("\r\nContent-Length: 0", SMUGGLED.to_owned()),
            ] {
                let number = shapes.0.len();
                let head =
                    format!("GET /{path}/s{number} HTTP/1.1\r\nHost: h\r\n{offer}{lines}\r\n\r\n");
                shapes.add_bytes((head + &rest).into_bytes());
            }
        }
    }
}

/// Bodies that come although nobody has said 100, and expectations that nobody knows.
fn expectations(shapes: &mut Shapes) {
    let length = format!("Content-Length: {}", SMUGGLED.len());
    let chunked = format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len());
    for expect in [
        "Expect: 100-continue",
        "Expect: 100-Continue",
        "expect:100-continue, 100-continue",
        "Expect: 100-continue\r\nExpect: 100-continue",
        "Expect: 100-continue;a=b",
        "Expect: 200-ok",
        "Expect:",
        "Expect : 100-continue",
        "Expect: 100-continue\r\n ",
        "Connection: expect\r\nExpect: 100-continue",
    ] {
        for method in ["POST", "GET", "PUT"] {
            shapes.add(method, &format!("{expect}\r\n{length}"), SMUGGLED);
            shapes.add(method, &format!("{length}\r\n{expect}"), SMUGGLED);
            shapes.add(method, &format!("{expect}\r\nTransfer-Encoding: chunked"), &chunked);
            shapes.add(method, &format!("{expect}\r\nContent-Length: 0"), "");
            shapes.add(method, expect, "");
            let old = format!("{method} / HTTP/1.0\r\n{expect}\r\n{length}\r\n\r\n{SMUGGLED}");
            shapes.add_bytes(old.into_bytes());
        }
    }
}
