//! Which source a path belongs to, and the directories above the sources.

use std::sync::Arc;
use std::time::Duration;

use forebay_model::{DirectoryEntry, Entry, ListedEntry, ListedPage, NsPath, TimestampNs};

use crate::source::Source;

/// Directories above sources change only when a source is added.
pub(crate) const ABOVE_FRESH_FOR: Duration = Duration::from_secs(60);

/// The sources by path; the longest prefix wins.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Longest path first.
    sources: Vec<Arc<Source>>,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) enum Place<'a> {
    /// The root of a source.
    Root(&'a Arc<Source>),
    /// Below the root of a source.
    Inside(&'a Arc<Source>),
    /// A directory above sources.
    Above,
    /// Nowhere.
    Nowhere,
}

impl Namespace {
    pub(crate) fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        let mut sources: Vec<_> = sources.into_iter().map(Arc::new).collect();
        sources.sort_by_key(|s| std::cmp::Reverse(s.facts.path.as_str().len()));
        Self { sources }
    }

    pub(crate) fn sources(&self) -> &[Arc<Source>] {
        &self.sources
    }

    pub(crate) fn place(&self, path: &NsPath) -> Place<'_> {
        for source in &self.sources {
            match path.below(&source.facts.path) {
                Some("") => return Place::Root(source),
                Some(_) => return Place::Inside(source),
                None => {}
            }
        }
        let above = path.is_root() || self.sources.iter().any(|s| s.facts.path.below(path).is_some());
        if above { Place::Above } else { Place::Nowhere }
    }

    /// The source at exactly that path.
    pub(crate) fn at(&self, path: &str) -> Option<&Arc<Source>> {
        self.sources.iter().find(|s| s.facts.path.as_str() == path)
    }

    /// A directory above sources.
    pub(crate) fn entry_above(&self, path: &NsPath) -> Entry {
        let below = self.sources.iter().filter(|s| s.facts.path.below(path).is_some());
        let mtime = below.map(|s| s.facts.added).max().unwrap_or(TimestampNs(0));
        Entry::Directory(DirectoryEntry { mtime })
    }

    /// The names of a directory above sources.
    pub(crate) fn list_above(&self, path: &NsPath, after: &str) -> ListedPage {
        let mut names: Vec<&str> = self
            .sources
            .iter()
            .filter_map(|s| s.facts.path.below(path))
            .filter_map(|rest| rest.split('/').next())
            .filter(|name| !name.is_empty() && *name > after)
            .collect();
        names.sort_unstable();
        names.dedup();
        let entry = |name: &str| match self.place(&path.join(name)) {
            Place::Root(source) => source.facts.directory(),
            _ => self.entry_above(&path.join(name)),
        };
        let entries = names.iter().map(|name| ListedEntry { name: (*name).into(), entry: entry(name) }).collect();
        ListedPage { entries, more: false, hidden: 0, fresh_for: ABOVE_FRESH_FOR }
    }
}
