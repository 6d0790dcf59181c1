//! The inodes that the kernel knows.
//!
//! Always true: a nodeid in the table stands for one (path, version) and never for another while it is there. It is there
//! from the first answer that named it until the kernel has forgotten it as often as it was named.
//!
//! Size: 56 bytes a slot, at most 8/7 x 2 of that at the worst fill of the map (128), and one allocation a file
//! (`packed`): some 180 bytes in all with a usual key and etag.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_model::{DirectoryEntry, Entry, FileEntry, NsPath};
use hashbrown::HashMap;
use hashbrown::hash_map;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;

use crate::nodeid::NodeId;
use crate::packed::PackedFile;
use crate::pruner::Bell;

/// Parts of the table, each with a lock: more than threads that work at once, so that they seldom meet.
const SHARDS: usize = 64;

/// How often a number is derived anew before the table gives up. Two hashes of 64 bits meet once in 2^64 pairs: a second
/// salt is rare, an eighth is a broken hash.
const SALTS: u32 = 8;

/// The inodes that the kernel knows.
pub(crate) struct Nodes {
    root: NsPath,
    root_entry: Arc<DirectoryNode>,
    shards: Vec<Mutex<HashMap<NodeId, Node>>>,
    known: Gauge,
    bell: Bell,
    /// The shard in which files that are not used are looked for next.
    next: AtomicUsize,
}

struct Node {
    parent: NodeId,
    /// Answers that named it, less those that the kernel has forgotten.
    lookups: u64,
    what: What,
}

enum What {
    Directory(Arc<DirectoryNode>),
    File(PackedFile),
}

/// A directory that the kernel knows.
pub(crate) struct DirectoryNode {
    pub(crate) path: NsPath,
    pub(crate) parent: NodeId,
    pub(crate) entry: DirectoryEntry,
}

/// What a nodeid stands for.
pub(crate) enum Known {
    Directory(Arc<DirectoryNode>),
    File(Arc<FileEntry>),
}

impl Nodes {
    /// A table that knows the root only. `known` shows how many it holds, and `bell` is told.
    pub(crate) fn new(root: NsPath, root_entry: DirectoryEntry, known: Gauge, bell: Bell) -> Self {
        let root_entry = Arc::new(DirectoryNode { path: root.clone(), parent: NodeId::ROOT, entry: root_entry });
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { root, root_entry, shards, known, bell, next: AtomicUsize::new(0) }
    }

    /// How many it holds.
    pub(crate) fn known(&self) -> usize {
        usize::try_from(self.known.get()).unwrap_or_default()
    }

    /// Up to `most` files that [`Self::get`] has not given since they were last passed over here.
    pub(crate) fn least_used(&self, most: usize) -> Vec<NodeId> {
        let mut found = Vec::with_capacity(most);
        for _ in 0..SHARDS {
            if found.len() >= most {
                break;
            }
            let mut shard = self.shards[self.next.fetch_add(1, Ordering::Relaxed) % SHARDS].lock();
            let unused = shard.iter_mut().filter_map(|(id, node)| match &mut node.what {
                What::File(file) => (!file.take_used()).then_some(*id),
                What::Directory(_) => None,
            });
            found.extend(unused.take(most - found.len()));
        }
        found
    }

    /// What `node` stands for, for whoever uses it; none if the kernel should not know it.
    pub(crate) fn get(&self, node: NodeId) -> Option<Known> {
        if node == NodeId::ROOT {
            return Some(Known::Directory(self.root_entry.clone()));
        }
        let mut shard = self.shard(node).lock();
        Some(match &mut shard.get_mut(&node)?.what {
            What::Directory(directory) => Known::Directory(directory.clone()),
            What::File(file) => {
                file.mark_used();
                Known::File(Arc::new(file.unpack()))
            }
        })
    }

    /// The number of `entry`, which is `name` in `parent`, for an answer that names it: counts as one lookup.
    ///
    /// None if no number can be found for it, which only a broken hash can bring about.
    pub(crate) fn remember(&self, parent: NodeId, path: &NsPath, name: &str, entry: &Entry) -> Option<NodeId> {
        (0..SALTS).find_map(|salt| {
            let id = NodeId::derive(path, entry, salt);
            self.remember_as(id, parent, path, name, entry).then_some(id)
        })
    }

