//! What a manifest says of one object, whatever its format.

use forebay_model::TimestampNs;

/// What a manifest says of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// Its full key.
    pub key: String,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Its modification time.
    pub mtime: Option<TimestampNs>,
    /// Its strong etag, without quotes.
    pub etag: Option<String>,
    /// The id of its version, by which it can be read after it was replaced; where origins count generations, the generation.
    pub version_id: Option<String>,
    /// Change time and inode number, of files.
    pub file: Option<(TimestampNs, u64)>,
}

impl Line {
    /// Bytes of memory that it takes, about.
    pub(crate) fn weight(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, |text| text.len() + 16);
        size_of::<Self>() + self.key.len() + 16 + text(&self.etag) + text(&self.version_id)
    }
}

/// The longest key: what an origin can address.
pub(crate) const KEY_MAX: usize = 4_096;
/// The longest etag or version id.
pub(crate) const VERSION_MAX: usize = 1_024;
