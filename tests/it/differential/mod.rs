//! Where our requests begin and end, judged by parsers that share nothing with ours beyond the grammar:
//! hyper's server, monoio-http's decoders, and Milo, which was written on its own.
//!
//! A difference must be that we are stricter, or stand in the table below with its reason. Whatever else
//! it is, it is somebody's second request.

mod inputs;
mod parsers;

use std::collections::BTreeMap;

use http::Uri;
use phantom_frame::http1::framing::Framing;

use crate::fuzz::{corpus, mutate::Mutator};
use crate::support::Random;
use crate::targets::{End, Message, Reader, Seen};
use parsers::{Theirs, is_same_target};

/// Generated inputs: a few seconds for all parsers.
const INPUTS: usize = 12_000;

/// What a parser makes of an input.
type Parse = fn(&[u8]) -> Vec<Theirs>;

/// A difference that is no danger.
struct Difference {
    /// Whose.
    parser: &'static str,
    kind: Kind,
    /// What the request looks like that differs.
    applies: fn(&Case<'_>) -> bool,
    /// Why it is harmless.
    why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// They refuse, or wait, where we have a request.
    WeTakeMore,
    /// They go on where we leave HTTP or have been asked to stop.
    TheyGoOn,
}

/// A request of ours where another parser differs.
struct Case<'a> {
    request: &'a Message,
    /// Its head in lower case, from the request line to the empty line.
    head: String,
    /// The bytes between its head and its end.
    body: &'a [u8],
    /// Whether empty lines precede it.
    starts_empty: bool,
}

impl<'a> Case<'a> {
    fn new(request: &'a Message, input: &'a [u8]) -> Self {
        let bytes = &input[request.start..request.end];
        // Empty lines may precede the head.
        let start = bytes.iter().position(|byte| !b"\r\n".contains(byte)).unwrap_or_default();
        let head = &bytes[start..];
        let end = head.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = head.split_at(end.expect("a head ends in an empty line") + 4);
        let head = head.iter().map(|&byte| char::from(byte.to_ascii_lowercase())).collect();
        Self { request, head, body, starts_empty: start > 0 }
    }

    /// Returns the values of a field; `name` is in lower case.
    fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let lines = self.head.split("\r\n").filter_map(|line| line.split_once(':'));
        lines
            .filter(move |(known, _)| *known == name)
            .map(|(_, value)| value.trim_matches([' ', '\t']))
    }

    /// Returns whether a list has a member that is empty or no token.
    fn has_odd_member(&self, name: &str) -> bool {
        let is_no_token = |member: &str| {
            let member = member.trim_matches([' ', '\t']);
            let is_odd =
                |byte: u8| !byte.is_ascii_graphic() || b"\"(),/:;<=>?@[\\]{}".contains(&byte);
            member.is_empty() || member.bytes().any(is_odd)
        };
        self.values(name).any(|list| list.split(',').any(is_no_token))
    }

    /// Returns whether a chunk line of the body has an extension.
    fn has_extension(&self) -> bool {
        let mut rest = self.body;
        while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
            let line = &rest[..end];
            if line.contains(&b';') {
                return true;
            }
            let size =
                str::from_utf8(line).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
            let Some(size @ 1..) = size else { return false };
            rest = rest.get(end + 2 + size + 2..).unwrap_or_default();
        }
        false
    }

    fn is_chunked(&self) -> bool {
        self.request.framing == Framing::Chunked
    }
}

/// Every difference that may be.
const DIFFERENCES: [Difference; 16] = [
    Difference {
        parser: "hyper",
        kind: Kind::TheyGoOn,
        applies: |case| case.values("upgrade").next().is_some(),
        why: "a request behind an offer to upgrade: it answers with 200 and reads on; we may have a tunnel",
    },
    Difference {
        parser: "monoio",
        kind: Kind::TheyGoOn,
        applies: |_| true,
        why: "a decoder: whether the connection persists is its caller's question",
    },
    Difference {
        parser: "hyper",
        kind: Kind::WeTakeMore,
        applies: |case| Uri::try_from(&case.request.target[..]).is_err(),
        why: "bytes in a target that browsers send and http::Uri refuses; no whitespace, no control",
    },
    Difference {
        parser: "monoio",
        kind: Kind::WeTakeMore,
        applies: |case| Uri::try_from(&case.request.target[..]).is_err(),
        why: "the same type",
    },
    Difference {
        parser: "monoio",
        kind: Kind::WeTakeMore,
        applies: |case| case.starts_empty,
        why: "empty lines before a request, which RFC 9112 2.2 asks a server to skip",
    },
    Difference {
        parser: "monoio",
        kind: Kind::WeTakeMore,
        applies: |case| case.is_chunked() && !case.request.trailers.is_empty(),
        why: "it knows no trailers",
    },
    Difference {
        parser: "monoio",
        kind: Kind::WeTakeMore,
        applies: |case| case.is_chunked() && case.has_extension(),
        why: "it knows no chunk extensions; we take them by the grammar and pass none on",
    },
    Difference {
        parser: "milo",
        kind: Kind::WeTakeMore,
        applies: |case| case.head.lines().next().is_some_and(|line| line.ends_with("http/1.0")),
        why: "it speaks no HTTP/1.0, which health checks do; we take no chunks there",
    },
    Difference {
        parser: "milo",
        kind: Kind::WeTakeMore,
        applies: |case| {
            let has_body = matches!(case.request.framing, Framing::Length(1..));
            has_body && ["GET", "HEAD"].contains(&&*case.request.method)
        },
        why: "a GET or HEAD with a body: allowed, and framed like any other on both sides of us",
    },
    Difference {
        parser: "milo",
        kind: Kind::WeTakeMore,
        applies: |case| case.request.method == "PRI",
        why: "to it the method PRI is the preface of HTTP/2, to us a method in HTTP/1.1",
    },
    Difference {
        parser: "milo",
        kind: Kind::WeTakeMore,
        applies: |case| {
            let is_odd = |byte: &u8| !byte.is_ascii() || b"\"<>\\^`{|}[]#".contains(byte);
            case.request.target.iter().any(is_odd)
        },
        why: "bytes in a target that browsers send; no whitespace, no control",
    },
    Difference {
        parser: "milo",
        kind: Kind::WeTakeMore,
        applies: |case| {
            ["connection", "upgrade", "trailer"].iter().any(|name| case.has_odd_member(name))
        },
        why: "an empty or odd member of a list that we drop or write anew",
    },
    Difference {
        parser: "milo",
        kind: Kind::WeTakeMore,
        applies: |case| case.values("trailer").next().is_some() && !case.is_chunked(),
        why: "Trailer without chunks announces nothing",
    },
    Difference {
        parser: "milo",
        kind: Kind::WeTakeMore,
        applies: |case| case.values("upgrade").next().is_some(),
        why: "Upgrade without Connection: upgrade is void (RFC 9110 7.8), and we do not pass it on",
    },
    Difference {
        parser: "milo",
        kind: Kind::WeTakeMore,
        applies: |case| case.values("content-length").any(|value| value.len() > 19),
        why: "a length of zeros and few digits; we pass it on without the zeros",
    },
    Difference {
        parser: "milo",
        kind: Kind::WeTakeMore,
        applies: |case| case.head.lines().next().is_some_and(|line| line.len() < 14),
        why: "it wants three letters in a method",
    },
];

