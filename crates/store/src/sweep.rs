//! The sweeper: takes away files that no index knows, left by a crash or by an index that was lost.
//!
//! Always true: a file that was made, renamed or written after the store was opened is left alone, for its writer may be
//! about to make it known. It goes through the folders once, slowly, and ends.

use std::collections::HashSet;
use std::ops::ControlFlow;
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
        let mut folders = vec![(PACKS.to_owned(), &is_pack as &dyn Fn(&str) -> bool)];
        // A folder that cannot be read has nothing that can be removed.
        let _ = directory.root.list(LARGE, |name| {
            folders.push((format!("{LARGE}/{name}"), &is_large as _));
            if folders.len() > MAX_FOLDERS { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        for (folder, is_known) in folders {
            match sweep_folder(shared, directory, &folder, is_known, before_s) {
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

/// Files removed; none if the sweeper was told to stop. All by the directory's descriptor: whatever stands at its path now
/// may be another.
fn sweep_folder(
    shared: &Shared,
    directory: &Directory,
    folder: &str,
    is_known: &dyn Fn(&str) -> bool,
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
        if directory.root.changed_s(&path).is_some_and(|time| time < before_s) && !is_known(name) {
            swept += usize::from(directory.root.unlink(&path).is_ok());
        }
        ControlFlow::Continue(())
    });
    if let Err(error) = outcome {
        tracing::debug!(directory = %directory.root.path().display(), folder, %error, "not swept");
    }
    (!stops).then_some(swept)
}
