//! A Rust file as the rules see it: its text, and the same text with comments and literals blanked.
//!
//! The scanner knows comments, strings, raw strings and characters, and no more of the language.

/// One file.
#[derive(Debug)]
pub(super) struct Source {
    /// From the project's root.
    pub(super) path: String,
    pub(super) text: String,
    /// Line for line as long as `text`: what is left is code.
    pub(super) code: String,
}

impl Source {
    pub(super) fn new(path: &str, text: &str) -> Self {
        Self { path: path.to_owned(), text: text.to_owned(), code: code_of(text) }
    }

    /// Returns the unit it belongs to: the folder or file right below `src` or `tests/it`.
    pub(super) fn unit(&self) -> String {
        let below = self.below_root();
        let first = below.split('/').next().unwrap_or(below);
        first.trim_end_matches(".rs").to_owned()
    }

    /// Returns how many modules of the unit it lies in: 0 for `net/mod.rs`, 1 for `net/stream.rs`.
    pub(super) fn depth(&self) -> usize {
        let below = self.below_root();
        let folders = below.matches('/').count();
        if below.ends_with("/mod.rs") { folders - 1 } else { folders }
    }

    /// Returns the fault of this rule at a byte of the code.
    pub(super) fn fault(&self, at: usize, fault: &str) -> String {
        let line = self.code[..at].matches('\n').count() + 1;
        format!("{}:{line}: {fault}", self.path)
    }

    fn below_root(&self) -> &str {
        let roots = ["src/", "tests/it/", "tests/"];
        let below = roots.iter().find_map(|root| self.path.strip_prefix(root));
        below.unwrap_or(&self.path)
    }
}

/// Returns the places where `word` stands in `code` and is not a part of a longer name.
pub(super) fn words(code: &str, word: &str) -> Vec<usize> {
    let part = |c: char| c.is_alphanumeric() || c == '_';
    let stands_alone =
        |at: usize| !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part);
    code.match_indices(word).map(|(at, _)| at).filter(|at| stands_alone(*at)).collect()
}

/// Blanks comments and the contents of literals; line ends stay.
fn code_of(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = skipped(rest, code.chars().next_back()).unwrap_or(0);
        if length == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            // Blanked byte for byte, so that places in the code are places in the text.
            let blank = |byte| if byte == b'\n' { '\n' } else { ' ' };
            code.extend(rest.bytes().take(length).map(blank));
            rest = &rest[length..];
        }
    }
    code
}

/// Returns the length of the comment or literal at the front of `rest`, if there is one.
fn skipped(rest: &str, before: Option<char>) -> Option<usize> {
    let after_name = before.is_some_and(|c| c.is_alphanumeric() || c == '_');
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(rest.find("*/").map_or(rest.len(), |end| end + 2));
    }
    if rest.starts_with('"') {
        return Some(quoted(rest, '"'));
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    let raw = rest.strip_prefix('r').filter(|_| !after_name || before == Some('b'))?;
    let hashes = raw.len() - raw.trim_start_matches('#').len();
    raw[hashes..].strip_prefix('"')?;
    let close = format!("\"{}", "#".repeat(hashes));
    let from = 1 + hashes + 1;
    Some(rest[from..].find(&close).map_or(rest.len(), |end| from + end + close.len()))
}

/// Returns the length of a literal up to its closing quote.
fn quoted(rest: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        if c == quote && !escaped {
            return at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    rest.len()
}

/// Returns the length of a character literal; a lifetime is none.
fn character(rest: &str) -> Option<usize> {
    let mut chars = rest.chars().skip(1);
    let (first, second) = (chars.next()?, chars.next());
    (first == '\\' || second == Some('\'')).then(|| quoted(rest, '\''))
}

#[test]
fn only_code_is_left_of_a_file() {
    for (text, code) in [
        ("a // b\nc", "a     \nc"),
        ("a /* b\n */ c", "a     \n    c"),
        ("f(\"x // y\", z)", "f(        , z)"),
        ("\"a\\\"b\" c", "       c"),
        ("'\"' a '\\'' b: &'a str", "    a      b: &'a str"),
        ("r#\"a\" b\"# c br\"d\" e", "          c b     e"),
        ("for\"x\"", "for   "),
        ("\"ü\" a", "     a"),
    ] {
        assert_eq!(code_of(text), code, "{text}");
        assert_eq!(code_of(text).len(), text.len(), "{text}");
    }
}

#[test]
fn a_word_is_not_found_inside_another() {
    assert_eq!(words("unsafe_code unsafe{ notunsafe", "unsafe"), [12]);
}

#[test]
fn a_file_knows_its_unit_and_its_depth() {
    for (path, unit, depth) in [
        ("src/api.rs", "api", 0),
        ("src/net/mod.rs", "net", 0),
        ("src/net/stream.rs", "net", 1),
        ("src/http1/forward/mod.rs", "http1", 1),
        ("src/http1/forward/request.rs", "http1", 2),
        ("tests/it/tidy/mod.rs", "tidy", 0),
    ] {
        let file = Source::new(path, "");
        assert_eq!((&*file.unit(), file.depth()), (unit, depth), "{path}");
    }
}
