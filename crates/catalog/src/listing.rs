//! A directory's listing, packed: about 60 bytes an entry beside its name, so that a million names fit in memory.
//!
//! Names are in byte order and unique. An entry is unpacked, and its content id derived, when it is asked for.

use std::ops::Range;
use std::sync::Arc;

use forebay_model::{CONTENT_MAX, Entry, ListedEntry, NsPath, TimestampNs, Version, check_name};

use crate::directory::{DirectoryKey, Observed, ObservedFile, SourceFacts};

/// The names of one directory as they were at one moment.
#[derive(Debug)]
pub struct Listing {
    directory: DirectoryKey,
    /// The directory's prefix of keys: empty, or ending in `/`.
    prefix: Arc<str>,
    source: Arc<str>,
    records: Box<[Record]>,
    /// Names and version texts.
    text: Box<[u8]>,
    hidden: u64,
}

/// One entry; its texts lie in `Listing::text` one after the other from `text`.
#[derive(Clone, Copy, Debug)]
struct Record {
    text: u32,
    name_len: u16,
    version_len: u16,
    size: u64,
    mtime: i64,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    // Before the others: where a name stands for several things, the directory is kept.
    Directory,
    FileById,
    FileByEtag,
    FileByStamp { file: Option<(i64, u64)> },
}

/// Takes what a listing at the origin brings, in any order.
#[derive(Debug)]
pub struct ListingBuilder {
    directory: DirectoryKey,
    prefix: Arc<str>,
    records: Vec<Record>,
    text: Vec<u8>,
    hidden: u64,
    marked: bool,
}

/// A listing that cannot be held: its names and versions take over 4 GiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the listing's names take more than 4 GiB")]
pub struct ListingTooLarge;

impl ListingBuilder {
    /// An empty listing of `directory`.
    pub fn new(directory: DirectoryKey) -> Self {
        let key = directory.source.key(&directory.path).unwrap_or_default();
        let prefix = if key.is_empty() || key.ends_with('/') { key } else { format!("{key}/") };
        Self { directory, prefix: prefix.into(), records: Vec::new(), text: Vec::new(), hidden: 0, marked: false }
    }

    /// The prefix of keys to list: empty, or ending in `/`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Bytes that the listing takes so far.
    pub fn weight(&self) -> u64 {
        (self.records.len() * size_of::<Record>() + self.text.len()) as u64
    }

    /// Takes the full key of what was seen. A key that no name can stand for is counted as hidden.
    ///
    /// # Errors
    /// The listing is too large to be held.
    pub fn push(&mut self, key: &str, seen: &Observed) -> Result<(), ListingTooLarge> {
        let Some(name) = key.strip_prefix(&*self.prefix) else {
            // An origin that lists what was not asked for is not believed.
            self.hidden += 1;
            return Ok(());
        };
        if name.is_empty() {
            // The key of the directory itself, `a/`: a marker that it exists.
            self.marked = true;
            return Ok(());
        }
        let (name, seen) = match name.strip_suffix('/') {
            Some(name) => (name, &Observed::Directory),
            None => (name, seen),
        };
        if check_name(name).is_err() || name.contains('/') {
            self.hidden += 1;
            return Ok(());
        }
        if matches!(seen, Observed::File(file) if file.size > CONTENT_MAX) {
            self.hidden += 1;
            return Ok(());
        }
        let (kind, version, size, mtime) = match seen {
            Observed::Absent => return Ok(()),
            Observed::Directory => (Kind::Directory, "", 0, TimestampNs(0)),
            Observed::File(ObservedFile { size, mtime, version }) => match version {
                Version::Id(id) => (Kind::FileById, &**id, *size, *mtime),
                Version::Etag(etag) => (Kind::FileByEtag, &**etag, *size, *mtime),
                Version::Stamp { file, .. } => {
                    (Kind::FileByStamp { file: file.map(|(c, i)| (c.0, i)) }, "", *size, *mtime)
                }
            },
        };
        let text = u32::try_from(self.text.len()).map_err(|_| ListingTooLarge)?;
        let version_len = u16::try_from(version.len()).map_err(|_| ListingTooLarge)?;
        let name_len = u16::try_from(name.len()).map_err(|_| ListingTooLarge)?;
        self.text.extend_from_slice(name.as_bytes());
        self.text.extend_from_slice(version.as_bytes());
        self.records.push(Record { text, name_len, version_len, size, mtime: mtime.0, kind });
        Ok(())
    }

    /// Whether nothing was seen that shows that the directory exists.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.hidden == 0 && !self.marked
    }

    /// The listing: sorted, one entry a name.
    pub fn finish(self) -> Listing {
        let Self { directory, prefix, mut records, text, hidden, .. } = self;
        let name = |r: &Record| &text[r.text as usize..][..usize::from(r.name_len)];
        records.sort_unstable_by(|a, b| name(a).cmp(name(b)).then(a.kind.cmp(&b.kind)));
        records.dedup_by(|later, earlier| name(later) == name(earlier));
        let source = directory.source.path.as_str().into();
        Listing { directory, prefix, source, records: records.into(), text: text.into(), hidden }
    }
}

impl Listing {
    /// Number of names.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Keys below the directory that no name can stand for.
    pub fn hidden(&self) -> u64 {
        self.hidden
    }

    /// The directory's path.
    pub fn path(&self) -> &NsPath {
        &self.directory.path
    }

