//! House rules, held against every file of the project: what a review would otherwise have to see.
//!
//! A rule is a function from a file to its faults. Each is tried on a bad sample first, since a rule
//! that finds nothing looks like a tidy house. What clippy can hold stands in `Cargo.toml` instead.

#![expect(clippy::string_slice, reason = "every place comes from a search of the same text")]

mod layers;
mod manifest;
mod rules;
mod source;

use std::fs;
use std::path::Path;

use layers::Layers;
use source::Source;

/// Returns the text of a file of the project.
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the Rust files under a folder of the project, in order.
fn sources(folder: &str) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![root.join(folder)];
    let mut paths = Vec::new();
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let path = entry.expect("an entry of a folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let path = path.strip_prefix(root).expect("a path below the project");
                paths.push(path.to_str().expect("a path in UTF-8").to_owned());
            }
        }
    }
    paths.sort();
    paths.iter().map(|path| Source::new(path, &read(path))).collect()
}

/// Holds a rule against the files of these folders.
fn hold(folders: &[&str], rule: impl Fn(&Source) -> Vec<String>) {
    let files: Vec<_> = folders.iter().flat_map(|folder| sources(folder)).collect();
    assert!(!files.is_empty(), "no files in {folders:?}");
    let faults: Vec<_> = files.iter().flat_map(rule).collect();
    assert!(faults.is_empty(), "\n{}\n", faults.join("\n"));
}

#[test]
fn a_module_imports_only_from_lower_layers() {
    let layers = Layers::from_map(&read("src/lib.rs"));
    hold(&["src"], |file| layers.faults(file));
}

#[test]
fn every_module_has_its_row_in_the_map() {
    let layers = Layers::from_map(&read("src/lib.rs"));
    let found = sources("src").into_iter().map(|file| file.unit());
    // The binary's own modules are told of in its file.
    let found = found.filter(|unit| !["lib", "cli", "demo"].contains(&unit.as_str()));
    assert_eq!(found.collect::<std::collections::BTreeSet<_>>(), layers.names());
}

#[test]
fn unsafe_stands_where_it_is_expected_and_says_why_it_is_sound() {
    hold(&["src", "tests"], rules::unsafe_code);
}

#[test]
fn a_file_fits_the_head() {
    hold(&["src", "tests"], rules::length);
}

#[test]
fn a_file_begins_with_what_lives_there() {
    hold(&["src", "tests"], rules::opening);
}

#[test]
fn no_marker_and_no_unwritten_code_is_left() {
    hold(&["src", "tests"], rules::markers);
}

#[test]
fn a_function_is_named_for_what_it_returns_or_does() {
    hold(&["src", "tests"], rules::names);
}

#[test]
fn the_runtimes_unsound_calls_are_not_made() {
    hold(&["src"], rules::forbidden_calls);
}

#[test]
fn no_test_is_switched_off() {
    hold(&["src", "tests"], rules::ignored_tests);
}

#[test]
fn the_changelog_has_the_current_version() {
    let fault = manifest::missing_version(&read("CHANGELOG.md"), env!("CARGO_PKG_VERSION"));
    assert_eq!(fault, None);
}

#[test]
fn every_dependency_has_its_reason() {
    assert_eq!(manifest::unexplained(&read("Cargo.toml")), Vec::<String>::new());
}

#[test]
fn every_file_of_this_binary_is_a_module_of_it() {
    let main = read("tests/it/main.rs");
    let modules: Vec<_> = main.lines().filter_map(|line| line.strip_prefix("mod ")).collect();
    let units = sources("tests/it").into_iter().map(|file| file.unit());
    let dead = units.filter(|unit| unit != "main" && !modules.contains(&&*format!("{unit};")));
    assert_eq!(dead.collect::<Vec<_>>(), Vec::<String>::new());
}
