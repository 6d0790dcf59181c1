//! The cache that is simulated: packs and extents as the store makes them, without their bytes.
//!
//! What is modelled: packs of one group each, closed at the length that the store closes them at; extents of large contents;
//! room made by whole packs and extents, and with a plan by single objects, whose holes are whole blocks; hot objects written
//! again. Not modelled: the room that headers take, the index log, queues, several directories, handed-out contents.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

use forebay_model::{ContentId, ExtentIndex, is_small};

use super::{Access, Piece};
use crate::dead::Dead;
use crate::eviction::{Choice, Eviction, Moment, Owner, Planned, Policy, Unit, Verdict, soonest, verdict};
use crate::group::Groups;
use crate::pack::{self, HOLES_FROM, Kind, is_worth_rewriting};

/// What can go: a small object, or an extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Key {
    Small(Piece),
    Extent(ContentId, ExtentIndex),
}

/// Where a piece lies.
#[derive(Debug)]
struct Place {
    unit: Arc<Unit>,
    offset: u64,
    len: u64,
    is_hot: bool,
}

/// A pack or an extent.
#[derive(Debug)]
struct Held {
    unit: Arc<Unit>,
    group: u64,
    /// Length of the pack's file.
    len: u64,
    pieces: Vec<Piece>,
    dead: Dead,
}

/// See the file's head.
#[derive(Debug)]
pub(super) struct Cache {
    policy: Box<dyn Policy>,
    planned: Planned<Key>,
    /// When each piece is read next, if there is a plan.
    next: Option<HashMap<Piece, u64>>,
    groups: Groups,
    quota: u64,
    used: u64,
    clock: u64,
    is_full: bool,
    rewritten: u64,
    /// The packs that each group is written to, by address.
    open: HashMap<(u64, Kind), usize>,
    extents: HashMap<(ContentId, ExtentIndex), usize>,
    /// By address: a unit is held here, so no other has the same.
    held: HashMap<usize, Held>,
    place: HashMap<Piece, Place>,
    /// All keys and their places among them: to draw from.
    keys: Vec<Key>,
    key_at: HashMap<Key, usize>,
    random: u64,
}

impl Cache {
    pub(super) fn new(quota: u64, eviction: Eviction, has_plan: bool) -> Self {
        Self {
            policy: eviction.policy(),
            planned: Planned::default(),
            next: has_plan.then(HashMap::new),
            groups: Groups::default(),
            quota,
            used: 0,
            clock: 0,
            is_full: false,
            rewritten: 0,
            open: HashMap::new(),
            extents: HashMap::new(),
            held: HashMap::new(),
            place: HashMap::new(),
            keys: Vec::new(),
            key_at: HashMap::new(),
            random: 0x9e37_79b9_7f4a_7c15,
        }
    }

    pub(super) fn rewritten_bytes(&self) -> u64 {
        self.rewritten
    }

    /// A piece is about to be read, and after that at `next`.
    pub(super) fn plan(&mut self, piece: Piece, next: u64) {
        if let Some(plan) = &mut self.next {
            plan.insert(piece, next);
        }
    }

    pub(super) fn read(&mut self, piece: Piece, len: u64) -> bool {
        let place = self.place.get_mut(&piece);
        place
            .map(|place| {
                place.is_hot = true;
                place.unit.hit(len, self.clock);
            })
            .is_some()
    }

    /// Keeps a piece. False: it was refused.
    pub(super) fn keep(&mut self, access: &Access, piece: Piece, len: u64) -> bool {
        let is_small = is_small(access.size);
        self.clock += len;
        let extent = (piece.0, piece.1.extent());
        let protect = self.extents.get(&extent).copied().filter(|_| !is_small);
        while self.used + len > self.quota {
            self.is_full = true;
            if !self.evict(piece, protect) {
                return false;
            }
        }
        let unit = if is_small {
            self.open_pack(access.group, Kind::New, len)
        } else if let Some(unit) = protect {
            unit
        } else {
            let unit = self.begin(access.group, self.is_full);
            self.extents.insert(extent, unit);
            self.add_key(Key::Extent(extent.0, extent.1));
            unit
        };
        self.put(unit, piece, len);
        if is_small {
            self.add_key(Key::Small(piece));
        }
        true
    }

