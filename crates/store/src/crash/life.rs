//! The life of a small store whose directory's journal is kept: contents, what is done with them, what may be read.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Duration;

use bytes::Bytes;
use forebay_model::{ByteRange, ByteSize, Capacity, ContentId, EXTENT, PAGE, PageIndex, block_sums, page_len};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::disk::{Disk, hash};
use crate::device::journal::{FileNo, Journal, Step};
use crate::{BootId, Caching, DirectoryOptions, Fill, Group, Kept, NotKept, ReadOutcome, Reserve, Store, StoreOptions};

/// Contents that there are.
pub(super) const CONTENTS: u32 = 96;
/// Every so many is large.
const LARGE_EVERY: u32 = 4;
/// Long enough for any write here; without it a writer that hangs would hang the test.
const PATIENCE: Duration = Duration::from_secs(60);
/// The mark of a content that is about to be forgotten.
const FORGETS: u64 = 1 << 63;

/// What kind of life a store has.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    quota: u64,
    /// Whole pages of large contents are kept too, not only short last ones: holes are punched.
    pub(super) pages: bool,
    fills: Caching,
}

impl Kind {
    pub(super) const ROOMY: Self = Self { quota: 1 << 30, pages: false, fills: Caching::Keep };

    pub(super) fn of(seed: u64) -> Self {
        let fills = if seed & 1 == 0 { Caching::Keep } else { Caching::Drop };
        match hash(seed) % 8 {
            0 => Self { quota: 6 << 20, pages: true, fills },
            1 => Self { fills, ..Self::ROOMY },
            _ => Self { quota: 64 << 10, pages: false, fills },
        }
    }

    /// Whether nothing is ever evicted.
    pub(super) fn is_roomy(self) -> bool {
        self.quota == Self::ROOMY.quota
    }

    fn options(self, path: &Path, boot: u8) -> StoreOptions {
        let capacity = Capacity::Bytes(ByteSize(self.quota));
        StoreOptions {
            reserve: Reserve::Bytes(ByteSize(0)),
            boot_id: Some(BootId([boot; 16])),
            fills: self.fills,
            ..StoreOptions::new(vec![DirectoryOptions::new(path.to_owned(), capacity)])
        }
    }
}

