//! Connections made of sound parts and, now and then, of a doubtful one.

use crate::support::Random;

/// Parts of one kind: those that any server takes, and those that servers disagree about.
struct Parts {
    sound: &'static [&'static str],
    doubtful: &'static [&'static str],
}

const METHODS: Parts = Parts {
    sound: &["GET", "POST", "PUT", "HEAD", "DELETE"],
    doubtful: &["OPTIONS", "get", "M-SEARCH", "!#$", "CONNECT", "TRACE", "PRI", "G(T", ""],
};

const TARGETS: Parts = Parts {
    sound: &["/", "/a", "/a?b=c", "/a/b%20c", "/?"],
    doubtful: &[
        "http://h/x",
        "HTTP://h:80",
        "https://[::1]/?q",
        "http://h?q",
        "*",
        "//h/x",
        "/a|b\"<>{}^`\\",
        "/#a",
        "a",
        "a:80",
        "/a b",
        "/\u{e9}",
        "http://u@h/",
        "http:///",
        "/\t",
        "",
        "?",
        "/..//./%00%zz",
    ],
};

const VERSIONS: Parts = Parts {
    sound: &["HTTP/1.1"],
    doubtful: &[
        "HTTP/1.0",
        "HTTP/1.0",
        "HTTP/1.2",
        "HTTP/2.0",
        "http/1.1",
        "HTTP/1.1 ",
        "HTTP/01.1",
        "",
    ],
};

const HOSTS: Parts = Parts {
    sound: &["Host: h\r\n", "host:h:80\r\n"],
    doubtful: &[
        "",
        "Host: h\r\nHost: h\r\n",
        "Host: a,b\r\n",
        "Host : h\r\n",
        "Host: h\n",
        "Host:\r\n",
        "Host: u@h\r\n",
        "Host: [::1]:80\r\n",
        " Host: h\r\n",
    ],
};

const LINES: Parts = Parts {
    sound: &["", "", "X: y\r\n", "Accept: */*\r\nX:\t y \t\r\n", "X:\r\n"],
    doubtful: &[
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "Connection: x, CLOSE\r\n",
        "Connection:\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade, close\r\nUpgrade: h2c, websocket/13\r\n",
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Upgrade:\r\n",
        "Expect: 100-continue\r\n",
        "Expect: something\r\n",
        "Trailer: T\r\n",
        "Trailer:\r\n",
        "TE: trailers\r\n",
        "X: y\r\n folded\r\n",
        "X: y\r\n\tfolded\r\n",
        "X : y\r\n",
        "X\r\n",
        ": y\r\n",
        "X: a\rY: b\r\n",
        "X: a\nY: b\r\n",
        "X: a\0b\r\n",
        "X: \u{ff}\u{80}\r\n",
        "X(: y\r\n",
        "!#$%&'*+-.^_`|~09Az: y\r\n",
        "\r",
        "X: a\x0b\r\n",
        "X: a\x7f\r\n",
    ],
};

/// Lines that frame a body, and the body.
const FRAMINGS: Parts = Parts {
    sound: &[
        "\r\n",
        "Content-Length: 0\r\n\r\n",
        "Content-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n1\r\nh\r\n00a\r\n0123456789\r\n0\r\n\r\n",
        "Content-Length: 38\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: smug\r\n\r\n",
    ],
    doubtful: &[
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "Content-Length: 5\r\nContent-Length: 0\r\n\r\nhello",
        "Content-Length: 5, 5\r\n\r\nhello",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: -5\r\n\r\nhello",
        "Content-Length: 0x5\r\n\r\nhello",
        "Content-Length: 05\r\n\r\nhello",
        "Content-Length: 00000000000000000000005\r\n\r\nhello",
        "Content-Length:5 \t\r\n\r\nhello",
        "Content-Length:\r\n\r\n",
        "Content-Length: 50\r\n\r\nhello",
        "Content-Length: 9223372036854775808\r\n\r\n",
        "Content-Length : 5\r\n\r\nhello",
        "Content_Length: 5\r\n\r\nhello",
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: Chunked\t\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked;a=b\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5;a=b;c=\"d\\\"\"\r\nhello\r\n0;e\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5 ; a = b\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5; a = b\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5;\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5;a\nb\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5;a=\"\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nT: v\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTrailer: T\r\n\r\n0\r\nT:\r\nContent-Length: 5\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\nT : v\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n0\r\n\n",
        "Transfer-Encoding: chunked\r\n\r\n10000000000000005\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\n00000000000000005\r\nhello\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "\n",
        "X: y\n\r\n",
    ],
};

const BETWEEN: Parts = Parts {
    sound: &[""],
    doubtful: &[
        "\r\n",
        "\r\n\r\n",
        "\r\n\r\n\r\n\r\n\r\n",
        "\n",
        "\r",
        " ",
        "garbage",
        "0\r\n\r\n",
        "\0",
    ],
};

/// Returns one part: a doubtful one once in `odds`.
fn part(parts: &Parts, odds: usize, random: &mut Random) -> Vec<u8> {
    let list = if random.below(odds) == 0 { parts.doubtful } else { parts.sound };
    let text = list[random.below(list.len())];
    // Written as text, meant as bytes: one for each character.
    text.chars().map(|c| u8::try_from(c).expect("a byte")).collect()
}

/// Returns up to three requests.
pub fn connection(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=random.below(3) {
        let line = [
            part(&METHODS, 8, random),
            b" ".to_vec(),
            part(&TARGETS, 5, random),
            b" ".to_vec(),
            part(&VERSIONS, 12, random),
            b"\r\n".to_vec(),
        ];
        bytes.extend(line.concat());
        let mut fields =
            [part(&HOSTS, 12, random), part(&LINES, 4, random), part(&LINES, 4, random)];
        let first = random.below(fields.len());
        fields.rotate_left(first);
        bytes.extend(fields.concat());
        bytes.extend(part(&FRAMINGS, 3, random));
        bytes.extend(part(&BETWEEN, 12, random));
    }
    bytes
}
