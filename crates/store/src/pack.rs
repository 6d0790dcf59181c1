//! Packs: append-only files of small objects of one group, and the bytes of an entry. `docs/store-format.md` has the ruler.
//!
//! Always true: bytes of a pack that the index points to are never written again, and a pack's descriptor never leaves
//! the process; so a pack may be unlinked under its readers, and only readers in this process have to have left before an
//! entry that is gone becomes a hole (`writer/holes`).

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use forebay_model::{BlockSum, ContentId, SMALL_MAX, block_count, block_sum, block_sums};
use parking_lot::Mutex;

use crate::dead::Dead;
use crate::device::Root;
use crate::directory::Holder;
use crate::eviction::{Owner, Unit};
use crate::files::{FileSlot, OpenFiles};

/// The folder of packs in a directory.
pub(crate) const PACKS: &str = "packs";
/// The length of a pack above which a new one is begun, on a directory that is large enough.
const PACK_MAX: u64 = 64 << 20;
/// And on the smallest directory. In the tests of this crate's inside whole lives of a store pass in kilobytes.
const PACK_MIN: u64 = if cfg!(test) { 8 << 10 } else { 1 << 20 };
/// Packs that a directory should be cut into, so that one eviction is a small part of it.
const PACKS_PER_DIRECTORY: u64 = 128;

const MAGIC: u32 = u32::from_le_bytes(*b"FBPE");
/// Magic, length, id, group, checksum.
const FIXED: usize = 4 + 4 + 16 + 8 + 8;

/// A pack of which no more than this part of its length lives, 1 / this, is written again: so packs with holes are few.
const LIVE_MIN: u64 = 16;

/// Entries from this length on become holes when they go by a plan: at most a quarter of one is lost at its ends. Of shorter
/// ones whole packs go.
pub(crate) const HOLES_FROM: u64 = 32 << 10;

/// The block of the disks: reads past the page cache are of whole ones.
const DISK_BLOCK: u64 = 4096;
/// Entries of objects from this length on are moved by filler where that spares a read of them a block of the disk.
const FILLED_FROM: u64 = 32 << 10;
/// The longest filler: on average it takes a fortieth of a block an entry then, and spares a fifth of one. Without a bound it is a
/// sixth and a half, but a whole block for each object of whole blocks, of which so many fewer fit.
const FILLER_MAX: u64 = DISK_BLOCK / 4;
/// The shortest filler: an entry of one byte.
const FILLER_MIN: u64 = FIXED as u64 + 8 + 1;

/// The id of filler: no object has it.
const FILLER: ContentId = ContentId::from_u128(0);

/// What a pack is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Objects as they come.
    New,
    /// Objects of other packs that were not to go with them.
    Kept,
}

/// Whether of a pack of `len` bytes so little lives that it is better written again.
pub(crate) fn is_worth_rewriting(live: u64, len: u64) -> bool {
    live <= len / LIVE_MIN
}

/// What the log says of entries being verified: not to be relied on,
const NOT_BELIEVED: u8 = 0;
/// to be relied on if the file is as it was,
const UNPROVED: u8 = 1;
/// to be relied on.
const BELIEVED: u8 = 2;

/// A pack.
#[derive(Debug)]
pub(crate) struct Pack {
    /// Its number in this process's index.
    pub(crate) slot: u32,
    /// Its number in its directory: its name.
    pub(crate) number: u32,
    /// The directory that holds it.
    pub(crate) directory: usize,
    /// The group of all its objects.
    pub(crate) group: u64,
    /// Objects that the index knows in it.
    pub(crate) objects: AtomicU64,
    /// What eviction knows of it. Its bytes are those of the file less the holes in it.
    pub(crate) unit: Arc<Unit>,
    /// Length of its file, as far as it was written.
    pub(crate) len: AtomicU64,
    /// Entries of objects that are gone, as far as this process knows. Its directory's writer adds to them.
    pub(crate) dead: Mutex<Dead>,
    /// Bytes of entries that are hot.
    pub(crate) hot_bytes: AtomicU64,
    /// What an object's place has to say for it to be hot; never 0.
    heat: AtomicU8,
    /// The file is unlinked or about to be. Set by its directory's writer.
    pub(crate) gone: AtomicBool,
    /// When it was begun, or recovered; or what was moved into it was.
    pub(crate) begun: Mutex<Instant>,
    /// Whether what the log says of its entries being verified can be relied on.
    belief: AtomicU8,
    /// Its descriptor.
    pub(crate) file: Arc<FileSlot>,
    /// Its descriptor for reading past the page cache.
    direct: Arc<FileSlot>,
}