    /// The source's facts.
    pub fn source(&self) -> &Arc<SourceFacts> {
        &self.directory.source
    }

    /// Bytes of memory that it takes.
    pub fn weight(&self) -> u64 {
        (size_of::<Self>() + self.records.len() * size_of::<Record>() + self.text.len()) as u64
    }

    /// The entry of `name`.
    pub fn get(&self, name: &str) -> Option<Entry> {
        let at = self.records.binary_search_by(|r| self.name(r).cmp(name.as_bytes())).ok()?;
        Some(self.unpack(&self.records[at]).entry)
    }

    /// Positions of at most `limit` names after `after` (empty: from the first), and whether more follow.
    pub fn after(&self, after: &str, limit: usize) -> (Range<usize>, bool) {
        let start =
            if after.is_empty() { 0 } else { self.records.partition_point(|r| self.name(r) <= after.as_bytes()) };
        let end = start.saturating_add(limit).min(self.records.len());
        (start..end, end < self.records.len())
    }

    /// The entries at `positions`.
    pub fn entries(&self, positions: Range<usize>) -> impl Iterator<Item = ListedEntry> + '_ {
        self.records[positions].iter().map(|r| self.unpack(r))
    }

    fn name(&self, record: &Record) -> &[u8] {
        &self.text[record.text as usize..][..usize::from(record.name_len)]
    }

    fn unpack(&self, record: &Record) -> ListedEntry {
        let utf8 = |bytes| std::str::from_utf8(bytes).expect("texts were pushed as &str");
        let name = utf8(self.name(record));
        let version = record.text as usize + usize::from(record.name_len);
        let version = utf8(&self.text[version..][..usize::from(record.version_len)]);
        let mtime = TimestampNs(record.mtime);
        let version = match record.kind {
            Kind::Directory => return ListedEntry { name: name.into(), entry: self.directory.source.directory() },
            Kind::FileById => Version::Id(version.into()),
            Kind::FileByEtag => Version::Etag(version.into()),
            Kind::FileByStamp { file } => {
                Version::Stamp { mtime, size: record.size, file: file.map(|(c, i)| (TimestampNs(c), i)) }
            }
        };
        let key = format!("{}{name}", self.prefix).into();
        let seen = ObservedFile { size: record.size, mtime, version };
        ListedEntry { name: name.into(), entry: self.directory.source.file(&self.source, key, seen) }
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::{Freshness, OriginId};

    use super::*;

    fn builder(prefix: &str) -> ListingBuilder {
        let source = SourceFacts {
            path: "/ml".parse().expect("a path"),
            origin: OriginId { scheme: "s3".into(), endpoint: "".into(), bucket: "b".into() },
            prefix: prefix.into(),
            freshness: Freshness::default(),
            added: TimestampNs(7),
        };
        ListingBuilder::new(DirectoryKey { source: Arc::new(source), path: "/ml/d".parse().expect("a path") })
    }

    fn file(etag: &str) -> Observed {
        Observed::File(ObservedFile { size: 3, mtime: TimestampNs(1), version: Version::Etag(etag.into()) })
    }

    fn names(listing: &Listing) -> Vec<String> {
        listing.entries(0..listing.len()).map(|e| e.name.to_string()).collect()
    }

    #[test]
    fn a_listing_is_sorted_and_a_directory_hides_an_object_of_its_name() {
        let mut b = builder("x/");
        assert_eq!(b.prefix(), "x/d/");
        for (key, seen) in [("x/d/b", file("1")), ("x/d/a", file("2")), ("x/d/b/", Observed::Directory)] {
            b.push(key, &seen).expect("it fits");
        }
        let listing = b.finish();
        assert_eq!(names(&listing), ["a", "b"]);
        assert!(listing.get("b").is_some_and(|e| e.is_directory()));
        let Some(Entry::File(a)) = listing.get("a") else { panic!("a is a file") };
        assert_eq!((&*a.content.key, &a.content.version), ("x/d/a", &Version::Etag("2".into())));
        assert_eq!(listing.get("c"), None);
    }

    #[test]
    fn keys_that_no_name_stands_for_are_counted() {
        let mut b = builder("");
        let long = format!("d/{}", "n".repeat(256));
        for key in ["d//", "d//x", "d/./", "d/..", "d/a\0b", &long, "elsewhere"] {
            b.push(key, &file("1")).expect("it fits");
        }
        assert!(!b.is_empty());
        let listing = b.finish();
        assert_eq!((listing.len(), listing.hidden()), (0, 7));
    }

    #[test]
    fn a_marker_shows_that_an_empty_directory_exists() {
        let mut b = builder("");
        assert!(b.is_empty());
        b.push("d/", &file("1")).expect("it fits");
        assert!(!b.is_empty());
        assert_eq!(b.finish().len(), 0);
    }

    #[test]
    fn parts_follow_each_other_without_gap_or_overlap() {
        let mut b = builder("");
        for i in 0..1000 {
            b.push(&format!("d/{:03}", (i * 7) % 1000), &file("1")).expect("it fits");
        }
        let listing = b.finish();
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let (part, more) = listing.after(&after, 37);
            seen.extend(listing.entries(part).map(|e| e.name.to_string()));
            if !more {
                break;
            }
            after = seen.last().expect("a part with more after it is not empty").clone();
        }
        assert_eq!(seen, names(&listing));
        assert_eq!(seen.len(), 1000);
    }
}
