//! What the catalog is told: facts of a source, and what was seen at its origin.

use std::sync::Arc;

use forebay_model::{
    Content, ContentId, DirectoryEntry, Entry, FileEntry, Freshness, NsPath, OriginId, TimestampNs, Version,
};

/// The facts of a source that its entries depend on.
#[derive(Clone, Debug)]
pub struct SourceFacts {
    /// Its path in the namespace.
    pub path: NsPath,
    /// Where its objects live.
    pub origin: OriginId,
    /// What every key of it starts with: empty, or ending in `/`.
    pub prefix: Arc<str>,
    /// Who tells what it has, if not its origin: what was learnt of another one is of no use.
    pub teller: Option<Arc<str>>,
    /// For how long what was seen may be used.
    pub freshness: Freshness,
    /// Modification time of its directories: when the source was added.
    pub added: TimestampNs,
}

/// What was seen of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObservedFile {
    /// Size in bytes.
    pub size: u64,
    /// Modification time.
    pub mtime: TimestampNs,
    /// Version.
    pub version: Version,
}

/// What was seen at the origin under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// Keys below it: a directory, whatever else has that name.
    Directory,
    /// An object.
    File(ObservedFile),
    /// Nothing.
    Absent,
}

impl SourceFacts {
    /// The key that `path` stands for; none if the path is not in the source.
    pub fn key(&self, path: &NsPath) -> Option<String> {
        path.below(&self.path).map(|rest| format!("{}{rest}", self.prefix))
    }

    /// The path of `key`, if it lies in the source and each of its components is a name.
    pub fn path_of(&self, key: &str) -> Option<NsPath> {
        let rest = key.strip_prefix(&*self.prefix)?;
        format!("{}/{rest}", self.path.as_str().trim_end_matches('/')).parse().ok()
    }

    /// The entry of a directory.
    pub fn directory(&self) -> Entry {
        Entry::Directory(DirectoryEntry { mtime: self.added })
    }

    /// The entry of the object `key`: here, and only here, a content gets its id.
    pub fn file(&self, source: &Arc<str>, key: Arc<str>, seen: ObservedFile) -> Entry {
        let id = ContentId::derive(&self.origin, &key, &seen.version, seen.size);
        let content = Content { source: source.clone(), key, version: seen.version, size: seen.size, id };
        Entry::File(Arc::new(FileEntry { content, mtime: seen.mtime }))
    }
}
