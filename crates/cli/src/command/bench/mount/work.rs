//! The kinds of work, and one slice of one of them: readers that work until its time is over.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Barrier, mpsc};
use std::time::{Duration, Instant};

use super::Stop;
use super::bounded::PATIENCE;
use super::figures::{Figures, Share};
use crate::failure::Failure;

/// Reads of files and of large ones from start to end.
const READ: usize = 1 << 20;
/// Reads at random places.
pub(super) const BLOCK: usize = 4096;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// List and stat all that is there, once.
    Walk,
    /// Open, read to the end and close small files, in random order.
    Files,
    /// Read a large file from start to end in reads of 1 MiB.
    Sequential,
    /// Read 4 KiB at random places of a large file.
    Random,
    /// Stat files in random order.
    Stat,
    /// List a directory, with types.
    List,
}

impl Work {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Walk => "list and stat all",
            Self::Files => "small files",
            Self::Sequential => "sequential",
            Self::Random => "random 4 KiB",
            Self::Stat => "stat",
            Self::List => "list",
        }
    }

    /// What its rate counts.
    pub(super) fn unit(self) -> &'static str {
        match self {
            Self::Walk | Self::List => "names/s",
            Self::Files => "files/s",
            Self::Sequential | Self::Random => "reads/s",
            Self::Stat => "stats/s",
        }
    }

    /// For programs.
    pub(super) fn id(self) -> &'static str {
        match self {
            Self::Walk => "walk",
            Self::Files => "files",
            Self::Sequential => "sequential",
            Self::Random => "random",
            Self::Stat => "stat",
            Self::List => "list",
        }
    }
}

/// A large file, and how much of it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Large {
    pub(super) path: PathBuf,
    pub(super) size: u64,
}

/// Readers at work on one side.
#[derive(Clone, Debug)]
pub(super) struct Slice {
    pub(super) work: Work,
    pub(super) readers: usize,
    pub(super) limit: Duration,
    /// Each file is used once: a second use would find what the first has brought.
    pub(super) once: bool,
    /// For small files and stats.
    pub(super) files: Arc<[PathBuf]>,
    /// For sequential and random reads.
    pub(super) file: Option<Large>,
    /// For lists.
    pub(super) directory: PathBuf,
    pub(super) seed: u64,
}

impl Slice {
    pub(super) fn new(work: Work, readers: usize) -> Self {
        let (files, directory) = (Arc::from([]), PathBuf::new());
        Self { work, readers, limit: Duration::ZERO, once: false, files, file: None, directory, seed: 1 }
    }

    /// The same in another order.
    pub(super) fn turn(&self, turn: u32) -> Self {
        Self { seed: self.seed + u64::from(turn), ..self.clone() }
    }

    /// Runs it. A reader that does not end in time makes an error that says so.
    pub(super) fn run(&self, stop: &Stop) -> Result<Figures, Failure> {
        let (done, wait) = mpsc::channel();
        let start = Arc::new(Barrier::new(self.readers));
        for reader in 0..self.readers {
            let (slice, start, stop, done) = (self.clone(), start.clone(), stop.clone(), done.clone());
            std::thread::spawn(move || {
                let readied = Reader::new(&slice, reader);
                start.wait();
                let _ = done.send(readied.and_then(|mut reader| reader.work(&stop)));
            });
        }
        drop(done);
        let end = Instant::now() + self.limit + PATIENCE;
        let mut shares = Vec::new();
        while shares.len() < self.readers {
            match wait.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(share) => shares.push(share.map_err(|error| Failure::failed(error.to_string()))?),
                Err(mpsc::RecvTimeoutError::Timeout) => {
                    let what = self.work.name();
                    return Err(Failure::failed(format!(
                        "{what}: no answer for {PATIENCE:?}: does the mount, or the origin behind it, hang?"
                    )));
                }
                Err(mpsc::RecvTimeoutError::Disconnected) => return Err(Failure::failed("a reader ended too early")),
            }
        }
        Ok(Figures::of(shares))
    }
}

/// One of the readers of a slice.
struct Reader<'a> {
    slice: &'a Slice,
    /// Places in `files`, in this reader's order.
    order: Vec<u32>,
    at: usize,
    /// This reader's part of the large file.
    part: (u64, u64),
    open: Option<File>,
    random: Random,
    buffer: Vec<u8>,
}

