//! The scrub: reads all that the store holds, slowly, again and again, and compares it with its checksums.
//!
//! Always true: what it finds damaged is dropped and counted as if a reader had found it, and nothing else is; it reads past
//! the page cache, no faster than its rate; it ends within a step when the store closes. What was not checked since the
//! machine started comes first, lately used units before others: only then may it be handed out. Then everything once a
//! period.
//!
//! Not here: what a damaged block does (`read`). A page that lies in the page cache is compared as it lies there: what rots
//! below it is found once the kernel has dropped it.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay_model::{ContentId, ExtentIndex, PAGE, page_len};

use crate::eviction::Unit;
use crate::index::SmallPlace;
use crate::large::{Large, pages_in};
use crate::metrics::Counters;
use crate::options::Scrub;
use crate::pack::{self, Pack, entry_len, header_len, read_header};
use crate::read::{Caching, Failure, Reach};
use crate::shared::Shared;

/// What the kernel keeps should be what readers read.
const PAST_CACHE: Reach = Reach::Disk(Caching::Drop);
/// Packs are read by so much: the largest entry, and many small ones.
const WINDOW: usize = PAGE as usize + (64 << 10);
/// A small store is read at this rate, and then left alone until the period is over, rather than be read all the time.
const RATE_MIN: u64 = 1 << 20;
/// Shorter pauses are saved up.
const PAUSE_MIN: Duration = Duration::from_millis(5);

/// The scrub goes on, or the store closes.
type Flow = ControlFlow<()>;

/// Scrubs until the store closes.
pub(crate) fn run(shared: &Arc<Shared>, options: Scrub) {
    if !shared.is_known_before_stop() {
        return;
    }
    let _ = run_until_closed(shared, options);
}

fn run_until_closed(shared: &Arc<Shared>, options: Scrub) -> Flow {
    loop {
        let begun = Instant::now();
        pass(shared, Pace::new(options.rate_max.0), Of::Unverified)?;
        let resident: u64 = shared.directories.iter().map(|directory| directory.used.load(Ordering::Relaxed)).sum();
        pass(shared, Pace::new(rate(resident, options)), Of::Everything)?;
        Counters::add(&shared.counters.scrubs, 1);
        if shared.stops_within(options.period.saturating_sub(begun.elapsed())) {
            return Flow::Break(());
        }
    }
}

/// Bytes a second, so that `resident` bytes take the period.
fn rate(resident: u64, options: Scrub) -> u64 {
    let wanted = resident as f64 / options.period.as_secs_f64();
    (wanted as u64).max(RATE_MIN).min(options.rate_max.0.max(1))
}

/// What a pass is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// What was not checked since the machine started.
    Unverified,
    Everything,
}

/// A unit of the pass.
enum Target {
    Pack(Arc<Pack>),
    Extent(Arc<Large>, ExtentIndex),
}

/// One pass over all directories.
fn pass(shared: &Shared, mut pace: Pace, of: Of) -> Flow {
    let unverified = if of == Of::Unverified { unverified_packs(shared) } else { HashSet::new() };
    let is_due = |pack: &Arc<Pack>| of == Of::Everything || unverified.contains(&pack.slot);
    let mut targets = Vec::new();
    for directory in shared.directories.iter().filter(|directory| !directory.is_down()) {
        let touched = |unit: &Unit| Reverse(unit.touched.load(Ordering::Relaxed));
        let packs = shared.index.packs_of(directory.index).into_iter().filter(is_due);
        targets.extend(packs.map(|pack| (touched(&pack.unit), Target::Pack(pack))));
        for large in shared.index.larges_of(directory.index) {
            let _ = directory.prove_large(&large);
            let extents = large.extents.read();
            targets.extend(extents.iter().map(|(index, extent)| {
                (touched(&extent.unit), Target::Extent(Arc::clone(&large), ExtentIndex(*index)))
            }));
        }
    }
    targets.sort_by_key(|(touched, _)| *touched);
    for (_, target) in targets {
        match target {
            Target::Pack(pack) => scrub_pack(shared, &pack, &mut pace)?,
            Target::Extent(large, extent) => scrub_extent(shared, &large, extent, &mut pace, of)?,
        }
    }
    Flow::Continue(())
}

