//! What the store's tests have in common: stores in scratch directories, contents made from their ids.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(unreachable_pub, reason = "a module of tests")]

use std::path::Path;
use std::sync::mpsc;

use bytes::Bytes;
use forebay_model::{ByteRange, ByteSize, Capacity, ContentId, PAGE, PageIndex, block_sums, page_count, page_len};
use forebay_store::{
    BootId, Caching, Class, DirectoryOptions, Fill, Group, Kept, NotKept, ReadOutcome, Recovery, Reserve, Store,
    StoreOptions,
};
use proptest::test_runner::Config as ProptestConfig;

/// Options for `directories` of `quota` bytes, with no reserve.
pub fn options(directories: &[&Path], quota: u64) -> StoreOptions {
    // Of one class, however busy the disk is: new contents go to the fastest.
    let directory = |path: &&Path| DirectoryOptions {
        class: Some(Class::Ssd),
        ..DirectoryOptions::new(path.to_path_buf(), Capacity::Bytes(ByteSize(quota)))
    };
    StoreOptions {
        reserve: Reserve::Bytes(ByteSize(0)),
        boot_id: Some(BootId([1; 16])),
        // Both ways of writing, each in about half of the tests.
        fills: if (quota >> 20).is_multiple_of(3) { Caching::Keep } else { Caching::Drop },
        ..StoreOptions::new(directories.iter().map(directory).collect())
    }
}

/// So many cases of a property, or as many as `PROPTEST_CASES` says (`make soak`).
pub fn cases(few: u32) -> ProptestConfig {
    let told = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok());
    ProptestConfig::with_cases(told.unwrap_or(few))
}

pub fn open(options: &StoreOptions) -> (Store, Recovery) {
    Store::open(options).unwrap()
}

pub fn id(number: u64) -> ContentId {
    // Spread as real ids are.
    ContentId::from_u128(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Bytes of a content at `offset`: never zero, different for each content and offset.
pub fn content(number: u64, offset: u64, len: u64) -> Vec<u8> {
    let word = |at: u64| {
        let mixed = (at + 1).wrapping_mul(0x2545_f491_4f6c_dd1d) ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed | 0x0101_0101_0101_0101).to_le_bytes()
    };
    let mut bytes: Vec<u8> = (offset / 8..(offset + len).div_ceil(8)).flat_map(word).collect();
    bytes.drain(..(offset % 8) as usize);
    bytes.truncate(len as usize);
    bytes
}

pub fn fill(number: u64, size: u64, page: PageIndex) -> Fill {
    let bytes = Bytes::from(content(number, page.start(), page_len(size, page)));
    let sums = block_sums(&bytes);
    // In pieces, as the origin gives them.
    let cut = bytes.len() / 3;
    let chunks = vec![bytes.slice(..cut), bytes.slice(cut..)];
    Fill { id: id(number), size, group: Group(number % 3), page, chunks, sums }
}

/// Keeps one page and waits.
pub fn keep_page(store: &Store, number: u64, size: u64, page: PageIndex) -> Kept {
    let (send, receive) = mpsc::channel();
    match store.keep(fill(number, size, page), Box::new(move |kept| _ = send.send(kept))) {
        Ok(()) => receive.recv().unwrap(),
        Err(reason) => Kept::No(reason),
    }
}

/// Keeps all pages of a content and waits for each.
pub fn keep(store: &Store, number: u64, size: u64) {
    for page in 0..page_count(size) {
        assert_eq!(keep_page(store, number, size, PageIndex(page)), Kept::Yes, "content {number} page {page}");
    }
}

/// Reads a range; none if it is absent. Panics at a wrong byte.
pub fn read(store: &Store, number: u64, size: u64, range: ByteRange) -> bool {
    let mut buffer = vec![0; range.len() as usize];
    // Both ways.
    let caching = if range.start.is_multiple_of(2) { Caching::Keep } else { Caching::Drop };
    match store.read(id(number), size, range, &mut buffer, caching) {
        ReadOutcome::Absent => false,
        ReadOutcome::Filled => {
            let right = content(number, range.start, range.len());
            if buffer != right
                && let Some(at) = (0..buffer.len()).find(|&at| buffer[at] != right[at])
            {
                panic!("content {number}: byte {} is {} and not {}", range.start + at as u64, buffer[at], right[at]);
            }
            true
        }
    }
}

/// Pages of the content that are readable.
pub fn readable(store: &Store, number: u64, size: u64) -> u32 {
    let pages = (0..page_count(size)).map(PageIndex);
    pages.filter(|page| read(store, number, size, ByteRange::at(page.start(), PAGE, size))).count() as u32
}

/// Whether a fill was refused for a reason that is no bug.
pub fn may_refuse(kept: Kept) -> bool {
    matches!(kept, Kept::Yes | Kept::No(NotKept::Full | NotKept::QueueFull | NotKept::Outranked))
}

/// Copies a directory with its holes filled: what a `kill -9` at this moment leaves, and another machine restores.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// All files below a directory, in order.
pub fn files(below: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(below).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found.sort();
    found
}
