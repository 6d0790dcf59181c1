//! The unit of an index: lines in the order of their keys, packed, with a checksum.
//!
//! ```text
//! block  checksum u64 LE | lines u16 LE | bytes used u16 LE | lines | zeros up to 16 KiB
//! line   shared varint | rest varint, bytes | flags u8 | size | mtime | etag | version id | ctime, inode
//! ```
//! The checksum is over the block's number and the bytes that are used.

use forebay_model::bytes::{Take, put_bytes, put_signed, put_varint};
use forebay_model::{TimestampNs, block_sum};

use crate::line::{KEY_MAX, Line, VERSION_MAX};

/// Bytes of a block: some 400 lines, read at once.
pub(crate) const BLOCK: usize = 16 << 10;
const HEADER: usize = 12;
/// A line with all that it may have fits in a block: key, two versions, numbers.
const _: () = assert!(HEADER + KEY_MAX + 2 * VERSION_MAX + 80 < BLOCK);

const SIZE: u8 = 1;
const MTIME: u8 = 2;
/// The time is given in seconds.
const SECONDS: u8 = 4;
/// 32 hexadecimal digits, as bytes.
const ETAG_HEX: u8 = 8;
const ETAG_TEXT: u8 = 16;
const VERSION_ID: u8 = 32;
const FILE: u8 = 64;
const SECOND: i64 = 1_000_000_000;

/// Packs lines into one block after the other.
#[derive(Debug)]
pub(crate) struct Packer {
    bytes: Vec<u8>,
    line: Vec<u8>,
    last: String,
    lines: u16,
}

impl Packer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; HEADER], line: Vec::new(), last: String::new(), lines: 0 }
    }

    /// Adds a line. False: it does not fit; take the block first.
    pub(crate) fn push(&mut self, line: &Line) -> bool {
        let shared = if self.lines == 0 { 0 } else { shared(&self.last, &line.key) };
        let rest = &line.key.as_bytes()[shared..];
        self.line.clear();
        put_varint(&mut self.line, shared as u64);
        put_bytes(&mut self.line, rest);
        put_facts(&mut self.line, line);
        if self.bytes.len() + self.line.len() > BLOCK {
            return false;
        }
        self.bytes.extend_from_slice(&self.line);
        self.lines += 1;
        self.last.clone_from(&line.key);
        true
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    /// The block with that number, and begins the next.
    pub(crate) fn take(&mut self, number: u64) -> Vec<u8> {
        let used = self.bytes.len();
        self.bytes[8..10].copy_from_slice(&self.lines.to_le_bytes());
        self.bytes[10..12].copy_from_slice(&(used as u16).to_le_bytes());
        let sum = sum(number, &self.bytes[8..]);
        self.bytes[..8].copy_from_slice(&sum.to_le_bytes());
        self.bytes.resize(BLOCK, 0);
        self.lines = 0;
        std::mem::replace(&mut self.bytes, vec![0; HEADER])
    }
}

fn sum(number: u64, bytes: &[u8]) -> u64 {
    block_sum(bytes).0 ^ block_sum(&number.to_le_bytes()).0.rotate_left(32)
}

/// Lines of a block, one after the other.
#[derive(Debug)]
pub(crate) struct Unpacker {
    bytes: Vec<u8>,
    at: usize,
    end: usize,
    left: u16,
    key: String,
}

impl Unpacker {
    /// A block without lines.
    pub(crate) fn empty() -> Self {
        Self { bytes: Vec::new(), at: 0, end: 0, left: 0, key: String::new() }
    }

    /// The lines of the block with that number. None: it is not what was written there.
    pub(crate) fn new(number: u64, bytes: Vec<u8>) -> Option<Self> {
        let used = usize::from(u16::from_le_bytes([*bytes.get(10)?, *bytes.get(11)?]));
        let lines = u16::from_le_bytes([bytes[8], bytes[9]]);
        let said = u64::from_le_bytes(*bytes.first_chunk()?);
        (said == sum(number, bytes.get(8..used)?)).then_some(Self {
            bytes,
            at: HEADER,
            end: used,
            left: lines,
            key: String::new(),
        })
    }

