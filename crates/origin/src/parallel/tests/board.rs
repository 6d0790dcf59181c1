//! The board, by seed: pages come in any order, fail, repeat themselves; listings are interrupted and resumed.

use std::collections::BTreeMap;
use std::sync::Arc;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::{Bucket, PREFIX};
use crate::Listed;
use crate::pages::Page;
use crate::parallel::KeySpan;
use crate::parallel::board::{Board, Next, PAGES_PER_STEAL, Problem, RangeId, STEALS_FREE};

/// What was covered so far, and what was seen in it.
#[derive(Default)]
struct Seen {
    spans: BTreeMap<Arc<str>, Option<Arc<str>>>,
    names: Vec<String>,
    requests: u64,
    /// Requests that a fault made necessary.
    excused: u64,
}

impl Seen {
    /// What is not covered.
    fn gaps(&self) -> Vec<KeySpan> {
        let (mut gaps, mut at): (Vec<KeySpan>, Option<Arc<str>>) = (Vec::new(), Some("".into()));
        for (after, until) in &self.spans {
            let begin = at.take().expect("nothing is covered behind the end");
            assert!(*after >= begin, "{after:?} is covered twice");
            if *after > begin {
                gaps.push(KeySpan { after: begin, until: Some(Arc::clone(after)) });
            }
            at.clone_from(until);
        }
        gaps.extend(at.map(|after| KeySpan { after, until: None }));
        gaps
    }

    /// Lists `gaps` of `bucket`, for at most `steps` pages that come in an order by chance.
    fn list(
        &mut self,
        bucket: &Bucket,
        gaps: Vec<KeySpan>,
        random: &mut SmallRng,
        steps: usize,
    ) -> Result<(), Problem> {
        let mut board = Board::new(PREFIX, gaps, random.random_range(1..20));
        let faults = [0.0, 0.0, 0.05][random.random_range(0..3)];
        let mut under_way: Vec<(RangeId, Arc<str>, bool)> = Vec::new();
        for _ in 0..steps {
            while let Some(job) = board.next_job() {
                under_way.push((job.id, job.after, false));
            }
            if under_way.is_empty() {
                assert!(board.is_covered(), "nothing is asked for, and not all is covered");
                return Ok(());
            }
            let (id, after, is_token) = under_way.swap_remove(random.random_range(0..under_way.len()));
            let mut page = bucket.page(&after, is_token);
            self.requests += 1;
            let mut at: Arc<str> = page.entries.last().map_or(Arc::clone(&after), |entry| entry.key().into());
            let mut has_token = true;
            if random.random_bool(faults) {
                self.excused += 2;
                match random.random_range(0..3) {
                    0 => page.was_asked_again = true,
                    // A page without entries, as servers send that step over deleted objects.
                    1 => {
                        page = Page { is_ordered: true, ..Page::default() };
                        (at, has_token) = (Arc::clone(&after), is_token);
                    }
                    // The page before once more.
                    _ if is_token && !after.is_empty() => {
                        let again = [PREFIX.into(), Arc::clone(&after)].map(|key| Listed::Prefix { key });
                        page = Page { entries: again.into(), is_ordered: true, ..Page::default() };
                    }
                    _ => {}
                }
            }
            let (part, next) = board.took(id, page)?;
            if next == Next::Page {
                under_way.push((id, at, has_token));
            }
            let Some(part) = part else { continue };
            let covered = part.covered.expect("ranges are covered");
            assert!(part.entries.is_sorted_by(|a, b| a.key() < b.key()));
            assert!(part.entries.iter().all(|entry| covered.contains(entry.key())), "{covered:?}");
            self.names.extend(part.entries.iter().map(|entry| entry.key().to_owned()));
            assert!(self.spans.insert(covered.after, covered.until).is_none(), "covered twice");
        }
        Ok(())
    }
}

fn cut_at(gap: KeySpan, cut: &str) -> Vec<KeySpan> {
    if !gap.contains(cut) || gap.until.as_deref() == Some(cut) {
        return vec![gap];
    }
    vec![KeySpan { after: gap.after, until: Some(cut.into()) }, KeySpan { after: cut.into(), until: gap.until }]
}

