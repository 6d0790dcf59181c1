//! Many reads at once: in the order in which the bytes lie on the disks, neighbours by one read.
//!
//! Always true: each read of a batch comes out as if it were made alone. Bounded: one buffer of [`SPAN_MAX`].

use forebay_model::{ByteRange, ContentId, PAGE, is_small};

use crate::index::{PackUse, SmallPlace};
use crate::metrics::Counters;
use crate::pack::{self, entry_len, header_len};
use crate::read::{Caching, Failure, Reach, ReadOutcome};
use crate::shared::Shared;

/// The most that is read at once.
const SPAN_MAX: u64 = 2 * PAGE;
/// Bytes between two objects that are read rather than skipped: what a disk reads in the time of another request.
const GAP_MAX: u64 = 64 << 10;

/// One read of a batch.
#[derive(Debug)]
pub struct BatchRead<'a> {
    /// Of which content.
    pub id: ContentId,
    /// Its size in bytes.
    pub size: u64,
    /// Which of its bytes.
    pub range: ByteRange,
    /// Where they go: as long as the range.
    pub buffer: &'a mut [u8],
    /// What came of it.
    pub outcome: ReadOutcome,
}

/// A small object of the batch.
struct Placed {
    /// Which read.
    read: usize,
    pack: PackUse,
    place: SmallPlace,
}

impl Placed {
    fn start(&self) -> u64 {
        self.place.offset.into()
    }

    fn end(&self) -> u64 {
        self.start() + entry_len(self.place.len().into())
    }

    /// Orders by position; entries of one pack are neighbours.
    fn position(&self) -> (usize, u32, u32) {
        (self.pack.directory, self.pack.number, self.place.offset)
    }

    fn is_near(&self, next: &Self) -> bool {
        self.pack.slot == next.pack.slot && next.start().saturating_sub(self.end()) <= GAP_MAX
    }
}

impl Shared {
    pub(crate) fn read_batch(&self, reads: &mut [BatchRead<'_>], caching: Caching) {
        let mut placed = Vec::new();
        for (read, of) in reads.iter_mut().enumerate() {
            match Some(of.size).filter(|size| is_small(*size)).and_then(|size| self.small_here(of.id, size)) {
                Some((pack, place)) => placed.push(Placed { read, pack, place }),
                None => self.read_one(of, caching),
            }
        }
        placed.sort_unstable_by_key(Placed::position);
        let mut span = Vec::new();
        for run in runs(&placed) {
            let (Some(first), Some(last)) = (run.first(), run.last()) else { continue };
            span.resize((last.end() - first.start()) as usize, 0);
            // What a run cannot give, for one of it is damaged or a file is gone, each read finds out by itself.
            let together =
                run.len() > 1 && self.read_pack(&first.pack, &mut span, first.start(), Reach::Disk(caching)).is_ok();
            for one in run {
                let read = &mut reads[one.read];
                if together {
                    let at = (one.start() - first.start()) as usize;
                    self.take(one, &span[at..at + (one.end() - one.start()) as usize], read);
                } else {
                    self.read_one(read, caching);
                }
            }
        }
    }

    fn read_one(&self, read: &mut BatchRead<'_>, caching: Caching) {
        read.outcome = self.read(read.id, read.size, read.range, read.buffer, caching);
    }

    /// Answers a read from its entry.
    fn take(&self, one: &Placed, entry: &[u8], read: &mut BatchRead<'_>) {
        let len = u64::from(one.place.len());
        let data = if one.place.is_verified() {
            Some(&entry[header_len(len)..])
        } else {
            pack::verify_entry(entry, read.id, one.pack.group, len)
        };
        let Some(data) = data else {
            self.small_failed(&one.pack, read.id, one.place, &Failure::Damaged);
            Counters::add(&self.counters.misses, 1);
            read.outcome = ReadOutcome::Absent;
            return;
        };
        read.buffer.copy_from_slice(&data[read.range.start as usize..read.range.end as usize]);
        self.small_was_read(&one.pack, read.id, one.place, read.range.len());
        Counters::add(&self.counters.bytes_read, read.range.len());
        read.outcome = ReadOutcome::Filled;
    }
}

/// Cuts what is ordered by position into what is read at once.
fn runs(placed: &[Placed]) -> impl Iterator<Item = &[Placed]> {
    let mut rest = placed;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let mut len = 1;
        while rest.get(len).is_some_and(|next| rest[len - 1].is_near(next) && next.end() - first.start() <= SPAN_MAX) {
            len += 1;
        }
        let (run, after) = rest.split_at(len);
        rest = after;
        Some(run)
    })
}
