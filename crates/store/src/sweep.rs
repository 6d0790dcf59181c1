//! The sweeper: takes away files that no index knows, left by a crash or by an index that was lost.
//!
//! Always true: a file that was made, renamed or written after the store was opened is left alone, for its writer may be
//! about to make it known. It goes through the folders once, slowly, and ends.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::device::Root;
use crate::directory::Directory;
use crate::index::Index;
use crate::large::{self, LARGE};
use crate::pack::{self, PACKS};
use crate::shared::Shared;

/// Files looked at before a pause.
const STEP: usize = 256;
/// The pause: at most 25,600 files a second, so that a start does not load the disk.
const PAUSE: Duration = Duration::from_millis(10);
/// How much the clock of the file system may lag behind that of the system.
const CLOCK_LAG_S: i64 = 2;
/// Folders of a directory; the store makes 257.
const MAX_FOLDERS: usize = 4096;

/// Sweeps all directories.
pub(crate) fn run(shared: &Arc<Shared>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
    let before_s = now - CLOCK_LAG_S;
    if !shared.is_known_before_stop() {
        return;
    }
    for directory in &shared.directories {
        if directory.is_down() {
            continue;
        }
        let known = Known::new(&shared.index, directory.index);
        let mut swept = 0;
        for folder in folders(&directory.root) {
            match sweep_folder(shared, directory, &folder, &known, before_s) {
                Some(count) => swept += count,
                None => return,
            }
        }
        if swept > 0 {
            let path = directory.root.path().display();
            tracing::info!(directory = %path, files = swept, "files that no index knows were removed");
        }
    }
}

/// Which files of a directory the index knows.
pub(crate) struct Known<'a> {
    index: &'a Index,
    directory: usize,
    packs: HashSet<u32>,
}

impl<'a> Known<'a> {
    pub(crate) fn new(index: &'a Index, directory: usize) -> Self {
        let packs = index.packs_of(directory).iter().map(|pack| pack.number).collect();
        Self { index, directory, packs }
    }

    /// Whether it is the file of a pack, or of a large content as it is now.
    pub(crate) fn has(&self, folder: &str, name: &str) -> bool {
        if folder == PACKS {
            return pack::parse_name(name).is_some_and(|number| self.packs.contains(&number));
        }
        let is_now = |(id, generation)| {
            let large = self.index.large(id).filter(|large| large.directory == self.directory);
            large.is_some_and(|large| large.generation.load(Ordering::Acquire) == generation)
        };
        large::parse_name(name).is_some_and(is_now)
    }
}

/// The folders of a directory that hold packs and large contents.
pub(crate) fn folders(root: &Root) -> Vec<String> {
    let mut folders = vec![PACKS.to_owned()];
    // A folder that cannot be read has nothing that can be removed.
    let _ = root.list(LARGE, |name| {
        folders.push(format!("{LARGE}/{name}"));
        if folders.len() > MAX_FOLDERS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    folders
}

/// Files removed; none if the sweeper was told to stop. All by the directory's descriptor: whatever stands at its path now
/// may be another.
fn sweep_folder(
    shared: &Shared,
    directory: &Directory,
    folder: &str,
    known: &Known<'_>,
    before_s: i64,
) -> Option<usize> {
    let (mut swept, mut count, mut stops) = (0, 0, false);
    let outcome = directory.root.list(folder, |name| {
        stops = count % STEP == 0 && shared.stops_within(PAUSE);
        count += 1;
        if stops || directory.is_down() {
            return ControlFlow::Break(());
        }
        let path = format!("{folder}/{name}");
        // The time is looked at first: what is unknown because it is new has a new time.
        if directory.root.changed_s(&path).is_some_and(|time| time < before_s) && !known.has(folder, name) {
            swept += usize::from(directory.root.unlink(&path).is_ok());
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = outcome {
        tracing::debug!(directory = %directory.root.path().display(), folder, %error, "not swept");
    }
    (!stops).then_some(swept)
}
