//! What a group's TTL has ended for is dropped, by orders to the directory's writer.
//!
//! Always true: what is due is gone a second later, and somewhat more if its directory is busy. Costs nothing while no group has a TTL.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::directory::Directory;
use crate::queue::Order;
use crate::shared::Shared;

/// How often contents are looked at.
const STEP: Duration = Duration::from_millis(500);

/// Drops what is due until the store closes.
pub(crate) fn run(shared: &Arc<Shared>) {
    while !shared.stops_within(STEP) {
        for directory in shared.directories.iter().filter(|directory| !directory.is_down()) {
            if directory.groups.all().iter().any(|group| group.ttl().is_some()) {
                expire(shared, directory);
            }
        }
    }
}

fn expire(shared: &Shared, directory: &Directory) {
    let now = Instant::now();
    let is_due = |begun: Instant, ttl: Option<Duration>| ttl.is_some_and(|ttl| now.duration_since(begun) >= ttl);
    for pack in shared.index.packs_of(directory.index) {
        if is_due(*pack.begun.lock(), pack.unit.group.ttl()) {
            directory.queue.order(Order::DropPack(pack));
        }
    }
    for large in shared.index.larges_of(directory.index) {
        if is_due(*large.begun.lock(), directory.groups.get(large.group).ttl()) {
            directory.queue.order(Order::DropLarge(large));
        }
    }
}
