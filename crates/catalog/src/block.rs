//! Entries of one listing, packed: the unit that is written, read and proved.
//!
//! A block says everything about the places after one place up to and with another: a name there that it does not have is
//! absent. It carries a checksum over its key and itself, so that a block that is damaged, or stands under a key that is not
//! its own, answers nothing.
//!
//! ```text
//! key    'B'  listing id u64 BE  place that it begins after
//! value  checksum u64  when u64  flags u8  entries u16  last place u16 + text | entries
//! entry  shared u8  rest - 1 u8  body u16  rest of the place  body
//! body   kind u8, mtime; a file: size, then its version as its kind says
//! ```

use forebay_model::block_sum;
use forebay_model::bytes::Take;

use crate::directory::Observed;
use crate::observed::{put_observed, take_observed};

/// The largest block: with its header of 16 bytes it fills one page of the database.
pub(crate) const BLOCK_MAX: usize = 4_080;
/// Checksum, when, flags, number of entries, length of the last place.
const HEADER: usize = 8 + 8 + 1 + 2 + 2;
/// The longest version that a block holds: an entry with it leaves room for others.
pub(crate) const VERSION_MAX: usize = 1_024;
/// Nothing lies after the block's last place.
const IS_END: u8 = 1;

/// Makes blocks of entries that come in order.
pub(crate) struct Packer<'a> {
    id: u64,
    when: u64,
    after: &'a str,
    last: &'a str,
    entries: u16,
    packed: Vec<u8>,
    body: Vec<u8>,
    blocks: Vec<(Box<str>, Box<[u8]>)>,
}

impl<'a> Packer<'a> {
    /// Blocks of the listing `id` that begin after `after`, of what was asked for at `when`.
    pub(crate) fn new(id: u64, when: u64, after: &'a str) -> Self {
        let (packed, body, blocks) = (Vec::with_capacity(BLOCK_MAX), Vec::new(), Vec::new());
        Self { id, when, after, last: after, entries: 0, packed, body, blocks }
    }

    /// Adds the next entry.
    pub(crate) fn push(&mut self, place: &'a str, seen: &Observed) {
        self.body.clear();
        put_observed(&mut self.body, seen);
        debug_assert!(self.body.len() <= VERSION_MAX + 64, "no version is longer than {VERSION_MAX} bytes");
        if HEADER + self.packed.len() + 4 + 2 * place.len() + self.body.len() > BLOCK_MAX {
            self.close(Some(self.last));
        }
        let shared = if self.entries == 0 { 0 } else { shared(self.last, place) };
        let rest = &place.as_bytes()[shared..];
        debug_assert!(!rest.is_empty() && rest.len() <= 256, "places are in order, names at most 255 bytes");
        self.packed.extend_from_slice(&[shared as u8, (rest.len() - 1) as u8]);
        self.packed.extend_from_slice(&(self.body.len() as u16).to_le_bytes());
        self.packed.extend_from_slice(rest);
        self.packed.extend_from_slice(&self.body);
        self.entries += 1;
        self.last = place;
    }

    /// The blocks, by the places that they begin after. They cover up to `to`, or to the end.
    pub(crate) fn finish(mut self, to: Option<&str>) -> Vec<(Box<str>, Box<[u8]>)> {
        if HEADER + self.packed.len() + to.map_or(0, str::len) > BLOCK_MAX {
            self.close(Some(self.last));
        }
        if to.is_none_or(|to| to > self.after) {
            self.close_to(to);
        }
        self.blocks
    }

    fn close(&mut self, to: Option<&'a str>) {
        self.close_to(to);
        self.after = to.unwrap_or_default();
        self.packed.clear();
        self.entries = 0;
    }

    fn close_to(&mut self, to: Option<&str>) {
        let text = to.unwrap_or_default();
        let mut value = Vec::with_capacity(HEADER + text.len() + self.packed.len());
        value.extend_from_slice(&[0; 8]);
        value.extend_from_slice(&self.when.to_le_bytes());
        value.push(if to.is_none() { IS_END } else { 0 });
        value.extend_from_slice(&self.entries.to_le_bytes());
        value.extend_from_slice(&(text.len() as u16).to_le_bytes());
        value.extend_from_slice(text.as_bytes());
        value.extend_from_slice(&self.packed);
        let sum = sum(&key(self.id, self.after), &value);
        value[..8].copy_from_slice(&sum.to_le_bytes());
        self.blocks.push((self.after.into(), value.into()));
    }
}

