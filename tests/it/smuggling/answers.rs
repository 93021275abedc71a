//! Answers of a backend that could be read as more than one, by the thousand. In each stands an answer
//! that is nobody's.

use super::shapes::{CODINGS, JUNK, LENGTHS, chunked_bodies, latin1};
use super::stage::{Deed, MARK, Then};
use crate::fuzz::mutate::Mutator;
use crate::support::Random;

/// The answer that nobody asked for.
pub const POISON: &str = "HTTP/1.1 200 OK\r\nX-Poison: 1\r\nContent-Length: 6\r\n\r\npoison";

/// What a backend answers, and to what.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The method of the request.
    pub method: &'static str,
    /// Whether the request offers an upgrade, to `my-proto`.
    pub offers: bool,
    /// What the backend does.
    pub deed: Deed,
}

/// Collects answers.
#[derive(Debug, Default)]
struct Answers(Vec<Answer>);

impl Answers {
    /// Adds a head of these lines with what follows.
    fn add(&mut self, method: &'static str, line: &str, fields: &str, rest: &str) {
        let text = format!("HTTP/1.1 {line}\r\n{MARK}: 1\r\n{fields}\r\n\r\n{rest}");
        self.add_text(method, &text, Then::Open);
    }

    fn add_text(&mut self, method: &'static str, text: &str, then: Then) {
        let deed = Deed { bytes: latin1(text), early: false, then };
        self.0.push(Answer { method, offers: false, deed });
    }
}

/// Returns every answer, and `mutations` more that were made of them.
pub fn all(mutations: usize) -> Vec<Answer> {
    let mut answers = Answers::default();
    two_framings(&mut answers);
    bodies_where_none_belong(&mut answers);
    splits(&mut answers);
    interim(&mut answers);
    switches(&mut answers);
    // The proxy reads chunks of either side with the same decoder, so that some will do.
    for body in chunked_bodies(POISON).into_iter().step_by(3) {
        let head = format!("HTTP/1.1 200 OK\r\n{MARK}: 1\r\nTransfer-Encoding: chunked\r\n\r\n");
        answers.add_text("GET", &(head + &body), Then::Shut);
    }
    let inputs: Vec<_> = answers.0.iter().map(|answer| answer.deed.bytes.clone()).collect();
    let mutator = Mutator::new(&inputs);
    let mut random = Random::new(0xa5e);
    for _ in 0..mutations {
        let input = &inputs[random.below(inputs.len())];
        let bytes = mutator.mutated(input, &mut random);
        let deed = Deed { bytes, early: false, then: Then::Shut };
        answers.0.push(Answer { method: "GET", offers: false, deed });
    }
    answers.0
}

/// A length over everything beside chunks that end at once.
fn two_framings(answers: &mut Answers) {
    let body = format!("0\r\n\r\n{POISON}");
    for (number, length) in LENGTHS.into_iter().enumerate() {
        let length = length.replace('N', &body.len().to_string());
        for coding in CODINGS {
            let fields = if number % 2 == 0 {
                format!("{length}\r\n{coding}")
            } else {
                format!("{coding}\r\n{length}")
            };
            answers.add("GET", "200 OK", &fields, &body);
        }
        answers.add(
            "GET",
            "200 OK",
            &length.replace(&body.len().to_string(), "2"),
            &format!("ok{POISON}"),
        );
    }
    for coding in CODINGS {
        let text =
            format!("HTTP/1.1 200 OK\r\n{MARK}: 1\r\n{coding}\r\n\r\n2\r\nok\r\n0\r\n\r\n{POISON}");
        answers.add_text("GET", &text, Then::Shut);
    }
}

/// HEAD, 204, 304 and others with a body, and bodies that go on after their end.
fn bodies_where_none_belong(answers: &mut Answers) {
    let length = format!("Content-Length: {}", POISON.len());
    for method in ["GET", "HEAD", "POST"] {
        for line in [
            "200 OK",
            "204 No Content",
            "205 Reset",
            "206 Part",
            "304 Not Modified",
            "401 No",
            "404",
            "500 Broken",
            "999 Odd",
        ] {
            answers.add(method, line, &length, POISON);
            answers.add(method, line, &length, &POISON.repeat(2));
            answers.add(method, line, "Content-Length: 0", POISON);
            answers.add(method, line, "Content-Length: 2", &format!("ok{POISON}"));
            answers.add(method, line, "Transfer-Encoding: chunked", &format!("0\r\n\r\n{POISON}"));
            let chunk = format!("2\r\nok\r\n0\r\nX-Poison: 1\r\n\r\n{POISON}");
            answers.add(method, line, "Transfer-Encoding: chunked", &chunk);
            for version in ["1.0", "1.1"] {
                let text = format!("HTTP/{version} {line}\r\n{MARK}: 1\r\n\r\n{POISON}");
                answers.add_text(method, &text, Then::Shut);
            }
        }
    }
}

