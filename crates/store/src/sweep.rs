//! The sweeper: takes away files that no index knows, left by a crash or by an index that was lost.
//!
//! Always true: a file that was made, renamed or written after the store was opened is left alone, for its writer may be
//! about to make it known. It goes through the folders once, slowly, and ends.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::directory::Directory;
use crate::large::{self, LARGE};
use crate::pack::{self, PACKS};
use crate::shared::Shared;

/// Files looked at before a pause.
const STEP: usize = 256;
/// The pause: at most 25,600 files a second, so that a start does not load the disk.
const PAUSE: Duration = Duration::from_millis(10);
/// How much the clock of the file system may lag behind that of the system.
const CLOCK_LAG_S: i64 = 2;

/// Sweeps all directories.
pub(crate) fn run(shared: &Arc<Shared>) {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs() as i64);
    let before_s = now - CLOCK_LAG_S;
    for directory in &shared.directories {
        let known: HashSet<u32> = shared.index.packs_of(directory.index).iter().map(|pack| pack.number).collect();
        let is_pack = |name: &str| pack::parse_name(name).is_some_and(|number| known.contains(&number));
        let is_large = |name: &str| {
            large::parse_name(name)
                .and_then(|(id, generation)| Some((shared.index.large(id)?, generation)))
                .is_some_and(|(large, generation)| {
                    large.directory == directory.index && large.generation.load(Ordering::Acquire) == generation
                })
        };
        let mut swept = 0;
        let root = directory.root.path();
        let mut folders = vec![(root.join(PACKS), &is_pack as &dyn Fn(&str) -> bool)];
        let two_hex = fs::read_dir(root.join(LARGE)).into_iter().flatten().flatten();
        folders.extend(two_hex.map(|folder| (folder.path(), &is_large as _)));
        for (folder, is_known) in folders {
            match sweep_folder(shared, directory, &folder, is_known, before_s) {
                Some(count) => swept += count,
                None => return,
            }
        }
        if swept > 0 {
            tracing::info!(directory = %root.display(), files = swept, "files that no index knows were removed");
        }
    }
}

/// Files removed; none if the sweeper was told to stop.
fn sweep_folder(
    shared: &Shared,
    directory: &Directory,
    folder: &Path,
    is_known: &dyn Fn(&str) -> bool,
    before_s: i64,
) -> Option<usize> {
    let mut swept = 0;
    // A folder that cannot be read has nothing that can be removed.
    for (count, entry) in fs::read_dir(folder).into_iter().flatten().flatten().enumerate() {
        if directory.is_down() || (count % STEP == 0 && shared.stops_within(PAUSE)) {
            return None;
        }
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        // The time is looked at first: what is unknown because it is new has a new time.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && metadata.ctime().max(metadata.mtime()) < before_s && !is_known(name) {
            swept += usize::from(fs::remove_file(entry.path()).is_ok());
        }
    }
    Some(swept)
}

impl Shared {
    /// Waits; true if the sweeper is to stop.
    fn stops_within(&self, time: Duration) -> bool {
        let mut stop = self.stop.lock();
        if !*stop {
            self.stopped.wait_for(&mut stop, time);
        }
        *stop
    }
}
