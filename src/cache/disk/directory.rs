//! The directory for files of bodies: ours alone.
//!
//! The files have no name, so nobody finds them there; but where the system cannot make one without a
//! name, it has one for a moment, and a directory that others may write would let them swap it.

use std::fs::{self, DirBuilder, Metadata};
use std::io::{Error, ErrorKind, Result};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Whoever else may write to a directory, in its mode.
const OTHERS_MAY_WRITE: u32 = 0o022;

/// The mode of a directory that we make.
const PRIVATE: u32 = 0o700;

/// Makes `directory` if it does not exist, by default one below the temporary directory that is
/// named after our user, and returns it if it is ours alone.
///
/// # Errors
///
/// Say them to whoever starts the program: the text names the directory and what to change.
pub(super) fn prepare(directory: Option<&Path>) -> Result<PathBuf> {
    let user = rustix::process::geteuid().as_raw();
    let default = || std::env::temp_dir().join(format!("phantom-frame-cache-{user}"));
    let path = directory.map_or_else(default, Path::to_path_buf);
    let named = |error: Error| Error::new(error.kind(), format!("{}: {error}", path.display()));
    DirBuilder::new().recursive(true).mode(PRIVATE).create(&path).map_err(named)?;
    // Anybody can plant a link below the temporary directory; one that was asked for is meant.
    let metadata = match directory {
        Some(path) => fs::metadata(path),
        None => fs::symlink_metadata(&path),
    };
    match fault(&metadata.map_err(named)?, user) {
        Some(fault) => {
            let text = format!("{}: {fault}", path.display());
            Err(Error::new(ErrorKind::PermissionDenied, text))
        }
        None => Ok(path),
    }
}

fn fault(metadata: &Metadata, user: u32) -> Option<String> {
    let (owner, mode) = (metadata.uid(), metadata.mode());
    if !metadata.is_dir() {
        return Some("is no directory".to_owned());
    }
    if owner != user {
        return Some(format!(
            "belongs to user {owner}, but this process is user {user}: give it a directory of its own"
        ));
    }
    let others = mode & OTHERS_MAY_WRITE != 0;
    others.then(|| format!("others may write to it (mode {:03o}): chmod 700", mode & 0o777))
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    fn refused(path: &Path, why: &str) {
        let error = prepare(Some(path)).expect_err("it is refused").to_string();
        assert!(error.contains(why) && error.contains(path.to_str().expect("text")), "{error}");
    }

    #[test]
    fn a_directory_that_is_made_is_private() {
        let parent = tempfile::tempdir().expect("a directory");
        let path = parent.path().join("a/b");
        assert_eq!(prepare(Some(&path)).expect("made"), path);
        for made in [&path, &parent.path().join("a")] {
            let mode = fs::metadata(made).expect("it exists").mode();
            assert_eq!(mode & 0o777, PRIVATE, "{}", made.display());
        }
        assert_eq!(prepare(Some(&path)).expect("it is ours"), path);
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        for (mode, others) in [(0o700, false), (0o755, false), (0o770, true), (0o1777, true)] {
            let permissions = Permissions::from_mode(mode);
            fs::set_permissions(directory.path(), permissions).expect("it is ours");
            if others {
                refused(directory.path(), "others may write to it");
            } else {
                prepare(Some(directory.path())).expect("nobody else may write");
            }
        }
    }

    #[test]
    fn a_directory_of_someone_else_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        // Only the superuser can give something away; everybody else has the root to look at.
        match chown(directory.path(), Some(12_345), None) {
            Ok(()) => refused(directory.path(), "belongs to user 12345"),
            Err(_) => refused(Path::new("/"), "belongs to user 0"),
        }
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("file");
        drop(fs::File::create(&file).expect("a file"));
        let error = prepare(Some(&file)).expect_err("it is refused").to_string();
        assert!(error.contains("file: "), "{error}");
        prepare(Some(&file.join("below"))).expect_err("it cannot be made");
        let link = directory.path().join("link");
        symlink(directory.path(), &link).expect("a link");
        prepare(Some(&link)).expect("a link that was asked for is followed");
        assert!(fault(&fs::symlink_metadata(&link).expect("a link"), 0).is_some());
    }
}
