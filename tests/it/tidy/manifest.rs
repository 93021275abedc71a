//! The rules about the files beside the code: the changelog and the list of dependencies.

/// Returns what is missing when the changelog has no heading for this version.
pub(super) fn missing_version(changelog: &str, version: &str) -> Option<String> {
    let headings = changelog.lines().filter_map(|line| line.strip_prefix("## "));
    let mut versions = headings.filter_map(|heading| heading.split([' ', ']']).next());
    let found = versions.any(|found| found.trim_start_matches('[') == version);
    (!found).then(|| format!("CHANGELOG.md has no heading for {version}"))
}

/// Returns the dependencies without a comment right above them.
pub(super) fn unexplained(manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let (mut in_table, mut explained) = (false, false);
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_table = line.trim_end().ends_with("dependencies]");
        }
        let is_comment = line.starts_with("# ");
        let is_dependency = in_table && line.contains('=') && !line.starts_with('[') && !is_comment;
        if is_dependency && !explained {
            found.push(line.to_owned());
        }
        explained = is_comment;
    }
    found
}

#[test]
fn a_changelog_without_the_version_is_found() {
    for good in ["# Changelog\n\n## 1.2.3 - unreleased\n", "## [1.2.3]\n", "## 1.2.3"] {
        assert_eq!(missing_version(good, "1.2.3"), None, "{good}");
    }
    for bad in ["", "## 1.2.30\n", "version 1.2.3\n", "## 1.2.2\n\nbefore 1.2.3"] {
        assert!(missing_version(bad, "1.2.3").is_some(), "{bad}");
    }
}

#[test]
fn a_dependency_without_a_reason_is_found() {
    let good = "[package]\nname = \"a\"\n\n[dependencies]\n# Why.\na = \"1\"\n\n[lints]\nb = 1\n";
    assert_eq!(unexplained(good), Vec::<String>::new());
    for table in ["dependencies", "dev-dependencies", "target.'cfg(a = \"b\")'.dependencies"] {
        let bad = format!("[{table}]\n# Why.\na = \"1\"\nb = {{ version = \"2\" }}\n");
        assert_eq!(unexplained(&bad), ["b = { version = \"2\" }"], "{table}");
    }
}
