//! A bucket in memory, against which the board and the lister are tested.

mod board;
mod lister;

use std::collections::BTreeSet;

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::Listed;
use crate::pages::Page;

const PREFIX: &str = "p/";

/// A bucket as a store lists it: keys, pages, and what stores do differently.
#[derive(Clone)]
struct Bucket {
    keys: BTreeSet<String>,
    page: usize,
    /// Whether a prefix that a listing begins in is given too.
    gives_start: bool,
}

impl Bucket {
    /// The page behind `after`; `is_token`: that is the last entry of the page before.
    fn page(&self, after: &str, is_token: bool) -> Page {
        let mut entries: Vec<Listed> = Vec::new();
        for key in self.keys.range(after.to_owned()..).filter(|key| key.as_str() > after) {
            let rest = key.strip_prefix(PREFIX).expect("all are below the prefix");
            let entry = rest.find('/').map_or(key.as_str(), |slash| &key[..PREFIX.len() + slash + 1]);
            let is_passed = entry <= after && (is_token || !self.gives_start);
            if is_passed || entries.last().is_some_and(|last| last.key() == entry) {
                continue;
            }
            if entries.len() == self.page {
                return Page { entries, is_last: false, is_ordered: true, was_asked_again: false };
            }
            entries.push(Listed::Prefix { key: entry.into() });
        }
        Page { entries, is_last: true, is_ordered: true, was_asked_again: false }
    }

    fn names(&self) -> Vec<String> {
        let all = Bucket { page: usize::MAX, ..self.clone() };
        all.page("", true).entries.iter().map(|entry| entry.key().to_owned()).collect()
    }

    /// `count` numbers.
    fn numbers(count: usize, page: usize) -> Self {
        Self { keys: (0..count).map(|n| format!("{PREFIX}{n:08}")).collect(), page, gives_start: false }
    }

    /// Names that are hard to cut: by seed, in one of several shapes.
    fn nasty(random: &mut SmallRng) -> Self {
        let count = [0, 1, 7, 100, 1_000, 3_000][random.random_range(0..6)];
        let letters = ["0", "9", "a", "b", "~", "/", "\u{1}", " ", "é", "日", "🦀", "\u{10ffff}"];
        let shape = random.random_range(0..8);
        let name = |number: usize, random: &mut SmallRng| match shape {
            0 => format!("{number:08}.jpg"),
            1 => number.to_string(),
            2 => format!("{:016x}", random.random::<u64>()),
            3 if number.is_multiple_of(100) => format!("{}-{number}", letters[random.random_range(0..12)]),
            3 => format!("crawl-2024-06-01T00:00:00Z-part-0000-of-0001-run-0000-shard-{number:09}.tar"),
            4 => format!("n{:08}/n{number:05}.JPEG", number / 13 * 13_643),
            5 => (0..random.random_range(1..12)).map(|_| letters[random.random_range(0..12)]).collect(),
            6 => "aaaa".repeat(number % 200),
            _ => format!("{}/x", "é日".repeat(number % 50)) + &number.to_string(),
        };
        let keys = (0..count).map(|number| format!("{PREFIX}{}", name(number, random))).collect();
        Self { keys, page: random.random_range(1..40), gives_start: random.random() }
    }
}
