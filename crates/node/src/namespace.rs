//! Which source a path belongs to, and the directories that lead to sources.
//!
//! Always true: who asks sees all sources as they were at one moment. A directory that leads to a source is there whatever the origin
//! above it says, and hides an object of its name.

use std::sync::Arc;
use std::time::Duration;

use forebay_model::{DirectoryEntry, Entry, ListedEntry, ListedPage, NsPath, TimestampNs};
use parking_lot::RwLock;

use crate::source::Source;

/// For how long directories that lead to sources may be used by who is not told of new ones; mounts are.
pub(crate) const ABOVE_FRESH_FOR: Duration = Duration::from_secs(1);

/// The sources by path; the longest prefix wins.
#[derive(Debug)]
pub(crate) struct Namespace {
    /// Longest path first.
    sources: RwLock<Arc<[Arc<Source>]>>,
}

/// Where a path leads.
#[derive(Debug)]
pub(crate) enum Place {
    /// The root of a source.
    Root(Arc<Source>),
    /// Below the root of a source.
    Inside(Arc<Source>),
    /// A directory that leads to sources: inside one, or above all.
    Above(Option<Arc<Source>>),
    /// Nowhere.
    Nowhere,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        Self { sources: RwLock::new(Arc::new([])) }
    }

    /// All sources, longest path first.
    pub(crate) fn sources(&self) -> Arc<[Arc<Source>]> {
        Arc::clone(&self.sources.read())
    }

    /// Shows a source in place of the one at its path.
    pub(crate) fn put(&self, source: Source) {
        self.change(|all| {
            all.retain(|known| known.facts.path != source.facts.path);
            all.push(Arc::new(source));
        });
    }

    /// Shows the source at a path no more.
    pub(crate) fn remove(&self, path: &NsPath) {
        self.change(|all| all.retain(|known| known.facts.path != *path));
    }

    fn change(&self, change: impl FnOnce(&mut Vec<Arc<Source>>)) {
        let mut sources = self.sources.write();
        let mut all = sources.to_vec();
        change(&mut all);
        all.sort_by_key(|source| std::cmp::Reverse(source.facts.path.as_str().len()));
        *sources = all.into();
    }

    pub(crate) fn place(&self, path: &NsPath) -> Place {
        let sources = self.sources.read();
        let leads = |source: &Arc<Source>| source.facts.path.below(path).is_some_and(|rest| !rest.is_empty());
        let source = sources.iter().find(|source| path.below(&source.facts.path).is_some());
        match source {
            Some(source) if source.facts.path == *path => Place::Root(Arc::clone(source)),
            Some(source) if sources.iter().any(leads) => Place::Above(Some(Arc::clone(source))),
            Some(source) => Place::Inside(Arc::clone(source)),
            None if path.is_root() || sources.iter().any(leads) => Place::Above(None),
            None => Place::Nowhere,
        }
    }

    /// Whether `source` is the one that `path` belongs to, now.
    pub(crate) fn is_of(&self, source: &Arc<Source>, path: &NsPath) -> bool {
        match self.place(path) {
            Place::Root(now) | Place::Inside(now) | Place::Above(Some(now)) => Arc::ptr_eq(&now, source),
            Place::Above(None) | Place::Nowhere => false,
        }
    }

    /// The source at exactly that path.
    pub(crate) fn at(&self, path: &str) -> Option<Arc<Source>> {
        self.sources.read().iter().find(|source| source.facts.path.as_str() == path).cloned()
    }

    /// A directory that leads to sources.
    pub(crate) fn entry_above(&self, path: &NsPath) -> Entry {
        let sources = self.sources();
        let below = sources.iter().filter(|source| source.facts.path.below(path).is_some());
        let mtime = below.map(|source| source.facts.added).max().unwrap_or(TimestampNs(0));
        Entry::Directory(DirectoryEntry { mtime })
    }

    /// The names by which sources are reached from a directory, in the order of keys.
    fn names_below(&self, path: &NsPath) -> Vec<ListedEntry> {
        let sources = self.sources();
        let rests = sources.iter().filter_map(|source| source.facts.path.below(path));
        let mut names: Vec<&str> =
            rests.filter_map(|rest| rest.split('/').next()).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        let entry = |name: &str| match self.place(&path.join(name)) {
            Place::Root(source) => source.facts.directory(),
            _ => self.entry_above(&path.join(name)),
        };
        let mut names: Vec<ListedEntry> =
            names.iter().map(|name| ListedEntry { name: (*name).into(), entry: entry(name) }).collect();
        names.sort_by_key(key);
        names
    }

    /// A part of a directory above all sources.
    pub(crate) fn list_above(&self, path: &NsPath, after: &str, limit: u32) -> ListedPage {
        let nothing = ListedPage { entries: Vec::new(), more: false, hidden: 0, fresh_for: ABOVE_FRESH_FOR };
        self.add_sources(path, after, limit, nothing, |_| true)
    }

    /// A part of a directory of a source, with the names by which other sources are reached from it. `is_directory` tells what
    /// a name of it stands for: only of that name before the part is it asked.
    pub(crate) fn add_sources(
        &self,
        path: &NsPath,
        after: &str,
        limit: u32,
        mut page: ListedPage,
        is_directory: impl FnOnce(&str) -> bool,
    ) -> ListedPage {
        let all = self.names_below(path);
        if all.is_empty() {
            return page;
        }
        page.fresh_for = page.fresh_for.min(ABOVE_FRESH_FOR);
        let is_source = |name: &str| all.iter().any(|known| *known.name == *name);
        let begin = match after {
            "" => String::new(),
            _ if is_source(after) || is_directory(after) => format!("{after}/"),
            _ => after.to_owned(),
        };
        // What comes after the last of a part that is not the last one belongs to the next part.
        let end = page.entries.last().filter(|_| page.more).map(key);
        let ours = all.iter().filter(|entry| key(entry) > begin && end.as_ref().is_none_or(|end| key(entry) <= *end));
        let ours: Vec<ListedEntry> = ours.cloned().collect();
        let hidden = page.entries.extract_if(.., |entry| is_source(&entry.name)).last();
        page.entries.extend(ours);
        page.entries.sort_by_key(key);
        if let Some(hidden) = hidden.filter(|_| page.entries.is_empty() && page.more) {
            // A part that is not the last one must not be empty: what hides its only name stands there.
            page.entries.extend(all.into_iter().find(|known| known.name == hidden.name));
        }
        if page.entries.len() > limit as usize {
            page.entries.truncate(limit as usize);
            page.more = true;
        }
        page
    }
}

/// Where an entry stands among keys.
fn key(entry: &ListedEntry) -> String {
    if entry.entry.is_directory() { format!("{}/", entry.name) } else { entry.name.to_string() }
}
