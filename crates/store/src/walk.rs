//! Which objects live in a pack: the index goes from objects to packs only, the file's headers the other way.
//!
//! In memory while it is worked with: 32 bytes an object, at most 45 MB (a pack of 64 MiB of empty objects).

use std::sync::atomic::Ordering;

use forebay_model::ContentId;

use crate::index::SmallPlace;
use crate::pack::{Pack, entry_len, read_header};
use crate::read::{Caching, Reach};
use crate::shared::Shared;

/// Headers are looked for in so much at a time: of one object of 100 KB, or of many small ones.
const WINDOW: u64 = 16 << 10;

impl Shared {
    /// The objects that live in a pack. A file that cannot be followed to its end is made up for by a walk through the whole
    /// index.
    pub(crate) fn objects_of(&self, pack: &Pack) -> Vec<(ContentId, SmallPlace)> {
        let objects = self.follow(pack);
        if objects.len() as u64 == pack.objects.load(Ordering::Relaxed) {
            return objects;
        }
        let mut found = Vec::new();
        let all: Result<(), ()> = self.index.for_each_small(|id, place| {
            found.extend((place.pack == pack.slot).then_some((id, place)));
            Ok(())
        });
        debug_assert!(all.is_ok(), "nothing breaks it off");
        found
    }

    /// Those that are found from header to header.
    pub(crate) fn follow(&self, pack: &Pack) -> Vec<(ContentId, SmallPlace)> {
        let (mut at, end) = (0, pack.len.load(Ordering::Relaxed));
        let mut objects = Vec::new();
        let mut window = Vec::new();
        let mut window_at = 0;
        while at < end {
            if let Some(until) = pack.dead.lock().end_of(at) {
                at = until;
                continue;
            }
            let known = |window: &[u8], window_at: u64| {
                window.get((at - window_at) as usize..).and_then(read_header).filter(|_| at >= window_at)
            };
            let mut header = if at >= window_at { known(&window, window_at) } else { None };
            if header.is_none() {
                window.resize(WINDOW.min(end - at) as usize, 0);
                window_at = at;
                if self.read_pack(pack, &mut window, at, Reach::Disk(Caching::Keep)).is_err() {
                    break;
                }
                header = known(&window, window_at);
            }
            let Some(header) = header else { break };
            if let Some((known, place)) = self.index.small(header.id)
                && known.slot == pack.slot
                && u64::from(place.offset) == at
            {
                objects.push((header.id, place));
            }
            at += entry_len(header.len.into());
        }
        objects
    }
}
