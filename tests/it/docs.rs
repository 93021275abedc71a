//! The README says what the program does: its reference is the key table's, word for word.

use std::fs;
use std::path::Path;

const BEGIN: &str = "<!-- keys: begin -->\n";
const END: &str = "<!-- keys: end -->";

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