    fn put(&mut self, unit: usize, piece: Piece, len: u64) {
        let Some(held) = self.held.get_mut(&unit) else { return };
        held.unit.bytes.fetch_add(len, Ordering::Relaxed);
        held.unit.touch(self.clock);
        held.pieces.push(piece);
        let filler = pack::filler_len(held.len, len);
        if filler > 0 {
            held.dead.add(held.len..held.len + filler);
        }
        let place = Place { unit: Arc::clone(&held.unit), offset: held.len + filler, len, is_hot: false };
        held.len += filler + pack::entry_len(len);
        self.place.insert(piece, place);
        self.used += len;
    }

    fn open_pack(&mut self, group: u64, kind: Kind, len: u64) -> usize {
        let most = pack::pack_size(self.quota).max(len);
        if let Some(open) = self.open.get(&(group, kind))
            && self.held.get(open).is_some_and(|held| held.len + len <= most)
        {
            return *open;
        }
        let unit = self.begin(group, self.is_full && kind == Kind::New);
        self.open.insert((group, kind), unit);
        unit
    }

    fn begin(&mut self, group: u64, is_tried: bool) -> usize {
        let unit = Unit::new(Owner::Pack(Weak::new()), self.clock, self.groups.get(group));
        self.policy.insert(Arc::clone(&unit), is_tried);
        let at = Arc::as_ptr(&unit).addr();
        self.held.insert(at, Held { unit, group, len: 0, pieces: Vec::new(), dead: Dead::default() });
        at
    }

    /// Makes some room for a piece. False: it is not to be kept.
    fn evict(&mut self, newcomer: Piece, protect: Option<usize>) -> bool {
        let now = Moment { clock: self.clock, quota: self.quota };
        let (open, held) = (&self.open, &self.held);
        let may_at = |at: usize| protect != Some(at) && !open.values().any(|open| *open == at);
        let may = |unit: &Unit| may_at(std::ptr::from_ref(unit).addr());
        if let Some(plan) = &self.next {
            let next_of = |piece: &Piece| plan.get(piece).copied();
            let (keys, random, extents, place) = (&self.keys, &mut self.random, &self.extents, &self.place);
            let choice = self.planned.choose(
                next_of(&newcomer).unwrap_or(u64::MAX),
                || keys.get(draw(random, keys.len())).copied(),
                |key| match key {
                    Key::Small(piece) => {
                        let place = place.get(piece).filter(|place| may(&place.unit))?;
                        next_of(piece).filter(|_| place.len > 0)
                    }
                    Key::Extent(id, index) => {
                        let held = held.get(extents.get(&(*id, *index)).filter(|at| may_at(**at))?)?;
                        held.pieces.iter().filter_map(next_of).min()
                    }
                },
            );
            match choice {
                Choice::Evict(Key::Small(piece)) => {
                    self.evict_small(piece, newcomer);
                    return true;
                }
                Choice::Evict(Key::Extent(id, index)) => {
                    if let Some(at) = self.extents.get(&(id, index)).copied() {
                        self.drop_unit(at);
                    }
                    return true;
                }
                Choice::Refuse => return false,
                Choice::Nothing => {}
            }
        }
        let Some(victim) = self.policy.victim(now, &may) else { return false };
        let at = Arc::as_ptr(&victim).addr();
        if self.policy.spares_hot() && !self.rewrite_hot(at) {
            return false;
        }
        self.drop_unit(at);
        true
    }

