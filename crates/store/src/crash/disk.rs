//! A model of a directory on a disk: what the kernel had taken, and what of it a crash may leave.
//!
//! A crash of the process leaves every system call that ended, and pages of the write that was under way. A crash of the
//! machine leaves of a file what was synced, and of each later sector the bytes that it had at any moment since; of names
//! what was synced, and any part of what was done since. That is less than any file system promises.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::device::journal::{FileNo, Step};

const SECTOR: usize = 512;
const CHUNK: usize = 4096;

/// The files of a directory, and which has which name.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    pub(super) names: BTreeMap<String, FileNo>,
    files: HashMap<FileNo, Image>,
}

/// The bytes of a file; what is not in it is a hole.
#[derive(Clone, Debug, Default)]
struct Image {
    len: u64,
    chunks: BTreeMap<u64, Arc<[u8; CHUNK]>>,
}

/// What became of something that was not synced.
#[derive(Clone, Copy, Debug)]
enum Fate {
    /// All of it reached the disk.
    Whole,
    /// Nothing of it did.
    Lost,
    /// What was done before this step did.
    Until(usize),
    /// Each piece of so many bytes, or each name, has a fate of its own; so many of 16 are whole.
    Each { unit: usize, whole: u32 },
}

impl Disk {
    /// After the `steps`, and of a write after them the first so many pages.
    pub(super) fn after(&self, steps: &[Step]) -> Self {
        let mut disk = self.clone();
        for step in steps {
            disk.name(step, disk.renamed(step));
            if let Some(file) = file_of(step) {
                disk.files.entry(file).or_default().apply(step, &|_| true, true);
            }
        }
        disk.forget_nameless();
        disk
    }

    /// What a crash of the machine leaves after `steps` were done to it.
    pub(super) fn crashed(&self, steps: &[Step], seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let synced = synced(steps);
        let names_synced = steps.iter().rposition(|step| matches!(step, Step::SyncNames)).map_or(0, |at| at + 1);
        let mut disk = self.clone();
        let fate = Fate::random(&mut random, names_synced, steps.len());
        let mut truth = self.clone();
        for (at, step) in steps.iter().enumerate() {
            let in_root = name_of(step).is_some_and(|name| !name.contains('/'));
            if at < names_synced && in_root || fate.reaches(at, seed, names_synced, steps.len()) {
                disk.name(step, truth.renamed(step));
            }
            truth.name(step, truth.renamed(step));
        }
        // Blocks that a file got and that were never written may hold anything that lay there before.
        let stale = random.random_ratio(1, 6).then(|| writes(steps));
        let mut of_file = HashMap::new();
        for (at, step) in steps.iter().enumerate() {
            let Some(file) = file_of(step) else { continue };
            let since = synced.get(&file).copied().unwrap_or(0);
            let (fate, length) = *of_file.entry(file).or_insert_with(|| {
                let fate = Fate::random(&mut random, since, steps.len());
                let length = if random.random_ratio(1, 2) { Fate::Whole } else { fate };
                (fate, length)
            });
            let mix = seed ^ u64::from(file).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let reaches = |place: u64| at < since || fate.reaches_piece(at, mix, place, since, steps.len());
            let lengthens = at < since || length.reaches_piece(at, mix, u64::MAX, since, steps.len());
            let image = disk.files.entry(file).or_default();
            image.apply(step, &reaches, lengthens);
            if let (Some(stale), Step::Write { offset, bytes, .. }) = (&stale, step) {
                image.show_stale(*offset, bytes.len(), &reaches, stale, &mut random);
            }
        }
        for image in disk.files.values_mut() {
            image.cut();
        }
        disk.forget_nameless();
        disk
    }

    /// The file that a step renames.
    fn renamed(&self, step: &Step) -> Option<FileNo> {
        if let Step::Rename { from, .. } = step { self.names.get(from).copied() } else { None }
    }

