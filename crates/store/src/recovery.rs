//! What was found when a store was opened, while it becomes known and after.

use std::time::Instant;

use forebay_model::ContentId;
use parking_lot::{Condvar, Mutex};

use crate::index::SmallPlace;

/// What was found when a store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Contents of which something is here.
    pub contents: u64,
    /// Pages of large contents.
    pub pages: u64,
    /// Bytes of packs and pages.
    pub bytes: u64,
    /// Bytes of index logs that were torn or damaged, and cut off.
    pub cut_bytes: u64,
    /// Directories that were not closed in order.
    pub unclean: u64,
    /// Directories whose contents are checked when they are first read: the machine was started anew, or a log was cut.
    pub unverified: u64,
    /// Directories whose logs are still being read: the figures above are without them.
    pub recovering: u64,
    /// How long it took, or has taken so far, in microseconds.
    pub micros: u64,
}

/// The recoveries of a store's directories.
#[derive(Debug)]
pub(crate) struct Recoveries {
    start: Instant,
    found: Mutex<Recovery>,
    /// Small objects of which another directory's log spoke too.
    elsewhere: Mutex<Vec<(ContentId, SmallPlace)>>,
    changed: Condvar,
}

impl Recoveries {
    /// Of so many directories, which begin now.
    pub(crate) fn new(directories: u64) -> Self {
        let found = Recovery { recovering: directories, ..Recovery::default() };
        Self { start: Instant::now(), found: Mutex::new(found), elsewhere: Mutex::default(), changed: Condvar::new() }
    }

    /// One directory is known. `elsewhere`: its small objects that another one had first; when all are known `again` brings
    /// those back that the other has not kept, and says how many.
    pub(crate) fn end(
        &self,
        one: &Recovery,
        elsewhere: Vec<(ContentId, SmallPlace)>,
        again: impl FnOnce(&[(ContentId, SmallPlace)]) -> u64,
    ) {
        let mut found = self.found.lock();
        let mut all = self.elsewhere.lock();
        all.extend(elsewhere);
        if found.recovering == 1 {
            found.contents += again(&std::mem::take(&mut *all));
        }
        drop(all);
        found.contents += one.contents;
        found.pages += one.pages;
        found.bytes += one.bytes;
        found.cut_bytes += one.cut_bytes;
        found.unclean += one.unclean;
        found.unverified += one.unverified;
        found.recovering -= 1;
        found.micros = self.micros();
        self.changed.notify_all();
    }

    /// What is known now.
    pub(crate) fn get(&self) -> Recovery {
        let found = *self.found.lock();
        if found.recovering == 0 { found } else { Recovery { micros: self.micros(), ..found } }
    }

    /// Waits until all is known, or the time has come.
    pub(crate) fn wait(&self, until: Option<Instant>) -> Recovery {
        let mut found = self.found.lock();
        while found.recovering > 0 {
            match until {
                Some(until) if self.changed.wait_until(&mut found, until).timed_out() => break,
                Some(_) => {}
                None => self.changed.wait(&mut found),
            }
        }
        drop(found);
        self.get()
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX)
    }
}
