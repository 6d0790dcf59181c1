//! Crashes: what may be left of a directory at any moment is rebuilt from the journal of what was done to it, and a store
//! is opened on it, is read, filled on, and crashes again.
//!
//! What must hold, each time: it opens; no byte is wrong, so no hole is read; all that the log names and that is whole is
//! served; after a crash of the process alone that is all that was acknowledged and neither evicted nor forgotten.
//!
//! A case is a number. `FOREBAY_CRASH_SEED=n cargo test --release -p forebay-store crash` does that one alone;
//! `PROPTEST_CASES=n` says how many are done.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;
mod expect;
mod life;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use self::disk::{Disk, hash};
use self::expect::{Expected, expected};
use self::life::{Kind, Life, acknowledged};
use crate::device::journal::Step;

/// Crashes of one life; the life is the dearer part.
const CRASHES_PER_LIFE: u64 = 8;
/// Crashes that are rebuilt if nobody says how many.
const CASES: u64 = 2000;

/// A directory's past: what lay there when all was on the disk for certain, and what was done since.
#[derive(Clone)]
struct Past {
    disk: Disk,
    steps: Vec<Step>,
}

/// What the cases have come upon: tests that come upon nothing prove nothing.
#[derive(Debug, Default)]
struct Seen {
    crashes: u64,
    of_machine: u64,
    served: usize,
    lost: usize,
    rewritten: u64,
    packs_gone: u64,
    punched: u64,
    stray: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Crash {
    Process,
    Machine,
}

impl Past {
    /// What a crash leaves when `at` of the steps are done.
    fn crash(&self, crash: Crash, at: usize, seed: u64) -> Self {
        let mut steps = self.steps[..at].to_vec();
        match crash {
            Crash::Machine => Self { disk: self.disk.crashed(&steps, seed), steps: Vec::new() },
            Crash::Process => {
                // Of a write that is broken off the first pages of the page cache are done.
                if let Some(Step::Write { file, offset, bytes }) = self.steps.get(at) {
                    let pages = (offset + bytes.len() as u64) / 4096 - offset / 4096;
                    let end = (offset / 4096 + hash(seed) % (pages + 1)) * 4096;
                    let bytes = bytes[..end.saturating_sub(*offset).min(bytes.len() as u64) as usize].into();
                    steps.push(Step::Write { file: *file, offset: *offset, bytes });
                }
                Self { disk: self.disk.clone(), steps }
            }
        }
    }

    fn now(&self) -> Disk {
        self.disk.after(&self.steps)
    }

    /// A store that opens on it under `boot`, lives on for a while and closes. Checks all that it reads.
    fn live_on(
        mut self,
        place: &Path,
        kind: Kind,
        boot: u8,
        seed: u64,
        expects: Option<&Expected>,
        seen: &mut Seen,
    ) -> Self {
        let now = self.now();
        now.lay_out(place);
        let mut life = Life::begin(place, &now, self.disk.next_file(&self.steps), kind, boot, seed);
        if let Some(expected) = expects {
            let found = life.all_readable();
            let missing: Vec<_> = expected.pages.difference(&found).collect();
            assert!(missing.is_empty(), "whole and not served: {missing:?}");
            seen.served += found.len();
        }
        life.go_on(if kind.pages { 24 } else { 80 });
        life.all_readable();
        let steps = life.end();
        std::fs::remove_dir_all(place).unwrap();
        seen.count(&steps);
        self.steps.extend(steps);
        self
    }
}

impl Seen {
    fn is_enough(&self) -> bool {
        let crashes = self.crashes as usize;
        self.of_machine * 2 > self.crashes
            && self.served > 4 * crashes
            && self.lost * 4 < crashes * 3
            && [self.rewritten, self.packs_gone, self.stray].iter().all(|count| *count > self.crashes / 16)
            && self.punched > 0
    }

