//! The rules about one file at a time, and for each a sample that breaks it.

use super::source::{Source, words};

/// Where unsafe code may stand; every other file does without.
const UNSAFE_FILES: [&str; 5] = [
    "src/net/stream.rs",
    "src/tunnel/ring/buffers.rs",
    "src/tunnel/ring/port.rs",
    "src/worker/relief.rs",
    "tests/it/support/launch.rs",
];

/// The head of whoever reads a file; a subject that needs more is two subjects.
const LINES_MAX: usize = 600;

/// Lines above an unsafe block in which its reason must begin.
const SAFETY_LINES: usize = 6;

/// Words that announce work instead of doing it; put together here, so that this file has none.
const MARKERS: [&str; 4] =
    [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX"), concat!("HA", "CK")];

/// Words that say nothing about what a function does.
const EMPTY_PREFIXES: [&str; 4] = ["get_", "do_", "handle_", "process_"];

/// Calls of monoio 0.2 that are unsound, or that stop a core.
const FORBIDDEN: [&str; 6] = [
    "write_vectored_all",
    "read_vectored_exact",
    "BufWriter",
    "spawn_blocking",
    "zero_copy",
    "io::copy",
];

/// Units that run on no worker: there, some of these names are std's and harmless.
const OFF_THE_CORES: [&str; 5] = ["server", "demo", "cli", "main", "lib"];

pub(super) fn unsafe_code(file: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for at in words(&file.code, "unsafe") {
        let above: Vec<_> = file.text[..at].lines().rev().take(SAFETY_LINES).collect();
        if !UNSAFE_FILES.contains(&file.path.as_str()) {
            faults.push(file.fault(at, "unsafe code in a file that is not expected to have any"));
        } else if !above.iter().any(|line| line.trim_start().starts_with("// SAFETY: ")) {
            faults.push(file.fault(at, "unsafe code without a SAFETY note"));
        }
    }
    faults
}

pub(super) fn length(file: &Source) -> Vec<String> {
    let lines = file.text.lines().count();
    let fault = format!("{}: {lines} lines, more than {LINES_MAX}", file.path);
    if lines > LINES_MAX { vec![fault] } else { Vec::new() }
}

pub(super) fn opening(file: &Source) -> Vec<String> {
    let first = file.text.lines().next().unwrap_or_default();
    let says = first.strip_prefix("//! ").is_some_and(|words| !words.trim().is_empty());
    if says { Vec::new() } else { vec![file.fault(0, "does not begin with //! and a sentence")] }
}

pub(super) fn markers(file: &Source) -> Vec<String> {
    let in_text = MARKERS.iter().flat_map(|marker| words(&file.text, marker));
    let mut places: Vec<_> = in_text.collect();
    for unwritten in ["todo", "unimplemented"] {
        let calls = words(&file.code, unwritten).into_iter();
        places.extend(calls.filter(|at| file.code[at + unwritten.len()..].starts_with('!')));
    }
    places.into_iter().map(|at| file.fault(at, "a marker or unwritten code")).collect()
}

pub(super) fn names(file: &Source) -> Vec<String> {
    let mut faults = Vec::new();
    for at in words(&file.code, "fn") {
        let name = file.code[at + 2..].trim_start();
        let end = name.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(name.len());
        let name = &name[..end];
        if EMPTY_PREFIXES.iter().any(|empty| name.starts_with(empty)) || name.ends_with("_inner") {
            faults.push(file.fault(at, &format!("the name {name}")));
        }
    }
    let module = file.path.trim_end_matches(".rs").rsplit('/').next().unwrap_or_default();
    if ["util", "utils", "common", "manager", "helpers", "misc"].contains(&module) {
        faults.push(format!("{}: the name {module}", file.path));
    }
    faults
}

pub(super) fn forbidden_calls(file: &Source) -> Vec<String> {
    let elsewhere = OFF_THE_CORES.contains(&file.unit().as_str());
    let mut faults = Vec::new();
    for forbidden in FORBIDDEN {
        // Whatever the unit, through monoio's own path it is never harmless.
        let path = format!("monoio::{forbidden}");
        let named = if elsewhere { path.as_str() } else { forbidden };
        let places = words(&file.code, named).into_iter();
        faults.extend(places.map(|at| file.fault(at, &format!("{forbidden} is unsound or slow"))));
    }
    faults
}

pub(super) fn ignored_tests(file: &Source) -> Vec<String> {
    let places = file.code.match_indices("#[ignore").map(|(at, _)| at);
    places.map(|at| file.fault(at, "a test that is switched off")).collect()
}

/// Counts the faults that a rule finds in a sample.
#[cfg(test)]
fn count(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> usize {
    rule(&Source::new(path, text)).len()
}

#[test]
fn unsafe_code_is_found_outside_of_its_files_and_without_a_note() {
    let noted = "// SAFETY: a reason\n// that takes two lines.\nunsafe { f() }";
    for (path, text, faults) in [
        ("src/net/stream.rs", noted, 0),
        ("src/net/stream.rs", "fn f() {\n    unsafe { f() }\n}", 1),
        ("src/net/stream.rs", "#![expect(unsafe_code)]\n// unsafe", 0),
        ("src/net/buffer.rs", noted, 1),
        ("src/http1/head.rs", "unsafe fn f() {}", 1),
    ] {
        assert_eq!(count(unsafe_code, path, text), faults, "{path}: {text}");
    }
}

#[test]
fn a_long_file_and_one_without_an_opening_are_found() {
    assert_eq!(count(length, "src/a.rs", &"x\n".repeat(600)), 0);
    assert_eq!(count(length, "src/a.rs", &"x\n".repeat(601)), 1);
    assert_eq!(count(opening, "src/a.rs", "//! What lives here.\n"), 0);
    for text in ["use std::io;\n//! Late.", "//!\n", "//! \n", "", "\n//! Late."] {
        assert_eq!(count(opening, "src/a.rs", text), 1, "{text}");
    }
}

#[test]
fn markers_and_unwritten_code_are_found() {
    for marker in MARKERS {
        assert_eq!(count(markers, "src/a.rs", &format!("f(); // {marker}: later")), 1, "{marker}");
    }
    // Put together here, so that a search for the real ones does not find them.
    for call in ["todo", "unimplemented"] {
        assert_eq!(count(markers, "src/a.rs", &format!("fn f() {{ {call}!() }}")), 1, "{call}");
    }
    assert_eq!(count(markers, "src/a.rs", "fn todo() { \"todo!\" } // hacks"), 0);
}

#[test]
fn names_that_say_nothing_are_found() {
    for text in ["fn get_a()", "pub(super) async fn do_it()", "fn handle_x<T>()", "fn run_inner()"]
    {
        assert_eq!(count(names, "src/a.rs", text), 1, "{text}");
    }
    for text in ["fn getter()", "fn get()", "fn done()", "a.get_ref()", "// fn get_a()"] {
        assert_eq!(count(names, "src/a.rs", text), 0, "{text}");
    }
    assert_eq!(count(names, "src/net/util.rs", ""), 1);
}

#[test]
fn forbidden_calls_are_found_on_the_cores() {
    for forbidden in FORBIDDEN {
        let text = format!("fn f() {{ stream.{forbidden}(buffers) }}");
        assert_eq!(count(forbidden_calls, "src/net/a.rs", &text), 1, "{forbidden}");
        assert_eq!(count(forbidden_calls, "src/server/log.rs", &text), 0, "{forbidden}");
    }
    assert_eq!(count(forbidden_calls, "src/server/a.rs", "monoio::spawn_blocking(f)"), 1);
    assert_eq!(count(forbidden_calls, "src/net/a.rs", "// never BufWriter"), 0);
}

#[test]
fn tests_that_are_switched_off_are_found() {
    let bare = format!("#[{}]", "ignore");
    assert_eq!(count(ignored_tests, "src/a.rs", &format!("{bare}\nfn f() {{}}")), 1);
    assert_eq!(count(ignored_tests, "src/a.rs", "#[ignore = \"slow\"]\nfn f() {}"), 1);
    assert_eq!(count(ignored_tests, "src/a.rs", &format!("// {bare}\nfn ignore() {{}}")), 0);
}
