//! Listing: names of a directory, with or without what they stand for.

use std::sync::Arc;

use forebay_model::{DirectoryEntry, Entry, Fault, FaultKind, ListedPage, check_name};
use parking_lot::Mutex;

use super::directories::{At, Listing};
use super::lookup::no_number;
use super::{Door, principal};
use crate::attributes::NAME_FRESH_MAX;
use crate::errno::Errno;
use crate::nodeid::NodeId;
use crate::nodes::{DirectoryNode, Known};
use crate::session::{AnswerNames, Caller, Handle, Listed};

/// Names asked for at once: what a reply of 128 KiB with attributes holds, twice.
const PAGE: u32 = 1024;

/// Offsets that `.` and `..` take before the first name.
const DOTS: u64 = 2;

/// A reply that is being filled.
struct Filling<A> {
    door: Door,
    caller: Caller,
    node: NodeId,
    directory: Arc<DirectoryNode>,
    listing: Arc<Mutex<Listing>>,
    /// The offset to go on from.
    offset: u64,
    remember: bool,
    is_empty: bool,
    answer: A,
}

/// How far the filling of a reply went.
enum Step {
    /// The reply is full, or no names follow.
    Done,
    /// A page of names is needed to go on.
    Missing { start: u64, after: Arc<str> },
}

impl Door {
    /// Whether a program may not open directories.
    pub(super) fn is_refused(&self, caller: Caller) -> bool {
        if self.refuse_programs.is_empty() || caller.pid == 0 {
            return false;
        }
        let name = std::fs::read_to_string(format!("/proc/{}/comm", caller.pid)).unwrap_or_default();
        self.refuse_programs.iter().any(|refused| refused == name.trim_end())
    }

    pub(super) fn list_directory(
        &self,
        caller: Caller,
        node: NodeId,
        handle: Handle,
        offset: u64,
        remember: bool,
        answer: impl AnswerNames,
    ) {
        let directory = match self.nodes.get(node) {
            Some(Known::Directory(directory)) => directory,
            Some(Known::File(_)) => return self.refuse(answer, Errno::NOT_A_DIRECTORY),
            None => return self.refuse(answer, Errno::STALE),
        };
        let listing = self.directories.get(handle, node);
        if offset == 0 {
            // Opened or rewound: a fresh look.
            *listing.lock() = Listing::new();
        }
        let door = self.clone();
        let filling = Filling { door, caller, node, directory, listing, offset, remember, is_empty: true, answer };
        filling.fill();
    }
}

impl<A: AnswerNames> Filling<A> {
    /// Fills the reply with what is at hand, or waits for a page of names if that is nothing.
    fn fill(mut self) {
        loop {
            let (start, after) = match self.step() {
                Ok(Step::Done) => return self.answer.done(),
                Ok(Step::Missing { start, after }) => (start, after),
                Err(fault) => return self.end(&fault),
            };
            let (client, principal) = (self.door.client.clone(), principal(self.caller));
            let turn = self.door.invalidator.turn();
            match client.list_now(principal, &self.directory.path, &after, PAGE) {
                Some(page) => {
                    if let Err(fault) = self.install(start, page, turn) {
                        return self.end(&fault);
                    }
                }
                // A reader that works through names while the next ones come is faster than one that waits for all.
                None if !self.is_empty => return self.answer.done(),
                None => {
                    let path = self.directory.path.clone();
                    let work = async move { client.list(principal, &path, &after, PAGE).await };
                    let door = self.door.clone();
                    let Filling { door: inner, caller, node, directory, listing, offset, remember, is_empty, answer } =
                        self;
                    return door.later(answer, work, move |_, answer, page| {
                        let mut filling =
                            Self { door: inner, caller, node, directory, listing, offset, remember, is_empty, answer };
                        match filling.install(start, page, turn) {
                            Ok(()) => filling.fill(),
                            Err(fault) => filling.end(&fault),
                        }
                    });
                }
            }
        }
    }

    /// Adds names until the reply is full or names are missing.
    fn step(&mut self) -> Result<Step, Fault> {
        while self.offset < DOTS {
            let (name, node) = if self.offset == 0 { (".", self.node) } else { ("..", self.directory.parent) };
            let entry = Entry::Directory(DirectoryEntry { mtime: self.directory.entry.mtime });
            if !self.add(name, node, &entry) {
                return Ok(Step::Done);
            }
        }
        loop {
            let at = self.listing.lock().at(self.offset - DOTS);
            let (page, from) = match at {
                At::Page(page, from) => (page, from),
                At::Missing { start, after } => return Ok(Step::Missing { start, after }),
                At::End => return Ok(Step::Done),
            };
            for listed in &page[from..] {
                if check_name(&listed.name).is_err() || listed.name.contains('/') {
                    // No name can be shown for it; the service leaves these out.
                    self.offset += 1;
                    continue;
                }
                let path = self.directory.path.join(&listed.name);
                let nodes = self.door.nodes.clone();
                let node = if self.remember {
                    let node = nodes.remember(self.node, &path, &listed.name, &listed.entry);
                    node.ok_or_else(|| no_number(&path, &listed.entry))?
                } else {
                    nodes.number(self.node, &path, &listed.name, &listed.entry)
                };
                if !self.add(&listed.name, node, &listed.entry) {
                    if self.remember {
                        nodes.forget(node, 1);
                    }
                    return Ok(Step::Done);
                }
            }
        }
    }

    /// Adds one name at the offset; false if the reply is full.
    fn add(&mut self, name: &str, node: NodeId, entry: &Entry) -> bool {
        let attributes = self.door.looks.attributes(node, entry);
        let fresh = self.listing.lock().fresh_left(self.door.invalidator.turn()).min(NAME_FRESH_MAX);
        let added = self.answer.add(&Listed { name, next: self.offset + 1, attributes: &attributes, fresh });
        self.offset += u64::from(added);
        self.is_empty &= !added;
        added
    }

    fn install(&mut self, start: u64, page: Result<ListedPage, Fault>, turn: u64) -> Result<(), Fault> {
        let page = page?;
        if page.entries.is_empty() && page.more {
            let what = format!("the listing of {} stopped before its end", self.directory.path);
            return Err(Fault::new(FaultKind::Bug, what));
        }
        self.listing.lock().install(start, page, turn);
        Ok(())
    }

    /// Ends with what there is; a fault shows when nothing else does, so that no listing is cut short silently.
    fn end(self, fault: &Fault) {
        if self.is_empty {
            self.door.fail(self.answer, "readdir", self.node, fault);
        } else {
            self.answer.done();
        }
    }
}
