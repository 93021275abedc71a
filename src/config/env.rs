//! The environment: `$env:NAME` strings and the file that `dotenv` names.
//!
//! Order matters. The file is read before anything is replaced, so `dotenv` itself must be literal;
//! a variable of the process wins over one of the file.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;

use super::fault::{Complaint, Fault};
use super::raw::{Node, Raw, Table};

/// What a string begins with when the environment holds its value.
pub(super) const PREFIX: &str = "$env:";

/// Separates the name of a variable from its default: `$env:PORT:-3000`.
const DEFAULT_MARK: &str = ":-";

/// The root key that is never replaced.
const DOTENV: &str = "dotenv";

/// Bytes of a file that is read at start: 4 MiB, arbitrary. It bounds what a wrong path
/// (`/dev/zero`) can cost.
const FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Reads a text file whole.
pub(super) fn read_file(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    let mut bounded = std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1);
    bounded.read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the file is larger than 4 MiB"));
    }
    Ok(text)
}

/// A variable of this process; one that is not UTF-8 counts as absent.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
pub(super) fn variable_of_process(name: &str) -> Option<String> {
    // No variable has such a name, and `std::env` is free to panic on one.
    if name.is_empty() || name.contains(['=', '\0']) {
        return None;
    }
    std::env::var(name).ok()
}

/// Reads the file that the root key `dotenv` names: `true` is `.env` in the current directory and
/// may be absent, a path must be there.
pub(super) fn read_dotenv(root: &Table) -> Result<BTreeMap<String, String>, Fault> {
    let Some(node) = root.find(DOTENV) else { return Ok(BTreeMap::new()) };
    // Of another type, or to be replaced: told with all other faults.
    let (path, may_be_absent) = if let Raw::Flag(true) = node.raw {
        (".env", true)
    } else if let Raw::Text(path) = &node.raw
        && !path.starts_with(PREFIX)
    {
        (path.as_str(), false)
    } else {
        return Ok(BTreeMap::new());
    };
    let fault = |cause: String| {
        let message = format!("failed to load .env from `{}`: {cause}", path.escape_debug());
        Complaint::new(message).at(DOTENV, node.line)
    };
    match read_file(Path::new(path)) {
        Ok(text) => parse_dotenv(&text).map_err(|complaint| fault(complaint.message)),
        Err(error) if may_be_absent && error.kind() == io::ErrorKind::NotFound => {
            Ok(BTreeMap::new())
        }
        Err(error) => Err(fault(error.to_string())),
    }
}

/// Replaces every `$env:` string of the tree except the root key `dotenv`.
pub(super) fn replace(root: &mut Table, env: &dyn Fn(&str) -> Option<String>) {
    for entry in &mut root.entries {
        if entry.key != DOTENV {
            replace_node(&mut entry.node, env);
        }
    }
}

// Bounded: the parser limits how deep a document nests.
fn replace_node(node: &mut Node, env: &dyn Fn(&str) -> Option<String>) {
    match &mut node.raw {
        Raw::Text(text) => {
            if let Some(reference) = text.strip_prefix(PREFIX) {
                node.raw = look_up(reference, env);
            }
        }
        Raw::List(nodes) => nodes.iter_mut().for_each(|node| replace_node(node, env)),
        Raw::Table(table) => {
            table.entries.iter_mut().for_each(|entry| replace_node(&mut entry.node, env));
        }
        Raw::Integer(_)
        | Raw::Float(_)
        | Raw::Flag(_)
        | Raw::Datetime
        | Raw::Variable { .. }
        | Raw::Unset { .. } => {}
    }
}

/// As in a shell, a default also stands in for a variable that is set but empty.
fn look_up(reference: &str, env: &dyn Fn(&str) -> Option<String>) -> Raw {
    let (name, default) = match reference.split_once(DEFAULT_MARK) {
        Some((name, default)) => (name, Some(default)),
        None => (reference, None),
    };
    let variable = name.to_owned();
    let found = if name.is_empty() { None } else { env(name) };
    let text = match (found, default) {
        (Some(text), None) => Some(text),
        (Some(text), Some(_)) if !text.is_empty() => Some(text),
        (_, default) => default.map(str::to_owned),
    };
    match text {
        Some(text) => Raw::Variable { variable, text },
        None => Raw::Unset { variable },
    }
}

