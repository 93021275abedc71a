//! The fuzz targets without a fuzzer: each runs over its corpus and over what seeded mutations make of
//! it. Whoever finds an input that fails adds it to the corpus under a name that says what it is.

pub mod mutate;

use std::collections::BTreeSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use crate::support::Random;
use crate::targets;
use mutate::Mutator;

/// Mutations of each input of a corpus: a few seconds for all targets together.
const MUTATIONS: usize = 1_500;

/// Bytes of a corpus, at most: it is read by people.
const CORPUS_BYTES_MAX: usize = 8 * 1024;

/// Returns the folder of a target's corpus.
fn folder(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(target)
}

/// Returns every input of a corpus with its name, in order.
pub fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = folder(target);
    let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let paths: BTreeSet<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    let named = paths.iter().map(|path| {
        let name = path.file_name().expect("a file").to_string_lossy().into_owned();
        (name, fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    });
    named.collect()
}

/// Runs a target over its corpus and mutations of it.
fn run(name: &str) {
    let known = targets::ALL.iter().find(|target| target.name == name);
    let target = known.unwrap_or_else(|| panic!("no target {name}"));
    let inputs = corpus(name);
    for (file, input) in &inputs {
        try_out(*target, file, input);
    }
    let inputs: Vec<_> = inputs.into_iter().map(|(_, input)| input).collect();
    let mutator = Mutator::new(&inputs);
    let mut random = Random::new(0x5eed);
    for input in &inputs {
        for _ in 0..MUTATIONS {
            try_out(*target, "a mutation", &mutator.mutated(input, &mut random));
        }
    }
}

/// Runs a target on one input, which is told if something does not hold.
fn try_out(target: targets::Target, what: &str, input: &[u8]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| (target.run)(input))) {
        println!("{}: {what}: b\"{}\"", target.name, input.escape_ascii());
        resume_unwind(panic);
    }
}

#[test]
fn a_request_head_is_understood_in_any_pieces_and_forwarded_as_it_was_meant() {
    run("request_head");
}

#[test]
fn a_response_head_is_forwarded_with_one_framing_at_most() {
    run("response_head");
}

#[test]
fn a_chunked_body_ends_where_the_grammar_says() {
    run("chunked");
}

#[test]
fn a_framing_is_declared_by_one_line_only() {
    run("framing");
}

#[test]
fn a_range_lies_within_its_body() {
    run("range");
}

#[test]
fn what_is_stored_was_allowed_to_be() {
    run("cache_control");
}

#[test]
fn a_request_matches_its_own_secondary_key() {
    run("vary");
}

#[test]
fn a_configuration_is_usable_or_has_faults_that_tell_no_secret() {
    run("config");
}

#[test]
fn the_control_endpoint_admits_by_the_token_and_answers_in_whole_responses() {
    run("control");
}

#[test]
fn a_connection_is_the_same_requests_in_any_pieces_and_to_the_backend() {
    run("connection");
}

#[test]
fn every_target_has_a_binary_and_a_corpus_that_people_can_read() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz");
    let manifest = fs::read_to_string(workspace.join("Cargo.toml")).expect("the manifest");
    let in_folder = |folder: &str| -> BTreeSet<_> {
        let entries = fs::read_dir(workspace.join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names.map(|name| name.to_string_lossy().trim_end_matches(".rs").to_owned()).collect()
    };
    let names: BTreeSet<_> = targets::ALL.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names, in_folder("corpus"));
    assert_eq!(names, in_folder("fuzz_targets"));
    for name in names {
        assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
        let inputs = corpus(&name);
        let bytes: usize = inputs.iter().map(|(_, input)| input.len()).sum();
        assert!(inputs.len() >= 10 && bytes <= CORPUS_BYTES_MAX, "{name}: {bytes} bytes");
        let is_word = |name: &str| name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        assert!(inputs.iter().all(|(name, _)| is_word(name)), "{name}");
    }
}
