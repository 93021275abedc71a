//! Counting what becomes of requests and tunnels, and the words under which it is told.

use super::outcome::{Outcome, Party};
use super::shard::{Client, Shard};
use crate::metrics::text::Words;
use crate::metrics::{OUTCOMES_MAX, REASONS_MAX};
use crate::tunnel::CloseReason;

const _: () = assert!(Outcome::ALL.len() <= OUTCOMES_MAX, "every outcome has a counter");
const _: () = assert!(CloseReason::ALL.len() <= REASONS_MAX, "every reason has a counter");

/// Counts a request of `client` that has ended; `method` is empty if its head could not be read.
pub(super) fn request(shard: &Shard, client: &Client, method: &str, outcome: Outcome) {
    let (route, status) = (client.route.take(), client.status.take());
    shard.counters.request(route, method, status, outcome as usize);
    if let Some(limit) = outcome.limit() {
        shard.counters.limited(limit);
    }
    if outcome == Outcome::UpgradeRefused {
        rejected(shard, outcome);
    }
}

/// Counts an upgrade that did not become a tunnel.
pub(super) fn rejected(shard: &Shard, outcome: Outcome) {
    shard.counters.upgrade_rejected(outcome as usize);
}

/// The words for what workers count, with these names of routes.
pub fn words(servers: Vec<String>) -> Words {
    Words {
        servers,
        outcomes: Outcome::ALL.iter().map(|outcome| (outcome.label(), side(*outcome))).collect(),
        rejections: Outcome::ALL.iter().map(|outcome| rejection(*outcome)).collect(),
        reasons: CloseReason::ALL.iter().map(|reason| reason.label()).collect(),
    }
}

const fn side(outcome: Outcome) -> &'static str {
    match outcome.party() {
        Party::Client => "client",
        Party::Backend => "backend",
        Party::Proxy => "proxy",
    }
}

/// Why an upgrade that ended so did not become a tunnel; empty for what ends before one is tried.
const fn rejection(outcome: Outcome) -> &'static str {
    use Outcome::{
        BadFraming, BadHead, BadHost, BadTarget, BadVersion, Connect, GetOnly, HeadTimeout,
        HeadTooLarge, NoRoute, Passed, TooManyFields, TooManyPipelined, Tunnelled, UnknownCoding,
    };
    if matches!(outcome, Passed) {
        // The backend has answered with something else than a 101, and that was relayed.
        return "backend_status";
    }
    let is_earlier = matches!(
        outcome,
        BadHead | HeadTooLarge | HeadTimeout | BadVersion | BadFraming | UnknownCoding | BadTarget
    ) || matches!(
        outcome,
        BadHost | Connect | NoRoute | GetOnly | TooManyFields | TooManyPipelined
    );
    if is_earlier || matches!(outcome, Tunnelled) { "" } else { outcome.label() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_by_index_is_told_by_its_own_word() {
        let words = words(vec!["a".to_owned()]);
        for outcome in Outcome::ALL {
            assert_eq!(words.outcomes[outcome as usize], (outcome.label(), side(outcome)));
            assert_eq!(words.rejections[outcome as usize], rejection(outcome));
        }
        for reason in CloseReason::ALL {
            assert_eq!(words.reasons[reason as usize], reason.label());
        }
    }

    #[test]
    fn no_word_stands_for_two_things() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            let mut before = Outcome::ALL.into_iter().take(index);
            assert!(before.all(|other| other.label() != outcome.label()), "{}", outcome.label());
        }
    }
}
