//! A listing that comes in no order: it is put in order on disk, run by run, before it is written.
//!
//! Nothing of it can be shown before its end, for any name may still come.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::block::Packer;
use crate::catalog::Asked;
use crate::directory::Observed;
use crate::generation::Generation;
use crate::page::ListingHeld;
use crate::writer::{ListingError, ListingWriter};

/// Names that are put in order in memory: some 10 MiB. More go to disk, each so many as a run.
const RUN_MAX: usize = 65_536;
/// Names of each run in memory while runs are merged: of a listing of ten million, 40,000 in all.
const AHEAD: usize = 256;
/// Names that are given to the writer at once.
const PART: usize = 4_096;

type Named = (String, Observed);

/// Takes what a listing brings, in any order, and writes it in order at the end.
#[derive(Debug)]
pub struct Gather<'a> {
    writer: &'a ListingWriter,
    asked: Asked,
    names: Vec<Named>,
    run_max: usize,
    runs: Vec<Arc<Generation>>,
    elsewhere: u64,
    /// What was written already, of a listing whose parts come in order: up to here.
    reached: Option<String>,
}

impl<'a> Gather<'a> {
    /// Gathers for `writer` what was asked for after `asked`.
    pub fn new(writer: &'a ListingWriter, asked: Asked) -> Self {
        Self { writer, asked, names: Vec::new(), run_max: RUN_MAX, runs: Vec::new(), elsewhere: 0, reached: None }
    }

    /// The same for an origin that lists part by part in the order of keys: names can be used as they come.
    pub fn in_order(writer: &'a ListingWriter, asked: Asked) -> Self {
        let mut gather = Self::new(writer, asked);
        gather.reached = Some(String::new());
        gather
    }

    #[cfg(test)]
    pub(crate) fn with_runs_of(mut self, names: usize) -> Self {
        self.run_max = names;
        self
    }

    /// Takes full keys and what was seen of them.
    ///
    /// # Errors
    /// They cannot be kept.
    pub fn push(&mut self, seen: impl IntoIterator<Item = (String, Observed)>) -> Result<(), ListingError> {
        for (key, seen) in seen {
            let Some(place) = key.strip_prefix(self.writer.prefix()) else {
                // An origin that lists what was not asked for is not believed.
                self.elsewhere += 1;
                continue;
            };
            let is_directory = seen == Observed::Directory && !place.ends_with('/');
            self.names.push((if is_directory { format!("{place}/") } else { place.to_owned() }, seen));
            if self.reached.is_none() && self.names.len() >= self.run_max {
                self.put_run()?;
            }
        }
        if self.reached.is_some() { self.put_part() } else { Ok(()) }
    }

    fn put_part(&mut self) -> Result<(), ListingError> {
        sort(&mut self.names);
        let Some(reached) = &self.reached else { return Ok(()) };
        // A prefix may be told again with the next part.
        if !reached.is_empty() && self.names.first().is_some_and(|(first, _)| first == reached) {
            self.names.remove(0);
        }
        let (Some((first, _)), Some((last, _))) = (self.names.first(), self.names.last()) else { return Ok(()) };
        if first < reached {
            return Err(ListingError::Order);
        }
        self.writer.range(&self.asked, reached, &self.names)?;
        self.reached = Some(last.clone());
        self.names.clear();
        Ok(())
    }

    /// All has come.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn finish(mut self) -> Result<(), ListingError> {
        self.writer.hide(self.elsewhere);
        if let Some(reached) = &self.reached {
            return self.writer.covered(&self.asked, reached, None);
        }
        sort(&mut self.names);
        let mut out = Out { writer: self.writer, asked: self.asked, after: String::new(), part: Vec::new() };
        if self.runs.is_empty() {
            for named in std::mem::take(&mut self.names) {
                out.push(named)?;
            }
            return out.finish();
        }
        let last = std::mem::take(&mut self.names);
        let mut ahead: Vec<Run> = self.runs.iter().map(|run| Run::new(Some(run.clone()), VecDeque::new())).collect();
        ahead.push(Run::new(None, last.into()));
        let mut heads = BinaryHeap::new();
        for (nth, run) in ahead.iter_mut().enumerate() {
            heads.extend(run.next()?.map(|named| Reverse(Head { named, nth })));
        }
        while let Some(Reverse(Head { named, nth })) = heads.pop() {
            out.push(named)?;
            heads.extend(ahead[nth].next()?.map(|named| Reverse(Head { named, nth })));
        }
        out.finish()
    }

    fn put_run(&mut self) -> Result<(), ListingError> {
        sort(&mut self.names);
        let run = self.writer.new_run();
        let mut packer = Packer::new(run.id, 0, "");
        for (place, seen) in &self.names {
            if self.writer.is_name(place, seen) {
                packer.push(place, seen);
            }
        }
        run.put("", None, 0, packer.finish(None));
        self.runs.push(run);
        // What is no name is counted, and told, where it is written.
        let writer = self.writer;
        self.names.retain(|(place, seen)| !writer.is_name(place, seen));
        self.names.truncate(self.run_max / 2);
        Ok(())
    }
}

impl Drop for Gather<'_> {
    fn drop(&mut self) {
        for run in &self.runs {
            self.writer.drop_run(run);
        }
    }
}

fn sort(names: &mut Vec<Named>) {
    // A sort that keeps the order of equals: the first that was told of a name stays.
    names.sort_by(|a, b| a.0.cmp(&b.0));
    names.dedup_by(|later, earlier| later.0 == earlier.0);
}

/// The next name of a run.
struct Head {
    named: Named,
    nth: usize,
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.named.0.cmp(&other.named.0).then(self.nth.cmp(&other.nth))
    }
}

struct Run {
    held: Option<ListingHeld>,
    after: String,
    ahead: VecDeque<Named>,
}

impl Run {
    fn new(generation: Option<Arc<Generation>>, ahead: VecDeque<Named>) -> Self {
        let held = generation.map(|generation| ListingHeld { generation, fresh_for: Duration::ZERO });
        Self { held, after: String::new(), ahead }
    }

    fn next(&mut self) -> Result<Option<Named>, ListingError> {
        if self.ahead.is_empty()
            && let Some(held) = &self.held
        {
            let (entries, is_end) = held.raw(&self.after, AHEAD).ok_or(ListingError::NotKept)?;
            self.after = entries.last().map(|(place, _)| place.clone()).unwrap_or_default();
            self.ahead = entries.into();
            if is_end {
                self.held = None;
            }
        }
        Ok(self.ahead.pop_front())
    }
}

struct Out<'a> {
    writer: &'a ListingWriter,
    asked: Asked,
    after: String,
    part: Vec<Named>,
}

impl Out<'_> {
    fn push(&mut self, named: Named) -> Result<(), ListingError> {
        if self.part.last().is_some_and(|(last, _)| *last == named.0) {
            return Ok(());
        }
        self.part.push(named);
        if self.part.len() >= PART { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), ListingError> {
        self.writer.range(&self.asked, &self.after, &self.part)?;
        if let Some((last, _)) = self.part.pop() {
            self.after = last;
        }
        self.part.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(), ListingError> {
        self.flush()?;
        self.writer.covered(&self.asked, &self.after, None)
    }
}
