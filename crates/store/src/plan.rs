//! What is known of reads to come.

use std::fmt::Debug;
use std::sync::Arc;

use forebay_model::{ContentId, ExtentIndex, PageIndex};

use crate::large::{Large, pages_in};
use crate::store::Store;

/// What is known of reads to come: of one job, or of several.
///
/// Asked by the writers of full directories, tens of times for each page that is kept: it should answer within a
/// microsecond, and never wait.
pub trait Plan: Send + Sync + Debug {
    /// When a page is read next: in any unit, the same for all pages, the later the greater. `u64::MAX`: never again. None:
    /// it is in no plan.
    fn next_use(&self, id: ContentId, page: PageIndex) -> Option<u64>;
}

impl Store {
    /// From now on what the plan knows of goes by it: what is read last is evicted first, and what is read later than all
    /// that is here is not kept. What it does not know goes by the store's policy, and so does all without one.
    pub fn set_plan(&self, plan: Option<Arc<dyn Plan>>) {
        *self.shared.plan.write() = plan;
    }
}

/// When the first of an extent's pages is read next, of those that the plan knows.
pub(crate) fn next_use_of_extent(plan: &dyn Plan, large: &Large, index: ExtentIndex) -> Option<u64> {
    let extent = large.extent(index)?;
    pages_in(index, extent.residency.resident()).filter_map(|page| plan.next_use(large.id, page)).min()
}
