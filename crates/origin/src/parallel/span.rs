//! Ranges of keys, and what is given out of them.

use std::sync::Arc;

use crate::Listed;

/// The keys after `after`, up to and with `until`, in the order of their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct KeySpan {
    /// Not in it. Empty: it begins with the first key.
    pub after: Arc<str>,
    /// In it, if there is such a key. None: it ends with the last key.
    pub until: Option<Arc<str>>,
}

impl KeySpan {
    /// All keys.
    pub fn whole() -> Self {
        Self { after: "".into(), until: None }
    }

    /// Whether `key` lies in it.
    pub fn contains(&self, key: &str) -> bool {
        key > &*self.after && self.until.as_deref().is_none_or(|until| key <= until)
    }
}

/// A piece of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// What has been listed whole with this part: its entries are all that there are in it. None, in every part from origins that
    /// list in no order: nothing before the listing's end.
    pub covered: Option<KeySpan>,
    /// Entries, ascending by key if `covered` is set. All lie in what it covers. May be empty.
    pub entries: Vec<Listed>,
}
