//! Failures on demand, for tests: in debug builds alone, and only where the environment asks.

/// A point at which a debug build fails if the environment variable `PHANTOM_FRAME_FAIL` is `name`.
///
/// # Panics
///
/// On demand.
pub fn reach(name: &str) {
    let is_asked = || std::env::var_os("PHANTOM_FRAME_FAIL").is_some_and(|asked| asked == name);
    assert!(!(cfg!(debug_assertions) && is_asked()), "failing on demand: {name}");
}
