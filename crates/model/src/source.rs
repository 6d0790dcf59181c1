//! Sources: what is shown at a path of the namespace, as people define it and as it is told.

use serde::{Deserialize, Serialize};

use crate::{ByteSize, Freshness, NsPath, TimestampNs};

/// The priority of a source that was given none.
pub const PRIORITY_DEFAULT: u8 = 100;

/// A prefix of an origin shown at a path, and its rules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceSpec {
    /// Its path in the namespace.
    pub path: NsPath,
    /// The origin's URL, prefix included, without credentials.
    pub origin: String,
    /// For how long what was seen may be used.
    pub freshness: Freshness,
    /// When it was added: the modification time of its directories, so that it is the same after every restart.
    pub added: TimestampNs,
    /// Where the origin answers. None: as its scheme and the process's environment say.
    #[serde(default)]
    pub endpoint: Option<String>,
    /// The origin's region.
    #[serde(default)]
    pub region: Option<String>,
    /// Whether the bucket stands in the path of requests.
    #[serde(default)]
    pub path_style: Option<bool>,
    /// By whose name the origin is asked: the name of credentials, never the credentials.
    #[serde(default)]
    pub credentials: Option<String>,
    /// The most that it takes of the cache.
    #[serde(default)]
    pub quota: Option<ByteSize>,
    /// What is evicted for others: lower ones first.
    #[serde(default = "default_priority")]
    pub priority: u8,
    /// Nothing is ever written to it through Forebay.
    #[serde(default)]
    pub read_only: bool,
    /// The address of the file that says which objects it has: then its origin is never listed.
    #[serde(default)]
    pub manifest: Option<String>,
}

/// What to change of a source. A field that is none stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceChange {
    /// See [`SourceSpec`].
    pub freshness: Option<Freshness>,
    /// Where the origin answers.
    pub endpoint: Option<Setting<String>>,
    /// The origin's region.
    pub region: Option<Setting<String>>,
    /// Whether the bucket stands in the path of requests.
    pub path_style: Option<Setting<bool>>,
    /// The name of credentials.
    pub credentials: Option<Setting<String>>,
    /// The most that it takes of the cache.
    pub quota: Option<Setting<ByteSize>>,
    /// What is evicted for others.
    pub priority: Option<Setting<u8>>,
    /// Whether nothing is ever written to it through Forebay.
    pub read_only: Option<bool>,
    /// The address of the file that says which objects it has.
    pub manifest: Option<Setting<String>>,
}

/// A value that is given, or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting<T> {
    /// As if it had never been given.
    Default,
    /// This.
    To(T),
}

/// A source as a node has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceInfo {
    /// What it is.
    pub spec: SourceSpec,
    /// How its origin proves which version it gives, for people.
    pub proof: String,
    /// Why it does not answer, if that was found out when it was last defined or asked about.
    pub problem: Option<String>,
    /// What is known of its manifest, if it has one.
    pub manifest: Option<ManifestInfo>,
}

/// What is known of a manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestInfo {
    /// Its address.
    pub address: String,
    /// Objects that it has, or lines that were read so far.
    pub objects: u64,
    /// Whether it is being read.
    pub is_reading: bool,
    /// Whether it answers: it was read once.
    pub is_read: bool,
}

impl SourceSpec {
    /// A source of `origin` at `path` with no rules of its own.
    pub fn new(path: NsPath, origin: String, added: TimestampNs) -> Self {
        Self {
            path,
            origin,
            freshness: Freshness::default(),
            added,
            endpoint: None,
            region: None,
            path_style: None,
            credentials: None,
            quota: None,
            priority: PRIORITY_DEFAULT,
            read_only: false,
            manifest: None,
        }
    }
}

impl SourceChange {
    /// The source with this change.
    pub fn applied(self, mut spec: SourceSpec) -> SourceSpec {
        put(&mut spec.endpoint, self.endpoint);
        put(&mut spec.region, self.region);
        put(&mut spec.path_style, self.path_style);
        put(&mut spec.credentials, self.credentials);
        put(&mut spec.quota, self.quota);
        put(&mut spec.manifest, self.manifest);
        spec.freshness = self.freshness.unwrap_or(spec.freshness);
        spec.read_only = self.read_only.unwrap_or(spec.read_only);
        match self.priority {
            Some(Setting::To(priority)) => spec.priority = priority,
            Some(Setting::Default) => spec.priority = PRIORITY_DEFAULT,
            None => {}
        }
        spec
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

fn put<T>(value: &mut Option<T>, setting: Option<Setting<T>>) {
    match setting {
        None => {}
        Some(Setting::Default) => *value = None,
        Some(Setting::To(given)) => *value = Some(given),
    }
}

fn default_priority() -> u8 {
    PRIORITY_DEFAULT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_changes_what_it_names() {
        let path: NsPath = "/a".parse().expect("a path");
        let spec = SourceSpec::new(path, "s3://a".to_owned(), TimestampNs(7));
        assert_eq!(SourceChange::default().applied(spec.clone()), spec);
        let change = SourceChange {
            quota: Some(Setting::To(ByteSize(5))),
            priority: Some(Setting::To(3)),
            freshness: Some(Freshness::Immutable),
            ..SourceChange::default()
        };
        let changed = change.applied(spec.clone());
        assert_eq!((changed.quota, changed.priority, changed.freshness), (Some(ByteSize(5)), 3, Freshness::Immutable));
        let back = SourceChange {
            quota: Some(Setting::Default),
            priority: Some(Setting::Default),
            freshness: Some(Freshness::default()),
            ..SourceChange::default()
        };
        assert_eq!(back.applied(changed), spec);
    }
}
