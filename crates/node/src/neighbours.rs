//! When a directory is worth a listing: names of it are being looked up one by one, each at the price of two requests to
//! the origin, where one page of a listing tells a thousand.
//!
//! Always true: what is listed behind the readers' backs costs at most a fixed multiple of what their lookups have cost;
//! so two names of a directory of a billion do not list it.

use std::collections::HashMap;
use std::sync::Arc;

use forebay_model::NsPath;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Lookups in a directory that its listing did not answer, before it is listed.
const MISSES_MIN: u64 = 8;
/// Requests that a listing may cost for each of those lookups, before it is given up.
const REQUESTS_PER_MISS: u64 = 4;
/// After one was given up, so many times the lookups earn the next.
const AGAIN: u64 = 4;
/// Directories remembered. Beyond it all are forgotten, which costs each a few lookups.
const DIRECTORIES_MAX: usize = 4_096;
/// Listings behind readers' backs at once.
const LISTINGS_MAX: usize = 2;

/// Directories whose names are looked up one by one.
#[derive(Debug)]
pub(crate) struct Neighbours {
    directories: Arc<Mutex<HashMap<NsPath, Misses>>>,
    places: Arc<Semaphore>,
}

#[derive(Debug)]
struct Misses {
    seen: u64,
    /// Lookups at which it is listed.
    due: u64,
    /// It is being listed now.
    under_way: bool,
}

/// A directory may be listed now. It is not listed again until this is dropped, and others wait for its place.
#[derive(Debug)]
pub(crate) struct Turn {
    /// Names after which the listing is to be given up.
    pub(crate) names_max: u64,
    path: NsPath,
    directories: Arc<Mutex<HashMap<NsPath, Misses>>>,
    _place: OwnedSemaphorePermit,
}

impl Neighbours {
    pub(crate) fn new() -> Self {
        Self { directories: Arc::default(), places: Arc::new(Semaphore::new(LISTINGS_MAX)) }
    }

    /// A name of `directory` had to be asked of the origin, whose listings bring so many names a request.
    pub(crate) fn missed(&self, directory: &NsPath, names_per_request: u64) -> Option<Turn> {
        let mut directories = self.directories.lock();
        if directories.len() >= DIRECTORIES_MAX && !directories.contains_key(directory) {
            directories.clear();
        }
        let misses =
            directories.entry(directory.clone()).or_insert(Misses { seen: 0, due: MISSES_MIN, under_way: false });
        misses.seen += 1;
        if misses.seen < misses.due || misses.under_way {
            return None;
        }
        let place = self.places.clone().try_acquire_owned().ok()?;
        misses.under_way = true;
        // Whatever comes of it, the next is not due before that.
        misses.due = misses.seen.saturating_mul(AGAIN);
        let names_max = misses.seen.saturating_mul(REQUESTS_PER_MISS).saturating_mul(names_per_request);
        Some(Turn { names_max, path: directory.clone(), directories: self.directories.clone(), _place: place })
    }
}

impl Turn {
    /// The directory is listed: its account begins anew.
    pub(crate) fn listed(self) {
        self.directories.lock().remove(&self.path);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(misses) = self.directories.lock().get_mut(&self.path) {
            misses.under_way = false;
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn path(text: &str) -> NsPath {
        text.parse().unwrap()
    }

    #[test]
    fn what_is_listed_stays_in_proportion_to_what_was_looked_up() {
        let (neighbours, directory) = (Neighbours::new(), path("/s/d"));
        let mut names = 0;
        for lookups in 1..10_000 {
            if let Some(turn) = neighbours.missed(&directory, 1000) {
                names += turn.names_max;
            }
            assert!(names <= 2 * REQUESTS_PER_MISS * 1000 * lookups, "{names} names for {lookups} lookups");
        }
        assert!(names > REQUESTS_PER_MISS * 1000 * 2_000);
    }

    #[test]
    fn a_listed_directory_begins_anew_and_others_wait_their_turn() {
        let neighbours = Neighbours::new();
        let due = |directory: &str| (0..MISSES_MIN).find_map(|_| neighbours.missed(&path(directory), 1000));
        let (one, two) = (due("/s/1").unwrap(), due("/s/2").unwrap());
        assert!(due("/s/3").is_none(), "two are under way");
        one.listed();
        assert!(neighbours.missed(&path("/s/3"), 1000).is_some(), "still due");
        assert!(due("/s/1").is_some());
        assert!((0..100).all(|_| neighbours.missed(&path("/s/2"), 1000).is_none()), "it is being listed");
        drop(two);
        assert!(neighbours.missed(&path("/s/2"), 1000).is_some(), "it was given up long ago");
    }

    #[test]
    fn a_sea_of_directories_is_not_remembered() {
        let neighbours = Neighbours::new();
        for i in 0..3 * DIRECTORIES_MAX {
            assert!(neighbours.missed(&path(&format!("/s/{i}")), 1000).is_none());
        }
        assert!(neighbours.directories.lock().len() <= DIRECTORIES_MAX);
    }
}
