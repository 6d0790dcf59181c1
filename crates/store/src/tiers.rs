//! Between directories of different classes: who asks that something be moved, and what the writers are told.
//!
//! What is read often asks for a faster directory; there it takes free room only. A faster directory without room sends what
//! is idle to a slower one, at most a unit a time, and is not asked again for [`REST`]: so nothing goes up and down with each
//! epoch over more than the fast directory holds. Nobody waits for a move; one that finds its queue full is not made.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_model::{ContentId, PageIndex};

use crate::class::Class;
use crate::directory::{Directory, choose_of};
use crate::index::SmallPlace;
use crate::large::Large;
use crate::pack::Pack;
use crate::queue::Order;
use crate::shared::Shared;

/// How long a directory without room for what is promoted is left alone.
pub(crate) const REST: Duration = Duration::from_millis(100);
/// A large content is read often when so many times its size were read of it.
const READ_TIMES: u64 = 2;
/// A large content moves only to a directory of which it takes at most 1 / this.
const PART_MAX: u64 = 4;

/// A large content on its way to another directory: a few pages at a time, between other orders to its writer.
#[derive(Debug)]
pub(crate) struct Adoption {
    pub(crate) from: Arc<Large>,
    /// Where it goes, once it was begun. In no index before all pages are there.
    pub(crate) to: Option<Arc<Large>>,
    /// The first page that was not looked at yet.
    pub(crate) next: PageIndex,
    /// Others may go for it: it is idle and comes from above.
    pub(crate) is_demotion: bool,
}

impl Adoption {
    /// Of a content that is not on its way already.
    pub(crate) fn begin(from: &Arc<Large>, is_demotion: bool) -> Option<Box<Self>> {
        if from.is_moving.swap(true, Ordering::AcqRel) {
            return None;
        }
        Some(Box::new(Self { from: Arc::clone(from), to: None, next: PageIndex(0), is_demotion }))
    }
}

impl Drop for Adoption {
    /// It has come there, or stays and may be asked for again.
    fn drop(&mut self) {
        for extent in self.from.extents.read().values() {
            extent.unit.is_leaving.store(false, Ordering::Relaxed);
        }
        self.from.is_moving.store(false, Ordering::Release);
    }
}

impl Shared {
    /// A small object was read again: a faster directory may want it.
    pub(crate) fn promote_small(&self, pack: &Arc<Pack>, id: ContentId, place: SmallPlace) {
        let Some(faster) = self.faster(pack.directory, pack.group, id, place.len().into()) else { return };
        if self.index.claim(id, place) && !faster.queue.order(Order::Promote(id, place, Arc::clone(pack))) {
            self.index.unclaim(id, place);
        }
    }

    /// So many bytes of a large content were read.
    pub(crate) fn promote_large(&self, large: &Arc<Large>, bytes: u64) {
        let Some(faster) = self.faster(large.directory, large.group, large.id, bytes) else { return };
        let read = large.read.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if read < READ_TIMES * large.size || large.size > faster.quota / PART_MAX {
            return;
        }
        large.read.store(0, Ordering::Relaxed);
        if let Some(adoption) = Adoption::begin(large, false) {
            faster.queue.order(Order::Adopt(adoption));
        }
    }

    /// The fastest directory for a content of which `bytes` were read where it lies, if that one takes something now. Time
    /// passes there by what is read below, and a group that is read below is not idle there.
    fn faster(&self, directory: usize, group: u64, id: ContentId, bytes: u64) -> Option<&Arc<Directory>> {
        let class = self.directories[directory].class;
        let mut faster = Class::ALL.into_iter().take_while(|other| *other < class);
        let faster = faster.find_map(|class| choose_of(&self.directories, class, id.as_u128()))?;
        let clock = faster.offered.fetch_add(bytes, Ordering::Relaxed) + bytes;
        faster.groups.get(group).touched.store(clock, Ordering::Relaxed);
        faster.takes_promotions().then_some(faster)
    }

    /// The next slower directory for what number names.
    pub(crate) fn slower(&self, directory: usize, number: u128) -> Option<&Arc<Directory>> {
        let class = self.directories[directory].class;
        let mut slower = Class::ALL.into_iter().skip_while(|other| *other <= class);
        slower.find_map(|class| choose_of(&self.directories, class, number))
    }
}
