//! No text panics.

use proptest::prelude::*;

use super::reference::CONFIG_TOML;
use super::*;

/// What a mutation puts into a text: whatever decides something in the grammar or in a value.
fn fragment() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "",
        "'",
        "\"",
        "\"\"\"",
        "[",
        "]",
        "[[",
        "]]",
        "{",
        "}",
        "=",
        ".",
        ",",
        "#",
        "\n",
        "\r\n",
        "\\",
        "\0",
        "é",
        "$env:",
        "$env:X",
        "$env:X:-",
        "-1",
        "0",
        "18446744073709551616",
        "1e400",
        "nan",
        "true",
        "2024-01-01T00:00:00Z",
        "[server]",
        "[server.a]",
        "server",
        "webhooks = [1]",
        "'/'",
        "\"*\"",
        "1h30m",
        "http://[::",
        "@",
        "http://",
    ]);
    prop_oneof![3 => words.prop_map(str::to_owned), 1 => any::<String>()]
}

fn parse_both(text: &str) {
    let env = |name: &str| (name == "X").then(|| "1,\u{e9},".to_owned());
    for strict in [false, true] {
        if let Err(faults) = parse(text, strict, &env) {
            assert!(!faults.0.is_empty(), "an error without a fault");
            let lines = text.lines().count() + 1;
            assert!(faults.0.iter().all(|fault| fault.line.is_none_or(|line| line <= lines)));
            assert!(!faults.to_string().is_empty());
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_judged_without_panic(text in any::<String>()) {
        parse_both(&text);
    }

    #[test]
    fn fragments_of_toml_are_judged_without_panic(
        parts in prop::collection::vec(fragment(), 0..24)
    ) {
        parse_both(&parts.concat());
    }

    #[test]
    fn any_value_of_any_key_is_judged_without_panic(
        index in 0..schema::KEYS.len(),
        value in fragment(),
        quoted in any::<bool>(),
    ) {
        let key = schema::KEYS[index].name;
        let value = if quoted { format!("{value:?}") } else { value };
        for header in ["", "[runtime]", "[timeouts]", "[limits]", "[server]", "[server.a]"] {
            parse_both(&format!("{header}\n{key} = {value}\n"));
        }
    }

    #[test]
    fn a_mutated_example_is_judged_without_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), 0..40_usize, fragment()), 1..6)
    ) {
        let mut text: Vec<char> = CONFIG_TOML.chars().collect();
        for (at, length, fragment) in cuts {
            let at = at.index(text.len() + 1);
            let end = (at + length).min(text.len());
            text.splice(at..end, fragment.chars());
        }
        parse_both(&text.into_iter().collect::<String>());
    }

    #[test]
    fn any_url_is_judged_without_panic(url in any::<String>(), rest in any::<String>()) {
        for url in [url, format!("http://{rest}")] {
            if let Ok(config) = Config::for_backend(&url) {
                let backend = &config.routes[0].backend;
                let again = Config::for_backend(&backend.to_string()).unwrap();
                assert_eq!(&again.routes[0].backend, backend);
            }
        }
    }

    #[test]
    fn a_selected_path_begins_with_a_slash(path in "[/a-c*]{0,12}") {
        let text = "[server.a]\nbind_to = '/a'\n[server.ab]\nbind_to = '/a/b'\n[server.c]\n";
        let routes = accept(text).config.routes;
        match route::select(&routes, path.as_bytes()) {
            Some((index, rest)) => {
                assert!(rest.starts_with(b"/") || rest == b"*");
                assert!(path.as_bytes().ends_with(rest) || rest == b"/");
                assert!(index == 2 || path.starts_with("/a"));
            }
            None => assert!(!path.starts_with('/') && path != "*"),
        }
    }
}