/// What was found: how often each difference was seen, and what is in no table.
#[derive(Default)]
struct Report {
    seen: BTreeMap<usize, usize>,
    unexplained: Vec<String>,
    agreed: usize,
}

impl Report {
    /// Compares what we read of an input with what another parser did.
    fn compare(&mut self, input: &[u8], ours: &Seen, (parser, theirs): (&str, &[Theirs])) {
        for (number, request) in ours.requests.iter().enumerate() {
            let Some(their) = theirs.get(number) else {
                return self.explain(Kind::WeTakeMore, request, input, parser);
            };
            let is_same = their.method == request.method
                && is_same_target(&request.target, &their.target)
                && their.body == request.body
                && their.end.is_none_or(|end| end == request.end);
            if !is_same {
                return self.fail(input, parser, &format!("another request: {their:?}"));
            }
            self.agreed += 1;
        }
        let Some(more) = theirs.get(ours.requests.len()) else { return };
        match (ours.end, ours.requests.last()) {
            // We are stricter.
            (End::Refused, _) => {}
            (End::Last | End::Upgrade, Some(last)) => {
                self.explain(Kind::TheyGoOn, last, input, parser);
            }
            _ => self.fail(input, parser, &format!("one more: {more:?}")),
        }
    }

    fn explain(&mut self, kind: Kind, request: &Message, input: &[u8], parser: &str) {
        let case = Case::new(request, input);
        let found = DIFFERENCES
            .iter()
            .position(|row| row.kind == kind && row.parser == parser && (row.applies)(&case));
        match found {
            Some(row) => *self.seen.entry(row).or_default() += 1,
            None => self.fail(input, parser, &format!("{kind:?} at {}", request.start)),
        }
    }

    fn fail(&mut self, input: &[u8], parser: &str, what: &str) {
        self.unexplained.push(format!("{parser}: {what}\n  b\"{}\"", input.escape_ascii()));
    }
}

#[test]
fn nobody_sees_other_requests_than_we_do() {
    let runtime = parsers::runtime();
    let known: Vec<_> =
        ["connection", "request_head", "chunked"].into_iter().flat_map(corpus).collect();
    let mut inputs: Vec<_> = known.into_iter().map(|(_, input)| input).collect();
    let known = inputs.clone();
    let mutator = Mutator::new(&known);
    let mut random = Random::new(0xd1ff);
    while inputs.len() < INPUTS {
        let made = inputs::connection(&mut random);
        let input = if random.below(5) < 2 { mutator.mutated(&made, &mut random) } else { made };
        inputs.push(input);
    }
    let others: [(&str, Parse); 2] = [("monoio", parsers::monoio), ("milo", parsers::milo)];
    let mut report = Report::default();
    for input in &inputs {
        let ours = Reader::read(input);
        report.compare(input, &ours, ("hyper", &parsers::hyper(&runtime, input)));
        for (name, parse) in others {
            report.compare(input, &ours, (name, &parse(input)));
        }
    }
    let shown = report.unexplained.iter().take(40).cloned().collect::<Vec<_>>().join("\n");
    assert!(report.unexplained.is_empty(), "{} more:\n{shown}", report.unexplained.len());
    for (number, row) in DIFFERENCES.iter().enumerate() {
        let count = report.seen.get(&number).copied().unwrap_or_default();
        println!("{}: {:?}: {count} times: {}", row.parser, row.kind, row.why);
        assert!(count > 0, "no longer seen: {}: {}", row.parser, row.why);
    }
    // Inputs of which nobody takes anything would prove nothing.
    assert!(report.agreed > INPUTS, "only {} requests in common", report.agreed);
}
