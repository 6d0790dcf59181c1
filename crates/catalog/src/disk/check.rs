//! Whether a database file has the structure that LMDB relies on. LMDB follows page numbers and offsets in the map without
//! looking at them twice, so a damaged file could take the process with it; this looks first, before it is mapped.
//!
//! Looked at: both meta pages, and every branch and leaf page, which are one or two in a hundred (blocks fill pages of their
//! own); of those the header alone, for as long as [`OVERFLOW_TIME`] allows. What blocks say is proved by their own checksums
//! when they are read. The form is that of LMDB 0.9 (`mdb.c`): numbers in the byte order of the machine.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

const PAGE: usize = 4096;
const HEADER: usize = 16;
const NODE_HEADER: usize = 8;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const OVERFLOW: u16 = 4;
const META: u16 = 8;
const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
/// A node's data stands on pages of its own.
const BIG: u16 = 1;
const NO_PAGE: u64 = u64::MAX;
const DEPTH_MAX: usize = 32;
/// For how long headers of blocks' pages are looked at: of ten million entries all are within a second.
const OVERFLOW_TIME: Duration = Duration::from_secs(2);

/// Looks at the file at `path`.
pub(super) fn check(path: &Path, size_max: u64) -> io::Result<()> {
    let file = File::open(path)?;
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let metas = [Meta::read(&file, 0)?, Meta::read(&file, 1)?];
    let meta = if metas[1].txn > metas[0].txn { &metas[1] } else { &metas[0] };
    // The file may be shorter: free pages at its end were never written.
    let pages = meta.last_page.checked_add(1).filter(|pages| *pages <= size_max / PAGE as u64);
    let pages = pages.ok_or_else(|| damaged("it has more pages than it may"))?;
    let mut walk =
        Walk { file: &file, used: vec![0; (pages as usize).div_ceil(8)], pages, until: Instant::now() + OVERFLOW_TIME };
    walk.take(0, 2)?;
    walk.tree(meta.free_root, true)?;
    walk.tree(meta.main_root, false)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

fn u16_at(page: &[u8], at: usize) -> u16 {
    u16::from_ne_bytes([page[at], page[at + 1]])
}

fn u32_at(page: &[u8], at: usize) -> u32 {
    u32::from(u16_at(page, at)) | u32::from(u16_at(page, at + 2)) << 16
}

fn u64_at(page: &[u8], at: usize) -> u64 {
    u64::from(u32_at(page, at)) | u64::from(u32_at(page, at + 4)) << 32
}

struct Meta {
    free_root: u64,
    main_root: u64,
    last_page: u64,
    txn: u64,
}

impl Meta {
    fn read(file: &File, number: u64) -> io::Result<Self> {
        let mut page = [0; PAGE];
        file.read_exact_at(&mut page, number * PAGE as u64)?;
        let (free, main) = (HEADER + 24, HEADER + 24 + 48);
        let is_meta = u64_at(&page, 0) == number
            && u16_at(&page, 10) == META
            && u32_at(&page, HEADER) == MAGIC
            && u32_at(&page, HEADER + 4) == VERSION
            // Of our making: pages of that size, a free list by numbers, one tree without duplicates.
            && u32_at(&page, free) == PAGE as u32
            && u16_at(&page, free + 4) & 0xff == 8
            && u16_at(&page, main + 4) == 0;
        if !is_meta {
            return Err(damaged("a meta page is none"));
        }
        let (free_root, main_root) = (u64_at(&page, free + 40), u64_at(&page, main + 40));
        let end = main + 48;
        Ok(Self { free_root, main_root, last_page: u64_at(&page, end), txn: u64_at(&page, end + 8) })
    }
}

struct Walk<'a> {
    file: &'a File,
    /// A bit for each page that something has.
    used: Vec<u8>,
    pages: u64,
    until: Instant,
}

