//! Snapshots: manifests that Forebay writes, as lines of JSON. The first line says what the rest is.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::ManifestError;
use crate::index::{Index, Walk};
use crate::line::Line;
use crate::time;

/// The format of snapshots that this version writes and reads.
pub const SNAPSHOT_FORMAT: u32 = 1;
/// Text that is given out at once.
const PART: usize = 1 << 20;

/// The first line of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    /// [`SNAPSHOT_FORMAT`].
    pub forebay_snapshot: u32,
    /// Its name.
    pub name: String,
    /// The path of the source that it was made of.
    pub source: String,
    /// The origin of that source.
    pub origin: String,
    /// When it was begun.
    pub taken: String,
    /// Lines that follow.
    pub objects: u64,
    /// Bytes of those objects.
    pub bytes: u64,
    /// Objects that can be read as they are now after they were replaced: they have ids of versions. Of the others a change is noticed.
    pub old_versions: u64,
}

#[derive(Serialize)]
struct Written<'a> {
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    etag: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ctime: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inode: Option<u64>,
}

/// The text of a snapshot, part by part.
#[derive(Debug)]
pub struct SnapshotText<'a> {
    header: Option<SnapshotHeader>,
    walk: Walk<'a>,
}

impl<'a> SnapshotText<'a> {
    /// The text of a snapshot of all that `index` has.
    pub fn new(header: SnapshotHeader, index: &'a Index) -> Self {
        Self { header: Some(header), walk: index.walk() }
    }

    /// The next part. None after the last.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn next_part(&mut self) -> Result<Option<Bytes>, ManifestError> {
        let mut text = Vec::with_capacity(PART + 4_096);
        if let Some(header) = self.header.take() {
            put(&mut text, &header)?;
        }
        while text.len() < PART
            && let Some(line) = self.walk.next_line()?
        {
            put_line(&mut text, &line)?;
        }
        Ok((!text.is_empty()).then(|| text.into()))
    }
}

fn put_line(text: &mut Vec<u8>, line: &Line) -> Result<(), ManifestError> {
    let written = Written {
        key: &line.key,
        size: line.size,
        etag: line.etag.as_deref(),
        mtime: line.mtime.map(time::format),
        version_id: line.version_id.as_deref(),
        ctime: line.file.map(|(ctime, _)| time::format(ctime)),
        inode: line.file.map(|(_, inode)| inode),
    };
    put(text, &written)
}

fn put(text: &mut Vec<u8>, value: &impl Serialize) -> Result<(), ManifestError> {
    serde_json::to_writer(&mut *text, value).map_err(|error| ManifestError::Disk(error.to_string()))?;
    text.push(b'\n');
    Ok(())
}
