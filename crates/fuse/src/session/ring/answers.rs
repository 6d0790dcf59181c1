//! Answers to requests that came by a ring.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_client::ReadNow;
use zerocopy::IntoBytes;

use super::abi::{AttrOut, Dirent, EntryOut, OPEN_KEEP_CACHE, OPEN_NO_FLUSH, OPEN_PASSTHROUGH, OpenOut};
use super::backing::RegisteredFile;
use super::queue::do_waiting;
use super::slot::Slot;
use crate::attributes::Attributes;
use crate::errno::Errno;
use crate::session::buffers::REPLY_MAX;
use crate::session::{
    Answer, AnswerAttributes, AnswerBytes, AnswerEntry, AnswerNames, AnswerOpen, AnswerOpenDirectory, Backing, Handle,
    Listed, NamedEntry, file_type_bits,
};

pub(super) struct EntryAnswer(pub(super) Slot);
pub(super) struct AttributesAnswer(pub(super) Slot);
pub(super) struct BytesAnswer(pub(super) Slot);
pub(super) struct OpenAnswer(pub(super) Slot);
pub(super) struct OpenDirectoryAnswer(pub(super) Slot);

pub(super) struct NamesAnswer {
    slot: Slot,
    /// Whether attributes are sent too.
    with_attributes: bool,
    len: usize,
    len_max: usize,
}

impl NamesAnswer {
    pub(super) fn new(slot: Slot, len_max: u32, with_attributes: bool) -> Self {
        Self { slot, with_attributes, len: 0, len_max: (len_max as usize).min(REPLY_MAX) }
    }
}

macro_rules! answer_by_slot {
    ($($answer:ty => |$this:ident| $slot:expr),+ $(,)?) => {$(
        impl Answer for $answer {
            fn fail(self, errno: Errno) {
                let $this = self;
                $slot.fail(errno);
            }
        }
    )+};
}

answer_by_slot! {
    EntryAnswer => |this| this.0,
    AttributesAnswer => |this| this.0,
    BytesAnswer => |this| this.0,
    OpenAnswer => |this| this.0,
    OpenDirectoryAnswer => |this| this.0,
    NamesAnswer => |this| this.slot,
}

impl AnswerEntry for EntryAnswer {
    fn found(self, entry: &NamedEntry) {
        self.0.send_message(&EntryOut::of(entry));
    }

    fn absent(self, fresh: Duration) {
        self.0.send_message(&EntryOut::absent(fresh));
    }
}

impl AnswerAttributes for AttributesAnswer {
    fn attributes(self, attributes: &Attributes, fresh: Duration) {
        self.0.send_message(&AttrOut::of(attributes, fresh));
    }
}

impl AnswerBytes for BytesAnswer {
    fn fill(
        mut self,
        len: usize,
        fill: impl FnOnce(&mut [u8]) -> ReadNow + Send + 'static,
        absent: impl FnOnce(Self) + Send + 'static,
    ) {
        do_waiting(move || match self.0.payload().get_mut(..len).map_or(ReadNow::Absent, fill) {
            ReadNow::Filled => self.0.send(len),
            ReadNow::Absent => absent(self),
        });
    }

    fn bytes(mut self, bytes: &[u8]) {
        self.0.payload()[..bytes.len()].copy_from_slice(bytes);
        self.0.send(bytes.len());
    }

    fn chunks(mut self, chunks: &[Bytes]) {
        let payload = self.0.payload();
        let mut len = 0;
        for chunk in chunks {
            payload[len..len + chunk.len()].copy_from_slice(chunk);
            len += chunk.len();
        }
        self.0.send(len);
    }
}

impl AnswerOpen for OpenAnswer {
    fn register(&self, file: BorrowedFd<'_>) -> io::Result<Backing> {
        let device: &Arc<OwnedFd> = &self.0.queue().device;
        RegisteredFile::new(device.clone(), file.as_raw_fd()).map(|file| Backing(Box::new(file)))
    }

    fn opened_cached(self) {
        self.0.send_message(&OpenOut { handle: 0, open_flags: OPEN_KEEP_CACHE | OPEN_NO_FLUSH, backing_id: 0 });
    }

    fn opened_passthrough(self, backing: &Backing) {
        match backing.0.downcast_ref::<RegisteredFile>() {
            Some(file) => self.0.send_message(&OpenOut {
                handle: 0,
                open_flags: OPEN_PASSTHROUGH | OPEN_NO_FLUSH,
                backing_id: file.id(),
            }),
            None => self.0.fail(Errno::IO),
        }
    }
}

impl AnswerOpenDirectory for OpenDirectoryAnswer {
    fn opened(self, handle: Handle) {
        self.0.send_message(&OpenOut { handle: handle.0, open_flags: 0, backing_id: 0 });
    }
}

impl AnswerNames for NamesAnswer {
    fn add(&mut self, listed: &Listed<'_>) -> bool {
        let head = if self.with_attributes { size_of::<EntryOut>() } else { 0 };
        let unfilled = head + size_of::<Dirent>() + listed.name.len();
        let len = unfilled.next_multiple_of(8);
        if self.len + len > self.len_max {
            return false;
        }
        let place = &mut self.slot.payload()[self.len..self.len + len];
        if self.with_attributes {
            let (attributes, fresh) = (*listed.attributes, listed.fresh);
            let entry = EntryOut::of(&NamedEntry { attributes, attributes_fresh: fresh, name_fresh: fresh });
            place[..head].copy_from_slice(entry.as_bytes());
        }
        let dirent = Dirent {
            ino: listed.attributes.node.0,
            next: listed.next,
            name_len: listed.name.len() as u32,
            // As in `d_type`: the type's bits of the mode.
            kind: file_type_bits(listed.attributes) >> 12,
        };
        place[head..head + size_of::<Dirent>()].copy_from_slice(dirent.as_bytes());
        place[head + size_of::<Dirent>()..unfilled].copy_from_slice(listed.name.as_bytes());
        place[unfilled..].fill(0);
        self.len += len;
        true
    }

    fn done(self) {
        self.slot.send(self.len);
    }
}