    fn count(&mut self, steps: &[Step]) {
        for step in steps {
            match step {
                Step::Rename { to, .. } if to == "index.log" => self.rewritten += 1,
                Step::Unlink { name } if name.starts_with("packs/") => self.packs_gone += 1,
                Step::Punch { .. } => self.punched += 1,
                _ => {}
            }
        }
    }
}

/// One crash of a life, what comes after it, and one more.
fn crash_twice(past: &Past, kind: Kind, scratch: &Path, seed: u64, seen: &mut Seen) {
    let mut random = StdRng::seed_from_u64(seed);
    let (mut past, mut boot) = (past.clone(), 1);
    for _ in 0..2 {
        let crash = if random.random_ratio(1, 3) { Crash::Process } else { Crash::Machine };
        // Recovery is short: it would hardly ever be hit.
        let end = if random.random_ratio(1, 3) { past.steps.len().min(16) } else { past.steps.len() };
        // Half of them beside a step that takes something away, holes before others: there order counts.
        let is_punch = |step: &Step| matches!(step, Step::Punch { .. });
        let takes = |step: &Step| matches!(step, Step::Rename { .. } | Step::Unlink { .. });
        let near =
            |which: &dyn Fn(&Step) -> bool| -> Vec<usize> { (0..end).filter(|at| which(&past.steps[*at])).collect() };
        let punches = near(&is_punch);
        let near = if punches.is_empty() || random.random_ratio(1, 3) { near(&takes) } else { punches };
        let at = if near.is_empty() || random.random_ratio(1, 2) {
            random.random_range(0..=end)
        } else {
            near[random.random_range(0..near.len())] + random.random_range(0..=1)
        };
        let left = past.crash(crash, at, random.random());
        let disk = left.now();
        let expected = expected(&disk);
        if crash == Crash::Machine {
            // A log that took the place of another, for certain, was whole before.
            let took = past.steps[..at].iter().any(|step| matches!(step, Step::SyncNames));
            assert!(!took || expected.has_log, "the log was renamed before its bytes were on the disk");
            boot += 1;
            seen.of_machine += 1;
        } else if boot == 1 {
            assert!(expected.all_right, "the log speaks of bytes that are not written");
        }
        if kind.is_roomy() && crash == Crash::Process {
            let acknowledged = acknowledged(&left.steps);
            let lost: Vec<_> = acknowledged.difference(&expected.pages).collect();
            assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        }
        seen.crashes += 1;
        seen.lost += usize::from(expected.pages.is_empty());
        let named = disk.names.keys().filter(|name| name.contains('/')).count();
        seen.stray += u64::from(named > 0 && expected.pages.is_empty());
        let place = scratch.join("crashed");
        past = left.live_on(&place, kind, boot, random.random(), Some(&expected), seen);
    }
}

/// A life and its crashes; the number of the life is the case.
fn case(life: u64, seen: &mut Seen) {
    let scratch = tempfile::tempdir_in("/dev/shm").unwrap();
    let kind = Kind::of(life);
    let nothing = Past { disk: Disk::default(), steps: Vec::new() };
    let past = nothing.live_on(&scratch.path().join("life"), kind, 1, life, None, seen);
    for crash in 0..CRASHES_PER_LIFE {
        crash_twice(&past, kind, scratch.path(), hash(life) ^ hash(crash), seen);
    }
}

/// Cases from `first` on; prints which one failed.
fn cases(first: u64) {
    let told = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let count = told("PROPTEST_CASES").unwrap_or(CASES).div_ceil(2 * 2 * CRASHES_PER_LIFE);
    let lives = told("FOREBAY_CRASH_SEED").map_or(first..first + count, |seed| seed..seed + 1);
    let mut seen = Seen::default();
    for life in lives {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| case(life, &mut seen))) {
            eprintln!("do it again with FOREBAY_CRASH_SEED={life}");
            resume_unwind(panic);
        }
    }
    println!("{seen:?}");
    assert!(told("FOREBAY_CRASH_SEED").is_some() || seen.is_enough(), "the cases came upon too little: {seen:?}");
}

#[test]
fn a_crash_at_any_moment_leaves_a_store_that_serves_what_is_whole() {
    cases(0);
}

#[test]
fn a_crash_at_any_moment_leaves_a_store_that_serves_what_is_whole_in_other_lives() {
    // A second test, for the second core.
    cases(1 << 32);
}