impl Walk<'_> {
    /// Notes that something has the pages, which nothing else may.
    fn take(&mut self, first: u64, count: u64) -> io::Result<()> {
        if first.checked_add(count).is_none_or(|end| end > self.pages) {
            return Err(damaged("a page number lies outside of the file"));
        }
        for page in first..first + count {
            let (byte, bit) = ((page / 8) as usize, 1 << (page % 8));
            if self.used[byte] & bit != 0 {
                return Err(damaged("two have one page"));
            }
            self.used[byte] |= bit;
        }
        Ok(())
    }

    fn tree(&mut self, root: u64, is_free_list: bool) -> io::Result<()> {
        if root == NO_PAGE {
            return Ok(());
        }
        let mut left = vec![(root, 1)];
        let mut page = [0; PAGE];
        while let Some((number, depth)) = left.pop() {
            self.take(number, 1)?;
            self.file.read_exact_at(&mut page, number * PAGE as u64)?;
            let is_branch = match u16_at(&page, 10) {
                BRANCH => true,
                LEAF => false,
                _ => return Err(damaged("a page is neither branch nor leaf")),
            };
            if u64_at(&page, 0) != number || depth > DEPTH_MAX {
                return Err(damaged("a page stands at another's place"));
            }
            let mut key_before: Option<&[u8]> = None;
            for (nth, node) in nodes(&page)?.enumerate() {
                let node = node?;
                // A branch's first key is never looked at.
                let is_compared = !(is_free_list || is_branch && nth == 0);
                if is_compared && key_before.is_some_and(|before| before >= node.key) {
                    return Err(damaged("keys are not in order"));
                }
                key_before = is_compared.then_some(node.key);
                if is_branch {
                    left.push((node.page(), depth + 1));
                    continue;
                }
                self.leaf(&node, is_free_list)?;
            }
        }
        Ok(())
    }

    fn leaf(&mut self, node: &Node<'_>, is_free_list: bool) -> io::Result<()> {
        let len = node.len();
        let mut list = Vec::new();
        match node.flags {
            0 if is_free_list => list.extend_from_slice(node.data.get(..len).ok_or_else(|| damaged("data is cut"))?),
            0 if len <= node.data.len() => {}
            BIG if node.data.len() >= 8 => {
                let first = u64_at(node.data, 0);
                let count = (HEADER + len).div_ceil(PAGE) as u64;
                self.take(first, count)?;
                if is_free_list || Instant::now() < self.until {
                    let mut header = [0; HEADER];
                    self.file.read_exact_at(&mut header, first * PAGE as u64)?;
                    let is_whole = u64_at(&header, 0) == first
                        && u16_at(&header, 10) == OVERFLOW
                        && u64::from(u32_at(&header, 12)) == count;
                    if !is_whole {
                        return Err(damaged("a page of data is none"));
                    }
                }
                if is_free_list {
                    list.resize(len, 0);
                    self.file.read_exact_at(&mut list, first * PAGE as u64 + HEADER as u64)?;
                }
            }
            _ => return Err(damaged("a node is none of ours")),
        }
        if !is_free_list {
            return Ok(());
        }
        let numbers: Vec<u64> = list.chunks_exact(8).map(|n| u64_at(n, 0)).collect();
        let is_list = node.key.len() == 8 && numbers.first().is_some_and(|count| *count as usize == numbers.len() - 1);
        if !is_list || list.len() % 8 != 0 {
            return Err(damaged("a list of free pages is none"));
        }
        numbers[1..].iter().try_for_each(|page| self.take(*page, 1))
    }
}

struct Node<'a> {
    low: u16,
    high: u16,
    flags: u16,
    key: &'a [u8],
    /// What follows the key on the page: the data or more.
    data: &'a [u8],
}

impl Node<'_> {
    fn page(&self) -> u64 {
        u64::from(self.low) | u64::from(self.high) << 16 | u64::from(self.flags) << 32
    }

    fn len(&self) -> usize {
        usize::from(self.low) | usize::from(self.high) << 16
    }
}

fn nodes(page: &[u8; PAGE]) -> io::Result<impl Iterator<Item = io::Result<Node<'_>>>> {
    let (lower, upper) = (usize::from(u16_at(page, 12)), usize::from(u16_at(page, 14)));
    if lower < HEADER || lower > upper || upper > PAGE || lower % 2 != 0 {
        return Err(damaged("a page's bounds are none"));
    }
    Ok((HEADER..lower).step_by(2).map(move |at| {
        let start = usize::from(u16_at(page, at));
        let node = page.get(start..).filter(|node| start >= upper && node.len() >= NODE_HEADER);
        let node = node.ok_or_else(|| damaged("a node lies outside of its page"))?;
        let key_len = usize::from(u16_at(node, 6));
        let (key, data) = node[NODE_HEADER..].split_at_checked(key_len).ok_or_else(|| damaged("a key is cut"))?;
        Ok(Node { low: u16_at(node, 0), high: u16_at(node, 2), flags: u16_at(node, 4), key, data })
    }))
}
