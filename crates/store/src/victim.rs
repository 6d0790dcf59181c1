//! Whose turn it is to go: pins, quotas and priorities first, then the policy.
//!
//! Always true: what is pinned, handed out or being written does not go; nothing goes for a newcomer of lower priority.

use std::cmp::Reverse;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::NotKept;
use crate::eviction::{Moment, Owner, Unit};
use crate::group::GroupState;
use crate::writer::Writer;

/// For what room is made.
#[derive(Clone, Copy)]
pub(crate) struct Newcomer<'a> {
    /// Its group.
    pub(crate) group: &'a GroupState,
    /// What is about to be written to, if it is here already.
    pub(crate) protect: Option<&'a Arc<Unit>>,
}

/// Among which units a victim is looked for.
#[derive(Clone, Copy)]
pub(crate) enum Among<'a> {
    /// All that may go for the newcomer; for none, all that may go at all.
    All(Option<Newcomer<'a>>),
    /// Those of the newcomer's own group.
    Group(Newcomer<'a>),
}

impl Writer {
    /// Evicts of the newcomer's group until it has room for `bytes` within its quota.
    pub(crate) fn make_room_in_group(&mut self, bytes: u64, newcomer: Newcomer<'_>) -> Result<(), NotKept> {
        let group = newcomer.group;
        while group.used.load(Ordering::Relaxed).saturating_add(bytes) > group.quota() {
            self.evict_one(Among::Group(newcomer)).ok_or(NotKept::Quota)?;
        }
        Ok(())
    }

    /// Why nothing may go.
    pub(crate) fn why_full(&self) -> NotKept {
        let is_pinned = |group: &Arc<GroupState>| group.is_pinned() && group.used.load(Ordering::Relaxed) > 0;
        if self.directory.groups.all().iter().any(is_pinned) { NotKept::Pinned } else { NotKept::Full }
    }

    /// The next to go. None: nothing may.
    pub(crate) fn victim(&mut self, among: Among<'_>) -> Option<Arc<Unit>> {
        let newcomer = match among {
            Among::All(newcomer) => newcomer,
            Among::Group(newcomer) => Some(newcomer),
        };
        if let Among::Group(Newcomer { group, .. }) = among {
            return self.victim_where(newcomer, &|unit| ptr::eq(&*unit.group, group));
        }
        let most = newcomer.map_or(u8::MAX, |newcomer| newcomer.group.priority());
        let priorities = self.directory.groups.priorities();
        if priorities.len() <= 1 {
            return self.victim_where(newcomer, &|unit| unit.group.priority() <= most);
        }
        let mut below = priorities.into_iter().take_while(|priority| *priority <= most);
        below.find_map(|priority| self.victim_where(newcomer, &|unit| unit.group.priority() == priority))
    }

    /// The policy's choice among those; if it finds none, for they are few, the one that was used least recently.
    fn victim_where(&mut self, newcomer: Option<Newcomer<'_>>, which: &dyn Fn(&Unit) -> bool) -> Option<Arc<Unit>> {
        let now = Moment { clock: self.directory.clock(), quota: self.directory.quota };
        let protect = newcomer.and_then(|newcomer| newcomer.protect);
        let open_packs = &self.open_packs;
        let may = |unit: &Unit| {
            if unit.group.is_pinned() || protect.is_some_and(|protect| ptr::eq(&**protect, unit)) || !which(unit) {
                return false;
            }
            match &unit.owner {
                Owner::Pack(pack) => open_packs.iter().all(|open| !ptr::eq(Arc::as_ptr(&open.pack), pack.as_ptr())),
                Owner::Extent(large, _) => {
                    large.upgrade().is_none_or(|large| large.handouts.load(Ordering::Acquire) == 0)
                }
            }
        };
        if let Some(victim) = self.policy.victim(now, &may) {
            return Some(victim);
        }
        // A walk over all units of the directory: only where rules single out a few of them.
        let index = &self.shared.index;
        let packs = index.packs_of(self.directory.index).into_iter().map(|pack| Arc::clone(&pack.unit));
        let larges = index.larges_of(self.directory.index);
        let extents = larges
            .iter()
            .flat_map(|large| large.extents.read().values().map(|extent| Arc::clone(&extent.unit)).collect::<Vec<_>>());
        let left = packs.chain(extents).filter(|unit| may(unit) && unit.bytes.load(Ordering::Relaxed) > 0);
        left.max_by_key(|unit| Reverse(unit.touched.load(Ordering::Relaxed)))
    }
}
