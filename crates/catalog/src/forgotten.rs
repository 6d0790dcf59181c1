//! What was forgotten together with what lies below it: marks that stand for any number of names.
//!
//! Always true: what was asked for before a mark was set is not told of what the mark covers, be it in memory, on disk, or on its
//! way. Marks outlive the process. There are at most [`MARKS_MAX`]: beyond it the oldest are widened to what they have in common,
//! which forgets more than was asked for and never less.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_model::bytes::{Take, put_text, put_varint};
use parking_lot::RwLock;

use crate::record;

/// Paths that are marked: with paths of 50 bytes, 100 KiB of memory, and as much is written when one is added.
const MARKS_MAX: usize = 1_024;
/// The database's key of all marks.
pub(crate) const KEY: &[u8] = b"R";

/// All marks.
#[derive(Debug, Default)]
pub(crate) struct Forgotten {
    /// Lookups look no further as long as there are none.
    any: AtomicBool,
    marks: RwLock<HashMap<Box<str>, Mark>>,
}

/// Counts of observations, before which nothing is told of a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mark {
    /// Of the path, its listing, and the names in it.
    names: u64,
    /// The same, and of all below.
    tree: u64,
}

impl Forgotten {
    /// The marks that were read from the database under their key. What cannot be read may have forgotten anything: then all
    /// before `now` is.
    pub(crate) fn read(value: Option<&[u8]>, now: u64) -> Self {
        let marks = value.map_or_else(HashMap::new, |value| {
            take(value).unwrap_or_else(|| HashMap::from([("/".into(), Mark { names: 0, tree: now })]))
        });
        Self { any: AtomicBool::new(!marks.is_empty()), marks: RwLock::new(marks) }
    }

    /// Marks `path` at so many observations, and gives all marks as the database is to have them to `put`: in the order of marks.
    pub(crate) fn add(&self, path: &str, is_tree: bool, at: u64, put: impl FnOnce(Vec<u8>)) {
        let mut marks = self.marks.write();
        if is_tree {
            marks.retain(|known, _| !is_below(known, path));
        }
        let mark = marks.entry(path.into()).or_default();
        if is_tree {
            mark.tree = mark.tree.max(at);
        } else {
            mark.names = mark.names.max(at);
        }
        if marks.len() > MARKS_MAX {
            widen(&mut marks);
        }
        self.any.store(true, Ordering::Release);
        put(value(&marks));
    }

    /// What was asked for before so many observations is not told of the name `path`.
    pub(crate) fn of_name(&self, path: &str) -> u64 {
        self.of(path, true)
    }

    /// The same of the listing of the directory `path`.
    pub(crate) fn of_listing(&self, path: &str) -> u64 {
        self.of(path, false)
    }

    fn of(&self, path: &str, is_name: bool) -> u64 {
        if !self.any.load(Ordering::Acquire) {
            return 0;
        }
        let marks = self.marks.read();
        let (mut at, mut depth, mut next) = (0, 0, Some(path));
        while let Some(path) = next {
            if let Some(mark) = marks.get(path) {
                at = at.max(mark.tree);
                if depth == 0 || (depth == 1 && is_name) {
                    at = at.max(mark.names);
                }
            }
            (next, depth) = (parent(path), depth + 1);
        }
        at
    }
}

fn value(marks: &HashMap<Box<str>, Mark>) -> Vec<u8> {
    let mut out = vec![0; 8];
    put_varint(&mut out, marks.len() as u64);
    for (path, mark) in marks {
        put_text(&mut out, path);
        put_varint(&mut out, mark.names);
        put_varint(&mut out, mark.tree);
    }
    record::seal(KEY, out)
}

fn take(value: &[u8]) -> Option<HashMap<Box<str>, Mark>> {
    let mut take: Take<'_> = record::open(KEY, value)?;
    let mut marks = HashMap::new();
    for _ in 0..take.varint()?.min(MARKS_MAX as u64) {
        let path = take.text()?.into();
        marks.insert(path, Mark { names: take.varint()?, tree: take.varint()? });
    }
    Some(marks)
}

