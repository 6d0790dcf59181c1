//! Files that lie somewhere already: a walk that is bounded, and a sample of what it met.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Stop;
use super::figures::Share;
use super::work::{Large, Random};
use crate::failure::Failure;

/// Names that are looked at, at most: 200,000 paths of 100 bytes are 20 MB.
const NAMES_MAX: u64 = 200_000;
/// A small file is read as one; a larger one is none, a smaller one no large one.
pub(super) const SMALL_MAX: u64 = 4 << 20;
pub(super) const LARGE_MIN: u64 = 16 << 20;
/// Cold rows read so many large files.
pub(super) const LARGE_FILES: usize = 3;

/// What a walk met.
pub(super) struct Sample {
    pub(super) small: Vec<(PathBuf, u64)>,
    pub(super) large: Vec<Large>,
    /// The directory with the most names, and how many.
    pub(super) directory: (PathBuf, u64),
    /// Small files met.
    pub(super) met: u64,
    /// What the walk cost: names that were listed and looked at.
    pub(super) share: Share,
}

/// Walks `root` for at most `limit` and keeps `count` small files of those that it meets, each as likely as the others.
pub(super) fn sample(root: &Path, count: usize, limit: Duration, stop: &Stop) -> Result<Sample, Failure> {
    let cannot = |path: &Path, error: &std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
    let mut found = Sample {
        small: Vec::new(),
        large: Vec::new(),
        directory: (root.to_owned(), 0),
        met: 0,
        share: Share::default(),
    };
    let (mut left, mut random) = (VecDeque::from([root.to_owned()]), Random(1));
    let begun = Instant::now();
    'walk: while let Some(directory) = left.pop_front() {
        let entries = match std::fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if directory == root => return Err(cannot(root, &error)),
            // What may not be listed is not measured.
            Err(_) => continue,
        };
        let mut names = 0;
        for entry in entries {
            let entry = entry.map_err(|error| cannot(&directory, &error))?;
            names += 1;
            found.share.done += 1;
            if found.share.done >= NAMES_MAX || begun.elapsed() > limit || stop.load(Ordering::Relaxed) {
                break 'walk;
            }
            let kind = entry.file_type().map_err(|error| cannot(&entry.path(), &error))?;
            if kind.is_dir() {
                left.push_back(entry.path());
            } else if kind.is_file() {
                let asked = Instant::now();
                // It may have gone since it was listed.
                let Ok(known) = entry.metadata() else { continue };
                found.share.answer(asked.elapsed());
                take(&mut found, &entry.path(), known.len(), count, &mut random);
            }
        }
        if names > found.directory.1 {
            found.directory = (directory, names);
        }
    }
    found.share.took = begun.elapsed();
    Ok(found)
}

fn take(found: &mut Sample, path: &Path, size: u64, count: usize, random: &mut Random) {
    if (1..=SMALL_MAX).contains(&size) {
        found.met += 1;
        if found.small.len() < count {
            found.small.push((path.to_owned(), size));
        } else if let Some(slot) = found.small.get_mut(random.below(found.met) as usize) {
            *slot = (path.to_owned(), size);
        }
    } else if size >= LARGE_MIN {
        found.large.push(Large { path: path.to_owned(), size });
        found.large.sort_by_key(|large| std::cmp::Reverse(large.size));
        found.large.truncate(LARGE_FILES);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn each_file_is_as_likely_as_the_others_and_the_largest_are_kept() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..40u64 {
            let directory = root.path().join(format!("d{}", number % 3));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(format!("{number}")), vec![1; number as usize]).unwrap();
        }
        for size in [LARGE_MIN, LARGE_MIN + 1, LARGE_MIN + 2, LARGE_MIN + 3, SMALL_MAX + 1] {
            let file = std::fs::File::create(root.path().join(format!("large{size}"))).unwrap();
            file.set_len(size).unwrap();
        }
        let found = sample(root.path(), 10, Duration::from_secs(60), &Stop::default()).unwrap();
        // One of the forty is empty.
        assert_eq!((found.small.len(), found.met, found.share.done), (10, 39, 48));
        assert_eq!(found.large.iter().map(|large| large.size - LARGE_MIN).collect::<Vec<_>>(), [3, 2, 1]);
        assert_eq!(found.directory.1, 14);
        let mut taken: Vec<_> = found.small.iter().map(|(path, _)| path).collect();
        taken.sort();
        taken.dedup();
        assert_eq!(taken.len(), 10);
    }
}