/// The key of the block of listing `id` that begins after `after`.
pub(crate) fn key(id: u64, after: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + after.len());
    key.push(b'B');
    key.extend_from_slice(&id.to_be_bytes());
    key.extend_from_slice(after.as_bytes());
    key
}

/// The place that a block begins after, of its key.
pub(crate) fn after(key: &[u8]) -> Option<&str> {
    std::str::from_utf8(key.get(9..)?).ok()
}

/// The checksum of a value under its key; the value's first eight bytes are where it stands.
pub(crate) fn sum(key: &[u8], value: &[u8]) -> u64 {
    block_sum(value.get(8..).unwrap_or_default()).0 ^ block_sum(key).0.rotate_left(32)
}

/// Whether a value is what was written under that key.
pub(crate) fn is_whole(key: &[u8], value: &[u8]) -> bool {
    value.first_chunk().is_some_and(|first| u64::from_le_bytes(*first) == sum(key, value))
}

fn shared(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take(255).take_while(|(a, b)| a == b).count()
}

/// A block that was proved.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block<'a> {
    /// The catalog's time at which it was asked for.
    pub(crate) when: u64,
    /// Its last place. None: to the end.
    pub(crate) to: Option<&'a str>,
    entries: Take<'a>,
    count: u16,
}

impl<'a> Block<'a> {
    /// The block of `value`, if that is what was written under `key`.
    pub(crate) fn read(key: &[u8], value: &'a [u8]) -> Option<Self> {
        if !is_whole(key, value) {
            return None;
        }
        let mut take = Take(&value[8..]);
        let (when, flags, count, len) = (take.u64()?, take.u8()?, take.u16()?, take.u16()?);
        let to = std::str::from_utf8(take.bytes(usize::from(len))?).ok()?;
        Some(Self { when, to: (flags & IS_END == 0).then_some(to), entries: take, count })
    }

    /// Whether `place`, which lies after the block's beginning, lies in it.
    pub(crate) fn reaches(&self, place: &str) -> bool {
        self.to.is_none_or(|to| place <= to)
    }

    /// The entry at `place`.
    pub(crate) fn find(&self, place: &str) -> Option<Body<'a>> {
        let (mut take, place) = (self.entries, place.as_bytes());
        // How much of `place` the entry before begins with; that entry is less.
        let mut same = 0;
        for _ in 0..self.count {
            let (shared, rest, body) = entry(&mut take)?;
            if shared > same {
                continue;
            }
            if shared < same {
                return None;
            }
            let wanted = &place[same..];
            let more = wanted.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if more == wanted.len() {
                return (more == rest.len()).then_some(Body(body));
            }
            if more < rest.len() && rest[more] > wanted[more] {
                return None;
            }
            same += more;
        }
        None
    }

    /// Calls `each` with every entry after `after`, in order, until it says that it has enough. None: nonsense was read.
    pub(crate) fn each(&self, after: &str, mut each: impl FnMut(&str, Body<'a>) -> bool) -> Option<()> {
        let (mut take, mut place) = (self.entries, Vec::with_capacity(256));
        for _ in 0..self.count {
            let (shared, rest, body) = entry(&mut take)?;
            if shared > place.len() {
                return None;
            }
            place.truncate(shared);
            place.extend_from_slice(rest);
            if place.as_slice() > after.as_bytes() && !each(std::str::from_utf8(&place).ok()?, Body(body)) {
                break;
            }
        }
        Some(())
    }
}

fn entry<'a>(take: &mut Take<'a>) -> Option<(usize, &'a [u8], &'a [u8])> {
    let head = take.bytes(4)?;
    let (shared, rest) = (usize::from(head[0]), usize::from(head[1]) + 1);
    let body = usize::from(u16::from_le_bytes([head[2], head[3]]));
    Some((shared, take.bytes(rest)?, take.bytes(body)?))
}

/// What was seen of one name, packed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Body<'a>(pub(crate) &'a [u8]);

