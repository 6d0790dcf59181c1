//! Rewriting the index log when more than half of it is of no use any more.
//!
//! Works from the index in memory: it holds whatever the log says that is still true. The writer does it, so nothing of
//! its directory comes or goes meanwhile, except that readers verify pages and drop damaged ones: both may be missed.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay_model::ExtentIndex;

use crate::device::Root;
use crate::evict::FULL_REST;
use crate::large::{Large, pages_in};
use crate::log::Log;
use crate::options::BootId;
use crate::pack::Pack;
use crate::record::{FRAME, Record};
use crate::shared::Shared;
use crate::victim::Among;
use crate::writer::Writer;

/// A log below this length is left alone. The tests of this crate's inside have short ones.
pub(crate) const COMPACT_MIN: u64 = if cfg!(test) { 1 << 10 } else { 1 << 20 };
/// Tries to rewrite an incomplete log before its store closes.
const END_TRIES: u32 = 8;
/// Length of a small object's record.
const SMALL_RECORD: u64 = FRAME as u64 + 16 + 4 + 4 + 4 + 1;
/// Length of the other records of a content, without its sums.
const OTHER_RECORD: u64 = FRAME as u64 + 40;

/// Rewrites the log if it is due.
pub(crate) fn if_due(writer: &mut Writer) {
    rewrite_if(writer, writer.log_is_incomplete && !writer.directory.is_without_room());
}

/// Rewrites the log if it does not say all that is true: another life of the store would believe it. Also where there was no
/// room a moment ago.
pub(crate) fn at_the_end(writer: &mut Writer) {
    for _ in 0..END_TRIES {
        if !writer.log_is_incomplete || writer.directory.is_down() {
            return;
        }
        rewrite_if(writer, true);
        if writer.log_is_incomplete {
            // The room that it needs may be the cache's own. A journaling file system gives it once it has committed that it is free.
            let _ = writer.evict_one(Among::All(None));
            writer.flush();
            let _ = writer.directory.root.sync();
        }
    }
}

fn rewrite_if(writer: &mut Writer, forced: bool) {
    if writer.log.len() < writer.compact_at && !forced {
        return;
    }
    let directory = writer.directory.index;
    let packs = writer.shared.index.packs_of(directory);
    let larges = writer.shared.index.larges_of(directory);
    // A log that is written anew is younger than what it says.
    packs.iter().for_each(|pack| _ = writer.directory.prove_pack(pack));
    larges.iter().for_each(|large| _ = writer.directory.prove_large(large));
    if forced || writer.log.len() > 2 * live_len(&packs, &larges) {
        assert!(writer.has_no_records(), "they would be of no use in another log");
        match rewrite(&writer.shared, &writer.directory.root, writer.directory.boot, &packs, &larges) {
            Ok(log) => {
                writer.log = log;
                writer.log_is_incomplete = false;
                writer.log_is_stale = false;
            }
            // The old one stands. Most likely the disk is full.
            Err(error) => {
                writer.directory.rest_without_room(FULL_REST);
                tracing::warn!(directory, %error, "index log could not be rewritten");
            }
        }
    }
    // Counting what lives takes a walk: not with every batch.
    writer.compact_at = writer.log.len() + (writer.log.len() / 4).max(COMPACT_MIN);
}

/// About how long a rewritten log would be.
fn live_len(packs: &[Arc<Pack>], larges: &[Arc<Large>]) -> u64 {
    let pack = |pack: &Arc<Pack>| OTHER_RECORD + SMALL_RECORD * pack.objects.load(Ordering::Relaxed);
    let large = |large: &Arc<Large>| {
        let extents = large.extents.read().len() as u64;
        // 16 sums of 8 bytes a page.
        OTHER_RECORD * (1 + extents) + 128 * u64::from(large.pages.resident())
    };
    packs.iter().map(pack).sum::<u64>() + larges.iter().map(large).sum::<u64>()
}

fn rewrite(shared: &Shared, root: &Root, boot: BootId, packs: &[Arc<Pack>], larges: &[Arc<Large>]) -> io::Result<Log> {
    let known: HashMap<u32, &Pack> = packs.iter().map(|pack| (pack.slot, &**pack)).collect();
    Log::rewrite(root, |put| {
        put(&Record::Boot(boot))?;
        for pack in packs {
            put(&Record::Pack { pack: pack.number, group: pack.group })?;
        }
        shared.index.for_each_small(|id, place| match known.get(&place.pack) {
            Some(pack) => {
                let (offset, len, verified) = (place.offset, place.len(), place.in_pack(pack).is_verified());
                put(&Record::Small { id, pack: pack.number, offset, len, verified })
            }
            None => Ok(()),
        })?;
        for large in larges {
            put_large(large, put)?;
        }
        Ok(())
    })
}

/// Gives the records of a large content.
pub(crate) fn put_large(large: &Large, put: &mut dyn FnMut(&Record) -> io::Result<()>) -> io::Result<()> {
    let generation = large.generation.load(Ordering::Acquire);
    put(&Record::Large { id: large.id, size: large.size, group: large.group, generation })?;
    let extents: Vec<_> = large.extents.read().iter().map(|(index, extent)| (*index, Arc::clone(extent))).collect();
    for (index, extent) in extents {
        let resident = extent.residency.resident();
        let verified = extent.residency.verified() & resident;
        let pages = pages_in(ExtentIndex(index), resident);
        let sums = pages.flat_map(|page| extent.sums(page)).map(|sum| sum.load(Ordering::Relaxed)).collect();
        put(&Record::Pages { id: large.id, extent: index, resident, verified, sums })?;
    }
    Ok(())
}
