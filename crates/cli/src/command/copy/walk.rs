//! A directory tree, one step at a time, in bounded memory: one page of names for each level of depth.

use std::path::PathBuf;
use std::sync::Arc;
use std::vec;

use forebay_client::Client;
use forebay_model::{Entry, FileEntry, ListedEntry, NsPath};

use super::local::checked;
use crate::command::list::Lister;
use crate::failure::Failure;

/// One thing found below the start.
#[derive(Debug)]
pub(super) enum Step {
    /// A directory, before what is in it.
    Directory {
        /// Its path below the start.
        below: PathBuf,
    },
    /// A file.
    File {
        /// Its path in the namespace.
        path: NsPath,
        /// Its path below the start.
        below: PathBuf,
        /// The version to read.
        file: Arc<FileEntry>,
    },
}

/// A walk in the order of names, deep first.
#[derive(Debug)]
pub(super) struct Walk {
    client: Client,
    levels: Vec<Level>,
    /// Keys met so far that have no name.
    pub(super) hidden: u64,
}

#[derive(Debug)]
struct Level {
    lister: Lister,
    below: PathBuf,
    entries: vec::IntoIter<ListedEntry>,
}

impl Walk {
    /// Starts at the directory `path`.
    pub(super) fn new(client: Client, path: &NsPath) -> Self {
        let level =
            Level { lister: Lister::new(&client, path), below: PathBuf::new(), entries: Vec::new().into_iter() };
        Self { client, levels: vec![level], hidden: 0 }
    }

    /// The next step; none at the end. After a failure the walk goes on beside the directory that failed.
    pub(super) async fn next(&mut self) -> Option<Result<Step, Failure>> {
        loop {
            let level = self.levels.last_mut()?;
            if let Some(ListedEntry { name, entry }) = level.entries.next() {
                return Some(self.enter(&name, entry));
            }
            match level.lister.next().await {
                Ok(Some(entries)) => level.entries = entries.into_iter(),
                Ok(None) => {
                    self.hidden += level.lister.hidden;
                    self.levels.pop();
                }
                Err(failure) => {
                    self.levels.pop();
                    return Some(Err(failure));
                }
            }
        }
    }

    fn enter(&mut self, name: &str, entry: Entry) -> Result<Step, Failure> {
        let level = self.levels.last().expect("a name comes from a level");
        let path = level.lister.path().join(checked(name)?);
        let below = level.below.join(name);
        match entry {
            Entry::File(file) => Ok(Step::File { path, below, file }),
            Entry::Directory(_) => {
                let lister = Lister::new(&self.client, &path);
                self.levels.push(Level { lister, below: below.clone(), entries: Vec::new().into_iter() });
                Ok(Step::Directory { below })
            }
        }
    }
}
