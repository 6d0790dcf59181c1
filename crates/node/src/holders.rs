//! Who has to let go of what this node has answered: the mounts of its process.

use std::sync::Arc;

use forebay_model::Refreshed;
use forebay_route::{Holder, Outdated};
use parking_lot::RwLock;

/// All who hold answers. One mount as a rule.
#[derive(Default)]
pub(crate) struct Holders(RwLock<Vec<Arc<dyn Holder>>>);

impl std::fmt::Debug for Holders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Holders").field(&self.0.read().len()).finish()
    }
}

impl Holders {
    pub(crate) fn add(&self, holder: Arc<dyn Holder>) {
        self.0.write().push(holder);
    }

    /// Lets all let go of what is outdated, and counts in `refreshed` who has.
    pub(crate) async fn let_go(&self, outdated: &[Outdated], refreshed: &mut Refreshed) {
        let all = self.0.read().clone();
        for holder in all {
            match holder.let_go(outdated).await {
                true => refreshed.mounts += 1,
                false => refreshed.mounts_late += 1,
            }
        }
    }
}