fn check(seed: u64) {
    let mut random = SmallRng::seed_from_u64(seed);
    let bucket = Bucket::nasty(&mut random);
    let (mut seen, mut ranges) = (Seen::default(), 0);
    // Interrupted now and then, and resumed from what was not covered.
    while !seen.gaps().is_empty() {
        let steps = [usize::MAX, usize::MAX, 1, 10, 50][random.random_range(0..5)];
        // Cut where an earlier listing was, now and then: gaps that touch.
        let cuts = if random.random() { random.random_range(0..6) } else { 0 };
        let names = bucket.names();
        let cuts: Vec<&String> = (0..cuts).filter_map(|_| names.get(random.random_range(0..=names.len()))).collect();
        let gaps =
            cuts.into_iter().fold(seen.gaps(), |gaps, cut| gaps.into_iter().flat_map(|gap| cut_at(gap, cut)).collect());
        ranges += gaps.len() as u64;
        seen.list(&bucket, gaps, &mut random, steps).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
    }
    seen.names.sort();
    let names = bucket.names();
    let other = seen.names.iter().zip(&names).find(|(seen, name)| seen != name);
    assert_eq!((other, seen.names.len()), (None, names.len()), "seed {seed}");
    let full = seen.names.len() as u64 / bucket.page as u64;
    let lists = ranges.max(1);
    let bound = (full + ranges + lists * STEALS_FREE) * PAGES_PER_STEAL / (PAGES_PER_STEAL - 1) + seen.excused;
    assert!(seen.requests <= bound, "seed {seed}: {} requests for {full} full pages, at most {bound}", seen.requests);
}

#[test]
fn every_key_is_given_out_once_and_all_is_covered() {
    (0..3_000).for_each(check);
}

#[test]
fn what_fits_on_a_page_costs_one_request() {
    for count in [0, 1, 30, 31, 60, 61] {
        let keys = (0..count).map(|n| format!("{PREFIX}{n:05}")).collect();
        let bucket = Bucket { keys, page: 30, gives_start: false };
        let mut seen = Seen::default();
        let mut random = SmallRng::seed_from_u64(u64::MAX);
        let mut board = Board::new(PREFIX, vec![KeySpan::whole()], 16);
        let mut at = board.next_job().map(|job| (job.id, job.after));
        while let Some((id, after)) = at {
            assert_eq!(board.next_job(), None, "a second lister before there were two full pages");
            let page = bucket.page(&after, true);
            seen.requests += 1;
            let last: Option<Arc<str>> = page.entries.last().map(|entry| entry.key().into());
            let (_, next) = board.took(id, page).expect("a page");
            at = last.filter(|_| next == Next::Page && seen.requests < 2).map(|last| (id, last));
        }
        assert_eq!(seen.requests, if count <= 30 { 1 } else { 2 });
        let mut whole = Seen::default();
        whole.list(&bucket, vec![KeySpan::whole()], &mut random, usize::MAX).expect("lists");
        assert!(whole.requests <= 1 + whole.names.len() as u64 / 20 + whole.excused, "{count}: {}", whole.requests);
    }
}

/// All pages of a round come before the next is asked for: how many rounds do 16 listers need?
fn rounds(name: impl Fn(usize) -> String, count: usize) -> (usize, u64) {
    let keys = (0..count).map(|n| format!("{PREFIX}{}", name(n))).collect();
    let bucket = Bucket { keys, page: 50, gives_start: false };
    let mut board = Board::new(PREFIX, vec![KeySpan::whole()], 16);
    let (mut under_way, mut rounds, mut requests) = (Vec::new(), 0, 0);
    loop {
        while let Some(job) = board.next_job() {
            under_way.push((job.id, job.after));
        }
        if under_way.is_empty() {
            return (rounds, requests);
        }
        rounds += 1;
        for (id, after) in std::mem::take(&mut under_way) {
            requests += 1;
            let page = bucket.page(&after, true);
            let last: Option<Arc<str>> = page.entries.last().map(|entry| entry.key().into());
            if board.took(id, page).expect("a page").1 == Next::Page {
                under_way.push((id, last.expect("a full page has entries")));
            }
        }
    }
}

fn hash(number: usize) -> u64 {
    (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A number in a radix of 10 whose digits are letters of one to four bytes.
fn foreign(number: usize) -> String {
    number.to_string().chars().map(|digit| ['日', 'é', 'я', '🦀', 'a'][digit as usize % 5]).collect()
}

#[test]
fn sixteen_listers_are_kept_busy_whatever_the_names() {
    let check = |shape: &str, name: fn(usize) -> String| {
        let (rounds, requests) = rounds(name, 40_000);
        // 800 pages: 50 rounds at best.
        assert!(rounds <= 70, "{shape}: {rounds} rounds");
        assert!(requests <= 900, "{shape}: {requests} requests");
    };
    check("numbers", |n| format!("{n:08}.jpg"));
    check("numbers without zeros", |n| n.to_string());
    check("hashes", |n| format!("{:016x}.bin", hash(n)));
    check("classes", |n| format!("n{:08}_{n:06}.JPEG", 1_440_764 + n / 100 * 13_643));
    check("mixed case", |n| format!("{}{:x}", ["Z", "a", "-", "0"][n % 4], hash(n)));
    check("foreign letters", |n| format!("{}_{n}", foreign(n)));
    check("a long beginning", |n| match n % 100 {
        0 => format!("archive-{n:08}"),
        _ => format!("crawl-2024-06-01T00:00:00Z-part-0000-of-0001-run-000000-shard-{n:09}.tar"),
    });
}
