//! Packs in use: who reads from a pack has one, and a hole waits until those that were there before it are gone.

use std::ops::Deref;
use std::sync::Arc;

use super::striped::STRIPES;
use crate::pack::Pack;

/// A pack that is in use. As good as an `Arc<Pack>`; but threads count their uses apart, so that those of many threads
/// do not meet in one place of the memory.
#[derive(Clone, Debug)]
#[expect(clippy::redundant_allocation, reason = "the outer count is what threads have apart")]
pub(crate) struct PackUse(Arc<Arc<Pack>>);

impl Deref for PackUse {
    type Target = Arc<Pack>;

    fn deref(&self) -> &Arc<Pack> {
        &self.0
    }
}

impl PackUse {
    pub(super) fn stripes(pack: &Arc<Pack>) -> [Self; STRIPES] {
        [(); STRIPES].map(|()| Self(Arc::new(Arc::clone(pack))))
    }

    /// Whether nobody else has it.
    pub(crate) fn is_last(&self) -> bool {
        Arc::strong_count(&self.0) == 1
    }
}
