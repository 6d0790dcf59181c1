//! What names bytes: objects, versions, contents. A content id is derived here and nowhere else.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::TimestampNs;

/// The store that an object lives in: two sources over one bucket of one endpoint have the same origin.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct OriginId {
    /// URL scheme: `s3`, `file`, `gs`, `az`, `oss`, `cos`, `hdfs`, `hf`, `http`, `https`.
    pub scheme: Arc<str>,
    /// Endpoint as a URL without a trailing slash; empty where the scheme has none (`file`).
    pub endpoint: Arc<str>,
    /// Bucket, container or repository; empty where the scheme has none.
    pub bucket: Arc<str>,
}

/// What tells two contents of one object apart, strongest proof first.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Version {
    /// A version id or generation that the origin gave.
    Id(Arc<str>),
    /// A strong etag, with its quotes as the origin sent them.
    Etag(Arc<str>),
    /// Modification time and size, and for files change time and inode.
    Stamp {
        /// Modification time.
        mtime: TimestampNs,
        /// Size in bytes.
        size: u64,
        /// Change time and inode number, for files.
        file: Option<(TimestampNs, u64)>,
    },
}

/// One blob at an origin, whatever its version: what placement goes by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectId(u128);

/// The bytes of one version of one object.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ContentId(u128);

/// One version of one object, with all that a node needs to fetch and to prove it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Content {
    /// Namespace path of the source that it was found through.
    pub source: Arc<str>,
    /// Full key at the origin, without a leading slash.
    pub key: Arc<str>,
    /// The version that the bytes belong to.
    pub version: Version,
    /// Size in bytes.
    pub size: u64,
    /// Names the bytes; equal to [`ContentId::derive`] of the fields above and the source's origin.
    pub id: ContentId,
}

impl ObjectId {
    /// The id of `key` at `origin`.
    pub fn derive(origin: &OriginId, key: &str) -> Self {
        Self(digest("forebay object 1", [&*origin.scheme, &*origin.endpoint, &*origin.bucket, key].map(str::as_bytes)))
    }

    /// The id as a number, for hashing and storage.
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

impl ContentId {
    /// The id of one version of an object of `size` bytes: BLAKE3 over length-prefixed fields, cut to 128 bits.
    pub fn derive(origin: &OriginId, key: &str, version: &Version, size: u64) -> Self {
        let object = ObjectId::derive(origin, key).0.to_le_bytes();
        let length = size.to_le_bytes();
        let id = match version {
            Version::Id(id) => digest("forebay content 1 id", [&object[..], &length, id.as_bytes()]),
            Version::Etag(etag) => digest("forebay content 1 etag", [&object[..], &length, etag.as_bytes()]),
            Version::Stamp { mtime, size, file } => {
                let (ctime, inode) = file.unwrap_or((TimestampNs(0), 0));
                let has_file = [u8::from(file.is_some())];
                digest(
                    "forebay content 1 stamp",
                    [
                        &object[..],
                        &length,
                        &mtime.0.to_le_bytes(),
                        &size.to_le_bytes(),
                        &has_file,
                        &ctime.0.to_le_bytes(),
                        &inode.to_le_bytes(),
                    ],
                )
            }
        };
        Self(id)
    }

    /// An id from a number that [`Self::as_u128`] gave.
    pub const fn from_u128(id: u128) -> Self {
        Self(id)
    }

    /// The id as a number, for hashing and storage.
    pub fn as_u128(self) -> u128 {
        self.0
    }
}

impl fmt::Display for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ContentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ContentId({self})")
    }
}

impl fmt::Debug for ObjectId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectId({:032x})", self.0)
    }
}

/// BLAKE3 of `fields`, each preceded by its length, under a context of its own, cut to 128 bits.
fn digest<const N: usize>(context: &str, fields: [&[u8]; N]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for field in std::iter::once(context.as_bytes()).chain(fields) {
        hasher.update(&(field.len() as u64).to_le_bytes());
        hasher.update(field);
    }
    let mut cut = [0; 16];
    cut.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    u128::from_le_bytes(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin() -> OriginId {
        OriginId { scheme: "s3".into(), endpoint: "http://127.0.0.1:8333".into(), bucket: "ml".into() }
    }

    #[test]
    fn ids_are_golden() {
        // Two processes of different builds must agree: a changed figure here is a changed cache format.
        let content = ContentId::derive(&origin(), "a/b.png", &Version::Etag("\"e1\"".into()), 7);
        let object = ObjectId::derive(&origin(), "a/b.png");
        assert_eq!(format!("{content} {:032x}", object.as_u128()), GOLDEN);
    }
    const GOLDEN: &str = "f2a42671dceb367f322a008e92c30a36 04a983c43ce231e9579374ff8ef6416b";

    #[test]
    fn every_field_tells_contents_apart() {
        let stamp = |mtime, size, file| Version::Stamp { mtime: TimestampNs(mtime), size, file };
        let versions = [
            Version::Id("1".into()),
            Version::Etag("1".into()),
            stamp(1, 2, None),
            stamp(2, 2, None),
            stamp(1, 3, None),
            stamp(1, 2, Some((TimestampNs(0), 0))),
            stamp(1, 2, Some((TimestampNs(1), 0))),
            stamp(1, 2, Some((TimestampNs(0), 1))),
        ];
        let mut ids: Vec<_> = versions.iter().map(|v| ContentId::derive(&origin(), "k", v, 5)).collect();
        ids.push(ContentId::derive(&origin(), "k2", &versions[0], 5));
        ids.push(ContentId::derive(&origin(), "k", &versions[0], 6));
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), versions.len() + 2);
    }

    #[test]
    fn a_field_cannot_flow_into_its_neighbour() {
        let a = OriginId { bucket: "b".into(), ..origin() };
        let b = OriginId { bucket: "bx".into(), ..origin() };
        assert_ne!(ObjectId::derive(&a, "xk"), ObjectId::derive(&b, "k"));
    }
}
