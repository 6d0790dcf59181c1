//! Which ranges of a directory's places a listing has covered: the directory's cut table.
//!
//! Always true: ranges do not overlap, and have at most [`NAMES_MAX`] names each, unless one part of a listing brought more or there
//! are too many ranges.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};

use forebay_model::bytes::{Take, put_text, put_varint};

/// Names of one range, at most: what is listed, and later placed on a node, as one.
const NAMES_MAX: u64 = 1_000_000;
/// Ranges that are remembered, at most: as many as two billion names have, and far more than listers that work at once. Beyond
/// them ranges that touch become one; what touches none is listed again.
const RANGES_MAX: usize = 4_096;

/// A range of places: after the first, up to and with the second. None: to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The last place before it; empty: it starts at the beginning.
    pub after: Box<str>,
    /// Its last place. None: it has no end.
    pub to: Option<Box<str>>,
}

/// Ranges, by their beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(BTreeMap<Box<str>, Covered>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Covered {
    /// None is the end, which is greater than every place.
    to: Option<Box<str>>,
    /// At most so many names.
    names: u64,
}

fn is_at_least(to: Option<&str>, place: &str) -> bool {
    to.is_none_or(|to| to >= place)
}

impl Coverage {
    /// Adds the places after `after`, up to and with `to`, which have `names` names.
    pub(crate) fn add(&mut self, after: &str, to: Option<&str>, names: u64) {
        // What is covered already stays as it is.
        let mut reached: Box<str> = after.into();
        if let Some((_, known)) = self.0.range::<str, _>((Unbounded, Included(after))).next_back() {
            match &known.to {
                None => return,
                Some(end) if **end > *after => reached = end.clone(),
                Some(_) => {}
            }
        }
        while to.is_none_or(|to| to > &*reached) {
            let next = self.0.range::<str, _>((Included(&*reached), Unbounded)).next();
            let next =
                next.filter(|(from, _)| is_at_least(to, from)).map(|(from, known)| (from.clone(), known.to.clone()));
            let end = next.as_ref().map_or_else(|| to.map(Into::into), |(from, _)| Some(from.clone()));
            self.insert(reached, end, names);
            match next {
                Some((_, Some(end))) => reached = end,
                Some((_, None)) | None => return,
            }
        }
    }

    /// Adds a range that no other touches but at its ends.
    fn insert(&mut self, after: Box<str>, to: Option<Box<str>>, names: u64) {
        if to.as_deref().is_some_and(|to| to <= &*after) {
            return;
        }
        let (mut start, mut range) = (after, Covered { to, names });
        let is_full = self.0.len() >= RANGES_MAX;
        let fits = |a: u64, b: u64| is_full || a + b <= NAMES_MAX;
        let before = self.0.range::<str, _>((Unbounded, Excluded(&*start))).next_back();
        if let Some((from, known)) = before
            && known.to.as_deref() == Some(&*start)
            && fits(known.names, range.names)
        {
            (start, range.names) = (from.clone(), range.names + known.names);
        }
        if let Some((from, known)) = range.to.as_ref().and_then(|to| self.0.get_key_value(to))
            && fits(known.names, range.names)
        {
            let from = from.clone();
            range = Covered { to: known.to.clone(), names: range.names + known.names };
            self.0.remove(&from);
        }
        if self.0.len() < RANGES_MAX || self.0.contains_key(&start) {
            self.0.insert(start, range);
        }
    }

    /// What is not covered, in order.
    pub(crate) fn gaps(&self) -> Vec<Range> {
        let mut gaps = Vec::new();
        let mut reached: Option<Box<str>> = Some("".into());
        for (from, covered) in &self.0 {
            let Some(after) = reached else { return gaps };
            if **from > *after {
                gaps.push(Range { after, to: Some(from.clone()) });
            }
            reached = covered.to.clone();
        }
        gaps.extend(reached.map(|after| Range { after, to: None }));
        gaps
    }

    /// The same, cut where `cuts` (in order) lie in them.
    pub(crate) fn gaps_cut_at(&self, cuts: &[Box<str>]) -> Vec<Range> {
        let mut gaps = Vec::new();
        for mut gap in self.gaps() {
            let first = cuts.partition_point(|cut| *cut <= gap.after);
            for cut in cuts[first..].iter().take_while(|cut| gap.to.as_ref().is_none_or(|to| *cut < to)) {
                gaps.push(Range { after: std::mem::replace(&mut gap.after, cut.clone()), to: Some(cut.clone()) });
            }
            gaps.push(gap);
        }
        gaps
    }

