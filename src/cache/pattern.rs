//! Patterns with `*`: which entries a purge means, and which paths are cached.
//!
//! `*` is any run of bytes anywhere, also none, also over `/`; the rest stands for itself, and a
//! pattern describes all of a text. Matching is linear in the text: since `*` is all there is, the
//! first place where a piece fits is as good as any later one, and nothing is tried twice.

use memchr::memmem::Finder;

/// Methods that may stand before a path rule, or before the path in an entry's name.
const METHODS: [&str; 9] =
    ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "CONNECT", "TRACE"];

/// A text with `*` in it.
///
/// # Examples
///
/// ```
/// use phantom_frame::cache::pattern::Pattern;
///
/// let pattern = Pattern::new("/api/*.json");
/// assert!(pattern.matches(b"/api/v1/users.json"));
/// assert!(!pattern.matches(b"/api/v1/users.json?page=2"));
/// ```
#[derive(Clone, Debug)]
pub struct Pattern {
    text: Box<str>,
    /// What stands between the first and the last `*`, without empty pieces. `None` without `*`.
    middles: Option<Box<[Finder<'static>]>>,
}

impl Pattern {
    /// Reads a pattern; every text is one.
    pub fn new(text: &str) -> Self {
        let inner = text.find('*').zip(text.rfind('*'));
        let middles = inner.map(|(first, last)| {
            let pieces = text.as_bytes().get(first..last).unwrap_or_default();
            let pieces = pieces.split(|&byte| byte == b'*').filter(|piece| !piece.is_empty());
            pieces.map(|piece| Finder::new(piece).into_owned()).collect()
        });
        Self { text: text.into(), middles }
    }

    /// Returns whether the pattern describes all of `text`.
    pub fn matches(&self, text: &[u8]) -> bool {
        let Some(middles) = &self.middles else { return text == self.text.as_bytes() };
        let (head, tail) = self.ends();
        let Some(mut rest) = text.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail))
        else {
            return false;
        };
        for middle in middles {
            let Some(at) = middle.find(rest) else { return false };
            rest = rest.get(at + middle.needle().len()..).unwrap_or_default();
        }
        true
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the first and after the last `*`.
    fn ends(&self) -> (&[u8], &[u8]) {
        let mut pieces = self.text.as_bytes().split(|&byte| byte == b'*');
        (pieces.next().unwrap_or_default(), pieces.next_back().unwrap_or_default())
    }
}

/// A pattern for names of entries, such as `GET:/api/users?page=2`.
///
/// # Examples
///
/// ```
/// use phantom_frame::cache::pattern::PurgePattern;
///
/// for text in ["GET:/api/*", "/api/*", "*users*"] {
///     assert!(PurgePattern::new(text).matches(b"GET:/api/users?page=2"), "{text}");
/// }
/// ```
#[derive(Clone, Debug)]
pub struct PurgePattern {
    pattern: Pattern,
    /// Whether it may also begin behind the `METHOD:` of a name.
    skips_method: bool,
}

impl PurgePattern {
    /// Reads a pattern; every text is one.
    pub fn new(text: &str) -> Self {
        // A `*` in front takes the method with it anyway.
        Self { pattern: Pattern::new(text), skips_method: text.starts_with('/') }
    }

    /// Returns whether the pattern describes a name: all of it, or all behind its `METHOD:` when the
    /// pattern begins with `/` or `*`.
    pub fn matches(&self, name: &[u8]) -> bool {
        let behind = || behind_method(name).is_some_and(|rest| self.pattern.matches(rest));
        self.pattern.matches(name) || (self.skips_method && behind())
    }

    /// Returns the text of a pattern without `*`.
    ///
    /// It is then a name that can be looked up; with `/` in front, also `METHOD:` and the text.
    pub fn as_exact(&self) -> Option<&str> {
        self.pattern.middles.is_none().then(|| self.pattern.as_str())
    }
}

