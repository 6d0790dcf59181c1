//! The plain reference: what every path has stood for, and when.
//!
//! A change happens between two moments: until the second what was before may be seen, from the first what comes after.

use std::collections::{BTreeMap, HashMap};
use std::time::Instant;

/// Every object that there may be. One of them is also a directory's name.
pub(super) const KEYS: [&str; 9] = ["a", "b", "d/x", "d/y", "d/e/w", "d/e/z", "k", "k/l", "n/m/o"];
/// Every path below the source that can stand for something, and one that never does.
pub(super) const PATHS: [&str; 13] =
    ["a", "b", "d", "d/x", "d/y", "d/e", "d/e/w", "d/e/z", "k", "k/l", "n", "n/m", "n/m/o"];
/// Every directory that there may be.
pub(super) const DIRECTORIES: [&str; 6] = ["", "d", "d/e", "k", "n", "n/m"];

/// What a path stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum What {
    Nothing,
    File(u32),
    Directory,
}

#[derive(Debug)]
struct State {
    what: What,
    from: Instant,
    until: Option<Instant>,
}

#[derive(Debug)]
pub(super) struct Reference {
    objects: BTreeMap<&'static str, u32>,
    states: HashMap<&'static str, Vec<State>>,
    /// From when on nothing older may be told of a path.
    floors: HashMap<&'static str, Instant>,
    begun: Instant,
}

/// Whether `path` lies in the directory `directory`, at any depth.
pub(super) fn is_below(path: &str, directory: &str) -> bool {
    directory.is_empty() || path.strip_prefix(directory).is_some_and(|rest| rest.starts_with('/'))
}

pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

impl Reference {
    pub(super) fn new() -> Self {
        let begun = Instant::now();
        let nothing = || vec![State { what: What::Nothing, from: begun, until: None }];
        let states = PATHS.into_iter().map(|path| (path, nothing())).collect();
        Self { objects: BTreeMap::new(), states, floors: HashMap::new(), begun }
    }

    /// Does `change` at the origin: `key` has that version from now on, or is gone.
    pub(super) fn change(&mut self, key: &'static str, version: Option<u32>, change: impl FnOnce()) {
        let before = Instant::now();
        change();
        let after = Instant::now();
        match version {
            Some(version) => self.objects.insert(key, version),
            None => self.objects.remove(key),
        };
        for path in PATHS {
            let what = self.is(path);
            let states = self.states.get_mut(path).expect("all paths are there");
            let last = states.last_mut().expect("there is always a state");
            if last.what != what {
                last.until = Some(after);
                states.push(State { what, from: before, until: None });
            }
        }
    }

    /// What `path` stands for now.
    pub(super) fn is(&self, path: &str) -> What {
        if path.is_empty() || self.objects.keys().any(|key| is_below(key, path)) {
            return What::Directory;
        }
        self.objects.get(path).map_or(What::Nothing, |version| What::File(*version))
    }

    /// From `when` on nothing older is told of `path`.
    pub(super) fn raise(&mut self, path: &str, when: Instant) {
        if let Some(path) = PATHS.into_iter().find(|known| *known == path) {
            let floor = self.floors.entry(path).or_insert(when);
            *floor = when.max(*floor);
        }
    }

    /// Whether `what` may be told of `path`: it was so at a moment from `oldest` (and from when older was forgotten) to `newest`.
    pub(super) fn may_be(&self, path: &str, what: What, oldest: Option<Instant>, newest: Instant) -> bool {
        if path.is_empty() {
            return what == What::Directory;
        }
        let Some(states) = self.states.get(path) else { return what == What::Nothing };
        let floor = self.floors.get(path).copied().unwrap_or(self.begun);
        let oldest = oldest.unwrap_or(self.begun).max(floor);
        let overlaps = |state: &State| state.from <= newest && state.until.is_none_or(|until| until >= oldest);
        states.iter().any(|state| state.what == what && overlaps(state))
    }

    pub(super) fn history(&self, path: &str) -> String {
        let at = |when: Instant| format!("{:.4}", when.duration_since(self.begun).as_secs_f64());
        let floor = self.floors.get(path).map_or("none".to_owned(), |floor| at(*floor));
        let states = self.states.get(path).into_iter().flatten().rev().take(6);
        let text = |state: &State| {
            format!("{:?} from {} to {}", state.what, at(state.from), state.until.map_or("now".to_owned(), at))
        };
        format!("floor {floor}; {}", states.map(text).collect::<Vec<_>>().join(", "))
    }

    pub(super) fn at(&self, when: Instant) -> f64 {
        when.duration_since(self.begun).as_secs_f64()
    }
}
