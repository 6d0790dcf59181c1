//! Names of a listing, part by part, read from its blocks: no listing is ever in memory as a whole.

use std::sync::Arc;
use std::time::Duration;

use forebay_model::{ListedEntry, ListedPage};
use tokio::sync::futures::Notified;

use crate::directory::Observed;
use crate::generation::{Generation, Says};
use crate::order;
use crate::overlay::What;

/// A listing that may be used.
#[derive(Clone, Debug)]
pub struct ListingHeld {
    pub(crate) generation: Arc<Generation>,
    /// For how long.
    pub fresh_for: Duration,
}

/// What a listing has after a name.
#[derive(Clone, Debug, PartialEq)]
pub enum Paged {
    /// These names.
    Page(ListedPage),
    /// It has not come so far yet.
    NotYet,
    /// It is of no use any more: its blocks are gone or damaged.
    Gone,
}

/// Entries of blocks that follow each other.
struct Part {
    entries: Vec<(String, Observed)>,
    end: End,
}

#[derive(Clone, Debug, PartialEq)]
enum End {
    /// Nothing follows.
    Whole,
    /// As many as were wanted.
    Full,
    /// What follows is not covered.
    Gap,
}

impl ListingHeld {
    /// At most `limit` names after the name `after` (empty: from the first). A page is empty only if no name follows.
    pub fn page(&self, after: &str, limit: u32) -> Paged {
        let limit = limit.max(1) as usize;
        // Asked first: what is missing now may be there, and the listing whole, a moment later.
        let missing = if self.generation.is_whole() { Paged::Gone } else { Paged::NotYet };
        let Some(mut after) = self.place_of(after) else { return missing };
        loop {
            let Some(mut part) = self.part(&after, limit) else { return Paged::Gone };
            let last = self.hide_objects(&mut part);
            let to = match part.end {
                End::Whole => None,
                End::Full | End::Gap => match last {
                    Some(place) => Some(place),
                    None => return missing,
                },
            };
            let page = self.under_overlay(part, &after, to.as_deref());
            match to {
                // Every name of this part has gone since the listing was made.
                Some(to) if page.entries.is_empty() => after = to,
                _ => return Paged::Page(page),
            }
        }
    }

    /// Number of names in the listing as it was made; so far, if it is on its way.
    pub fn len(&self) -> u64 {
        self.generation.names.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Whether there is no name.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is whole: it has all names of the directory.
    pub fn is_whole(&self) -> bool {
        self.generation.is_whole()
    }

    /// Names of which it is not known what they stand for now: they are to be looked up before the listing is shown to who begins.
    pub fn asks(&self) -> Vec<Arc<str>> {
        self.generation.overlay.lock().asks()
    }

    /// Whether any of its first names have come: somebody may be reading it.
    pub fn has_begun(&self) -> bool {
        self.generation.with_block("", false, |_, _| ()).is_some()
    }

    /// Ends when, after this call, more of a listing that is on its way has come, it is whole, or it has ended.
    pub fn progress(&self) -> Notified<'_> {
        self.generation.progress.notified()
    }

    /// Where a reader that has had the names up to `after` is. None: that is not known, for it depends on what stands there.
    fn place_of(&self, after: &str) -> Option<String> {
        if after.is_empty() {
            return Some(String::new());
        }
        let directory = order::of_directory(after);
        let is_directory = match self.generation.overlay.lock().get(after) {
            Some(What::Seen(seen)) => Some(*seen == Observed::Directory),
            Some(What::Ask) | None => None,
        };
        let is_directory = match is_directory {
            Some(is_directory) => is_directory,
            None => match self.generation.at_place(&directory) {
                Says::Entry(..) => true,
                Says::Absent(_) => false,
                Says::Nothing | Says::Unclear => return None,
            },
        };
        Some(if is_directory { directory } else { after.to_owned() })
    }

    /// At most `limit` entries of the blocks after the place `after`, and whether none follow. None: that is not known.
    pub(crate) fn raw(&self, after: &str, limit: usize) -> Option<(Vec<(String, Observed)>, bool)> {
        let part = self.part(after, limit).filter(|part| part.end != End::Gap)?;
        Some((part.entries, part.end == End::Whole))
    }