/// The slots of packs that have an object which was not checked since the machine started.
fn unverified_packs(shared: &Shared) -> HashSet<u32> {
    let packs = (0..shared.directories.len()).flat_map(|directory| shared.index.packs_of(directory));
    let packs: HashMap<u32, Arc<Pack>> = packs
        .inspect(|pack| _ = shared.directories[pack.directory].prove_pack(pack))
        .map(|pack| (pack.slot, pack))
        .collect();
    let mut unverified = HashSet::new();
    let all: Result<(), ()> = shared.index.for_each_small(|_, place| {
        let pack = packs.get(&place.pack).filter(|pack| !place.in_pack(pack).is_verified());
        unverified.extend(pack.map(|pack| pack.slot));
        Ok(())
    });
    // It is broken off by nobody.
    let _ = all;
    unverified
}

fn scrub_extent(shared: &Shared, large: &Arc<Large>, index: ExtentIndex, pace: &mut Pace, of: Of) -> Flow {
    let Some(extent) = large.extent(index) else { return Flow::Continue(()) };
    for page in pages_in(index, extent.residency.resident()) {
        if of == Of::Unverified && extent.is_verified(page) {
            continue;
        }
        let outcome = {
            // As a reader: nobody punches the page meanwhile.
            let _gate = large.pages.reading();
            if !extent.is_resident(page) || shared.is_closed() {
                continue;
            }
            shared.verify_page(large, &extent, page, Caching::Drop)
        };
        if let Err(failure) = outcome {
            shared.large_failed(large, &failure);
        }
        pace.wait(shared, page_len(large.size, page))?;
    }
    Flow::Continue(())
}

/// Reads a pack from its start, entry by entry. Objects that are not reached that way, for a header before them is damaged,
/// are read one by one.
fn scrub_pack(shared: &Shared, pack: &Arc<Pack>, pace: &mut Pace) -> Flow {
    let end = pack.len.load(Ordering::Relaxed);
    // Where objects lie that were compared, in order.
    let mut seen = Vec::new();
    let mut window = Vec::new();
    let mut at = 0;
    'windows: while at < end && !shared.is_closed() && !pack.gone.load(Ordering::Acquire) {
        window.resize(WINDOW.min((end - at) as usize), 0);
        match shared.read_pack(pack, &mut window, at, PAST_CACHE) {
            Ok(()) => {}
            // Cut short, or a bad sector: the objects tell which.
            Err(Failure::Damaged | Failure::Device(_)) => break,
            Err(Failure::Absent | Failure::Waits) => return Flow::Continue(()),
            Err(Failure::Missing | Failure::Unopenable(_)) => {
                shared.pack_missing(pack);
                return Flow::Continue(());
            }
        }
        let mut rest = &window[..];
        loop {
            let gone = pack.dead.lock().end_of(at).map(|until| until - at);
            if let Some(gone) = gone {
                at += gone;
                rest = rest.get(gone as usize..).unwrap_or_default();
                continue;
            }
            let Some(header) = read_header(rest) else { break };
            let Some(entry) = rest.get(..entry_len(header.len.into()) as usize) else { break };
            if let Some(place) = known_at(shared, pack, header.id, at as u32) {
                let is_right = pack::verify_entry(entry, header.id, pack.group, place.len().into()).is_some();
                scrubbed(shared, pack, header.id, place, if is_right { Ok(()) } else { Err(Failure::Damaged) });
                seen.push(place.offset);
            }
            at += entry.len() as u64;
            rest = &rest[entry.len()..];
        }
        let done = (window.len() - rest.len()) as u64;
        pace.wait(shared, done)?;
        if done == 0 && pack.dead.lock().end_of(at).is_none() {
            break 'windows;
        }
    }
    if at < end && !shared.is_closed() {
        scrub_objects(shared, pack, &seen, pace)?;
    }
    Flow::Continue(())
}