    /// The key of the line that [`Self::next_key`] went to.
    pub(crate) fn key(&self) -> &str {
        &self.key
    }

    /// Goes to the next line, whose facts must be taken or skipped by `facts`. False: there is none.
    pub(crate) fn next_key(&mut self) -> Option<bool> {
        if self.left == 0 {
            return Some(false);
        }
        self.left -= 1;
        let mut take = Take(&self.bytes[self.at..self.end]);
        let shared = usize::try_from(take.varint()?).ok()?;
        let rest = take.text()?;
        if !self.key.is_char_boundary(shared) {
            return None;
        }
        self.key.truncate(shared);
        self.key.push_str(rest);
        self.at = self.end - take.0.len();
        Some(true)
    }

    /// The rest of the line.
    pub(crate) fn facts(&mut self) -> Option<Line> {
        let mut take = Take(&self.bytes[self.at..self.end]);
        let line = take_facts(&mut take)?;
        self.at = self.end - take.0.len();
        Some(Line { key: self.key.clone(), ..line })
    }

    /// Goes past the rest of the line.
    pub(crate) fn skip(&mut self) -> Option<()> {
        let mut take = Take(&self.bytes[self.at..self.end]);
        skip_facts(&mut take)?;
        self.at = self.end - take.0.len();
        Some(())
    }
}

fn put_facts(out: &mut Vec<u8>, line: &Line) {
    let hex = line.etag.as_deref().and_then(hex);
    let is_in_seconds = line.mtime.is_some_and(|mtime| mtime.0 % SECOND == 0);
    let mut flags = 0;
    for (flag, is_set) in [
        (SIZE, line.size.is_some()),
        (MTIME, line.mtime.is_some()),
        (SECONDS, is_in_seconds),
        (ETAG_HEX, hex.is_some()),
        (ETAG_TEXT, line.etag.is_some() && hex.is_none()),
        (VERSION_ID, line.version_id.is_some()),
        (FILE, line.file.is_some()),
    ] {
        flags |= if is_set { flag } else { 0 };
    }
    out.push(flags);
    line.size.iter().for_each(|size| put_varint(out, *size));
    line.mtime.iter().for_each(|mtime| put_signed(out, if is_in_seconds { mtime.0 / SECOND } else { mtime.0 }));
    match (hex, &line.etag) {
        (Some(hex), _) => out.extend_from_slice(&hex.to_be_bytes()),
        (None, Some(etag)) => put_bytes(out, etag.as_bytes()),
        (None, None) => {}
    }
    line.version_id.iter().for_each(|id| put_bytes(out, id.as_bytes()));
    if let Some((ctime, inode)) = line.file {
        put_signed(out, ctime.0);
        put_varint(out, inode);
    }
}

fn take_facts(take: &mut Take<'_>) -> Option<Line> {
    let flags = take.u8()?;
    let has = |flag: u8| flags & flag != 0;
    let size = if has(SIZE) { Some(take.varint()?) } else { None };
    let mtime = if has(MTIME) {
        Some(TimestampNs(take.signed()?.checked_mul(if has(SECONDS) { SECOND } else { 1 })?))
    } else {
        None
    };
    let etag = if has(ETAG_HEX) {
        Some(format!("{:032x}", u128::from_be_bytes(take.bytes(16)?.try_into().ok()?)))
    } else if has(ETAG_TEXT) {
        Some(take.text()?.to_owned())
    } else {
        None
    };
    let version_id = if has(VERSION_ID) { Some(take.text()?.to_owned()) } else { None };
    let file = if has(FILE) { Some((TimestampNs(take.signed()?), take.varint()?)) } else { None };
    Some(Line { key: String::new(), size, mtime, etag, version_id, file })
}

