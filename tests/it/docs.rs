//! The README says what the program does: its reference is the key table's, word for word, and its
//! metrics are those that are written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::control::get;
use crate::support::{Client, Driver, Proxy};

const BEGIN: &str = "<!-- keys: begin -->\n";
const END: &str = "<!-- keys: end -->";

/// The names in the first column of the README's section on metrics.
fn documented(readme: &str) -> BTreeSet<String> {
    let (_, rest) = readme.split_once("\n## Metrics\n").unwrap();
    let section = rest.split("\n## ").next().unwrap();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let columns = rows.filter_map(|row| row.split('|').nth(1));
    columns.flat_map(|column| column.split('`').skip(1).step_by(2)).map(str::to_owned).collect()
}

#[test]
fn the_readme_names_the_metrics_that_there_are() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md"));
    let proxy = Proxy::start(Driver::Epoll, "[server.a]\nproxy_url = \"http://127.0.0.1:1\"");
    let answer = get(&mut Client::connect(proxy.control_addr()), "/metrics");
    let families = answer.text().lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let names = families.filter_map(|family| family.split(' ').next());
    let names: BTreeSet<_> =
        names.map(|name| name.strip_prefix("phantom_frame_").unwrap().to_owned()).collect();
    assert_eq!(documented(&readme.unwrap()), names);
}

/// `BLESS=1 cargo test --test it docs` writes the reference anew.
#[test]
fn the_readme_holds_the_reference_of_the_key_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(&path).unwrap();
    let (before, rest) = readme.split_once(BEGIN).unwrap();
    let (held, after) = rest.split_once(END).unwrap();
    let reference = format!("{}\n", phantom_frame::config::reference().trim_end());
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, format!("{before}{BEGIN}{reference}{END}{after}")).unwrap();
        return;
    }
    assert_eq!(held, reference, "run with BLESS=1 to write it anew");
}