/// Reads the objects of a pack that were not seen yet, by the index.
fn scrub_objects(shared: &Shared, pack: &Arc<Pack>, seen: &[u32], pace: &mut Pace) -> Flow {
    let is_due = |place: &SmallPlace| place.pack == pack.slot && seen.binary_search(&place.offset).is_err();
    let mut due = Vec::new();
    let collected: Result<(), ()> = shared.index.for_each_small(|id, place| {
        due.extend(is_due(&place).then_some((id, place)));
        if shared.is_closed() { Err(()) } else { Ok(()) }
    });
    if collected.is_err() {
        return Flow::Break(());
    }
    let mut entry = Vec::new();
    for (id, place) in due {
        let len = u64::from(place.len());
        entry.resize(entry_len(len) as usize, 0);
        // In use until it was compared: what goes meanwhile does not become a hole.
        let Some((_in_use, _)) = shared.index.small(id).filter(|(known, at)| is_at(known, at, pack, place.offset))
        else {
            continue;
        };
        let read = shared.read_pack(pack, &mut entry, place.offset.into(), PAST_CACHE);
        let outcome =
            read.and_then(|()| pack::verify_entry(&entry, id, pack.group, len).map(|_| ()).ok_or(Failure::Damaged));
        scrubbed(shared, pack, id, place, outcome);
        pace.wait(shared, header_len(len) as u64 + len)?;
    }
    Flow::Continue(())
}

/// Where the index has that object, if it is at `offset` of the pack.
fn known_at(shared: &Shared, pack: &Pack, id: ContentId, offset: u32) -> Option<SmallPlace> {
    let (known, place) = shared.index.small(id)?;
    is_at(&known, &place, pack, offset).then_some(place)
}

fn is_at(known: &Pack, place: &SmallPlace, pack: &Pack, offset: u32) -> bool {
    known.slot == pack.slot && place.offset == offset
}

fn scrubbed(shared: &Shared, pack: &Arc<Pack>, id: ContentId, place: SmallPlace, outcome: Result<(), Failure>) {
    match outcome {
        Ok(()) if place.is_verified() => {}
        Ok(()) => shared.index.mark_verified(id, place),
        Err(failure) => shared.small_failed(pack, id, place, &failure),
    }
}

/// Keeps to a rate.
struct Pace {
    rate: u64,
    begun: Instant,
    bytes: u64,
}

impl Pace {
    fn new(rate: u64) -> Self {
        Self { rate: rate.max(1), begun: Instant::now(), bytes: 0 }
    }

    /// Counts bytes that were read, and waits for as long as they should have taken.
    fn wait(&mut self, shared: &Shared, bytes: u64) -> Flow {
        Counters::add(&shared.counters.bytes_scrubbed, bytes);
        let pause = self.pause(bytes, self.begun.elapsed());
        if shared.is_closed() || pause >= PAUSE_MIN && shared.stops_within(pause) {
            return Flow::Break(());
        }
        Flow::Continue(())
    }

    /// How long to wait when so many bytes more were read, so much time after the start.
    fn pause(&mut self, bytes: u64, elapsed: Duration) -> Duration {
        self.bytes += bytes;
        Duration::from_secs_f64(self.bytes as f64 / self.rate as f64).saturating_sub(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::ByteSize;

    use super::*;

    #[test]
    fn it_keeps_to_its_rate() {
        let mut pace = Pace::new(1_000);
        assert_eq!(pace.pause(500, Duration::ZERO), Duration::from_millis(500));
        assert_eq!(pace.pause(500, Duration::from_millis(400)), Duration::from_millis(600));
        assert_eq!(pace.pause(100, Duration::from_secs(9)), Duration::ZERO, "it is late already");
    }

    #[test]
    fn the_rate_follows_the_period_up_to_its_limit() {
        let options = |seconds| Scrub { period: Duration::from_secs(seconds), rate_max: ByteSize(100 << 20) };
        assert_eq!(rate(1 << 40, options(1 << 14)), 64 << 20);
        assert_eq!(rate(1 << 40, options(1)), 100 << 20);
        assert_eq!(rate(1, options(1 << 14)), RATE_MIN);
        let slow = Scrub { rate_max: ByteSize(1), ..options(1 << 14) };
        assert_eq!(rate(1 << 40, slow), 1, "the limit stands above all");
    }
}