/// Returns what follows `METHOD:` in a name.
fn behind_method(name: &[u8]) -> Option<&[u8]> {
    let colon = memchr::memchr(b':', name)?;
    let (method, rest) = name.split_at_checked(colon)?;
    METHODS.iter().any(|known| known.as_bytes() == method).then(|| rest.get(1..))?
}

/// One line of `include_paths` or `exclude_paths`: `[METHOD ]pattern`.
#[derive(Clone, Debug)]
struct PathRule {
    /// `None` is every method.
    method: Option<&'static str>,
    pattern: Pattern,
}

impl PathRule {
    fn new(text: &str) -> Self {
        let prefixed = METHODS.iter().find_map(|&method| {
            let rest = text.strip_prefix(method)?;
            let pattern = rest.trim_start_matches([' ', '\t']);
            (pattern.len() < rest.len()).then_some((method, pattern))
        });
        let (method, pattern) =
            prefixed.map_or((None, text), |(method, rest)| (Some(method), rest));
        Self { method, pattern: Pattern::new(pattern) }
    }

    fn matches(&self, method: &str, path: &[u8]) -> bool {
        self.method.is_none_or(|wanted| wanted == method) && self.pattern.matches(path)
    }
}

/// Which paths of a route are cached.
///
/// # Examples
///
/// ```
/// use phantom_frame::cache::pattern::PathRules;
///
/// let rules = PathRules::new(&["GET /api/*".to_owned()], &["*/private/*".to_owned()]);
/// assert!(rules.allows("GET", b"/api/users"));
/// assert!(!rules.allows("HEAD", b"/api/users"));
/// assert!(!rules.allows("GET", b"/api/private/users"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct PathRules {
    include: Box<[PathRule]>,
    exclude: Box<[PathRule]>,
}

impl PathRules {
    /// Reads the lines of `include_paths` and `exclude_paths`; every text is a rule.
    pub fn new(include: &[String], exclude: &[String]) -> Self {
        let rules = |lines: &[String]| lines.iter().map(|line| PathRule::new(line)).collect();
        Self { include: rules(include), exclude: rules(exclude) }
    }

    /// Returns whether a path may be cached. No `include_paths` mean every path, and `exclude_paths`
    /// win. A query in `path` is left aside: nobody excludes a path to have it cached under `?x`.
    pub fn allows(&self, method: &str, path: &[u8]) -> bool {
        let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
        let any = |rules: &[PathRule]| rules.iter().any(|rule| rule.matches(method, path));
        (self.include.is_empty() || any(&self.include)) && !any(&self.exclude)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_any_run_and_both_ends_are_anchored() {
        for (pattern, matched, not) in [
            ("", &[""][..], &["a"][..]),
            ("*", &["", "a", "/a/b", "**"], &[]),
            ("**", &["", "a"], &[]),
            ("a", &["a"], &["", "aa", "A", "a/"]),
            ("/a*", &["/a", "/ab", "/a/b/c"], &["a", "/b", " /a"]),
            ("*a", &["a", "ba", "aa"], &["ab", ""]),
            ("a*a", &["aa", "aba", "aaa"], &["a", "", "ab"]),
            ("ab*ba", &["abba", "abxba"], &["aba", "ab"]),
            ("*a*", &["a", "bab", "ab"], &["", "b"]),
            ("*ab*ab*", &["abab", "xabyabz"], &["ab", "aab", "bab"]),
            ("a*b*c", &["abc", "abbc", "axbxc", "abcbc"], &["acb", "ac", "abcb"]),
            ("a**c", &["ac", "abc"], &["a", "c"]),
            ("/[a]?.html", &["/[a]?.html"], &["/a.html", "/[a]x.html"]),
        ] {
            let compiled = Pattern::new(pattern);
            for text in matched {
                assert!(compiled.matches(text.as_bytes()), "{pattern} {text}");
            }
            for text in not {
                assert!(!compiled.matches(text.as_bytes()), "{pattern} {text}");
            }
        }
    }

    #[test]
    fn a_pattern_made_to_backtrack_is_answered_at_once() {
        let pattern = Pattern::new(&"*a".repeat(2_000));
        let mut text = vec![b'a'; 100_000];
        assert!(pattern.matches(&text));
        text.push(b'b');
        assert!(!pattern.matches(&text));
    }

    /// The definition, word for word.
    fn matches_by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => {
                (0..=text.len()).any(|from| matches_by_definition(rest, &text[from..]))
            }
            ([a, pattern @ ..], [b, text @ ..]) => a == b && matches_by_definition(pattern, text),
            ([], _) | (_, []) => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_its_definition_says(pattern in "[ab*]{0,7}", text in "[ab*]{0,9}") {
            prop_assert_eq!(
                Pattern::new(&pattern).matches(text.as_bytes()),
                matches_by_definition(pattern.as_bytes(), text.as_bytes())
            );
        }
    }

