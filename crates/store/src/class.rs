//! How fast a directory is: given, or measured when it is opened.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::device::{self, Root};

/// How fast a directory is; the fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Memory: tmpfs.
    Mem,
    /// Flash, or whatever answers as fast.
    Ssd,
    /// Rotating disks, or whatever is as slow.
    Hdd,
}

/// The file that is written to measure.
const PROBE: &str = "class.probe";
const PROBE_LEN: usize = 4096;
/// So many writes are waited for.
const PROBES: u64 = 9;
/// A disk that turns takes a turn to write what must be on it: 4 ms on average at 7,200 a minute.
const TURN: Duration = Duration::from_millis(3);

impl Class {
    /// All, the fastest first.
    pub const ALL: [Self; 3] = [Self::Mem, Self::Ssd, Self::Hdd];

    /// Its name in settings and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Mem => "mem",
            Self::Ssd => "ssd",
            Self::Hdd => "hdd",
        }
    }
}

/// The classes of devices, as far as they were found out: two directories of one device are of one class, however busy it was when
/// each was measured.
#[derive(Debug, Default)]
pub(crate) struct Classes(HashMap<u64, Class>);

impl Classes {
    /// The class of a directory. What cannot be found out counts as flash.
    pub(crate) fn of(&mut self, root: &Root) -> Class {
        if root.is_in_memory() {
            return Class::Mem;
        }
        let Ok((device, _)) = root.place() else { return Class::Ssd };
        // The kernel says of many virtual disks that they turn: then a few writes tell.
        let turns = || is_rotational(device) && sync_time(root) > TURN;
        *self.0.entry(device).or_insert_with(|| if turns() { Class::Hdd } else { Class::Ssd })
    }
}

/// Whether the kernel says that a block device turns, or the one that it is a part of.
fn is_rotational(device: u64) -> bool {
    let base = format!("/sys/dev/block/{}:{}", libc::major(device), libc::minor(device));
    let read = |path: String| fs::read_to_string(path).ok();
    let flag = read(format!("{base}/queue/rotational")).or_else(|| read(format!("{base}/../queue/rotational")));
    flag.is_some_and(|flag| flag.trim() == "1")
}

/// How long it takes until a few bytes are on the disk: the median; none at all if it cannot be measured.
fn sync_time(root: &Root) -> Duration {
    let measure = || -> io::Result<Duration> {
        let file = root.create(PROBE)?;
        let mut times = Vec::new();
        for at in 0..PROBES {
            let begun = Instant::now();
            device::write_all_at(&file, [&[1; PROBE_LEN][..]], at * PROBE_LEN as u64)?;
            device::sync_data(&file)?;
            times.push(begun.elapsed());
        }
        times.sort();
        Ok(times[times.len() / 2])
    };
    // One may be left by a process that was killed here.
    let _ = root.unlink(PROBE);
    let time = measure();
    let _ = root.unlink(PROBE);
    time.unwrap_or_default()
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Class {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|class| class.name() == text);
        found.ok_or_else(|| format!("{text:?} is no class of directory: mem, ssd or hdd"))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn directories_of_one_device_are_of_one_class() {
        let scratch = tempfile::tempdir().unwrap();
        let (one, two) =
            (Root::open(&scratch.path().join("one")).unwrap(), Root::open(&scratch.path().join("two")).unwrap());
        let mut classes = Classes::default();
        if classes.of(&one) != Class::Mem {
            // As if it had been busy just then.
            classes.0.values_mut().for_each(|class| *class = Class::Hdd);
            assert_eq!(classes.of(&two), Class::Hdd);
        }
        assert_eq!(classes.of(&one), classes.of(&two));
    }
}
