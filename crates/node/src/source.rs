//! A source of this node: its facts and the way to its origin.

use std::sync::Arc;

use forebay_catalog::SourceFacts;

use crate::upstream::Upstream;

/// A prefix of an origin shown at a path of the namespace.
#[derive(Clone)]
pub struct Source {
    /// What its entries depend on.
    pub facts: Arc<SourceFacts>,
    /// The origin's URL for people, without credentials.
    pub url: String,
    /// How the origin proves a version, for people.
    pub proof: String,
    /// The origin.
    pub upstream: Arc<dyn Upstream>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("facts", &self.facts).field("url", &self.url).finish_non_exhaustive()
    }
}
