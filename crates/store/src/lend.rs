//! Whole small objects in memory that the store lends. What lies anywhere in a pack is read past the page cache in whole blocks of
//! the disk; whoever takes it as it came spares a copy.
//!
//! Always true: as of any read, and the memory goes back when its last reader lets go of it. It is bounded by how many hold
//! some, which is theirs to see to.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use forebay_model::ContentId;

use crate::index::SmallPlace;
use crate::metrics::Counters;
use crate::pack::{self, Pack};
use crate::past_cache::{ALIGN, READ_MAX, Space};
use crate::read::{Caching, Failure, Reach};
use crate::scratch::{self, Lent};
use crate::shared::Shared;

/// The longest object that is lent ([`crate::Store::lend`]), in bytes.
pub const LEND_MAX: u64 = 256 << 10;

const _: () =
    assert!(pack::header_len(LEND_MAX) + LEND_MAX as usize <= READ_MAX, "it fits wherever it begins in a block");

/// An object in lent memory.
struct Object {
    memory: Lent,
    at: Range<usize>,
}

impl AsRef<[u8]> for Object {
    fn as_ref(&self) -> &[u8] {
        &self.memory[self.at.clone()]
    }
}

impl Shared {
    pub(crate) fn lend(&self, id: ContentId, size: u64, caching: Caching) -> Option<Bytes> {
        if size == 0 || size > LEND_MAX {
            return None;
        }
        let outcome = self.small_here(id, size).ok_or(Failure::Absent).and_then(|(pack, place)| {
            self.lend_from(&pack, id, place, caching)
                .inspect(|_| self.small_was_read(&pack, id, place, size))
                .inspect_err(|failure| self.small_failed(&pack, id, place, failure))
        });
        match outcome {
            Ok(object) => {
                Counters::add(&self.counters.bytes_read, size);
                Some(Bytes::from_owner(object))
            }
            Err(_) => {
                Counters::add(&self.counters.misses, 1);
                None
            }
        }
    }

    fn lend_from(
        &self,
        pack: &Arc<Pack>,
        id: ContentId,
        place: SmallPlace,
        caching: Caching,
    ) -> Result<Object, Failure> {
        let len = u64::from(place.len());
        let header = pack::header_len(len);
        let entry = u64::from(place.offset);
        // What was not verified comes with its header.
        let (from, whole) =
            if place.is_verified() { (entry + header as u64, len as usize) } else { (entry, header + len as usize) };
        let mut memory = scratch::lend().ok_or(Failure::Absent)?;
        let skip = from as usize % ALIGN;
        let range = skip..skip + whole;
        self.read_pack(pack, Space::within(&mut memory, range.clone()), from, Reach::Disk(caching))?;
        if !place.is_verified() {
            pack::verify_entry(&memory[range.clone()], id, pack.group, len).ok_or(Failure::Damaged)?;
        }
        Ok(Object { memory, at: range.end - len as usize..range.end })
    }
}
