//! Read: exactly the bytes asked for, cut at the content's end, or an error. The kernel would fill what lacks with zeros.

use std::sync::Arc;

use bytes::Bytes;
use forebay_client::ReadNow;
use forebay_model::{ByteRange, Fault, FaultKind, FileEntry};
use tokio::sync::OwnedSemaphorePermit;

use super::first_reads::Outcome;
use super::{Door, principal};
use crate::errno::Errno;
use crate::nodeid::NodeId;
use crate::nodes::Known;
use crate::session::{AnswerBytes, Caller};

/// The bytes of a reply and the right to hold them.
struct Held {
    chunks: Vec<Bytes>,
    _permit: OwnedSemaphorePermit,
}

impl Door {
    pub(super) fn read_file(&self, caller: Caller, node: NodeId, offset: u64, len: u32, answer: impl AnswerBytes) {
        let file = match self.nodes.get(node) {
            Some(Known::File(file)) => file,
            Some(Known::Directory(_)) => return self.refuse(answer, Errno::IS_A_DIRECTORY),
            None => return self.refuse(answer, Errno::STALE),
        };
        let range = ByteRange::at(offset, u64::from(len), file.content.size);
        if range.is_empty() {
            return answer.chunks(&[]);
        }
        let Some(first_reads) = &self.first_reads else { return self.read_range(caller, node, file, range, answer) };
        let later = |answer| {
            let (door, file) = (self.clone(), file.clone());
            Box::new(move |bytes: Option<&[u8]>| match bytes {
                Some(bytes) => door.answer_first_read(answer, bytes, range),
                None => door.read_range(caller, node, file, range, answer),
            }) as _
        };
        match first_reads.read(node, caller.uid, range, answer, later) {
            Outcome::Ready(answer, bytes) => {
                self.answer_first_read(answer, &bytes, range);
                first_reads.give_back(node, caller.uid, bytes, range.end);
            }
            Outcome::Later => {}
            Outcome::Absent(answer) => self.read_range(caller, node, file, range, answer),
        }
    }

    /// Answers with a part of the file's bytes.
    fn answer_first_read(&self, answer: impl AnswerBytes, bytes: &[u8], range: ByteRange) {
        self.metrics.reads_at_hand.inc();
        self.metrics.first_reads.inc();
        answer.bytes(&bytes[range.start as usize..range.end as usize]);
    }

    /// Reads `range`, which lies in the file and is not empty.
    fn read_range(
        &self,
        caller: Caller,
        node: NodeId,
        file: Arc<FileEntry>,
        range: ByteRange,
        answer: impl AnswerBytes,
    ) {
        // What is not here costs no try, which may be one on another thread.
        if !self.client.may_have(&file.content, range.start) {
            return self.fetch_range(caller, node, file, range, answer);
        }
        let len = (range.end - range.start) as usize;
        let (door, wanted) = (self.clone(), file.clone());
        let read_now = move |buffer: &mut [u8]| {
            let read = door.client.read_now(principal(caller), &wanted.content, range.start, buffer);
            if read == ReadNow::Filled {
                door.metrics.reads_at_hand.inc();
            }
            read
        };
        let door = self.clone();
        answer.fill(len, read_now, move |answer| door.fetch_range(caller, node, file, range, answer));
    }

    /// Reads what is not at hand.
    fn fetch_range(
        &self,
        caller: Caller,
        node: NodeId,
        file: Arc<FileEntry>,
        range: ByteRange,
        answer: impl AnswerBytes,
    ) {
        let work = self.clone().fetch(caller, file, range);
        self.later(answer, work, move |door, answer, result| match result {
            Ok(held) => answer.chunks(&held.chunks),
            Err(fault) => {
                if fault.kind == FaultKind::Changed {
                    door.outdated(node);
                }
                door.fail(answer, "read", node, &fault);
            }
        });
    }

    async fn fetch(self, caller: Caller, file: Arc<FileEntry>, range: ByteRange) -> Result<Held, Fault> {
        let closed = |_| Fault::new(FaultKind::Bug, "the queue of reads is closed");
        let permit = self.reads.clone().acquire_owned().await.map_err(closed)?;
        let chunks = self.client.read(principal(caller), &file.content, range).await?;
        let got: u64 = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let wanted = range.end - range.start;
        if got != wanted {
            let what = format!("the service gave {got} bytes of {} where {wanted} were asked for", file.content.key);
            return Err(Fault::new(FaultKind::Bug, what));
        }
        Ok(Held { chunks, _permit: permit })
    }

    /// The object behind `node` has changed: the next open looks its name up anew.
    fn outdated(&self, node: NodeId) {
        if let Some(path) = self.nodes.path(node) {
            self.invalidator.path_changed(&path);
        }
    }
}