impl<'a> Reader<'a> {
    fn new(slice: &'a Slice, reader: usize) -> io::Result<Self> {
        let mut places: Vec<u32> = (0..slice.files.len() as u32).collect();
        let mut random = Random(slice.seed);
        for last in (1..places.len()).rev() {
            places.swap(last, random.below(last as u64 + 1) as usize);
        }
        let order = places.into_iter().skip(reader).step_by(slice.readers).collect();
        let size = slice.file.as_ref().map_or(0, |file| file.size);
        let edge = |reader: usize| size / READ as u64 * reader as u64 / slice.readers as u64 * READ as u64;
        let end = if reader + 1 == slice.readers { size } else { edge(reader + 1) };
        Ok(Self {
            slice,
            order,
            at: 0,
            part: (edge(reader), end),
            open: None,
            random: Random(slice.seed << 16 | reader as u64),
            buffer: vec![0; READ],
        })
    }

    fn work(&mut self, stop: &Stop) -> io::Result<Share> {
        let mut share = Share::default();
        let begun = Instant::now();
        let mut position = self.part.0;
        while share.took < self.slice.limit && !stop.load(Ordering::Relaxed) {
            let is_through = match self.slice.work {
                Work::Files | Work::Stat => self.at >= self.order.len(),
                Work::Sequential => position >= self.part.1,
                Work::Random | Work::List | Work::Walk => false,
            };
            if is_through {
                // A reader that has nothing to do at all has none to wait for.
                if self.slice.once || (self.at == 0 && position == self.part.0) {
                    break;
                }
                (self.at, position, self.open) = (0, self.part.0, None);
            }
            match self.slice.work {
                Work::Files => self.file(&mut share)?,
                Work::Stat => self.stat(&mut share)?,
                Work::Sequential => position += self.sequential(position, &mut share)?,
                Work::Random => self.random(&mut share)?,
                Work::List | Work::Walk => self.list(&mut share)?,
            }
            share.took = begun.elapsed();
        }
        Ok(share)
    }

    fn next_path(&mut self) -> &'a Path {
        self.at += 1;
        &self.slice.files[self.order[self.at - 1] as usize]
    }

    fn file(&mut self, share: &mut Share) -> io::Result<()> {
        let path = self.next_path();
        let begun = Instant::now();
        let file = File::open(path).map_err(|error| named(path, &error))?;
        let mut length = 0;
        loop {
            // A program that wants the first byte asks for little; the rest comes in large reads.
            let wanted = if length == 0 { BLOCK } else { READ };
            let read =
                rustix::io::read(&file, &mut self.buffer[..wanted]).map_err(|error| named(path, &error.into()))?;
            if length == 0 {
                share.answer(begun.elapsed());
            }
            if read == 0 {
                break;
            }
            length += read as u64;
        }
        share.bytes += length;
        share.done += 1;
        Ok(())
    }

    fn stat(&mut self, share: &mut Share) -> io::Result<()> {
        let path = self.next_path();
        let begun = Instant::now();
        std::fs::symlink_metadata(path).map_err(|error| named(path, &error))?;
        share.answer(begun.elapsed());
        share.done += 1;
        Ok(())
    }

    fn sequential(&mut self, position: u64, share: &mut Share) -> io::Result<u64> {
        let begun = Instant::now();
        let is_opened = self.open.is_none();
        let length = (self.part.1 - position).min(READ as u64) as usize;
        let read = self.pread(position, length)?;
        if is_opened {
            share.answer(begun.elapsed());
        }
        share.bytes += read as u64;
        share.done += 1;
        Ok(read as u64)
    }

    fn random(&mut self, share: &mut Share) -> io::Result<()> {
        let size = self.slice.file.as_ref().map_or(0, |file| file.size);
        let position = self.random.below((size / BLOCK as u64).max(1)) * BLOCK as u64;
        let begun = Instant::now();
        let read = self.pread(position, BLOCK)?;
        share.answer(begun.elapsed());
        share.bytes += read as u64;
        share.done += 1;
        Ok(())
    }

    fn list(&mut self, share: &mut Share) -> io::Result<()> {
        let path = &self.slice.directory;
        let begun = Instant::now();
        for entry in std::fs::read_dir(path).map_err(|error| named(path, &error))? {
            entry.and_then(|entry| entry.file_type()).map_err(|error| named(path, &error))?;
            share.done += 1;
        }
        share.answer(begun.elapsed());
        Ok(())
    }

    /// Bytes of the large file, which is opened first if it is not open: at least one, for it is at least so long.
    fn pread(&mut self, position: u64, length: usize) -> io::Result<usize> {
        let Some(Large { path, .. }) = &self.slice.file else { return Err(io::Error::other("there is no large file")) };
        let file = match &mut self.open {
            Some(file) => &*file,
            slot => &*slot.insert(File::open(path).map_err(|error| named(path, &error))?),
        };
        match rustix::io::pread(file, &mut self.buffer[..length], position) {
            Ok(0) => Err(io::Error::other(format!("{}: it has become shorter while it was read", path.display()))),
            Ok(read) => Ok(read),
            Err(error) => Err(named(path, &error.into())),
        }
    }
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// SplitMix64: places that are the same in every run.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(super) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }
}
