//! What a store is opened with.

use std::fmt;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use forebay_model::{ByteSize, Capacity};

use crate::admission::Admission;
use crate::class::Class;
use crate::eviction::Eviction;
use crate::read::Caching;

/// One directory of a store.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// Where; made if it does not exist.
    pub path: PathBuf,
    /// How much of it the store may use.
    pub capacity: Capacity,
    /// How fast it is. None: found out when it is opened.
    pub class: Option<Class>,
}

impl DirectoryOptions {
    /// A directory whose class is found out.
    pub fn new(path: PathBuf, capacity: Capacity) -> Self {
        Self { path, capacity, class: None }
    }
}

/// What a store is opened with.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// The directories; at least one.
    pub directories: Vec<DirectoryOptions>,
    /// Bytes that may wait to be written, for each directory. More are not kept.
    pub write_queue: ByteSize,
    /// What every directory's file system keeps free for others.
    pub reserve: Reserve,
    /// Files held open at once, without those handed out and, of each directory, some 64 on their way to the disk. The process's limit of descriptors must be above it.
    pub max_open_files: usize,
    /// What the page cache is to do with what is written. [`Caching::Drop`]: pages of large contents go past it, and small
    /// objects leave it once they are on the disk.
    pub fills: Caching,
    /// How the store is read in the background and compared with its checksums.
    pub scrub: Scrub,
    /// Which policy chooses what goes when a directory is full.
    pub eviction: Eviction,
    /// What is let in, to spare flash.
    pub admission: Admission,
    /// Names this start of the machine. None: as the kernel says it.
    pub boot_id: Option<BootId>,
}

/// How everything in a store is read again and again, slowly, and compared with its checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scrub {
    /// In this time everything is read once. Zero: never.
    pub period: Duration,
    /// Bytes a second at most, over all directories. What was not checked since the machine started is read at this rate,
    /// before all else.
    pub rate_max: ByteSize,
}

impl Default for Scrub {
    /// Once a week, at 100 MB/s at most: 60 TB.
    fn default() -> Self {
        Self { period: Duration::from_secs(7 * 24 * 3600), rate_max: ByteSize(100_000_000) }
    }
}

/// Free room that a store leaves on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserve {
    /// That many bytes.
    Bytes(ByteSize),
    /// That share of the file system's size, in percent, 0 to 99.
    Percent(u8),
}

/// Names one start of the machine: what was written under another boot id may have been torn by a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BootId(pub [u8; 16]);

/// Default of [`StoreOptions::write_queue`]: 64 pages, some 30 ms of an NVMe's writing.
const WRITE_QUEUE: ByteSize = ByteSize(64 << 20);
/// Default of [`StoreOptions::reserve`].
const RESERVE: Reserve = Reserve::Percent(5);
/// Default of [`StoreOptions::max_open_files`]: half of the customary limit of 1024 descriptors.
const MAX_OPEN_FILES: usize = 512;
/// Where Linux names its boot.
const BOOT_ID_PATH: &str = "/proc/sys/kernel/random/boot_id";

impl StoreOptions {
    /// `directories` and the defaults.
    pub fn new(directories: Vec<DirectoryOptions>) -> Self {
        Self {
            directories,
            write_queue: WRITE_QUEUE,
            reserve: RESERVE,
            max_open_files: MAX_OPEN_FILES,
            fills: Caching::Keep,
            scrub: Scrub::default(),
            eviction: Eviction::default(),
            admission: Admission::default(),
            boot_id: None,
        }
    }
}

impl fmt::Display for BootId {
    /// As the kernel writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
            write!(f, "{dash}{byte:02x}")?;
        }
        Ok(())
    }
}

impl BootId {
    /// The boot id that the kernel states.
    pub(crate) fn of_kernel() -> io::Result<Self> {
        let text = fs::read_to_string(BOOT_ID_PATH)?;
        let hex: String = text.chars().filter(char::is_ascii_hexdigit).collect();
        match u128::from_str_radix(&hex, 16) {
            Ok(number) if hex.len() == 32 => Ok(Self(number.to_be_bytes())),
            _ => Err(io::Error::other(format!("{BOOT_ID_PATH} holds no boot id"))),
        }
    }
}

impl BootId {
    /// No start of any machine: what was written under it is trusted nowhere.
    pub(crate) const NONE: Self = Self([0; 16]);

    /// This start of the machine, for the directory of that device and inode only.
    pub(crate) fn at(self, dev: u64, ino: u64) -> Self {
        let place = u128::from(dev) << 64 | u128::from(ino);
        Self((u128::from_le_bytes(self.0) ^ place).to_le_bytes())
    }
}

impl Reserve {
    /// The reserve in bytes on a file system of `total` bytes.
    pub(crate) fn bytes(self, total: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.0,
            Self::Percent(percent) => share(total, percent),
        }
    }
}

/// `percent` of `total`.
pub(crate) fn share(total: u64, percent: u8) -> u64 {
    // Below 2^64: percent is at most 100 by the parser; a larger one given in code is cut here.
    (u128::from(total) * u128::from(percent.min(100)) / 100) as u64
}
