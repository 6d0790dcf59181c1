//! The files that are measured: made, taken, or copied from the other side.
//!
//! Always true: what was made is below one directory of our own, and removed when the set is dropped.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Stop;
use super::bounded::bounded;
use super::figures::Figures;
use super::sample::{LARGE_FILES, sample};
use super::work::{BLOCK, Large, Random, Slice, Work};
use crate::args::BenchMountArgs;
use crate::failure::Failure;

/// Removing takes no longer than this, or is told to be left to the user.
const REMOVE_MAX: Duration = Duration::from_secs(60);
/// Names of the directory that a copy repeats.
const NAMES_MAX: u64 = 20_000;
/// Bytes written at one time.
const PIECE: usize = 1 << 20;

/// Files of one side.
#[derive(Clone)]
pub(super) struct DataSet {
    /// What the user named.
    pub(super) root: PathBuf,
    pub(super) small: Arc<[PathBuf]>,
    pub(super) small_bytes: u64,
    /// Small files that were met, of which those were taken.
    pub(super) met: u64,
    pub(super) large: Vec<Large>,
    /// The directory that is listed, and its names.
    directory: PathBuf,
    names: u64,
    pub(super) made: bool,
    _own: Option<Arc<OwnDirectory>>,
}

/// A directory that goes with the set.
struct OwnDirectory(PathBuf);

impl DataSet {
    /// Makes a set where the directory can be written, else takes what is there. With the figures of the walk that found it.
    pub(super) fn make_or_take(
        args: &BenchMountArgs,
        limit: Duration,
        stop: &Stop,
    ) -> Result<(Self, Option<Figures>), Failure> {
        let (root, count) = (args.path.clone(), args.files as usize);
        if !args.existing
            && let Some(own) = OwnDirectory::below(&root)?
        {
            let (files, size, large, stop) = (count, args.size.0.max(1), args.large.0.max(PIECE as u64), stop.clone());
            return bounded("making the data", limit, move || made(root, own, files, size, large, &stop))
                .map(|set| (set, None));
        }
        let (large, seconds, stop) = (args.large.0, Duration::from_secs(args.seconds.into()), stop.clone());
        bounded("looking for files", limit, move || {
            let found = sample(&root, count, seconds / 4, &stop)?;
            if found.small.is_empty() && found.large.is_empty() {
                let what = format!(
                    "{}: no file with anything in it was found to read, of {} names",
                    root.display(),
                    found.share.done
                );
                return Err(Failure::failed(what));
            }
            let large =
                found.large.into_iter().map(|file| Large { size: file.size.min(large.max(BLOCK as u64)), ..file });
            let set = Self {
                small_bytes: found.small.iter().map(|(_, size)| size).sum(),
                small: found.small.into_iter().map(|(path, _)| path).collect(),
                met: found.met,
                large: large.collect(),
                directory: found.directory.0,
                names: found.directory.1,
                made: false,
                root,
                _own: None,
            };
            Ok((set, Some(Figures::of(vec![found.share]))))
        })
    }

    /// The same bytes below a directory of our own in `directory`.
    pub(super) fn copy_to(&self, directory: &Path, limit: Duration, stop: &Stop) -> Result<Self, Failure> {
        let Some(own) = OwnDirectory::below(directory)? else {
            return Err(Failure::failed(format!("{}: the native directory cannot be written", directory.display())));
        };
        let (from, directory, stop) = (self.clone(), directory.to_owned(), stop.clone());
        bounded("copying to the native directory", limit, move || copied(&from, directory, own, &stop))
    }

    /// Reads all once, for as long as `limit`: what was not reached is no part of the hot rows.
    pub(super) fn warmed(&self, limit: Duration, stop: &Stop) -> Result<Self, Failure> {
        let set = self.clone();
        let stop = stop.clone();
        bounded("reading all once", limit * 2 + super::bounded::PATIENCE, move || {
            let (mut buffer, begun) = (vec![0; PIECE], Instant::now());
            let mut warm = Self { small: Arc::from([]), large: Vec::new(), ..set.clone() };
            let is_over = |limit: Duration| begun.elapsed() > limit || stop.load(Ordering::Relaxed);
            let mut small = Vec::new();
            for path in set.small.iter() {
                if !small.is_empty() && is_over(limit) {
                    break;
                }
                read_from(path, u64::MAX, &mut buffer, &|| false).map_err(|error| failed(path, &error))?;
                small.push(path.clone());
            }
            warm.small = small.into();
            // A large file has a share of its own, however long the small ones took.
            if let Some(first) = set.large.first() {
                let read = read_from(&first.path, first.size, &mut buffer, &|| is_over(limit * 2))
                    .map_err(|error| failed(&first.path, &error))?;
                warm.large.extend((read >= BLOCK as u64).then(|| Large { size: read, ..first.clone() }));
            }
            Ok(warm)
        })
    }

    /// No more than `other` has.
    pub(super) fn cut_to(&mut self, other: &Self) {
        self.small = self.small.iter().take(other.small.len()).cloned().collect();
        for (ours, theirs) in self.large.iter_mut().zip(&other.large) {
            ours.size = ours.size.min(theirs.size);
        }
    }

    /// What a hot row of `work` reads; none if there is nothing of the kind.
    pub(super) fn hot_slice(&self, work: Work, slice: Slice) -> Option<Slice> {
        match work {
            Work::Files | Work::Stat if self.small.is_empty() => None,
            Work::Files | Work::Stat => Some(Slice { files: self.small.clone(), ..slice }),
            Work::Sequential | Work::Random => Some(Slice { file: Some(self.large.first()?.clone()), ..slice }),
            Work::List | Work::Walk => Some(Slice { directory: self.directory.clone(), ..slice }),
        }
    }
}

