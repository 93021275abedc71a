//! `config.toml` holds what the key table holds.

use super::*;
use crate::config::raw::{Raw, Table};
use crate::config::schema::{KEYS, Kind, Place};

pub(super) const CONFIG_TOML: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/config.toml"));

/// `config.toml` with every setting switched on. A setting that is off begins with `#` and no
/// space.
fn switched_on() -> String {
    let on = |line: &'static str| match line.strip_prefix('#') {
        Some(setting) if setting.starts_with(|c: char| c == '[' || c.is_ascii_lowercase()) => {
            setting
        }
        Some(_) | None => line,
    };
    CONFIG_TOML.lines().map(on).collect::<Vec<_>>().join("\n")
}

/// The table of the file in which the keys of `place` stand.
fn table(root: &Table, place: Place) -> &Table {
    let inside = |table: &str| root.find(table).unwrap().as_table().unwrap();
    let route = || inside("server").find("default").unwrap().as_table().unwrap();
    match place {
        Place::Root => root,
        Place::Runtime => inside("runtime"),
        Place::Timeouts => inside("timeouts"),
        Place::Limits => inside("limits"),
        Place::Cache => inside("cache"),
        Place::Route => route(),
        Place::Webhook => {
            let Raw::List(nodes) = &route().find("webhooks").unwrap().raw else { panic!("a list") };
            nodes[0].as_table().unwrap()
        }
        Place::OldServer => panic!("not in the new form"),
    }
}

#[test]
fn the_example_is_accepted_without_a_warning() {
    let loaded = parse(CONFIG_TOML, true, &|_| None).unwrap_or_else(|faults| panic!("{faults}"));
    assert_eq!(loaded.warnings, []);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml");
    assert_eq!(load(&path, true).unwrap(), loaded);
    assert_eq!(loaded.config, accept("[server.default]").config);
}

#[test]
fn the_example_is_accepted_with_every_setting_switched_on() {
    let text = switched_on();
    parse(&text, true, &|_| None).unwrap_or_else(|faults| panic!("{faults}"));
}

#[test]
fn the_example_shows_every_key_with_its_default() {
    let text = switched_on();
    let root = raw::parse(&text).unwrap();
    for key in KEYS.iter().filter(|key| key.place != Place::OldServer) {
        let node = table(&root, key.place).find(key.name);
        let node = node.unwrap_or_else(|| panic!("config.toml does not show `{}`", key.name));
        if !key.default.is_empty() && !matches!(key.kind, Kind::Table | Kind::Tables) {
            let default = raw::parse_value(key.default).unwrap();
            let default = value::read(key.kind, &default).unwrap();
            assert_eq!(value::read(key.kind, node).unwrap(), default, "{}", key.name);
        }
    }
}

#[test]
fn the_example_marks_what_is_inactive_by_switching_it_off() {
    let root = raw::parse(CONFIG_TOML).unwrap();
    for key in KEYS.iter().filter(|key| key.inactive.is_some() && key.place == Place::Root) {
        assert!(root.find(key.name).is_none(), "{}", key.name);
    }
    assert!(CONFIG_TOML.contains("does NOT guard the route"));
}