    /// Does to the names what a step did, which renamed that file.
    fn name(&mut self, step: &Step, renamed: Option<FileNo>) {
        match step {
            Step::Create { file, name } => {
                self.names.insert(name.clone(), *file);
            }
            Step::Rename { to, .. } => {
                if let Some(file) = renamed {
                    // A file has one name, whatever was lost before.
                    self.names.retain(|_, named| *named != file);
                    self.names.insert(to.clone(), file);
                }
            }
            Step::Unlink { name } => {
                self.names.remove(name);
            }
            _ => {}
        }
    }

    fn forget_nameless(&mut self) {
        let names = &self.names;
        self.files.retain(|file, _| names.values().any(|named| named == file));
        for file in self.names.values() {
            self.files.entry(*file).or_default();
        }
    }

    /// A number that no file of it has, nor of `steps` done to it.
    pub(super) fn next_file(&self, steps: &[Step]) -> FileNo {
        let made = steps.iter().filter_map(file_of).chain(self.files.keys().copied());
        made.max().map_or(0, |last| last + 1)
    }

    /// Makes it at `path`, where nothing is yet.
    pub(super) fn lay_out(&self, path: &Path) {
        std::fs::create_dir_all(path).unwrap();
        for (name, file) in &self.names {
            let place = path.join(name);
            std::fs::create_dir_all(place.parent().unwrap()).unwrap();
            let (image, file) = (&self.files[file], File::create_new(place).unwrap());
            file.set_len(image.len).unwrap();
            for (at, chunk) in &image.chunks {
                let len = image.len.saturating_sub(at * CHUNK as u64).min(CHUNK as u64);
                file.write_all_at(&chunk[..len as usize], at * CHUNK as u64).unwrap();
            }
        }
        // As if the log were the last that was written: what it says is verified is to be believed.
        if let Ok(log) = File::options().write(true).open(path.join("index.log")) {
            log.set_modified(SystemTime::now() + Duration::from_secs(60)).unwrap();
        }
    }

    /// Bytes of a file; none if there is no such file, or it ends before.
    pub(super) fn read(&self, name: &str, offset: u64, len: usize) -> Option<Vec<u8>> {
        let image = self.files.get(self.names.get(name)?)?;
        (offset + len as u64 <= image.len).then(|| {
            let mut bytes = vec![0; len];
            for (at, chunk) in &image.chunks {
                let start = at * CHUNK as u64;
                let (from, to) = (start.max(offset), (start + CHUNK as u64).min(offset + len as u64));
                if from < to {
                    let piece = &chunk[(from - start) as usize..(to - start) as usize];
                    bytes[(from - offset) as usize..(to - offset) as usize].copy_from_slice(piece);
                }
            }
            bytes
        })
    }

    pub(super) fn length(&self, name: &str) -> Option<u64> {
        Some(self.files.get(self.names.get(name)?)?.len)
    }
}

impl Image {
    /// Does a step to those pieces of the file that it `reaches`.
    fn apply(&mut self, step: &Step, reaches: &dyn Fn(u64) -> bool, lengthens: bool) {
        match step {
            Step::Write { offset, bytes, .. } => {
                for (place, range) in sectors(*offset, bytes.len()) {
                    if reaches(place) {
                        self.put(place, &bytes[range]);
                    }
                }
                if lengthens {
                    self.len = self.len.max(offset + bytes.len() as u64);
                }
            }
            Step::Punch { offset, len, .. } => self.zero(*offset, offset + len, reaches),
            Step::Truncate { len, .. } => {
                self.zero(*len, u64::MAX, reaches);
                if lengthens {
                    self.len = *len;
                }
            }
            _ => {}
        }
    }