impl OwnDirectory {
    /// A new one; none where `root` cannot be written.
    fn below(root: &Path) -> Result<Option<Arc<Self>>, Failure> {
        std::fs::read_dir(root).map_err(|error| failed(root, &error))?;
        let path = root.join(format!("forebay-bench-{}", std::process::id()));
        match std::fs::create_dir(&path) {
            Ok(()) => Ok(Some(Arc::new(Self(path)))),
            Err(error) => match error.kind() {
                io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied | io::ErrorKind::Unsupported => {
                    Ok(None)
                }
                _ => Err(failed(&path, &error)),
            },
        }
    }
}

impl Drop for OwnDirectory {
    fn drop(&mut self) {
        let path = self.0.clone();
        let removed = bounded("removing the data", REMOVE_MAX, move || {
            std::fs::remove_dir_all(&path).map_err(|error| failed(&path, &error))
        });
        if let Err(failure) = removed {
            eprintln!("forebay: {} is left behind: {failure}", self.0.display());
        }
    }
}

fn made(
    root: PathBuf,
    own: Arc<OwnDirectory>,
    files: usize,
    size: u64,
    large: u64,
    stop: &Stop,
) -> Result<DataSet, Failure> {
    let directory = own.0.join("small");
    std::fs::create_dir(&directory).map_err(|error| failed(&directory, &error))?;
    let mut fill = Fill::new();
    let mut paths = Vec::new();
    for number in 0..files {
        let path = directory.join(format!("{number:06}"));
        fill.write(&path, size, stop)?;
        paths.push(path);
    }
    let mut larges = Vec::new();
    for number in 0..LARGE_FILES {
        let path = own.0.join(format!("large{number}"));
        fill.write(&path, large, stop)?;
        larges.push(Large { path, size: large });
    }
    settle(&own.0);
    Ok(DataSet {
        root,
        small: paths.into(),
        small_bytes: size * files as u64,
        met: files as u64,
        large: larges,
        directory,
        names: files as u64,
        made: true,
        _own: Some(own),
    })
}

fn copied(from: &DataSet, root: PathBuf, own: Arc<OwnDirectory>, stop: &Stop) -> Result<DataSet, Failure> {
    let mut buffer = vec![0; PIECE];
    let small = own.0.join("small");
    let directory = own.0.join("names");
    for path in [&small, &directory] {
        std::fs::create_dir(path).map_err(|error| failed(path, &error))?;
    }
    let mut paths = Vec::new();
    for (number, path) in from.small.iter().enumerate() {
        let to = small.join(format!("{number:06}"));
        copy(path, &to, u64::MAX, &mut buffer, stop)?;
        paths.push(to);
    }
    let mut large = Vec::new();
    for (number, file) in from.large.iter().enumerate() {
        let to = own.0.join(format!("large{number}"));
        copy(&file.path, &to, file.size, &mut buffer, stop)?;
        large.push(Large { path: to, size: file.size });
    }
    // A directory with as many names as the one that is listed there.
    for number in 0..from.names.min(NAMES_MAX) {
        let path = directory.join(format!("{number:06}"));
        File::create(&path).map_err(|error| failed(&path, &error))?;
    }
    settle(&own.0);
    let own = Some(own);
    Ok(DataSet { root, small: paths.into(), large, directory, made: true, _own: own, ..from.clone() })
}

fn copy(from: &Path, to: &Path, most: u64, buffer: &mut [u8], stop: &Stop) -> Result<(), Failure> {
    let mut source = File::open(from).map_err(|error| failed(from, &error))?.take(most);
    let mut target = File::create(to).map_err(|error| failed(to, &error))?;
    loop {
        interrupted(stop)?;
        let read = source.read(buffer).map_err(|error| failed(from, &error))?;
        if read == 0 {
            return Ok(());
        }
        target.write_all(&buffer[..read]).map_err(|error| failed(to, &error))?;
    }
}

/// Reads up to `most` bytes; gives how many there were.
fn read_from(path: &Path, most: u64, buffer: &mut [u8], is_over: &dyn Fn() -> bool) -> io::Result<u64> {
    let mut file = File::open(path)?.take(most);
    let mut all = 0;
    while !is_over() {
        let read = file.read(buffer)?;
        if read == 0 {
            break;
        }
        all += read as u64;
    }
    Ok(all)
}

/// What was written goes to the disk: else its pages could not be dropped. A file system that cannot is taken as it is.
fn settle(directory: &Path) {
    if let Ok(directory) = File::open(directory) {
        let _ = rustix::fs::syncfs(&directory);
    }
}

fn interrupted(stop: &Stop) -> Result<(), Failure> {
    if stop.load(Ordering::Relaxed) {
        Err(Failure::failed("interrupted; what was made has been removed"))
    } else {
        Ok(())
    }
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::failed(format!("{}: {error}", path.display()))
}

/// Bytes that neither compress nor repeat from block to block.
struct Fill {
    piece: Vec<u8>,
    random: Random,
}

impl Fill {
    fn new() -> Self {
        let mut random = Random(2);
        let piece = (0..PIECE / 8).flat_map(|_| random.next().to_le_bytes()).collect();
        Self { piece, random }
    }

    fn write(&mut self, path: &Path, size: u64, stop: &Stop) -> Result<(), Failure> {
        let mut file = File::create(path).map_err(|error| failed(path, &error))?;
        let mut left = size;
        while left > 0 {
            interrupted(stop)?;
            for block in self.piece.chunks_mut(BLOCK) {
                block[..8].copy_from_slice(&self.random.next().to_le_bytes());
            }
            let length = left.min(PIECE as u64) as usize;
            file.write_all(&self.piece[..length]).map_err(|error| failed(path, &error))?;
            left -= length as u64;
        }
        Ok(())
    }
}
