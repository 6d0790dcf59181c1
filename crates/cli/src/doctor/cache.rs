//! A cache directory: whether it can be written, how much fits, and what its file system can do. Tried, not guessed.

use std::fs::{self, File};
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use forebay_model::{ByteSize, Capacity};
use rustix::fs::{FallocateFlags, StatFs, fallocate, statfs};
use rustix::io::{ReadWriteFlags, preadv2};

use super::{Finding, kernel};
use crate::machine::Machine;
use crate::settings::CacheSpec;

/// `RWF_DONTCACHE` of `preadv2(2)`, Linux 6.14.
const DONTCACHE: ReadWriteFlags = ReadWriteFlags::from_bits_retain(0x80);
/// Length of the file that is tried on: two blocks of every file system, one of which is punched.
const TRIAL: usize = 128 << 10;
/// `f_type` of tmpfs, whose bytes are memory.
const TMPFS: u32 = 0x0102_1994;

/// File systems by `f_type` of `statfs(2)`: name, and why a cache should not be there.
const FILE_SYSTEMS: [(u32, &str, Option<&str>); 13] = [
    (0xEF53, "ext4", None),
    (0x5846_5342, "xfs", None),
    (0x9123_683E, "btrfs", None),
    (TMPFS, "tmpfs", None),
    (0xF2F5_2010, "f2fs", None),
    (0x2FC1_2FC1, "zfs", None),
    (0xCA45_1A4E, "bcachefs", None),
    (0x794C_7630, "overlay", Some("it is a container's layer: mount a volume for the cache")),
    (0x6969, "nfs", Some("it is on the network: choose a local disk")),
    (0xFF53_4D42, "cifs", Some("it is on the network: choose a local disk")),
    (0xFE53_4D42, "smb", Some("it is on the network: choose a local disk")),
    (0x00C3_6400, "ceph", Some("it is on the network: choose a local disk")),
    (0x6573_5546, "fuse", Some("it is served by another program: choose a local disk")),
];

/// Looks at one cache.
pub(super) fn check(cache: &CacheSpec, machine: &Machine) -> Vec<Finding> {
    let check = format!("cache {}", cache.directory.display());
    let directory = match existing(&cache.directory) {
        Ok(directory) => directory,
        Err(finding) => return vec![Finding { check, ..finding }],
    };
    let statistics = match statfs(&directory) {
        Ok(statistics) => statistics,
        Err(error) => return vec![Finding::fail(check, format!("statfs: {error}"), "choose another directory")],
    };
    let mut findings = vec![room(&check, cache, &statistics, machine)];
    findings.push(match TrialFile::create(&directory) {
        Ok(trial) => features(&check, &trial, directory != cache.directory),
        Err(error) => {
            Finding::fail(check, format!("{}: {error}", directory.display()), "give this user the right to write there")
        }
    });
    findings
}