    /// At most `limit` entries after `after`. None: a block is damaged.
    fn part(&self, after: &str, limit: usize) -> Option<Part> {
        let (mut entries, mut reached) = (Vec::with_capacity(limit.min(1024)), after.to_owned());
        loop {
            let left = limit - entries.len();
            let block = self.generation.with_block(&reached, false, |_, block| {
                let (mut found, mut is_full, mut is_sound) = (Vec::new(), false, true);
                let walked = block.each(&reached, |place, body| {
                    is_full = found.len() == left;
                    if is_full {
                        return false;
                    }
                    match body.observed() {
                        Some(seen) => found.push((place.to_owned(), seen)),
                        None => is_sound = false,
                    }
                    is_sound
                });
                walked.filter(|()| is_sound).map(|()| (found, is_full, block.to.map(str::to_owned)))
            });
            let Some(block) = block else { return Some(Part { entries, end: End::Gap }) };
            let (found, is_full, to) = block?;
            entries.extend(found);
            if is_full {
                return Some(Part { entries, end: End::Full });
            }
            match to {
                None => return Some(Part { entries, end: End::Whole }),
                Some(to) => reached = to,
            }
        }
    }

    /// Takes out the objects that a directory of their name hides. Where that is not known yet of one, the part ends before it.
    /// Gives the part's last place.
    fn hide_objects(&self, part: &mut Part) -> Option<String> {
        let (mut hidden, mut cut) = (Vec::new(), None);
        for (at, (place, _)) in part.entries.iter().enumerate() {
            let (name, is_directory) = order::name(place);
            if is_directory {
                continue;
            }
            let mut later = part.entries[at + 1..].iter().map(|(place, _)| &**place);
            // Entries that go on with less than a slash stand between an object and a directory of its name.
            let next = later.find(|next| !order::is_before_directory(next, name));
            let says = match next {
                Some(next) if order::name(next) == (name, true) => Says::Entry(Observed::Directory, 0),
                Some(_) => continue,
                None if part.end == End::Whole => continue,
                None => self.generation.at_place(&order::of_directory(name)),
            };
            match says {
                Says::Entry(..) => hidden.push(at),
                Says::Absent(_) => {}
                Says::Nothing | Says::Unclear => {
                    cut = Some(at);
                    break;
                }
            }
        }
        if let Some(cut) = cut {
            part.entries.truncate(cut);
            part.end = End::Gap;
        }
        let last = part.entries.last().map(|(place, _)| place.clone());
        for at in hidden.into_iter().rev() {
            part.entries.remove(at);
        }
        last
    }

    /// The part with what was seen of its names since.
    fn under_overlay(&self, part: Part, after: &str, to: Option<&str>) -> ListedPage {
        let generation = &self.generation;
        let mut fresh_for = self.fresh_for;
        let mut entries = part.entries;
        let overlay = generation.overlay.lock();
        if !overlay.is_empty() {
            entries.retain(|(place, _)| match overlay.get(order::name(place).0) {
                Some(What::Seen(_)) => false,
                // What the listing says of it is not to be held: it is looked up.
                Some(What::Ask) => {
                    fresh_for = Duration::ZERO;
                    true
                }
                None => true,
            });
            for (place, _, what) in overlay.between(after, to) {
                if let What::Seen(seen) = what
                    && *seen != Observed::Absent
                {
                    entries.push((place, seen.clone()));
                }
            }
            entries.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        }
        drop(overlay);
        let listed = |(place, seen): (String, Observed)| {
            let (name, _) = order::name(&place);
            Some(ListedEntry { name: name.into(), entry: generation.entry(name, seen)? })
        };
        let hidden = generation.hidden.load(std::sync::atomic::Ordering::Relaxed);
        ListedPage { entries: entries.into_iter().filter_map(listed).collect(), more: to.is_some(), hidden, fresh_for }
    }
}
