//! Whose turn it is to go: pins, quotas and priorities first, then the plan or the policy.
//!
//! Always true: what is pinned, handed out or being written does not go; nothing goes for a newcomer of lower priority.

use std::cmp::Reverse;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::NotKept;
use crate::eviction::{Moment, Owner, Unit};
use crate::evictor::{Question, Victim};
use crate::group::GroupState;
use crate::queue::Fill;
use crate::writer::{OpenPack, Writer};

/// For what room is made.
#[derive(Clone, Copy)]
pub(crate) struct Newcomer<'a> {
    /// Its group.
    pub(crate) group: &'a GroupState,
    /// What is about to be written to, if it is here already.
    pub(crate) protect: Option<&'a Arc<Unit>>,
    /// When it is read next, if a plan knows it.
    pub(crate) next_use: Option<u64>,
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
    /// The newcomer `fill`.
    pub(crate) fn newcomer<'a>(
        &self,
        fill: &Fill,
        group: &'a GroupState,
        protect: Option<&'a Arc<Unit>>,
    ) -> Newcomer<'a> {
        let plan = self.shared.plan.read();
        let next_use = plan.as_ref().and_then(|plan| plan.next_use(fill.id, fill.page));
        if next_use.is_some() {
            group.planned.store(self.directory.clock(), Ordering::Relaxed);
        }
        Newcomer { group, protect, next_use }
    }

    /// Evicts of the newcomer's group until it has room for `bytes` within its quota.
    pub(crate) fn make_room_in_group(&mut self, bytes: u64, newcomer: Newcomer<'_>) -> Result<(), NotKept> {
        let group = newcomer.group;
        while group.used.load(Ordering::Relaxed).saturating_add(bytes) > group.quota() {
            self.evict_one(Among::Group(newcomer)).map_err(|reason| match reason {
                NotKept::Outranked => reason,
                _ => NotKept::Quota,
            })?;
        }
        Ok(())
    }

    /// Why nothing may go.
    pub(crate) fn why_full(&self) -> NotKept {
        let is_pinned = |group: &Arc<GroupState>| group.is_pinned() && group.used.load(Ordering::Relaxed) > 0;
        if self.directory.groups.all().iter().any(is_pinned) { NotKept::Pinned } else { NotKept::Full }
    }

    /// The next to go. None: nothing may.
    ///
    /// # Errors
    /// [`NotKept::Outranked`].
    pub(crate) fn victim(&mut self, among: Among<'_>) -> Result<Option<Victim>, NotKept> {
        let newcomer = among.newcomer();
        if let Among::Group(Newcomer { group, .. }) = among {
            return self.victim_where(newcomer, &|unit| ptr::eq(&*unit.group, group));
        }
        let most = newcomer.map_or(u8::MAX, |newcomer| newcomer.group.priority());
        let priorities = self.directory.groups.priorities();
        if priorities.len() <= 1 {
            return self.victim_where(newcomer, &|unit| unit.group.priority() <= most);
        }
        for priority in priorities.into_iter().take_while(|priority| *priority <= most) {
            // What has a lower priority goes, whenever it is read next.
            let of_its_own = newcomer.filter(|_| priority == most).or(newcomer.map(Newcomer::unplanned));
            if let Some(victim) = self.victim_where(of_its_own, &|unit| unit.group.priority() == priority)? {
                return Ok(Some(victim));
            }
        }
        Ok(None)
    }

    /// The choice among those by the plan or the policy; if it finds none, for they are few, the one that was used least
    /// recently.
    fn victim_where(
        &mut self,
        newcomer: Option<Newcomer<'_>>,
        which: &dyn Fn(&Unit) -> bool,
    ) -> Result<Option<Victim>, NotKept> {
        let protect = newcomer.and_then(|newcomer| newcomer.protect);
        let open_packs = &self.open_packs;
        let may = |unit: &Unit| {
            !protect.is_some_and(|protect| ptr::eq(&**protect, unit)) && which(unit) && may_go(unit, open_packs)
        };
        let index = &self.shared.index;
        let plan = self.shared.plan.read().clone();
        // By the plan small objects leave holes.
        let plan = plan.filter(|_| self.directory.has_holes() && self.holes.have_place());
        let question = Question {
            now: Moment { clock: self.directory.clock(), quota: self.directory.quota },
            directory: self.directory.index,
            index,
            planned: plan.as_deref().zip(newcomer.and_then(|newcomer| newcomer.next_use)),
            may: &may,
        };
        if let Some(victim) = self.evictor.victim(&question)? {
            return Ok(Some(victim));
        }
        // A walk over all units of the directory: only where rules single out a few of them.
        let packs = index.packs_of(self.directory.index).into_iter().map(|pack| Arc::clone(&pack.unit));
        let larges = index.larges_of(self.directory.index);
        let extents = larges
            .iter()
            .flat_map(|large| large.extents.read().values().map(|extent| Arc::clone(&extent.unit)).collect::<Vec<_>>());
        let left = packs.chain(extents).filter(|unit| may(unit) && unit.bytes.load(Ordering::Relaxed) > 0);
        Ok(left.max_by_key(|unit| Reverse(unit.touched.load(Ordering::Relaxed))).map(Victim::Unit))
    }
}

/// Whether a unit can go at all: it is neither pinned, nor being written, nor handed out.
pub(crate) fn may_go(unit: &Unit, open_packs: &[OpenPack]) -> bool {
    let is_free = match &unit.owner {
        Owner::Pack(pack) => open_packs.iter().all(|open| !ptr::eq(Arc::as_ptr(&open.pack), pack.as_ptr())),
        Owner::Extent(large, _) => large.upgrade().is_none_or(|large| large.handouts.load(Ordering::Acquire) == 0),
    };
    is_free && !unit.group.is_pinned()
}

impl<'a> Among<'a> {
    /// For whom.
    pub(crate) fn newcomer(self) -> Option<Newcomer<'a>> {
        match self {
            Self::All(newcomer) => newcomer,
            Self::Group(newcomer) => Some(newcomer),
        }
    }
}

impl<'a> Newcomer<'a> {
    fn unplanned(self) -> Self {
        Self { next_use: None, ..self }
    }
}
