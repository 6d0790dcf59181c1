//! The four kinds of work, and one directory prepared for one of them.

use std::fs::File;
use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use rand::rngs::SmallRng;
use rand::seq::SliceRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use rustix::fs::{Mode, OFlags};
use serde::Serialize;

/// Reads of `sequential`, and the buffer of `files`: a file of the data set fits in one.
const READ: usize = 1 << 20;
/// Reads of `random`.
const BLOCK: usize = 4096;
/// Files and folders walked; a guard against a wrong directory.
const FILES_MAX: usize = 2_000_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Open, read to the end and close every file, in random order.
    Files,
    /// Read one file from start to end in reads of 1 MiB.
    Sequential,
    /// Read 4 KiB at random places of one file.
    Random,
    /// Stat files in random order.
    Stat,
}

impl Kind {
    /// What a rate counts.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Files => "files/s",
            Self::Sequential => "bytes/s",
            Self::Random => "reads/s",
            Self::Stat => "stats/s",
        }
    }
}

/// The order in which files are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// By name, as a listing gives them.
    Listing,
    /// One order a seed.
    Random { seed: u64 },
}

/// One directory, and what of it is used.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) kind: Kind,
    /// Every file, for `files` and `stat`.
    paths: Vec<PathBuf>,
    /// The file, for `sequential` and `random`.
    file: PathBuf,
    size: u64,
}

/// What one reader does, step by step.
pub(crate) struct Steps<'a> {
    side: &'a Side,
    order: Vec<u32>,
    at: usize,
    random: SmallRng,
    open: Option<File>,
    buffer: Vec<u8>,
}

impl Side {
    /// Prepares `root`. The names come from a walk of `names_from`, the plain directory, so that both sides use the same.
    pub(crate) fn open(kind: Kind, root: &Path, file: Option<&Path>, names_from: &Path) -> Result<Self> {
        let mut side = Self { kind, paths: Vec::new(), file: PathBuf::new(), size: 0 };
        match kind {
            Kind::Files | Kind::Stat => {
                let mut names = Vec::new();
                walk(names_from, &PathBuf::new(), &mut names)?;
                names.sort();
                side.paths = names.iter().map(|name| root.join(name)).collect();
                if side.paths.is_empty() {
                    return Err(Error::new(ErrorKind::NotFound, format!("no files below {}", names_from.display())));
                }
            }
            Kind::Sequential | Kind::Random => {
                let name = file.ok_or_else(|| Error::new(ErrorKind::InvalidInput, "--file is missing"))?;
                side.file = root.join(name);
                side.size = std::fs::metadata(&side.file).map_err(|error| named(&side.file, &error))?.len();
                if side.size < BLOCK as u64 {
                    return Err(Error::new(ErrorKind::InvalidInput, "the file is too small"));
                }
            }
        }
        Ok(side)
    }

    /// Reads (or stats) everything once.
    pub(crate) fn warm(&self) -> Result<()> {
        let mut steps = Steps::new(self, 0, 1, Order::Listing)?;
        match self.kind {
            Kind::Files | Kind::Stat => (0..self.paths.len()).try_for_each(|_| steps.step().map(drop)),
            Kind::Sequential | Kind::Random => {
                let file = open(&self.file)?;
                let mut offset = 0;
                loop {
                    match rustix::io::pread(&file, &mut steps.buffer[..], offset)? {
                        0 => return Ok(()),
                        n => offset += n as u64,
                    }
                }
            }
        }
    }

    /// Nothing of this side is held open between slices, so that dropping caches drops all.
    pub(crate) fn forget_caches(&self) -> Result<()> {
        if self.file.as_os_str().is_empty() {
            return Ok(());
        }
        rustix::fs::fadvise(open(&self.file)?, 0, None, rustix::fs::Advice::DontNeed).map_err(Error::from)
    }
}

impl<'a> Steps<'a> {
    /// Reader `reader` of `readers`, in this order: each has files of its own.
    pub(crate) fn new(side: &'a Side, reader: usize, readers: usize, order: Order) -> Result<Self> {
        let mut places: Vec<u32> = (0..side.paths.len() as u32).collect();
        let seed = match order {
            Order::Listing => 0,
            Order::Random { seed } => {
                places.shuffle(&mut SmallRng::seed_from_u64(seed));
                seed
            }
        };
        let order: Vec<u32> = places.into_iter().skip(reader).step_by(readers).collect();
        let random = SmallRng::seed_from_u64(seed << 16 | reader as u64);
        let open = if side.file.as_os_str().is_empty() { None } else { Some(open(&side.file)?) };
        // Readers of one file start apart, so that they do not follow in each other's tracks.
        let pages = side.size / READ as u64;
        let at = (pages * reader as u64 / readers as u64) as usize;
        Ok(Self { side, order, at, random, open, buffer: vec![0; READ] })
    }

    /// Whether everything has been used once.
    pub(crate) fn is_through(&self) -> bool {
        match self.side.kind {
            Kind::Files | Kind::Stat => self.at >= self.order.len(),
            Kind::Sequential => (self.at * READ) as u64 >= self.side.size,
            Kind::Random => false,
        }
    }

    /// Starts anew.
    pub(crate) fn rewind(&mut self) {
        self.at = 0;
    }

    /// Does one step and returns how much it counts.
    pub(crate) fn step(&mut self) -> Result<u64> {
        match (self.side.kind, &self.open) {
            (Kind::Files, _) => {
                let path = &self.side.paths[self.order[self.at] as usize];
                self.at += 1;
                let file = open(path)?;
                while rustix::io::read(&file, &mut self.buffer[..]).map_err(|error| named(path, &error.into()))? > 0 {}
                Ok(1)
            }
            (Kind::Stat, _) => {
                let path = &self.side.paths[self.order[self.at] as usize];
                self.at += 1;
                rustix::fs::stat(path).map_err(|error| named(path, &error.into()))?;
                Ok(1)
            }
            (Kind::Sequential, Some(file)) => {
                let offset = (self.at * READ) as u64;
                self.at += 1;
                let n = rustix::io::pread(file, &mut self.buffer[..], offset)?;
                Ok(n as u64)
            }
            (Kind::Random, Some(file)) => {
                let offset = self.random.random_range(0..self.side.size / BLOCK as u64) * BLOCK as u64;
                rustix::io::pread(file, &mut self.buffer[..BLOCK], offset)?;
                Ok(1)
            }
            (Kind::Sequential | Kind::Random, None) => Err(ErrorKind::NotFound.into()),
        }
    }
}

fn open(path: &Path) -> Result<File> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    file.map(File::from).map_err(|error| named(path, &error.into()))
}

fn named(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn walk(root: &Path, below: &Path, names: &mut Vec<PathBuf>) -> Result<()> {
    for entry in std::fs::read_dir(root.join(below)).map_err(|error| named(&root.join(below), &error))? {
        let entry = entry?;
        let name = below.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(root, &name, names)?;
        } else if kind.is_file() {
            names.push(name);
        }
        if names.len() > FILES_MAX {
            return Err(Error::new(ErrorKind::InvalidInput, "too many files"));
        }
    }
    Ok(())
}