impl Body<'_> {
    pub(crate) fn observed(self) -> Option<Observed> {
        take_observed(&mut Take(self.0))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use forebay_model::{TimestampNs, Version};
    use proptest::prelude::*;

    use super::*;
    use crate::directory::ObservedFile;
    use crate::observed::SECOND;

    fn observed() -> impl Strategy<Value = Observed> {
        let etag = prop_oneof![
            "\"[0-9a-f]{32}\"",
            "\"[0-9a-f]{32}-[1-9][0-9]{0,3}\"",
            "\"[0-9a-f]{32}-0[0-9]\"",
            "\"[0-9A-F]{32}\"",
            "[ -~]{0,40}"
        ];
        let version = prop_oneof![
            etag.prop_map(|e| Some(Version::Etag(e.into()))),
            "[ -~]{0,40}".prop_map(|e| Some(Version::Id(e.into()))),
            Just(None)
        ];
        let mtime = prop_oneof![any::<i64>(), (-5_000_000_000_i64..5_000_000_000).prop_map(|s| s * SECOND)];
        let file = proptest::option::of((any::<i64>(), any::<u64>()));
        let stamp = |mtime, size, file: Option<(i64, u64)>| Version::Stamp {
            mtime,
            size,
            file: file.map(|(c, i)| (TimestampNs(c), i)),
        };
        let one = (any::<u64>(), mtime, version, file).prop_map(move |(size, mtime, version, file)| {
            let mtime = TimestampNs(mtime);
            let version = version.unwrap_or_else(|| stamp(mtime, size, file));
            Observed::File(ObservedFile { size, mtime, version })
        });
        prop_oneof![1 => Just(Observed::Directory), 6 => one]
    }

    fn entries() -> impl Strategy<Value = Vec<(String, Observed)>> {
        proptest::collection::btree_map("[a-c]{1,3}[ -~]{0,8}/?", observed(), 0..400)
            .prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #[test]
        fn blocks_say_what_was_put_and_nothing_else(entries in entries(), to in proptest::option::of("[d-f]")) {
            let mut packer = Packer::new(7, 9, "A");
            entries.iter().for_each(|(place, seen)| packer.push(place, seen));
            let blocks = packer.finish(to.as_deref());
            let (mut reached, mut all) = (Some("A".to_owned()), Vec::new());
            for (after, value) in &blocks {
                prop_assert!(value.len() <= BLOCK_MAX);
                prop_assert_eq!(reached.as_deref(), Some(&**after), "no gap between blocks");
                let block = Block::read(&key(7, after), value).unwrap();
                prop_assert_eq!(block.when, 9);
                reached = block.to.map(str::to_owned);
                block.each(after, |place, body| {
                    all.push((place.to_owned(), body.observed().unwrap()));
                    true
                }).unwrap();
                for (place, seen) in &entries {
                    let is_here = **place > **after && block.reaches(place);
                    let found = block.find(place).map(|body| body.observed().unwrap());
                    prop_assert_eq!(found.as_ref(), is_here.then_some(seen), "{}", place);
                }
                for absent in ["", "a", "b~~~", "c", "zz"] {
                    let known = entries.iter().any(|(place, _)| place == absent);
                    prop_assert!(known || block.find(absent).is_none());
                }
            }
            prop_assert_eq!(all, entries);
            prop_assert_eq!(reached, to);
        }
    }

    #[test]
    fn a_block_that_is_damaged_or_not_at_its_place_is_none() {
        let mut packer = Packer::new(1, 2, "");
        packer.push("a", &Observed::Directory);
        let (after, value) = packer.finish(None).remove(0);
        assert!(Block::read(&key(1, &after), &value).is_some());
        assert!(Block::read(&key(2, &after), &value).is_none());
        assert!(Block::read(&key(1, "a"), &value).is_none());
        for at in 0..value.len() {
            for bit in 0..8 {
                let mut bad = value.clone();
                bad[at] ^= 1 << bit;
                assert!(Block::read(&key(1, &after), &bad).is_none(), "byte {at} bit {bit}");
            }
            assert!(Block::read(&key(1, &after), &value[..at]).is_none(), "cut at {at}");
        }
    }

    #[test]
    fn an_entry_of_s3_takes_about_forty_bytes() {
        let places: Vec<String> = (0..90).map(|i| format!("n02085620_{:05}.JPEG", i * 7)).collect();
        let mut packer = Packer::new(1, 2, "");
        for (i, place) in places.iter().enumerate() {
            let version = Version::Etag(format!("\"{:032x}\"", (i as u128 + 1) << 90).into());
            let file = ObservedFile { size: 112_000 + i as u64, mtime: TimestampNs(1_700_000_000 * SECOND), version };
            packer.push(place, &Observed::File(file));
        }
        let bytes: usize = packer.finish(None).iter().map(|(_, value)| value.len()).sum();
        assert!(bytes / 90 <= 42, "{}", bytes / 90);
    }
}
