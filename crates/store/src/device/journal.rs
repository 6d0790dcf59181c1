//! What is done to a directory's files, in order: for the tests that rebuild what a crash leaves. No part of the store.
//!
//! Always true: a directory that nobody keeps a journal of costs a look at an empty map, and in a build that is no test
//! nothing at all. A file is told by its inode: one that was made before the journal was begun is in it under its number.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use parking_lot::Mutex;

/// The number of a file in a journal.
pub(crate) type FileNo = u32;

/// One thing that was done.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Create {
        file: FileNo,
        name: String,
    },
    Write {
        file: FileNo,
        offset: u64,
        bytes: Arc<[u8]>,
    },
    Truncate {
        file: FileNo,
        len: u64,
    },
    Punch {
        file: FileNo,
        offset: u64,
        len: u64,
    },
    /// A file's bytes are on the disk.
    Sync {
        file: FileNo,
    },
    /// The names in the directory itself are on the disk.
    SyncNames,
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        name: String,
    },
    /// What the test has to say of this moment.
    Mark(u64),
}

/// The steps of one directory.
#[derive(Debug)]
pub(crate) struct Journal {
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    steps: Vec<Step>,
    next_file: FileNo,
}

/// A device and an inode on it.
type Inode = (u64, u64);

#[derive(Default)]
struct Kept {
    directories: HashMap<Inode, Arc<Journal>>,
    files: HashMap<Inode, (Arc<Journal>, FileNo)>,
}

static KEPT: Mutex<Option<Kept>> = Mutex::new(None);

/// Files of a directory that say nothing about what it holds.
const UNTOLD: [&str; 2] = ["lock", "lease.probe"];

impl Journal {
    /// Keeps a journal of the directory at `path`, in which the files of `known` lie already.
    pub(crate) fn begin(path: &Path, known: &[(&str, FileNo)], next_file: FileNo) -> Arc<Self> {
        let journal = Arc::new(Self { state: Mutex::new(State { steps: Vec::new(), next_file }) });
        let inode = |path: &Path| inode(File::open(path).expect("the test has made it"));
        let mut kept = KEPT.lock();
        let kept = kept.get_or_insert_default();
        kept.directories.insert(inode(path), Arc::clone(&journal));
        for (name, file) in known {
            kept.files.insert(inode(&path.join(name)), (Arc::clone(&journal), *file));
        }
        journal
    }

    /// Ends it, and gives what was done.
    pub(crate) fn end(self: &Arc<Self>) -> Vec<Step> {
        let mut kept = KEPT.lock();
        let kept = kept.get_or_insert_default();
        kept.directories.retain(|_, journal| !Arc::ptr_eq(journal, self));
        kept.files.retain(|_, (journal, _)| !Arc::ptr_eq(journal, self));
        std::mem::take(&mut self.state.lock().steps)
    }

    /// Adds what the test has to say.
    pub(crate) fn mark(&self, mark: u64) {
        self.add(Step::Mark(mark));
    }

    fn add(&self, step: Step) {
        self.state.lock().steps.push(step);
    }

    fn next_file(&self) -> FileNo {
        let mut state = self.state.lock();
        state.next_file += 1;
        state.next_file - 1
    }
}

fn inode(file: impl AsFd) -> Inode {
    let stat = rustix::fs::fstat(file).expect("it is open");
    (stat.st_dev, stat.st_ino)
}

/// The journal of a directory.
fn of_directory(root: &OwnedFd) -> Option<Arc<Journal>> {
    let kept = KEPT.lock();
    let kept = kept.as_ref().filter(|kept| !kept.directories.is_empty())?;
    kept.directories.get(&inode(root)).cloned()
}

/// Adds a step to the journal of a directory.
pub(super) fn in_directory(root: &OwnedFd, step: impl FnOnce() -> Step) {
    if let Some(journal) = of_directory(root) {
        journal.add(step());
    }
}

/// Adds a step to the journal that has a file.
pub(crate) fn on_file(file: &OwnedFd, step: impl FnOnce(FileNo) -> Step) {
    let mut kept = KEPT.lock();
    let Some(kept) = kept.as_mut().filter(|kept| !kept.files.is_empty()) else { return };
    if let Some((journal, number)) = kept.files.get(&inode(file)) {
        journal.add(step(*number));
    }
}

/// A file was opened that may have been made by it.
pub(super) fn created(root: &OwnedFd, name: &str, file: &OwnedFd, is_new: bool) {
    let Some(journal) = of_directory(root).filter(|_| !UNTOLD.contains(&name)) else { return };
    let mut kept = KEPT.lock();
    let files = &mut kept.get_or_insert_default().files;
    if is_new || !files.contains_key(&inode(file)) {
        let number = journal.next_file();
        files.insert(inode(file), (Arc::clone(&journal), number));
        journal.add(Step::Create { file: number, name: name.to_owned() });
    }
}

/// The bytes of a write, in one piece.
pub(crate) fn written(file: FileNo, offset: u64, parts: &[&[u8]]) -> Step {
    Step::Write { file, offset, bytes: parts.concat().into() }
}
