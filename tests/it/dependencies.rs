//! What we depend on: from the public registry, under licences that ask for no more than a notice, in one
//! version unless it is known why not, and never in any version at all.
//!
//! `deny.toml` says the same to `cargo deny`, which also knows advisories; this needs no network.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// Licences that may be used; an expression needs one of the alternatives in each of its parts.
const LICENCES: [&str; 10] = [
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "0BSD",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
];

/// Whether a licence expression (SPDX, or the old form with slashes) can be met.
fn is_allowed(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "");
    plain.split(" AND ").all(|part| {
        let mut choices = part.split(" OR ").flat_map(|choice| choice.split('/')).map(str::trim);
        choices.any(|choice| LICENCES.contains(&choice))
    })
}

/// What the program itself has in two versions. monoio 0.2 brings the older one of each.
const TWICE: [&str; 7] =
    ["bitflags", "flume", "getrandom", "io-uring", "memoffset", "nix", "socket2"];

/// What cargo says about the packages that are built here.
fn metadata() -> serde_json::Value {
    // Of other platforms' packages nothing needs to have been downloaded.
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs");
    let version = String::from_utf8_lossy(&output.stdout);
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("a host");
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked", "--offline"])
        .args(["--filter-platform", host])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn every_dependency_comes_from_the_registry_under_a_licence_we_can_meet() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    assert!(packages.len() > 50, "{}", packages.len());
    for package in packages {
        let name = package["name"].as_str().expect("a name");
        let licence = package["license"].as_str().unwrap_or_default();
        assert!(is_allowed(licence), "{name}: {licence:?}");
        let Some(source) = package["source"].as_str() else {
            assert_eq!(name, "phantom-frame", "a dependency by path");
            continue;
        };
        assert!(source.starts_with("registry+"), "{name} comes from {source}");
    }
}

#[test]
fn our_own_dependencies_have_versions() {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    let own = packages.iter().find(|package| package["name"] == "phantom-frame").expect("ours");
    for dependency in own["dependencies"].as_array().expect("dependencies") {
        assert_ne!(dependency["req"], "*", "{dependency}");
    }
}

#[test]
fn the_program_has_nothing_twice_without_a_reason() {
    let metadata = metadata();
    let nodes = metadata["resolve"]["nodes"].as_array().expect("nodes");
    let packages = metadata["packages"].as_array().expect("packages");
    // Macros run in the compiler.
    let is_macro = |id: &str| {
        let package = packages.iter().find(|package| package["id"] == id).expect("a package");
        package["targets"]
            .as_array()
            .expect("targets")
            .iter()
            .any(|target| target["kind"][0] == "proc-macro")
    };
    let node = |id: &str| nodes.iter().find(|node| node["id"] == id).expect("a node");
    let root = metadata["resolve"]["root"].as_str().expect("a root");
    let (mut reached, mut next) = (BTreeSet::new(), vec![root.to_owned()]);
    while let Some(id) = next.pop() {
        for dependency in node(&id)["deps"].as_array().expect("dependencies") {
            // What only tests and build scripts need is not shipped.
            let kinds = dependency["dep_kinds"].as_array().expect("kinds");
            let package = dependency["pkg"].as_str().expect("an id").to_owned();
            let is_shipped = kinds.iter().any(|kind| kind["kind"].is_null()) && !is_macro(&package);
            if is_shipped && reached.insert(package.clone()) {
                next.push(package);
            }
        }
    }
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in
        packages.iter().filter(|package| reached.contains(package["id"].as_str().unwrap()))
    {
        let name = package["name"].as_str().expect("a name");
        versions.entry(name).or_default().push(package["version"].as_str().expect("a version"));
    }
    let twice: Vec<_> = versions.iter().filter(|(_, versions)| versions.len() > 1).collect();
    let names: Vec<_> = twice.iter().map(|(name, _)| **name).collect();
    assert_eq!(names, TWICE, "{twice:?}");
}

#[test]
fn licences_are_read_as_they_are_written() {
    for allowed in ["MIT", "Apache-2.0 / MIT", "GPL-3.0 OR MIT", "(MIT OR X) AND Unicode-3.0"] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "LGPL-2.1"] {
        assert!(!is_allowed(refused), "{refused}");
    }
}
