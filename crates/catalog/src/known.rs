//! What was seen of single paths, as memory has it: ready to be told.

use std::sync::Arc;

use forebay_model::{Entry, NsPath};
use quick_cache::Weighter;

use crate::directory::{Observed, SourceFacts};
use crate::overlay::What;

/// What was seen of one path, as memory has it.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) what: Told,
    pub(crate) at: u64,
    pub(crate) when: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Told {
    Entry(Entry),
    Absent,
    /// It changed: whatever older listings say of it is not to be used.
    Ask,
}

#[derive(Clone, Debug)]
pub(crate) struct KnownWeight;

impl Weighter<NsPath, Known> for KnownWeight {
    fn weight(&self, path: &NsPath, known: &Known) -> u64 {
        let text = match &known.what {
            Told::Entry(Entry::File(file)) => size_of_val(&**file) + file.content.key.len() + 80,
            _ => 0,
        };
        (size_of::<Known>() + path.as_str().len() + text + 64) as u64
    }
}

impl Told {
    /// What was seen of `path` as it is told.
    pub(crate) fn of(source: &SourceFacts, path: &NsPath, what: What) -> Self {
        match what {
            What::Ask => Self::Ask,
            What::Seen(Observed::Absent) => Self::Absent,
            What::Seen(Observed::Directory) => Self::Entry(source.directory()),
            What::Seen(Observed::File(file)) => {
                let key: Arc<str> = source.key(path).unwrap_or_default().into();
                Self::Entry(source.file(&source.path.as_str().into(), key, file))
            }
        }
    }
}
