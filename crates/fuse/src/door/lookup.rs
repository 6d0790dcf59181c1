//! Lookup: a name in a directory becomes a node.

use std::str;

use forebay_model::{Entry, Fault, FaultKind, Found, NameProblem, NsPath, check_name};

use super::{Door, principal};
use crate::attributes::{ATTRIBUTES_FRESH, NAME_FRESH_MAX};
use crate::errno::Errno;
use crate::nodeid::NodeId;
use crate::nodes::Known;
use crate::session::{AnswerEntry, Caller, NamedEntry};

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
            Some(result) => self.answer_lookup(answer, parent, &path, result),
            None => {
                let client = self.client.clone();
                let asked = path.clone();
                let work = async move { client.lookup(principal(caller), &asked).await };
                self.later(answer, work, move |door, answer, result| door.answer_lookup(answer, parent, &path, result));
            }
        }
    }

    fn answer_lookup(&self, answer: impl AnswerEntry, parent: NodeId, path: &NsPath, result: Result<Found, Fault>) {
        match result {
            Ok(found) => self.answer_found(answer, parent, path, &found),
            Err(fault) if fault.kind == FaultKind::NotFound && !fault.fresh_for.is_zero() => {
                self.metrics.error(Errno::NO_ENTRY);
                answer.absent(fault.fresh_for.min(NAME_FRESH_MAX));
            }
            Err(fault) => self.fail(answer, "lookup", parent, &fault),
        }
    }

    fn answer_found(&self, answer: impl AnswerEntry, parent: NodeId, path: &NsPath, found: &Found) {
        let name = path.name().unwrap_or_default();
        let Some(node) = self.nodes.remember(parent, path, name, &found.entry) else {
            return self.fail(answer, "lookup", parent, &no_number(path, &found.entry));
        };
        answer.found(&NamedEntry {
            attributes: self.looks.attributes(node, &found.entry),
            attributes_fresh: ATTRIBUTES_FRESH,
            name_fresh: found.fresh_for.min(NAME_FRESH_MAX),
        });
    }
}

pub(super) fn no_number(path: &NsPath, entry: &Entry) -> Fault {
    let kind = if entry.is_directory() { "directory" } else { "file" };
    Fault::new(FaultKind::Bug, format!("no inode number could be found for the {kind} {path}"))
}
