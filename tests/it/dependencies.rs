//! What we depend on: from the public registry, under licences that ask for no more than a notice.
//!
//! `deny.toml` says the same to `cargo deny`, which also knows advisories; this needs no network.

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

#[test]
fn every_dependency_comes_from_the_registry_under_a_licence_we_can_meet() {
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
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
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
fn licences_are_read_as_they_are_written() {
    for allowed in ["MIT", "Apache-2.0 / MIT", "GPL-3.0 OR MIT", "(MIT OR X) AND Unicode-3.0"] {
        assert!(is_allowed(allowed), "{allowed}");
    }
    for refused in ["", "GPL-3.0", "MIT AND GPL-3.0", "LGPL-2.1"] {
        assert!(!is_allowed(refused), "{refused}");
    }
}