impl Pack {
    /// A pack of `holder`.
    pub(crate) fn new(holder: &dyn Holder, slot: u32, number: u32, group: u64, file: Arc<FileSlot>) -> Arc<Self> {
        Arc::new_cyclic(|pack| Self {
            slot,
            number,
            directory: holder.number(),
            group,
            objects: 0.into(),
            len: 0.into(),
            dead: Mutex::default(),
            hot_bytes: 0.into(),
            heat: 1.into(),
            unit: holder.new_unit(Owner::Pack(Weak::clone(pack)), group),
            gone: false.into(),
            begun: Instant::now().into(),
            belief: NOT_BELIEVED.into(),
            file,
            direct: Arc::default(),
        })
    }

    /// Whether what the log says of its entries being verified can be relied on.
    pub(crate) fn is_believed(&self) -> bool {
        self.belief.load(Ordering::Acquire) == BELIEVED
    }

    /// Whether that hangs on when its file was changed.
    pub(crate) fn is_unproved(&self) -> bool {
        self.belief.load(Ordering::Acquire) == UNPROVED
    }

    /// The whole log was read, and is of this start of the machine.
    pub(crate) fn believe(&self) {
        self.belief.store(UNPROVED, Ordering::Release);
    }

    /// Believes the log if the file was not changed since that was: after it somebody else did. False if it was.
    pub(crate) fn prove(&self, root: &Root, log_written_ns: i128) -> bool {
        if !self.is_unproved() {
            return true;
        }
        let is_as_it_was = root.changed_ns(&name(self.number)).is_some_and(|changed| changed < log_written_ns);
        self.belief.store(if is_as_it_was { BELIEVED } else { NOT_BELIEVED }, Ordering::Release);
        is_as_it_was
    }

    pub(crate) fn heat(&self) -> u8 {
        self.heat.load(Ordering::Relaxed)
    }

    /// Nothing in it is hot until it is read again.
    pub(crate) fn cool(&self) {
        self.heat.store(self.heat().checked_add(1).unwrap_or(1), Ordering::Relaxed);
        self.hot_bytes.store(0, Ordering::Relaxed);
    }

    /// Its file.
    pub(crate) fn open(&self, root: &Root, files: &OpenFiles) -> io::Result<Arc<OwnedFd>> {
        self.file.get(files, || root.open_own(&name(self.number)))
    }

    /// Its file, for reading past the page cache.
    pub(crate) fn open_direct(&self, root: &Root, files: &OpenFiles) -> io::Result<Option<Arc<OwnedFd>>> {
        self.direct.get_unless_barred(files, || root.open_direct(&name(self.number)))
    }

    /// Lets go of its files.
    pub(crate) fn close(&self) {
        self.file.close();
        self.direct.close();
    }
}

/// The name of a pack in its directory.
pub(crate) fn name(number: u32) -> String {
    format!("{PACKS}/{number:08x}")
}

/// The number in a pack's file name. A name that the store does not give has none.
pub(crate) fn parse_name(file_name: &str) -> Option<u32> {
    let number = u32::from_str_radix(file_name, 16).ok()?;
    (name(number) == format!("{PACKS}/{file_name}")).then_some(number)
}

/// The length at which packs of a directory of `quota` bytes are closed.
pub(crate) fn pack_size(quota: u64) -> u64 {
    (quota / PACKS_PER_DIRECTORY).clamp(PACK_MIN, PACK_MAX)
}

/// Length of the header of an entry of `len` bytes.
pub(crate) const fn header_len(len: u64) -> usize {
    FIXED + 8 * block_count(len)
}

/// Length of an entry of `len` bytes.
pub(crate) fn entry_len(len: u64) -> u64 {
    header_len(len) as u64 + len
}

/// The room that an entry of `len` bytes may take, with the filler before it.
pub(crate) fn entry_room(len: u64) -> u64 {
    entry_len(len) + if len >= FILLED_FROM { FILLER_MAX } else { 0 }
}