    /// Lets a small object go, or all of its pack but what is read soonest if it is too small for a hole. Writes what is
    /// left of its pack again if that is little.
    fn evict_small(&mut self, piece: Piece, newcomer: Piece) {
        if self.place.get(&piece).is_some_and(|place| place.len < HOLES_FROM) {
            return self.evict_pack_by_plan(piece, newcomer);
        }
        self.remove_key(Key::Small(piece));
        let Some(place) = self.place.remove(&piece) else { return };
        let at = Arc::as_ptr(&place.unit).addr();
        let Some(held) = self.held.get_mut(&at) else { return };
        held.pieces.retain(|other| *other != piece);
        let hole = held.dead.add(place.offset..place.offset + pack::entry_len(place.len));
        let freed = (hole.end - hole.start).min(held.unit.bytes.load(Ordering::Relaxed));
        held.unit.bytes.fetch_sub(freed, Ordering::Relaxed);
        self.used -= freed;
        let live: u64 = held.pieces.iter().filter_map(|piece| self.place.get(piece)).map(|place| place.len).sum();
        if is_worth_rewriting(live, held.len) {
            let pieces = held.pieces.clone();
            self.rewrite(at, &pieces);
            self.drop_unit(at);
        }
    }

    fn evict_pack_by_plan(&mut self, piece: Piece, newcomer: Piece) {
        let Some(at) = self.place.get(&piece).map(|place| Arc::as_ptr(&place.unit).addr()) else { return };
        let (Some(held), Some(plan)) = (self.held.get(&at), &self.next) else { return };
        let next = |piece: &Piece| plan.get(piece).copied().unwrap_or(u64::MAX);
        let known = held.pieces.iter().filter_map(|piece| Some((next(piece), self.place.get(piece)?.len, *piece)));
        let soonest = soonest(known.collect(), next(&newcomer), held.len);
        self.rewrite(at, &soonest);
        self.drop_unit(at);
    }

    /// Writes the hot objects of a pack again. False: they are too many, and it stays.
    fn rewrite_hot(&mut self, at: usize) -> bool {
        let Some(held) = self.held.get(&at) else { return true };
        let is_hot = |piece: &&Piece| self.place.get(*piece).is_some_and(|place| place.is_hot);
        let hot: Vec<Piece> = held.pieces.iter().filter(is_hot).copied().collect();
        let bytes = hot.iter().filter_map(|piece| self.place.get(piece)).map(|place| place.len).sum();
        match verdict(bytes, held.len) {
            Verdict::Drop => true,
            Verdict::Rewrite => {
                self.rewrite(at, &hot);
                true
            }
            Verdict::Spare => {
                held.unit.touch(self.clock);
                for piece in hot {
                    if let Some(place) = self.place.get_mut(&piece) {
                        place.is_hot = false;
                    }
                }
                false
            }
        }
    }

    fn rewrite(&mut self, from: usize, pieces: &[Piece]) {
        let Some(group) = self.held.get(&from).map(|held| held.group) else { return };
        for piece in pieces {
            let Some(len) = self.place.get(piece).map(|place| place.len) else { continue };
            let to = self.open_pack(group, Kind::Kept, len);
            if let Some(held) = self.held.get_mut(&from) {
                held.pieces.retain(|other| other != piece);
            }
            self.put(to, *piece, len);
            self.rewritten += len;
        }
    }

    fn drop_unit(&mut self, at: usize) {
        let Some(held) = self.held.remove(&at) else { return };
        self.policy.remove(&held.unit);
        self.used -= held.unit.bytes.load(Ordering::Relaxed);
        for piece in held.pieces {
            self.place.remove(&piece);
            self.remove_key(Key::Small(piece));
            let extent = (piece.0, piece.1.extent());
            if self.extents.get(&extent) == Some(&at) {
                self.extents.remove(&extent);
                self.remove_key(Key::Extent(extent.0, extent.1));
            }
        }
    }

    fn add_key(&mut self, key: Key) {
        self.key_at.insert(key, self.keys.len());
        self.keys.push(key);
    }

    fn remove_key(&mut self, key: Key) {
        if let Some(at) = self.key_at.remove(&key) {
            self.keys.swap_remove(at);
            if let Some(moved) = self.keys.get(at) {
                self.key_at.insert(*moved, at);
            }
        }
    }
}

/// Marsaglia's xorshift64: below `bound`.
fn draw(state: &mut u64, bound: usize) -> usize {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    (*state % bound.max(1) as u64) as usize
}