/// Puts one mark over the two oldest.
fn widen(marks: &mut HashMap<Box<str>, Mark>) {
    let mut by_age: Vec<(u64, Box<str>)> =
        marks.iter().map(|(path, mark)| (mark.names.max(mark.tree), path.clone())).collect();
    by_age.sort_unstable();
    let mut oldest = by_age.into_iter();
    let (Some((_, one)), Some((at, other))) = (oldest.next(), oldest.next()) else { return };
    let mut common: &str = &one;
    while !is_below(&other, common) {
        common = parent(common).unwrap_or("/");
    }
    let common: Box<str> = common.into();
    marks.remove(&one);
    marks.remove(&other);
    let mark = marks.entry(common).or_default();
    mark.tree = mark.tree.max(at);
}

/// Whether `path` is `above` or lies below it.
fn is_below(path: &str, above: &str) -> bool {
    above == "/" || path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn parent(path: &str) -> Option<&str> {
    match path.rsplit_once('/')? {
        (_, "") => None,
        ("", _) => Some("/"),
        (parent, _) => Some(parent),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(forgotten: &Forgotten, path: &str, name: u64, listing: u64) {
        assert_eq!((forgotten.of_name(path), forgotten.of_listing(path)), (name, listing), "{path}");
    }

    #[test]
    fn a_mark_covers_what_it_was_set_for() {
        let forgotten = Forgotten::default();
        check(&forgotten, "/a", 0, 0);
        forgotten.add("/a/b", false, 5, drop);
        for (path, name, listing) in
            [("/a", 0, 0), ("/a/b", 5, 5), ("/a/b/c", 5, 0), ("/a/b/c/d", 0, 0), ("/a/bc", 0, 0), ("/", 0, 0)]
        {
            check(&forgotten, path, name, listing);
        }
        forgotten.add("/a", true, 3, drop);
        for (path, name, listing) in [("/a", 3, 3), ("/a/b", 3, 3), ("/a/b/c/d", 3, 3), ("/ab", 0, 0)] {
            check(&forgotten, path, name, listing);
        }
    }

    #[test]
    fn the_root_covers_all() {
        let forgotten = Forgotten::default();
        forgotten.add("/", false, 2, drop);
        check(&forgotten, "/a", 2, 0);
        check(&forgotten, "/", 2, 2);
        forgotten.add("/", true, 4, drop);
        check(&forgotten, "/a/b", 4, 4);
    }

    #[test]
    fn marks_are_bounded_and_only_widened() {
        let forgotten = Forgotten::default();
        let path = |nth: u64| format!("/s/{}/{nth}", nth % 7);
        for nth in 1..=3 * MARKS_MAX as u64 {
            forgotten.add(&path(nth), false, nth, drop);
            assert!(forgotten.marks.read().len() <= MARKS_MAX);
        }
        for nth in 1..=3 * MARKS_MAX as u64 {
            assert!(forgotten.of_name(&path(nth)) >= nth, "{nth}");
        }
        assert_eq!(forgotten.of_name("/other"), 0);
    }

    #[test]
    fn marks_are_read_as_they_were_written_and_damage_forgets_all() {
        let forgotten = Forgotten::default();
        forgotten.add("/a/b", false, 5, drop);
        let mut value = Vec::new();
        forgotten.add("/c", true, 1 << 50, |all| value = all);
        let read = Forgotten::read(Some(&value), 9);
        check(&read, "/a/b", 5, 5);
        check(&read, "/c/d", 1 << 50, 1 << 50);
        check(&Forgotten::read(None, 9), "/c", 0, 0);
        check(&Forgotten::read(Some(&value[..value.len() - 1]), 9), "/x", 9, 9);
    }
}
