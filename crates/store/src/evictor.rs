//! What chooses among all that lies on one directory: its policy, and with a plan farthest next use.
//!
//! Always true: what a plan knows of takes the place of what is read later by the plan, or of what is in no plan and idle. Only
//! if the plan knows of nothing here does the policy choose for it.

use std::collections::HashMap;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay_model::{ContentId, PageIndex};

use crate::error::NotKept;
use crate::eviction::{Choice, Eviction, Moment, Owner, Planned, Policy, Unit};
use crate::index::{Index, PackUse, SmallPlace};
use crate::pack::{HOLES_FROM, Pack, entry_len};
use crate::plan::{Plan, next_use_of_extent};

/// Small objects drawn for one that lies on this directory.
const DRAWS: usize = 4;

/// See the file's head.
#[derive(Debug)]
pub(crate) struct Evictor {
    policy: Box<dyn Policy>,
    planned: Planned<Candidate>,
    /// All extents, to draw from, and their places by address.
    extents: Vec<Arc<Unit>>,
    extent_at: HashMap<usize, usize>,
    random: u64,
}

/// What goes.
#[derive(Debug)]
pub(crate) enum Victim {
    /// A pack or an extent.
    Unit(Arc<Unit>),
    /// A small object, out of its pack.
    Small(ContentId, SmallPlace, Arc<Pack>),
    /// A pack of objects that are too small for holes. What is read soonest in it, and before that, is to outlive it.
    PackButSoonest(Arc<Pack>, u64),
}

/// What may go by a plan.
#[derive(Debug)]
enum Candidate {
    Small(ContentId),
    Extent(Arc<Unit>),
}

/// For whom, and among what, a victim is looked for.
pub(crate) struct Question<'a> {
    pub(crate) now: Moment,
    /// Which directory.
    pub(crate) directory: usize,
    pub(crate) index: &'a Index,
    /// The plan, and when it says that the newcomer is read next; none if it does not know it.
    pub(crate) planned: Option<(&'a dyn Plan, u64)>,
    /// Which units can go.
    pub(crate) may: &'a dyn Fn(&Unit) -> bool,
}

impl PartialEq for Candidate {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Small(one), Self::Small(other)) => one == other,
            (Self::Extent(one), Self::Extent(other)) => Arc::ptr_eq(one, other),
            _ => false,
        }
    }
}

impl Evictor {
    pub(crate) fn new(eviction: Eviction) -> Self {
        Self {
            policy: eviction.policy(),
            planned: Planned::default(),
            extents: Vec::new(),
            extent_at: HashMap::new(),
            // Any number but 0: only which candidates are drawn hangs on it.
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// A unit was begun; `tried`: on a directory that is full, and it has not earned its place yet.
    pub(crate) fn insert(&mut self, unit: Arc<Unit>, tried: bool) {
        if matches!(unit.owner, Owner::Extent(..)) {
            self.extent_at.insert(Arc::as_ptr(&unit).addr(), self.extents.len());
            self.extents.push(Arc::clone(&unit));
        }
        self.policy.insert(unit, tried);
    }

    /// A unit is gone.
    pub(crate) fn remove(&mut self, unit: &Arc<Unit>) {
        self.policy.remove(unit);
        if let Some(at) = self.extent_at.remove(&Arc::as_ptr(unit).addr()) {
            self.extents.swap_remove(at);
            if let Some(moved) = self.extents.get(at) {
                self.extent_at.insert(Arc::as_ptr(moved).addr(), at);
            }
        }
    }

    /// What nobody has read for long, if the policy knows such a thing.
    pub(crate) fn idle(&mut self, now: Moment, may: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>> {
        self.policy.idle(now, may)
    }

    /// Whether what is hot in the last victim, if that is a pack, is to outlive it.
    pub(crate) fn spares_hot(&self) -> bool {
        self.policy.spares_hot()
    }

    /// What is to go; nothing if nothing may.
    ///
    /// # Errors
    /// [`NotKept::Outranked`] if the newcomer is not to be kept.
    pub(crate) fn victim(&mut self, of: &Question<'_>) -> Result<Option<Victim>, NotKept> {
        if let Some((plan, next)) = of.planned {
            match self.by_plan(of, plan, next) {
                Choice::Evict(Candidate::Extent(unit)) => return Ok(Some(Victim::Unit(unit))),
                Choice::Evict(Candidate::Small(id)) => {
                    // It may lie on another directory by now.
                    let is_here =
                        |(pack, _): &(PackUse, SmallPlace)| pack.directory == of.directory && (of.may)(&pack.unit);
                    if let Some((pack, place)) = of.index.small(id).filter(is_here) {
                        let pack = Arc::clone(&pack);
                        let has_hole = entry_len(place.len().into()) >= HOLES_FROM;
                        let victim =
                            if has_hole { Victim::Small(id, place, pack) } else { Victim::PackButSoonest(pack, next) };
                        return Ok(Some(victim));
                    }
                }
                Choice::Refuse => {
                    // What the plan does not speak of, and nobody reads.
                    let may = |unit: &Unit| (of.may)(unit) && !unit.group.is_planned(of.now);
                    return self.policy.idle(of.now, &may).map(Victim::Unit).map(Some).ok_or(NotKept::Outranked);
                }
                Choice::Nothing => {}
            }
        }
        Ok(self.policy.victim(of.now, of.may).map(Victim::Unit))
    }

    fn by_plan(&mut self, of: &Question<'_>, plan: &dyn Plan, next: u64) -> Choice<Candidate> {
        let (random, extents) = (&mut self.random, &self.extents);
        let is_here = |pack: &PackUse| pack.directory == of.directory && (of.may)(&pack.unit);
        let has_small = of.index.has_small();
        // One after the other from anywhere: few are all looked at.
        let mut at = xorshift(random) as usize;
        let draw = || {
            if !extents.is_empty() && (!has_small || xorshift(random).is_multiple_of(2)) {
                at = (at + 1) % extents.len();
                return Some(Candidate::Extent(Arc::clone(&extents[at])));
            }
            let drawn = (0..DRAWS).filter_map(|_| of.index.sample(xorshift(random)));
            drawn.into_iter().find(|(.., pack)| is_here(pack)).map(|(id, ..)| Candidate::Small(id))
        };
        self.planned.choose(next, draw, |candidate| match candidate {
            Candidate::Small(id) => {
                let (pack, _) = of.index.small(*id)?;
                if is_here(&pack) { plan.next_use(*id, PageIndex(0)) } else { None }
            }
            Candidate::Extent(unit) => {
                let Owner::Extent(large, index) = &unit.owner else { return None };
                let large = large.upgrade().filter(|_| (of.may)(unit))?;
                let is_same = large.extent(*index).is_some_and(|known| ptr::eq(&*known.unit, &**unit));
                if is_same && unit.bytes.load(Ordering::Relaxed) > 0 {
                    next_use_of_extent(plan, &large, *index)
                } else {
                    None
                }
            }
        })
    }
}

/// Marsaglia's xorshift64.
fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}