    #[test]
    fn a_purge_matches_names_with_their_method_and_without() {
        for (pattern, name, matched) in [
            ("GET:/api/*", "GET:/api/x?y", true),
            ("GET:/api/*", "HEAD:/api/x?y", false),
            ("/api/*", "GET:/api/x?y", true),
            ("/api/*", "HEAD:/api/", true),
            ("/api/*", "GET:/v1/api/x", false),
            ("/api/x", "GET:/api/x", true),
            ("/api/x", "GET:/api/x?y", false),
            ("*/api/*", "GET:/v1/api/x", true),
            ("*", "anything", true),
            ("*:/x", "GET:/x", true),
            ("api/*", "GET:api/x", false),
            ("/x", "user:/x", false),
            ("/x", "get:/x", false),
            ("/x", "/x", true),
            ("user 7", "user 7", true),
            ("GET", "GET", true),
            ("/", "GET:", false),
            ("*", "GET:", true),
        ] {
            let compiled = PurgePattern::new(pattern);
            assert_eq!(compiled.matches(name.as_bytes()), matched, "{pattern} {name}");
        }
    }

    #[test]
    fn a_pattern_without_a_star_is_a_name() {
        assert_eq!(PurgePattern::new("GET:/x?y").as_exact(), Some("GET:/x?y"));
        assert_eq!(PurgePattern::new("").as_exact(), Some(""));
        assert_eq!(PurgePattern::new("GET:/x*").as_exact(), None);
    }

    #[test]
    fn path_rules_have_methods_and_exclusion_wins() {
        let rules = |include: &[&str], exclude: &[&str]| {
            let owned = |lines: &[&str]| lines.iter().map(ToString::to_string).collect::<Vec<_>>();
            PathRules::new(&owned(include), &owned(exclude))
        };
        for (include, exclude, method, path, allowed) in [
            (&[][..], &[][..], "GET", "/x", true),
            (&["/a/*"], &[], "GET", "/a/b", true),
            (&["/a/*"], &[], "GET", "/b", false),
            (&["/a", "/b"], &[], "POST", "/b", true),
            (&["GET /a"], &[], "POST", "/a", false),
            (&["GET\t /a"], &[], "GET", "/a", true),
            (&["get /a"], &[], "GET", "/a", false),
            (&["get /a"], &[], "GET", "get /a", true),
            (&["GET/a"], &[], "GET", "GET/a", true),
            (&["PURGE /a"], &[], "PURGE", "/a", false),
            (&["GET *"], &["/a"], "GET", "/a", false),
            (&[], &["POST *"], "POST", "/a", false),
            (&[], &["POST *"], "GET", "/a", true),
            (&["/a"], &["/a"], "GET", "/a", false),
            (&["/a"], &[], "GET", "/a?b", true),
            (&[], &["/a"], "GET", "/a?/b", false),
        ] {
            let found = rules(include, exclude).allows(method, path.as_bytes());
            assert_eq!(found, allowed, "{include:?} {exclude:?} {method} {path}");
        }
        for method in METHODS {
            assert!(rules(&[&format!("{method} /x")], &[]).allows(method, b"/x"), "{method}");
        }
    }
}
