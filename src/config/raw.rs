//! A TOML document as a tree whose every node knows its line.
//!
//! The parser keeps a table in the order of the alphabet; here entries stand in the order of the
//! file, because routes and faults are told in that order.

use toml::de::{DeInteger, DeTable, DeValue};

use super::fault::{Complaint, Faults};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The line of the key, or of the element of an array; `None` when no file was read.
    pub(super) line: Option<usize>,
    pub(super) raw: Raw,
}

/// A value as it was written, or as the environment replaced it.
#[derive(Clone, Debug)]
pub(super) enum Raw {
    Text(String),
    /// `None` when the number needs more than 128 bits.
    Integer(Option<i128>),
    /// The text of the number; no key takes one.
    Float(String),
    Flag(bool),
    Datetime,
    List(Vec<Node>),
    Table(Table),
    /// `$env:VARIABLE`, replaced by `text`, which stands for any type the key may have.
    Variable {
        variable: String,
        text: String,
    },
    /// `$env:VARIABLE` for which there is neither a variable nor a default.
    Unset {
        variable: String,
    },
}

/// The entries of a table, in the order of the file.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    pub(super) entries: Vec<Entry>,
}

/// A key and its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) node: Node,
}

impl Table {
    pub(super) fn find(&self, key: &str) -> Option<&Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// A table of one entry that stands in no file.
    pub(super) fn of(key: &str, raw: Raw) -> Self {
        let node = Node { line: None, raw };
        Self { entries: vec![Entry { key: key.to_owned(), node }] }
    }
}

impl Node {
    /// The table this node holds, if it holds one.
    pub(super) fn as_table(&self) -> Option<&Table> {
        if let Raw::Table(table) = &self.raw { Some(table) } else { None }
    }

    /// What stands here, for a sentence that begins with "expected".
    pub(super) fn describe(&self) -> String {
        match &self.raw {
            Raw::Text(text) => format!("the string {}", quote(text)),
            Raw::Integer(Some(number)) => format!("the number {number}"),
            Raw::Integer(None) => "a number of more than 128 bits".to_owned(),
            Raw::Float(text) => format!("the number {text}"),
            Raw::Flag(flag) => format!("`{flag}`"),
            Raw::Datetime => "a date".to_owned(),
            Raw::List(_) => "a list".to_owned(),
            Raw::Table(_) => "a table".to_owned(),
            Raw::Variable { variable, .. } => format!("the text of the variable `{variable}`"),
            Raw::Unset { variable } => format!("the variable `{variable}`, which is not set"),
        }
    }
}

/// `text` between quotes, control characters escaped, cut to the length of a line.
pub(super) fn quote(text: &str) -> String {
    const CHARS_MAX: usize = 60;
    if text.chars().nth(CHARS_MAX).is_none() {
        return format!("{text:?}");
    }
    let start: String = text.chars().take(CHARS_MAX).collect();
    format!("{start:?}...")
}

/// The path of `key` inside the table at `path`, quoted where TOML would want it quoted.
pub(super) fn join(path: &str, key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let key = if !key.is_empty() && key.chars().all(bare) { key.to_owned() } else { quote(key) };
    if path.is_empty() { key } else { format!("{path}.{key}") }
}

/// Parses a document.
///
/// # Errors
///
/// The first breach of the grammar, with its line; what follows one cannot be judged.
pub(super) fn parse(text: &str) -> Result<Table, Faults> {
    let lines = Lines::of(text);
    match DeTable::parse(text) {
        Ok(document) => Ok(table(document.get_ref(), &lines)),
        Err(error) => {
            let line = error.span().map(|span| lines.line_of(span.start));
            let message = format!("not valid TOML: {}", error.message().trim());
            Err(Complaint::new(message).at("", line).into())
        }
    }
}

/// Parses one value, such as a default of the key table; `None` when it is not valid TOML.
pub(super) fn parse_value(text: &str) -> Option<Node> {
    let value = DeValue::parse(text).ok()?;
    Some(Node { line: None, raw: raw(value.get_ref(), &Lines::of(text)) })
}

