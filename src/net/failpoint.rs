//! Failures and rare ways on demand, for tests: in debug builds alone, and only where the environment asks.

/// A point at which a debug build fails if the environment variable `PHANTOM_FRAME_FAIL` is `name`.
///
/// # Panics
///
/// On demand.
pub fn reach(name: &str) {
    assert!(!is_asked(name), "failing on demand: {name}");
}

/// Whether a debug build was asked, in the same way, to take the rare way called `name`.
pub fn is_asked(name: &str) -> bool {
    let is_named = || std::env::var_os("PHANTOM_FRAME_FAIL").is_some_and(|asked| asked == name);
    cfg!(debug_assertions) && is_named()
}