/// Length of the filler before an entry of `len` bytes that would begin at `at`: with it, the object's bytes lie in as few blocks
/// of the disk as they can, if it need not be long.
pub(crate) fn filler_len(at: u64, len: u64) -> u64 {
    let begins = (at + header_len(len) as u64) % DISK_BLOCK;
    let spare = len.next_multiple_of(DISK_BLOCK) - len;
    if len < FILLED_FROM || begins <= spare {
        return 0;
    }
    let filler = DISK_BLOCK - begins;
    if (FILLER_MIN..=FILLER_MAX).contains(&filler) { filler } else { 0 }
}

/// Filler of that length: an entry that no record speaks of, so that whoever follows a pack from header to header passes it.
pub(crate) fn filler(len: u64, group: u64) -> Vec<u8> {
    let Some(zeros) = len.checked_sub(FILLER_MIN - 1).map(|len| vec![0; len as usize]) else { return Vec::new() };
    let mut filler = entry_header(FILLER, group, zeros.len() as u32, &block_sums(&zeros));
    filler.extend_from_slice(&zeros);
    filler
}

/// The header of an entry.
pub(crate) fn entry_header(id: ContentId, group: u64, len: u32, sums: &[BlockSum]) -> Vec<u8> {
    debug_assert_eq!(sums.len(), block_count(u64::from(len)), "a sum a block");
    let mut header = Vec::with_capacity(header_len(u64::from(len)));
    header.extend_from_slice(&MAGIC.to_le_bytes());
    header.extend_from_slice(&len.to_le_bytes());
    header.extend_from_slice(&id.as_u128().to_le_bytes());
    header.extend_from_slice(&group.to_le_bytes());
    header.extend_from_slice(&[0; 8]);
    for sum in sums {
        header.extend_from_slice(&sum.0.to_le_bytes());
    }
    let sum = block_sum(&header).0;
    header[FIXED - 8..FIXED].copy_from_slice(&sum.to_le_bytes());
    header
}

/// What an entry's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) id: ContentId,
    pub(crate) group: u64,
    pub(crate) len: u32,
}

/// The header of the entry that `bytes` begin with, if they hold all of one and its checksum is right.
pub(crate) fn read_header(bytes: &[u8]) -> Option<Header> {
    let fixed = bytes.get(..FIXED)?;
    let word = |at: usize| fixed[at..at + 8].try_into().map_or(0, u64::from_le_bytes);
    let id = u128::from(word(8)) | u128::from(word(16)) << 64;
    let header = Header { id: ContentId::from_u128(id), group: word(24), len: (word(0) >> 32) as u32 };
    if u64::from(header.len) > SMALL_MAX {
        return None;
    }
    let whole = bytes.get(..header_len(header.len.into()))?;
    is_header(whole, header.id, header.group, header.len).then_some(header)
}

/// Whether `bytes` are the header of that entry, given the sums that they state: equality checks every field.
fn is_header(bytes: &[u8], id: ContentId, group: u64, len: u32) -> bool {
    entry_header(id, group, len, &stated_sums(bytes)) == bytes
}

fn stated_sums(header: &[u8]) -> Vec<BlockSum> {
    let sums = header[FIXED..].chunks_exact(8);
    sums.map(|sum| BlockSum(sum.try_into().map_or(0, u64::from_le_bytes))).collect()
}

/// What is wrong with an entry that does not verify.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Its header is not that of this object, or is damaged.
    Header,
    /// Blocks of its bytes, by number.
    Blocks(Vec<usize>),
}

/// What keeps `entry` from being a whole one of `id` with `len` bytes, whose length it has.
pub(crate) fn flaw(entry: &[u8], id: ContentId, group: u64, len: u64) -> Option<Flaw> {
    if verify_entry(entry, id, group, len).is_some() {
        return None;
    }
    let (header, data) = entry.split_at_checked(header_len(len))?;
    if !is_header(header, id, group, len as u32) {
        return Some(Flaw::Header);
    }
    let pairs = block_sums(data).into_iter().zip(stated_sums(header)).enumerate();
    Some(Flaw::Blocks(pairs.filter(|(_, (is, stated))| is != stated).map(|(block, _)| block).collect()))
}