    /// The number that [`Self::remember`] would give, without counting a lookup.
    pub(crate) fn number(&self, parent: NodeId, path: &NsPath, name: &str, entry: &Entry) -> NodeId {
        let mut ids = (0..SALTS).map(|salt| NodeId::derive(path, entry, salt));
        let fits = |id: &NodeId| self.shard(*id).lock().get(id).is_none_or(|known| known.is(parent, name, entry));
        ids.find(fits).unwrap_or_else(|| NodeId::derive(path, entry, 0))
    }

    /// The kernel has forgotten `count` answers that named `node`.
    pub(crate) fn forget(&self, node: NodeId, count: u64) {
        let mut shard = self.shard(node).lock();
        if let hash_map::Entry::Occupied(mut slot) = shard.entry(node) {
            slot.get_mut().lookups = slot.get().lookups.saturating_sub(count);
            if slot.get().lookups == 0 {
                slot.remove();
                self.known.dec();
            }
        }
    }

    /// The path of `node`; none for what the kernel does not know.
    pub(crate) fn path(&self, node: NodeId) -> Option<NsPath> {
        let (parent, name) = {
            let shard = self.shard(node).lock();
            let node = shard.get(&node)?;
            (node.parent, node.name().to_owned())
        };
        match self.get(parent)? {
            Known::Directory(directory) => Some(directory.path.join(&name)),
            Known::File(_) => None,
        }
    }

    /// The directory at `path`, if the kernel knows it.
    pub(crate) fn directory_at(&self, path: &NsPath) -> Option<NodeId> {
        if *path == self.root {
            return Some(NodeId::ROOT);
        }
        (0..SALTS).map(|salt| NodeId::of_directory(path, salt)).find(|id| {
            let shard = self.shard(*id).lock();
            matches!(shard.get(id).map(|node| &node.what), Some(What::Directory(known)) if known.path == *path)
        })
    }

    /// The names in `directories` that the kernel knows. Looks at the whole table.
    pub(crate) fn names_in(&self, directories: &HashSet<NodeId>) -> Vec<(NodeId, Box<str>)> {
        self.names_where(|node| directories.contains(&node.parent))
    }

    /// All names that the kernel knows.
    pub(crate) fn names(&self) -> Vec<(NodeId, Box<str>)> {
        self.names_where(|_| true)
    }

    fn names_where(&self, is_wanted: impl Fn(&Node) -> bool) -> Vec<(NodeId, Box<str>)> {
        let names = |shard: &Mutex<HashMap<NodeId, Node>>| {
            let shard = shard.lock();
            let wanted = shard.values().filter(|node| is_wanted(node));
            wanted.map(|node| (node.parent, node.name().into())).collect::<Vec<_>>()
        };
        self.shards.iter().flat_map(names).collect()
    }

    /// Counts a lookup of `id` if it stands for this entry or for nothing yet.
    fn remember_as(&self, id: NodeId, parent: NodeId, path: &NsPath, name: &str, entry: &Entry) -> bool {
        match self.shard(id).lock().entry(id) {
            hash_map::Entry::Occupied(mut slot) => {
                let fits = slot.get().is(parent, name, entry);
                slot.get_mut().lookups += u64::from(fits);
                fits
            }
            hash_map::Entry::Vacant(slot) => {
                let what = match entry {
                    Entry::Directory(directory) => What::Directory(Arc::new(DirectoryNode {
                        path: path.clone(),
                        parent,
                        entry: directory.clone(),
                    })),
                    Entry::File(file) => What::File(PackedFile::new(name, file)),
                };
                slot.insert(Node { parent, lookups: 1, what });
                self.bell.known(usize::try_from(self.known.inc() + 1).unwrap_or_default());
                true
            }
        }
    }

    fn shard(&self, node: NodeId) -> &Mutex<HashMap<NodeId, Node>> {
        // The map takes other bits of the number by hashing it again.
        &self.shards[(node.0 >> 32) as usize % SHARDS]
    }
}

impl Node {
    fn is(&self, parent: NodeId, name: &str, entry: &Entry) -> bool {
        let same_entry = match (&self.what, entry) {
            (What::Directory(_), Entry::Directory(_)) => true,
            (What::File(known), Entry::File(file)) => known.id() == file.content.id,
            (What::Directory(_), Entry::File(_)) | (What::File(_), Entry::Directory(_)) => false,
        };
        same_entry && self.parent == parent && self.name() == name
    }

