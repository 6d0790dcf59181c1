//! The registry of one machine: a JSON file, replaced whole at each change.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use forebay_model::{NsPath, SourceSpec};
use serde::{Deserialize, Serialize};

use crate::node_name::NodeName;

const FILE: &str = "registry.json";
const FORMAT: u32 = 1;
/// A registry of one machine holds a node and its sources: a larger file is not one.
const FILE_MAX: u64 = 16 << 20;

/// The registry of one machine.
#[derive(Debug)]
pub struct Embedded {
    path: PathBuf,
    content: Document,
}

/// A registry that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The file cannot be read or written.
    #[error("cannot {action} the registry {path}: {source}; check the state directory (--state)")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not a registry of this version.
    #[error("the registry {path} cannot be understood ({why}); it holds no data: move it away to start afresh")]
    Format {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    format: u32,
    node: NodeName,
    revision: u64,
    sources: Vec<SourceSpec>,
}

impl Embedded {
    /// Opens the registry in the state directory `directory`, which exists, or makes one.
    ///
    /// # Errors
    /// The file cannot be read, written or understood.
    pub fn open(directory: &Path) -> Result<Self, RegistryError> {
        let path = directory.join(FILE);
        let io = |action, source| RegistryError::Io { action, path: path.clone(), source };
        let format = |why: String| RegistryError::Format { path: path.clone(), why };
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let node = NodeName(format!("{:016x}", rand::random::<u64>()));
                let content = Document { format: FORMAT, node, revision: 0, sources: Vec::new() };
                let registry = Self { path, content };
                registry.save()?;
                Ok(registry)
            }
            Err(error) => Err(io("read", error)),
            Ok(metadata) if metadata.len() > FILE_MAX => Err(format(format!("it has {} bytes", metadata.len()))),
            Ok(_) => {
                let text = fs::read(&path).map_err(|e| io("read", e))?;
                let content: Document = serde_json::from_slice(&text).map_err(|e| format(e.to_string()))?;
                if content.format != FORMAT {
                    return Err(format(format!("format {}, expected {FORMAT}", content.format)));
                }
                Ok(Self { path, content })
            }
        }
    }

    /// This node's name.
    pub fn node(&self) -> &NodeName {
        &self.content.node
    }

    /// Counts changes.
    pub fn revision(&self) -> u64 {
        self.content.revision
    }

    /// The sources, in the order in which they were added.
    pub fn sources(&self) -> &[SourceSpec] {
        &self.content.sources
    }

    /// Adds a source, or replaces the one at its path. A source of the same path and origin keeps the time at which it
    /// was first added.
    ///
    /// # Errors
    /// The file cannot be written; the registry is then as before.
    pub fn put_source(&mut self, mut record: SourceSpec) -> Result<SourceSpec, RegistryError> {
        let before = self.content.sources.clone();
        match self.content.sources.iter_mut().find(|known| known.path == record.path) {
            Some(known) => {
                if known.origin == record.origin {
                    record.added = known.added;
                }
                if *known == record {
                    return Ok(record);
                }
                *known = record.clone();
            }
            None => self.content.sources.push(record.clone()),
        }
        self.changed(before)?;
        Ok(record)
    }

    /// Takes the source at `path` out. None: there is none.
    ///
    /// # Errors
    /// The file cannot be written; the registry is then as before.
    pub fn remove_source(&mut self, path: &NsPath) -> Result<Option<SourceSpec>, RegistryError> {
        let Some(at) = self.content.sources.iter().position(|known| known.path == *path) else { return Ok(None) };
        let before = self.content.sources.clone();
        let removed = self.content.sources.remove(at);
        self.changed(before)?;
        Ok(Some(removed))
    }

    /// Saves what was changed, or takes it back.
    fn changed(&mut self, before: Vec<SourceSpec>) -> Result<(), RegistryError> {
        self.content.revision += 1;
        self.save().inspect_err(|_| {
            self.content.sources = before;
            self.content.revision -= 1;
        })
    }

    /// Writes a new file and puts it in the old one's place, so that a crash leaves one of the two whole.
    fn save(&self) -> Result<(), RegistryError> {
        let io = |action, source| RegistryError::Io { action, path: self.path.clone(), source };
        let text = serde_json::to_vec_pretty(&self.content).expect("a document of strings and numbers is always JSON");
        let new = self.path.with_extension("new");
        let mut file = fs::File::create(&new).map_err(|e| io("write", e))?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(|e| io("write", e))?;
        fs::rename(&new, &self.path).map_err(|e| io("replace", e))
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::TimestampNs;

    use super::*;

    fn source(path: &str, origin: &str, added: i64) -> SourceSpec {
        SourceSpec::new(path.parse().expect("a path"), origin.to_owned(), TimestampNs(added))
    }

    #[test]
    fn what_was_put_is_there_after_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut registry = Embedded::open(directory.path()).expect("a new registry");
        let node = registry.node().clone();
        registry.put_source(source("/a", "s3://a", 1)).expect("it is written");
        registry.put_source(source("/b", "s3://b", 2)).expect("it is written");
        registry.put_source(source("/a", "s3://a", 9)).expect("it is written");
        registry.put_source(source("/b", "s3://other", 9)).expect("it is written");
        let again = Embedded::open(directory.path()).expect("the registry");
        assert_eq!(again.node(), &node);
        assert_eq!(again.sources(), [source("/a", "s3://a", 1), source("/b", "s3://other", 9)]);
        assert_eq!(again.revision(), 3);
    }

    #[test]
    fn a_source_of_an_older_version_has_the_rules_of_one_that_was_given_none() {
        let directory = tempfile::tempdir().expect("a directory");
        let old = r#"{"path":"/a","origin":"s3://a","freshness":"ttl=60s","added":1}"#;
        let text = format!(r#"{{"format":1,"node":"x","revision":1,"sources":[{old}]}}"#);
        fs::write(directory.path().join(FILE), text).expect("it is written");
        let registry = Embedded::open(directory.path()).expect("the registry");
        assert_eq!(registry.sources(), [source("/a", "s3://a", 1)]);
    }

    #[test]
    fn what_was_removed_stays_away() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut registry = Embedded::open(directory.path()).expect("a new registry");
        registry.put_source(source("/a", "s3://a", 1)).expect("it is written");
        let a: NsPath = "/a".parse().expect("a path");
        assert_eq!(registry.remove_source(&a).expect("it is written"), Some(source("/a", "s3://a", 1)));
        assert_eq!(registry.remove_source(&a).expect("nothing is written"), None);
        assert_eq!(Embedded::open(directory.path()).expect("the registry").sources(), []);
    }

    #[test]
    fn a_file_that_is_no_registry_is_refused_with_its_name() {
        let directory = tempfile::tempdir().expect("a directory");
        for text in ["", "{}", r#"{"format":2,"node":"x","revision":0,"sources":[]}"#, "\u{0}\u{0}"] {
            fs::write(directory.path().join(FILE), text).expect("it is written");
            let error = Embedded::open(directory.path()).expect_err(text).to_string();
            assert!(error.contains("registry.json"), "{error}");
        }
    }
}