/// The object's bytes in `entry`, if it is a whole entry of `id` with `len` bytes and every checksum is right.
pub(crate) fn verify_entry(entry: &[u8], id: ContentId, group: u64, len: u64) -> Option<&[u8]> {
    debug_assert!(len <= SMALL_MAX, "an entry holds at most a page");
    let (header, data) = entry.split_at_checked(header_len(len))?;
    if data.len() as u64 != len {
        return None;
    }
    (is_header(header, id, group, len as u32) && block_sums(data) == stated_sums(header)).then_some(data)
}

#[cfg(test)]
mod tests {
    use forebay_model::BLOCK;

    use super::*;

    #[test]
    fn an_entry_is_proved_to_the_bit() {
        let id = ContentId::from_u128(77);
        let data: Vec<u8> = (0..70_000u32).map(|i| (i % 251) as u8).collect();
        let mut entry = entry_header(id, 4, data.len() as u32, &block_sums(&data));
        entry.extend_from_slice(&data);
        let len = data.len() as u64;
        assert_eq!(entry.len() as u64, entry_len(len));
        assert_eq!(verify_entry(&entry, id, 4, len), Some(&data[..]));
        assert_eq!(read_header(&entry), Some(Header { id, group: 4, len: len as u32 }));
        assert_eq!(read_header(&entry[..header_len(len) - 1]), None, "half of a header");
        assert_eq!(flaw(&entry, id, 4, len), None);
        assert_eq!(verify_entry(&entry, ContentId::from_u128(78), 4, len), None, "another object's entry");
        assert_eq!(verify_entry(&entry[..entry.len() - 1], id, 4, len), None, "cut");
        for at in (0..header_len(len)).chain([header_len(len), entry.len() - 1, 40_000]) {
            entry[at] ^= 0x10;
            assert_eq!(verify_entry(&entry, id, 4, len), None, "byte {at}");
            let block = at.checked_sub(header_len(len)).map(|place| place / BLOCK as usize);
            assert_eq!(flaw(&entry, id, 4, len), Some(block.map_or(Flaw::Header, |block| Flaw::Blocks(vec![block]))));
            assert_eq!(read_header(&entry).is_some(), at >= header_len(len), "byte {at}");
            entry[at] ^= 0x10;
        }
    }

    #[test]
    fn with_some_filler_more_objects_lie_in_as_few_blocks_as_they_can() {
        let (mut at, mut fillers, mut short) = (0, 0, 0);
        let lens = (0..4000).map(|i: u64| FILLED_FROM + i * i % 100_003);
        for len in lens.clone() {
            let filler_len = filler_len(at, len);
            let filler = filler(filler_len, 7);
            assert_eq!(filler.len() as u64, filler_len);
            assert!(filler_len + entry_len(len) <= entry_room(len));
            if filler_len > 0 {
                let header = read_header(&filler).expect("it is an entry");
                assert_eq!((header.id, header.group, entry_len(header.len.into())), (FILLER, 7, filler_len));
            }
            let from = at + filler_len + header_len(len) as u64;
            let blocks = (from + len).div_ceil(DISK_BLOCK) - from / DISK_BLOCK;
            // Half of them without filler.
            short += u64::from(blocks > len.div_ceil(DISK_BLOCK));
            assert!(blocks <= len.div_ceil(DISK_BLOCK) + 1);
            fillers += filler_len;
            at = from + len;
        }
        assert!(short < 4000 * 3 / 10, "{short} are read with a block too many");
        assert!(fillers < 4000 * DISK_BLOCK / 30, "{fillers} bytes of filler");
        let (mut at, len) = (0, 28 * DISK_BLOCK);
        (0..1000).for_each(|_| at += filler_len(at, len) + entry_len(len));
        assert!(at < 1000 * entry_len(len) * 1001 / 1000, "objects of whole blocks lie close");
        assert_eq!(filler_len(1, FILLED_FROM - 1), 0, "small ones lie close");
    }

    #[test]
    fn a_name_that_the_store_does_not_give_names_no_pack() {
        assert_eq!(parse_name("0000001f"), Some(0x1f));
        for name in ["+000001f", "0000001F", "1f", "00000001f", "0000001g", ""] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn an_empty_directory_of_any_size_has_packs_that_hold_a_page() {
        for quota in [0, 1 << 20, 1 << 30, 1 << 50] {
            assert!((PACK_MIN..=PACK_MAX).contains(&pack_size(quota)));
        }
    }
}
