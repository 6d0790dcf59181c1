//! The files of manifests: where they are read from, and where their indexes lie.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use forebay_catalog::SourceFacts;
use forebay_manifest::Rules;
use forebay_model::{Fault, FaultKind, Freshness, ObjectId, SourceSpec};

use super::listed::Listed;
use crate::source::Source;
use crate::upstream::Upstream;

/// Opens the file of an address by the rules of a source; asks nobody.
pub type OpenFile = Box<dyn Fn(&SourceSpec, &str) -> Result<ManifestFile, Fault> + Send + Sync>;

/// A file of an origin.
#[derive(Clone)]
pub struct ManifestFile {
    /// The origin.
    pub upstream: Arc<dyn Upstream>,
    /// Its key there.
    pub key: String,
    /// Its address, for people.
    pub address: String,
    /// Whether it lies in a bucket: the files of a report are named by their full keys there.
    pub is_in_bucket: bool,
}

/// What the manifests of a node have in common.
pub(crate) struct Manifests {
    /// Where indexes lie, and what is on its way into order.
    pub(crate) directory: PathBuf,
    pub(crate) open: OpenFile,
    runtime: tokio::runtime::Handle,
}

impl Manifests {
    /// In `directory`, which is made and emptied of what a process left that ended in the middle.
    pub(crate) fn new(directory: PathBuf, open: OpenFile, runtime: tokio::runtime::Handle) -> Self {
        Self { directory, open, runtime }
    }

    /// The source, answered by its manifest if it has one.
    pub(crate) fn listed(&self, source: Source) -> Result<Source, Fault> {
        let Some(address) = &source.manifest else { return Ok(source) };
        std::fs::create_dir_all(&self.directory).map_err(|error| {
            let what = format!("cannot make the directory {} for manifests: {error}", self.directory.display());
            Fault::new(FaultKind::Unavailable, what)
        })?;
        let file = (self.open)(&source.spec, address)?;
        let facts = &source.facts;
        let (half, every) = halved(facts.freshness);
        let origin = &facts.origin;
        let rules = Rules {
            prefix: facts.prefix.to_string(),
            bucket: Some(origin.bucket.to_string()).filter(|bucket| !bucket.is_empty()),
            base_url: origin.scheme.starts_with("http").then(|| format!("{}/", origin.endpoint)),
        };
        let (path, runtime) = (self.index_path(&source), self.runtime.clone());
        let listed = Listed::new(source.upstream.clone(), file, rules, path, every, runtime);
        let facts =
            Arc::new(SourceFacts { freshness: half, teller: Some(address.as_str().into()), ..(**facts).clone() });
        Ok(Source { facts, upstream: Arc::new(listed), ..source })
    }

    /// Where the index of a source's manifest lies: of that manifest for that prefix of that origin.
    fn index_path(&self, source: &Source) -> PathBuf {
        let address = source.manifest.as_deref().unwrap_or_default();
        let of = ObjectId::derive(&source.facts.origin, &format!("{}\n{address}", source.facts.prefix));
        self.directory.join(format!("{:032x}.index", of.as_u128()))
    }

    /// Removes indexes that none of `sources` uses; with `all`, also what was on its way into order when a process ended.
    pub(crate) fn sweep(&self, sources: &[Arc<Source>], all: bool) {
        let used: HashSet<OsString> = sources
            .iter()
            .filter(|source| source.manifest.is_some())
            .filter_map(|source| self.index_path(source).file_name().map(Into::into))
            .collect();
        let Ok(entries) = std::fs::read_dir(&self.directory) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let is_index = Path::new(&name).extension().is_some_and(|end| end == "index");
            if !used.contains(&name) && (is_index || all) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

/// Half of a rule for what is told of names, and half for the manifest itself (none: it is asked for once): ages add up to the rule.
fn halved(freshness: Freshness) -> (Freshness, Option<std::time::Duration>) {
    match freshness {
        Freshness::Immutable => (Freshness::Immutable, None),
        Freshness::Ttl(ttl) => (Freshness::Ttl(ttl / 2), Some(ttl / 2)),
        Freshness::Check => (Freshness::Check, Some(std::time::Duration::ZERO)),
    }
}
