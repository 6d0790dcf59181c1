//! What "cold" means in a run: which caches could be dropped, and which file system is asked.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::Advice;

use super::bounded::bounded;
use super::work::Slice;
use crate::failure::Failure;

/// Longer than it ever takes on a live machine; a dead mount somewhere blocks it.
const DROP_MAX: Duration = Duration::from_secs(30);
const DROP: &str = "/proc/sys/vm/drop_caches";

/// How pages of files that were read before are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cold {
    /// Those of the whole machine, with the names: root may.
    Machine,
    /// Those of each file, by advice. Not of files that are only taken: opening them would warm them.
    Files,
}

/// The file system below a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileSystem {
    pub(super) kind: String,
    /// Whether it has a cache of its own below the page cache, as far as is known.
    pub(super) is_remote: bool,
}

impl Cold {
    pub(super) fn of_process() -> Self {
        let may = std::fs::OpenOptions::new().write(true).open(DROP).is_ok();
        if may { Self::Machine } else { Self::Files }
    }

    /// What a reader of the figures has to know.
    pub(super) fn meaning(self, system: &FileSystem, made: bool) -> String {
        let pages = match (self, made) {
            (Self::Machine, _) => "the kernel's caches were dropped before",
            (Self::Files, true) => "the files' pages were dropped before (by advice: not as root)",
            (Self::Files, false) => "the kernel's caches could not be dropped (that needs root)",
        };
        let first = if made { "first read since it was written" } else { "first read in this run" };
        let below = if system.is_remote {
            format!("; what {} itself keeps of earlier runs was not dropped", system.kind)
        } else {
            String::new()
        };
        format!("{first}; {pages}{below}")
    }

    /// Drops what the kernel holds of the files that `slice` will read.
    pub(super) fn drop_pages(self, slice: &Slice, made: bool) -> Result<(), Failure> {
        match self {
            Self::Machine => bounded("dropping the kernel's caches", DROP_MAX, || {
                std::fs::write(DROP, "3").map_err(|error| Failure::failed(format!("{DROP}: {error}")))
            }),
            Self::Files if made => {
                let large = slice.file.iter().map(|file| file.path.clone());
                let paths: Vec<PathBuf> = slice.files.iter().cloned().chain(large).collect();
                bounded("dropping the files' pages", DROP_MAX, move || {
                    for file in paths.iter().filter_map(|path| File::open(path).ok()) {
                        // Advice that is not taken leaves the file warm: told nowhere by the kernel.
                        let _ = rustix::fs::fadvise(&file, 0, None, Advice::DontNeed);
                    }
                    Ok(())
                })
            }
            Self::Files => Ok(()),
        }
    }
}

impl FileSystem {
    pub(super) fn of(path: &Path) -> Self {
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::in_table(&path, &table)
    }

    fn in_table(path: &Path, table: &str) -> Self {
        let mut found = (0, "unknown");
        for line in table.lines() {
            let Some((head, tail)) = line.split_once(" - ") else { continue };
            let (Some(at), Some(kind)) = (head.split(' ').nth(4), tail.split(' ').next()) else { continue };
            let at = at.replace("\\040", " ");
            // The last of several mounts on one place is the one that is seen.
            if path.starts_with(&at) && at.len() >= found.0 {
                found = (at.len(), kind);
            }
        }
        let kind = found.1.to_owned();
        let is_remote = ["fuse", "nfs", "cifs", "smb", "ceph", "lustre", "9p", "glusterfs", "beegfs"]
            .iter()
            .any(|remote| kind.starts_with(remote));
        Self { kind, is_remote }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_mount_is_named_and_what_cold_meant() {
        let table = "1 0 8:1 / / rw - ext4 /dev/sda rw\n2 1 0:5 / /data rw shared:1 - fuse.forebay s3 ro\n\
                     3 1 0:6 / /a\\040b rw - nfs4 h:/x rw";
        let of = |path: &str| FileSystem::in_table(Path::new(path), table);
        assert_eq!((of("/data/x").kind.as_str(), of("/data/x").is_remote), ("fuse.forebay", true));
        assert_eq!((of("/database").kind.as_str(), of("/database").is_remote), ("ext4", false));
        assert_eq!(of("/a b").kind, "nfs4");
        let meaning = Cold::Files.meaning(&of("/data"), false);
        assert!(meaning.contains("needs root") && meaning.contains("fuse.forebay itself"), "{meaning}");
        assert!(!Cold::Machine.meaning(&of("/"), true).contains("itself"));
    }
}