fn skip_facts(take: &mut Take<'_>) -> Option<()> {
    let flags = take.u8()?;
    let has = |flag: u8| flags & flag != 0;
    for _ in 0..u8::from(has(SIZE)) + u8::from(has(MTIME)) {
        take.varint()?;
    }
    if has(ETAG_HEX) {
        take.bytes(16)?;
    }
    for _ in 0..u8::from(has(ETAG_TEXT)) + u8::from(has(VERSION_ID)) {
        let len = usize::try_from(take.varint()?).ok()?;
        take.bytes(len)?;
    }
    if has(FILE) {
        take.varint()?;
        take.varint()?;
    }
    Some(())
}

/// An etag as S3 makes it of an object in one part.
fn hex(etag: &str) -> Option<u128> {
    let is_hex = etag.len() == 32 && etag.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    is_hex.then(|| u128::from_str_radix(etag, 16).ok())?
}

/// How many bytes two keys begin with alike, up to the beginning of a character.
fn shared(a: &str, b: &str) -> usize {
    let mut shared = a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    while !a.is_char_boundary(shared) || !b.is_char_boundary(shared) {
        shared -= 1;
    }
    shared
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn lines() -> impl Strategy<Value = Vec<Line>> {
        let etag = prop_oneof!["[0-9a-f]{32}", "[0-9a-f]{32}-[0-9]{1,4}", "[ -~]{1,40}", "[0-9A-F]{32}"];
        let mtime = prop_oneof![any::<i64>(), (-5_000_000_000_i64..5_000_000_000).prop_map(|s| s * SECOND)];
        let facts = (
            proptest::option::of(any::<u64>()),
            proptest::option::of(mtime),
            proptest::option::of(etag),
            proptest::option::of("[ -~]{1,60}"),
            proptest::option::of((any::<i64>(), any::<u64>())),
        );
        proptest::collection::btree_map("[a-cé]{0,2}/?[a-z0-9é]{1,6}(/[a-c]{1,3})?", facts, 0..600).prop_map(|all| {
            let line = |(key, (size, mtime, etag, version_id, file)): (String, _)| Line {
                key,
                size,
                mtime: Option::map(mtime, TimestampNs),
                etag,
                version_id,
                file: Option::map(file, |(ctime, inode)| (TimestampNs(ctime), inode)),
            };
            all.into_iter().map(line).collect()
        })
    }

    proptest! {
        #[test]
        fn blocks_give_back_what_was_put(lines in lines()) {
            let (mut packer, mut blocks) = (Packer::new(), Vec::new());
            for line in &lines {
                if !packer.push(line) {
                    blocks.push(packer.take(blocks.len() as u64));
                    prop_assert!(packer.push(line));
                }
            }
            blocks.push(packer.take(blocks.len() as u64));
            let mut all = Vec::new();
            for (number, block) in blocks.into_iter().enumerate() {
                prop_assert_eq!(block.len(), BLOCK);
                let (mut unpacker, mut skipper) =
                    (Unpacker::new(number as u64, block.clone()).unwrap(), Unpacker::new(number as u64, block).unwrap());
                while unpacker.next_key().unwrap() {
                    all.push(unpacker.facts().unwrap());
                    prop_assert!(skipper.next_key().unwrap());
                    prop_assert_eq!(skipper.key(), unpacker.key());
                    skipper.skip().unwrap();
                }
            }
            prop_assert_eq!(all, lines);
        }
    }

    #[test]
    fn a_block_that_is_damaged_or_elsewhere_is_none() {
        let mut packer = Packer::new();
        assert!(packer.push(&Line { key: "a/b".into(), size: Some(3), etag: Some("e".into()), ..Line::default() }));
        let block = packer.take(7);
        assert!(Unpacker::new(7, block.clone()).is_some());
        assert!(Unpacker::new(8, block.clone()).is_none());
        let used = usize::from(u16::from_le_bytes([block[10], block[11]]));
        for at in 0..used {
            for bit in 0..8 {
                let mut bad = block.clone();
                bad[at] ^= 1 << bit;
                assert!(Unpacker::new(7, bad).is_none(), "byte {at} bit {bit}");
            }
        }
        for len in [0, 8, HEADER, HEADER + 3] {
            assert!(Unpacker::new(7, block[..len].to_vec()).is_none(), "cut at {len}");
        }
    }
}