    /// The last places of its ranges but those that end with the directory.
    pub(crate) fn cuts(&self) -> Vec<Box<str>> {
        self.0.values().filter_map(|covered| covered.to.clone()).collect()
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn weight(&self) -> usize {
        self.0.iter().map(|(from, covered)| 96 + from.len() + covered.to.as_ref().map_or(0, |to| to.len())).sum()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.gaps().is_empty()
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for (from, covered) in &self.0 {
            put_text(out, from);
            out.push(u8::from(covered.to.is_none()));
            put_text(out, covered.to.as_deref().unwrap_or_default());
            put_varint(out, covered.names);
        }
    }

    pub(crate) fn take(take: &mut Take<'_>) -> Option<Self> {
        let mut coverage = Self::default();
        for _ in 0..take.varint()?.min(RANGES_MAX as u64) {
            let (from, is_end, to, names) = (take.text()?, take.u8()? == 1, take.text()?, take.varint()?);
            coverage.add(from, (!is_end).then_some(to), names);
        }
        Some(coverage)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(range: &Range) -> String {
        format!("{}-{}", range.after, range.to.as_deref().unwrap_or("$"))
    }

    fn gaps(ranges: &[(&str, &str)]) -> String {
        let mut coverage = Coverage::default();
        ranges.iter().for_each(|(after, to)| coverage.add(after, (*to != "$").then_some(to), 1));
        coverage.gaps().iter().map(text).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn gaps_are_what_was_not_covered() {
        assert_eq!(gaps(&[]), "-$");
        assert_eq!(gaps(&[("", "$")]), "");
        assert_eq!(gaps(&[("", "c"), ("f", "k")]), "c-f k-$");
        assert_eq!(gaps(&[("f", "k"), ("", "c"), ("c", "f")]), "k-$");
        assert_eq!(gaps(&[("f", "k"), ("a", "z"), ("z", "$")]), "-a");
        assert_eq!(gaps(&[("f", "f"), ("k", "a")]), "-$");
    }

    #[test]
    fn gaps_are_cut_where_another_listing_was() {
        let mut coverage = Coverage::default();
        coverage.add("c", Some("f"), 1);
        let cut = |cuts: &[&str]| {
            let cuts: Vec<Box<str>> = cuts.iter().map(|cut| (*cut).into()).collect();
            coverage.gaps_cut_at(&cuts).iter().map(text).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(cut(&[]), "-c f-$");
        assert_eq!(cut(&["a", "c", "d", "f", "k", "m"]), "-a a-c f-k k-m m-$");
        assert_eq!(
            Coverage::default().gaps_cut_at(&coverage.cuts()).iter().map(text).collect::<Vec<_>>(),
            ["-f", "f-$"]
        );
    }

    #[test]
    fn ranges_have_a_million_names_at_most_and_are_no_more_than_that_takes() {
        let place = |n: u64| format!("{n:08}");
        let (listers, part, parts) = (16, 1_000, 1_000);
        let mut coverage = Coverage::default();
        for nth in 0..parts {
            for lister in 0..listers {
                let from = (lister * parts + nth) * part;
                let to = (from + part < listers * parts * part).then(|| place(from + part));
                coverage.add(&if from == 0 { String::new() } else { place(from) }, to.as_deref(), part);
            }
        }
        assert!(coverage.is_whole());
        assert_eq!(coverage.0.values().map(|covered| covered.names).sum::<u64>(), listers * parts * part);
        assert!(coverage.0.values().all(|covered| covered.names <= NAMES_MAX));
        assert!((16..=32).contains(&coverage.0.len()), "{}", coverage.0.len());
        assert_eq!(coverage.cuts().len(), coverage.0.len() - 1);
        assert!(coverage.weight() < 5_000);
    }

    proptest! {
        #[test]
        fn is_what_a_plain_set_says(ranges in proptest::collection::vec((0u8..40, 0u8..41, 0..NAMES_MAX), 0..12)) {
            let place = |n: u8| format!("{n:02}");
            let (mut coverage, mut plain) = (Coverage::default(), [false; 41]);
            for (after, to, names) in ranges {
                coverage.add(&place(after), (to < 40).then(|| place(to)).as_deref(), names);
                (after + 1..=to.min(40)).for_each(|n| plain[usize::from(n)] = true);
            }
            let gaps = coverage.gaps();
            for n in 1..40 {
                let text = place(n);
                let is_gap = gaps.iter().any(|g| *g.after < *text && is_at_least(g.to.as_deref(), &text));
                prop_assert_eq!(!is_gap, plain[usize::from(n)], "{} in {:?}", n, gaps);
            }
            let mut before: Option<&str> = Some("");
            for (from, covered) in &coverage.0 {
                prop_assert!(before.is_some_and(|before| *before <= **from) && covered.names <= NAMES_MAX);
                before = covered.to.as_deref();
            }
            let mut out = Vec::new();
            coverage.put(&mut out);
            prop_assert_eq!(Coverage::take(&mut Take(&out)).unwrap(), coverage);
        }
    }
}
