//! Whether a database file has the structure that LMDB relies on. LMDB follows page numbers and offsets in the map without
//! looking at them twice, so a damaged file could take the process with it; this looks first, before it is mapped.
//!
//! Looked at: both meta pages, and every branch and leaf page, which are one or two in a hundred (blocks fill pages of their
//! own): what they point to, the order of keys over the whole tree, and that nodes fill their pages as LMDB left them, for it
//! moves them by the lengths that they say. Of blocks' pages the header alone, for as long as [`OVERFLOW_TIME`] allows. What blocks say is proved by their own checksums
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
/// Of a tree: its keys are numbers.
const INTEGER_KEYS: u16 = 8;
/// What LMDB takes at most: bytes of a key, and of a node with its key and what data it holds itself.
const KEY_MAX: usize = 511;
const NODE_MAX: usize = 2038;
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
    // Each transaction writes the meta page of its parity; of a new file both are of none.
    let is_turn = metas[0].txn.abs_diff(metas[1].txn) == 1 && metas[0].txn.is_multiple_of(2);
    if !is_turn && (metas[0].txn, metas[1].txn) != (0, 0) {
        return Err(damaged("a meta page is of another transaction"));
    }
    // The file may be shorter: free pages at its end were never written.
    let pages = meta.last_page.checked_add(1).filter(|pages| *pages <= size_max / PAGE as u64);
    let pages = pages.ok_or_else(|| damaged("it has more pages than it may"))?;
    let mut walk =
        Walk { file: &file, used: vec![0; (pages as usize).div_ceil(8)], pages, until: Instant::now() + OVERFLOW_TIME };
    walk.take(0, 2)?;
    walk.tree(&meta.free, Some(meta.txn))?;
    walk.tree(&meta.main, None)
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
    free: Tree,
    main: Tree,
    last_page: u64,
    txn: u64,
}

/// What a meta page says of a tree.
#[derive(Default, PartialEq)]
struct Tree {
    root: u64,
    depth: u16,
    branches: u64,
    leaves: u64,
    overflows: u64,
    entries: u64,
}

impl Tree {
    fn read(meta: &[u8]) -> Self {
        Self {
            root: u64_at(meta, 40),
            depth: u16_at(meta, 6),
            branches: u64_at(meta, 8),
            leaves: u64_at(meta, 16),
            overflows: u64_at(meta, 24),
            entries: u64_at(meta, 32),
        }
    }
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
            && u16_at(&page, free + 4) == INTEGER_KEYS
            && u16_at(&page, main + 4) == 0;
        if !is_meta {
            return Err(damaged("a meta page is none"));
        }
        let end = main + 48;
        let (free, main) = (Tree::read(&page[free..]), Tree::read(&page[main..]));
        Ok(Self { free, main, last_page: u64_at(&page, end), txn: u64_at(&page, end + 8) })
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

    /// Follows a tree: that of free pages as of transaction `free_of`, or the main one.
    fn tree(&mut self, tree: &Tree, free_of: Option<u64>) -> io::Result<()> {
        let mut found = Tree { root: tree.root, depth: tree.depth, ..Tree::default() };
        let mut left = Vec::new();
        if tree.root != NO_PAGE {
            left.push(Subtree { root: tree.root, depth: 1, from: Vec::new(), to: None });
        }
        let (mut page, mut all_seen) = ([0; PAGE], true);
        while let Some(subtree) = left.pop() {
            self.take(subtree.root, 1)?;
            self.file.read_exact_at(&mut page, subtree.root * PAGE as u64)?;
            let is_branch = match u16_at(&page, 10) {
                BRANCH => true,
                LEAF => false,
                _ => return Err(damaged("a page is neither branch nor leaf")),
            };
            // All leaves lie equally deep.
            let is_in_place = if is_branch { subtree.depth < tree.depth } else { subtree.depth == tree.depth };
            if u64_at(&page, 0) != subtree.root || !is_in_place || usize::from(tree.depth) > DEPTH_MAX {
                return Err(damaged("a page stands at another's place"));
            }
            let nodes = nodes(&page, is_branch)?;
            let keys = nodes.iter().enumerate().map(|(nth, node)| match free_of {
                // A branch's first key is never looked at.
                _ if is_branch && nth == 0 => Ok(subtree.from.clone()),
                None if !node.key.is_empty() && node.key.len() <= KEY_MAX => Ok(node.key.to_vec()),
                // Numbers of transactions, so turned that bytes are in their order.
                Some(last) if node.key.len() == 8 && u64_at(node.key, 0) <= last => {
                    Ok(u64_at(node.key, 0).to_be_bytes().to_vec())
                }
                _ => Err(damaged("a key is none")),
            });
            let keys = keys.collect::<io::Result<Vec<_>>>()?;
            let is_in_order = keys.is_sorted_by(|a, b| a < b)
                && keys.first().is_none_or(|first| *first >= subtree.from)
                && keys.last().is_none_or(|last| subtree.to.as_ref().is_none_or(|to| last < to));
            if !is_in_order {
                return Err(damaged("keys are not in order"));
            }
            if is_branch {
                found.branches += 1;
                let ends = keys.iter().skip(1).cloned().map(Some).chain([subtree.to]);
                for ((node, from), to) in nodes.iter().zip(&keys).zip(ends) {
                    left.push(Subtree { root: node.page(), depth: subtree.depth + 1, from: from.clone(), to });
                }
                continue;
            }
            found.leaves += 1;
            found.entries += nodes.len() as u64;
            for node in &nodes {
                match self.leaf(node, free_of.is_some())? {
                    Some(pages) => found.overflows += pages,
                    None => all_seen = false,
                }
            }
        }
        if !all_seen {
            found.overflows = tree.overflows;
        }
        // Nothing comes of wrong counts of the free list.
        if free_of.is_none() && found != *tree {
            return Err(damaged("there is more or less than it says"));
        }
        Ok(())
    }

