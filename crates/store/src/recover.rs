//! From a directory's log to the index: what the store knows soon after it opens.
//!
//! Reads the log only; of files that it names it asks the times and the room that they take: the time goes by records and
//! files, and the memory by what they leave. Whatever is not as the log says is found when it is read. What the records
//! come to is in `replay`.
//!
//! Always true: the directory's writer does this before anything else, so nothing is written beside it. Readers see
//! small objects as they become known, and believe none of their bytes unchecked until the whole log was read; large
//! contents become known together at the end. `docs/decisions/0008-index-and-recovery.md` has the argument.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::device;
use crate::directory::Directory;
use crate::evict::FULL_REST;
use crate::eviction::Unit;
use crate::evictor::Evictor;
use crate::log::{Found, Log};
use crate::pack;
use crate::record::Record;
use crate::recovery::Recovery;
use crate::replay::{Replay, Replayed};
use crate::shared::Shared;

/// The block of most file systems: a file's last one is counted as far as the file goes.
const FILE_BLOCK: u64 = 4096;

/// What a directory's writer starts from.
pub(crate) struct Recovered {
    pub(crate) log: Log,
    pub(crate) log_is_stale: bool,
    pub(crate) log_is_incomplete: bool,
    pub(crate) evictor: Evictor,
    pub(crate) next_pack: u32,
}

/// Replays the log of `directory` into the index. None: the store is closing, or the log cannot be read and the directory
/// is taken out.
pub(crate) fn recover(shared: &Shared, directory: &Directory, found: Found) -> Option<Recovered> {
    let boot = directory.boot;
    let mut replay = Replay::new(&shared.index, directory);
    let replayed = found.replay(&directory.root, |record| {
        replay.apply(record);
        if shared.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    let (mut log, cut) = match replayed {
        Ok(log) => log?,
        Err(error) => {
            directory.take_out(&error);
            return None;
        }
    };
    if cut > 0 {
        tracing::warn!(directory = %directory.root.path().display(), bytes = cut, "index log was torn and is cut");
    }
    let (closed, empty, next_pack) = (replay.closed, replay.empty, replay.last_pack);
    // Before anything of this directory can be given a new name.
    shared.next_generation.fetch_max(replay.last_generation + 1, Ordering::Relaxed);
    let found = replay.end(cut > 0, boot);
    let mut report = Recovery {
        cut_bytes: cut,
        unclean: u64::from(!closed && !empty),
        unverified: u64::from(!found.trusted && !empty),
        ..Recovery::default()
    };
    let mut evictor = Evictor::new(shared.eviction);
    let is_as_it_was = settle(directory, &found, &mut evictor, &mut report);
    shared.index.sweep();
    let mut records = Vec::new();
    for gone in &found.gone {
        log.encode(&Record::LargeGone { id: gone.id }, &mut records);
    }
    // Without the first the next start would trust what this one does not. A disk that is full is no reason not to open:
    // then nothing is appended before the log was rewritten.
    let begun = if found.trusted { Ok(()) } else { log.begin_boot(boot) };
    // One that says of files that were changed that they are verified is rewritten before anything is appended: it would
    // be younger than the change.
    let records = if is_as_it_was { &records[..] } else { &[] };
    let appended = begun.as_ref().map_or(Ok(()), |()| log.append(records));
    for error in [&begun, &appended].into_iter().filter_map(|outcome| outcome.as_ref().err()) {
        directory.rest_without_room(FULL_REST);
        tracing::warn!(directory = %directory.root.path().display(), %error, "index log cannot be written");
    }
    let log_is_stale = begun.is_err() || found.trusted && !is_as_it_was;
    let log_is_incomplete = log_is_stale || appended.is_err();
    for error in [begun, appended].into_iter().filter_map(Result::err) {
        if !device::is_full(&error) {
            directory.take_out(&error);
        }
    }
    if directory.end_recovery() {
        shared.recoveries.end(&report, found.elsewhere, |again| shared.index.insert_again(again));
    }
    Some(Recovered { log, log_is_stale, log_is_incomplete, evictor, next_pack })
}

/// Says that a directory is known, or never will be, unless that was said before.
pub(crate) fn end(shared: &Shared, directory: &Directory, report: &Recovery) {
    if directory.end_recovery() {
        shared.recoveries.end(report, Vec::new(), |again| shared.index.insert_again(again));
    }
}

/// Brings what was found into the directory's account, the policy and the report. The files of large contents of which
/// nothing is left, or that another directory has, are unlinked. False: of what the log says is verified, some was changed
/// after the log was.
fn settle(directory: &Directory, found: &Replayed, evictor: &mut Evictor, report: &mut Recovery) -> bool {
    let mut is_as_it_was = true;
    let mut count = |unit: &Arc<Unit>| {
        directory.add_used(unit, unit.bytes.load(Ordering::Relaxed));
        evictor.insert(Arc::clone(unit), false);
    };
    for pack in &found.packs {
        is_as_it_was &= directory.prove_pack(pack);
        // What is a hole takes no room; what is gone and none does.
        let len = pack.len.load(Ordering::Relaxed);
        let beyond = len.next_multiple_of(FILE_BLOCK) - len;
        let room = directory.root.room_of(&pack::name(pack.number));
        let taken = room.map_or(len, |room| room.saturating_sub(beyond).min(len));
        pack.unit.bytes.store(taken, Ordering::Relaxed);
        count(&pack.unit);
        report.contents += pack.objects.load(Ordering::Relaxed);
    }
    for large in &found.larges {
        is_as_it_was &= directory.prove_large(large);
        large.extents.read().values().for_each(|extent| count(&extent.unit));
        report.contents += 1;
        report.pages += u64::from(large.pages.resident());
    }
    for large in &found.gone {
        // One that is there is a stray from now on; the sweeper takes those that cannot be unlinked now.
        let _ = directory.root.unlink(&large.name());
    }
    report.bytes += directory.used.load(Ordering::Relaxed);
    is_as_it_was
}