/// Where lines begin.
struct Lines {
    starts: Vec<usize>,
}

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Self { starts: ends.map(|(offset, _)| offset + 1).collect() }
    }

    fn line_of(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset) + 1
    }
}

// The parser bounds the depth of a document, so recursion is bounded here.
fn table(table: &DeTable<'_>, lines: &Lines) -> Table {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let entry = |(key, value): (&toml::Spanned<_>, &toml::Spanned<_>)| {
        let line = Some(lines.line_of(key.span().start));
        let name: &std::borrow::Cow<'_, str> = key.get_ref();
        Entry { key: name.to_string(), node: Node { line, raw: raw(value.get_ref(), lines) } }
    };
    Table { entries: entries.into_iter().map(entry).collect() }
}

fn raw(value: &DeValue<'_>, lines: &Lines) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Integer(number) => Raw::Integer(integer(number)),
        DeValue::Float(number) => Raw::Float(number.to_string()),
        DeValue::Boolean(flag) => Raw::Flag(*flag),
        DeValue::Datetime(_) => Raw::Datetime,
        DeValue::Array(elements) => {
            let element = |element: &toml::Spanned<DeValue<'_>>| Node {
                line: Some(lines.line_of(element.span().start)),
                raw: raw(element.get_ref(), lines),
            };
            Raw::List(elements.iter().map(element).collect())
        }
        DeValue::Table(inner) => Raw::Table(table(inner, lines)),
    }
}

fn integer(number: &DeInteger<'_>) -> Option<i128> {
    i128::from_str_radix(number.as_str(), number.radix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_the_order_and_the_lines_of_the_file() {
        let tree = parse(
            "b = 1\n\n[z]\nk = [\n  1,\n  \
            2,\n]\n[a.x]\n[[a.y]]\n[[a.y]]\n",
        )
        .unwrap();
        let keys: Vec<_> = tree.entries.iter().map(|e| (e.key.as_str(), e.node.line)).collect();
        assert_eq!(keys, [("b", Some(1)), ("z", Some(3)), ("a", Some(8))]);
        let z = tree.find("z").unwrap().as_table().unwrap();
        let Raw::List(elements) = &z.find("k").unwrap().raw else { panic!("a list") };
        assert_eq!(elements.iter().map(|e| e.line).collect::<Vec<_>>(), [Some(5), Some(6)]);
        let a = tree.find("a").unwrap().as_table().unwrap();
        let Raw::List(blocks) = &a.find("y").unwrap().raw else { panic!("a list") };
        assert_eq!(blocks.iter().map(|e| e.line).collect::<Vec<_>>(), [Some(9), Some(10)]);
    }

    #[test]
    fn a_breach_of_the_grammar_is_one_fault_with_its_line() {
        for (text, line) in
            [("a = 1\nb = = 2\n", 2), ("a = 1\na = 2\n", 2), ("\n\n[x\n", 3), ("a = \"x\n", 1)]
        {
            let Faults(faults) = parse(text).unwrap_err();
            assert_eq!(faults.len(), 1, "{text:?}: {faults:?}");
            assert_eq!(faults[0].line, Some(line), "{text:?}: {faults:?}");
            assert!(faults[0].message.starts_with("not valid TOML: "), "{faults:?}");
        }
    }

    #[test]
    fn integers_of_every_base_are_read() {
        for (text, number) in [
            ("1_000", Some(1000)),
            ("+7", Some(7)),
            ("-7", Some(-7)),
            ("0x1F", Some(31)),
            ("0o17", Some(15)),
            ("0b11", Some(3)),
            ("99999999999999999999999999999999999999999999", None),
        ] {
            let node = parse_value(text).unwrap();
            assert!(matches!(node.raw, Raw::Integer(n) if n == number), "{text}: {node:?}");
        }
    }

    #[test]
    fn a_path_quotes_what_toml_would_quote() {
        assert_eq!(join("server", "api"), "server.api");
        assert_eq!(join("server", "my api"), "server.\"my api\"");
        assert_eq!(join("", "x\n"), "\"x\\n\"");
    }
}
