//! Files and directories of this machine that a copy makes.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_model::check_name;

use crate::failure::Failure;

/// A file that is not whole yet. Removed when dropped, unless [`Self::publish`] was called.
#[derive(Debug)]
pub(super) struct PartFile {
    /// Opened for writing.
    pub(super) file: File,
    part: PathBuf,
    target: PathBuf,
    published: bool,
}

impl PartFile {
    /// Makes an empty file beside `target`.
    pub(super) fn create(target: PathBuf) -> Result<Self, Failure> {
        static NEXT: AtomicU64 = AtomicU64::new(0);

        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        // A name of its own length: with the target's name in it, a name of 255 bytes would grow too long.
        let part = target.with_file_name(format!(".forebay-{}-{number}.part", std::process::id()));
        match File::create_new(&part) {
            Ok(file) => Ok(Self { file, part, target, published: false }),
            Err(error) => Err(refused(&target, &error)),
        }
    }

    /// Gives the file its name, over what had it before.
    pub(super) fn publish(mut self) -> Result<(), Failure> {
        fs::rename(&self.part, &self.target).map_err(|error| refused(&self.target, &error))?;
        self.published = true;
        Ok(())
    }

    /// A failure of this machine's file system on this file.
    pub(super) fn refused(&self, error: &io::Error) -> Failure {
        refused(&self.target, error)
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.published
            && let Err(error) = fs::remove_file(&self.part)
        {
            tracing::warn!(%error, file = %self.part.display(), "half-written file not removed");
        }
    }
}

/// Makes a directory; one that is there already is right.
pub(super) fn make_directory(path: &Path) -> Result<(), Failure> {
    match fs::create_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        made => made.map_err(|error| refused(path, &error)),
    }
}

/// `name` if it is one component of a path: what a node sends must not lead out of the target.
pub(super) fn checked(name: &str) -> Result<&str, Failure> {
    if name.contains('/') {
        return Err(Failure::failed(format!("the node sent {name:?} as a name: report this")));
    }
    check_name(name).map(|()| name).map_err(|problem| Failure::failed(format!("{name:?} cannot be copied: {problem}")))
}

fn refused(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_leads_out_of_the_target() {
        for name in ["", ".", "..", "a/b", "../a", "a\0"] {
            assert!(checked(name).is_err(), "{name:?}");
        }
        assert!(checked("a..b").is_ok());
    }
}