/// Bytes in lines that some take for the end of the line: response splitting.
fn splits(answers: &mut Answers) {
    for junk in JUNK {
        let hidden =
            ["Content-Length: 0", "\r\n", POISON, "Transfer-Encoding: chunked", "Set-Cookie: a=b"];
        for hidden in hidden {
            let start = format!("HTTP/1.1 200 OK\r\n{MARK}: 1\r\n");
            // An empty line may end the head before its length: then the body is what follows.
            let then = if hidden == "\r\n" { Then::Shut } else { Then::Open };
            for text in [
                format!("{start}X: a{junk}{hidden}\r\nContent-Length: 2\r\n\r\nok"),
                format!("{start}Content-Length: 2{junk}{hidden}\r\n\r\nok{POISON}"),
                format!(
                    "HTTP/1.1 200 OK{junk}{hidden}\r\n{MARK}: 1\r\nContent-Length: 2\r\n\r\nok"
                ),
                format!("{start}Location: /{junk}{hidden}\r\nContent-Length: 0\r\n\r\n{POISON}"),
            ] {
                answers.add_text("GET", &text, then);
            }
        }
    }
}

/// Interim answers by the thousand, with bodies, and behind the answer.
fn interim(answers: &mut Answers) {
    let ok = format!("HTTP/1.1 200 OK\r\n{MARK}: 1\r\nContent-Length: 2\r\n\r\nok");
    let interim = ["100 Continue", "102 Processing", "103 Early Hints", "199 Odd", "110"];
    for line in interim {
        for count in [1, 2, 31, 32, 33, 1000] {
            let flood = format!("HTTP/1.1 {line}\r\nLink: </a>\r\n\r\n").repeat(count);
            answers.add_text("GET", &format!("{flood}{ok}{POISON}"), Then::Open);
            answers.add_text("HEAD", &format!("{flood}{ok}"), Then::Open);
            answers.add_text("POST", &flood, Then::Shut);
        }
        for fields in [
            "Content-Length: 5",
            "Transfer-Encoding: chunked",
            "Content-Length: 5\r\nContent-Length: 5",
            "Connection: close",
            "X: a\nY: b",
        ] {
            let head = format!("HTTP/1.1 {line}\r\n{fields}\r\n\r\n");
            answers.add_text("GET", &format!("{head}{ok}"), Then::Open);
            answers.add_text("GET", &format!("{head}hello{ok}"), Then::Shut);
            answers.add_text("GET", &format!("{head}{POISON}{ok}"), Then::Open);
            answers.add_text("GET", &format!("{ok}{head}{POISON}"), Then::Open);
        }
    }
}

/// Switches that nobody asked for, or not like this.
fn switches(answers: &mut Answers) {
    let lines = [
        "",
        "Connection: Upgrade\r\n",
        "Upgrade: my-proto\r\nConnection: Upgrade\r\n",
        "Upgrade: another\r\n",
        "Upgrade: my-proto, another\r\n",
        "Upgrade:\r\n",
        "Upgrade: my-proto\r\nUpgrade: another\r\n",
        "Upgrade : my-proto\r\n",
        "Content-Length: 62\r\nUpgrade: another\r\n",
        "Transfer-Encoding: chunked\r\nUpgrade: another\r\n",
    ];
    for offers in [false, true] {
        for fields in lines {
            let is_granted =
                offers && ["Upgrade: my-proto\r\nConnection: Upgrade\r\n"].contains(&fields);
            if is_granted {
                continue;
            }
            for line in ["101 Switching Protocols", "101", "101 OK"] {
                let text = format!("HTTP/1.1 {line}\r\n{MARK}: 1\r\n{fields}\r\n{POISON}");
                answers.add_text("GET", &text, Then::Open);
                answers.0.last_mut().expect("just added").offers = offers;
            }
        }
    }
}