    /// Looks at a leaf's node. Gives how many pages of its own its data has, or none if there was no time to look.
    fn leaf(&mut self, node: &Node<'_>, is_free_list: bool) -> io::Result<Option<u64>> {
        let len = node.len();
        let mut list = Vec::new();
        let mut pages = Some(0);
        match node.flags {
            0 if is_free_list => list.extend_from_slice(&node.data[..len]),
            0 => {}
            _ => {
                let first = u64_at(node.data, 0);
                // Data that became smaller may have kept its pages.
                let (least, mut count) = ((HEADER + len).div_ceil(PAGE) as u64, None);
                if is_free_list || Instant::now() < self.until {
                    let mut header = [0; HEADER];
                    self.file.read_exact_at(&mut header, first.saturating_mul(PAGE as u64))?;
                    let said = u64::from(u32_at(&header, 12));
                    if u64_at(&header, 0) != first || u16_at(&header, 10) != OVERFLOW || said < least {
                        return Err(damaged("a page of data is none"));
                    }
                    count = Some(said);
                }
                self.take(first, count.unwrap_or(least))?;
                if is_free_list {
                    list.resize(len, 0);
                    self.file.read_exact_at(&mut list, first * PAGE as u64 + HEADER as u64)?;
                }
                pages = count;
            }
        }
        if !is_free_list {
            return Ok(pages);
        }
        // How many follow, and they, the largest first.
        let numbers: Vec<u64> = list.chunks_exact(8).map(|n| u64_at(n, 0)).collect();
        let numbers = numbers.split_first().and_then(|(count, numbers)| numbers.get(..usize::try_from(*count).ok()?));
        let numbers = numbers.filter(|numbers| list.len() % 8 == 0 && numbers.is_sorted_by(|a, b| a > b));
        let numbers = numbers.ok_or_else(|| damaged("a list of free pages is none"))?;
        numbers.iter().try_for_each(|page| self.take(*page, 1))?;
        Ok(pages)
    }
}