    fn put(&mut self, place: u64, bytes: &[u8]) {
        let chunk = self.chunks.entry(place / CHUNK as u64).or_insert_with(|| Arc::new([0; CHUNK]));
        let at = place as usize % CHUNK;
        Arc::make_mut(chunk)[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn zero(&mut self, from: u64, to: u64, reaches: &dyn Fn(u64) -> bool) {
        for (at, chunk) in self.chunks.range_mut(from / CHUNK as u64..) {
            for sector in 0..CHUNK / SECTOR {
                let start = at * CHUNK as u64 + (sector * SECTOR) as u64;
                let (first, last) = (start.max(from), (start + SECTOR as u64).min(to));
                if first < last && reaches(start) {
                    let range = (first % CHUNK as u64) as usize..;
                    Arc::make_mut(chunk)[range][..(last - first) as usize].fill(0);
                }
            }
        }
    }

    /// What a write should have filled and did not shows other bytes.
    fn show_stale(
        &mut self,
        offset: u64,
        len: usize,
        reaches: &dyn Fn(u64) -> bool,
        stale: &[Arc<[u8]>],
        random: &mut StdRng,
    ) {
        let missing: Vec<u64> = sectors(offset, len).map(|(place, _)| place - place % SECTOR as u64).collect();
        for place in missing.into_iter().filter(|place| !reaches(*place)) {
            if self.chunks.contains_key(&(place / CHUNK as u64)) {
                continue;
            }
            let bytes = &stale[random.random_range(0..stale.len())];
            let from = random.random_range(0..bytes.len());
            self.put(place, &bytes[from..bytes.len().min(from + SECTOR)]);
        }
    }

    /// Takes away what lies behind the end.
    fn cut(&mut self) {
        self.zero(self.len, u64::MAX, &|_| true);
        let end = self.len.div_ceil(CHUNK as u64);
        self.chunks.retain(|at, _| *at < end);
    }
}

impl Fate {
    fn random(random: &mut StdRng, since: usize, end: usize) -> Self {
        match random.random_range(0..8) {
            0 | 1 => Self::Whole,
            2 => Self::Lost,
            3 | 4 => Self::Until(random.random_range(since..=end)),
            n => Self::Each { unit: if n == 5 { CHUNK } else { SECTOR }, whole: random.random_range(0..16) },
        }
    }

    /// Whether the step `at`, which was not synced, reached a piece of a file.
    fn reaches_piece(self, at: usize, mix: u64, place: u64, since: usize, end: usize) -> bool {
        match self {
            Self::Whole => true,
            Self::Lost => false,
            Self::Until(until) => at < until,
            Self::Each { unit, whole } => {
                // The same for all steps: the piece is as it was at one moment.
                let hash = hash(mix ^ (place / unit as u64));
                (hash as u32 & 15) < whole || at < since + (hash >> 8) as usize % (end - since + 1)
            }
        }
    }

    /// Whether the step `at` reached the names.
    fn reaches(self, at: usize, mix: u64, since: usize, end: usize) -> bool {
        match self {
            Self::Each { whole, .. } => (hash(mix ^ at as u64) as u32 & 15) < whole,
            _ => self.reaches_piece(at, mix, 0, since, end),
        }
    }
}

/// The name that a step makes or takes away.
fn name_of(step: &Step) -> Option<&str> {
    match step {
        Step::Create { name, .. } | Step::Rename { to: name, .. } | Step::Unlink { name } => Some(name),
        _ => None,
    }
}

/// The file that a step changes.
fn file_of(step: &Step) -> Option<FileNo> {
    match step {
        Step::Create { file, .. }
        | Step::Write { file, .. }
        | Step::Truncate { file, .. }
        | Step::Punch { file, .. } => Some(*file),
        _ => None,
    }
}

/// Of each file, the steps before which all is on the disk.
fn synced(steps: &[Step]) -> HashMap<FileNo, usize> {
    let of = |(at, step): (usize, &Step)| if let Step::Sync { file } = step { Some((*file, at)) } else { None };
    steps.iter().enumerate().filter_map(of).collect()
}

fn writes(steps: &[Step]) -> Vec<Arc<[u8]>> {
    let of = |step: &Step| if let Step::Write { bytes, .. } = step { Some(Arc::clone(bytes)) } else { None };
    steps.iter().filter_map(of).filter(|bytes| !bytes.is_empty()).collect()
}

/// The pieces of a range that lie in one sector each: where, and their part of the range.
fn sectors(offset: u64, len: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>)> {
    let end = offset + len as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let next = (at / SECTOR as u64 + 1) * SECTOR as u64;
            let piece = (at, (at - offset) as usize..(next.min(end) - offset) as usize);
            at = next;
            piece
        })
    })
}

/// The finalizer of splitmix64.
pub(super) fn hash(mut number: u64) -> u64 {
    number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}
