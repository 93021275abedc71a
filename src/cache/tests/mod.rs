//! Tables for every rule of the cache, and what holds for any bytes.
//!
//! Heads are written as on the wire. `@0` in one is the date at which the response arrives, `@-10` and
//! `@10` are ten seconds before and after.

mod conditions;
mod dates;
mod differences;
mod forwards;
mod properties;
mod reuse;
mod storing;
mod varying;

use std::time::{Duration, UNIX_EPOCH};

use crate::http1::field::Fields;
use crate::http1::head::RequestHead;

use super::*;

/// When responses arrive: in November 2023, at no full second.
const ARRIVAL: Moment = Moment(1_700_000_000_400);

fn with_dates(text: &str) -> String {
    let mut parts = text.split('@');
    let mut out = parts.next().unwrap().to_owned();
    for part in parts {
        let end = part.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(part.len());
        let (offset, rest) = part.split_at(end);
        let Ok(offset) = offset.parse() else {
            out = out + "@" + part;
            continue;
        };
        let seconds = ARRIVAL.seconds().checked_add_signed(offset).unwrap();
        out += &httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(seconds));
        out += rest;
    }
    out
}

/// Parses field lines that are separated by `\n`.
fn head(lines: &[u8]) -> RequestHead<Vec<u8>> {
    let mut bytes = b"GET / HTTP/1.1\r\n".to_vec();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let len = bytes.len();
    RequestHead::parse(bytes, len, Vec::new(), 100).unwrap()
}

fn with_fields<T>(lines: &str, check: impl FnOnce(Fields<'_>) -> T) -> T {
    check(head(with_dates(lines).as_bytes()).fields())
}

fn demand(lines: &str) -> Demand {
    with_fields(lines, Demand::of)
}

/// Asks whether a response is stored that took no time.
fn store(request: &str, status: u16, response: &str, rules: &Rules) -> Result<Terms, Unstorable> {
    let times = Times { sent: ARRIVAL, received: ARRIVAL };
    let demand = demand(request);
    with_fields(response, |fields| may_store(&demand, status, fields, times, rules))
}

fn stored(response: &str) -> Terms {
    store("", 200, response, &Rules::default()).expect(response)
}

const fn later(seconds: u64) -> Moment {
    ARRIVAL.plus_millis(seconds * 1000)
}