/// A page and all below it, and the keys between which theirs must be.
struct Subtree {
    root: u64,
    depth: u16,
    from: Vec<u8>,
    to: Option<Vec<u8>>,
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

/// The nodes of a page, which fill it from their beginning to its end without gaps: LMDB moves them by their lengths.
fn nodes(page: &[u8; PAGE], is_branch: bool) -> io::Result<Vec<Node<'_>>> {
    let (lower, upper) = (usize::from(u16_at(page, 12)), usize::from(u16_at(page, 14)));
    if lower < HEADER || lower > upper || upper > PAGE || !lower.is_multiple_of(2) {
        return Err(damaged("a page's bounds are none"));
    }
    let (mut nodes, mut places) = (Vec::with_capacity(lower / 2), Vec::with_capacity(lower / 2));
    for at in (HEADER..lower).step_by(2) {
        let start = usize::from(u16_at(page, at));
        let node = page.get(start..).filter(|node| start >= upper && node.len() >= NODE_HEADER);
        let node = node.ok_or_else(|| damaged("a node lies outside of its page"))?;
        let key_len = usize::from(u16_at(node, 6));
        let (key, data) = node[NODE_HEADER..].split_at_checked(key_len).ok_or_else(|| damaged("a key is cut"))?;
        let node = Node { low: u16_at(node, 0), high: u16_at(node, 2), flags: u16_at(node, 4), key, data };
        let data_len = match node.flags {
            _ if is_branch => 0,
            0 => node.len(),
            BIG => 8,
            _ => return Err(damaged("a node is none of ours")),
        };
        let len = NODE_HEADER + key_len + data_len;
        if data_len > data.len() || len > NODE_MAX {
            return Err(damaged("data is cut"));
        }
        nodes.push(node);
        places.push((start, start + len.next_multiple_of(2)));
    }
    places.sort_unstable();
    let end = places.iter().try_fold(upper, |at, (start, end)| (*start == at).then_some(*end));
    if end != Some(PAGE) || nodes.is_empty() {
        return Err(damaged("nodes do not fill their page"));
    }
    Ok(nodes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use heed::types::Bytes;
    use heed::{Database, Env, EnvOpenOptions};
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const SIZE_MAX: u64 = 64 << 20;

    #[expect(unsafe_code, reason = "LMDB maps its file")]
    fn open(directory: &Path) -> (Env, Database<Bytes, Bytes>) {
        // SAFETY: the directory is the test's own, and it is opened once.
        let env = unsafe { EnvOpenOptions::new().map_size(SIZE_MAX as usize).open(directory) }.unwrap();
        let mut txn = env.write_txn().unwrap();
        let table = env.create_database(&mut txn, None).unwrap();
        txn.commit().unwrap();
        (env, table)
    }

    /// Transactions of all kinds of changes.
    fn change(env: &Env, table: Database<Bytes, Bytes>, random: &mut SmallRng, count: usize, after: impl Fn()) {
        for _ in 0..count {
            let mut txn = env.write_txn().unwrap();
            for _ in 0..random.random_range(1..60) {
                let key = format!("{:0width$}", random.random_range(0..400), width = random.random_range(1..200));
                if random.random_range(0..3) == 0 {
                    table.delete(&mut txn, key.as_bytes()).unwrap();
                    continue;
                }
                // Twice in a transaction, so that data also becomes smaller where it lies.
                for _ in 0..random.random_range(1..3) {
                    let max = if random.random() { 100 } else { 30_000 };
                    let len = random.random_range(0..max);
                    table.put(&mut txn, key.as_bytes(), &vec![7; len]).unwrap();
                }
            }
            if random.random_range(0..30) == 0 {
                table.clear(&mut txn).unwrap();
            }
            txn.commit().unwrap();
            after();
        }
    }

    #[test]
    fn what_lmdb_writes_is_taken() {
        let seed = rand::random();
        println!("seed {seed}");
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.mdb");
        let mut random = SmallRng::seed_from_u64(seed);
        for _ in 0..3 {
            let (env, table) = open(directory.path());
            check(&path, SIZE_MAX).unwrap();
            change(&env, table, &mut random, 150, || check(&path, SIZE_MAX).unwrap());
        }
    }

    #[test]
    fn a_bit_that_flips_in_what_lmdb_follows_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let (env, table) = open(directory.path());
        let mut random = SmallRng::seed_from_u64(1);
        change(&env, table, &mut random, 40, || {});
        drop(env);
        let path = directory.path().join("data.mdb");
        let whole = fs::read(&path).unwrap();
        let metas = [0, 1].map(|number| Meta::read(&File::open(&path).unwrap(), number).unwrap());
        let newest = metas.iter().max_by_key(|meta| meta.txn).unwrap();
        assert!(newest.main.depth > 1 && newest.main.overflows > 0 && newest.free.entries > 0);
        let bad = directory.path().join("bad");
        let mut tried = 0;
        // The pages of the tree of the newest transaction.
        let (mut left, mut places) = (vec![newest.main.root, newest.free.root], Vec::new());
        while let Some(number) = left.pop() {
            let start = number as usize * PAGE;
            let page: &[u8; PAGE] = whole[start..start + PAGE].try_into().unwrap();
            let is_branch = u16_at(page, 10) == BRANCH;
            places.extend((0..8).chain(10..usize::from(u16_at(page, 12))).map(|at| start + at));
            for node in nodes(page, is_branch).unwrap() {
                let head = node.key.as_ptr() as usize - page.as_ptr() as usize - NODE_HEADER;
                // The lowest bits of a length may be those that fill up an even number; how much data lies on pages of its own
                // moves nothing.
                let first = if !is_branch && node.flags == BIG { 4 } else { 1 };
                places.extend((first..NODE_HEADER).filter(|at| *at != 6).map(|at| start + head + at));
                if is_branch {
                    left.push(node.page());
                } else if node.flags == BIG {
                    let data = u64_at(node.data, 0) as usize * PAGE;
                    places.extend((0..8).chain(10..16).map(|at| data + at));
                }
            }
        }
        fs::write(&bad, &whole).unwrap();
        let file = File::options().write(true).open(&bad).unwrap();
        for place in places {
            file.write_all_at(&[whole[place] ^ 1 << (place % 8)], place as u64).unwrap();
            let found = check(&bad, SIZE_MAX);
            assert!(found.is_err(), "byte {} of page {}", place % PAGE, place / PAGE);
            file.write_all_at(&whole[place..=place], place as u64).unwrap();
            tried += 1;
        }
        check(&bad, SIZE_MAX).unwrap();
        assert!(tried > 1_000, "{tried}");
    }
}
