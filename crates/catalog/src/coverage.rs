//! Which ranges of a directory's places a listing has covered.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};

use crate::bytes::{Take, put_text, put_varint};

/// Ranges that are remembered, at most: far more than listers that work at once. What is covered beyond them is listed again.
const RANGES_MAX: usize = 4_096;

/// A range of places: after the first, up to and with the second. None: to the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The last place before it; empty: it starts at the beginning.
    pub after: Box<str>,
    /// Its last place. None: it has no end.
    pub to: Option<Box<str>>,
}

/// Ranges that do not touch, by their beginning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(BTreeMap<Box<str>, Option<Box<str>>>);

/// None is the end, which is greater than every place.
fn is_at_least(to: Option<&str>, place: &str) -> bool {
    to.is_none_or(|to| to >= place)
}

impl Coverage {
    /// Adds the places after `after`, up to and with `to`.
    pub(crate) fn add(&mut self, after: &str, to: Option<&str>) {
        if to.is_some_and(|to| to <= after) {
            return;
        }
        let (mut start, mut end): (Box<str>, Option<Box<str>>) = (after.into(), to.map(Into::into));
        if let Some((from, known)) = self.0.range::<str, _>((Unbounded, Included(after))).next_back()
            && is_at_least(known.as_deref(), after)
        {
            start = from.clone();
            end = later(end, known.clone());
        }
        while let Some((from, known)) = self.0.range::<str, _>((Included(&*start), Unbounded)).next()
            && is_at_least(end.as_deref(), from)
        {
            let from = from.clone();
            end = later(end, known.clone());
            self.0.remove(&from);
        }
        if self.0.len() < RANGES_MAX {
            self.0.insert(start, end);
        }
    }

    /// What is not covered, in order.
    pub(crate) fn gaps(&self) -> Vec<Range> {
        let mut gaps = Vec::new();
        let mut reached: Option<Box<str>> = Some("".into());
        for (from, to) in &self.0 {
            let Some(after) = reached else { return gaps };
            if **from > *after {
                gaps.push(Range { after, to: Some(from.clone()) });
            }
            reached = to.clone();
        }
        gaps.extend(reached.map(|after| Range { after, to: None }));
        gaps
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.0.len() == 1 && self.0.get("") == Some(&None)
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        put_varint(out, self.0.len() as u64);
        for (from, to) in &self.0 {
            put_text(out, from);
            out.push(u8::from(to.is_none()));
            put_text(out, to.as_deref().unwrap_or_default());
        }
    }

    pub(crate) fn take(take: &mut Take<'_>) -> Option<Self> {
        let mut coverage = Self::default();
        for _ in 0..take.varint()?.min(RANGES_MAX as u64) {
            let (from, is_end, to) = (take.text()?, take.u8()? == 1, take.text()?);
            coverage.add(from, (!is_end).then_some(to));
        }
        Some(coverage)
    }
}

fn later(a: Option<Box<str>>, b: Option<Box<str>>) -> Option<Box<str>> {
    Some(a?.max(b?))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gaps(ranges: &[(&str, &str)]) -> String {
        let mut coverage = Coverage::default();
        ranges.iter().for_each(|(after, to)| coverage.add(after, (*to != "$").then_some(to)));
        let text = |gap: &Range| format!("{}-{}", gap.after, gap.to.as_deref().unwrap_or("$"));
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

    proptest! {
        #[test]
        fn is_what_a_plain_set_says(ranges in proptest::collection::vec((0u8..40, 0u8..41), 0..12)) {
            let place = |n: u8| format!("{n:02}");
            let (mut coverage, mut plain) = (Coverage::default(), [false; 41]);
            for (after, to) in ranges {
                coverage.add(&place(after), (to < 40).then(|| place(to)).as_deref());
                (after + 1..=to.min(40)).for_each(|n| plain[usize::from(n)] = true);
            }
            let gaps = coverage.gaps();
            for n in 1..40 {
                let text = place(n);
                let is_gap = gaps.iter().any(|g| *g.after < *text && is_at_least(g.to.as_deref(), &text));
                prop_assert_eq!(!is_gap, plain[usize::from(n)], "{} in {:?}", n, gaps);
            }
            let mut out = Vec::new();
            coverage.put(&mut out);
            prop_assert_eq!(Coverage::take(&mut Take(&out)).unwrap(), coverage);
        }
    }
}
