//! A source of this node: what it is, its facts and the way to its origin.

use std::sync::Arc;

use forebay_catalog::SourceFacts;
use forebay_model::{Fault, OriginId, SourceInfo, SourceSpec};
use forebay_store::GroupRules;
use parking_lot::Mutex;

use crate::broken::Broken;
use crate::upstream::Upstream;

/// Makes the source that a definition speaks of; asks nobody.
pub type OpenSource = Box<dyn Fn(&SourceSpec) -> Result<Source, Fault> + Send + Sync>;

/// A prefix of an origin shown at a path of the namespace.
pub struct Source {
    /// As it was defined.
    pub spec: SourceSpec,
    /// What its entries depend on.
    pub facts: Arc<SourceFacts>,
    /// How the origin proves a version, for people.
    pub proof: String,
    /// The origin.
    pub upstream: Arc<dyn Upstream>,
    /// The address of the file that says which objects it has, if one does.
    pub manifest: Option<String>,
    /// Why it does not answer, if that was found out when it was defined.
    pub problem: Mutex<Option<String>>,
}

impl Source {
    /// A source that cannot be opened: it is there, and every question is answered with why.
    pub(crate) fn broken(spec: SourceSpec, fault: &Fault) -> Self {
        let origin = OriginId { scheme: "broken".into(), endpoint: spec.origin.as_str().into(), bucket: "".into() };
        let (path, freshness, added) = (spec.path.clone(), spec.freshness, spec.added);
        let facts = Arc::new(SourceFacts { path, origin, prefix: "".into(), teller: None, freshness, added });
        let problem = Mutex::new(Some(fault.message.clone()));
        Self {
            spec,
            facts,
            proof: "none".to_owned(),
            upstream: Arc::new(Broken(fault.clone())),
            manifest: None,
            problem,
        }
    }

    /// As it is told.
    pub(crate) fn info(&self) -> SourceInfo {
        let (proof, problem) = (self.proof.clone(), self.problem.lock().clone());
        let (manifest, problem) = match self.upstream.manifest() {
            // What was wrong when it was defined is wrong no more.
            Some((manifest, wrong)) if manifest.is_read => (Some(manifest), wrong),
            Some((manifest, wrong)) => (Some(manifest), wrong.or(problem)),
            None => (None, problem),
        };
        SourceInfo { spec: self.spec.clone(), proof, problem, manifest }
    }

    /// What its group may take of the store.
    pub(crate) fn rules(&self) -> GroupRules {
        GroupRules { quota: self.spec.quota, priority: self.spec.priority, ..GroupRules::default() }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Source").field("facts", &self.facts).field("origin", &self.spec.origin).finish_non_exhaustive()
    }
}