/// Reads `KEY=VALUE` lines: `#` comments, an optional `export`, values bare or in single (literal)
/// or double quotes (with `\n`, `\t`, `\r`, `\"`, `\\`, `\$`). A quoted value may span lines.
/// Variables in values are not expanded.
fn parse_dotenv(text: &str) -> Result<BTreeMap<String, String>, Complaint> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut variables = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let offset = text.len().saturating_sub(rest.len());
        let wrong = |what: &str| {
            let above = text.bytes().take(offset).filter(|byte| *byte == b'\n').count();
            Complaint::new(format!("line {}: {what}", above + 1))
        };
        let (content, after) = split_line(rest);
        let content = content.trim();
        if content.is_empty() || content.starts_with('#') {
            rest = after;
            continue;
        }
        let (name, value) = rest
            .split_once('=')
            .filter(|(name, _)| !name.trim().contains('\n'))
            .ok_or_else(|| wrong("`=` is missing"))?;
        let name = name.trim();
        let name = name.strip_prefix("export ").unwrap_or(name).trim();
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong("the name of the variable is missing or holds a space"));
        }
        let value = value.trim_start_matches([' ', '\t']);
        let (value, after) = match value.as_bytes().first() {
            Some(b'\'') => literal(value),
            Some(b'"') => quoted(value),
            Some(_) | None => Some(bare(value)),
        }
        .ok_or_else(|| wrong("a quote is not closed, or something follows it"))?;
        variables.insert(name.to_owned(), value);
        rest = after;
    }
    Ok(variables)
}

fn split_line(text: &str) -> (&str, &str) {
    text.split_once('\n').unwrap_or((text, ""))
}

fn bare(text: &str) -> (String, &str) {
    let (line, rest) = split_line(text);
    let value = line.find(" #").and_then(|at| line.get(..at)).unwrap_or(line);
    let value = if value.starts_with('#') { "" } else { value };
    (value.trim().to_owned(), rest)
}

fn literal(text: &str) -> Option<(String, &str)> {
    let (value, rest) = text.strip_prefix('\'')?.split_once('\'')?;
    Some((value.to_owned(), after_quote(rest)?))
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let mut chars = text.strip_prefix('"')?.chars();
    let mut value = String::new();
    loop {
        match chars.next()? {
            '"' => return Some((value, after_quote(chars.as_str())?)),
            '\\' => match chars.next()? {
                'n' => value.push('\n'),
                'r' => value.push('\r'),
                't' => value.push('\t'),
                escaped @ ('"' | '\\' | '$' | '\'') => value.push(escaped),
                other => value.extend(['\\', other]),
            },
            other => value.push(other),
        }
    }
}

/// Only a comment may follow a closing quote on its line.
fn after_quote(text: &str) -> Option<&str> {
    let (line, rest) = split_line(text);
    let line = line.trim();
    (line.is_empty() || line.starts_with('#')).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dotenv_file_is_read_line_by_line() {
        let text = "\u{feff}# comment\r\n\nA=1\r\nexport B = two words # said so\n\
                    C='$x # \"y\"' # z\n\
                    D=\"a\\nb \\\"q\\\" \\$ \
                    \\\\ \\d\"\nE=\nF=#\nG=a#b\nH=x=y\nI=\"one\ntwo\"\nA=2\nJ=last";
        let found = parse_dotenv(text).unwrap();
        let expected = [
            ("A", "2"),
            ("B", "two words"),
            ("C", "$x # \"y\""),
            ("D", "a\nb \"q\" $ \\ \\d"),
            ("E", ""),
            ("F", ""),
            ("G", "a#b"),
            ("H", "x=y"),
            ("I", "one\ntwo"),
            ("J", "last"),
        ];
        let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_malformed_dotenv_line_is_refused_with_its_number() {
        for (text, message) in [
            ("A=1\nnonsense\n", "line 2: `=` is missing"),
            ("A=1\nnonsense\nB=2", "line 2: `=` is missing"),
            ("\n=1", "line 2: the name"),
            ("a b=1", "line 1: the name"),
            ("A=\"x", "line 1: a quote"),
            ("\n\nA='x", "line 3: a quote"),
            ("A='x' y", "line 1: a quote"),
        ] {
            let complaint = parse_dotenv(text).expect_err(text);
            assert!(complaint.message.starts_with(message), "{text:?}: {complaint:?}");
        }
    }

    #[test]
    fn a_variable_is_looked_up_with_its_default() {
        let env = |name: &str| match name {
            "SET" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (reference, expected) in [
            ("SET", Some("value")),
            ("SET:-other", Some("value")),
            ("EMPTY", Some("")),
            ("EMPTY:-other", Some("other")),
            ("NONE:-other", Some("other")),
            ("NONE:-", Some("")),
            ("NONE:-a:-b", Some("a:-b")),
            ("NONE", None),
            ("", None),
            (":-other", Some("other")),
        ] {
            match (look_up(reference, &env), expected) {
                (Raw::Variable { text, .. }, Some(expected)) => assert_eq!(text, expected),
                (Raw::Unset { .. }, None) => {}
                (found, _) => panic!("{reference}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_name_that_no_variable_can_have_is_absent() {
        for name in ["", "A=B", "A\0B"] {
            assert_eq!(variable_of_process(name), None);
        }
        assert!(variable_of_process("PATH").is_some());
    }
}