/// The directory, or the nearest above it that exists: `up` makes what is missing.
fn existing(directory: &Path) -> Result<PathBuf, Finding> {
    let start = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    for ancestor in start.ancestors() {
        match fs::metadata(ancestor) {
            Ok(metadata) if metadata.is_dir() => return Ok(ancestor.to_owned()),
            Ok(_) => {
                let found = format!("{} is not a directory", ancestor.display());
                return Err(Finding::fail("", found, "choose another directory"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                let found = format!("{}: {error}", ancestor.display());
                return Err(Finding::fail("", found, "give this user the right to enter it"));
            }
        }
    }
    Err(Finding::fail("", "no part of its path exists", "choose another directory"))
}

fn room(check: &str, cache: &CacheSpec, statistics: &StatFs, machine: &Machine) -> Finding {
    // Block sizes are positive and a file system is far below 2^63 bytes.
    let bytes = |blocks: u64| ByteSize(blocks.saturating_mul(u64::try_from(statistics.f_bsize).unwrap_or(0)));
    let (total, free) = (bytes(statistics.f_blocks), bytes(statistics.f_bavail));
    let wanted = match cache.capacity {
        Capacity::Bytes(size) => size,
        Capacity::Percent(percent) => ByteSize(total.0 / 100 * u64::from(percent)),
    };
    let kind = statistics.f_type as u32;
    let known = FILE_SYSTEMS.iter().find(|(number, _, _)| *number == kind);
    let name = known.map_or_else(|| format!("file system {kind:#x}"), |(_, name, _)| (*name).to_owned());
    let found = format!("{wanted} on {name}, {free} free of {total}");
    if wanted > total {
        return Finding::fail(check, found, "give a size that fits, such as `80%`");
    }
    if kind == TMPFS && wanted.0 > machine.usable_memory().0 / 2 {
        let memory = machine.usable_memory();
        return Finding::warn(
            check,
            found,
            format!("its bytes are memory, and there are {memory} for everything: give less"),
        );
    }
    if let Some((_, _, Some(advice))) = known {
        return Finding::warn(check, found, *advice);
    }
    if wanted > free {
        // What the cache holds already is not free, and is its own.
        return Finding::warn(
            check,
            found,
            "if the rest is not this cache's own, free the disk or give a smaller size",
        );
    }
    Finding::ok(check, found)
}

fn features(check: &str, trial: &TrialFile, absent: bool) -> Finding {
    let can = |tried: io::Result<()>| if tried.is_ok() { "yes" } else { "no" };
    let punch = trial.punch();
    let (lease, dontcache) = (trial.lease(), trial.read_uncached());
    let absent = if absent { "absent, `forebay up` makes it; " } else { "" };
    let found = format!(
        "{absent}writable; punches holes: {}, leases: {}, reads past the page cache: {}",
        can(punch.map_err(io::Error::from)),
        can(lease),
        can(dontcache)
    );
    if punch.is_err() {
        return Finding::warn(check, found, "without holes large objects are evicted whole: prefer ext4 or xfs");
    }
    Finding::ok(check, found)
}

/// A file to try things on. Removed when dropped.
#[derive(Debug)]
struct TrialFile {
    path: PathBuf,
    file: File,
}

impl TrialFile {
    fn create(directory: &Path) -> io::Result<Self> {
        let path = directory.join(format!(".forebay-doctor-{}", std::process::id()));
        let file = File::options().read(true).write(true).create_new(true).open(&path)?;
        let trial = Self { path, file };
        trial.file.write_all_at(&vec![1; TRIAL], 0)?;
        Ok(trial)
    }

    fn punch(&self) -> rustix::io::Result<()> {
        fallocate(&self.file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, TRIAL as u64 / 2)
    }

    fn lease(&self) -> io::Result<()> {
        kernel::try_write_lease(&self.file)
    }

    fn read_uncached(&self) -> io::Result<()> {
        let mut buffer = [0; 512];
        preadv2(&self.file, &mut [IoSliceMut::new(&mut buffer)], 0, DONTCACHE)?;
        Ok(())
    }
}

impl Drop for TrialFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(%error, file = %self.path.display(), "trial file not removed");
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::doctor::State;
    use crate::settings::Value as _;

    fn run(text: &str) -> Vec<Finding> {
        let machine = Machine { cores: 2, memory: ByteSize(1 << 40), cgroup: None };
        check(&CacheSpec::parse(text).unwrap(), &machine)
    }

    #[test]
    fn a_directory_is_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        let findings = run(&format!("{}:1MB", directory.path().display()));
        assert_eq!(findings.len(), 2);
        assert!(findings[1].found.starts_with("writable"), "{findings:?}");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_absent_directory_is_made_by_up_not_here() {
        let directory = tempfile::tempdir().unwrap();
        let findings = run(&format!("{}/a/b:1MB", directory.path().display()));
        assert!(findings[1].found.starts_with("absent"), "{findings:?}");
        assert!(!directory.path().join("a").exists());
    }

    #[test]
    fn what_cannot_be_is_a_failure() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"").unwrap();
        for text in [format!("{}:1MB", file.display()), format!("{}:999999TB", directory.path().display())] {
            assert!(run(&text).iter().any(|finding| finding.state == State::Fail), "{text}");
        }
    }
}
