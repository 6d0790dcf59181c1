//! Lookup: a name in a directory becomes a node.

use std::str;
use std::sync::Arc;

use forebay_model::{Entry, Fault, FaultKind, FileEntry, Found, NameProblem, NsPath, check_name};

use super::{Door, principal};
use crate::attributes::{ATTRIBUTES_FRESH, NAME_FRESH_MAX};
use crate::errno::Errno;
use crate::nodeid::NodeId;
use crate::nodes::Known;
use crate::session::{AnswerEntry, Caller, NamedEntry, do_waiting};

impl Door {
    pub(super) fn look_up(&self, caller: Caller, parent: NodeId, name: &[u8], answer: impl AnswerEntry) {
        let directory = match self.nodes.get(parent) {
            Some(Known::Directory(directory)) => directory,
            Some(Known::File(_)) => return self.refuse(answer, Errno::NOT_A_DIRECTORY),
            None => return self.refuse(answer, Errno::STALE),
        };
        // Names of the namespace are text: other bytes name nothing.
        let Ok(name) = str::from_utf8(name) else { return self.refuse(answer, Errno::NO_ENTRY) };
        match check_name(name) {
            Ok(()) if !name.contains('/') => {}
            Err(NameProblem::TooLong) => return self.refuse(answer, Errno::NAME_TOO_LONG),
            Ok(()) | Err(NameProblem::Empty | NameProblem::Dots | NameProblem::Nul) => {
                return self.refuse(answer, Errno::NO_ENTRY);
            }
        }
        let path = directory.path.join(name);
        match self.client.lookup_now(principal(caller), &path) {
            Some(result) => {
                let file = match &result {
                    Ok(Found { entry: Entry::File(file), .. }) => Some(file.clone()),
                    _ => None,
                };
                let first_read = |node| file.and_then(|file| self.first_read(caller, node, file));
                self.answer_lookup(answer, parent, &path, result, first_read);
            }
            None => {
                let client = self.client.clone();
                let asked = path.clone();
                let work = async move { client.lookup(principal(caller), &asked).await };
                self.later(answer, work, move |door, answer, result| {
                    door.answer_lookup(answer, parent, &path, result, |_| None::<fn()>);
                });
            }
        }
    }

    /// `before` is called before the kernel knows the node; what it gives is done after that.
    fn answer_lookup<After: FnOnce() + Send + 'static>(
        &self,
        answer: impl AnswerEntry,
        parent: NodeId,
        path: &NsPath,
        result: Result<Found, Fault>,
        before: impl FnOnce(NodeId) -> Option<After>,
    ) {
        match result {
            Ok(found) => self.answer_found(answer, parent, path, &found, before),
            Err(fault) if fault.kind == FaultKind::NotFound && !fault.fresh_for.is_zero() => {
                self.metrics.error(Errno::NO_ENTRY);
                answer.absent(fault.fresh_for.min(self.invalidator.absent_max().unwrap_or(NAME_FRESH_MAX)));
            }
            Err(fault) => self.fail(answer, "lookup", parent, &fault),
        }
    }

    fn answer_found<After: FnOnce() + Send + 'static>(
        &self,
        answer: impl AnswerEntry,
        parent: NodeId,
        path: &NsPath,
        found: &Found,
        before: impl FnOnce(NodeId) -> Option<After>,
    ) {
        let name = path.name().unwrap_or_default();
        let Some(node) = self.nodes.remember(parent, path, name, &found.entry) else {
            return self.fail(answer, "lookup", parent, &no_number(path, &found.entry));
        };
        let after = before(node);
        answer.found(&NamedEntry {
            attributes: self.looks.attributes(node, &found.entry),
            attributes_fresh: ATTRIBUTES_FRESH,
            name_fresh: found.fresh_for.min(NAME_FRESH_MAX),
        });
        if let Some(after) = after {
            do_waiting(after);
        }
    }

    /// The file's first read, if it is to be done at its lookup.
    fn first_read(&self, caller: Caller, node: NodeId, file: Arc<FileEntry>) -> Option<impl FnOnce() + Send + use<>> {
        let is_here = || self.client.may_have(&file.content, 0);
        let job = self.first_reads.as_ref()?.looked_up(node, caller.uid, file.content.size, is_here)?;
        let (client, who) = (self.client.clone(), principal(caller));
        Some(move || job.run(|| client.read_whole_now(who, &file.content)))
    }
}

pub(super) fn no_number(path: &NsPath, entry: &Entry) -> Fault {
    let kind = if entry.is_directory() { "directory" } else { "file" };
    Fault::new(FaultKind::Bug, format!("no inode number could be found for the {kind} {path}"))
}
