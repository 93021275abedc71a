//! The layer rule: a module imports only from lower layers, never from its own; a folder is one unit.
//!
//! The numbers are read from the map in `src/lib.rs`, so that the map cannot be wrong.

use std::collections::{BTreeMap, BTreeSet};

use super::source::{Source, words};

/// The layer of each unit.
#[derive(Debug)]
pub(super) struct Layers(BTreeMap<String, u32>);

impl Layers {
    /// Reads the rows `| 1 | `net` | ... |` of the map.
    pub(super) fn from_map(lib: &str) -> Self {
        let mut layers = BTreeMap::new();
        for line in lib.lines() {
            let mut cells = line.trim_start_matches("//!").split('|').skip(1);
            let (number, names) = (cells.next().unwrap_or(""), cells.next().unwrap_or(""));
            if let Ok(number) = number.trim().parse() {
                let names = names.split('`').skip(1).step_by(2);
                layers.extend(names.map(|name| (name.to_owned(), number)));
            }
        }
        assert!(!layers.is_empty(), "no map in src/lib.rs");
        Self(layers)
    }

    /// Returns the units that the map names.
    pub(super) fn names(&self) -> BTreeSet<String> {
        self.0.keys().cloned().collect()
    }

    /// Returns the imports of a file that the rule forbids.
    pub(super) fn faults(&self, file: &Source) -> Vec<String> {
        let unit = file.unit();
        // `lib.rs` lists the modules; in the binary's modules `crate` is the binary.
        let Some(own) = self.0.get(&unit).filter(|_| unit != "main") else { return Vec::new() };
        let mut faults = escapes(file);
        for (at, name) in imports(&file.code) {
            let fault = match self.0.get(&name) {
                _ if name == unit => continue,
                Some(layer) if layer < own => continue,
                Some(layer) => format!("{unit} ({own}) imports {name} ({layer})"),
                None => format!("{unit} imports {name}, which is no unit of the map"),
            };
            faults.push(file.fault(at, &fault));
        }
        faults
    }
}

/// Returns the first names after `crate::`, each with its place.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in words(code, "crate") {
        let Some(path) = code[at..].strip_prefix("crate::") else { continue };
        let names = match path.strip_prefix('{') {
            Some(group) => first_names(group),
            None => vec![name(path)],
        };
        found.extend(names.into_iter().map(|name| (at, name)));
    }
    found
}

/// Returns the first name of each path in a group, up to its closing brace.
fn first_names(group: &str) -> Vec<String> {
    let mut names = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (at, c) in group.char_indices() {
        let ends = depth == 0 && (c == ',' || c == '}');
        if ends {
            names.push(name(group[from..at].trim_start()));
            from = at + 1;
        }
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            _ => {}
        }
    }
    names.retain(|name| !name.is_empty());
    names
}

fn name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

/// Returns the paths that leave the unit by `super`.
fn escapes(file: &Source) -> Vec<String> {
    let inline = |line: &str| line.contains("mod ") && line.ends_with('{');
    let inline = file.code.lines().any(inline);
    let reach = file.depth() + usize::from(inline);
    let too_far = "super::".repeat(reach + 1);
    let places = file.code.match_indices(&too_far);
    places.map(|(at, _)| file.fault(at, "leaves its unit by super")).collect()
}

#[test]
fn an_import_from_a_layer_that_is_not_lower_is_found() {
    let map = "//! | layer | module |\n//! |---|---|\n//! | 0 | [`http1`] |\n//! | 1 | [`net`] |\n\
               //! | 1 | [`config`] |\n//! | 7 | `api`, `main` |\n";
    let layers = Layers::from_map(map);
    assert_eq!(layers.names().len(), 5);
    for (path, text, faults) in [
        ("src/net/a.rs", "use crate::http1::head;\nuse crate::net::b;", 0),
        ("src/api.rs", "use crate::{config::Config, http1::{a, b}, net};", 0),
        ("src/net/a.rs", "use crate::config::Config;", 1),
        ("src/http1/head.rs", "use crate::{\n    net::{b, c},\n    http1::d,\n};", 1),
        ("src/http1/head.rs", "fn f() { crate::net::g() }", 1),
        ("src/net/a.rs", "use crate::Handle;", 1),
        ("src/net/a.rs", "// crate::config\nfn f() { g(\"crate::api\") }", 0),
        ("src/lib.rs", "pub use crate::api::Proxy;", 0),
        ("src/net/a.rs", "use super::b;", 0),
        ("src/net/a.rs", "use super::super::config;", 1),
        ("src/net/mod.rs", "use super::config;", 1),
        ("src/net/mod.rs", "mod tests {\n    use super::*;\n}", 0),
    ] {
        let found = layers.faults(&Source::new(path, text));
        assert_eq!(found.len(), faults, "{path}: {text}: {found:?}");
    }
}
