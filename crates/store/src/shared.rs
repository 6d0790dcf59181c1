//! What the store's threads have in common.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use parking_lot::{Condvar, Mutex};

use crate::directory::Directory;
use crate::files::OpenFiles;
use crate::handout::HandedOut;
use crate::index::Index;
use crate::metrics::Counters;
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
    /// Directories that failed when the store was opened, and their quotas.
    pub(crate) failed: Vec<(PathBuf, u64)>,
    /// The next generation of a large content's file; above all that were ever used here.
    pub(crate) next_generation: AtomicU64,
    /// What was found when the store was opened, as far as it is known.
    pub(crate) recoveries: Recoveries,
    /// Set when closing begins: from then on everything is absent, for another process may take the directories.
    pub(crate) closed: AtomicBool,
    /// For the sweeper: whether it is to stop.
    pub(crate) stop: Mutex<bool>,
    pub(crate) stopped: Condvar,
}
