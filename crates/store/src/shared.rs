//! What the store's threads have in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, RwLock};

use crate::directory::Directory;
use crate::eviction::Eviction;
use crate::files::OpenFiles;
use crate::handout::HandedOut;
use crate::index::Index;
use crate::metrics::Counters;
use crate::plan::Plan;
use crate::read::Caching;
use crate::recovery::Recoveries;

/// The store, without its threads.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) directories: Vec<Arc<Directory>>,
    pub(crate) index: Index,
    pub(crate) files: OpenFiles,
    pub(crate) handed_out: Arc<HandedOut>,
    pub(crate) counters: Counters,
    pub(crate) fills: Caching,
    pub(crate) eviction: Eviction,
    /// What is known of reads to come.
    pub(crate) plan: RwLock<Option<Arc<dyn Plan>>>,
    /// Directories that failed when the store was opened, and their quotas.
    pub(crate) failed: Vec<(PathBuf, u64)>,
    /// The next generation of a large content's file; above all that were ever used here.
    pub(crate) next_generation: AtomicU64,
    /// What was found when the store was opened, as far as it is known.
    pub(crate) recoveries: Recoveries,
    /// Set when closing begins: from then on everything is absent, for another process may take the directories.
    pub(crate) closed: AtomicBool,
    /// For the sweeper and the scrub: whether they are to stop.
    pub(crate) stop: Mutex<bool>,
    pub(crate) stopped: Condvar,
}

/// Between looks at whether it is known what lies here.
const RECOVERY_PAUSE: Duration = Duration::from_millis(100);

impl Shared {
    /// Waits until it is known what lies on the directories; false if what goes on in the background is to stop first.
    pub(crate) fn is_known_before_stop(&self) -> bool {
        while self.directories.iter().any(|directory| directory.is_recovering()) {
            if self.stops_within(RECOVERY_PAUSE) {
                return false;
            }
        }
        true
    }

    /// Waits; true if what goes on in the background is to stop.
    pub(crate) fn stops_within(&self, time: Duration) -> bool {
        let until = Instant::now() + time;
        let mut stop = self.stop.lock();
        while !*stop && !self.stopped.wait_until(&mut stop, until).timed_out() {}
        *stop
    }
}
