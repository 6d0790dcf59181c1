//! What was seen of single names of a directory after its listing was asked for: it stands above the listing.

use std::collections::BTreeMap;
use std::ops::Bound::{Included, Unbounded};
use std::sync::Arc;

use forebay_model::CONTENT_MAX;
use forebay_model::bytes::Take;

use crate::directory::Observed;
use crate::observed::{put_observed, take_observed};
use crate::order;

/// What is known of one name.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    /// It was seen so.
    Seen(Observed),
    /// It changed: whatever was known of it before is not to be used.
    Ask,
}

const ASK: u8 = 0xff;

impl What {
    /// As it may be told: an object that is larger than there are page numbers is hidden.
    pub(crate) fn of(seen: Observed) -> Self {
        match seen {
            Observed::File(file) if file.size > CONTENT_MAX => Self::Seen(Observed::Absent),
            seen => Self::Seen(seen),
        }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ask => out.push(ASK),
            Self::Seen(seen) => put_observed(out, seen),
        }
    }

    pub(crate) fn take(take: &mut Take<'_>) -> Option<Self> {
        if take.0.first() == Some(&ASK) {
            return Some(Self::Ask);
        }
        take_observed(take).map(Self::Seen)
    }

    /// Where the name `name` stands in a listing that has this.
    pub(crate) fn place(&self, name: &str) -> String {
        match self {
            Self::Seen(Observed::Directory) => order::of_directory(name),
            _ => name.to_owned(),
        }
    }

    /// Bytes of memory that it takes, about.
    pub(crate) fn weight(&self) -> usize {
        let text = match self {
            Self::Seen(Observed::File(file)) => match &file.version {
                forebay_model::Version::Id(text) | forebay_model::Version::Etag(text) => text.len() + 16,
                forebay_model::Version::Stamp { .. } => 0,
            },
            _ => 0,
        };
        size_of::<Self>() + text
    }
}

/// Names that were seen anew, and when they were asked for, by the count of observations.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    names: BTreeMap<Arc<str>, (What, u64)>,
    /// Names that are to be asked for.
    asks: usize,
    /// More was seen than is remembered.
    overflowed: bool,
}

impl Overlay {
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(crate) fn has_overflowed(&self) -> bool {
        self.overflowed
    }

    pub(crate) fn get(&self, name: &str) -> Option<&What> {
        self.names.get(name).map(|(what, _)| what)
    }

    /// Puts what was seen of `name`, unless something newer is there. False: there is no room, at most `max` are.
    pub(crate) fn put(&mut self, name: &str, at: u64, what: &What, max: usize) -> bool {
        let names = self.names.len();
        let before = match self.names.get_mut(name) {
            Some(known) if known.1 > at => return !self.overflowed,
            Some(known) => Some(std::mem::replace(known, (what.clone(), at)).0),
            None if names < max => {
                self.names.insert(name.into(), (what.clone(), at));
                None
            }
            None => {
                self.overflowed = true;
                return false;
            }
        };
        self.asks = self.asks + usize::from(*what == What::Ask) - usize::from(before == Some(What::Ask));
        !self.overflowed
    }

    /// Names that are to be asked for, before all names can be told.
    pub(crate) fn asks(&self) -> Vec<Arc<str>> {
        if self.asks == 0 {
            return Vec::new();
        }
        self.names.iter().filter(|(_, (what, _))| *what == What::Ask).map(|(name, _)| name.clone()).collect()
    }

    /// Keeps only what `differs` says; gives the names of the rest.
    pub(crate) fn retain(&mut self, mut differs: impl FnMut(&str, &What) -> bool) -> Vec<Arc<str>> {
        let mut dropped = Vec::new();
        self.names.retain(|name, (what, _)| {
            let keep = differs(name, what);
            if !keep {
                dropped.push(name.clone());
            }
            keep
        });
        self.asks = self.names.values().filter(|(what, _)| *what == What::Ask).count();
        dropped
    }

    /// What was seen of names that stand after the place `after`, up to and with `to` (None: to the end), in their order.
    pub(crate) fn between(&self, after: &str, to: Option<&str>) -> Vec<(String, &Arc<str>, &What)> {
        let mut all: Vec<_> = Vec::new();
        if self.names.is_empty() {
            return all;
        }
        let take = |name: &str, (what, _): &(What, u64)| {
            let place = what.place(name);
            (*place > *after && to.is_none_or(|to| *place <= *to)).then_some(place)
        };
        // A directory stands after names that go on with less than a slash: its name may be less than `after`.
        let prefixes = after.char_indices().filter(|(_, c)| *c < '/').map(|(at, _)| &after[..at]);
        for prefix in prefixes {
            if let Some((name, what)) = self.names.get_key_value(prefix)
                && let Some(place) = take(name, what)
            {
                all.push((place, name, &what.0));
            }
        }
        for (name, what) in self.names.range::<str, _>((Included(order::name(after).0), Unbounded)) {
            // A name is at most its place.
            if to.is_some_and(|to| **name > *to) {
                break;
            }
            if let Some(place) = take(name, what) {
                all.push((place, name, &what.0));
            }
        }
        all.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(overlay: &Overlay, after: &str, to: Option<&str>) -> String {
        overlay.between(after, to).into_iter().map(|(place, _, _)| place).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_newer_stays_and_too_many_are_noticed() {
        let mut overlay = Overlay::default();
        assert!(overlay.put("a", 2, &What::Ask, 1));
        assert!(overlay.put("a", 1, &What::Seen(Observed::Absent), 1));
        assert_eq!(overlay.get("a"), Some(&What::Ask));
        assert!(!overlay.put("b", 3, &What::Ask, 1));
        assert!(overlay.has_overflowed());
    }

    #[test]
    fn what_lies_between_two_places_goes_by_the_order_of_the_listing() {
        let mut overlay = Overlay::default();
        for (at, name) in ["a", "a-b", "a.x", "b"].into_iter().enumerate() {
            let what = if name == "a" { What::Seen(Observed::Directory) } else { What::Ask };
            overlay.put(name, at as u64, &what, 10);
        }
        assert_eq!(places(&overlay, "", None), "a-b a.x a/ b");
        assert_eq!(places(&overlay, "a", Some("a.x")), "a-b a.x");
        assert_eq!(places(&overlay, "a.x", Some("a/")), "a/");
        assert_eq!(places(&overlay, "a/", None), "b");
        assert_eq!(places(&overlay, "b", Some("a")), "");
    }
}