pub(super) fn id(content: u32) -> ContentId {
    // Spread as real ids are.
    ContentId::from_u128(u128::from(content + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn is_large(content: u32) -> bool {
    content.is_multiple_of(LARGE_EVERY)
}

/// Small ones below 3 KiB, every eighth below 12, which leaves a hole when it goes; large ones of two pages or of two extents, whose last page is short.
pub(super) fn size(content: u32) -> u64 {
    let some = 1 + hash(content.into()) % 3000;
    match content / LARGE_EVERY % 2 {
        _ if content % 8 == 1 => 4 * some,
        _ if !is_large(content) => some,
        0 => PAGE + some,
        _ => EXTENT + some,
    }
}

/// The pages of a content that are ever kept.
pub(super) fn pages(content: u32, kind: Kind) -> Vec<PageIndex> {
    let last = PageIndex(((size(content) - 1) / PAGE) as u32);
    if is_large(content) && kind.pages { vec![PageIndex(0), last] } else { vec![last] }
}

/// The bytes of a page: none is zero, no two pages have the same.
fn bytes(content: u32, page: PageIndex) -> Vec<u8> {
    let len = page_len(size(content), page) as usize;
    let mut word = hash(u64::from(content) << 32 | u64::from(page.0)) | 1;
    let words = std::iter::repeat_with(|| {
        word = word.wrapping_mul(0xd129_0d3b_3a8f_2b45).wrapping_add(0x632b_e5ab_17b3_22d9);
        (word | 0x0101_0101_0101_0101).to_le_bytes()
    });
    let mut bytes: Vec<u8> = words.take(len.div_ceil(8)).flatten().collect();
    bytes.truncate(len);
    bytes
}

/// A store and the journal of its directory.
pub(super) struct Life {
    store: Store,
    journal: Arc<Journal>,
    kind: Kind,
    random: StdRng,
}

impl Life {
    /// Opens a store on what lies at `path`, which is `disk`.
    pub(super) fn begin(path: &Path, disk: &Disk, next_file: FileNo, kind: Kind, boot: u8, seed: u64) -> Self {
        let known: Vec<_> = disk.names.iter().map(|(name, file)| (name.as_str(), *file)).collect();
        let journal = Journal::begin(path, &known, next_file);
        let (store, _) = Store::open(&kind.options(path, boot)).expect("whatever a crash leaves can be opened");
        Self { store, journal, kind, random: StdRng::seed_from_u64(seed) }
    }

    /// Closes the store; what was done.
    pub(super) fn end(self) -> Vec<Step> {
        self.store.close().expect("it closes in time");
        drop(self.store);
        self.journal.end()
    }

    /// Keeps, reads and forgets contents, `count` times.
    pub(super) fn go_on(&mut self, count: usize) {
        for _ in 0..count {
            let content = self.random.random_range(0..CONTENTS);
            match self.random.random_range(0..16) {
                0 => self.forget(content),
                1..=3 => _ = self.readable(content),
                4 => {
                    let some: Vec<u32> = (0..8).map(|_| self.random.random_range(0..CONTENTS)).collect();
                    self.keep(&some);
                }
                _ => self.keep(&[content]),
            }
        }
    }

    /// Keeps contents, all under way at once, and waits for what becomes of them.
    pub(super) fn keep(&self, contents: &[u32]) {
        let (send, receive) = mpsc::channel();
        for content in contents {
            for page in pages(*content, self.kind) {
                let bytes = Bytes::from(bytes(*content, page));
                let sums = block_sums(&bytes);
                let chunks = vec![bytes.slice(..bytes.len() / 2), bytes.slice(bytes.len() / 2..)];
                let fill = Fill { id: id(*content), size: size(*content), group: group(*content), page, chunks, sums };
                let (send, journal, mark) = (send.clone(), Arc::clone(&self.journal), mark_of(*content, page));
                let done = move |kept| {
                    if kept == Kept::Yes {
                        journal.mark(mark);
                    }
                    let _ = send.send(kept);
                };
                self.store.keep(fill, Box::new(done)).expect("the queue has room");
            }
        }
        drop(send);
        let all = contents.iter().map(|content| pages(*content, self.kind).len()).sum();
        for _ in 0..all {
            let kept = receive.recv_timeout(PATIENCE).expect("each is answered");
            assert!(matches!(kept, Kept::Yes | Kept::No(NotKept::Full | NotKept::Outranked)), "{kept:?}");
        }
    }

    fn forget(&self, content: u32) {
        self.journal.mark(FORGETS | u64::from(content));
        self.store.forget(id(content));
    }

    /// The pages of a content that can be read. Panics at a wrong byte.
    pub(super) fn readable(&self, content: u32) -> BTreeSet<(u32, PageIndex)> {
        let is_right = |page: &PageIndex| {
            let (size, right) = (size(content), bytes(content, *page));
            let mut buffer = vec![0; right.len()];
            let range = ByteRange::at(page.start(), PAGE, size);
            match self.store.read(id(content), size, range, &mut buffer, Caching::Keep) {
                ReadOutcome::Absent => false,
                ReadOutcome::Filled => {
                    assert!(buffer == right, "content {content} {page:?}: wrong bytes");
                    true
                }
            }
        };
        let found = pages(content, self.kind).into_iter().filter(is_right).map(|page| (content, page)).collect();
        if let Some(descriptor) = self.store.descriptor(id(content), size(content)) {
            for page in pages(content, self.kind) {
                let right = bytes(content, page);
                let mut buffer = vec![0; right.len()];
                rustix::io::pread(&descriptor.file, &mut buffer[..], page.start()).expect("it can be read");
                assert!(buffer == right, "content {content} {page:?}: wrong bytes handed out");
            }
        }
        found
    }

    /// All that can be read. Panics at a wrong byte, or if a directory was taken out.
    pub(super) fn all_readable(&self) -> BTreeSet<(u32, PageIndex)> {
        let all = (0..CONTENTS).flat_map(|content| self.readable(content)).collect();
        let stats = self.store.stats();
        assert_eq!(stats.directories_down, 0, "{stats:?}");
        all
    }
}

fn group(content: u32) -> Group {
    Group(u64::from(content % 3))
}

fn mark_of(content: u32, page: PageIndex) -> u64 {
    u64::from(content) << 32 | u64::from(page.0)
}

/// What the marks among `steps` say was kept and never forgotten.
pub(super) fn acknowledged(steps: &[Step]) -> BTreeSet<(u32, PageIndex)> {
    let marks = || steps.iter().filter_map(|step| if let Step::Mark(mark) = step { Some(*mark) } else { None });
    // Forgotten once is enough: it may be kept again, and the order to forget be done later.
    let forgotten: BTreeSet<u32> = marks().filter(|mark| mark & FORGETS != 0).map(|mark| mark as u32).collect();
    let kept = marks().filter(|mark| mark & FORGETS == 0).map(|mark| ((mark >> 32) as u32, PageIndex(mark as u32)));
    kept.filter(|(content, _)| !forgotten.contains(content)).collect()
}
