//! Whether something can be kept without anything else going for it.

use std::sync::atomic::Ordering;

use forebay_model::ContentId;

use crate::Store;
use crate::class::Class;
use crate::directory::{self, Directory};
use crate::group::Group;

/// What part of a directory, and of a group's quota, is left to what is asked for.
const SPARE: u64 = 16;

/// Whether there is room for what nobody has asked for yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It is kept, and nothing goes for it.
    Enough,
    /// There would be, but much waits to be written already.
    Busy,
    /// Something would go for it, or be refused soon.
    None,
}

impl Store {
    /// Whether `bytes` of small objects of which one is `id` can be kept without anything going for them, be it soon after: a
    /// sixteenth of a directory, and of the group's quota, is left to what is asked for. Never where writes are limited.
    pub fn room_for(&self, group: Group, id: ContentId, bytes: u64) -> Room {
        let directories = &self.shared.directories;
        let is_limited = self.shared.admission.write_rate_max.is_some();
        if is_limited || directories.iter().any(|directory| directory.is_recovering()) {
            return Room::None;
        }
        let each = Class::ALL.into_iter().filter_map(|class| directory::choose_of(directories, class, id.as_u128()));
        each.map(|directory| room_in(directory, group, bytes)).find(|room| *room != Room::None).unwrap_or(Room::None)
    }
}

fn room_in(directory: &Directory, group: Group, bytes: u64) -> Room {
    let group = directory.groups.get(group.0);
    let waiting = directory.queue.bytes();
    let fits_group = {
        let (used, quota) = (group.used.load(Ordering::Relaxed), group.quota());
        used.saturating_add(waiting).saturating_add(bytes) <= quota - quota / SPARE
    };
    let wanted = bytes.saturating_add(directory.quota / SPARE);
    let has_space = wanted.saturating_add(waiting) <= directory.spare.load(Ordering::Relaxed);
    if !fits_group || !has_space || !directory.has_room(wanted) {
        Room::None
    } else if waiting > directory.queue.max_bytes() / 2 {
        Room::Busy
    } else {
        Room::Enough
    }
}