    fn name(&self) -> &str {
        match &self.what {
            What::Directory(directory) => directory.path.name().unwrap_or_default(),
            What::File(file) => file.name(),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use forebay_model::{Content, ContentId, TimestampNs, Version};

    use super::*;
    use crate::metrics::Metrics;
    use crate::pruner::pruner;

    const MAX: usize = 1_000;

    fn file(id: u128) -> Entry {
        let version = Version::Id(id.to_string().into());
        let content = Content { source: "/".into(), key: "k".into(), version, size: 1, id: ContentId::from_u128(id) };
        Entry::File(Arc::new(FileEntry { content, mtime: TimestampNs(0) }))
    }

    fn nodes() -> Nodes {
        let (bell, _) = pruner(MAX, Arc::new(Metrics::new()));
        Nodes::new(NsPath::root(), DirectoryEntry { mtime: TimestampNs(0) }, Gauge::default(), bell)
    }

    fn path(text: &str) -> NsPath {
        text.parse().unwrap()
    }

    #[test]
    fn a_node_lives_until_it_is_forgotten_as_often_as_it_was_named() {
        let nodes = nodes();
        let id = nodes.remember(NodeId::ROOT, &path("/a"), "a", &file(1)).unwrap();
        assert_eq!(nodes.remember(NodeId::ROOT, &path("/a"), "a", &file(1)), Some(id));
        nodes.forget(id, 1);
        assert!(nodes.get(id).is_some());
        nodes.forget(id, 1);
        assert!(nodes.get(id).is_none());
        assert_eq!(nodes.known.get(), 0);
        nodes.forget(id, 1);
    }

    #[test]
    fn versions_and_paths_have_numbers_of_their_own() {
        let nodes = nodes();
        let a1 = nodes.remember(NodeId::ROOT, &path("/a"), "a", &file(1)).unwrap();
        let a2 = nodes.remember(NodeId::ROOT, &path("/a"), "a", &file(2)).unwrap();
        let b1 = nodes.remember(NodeId::ROOT, &path("/b"), "b", &file(1)).unwrap();
        assert!(a1 != a2 && a1 != b1 && a2 != b1);
    }

    #[test]
    fn a_number_that_is_taken_is_salted() {
        let nodes = nodes();
        let taken = NodeId::derive(&path("/a"), &file(1), 0);
        assert!(nodes.remember_as(taken, NodeId::ROOT, &path("/other"), "other", &file(9)));
        let id = nodes.remember(NodeId::ROOT, &path("/a"), "a", &file(1)).unwrap();
        assert_eq!(id, NodeId::derive(&path("/a"), &file(1), 1));
        assert_eq!(nodes.number(NodeId::ROOT, &path("/a"), "a", &file(1)), id);
    }

    #[test]
    fn files_that_are_not_used_are_found_first() {
        let nodes = nodes();
        let named = |n: usize| {
            let name = format!("f{n}");
            nodes.remember(NodeId::ROOT, &path(&format!("/{name}")), &name, &file(n as u128)).unwrap()
        };
        let all: Vec<NodeId> = (0..MAX).map(named).collect();
        let directory = Entry::Directory(DirectoryEntry { mtime: TimestampNs(0) });
        nodes.remember(NodeId::ROOT, &path("/d"), "d", &directory).unwrap();
        let (used, unused) = all.split_at(MAX / 4);
        used.iter().for_each(|id| drop(nodes.get(*id)));
        let mut found = nodes.least_used(unused.len());
        found.sort_unstable_by_key(|id| id.0);
        let mut expected = unused.to_vec();
        expected.sort_unstable_by_key(|id| id.0);
        assert_eq!(found, expected);
        // Used ones are spared once; directories always.
        nodes.least_used(MAX);
        assert_eq!(nodes.least_used(MAX).len(), MAX);
        assert_eq!(nodes.known(), MAX + 1);
    }

    #[test]
    fn a_slot_is_as_small_as_documented() {
        assert_eq!(size_of::<(NodeId, Node)>(), 56);
    }
}
