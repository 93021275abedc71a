//! What a file says and what becomes of it: forms and defaults here, faults and `config.toml` in
//! their own files.

mod faults;
mod forms;
mod property;
mod reference;
mod renew;
mod values;

use super::*;
use crate::metrics::{AddressLimits, Rate};

/// Parses with no environment; unknown keys are warnings.
fn accept(text: &str) -> Loaded {
    parse(text, false, &|_| None).unwrap_or_else(|faults| panic!("{text}\n{faults}"))
}

/// The faults of a text, as they are displayed.
fn refuse(text: &str) -> Vec<String> {
    match parse(text, false, &|_| None) {
        Ok(loaded) => panic!("{text}\nis accepted: {loaded:?}"),
        Err(Faults(faults)) => faults.iter().map(ToString::to_string).collect(),
    }
}

/// Asserts that each of `expected` is, in this order, the start of a fault, and that there are no
/// more.
fn assert_faults(text: &str, expected: &[&str]) {
    let found = refuse(text);
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| found.starts_with(expected));
    assert!(same, "{text}\nexpected {expected:#?}\nfound {found:#?}");
}

/// The warnings of an accepted text, as they are displayed.
fn warnings(text: &str) -> Vec<String> {
    accept(text).warnings.iter().map(ToString::to_string).collect()
}
