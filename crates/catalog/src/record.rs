//! What the database says of one listing beside its blocks, and the keys of everything that is no block.
//!
//! ```text
//! 'L' directory 16 B  listing id u64 BE   the record of a whole listing
//! 'F' directory 16 B  listing id u64 BE   the record of one on its way, or interrupted
//! 'N' listing id u64 BE  name             what was seen of the name after the listing was asked for
//! 'E' path 16 B                           what was seen of one path
//! 'D' listing id u64 BE                   a listing whose blocks are to be deleted
//! 'R'                                     what was forgotten with all below it (`forgotten.rs`)
//! 'M'                                     the catalog's time, count of its starts, next listing id
//! ```
//! Each value begins with a checksum over its key and the rest.

use forebay_model::NsPath;
use forebay_model::bytes::{Take, put_text, put_varint};

use crate::block;
use crate::coverage::Coverage;
use crate::directory::SourceFacts;

/// A path in a source as the database names it: by its facts too, for what another origin had there is of no use.
pub(crate) type PathKey = [u8; 16];

/// The record of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) path: String,
    /// Count of observations before it was asked for.
    pub(crate) at: u64,
    /// The catalog's time before it was asked for.
    pub(crate) when: u64,
    /// The catalog's time when it last went on, and when it was last used.
    pub(crate) last: u64,
    pub(crate) used: u64,
    pub(crate) is_told: bool,
    pub(crate) is_whole: bool,
    /// Something was seen that shows that the directory exists.
    pub(crate) is_marked: bool,
    /// Names on their way into order: no listing of its directory.
    pub(crate) is_run: bool,
    pub(crate) names: u64,
    pub(crate) hidden: u64,
    /// What it covers, range by range.
    pub(crate) coverage: Coverage,
}

impl Record {
    pub(crate) fn value(&self, key: &[u8]) -> Vec<u8> {
        let mut out = vec![0; 8];
        put_text(&mut out, &self.path);
        for field in [self.at, self.when, self.last, self.used, self.names, self.hidden] {
            put_varint(&mut out, field);
        }
        let flags = [self.is_told, self.is_whole, self.is_marked, self.is_run];
        out.push(flags.iter().rev().fold(0, |bits, flag| bits << 1 | u8::from(*flag)));
        self.coverage.put(&mut out);
        seal(key, out)
    }

    pub(crate) fn read(key: &[u8], value: &[u8]) -> Option<Self> {
        let mut take = open(key, value)?;
        let path = take.text()?.to_owned();
        let (at, when, last) = (take.varint()?, take.varint()?, take.varint()?);
        let (used, names, hidden) = (take.varint()?, take.varint()?, take.varint()?);
        let flags = take.u8()?;
        let is_whole = flags & 2 != 0;
        let coverage = Coverage::take(&mut take)?;
        let (is_told, is_marked, is_run) = (flags & 1 != 0, flags & 4 != 0, flags & 8 != 0);
        Some(Self { path, at, when, last, used, is_told, is_whole, is_marked, is_run, names, hidden, coverage })
    }
}

/// A value with its checksum put where eight bytes were left for it.
pub(crate) fn seal(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let sum = block::sum(key, &value);
    value[..8].copy_from_slice(&sum.to_le_bytes());
    value
}

/// The rest of a value, if it is what was written under that key.
pub(crate) fn open<'a>(key: &[u8], value: &'a [u8]) -> Option<Take<'a>> {
    block::is_whole(key, value).then(|| Take(&value[8..]))
}

pub(crate) fn path_key(source: &SourceFacts, path: &NsPath) -> PathKey {
    let mut hasher = blake3::Hasher::new();
    let origin = &source.origin;
    for field in
        [&*origin.scheme, &*origin.endpoint, &*origin.bucket, &*source.prefix, source.path.as_str(), path.as_str()]
    {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field.as_bytes());
    }
    if let Some(teller) = &source.teller {
        hasher.update(teller.as_bytes());
    }
    let mut key = [0; 16];
    key.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    key
}

pub(crate) fn listing_key(directory: &PathKey, id: u64) -> Vec<u8> {
    [b"L".as_slice(), directory, &id.to_be_bytes()].concat()
}

pub(crate) fn filling_key(directory: &PathKey, id: u64) -> Vec<u8> {
    [b"F".as_slice(), directory, &id.to_be_bytes()].concat()
}

/// The listing's id of a key that one of these made.
pub(crate) fn id_of(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.get(17..)?.try_into().ok()?))
}

pub(crate) fn newer_key(id: u64, name: &str) -> Vec<u8> {
    [b"N".as_slice(), &id.to_be_bytes(), name.as_bytes()].concat()
}

pub(crate) fn entry_key(path: &PathKey) -> Vec<u8> {
    [b"E".as_slice(), path].concat()
}

pub(crate) fn dead_key(id: u64) -> Vec<u8> {
    [b"D".as_slice(), &id.to_be_bytes()].concat()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_was_written_and_not_under_another_key() {
        let mut record = Record { path: "/ml/d".into(), at: 7, names: 300, is_marked: true, ..Record::default() };
        record.coverage.add("a", Some("b"), 12);
        for is_whole in [false, true] {
            record.is_whole = is_whole;
            let key = listing_key(&[3; 16], 9);
            let value = record.value(&key);
            assert_eq!(Record::read(&key, &value).unwrap(), record);
            assert_eq!(Record::read(&listing_key(&[3; 16], 8), &value), None);
            assert_eq!(Record::read(&key, &value[..value.len() - 1]), None);
            assert_eq!(id_of(&key), Some(9));
        }
    }
}
