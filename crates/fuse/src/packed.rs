//! A file of the node table, in one allocation of its own.
//!
//! Always true: what is unpacked equals what was packed. A `FileEntry` as it is used takes four allocations and some 300 bytes
//! with a usual key and etag; packed it takes a third of that, and a kernel may know millions.

use std::sync::Arc;

use forebay_model::{Content, ContentId, FileEntry, TimestampNs, Version};

// Where the fields stand: content id, size, modification time, length of the name, kind of version and flag, length of the
// key, key; then the name if the key does not end in it, and the version.
const ID: usize = 0;
const SIZE: usize = 16;
const MTIME: usize = 24;
const NAME_LEN: usize = 32;
const KIND: usize = 33;
const KEY_LEN: usize = 34;
const KEY: usize = 38;

// Kinds of version.
const BY_ID: u8 = 0;
const BY_ETAG: u8 = 1;
/// An etag that is 32 hexadecimal digits in quotes, as 16 bytes.
const BY_DIGEST: u8 = 2;
const BY_STAMP: u8 = 3;
const BY_FILE_STAMP: u8 = 4;
/// The key does not end in the name.
const OWN_NAME: u8 = 0x80;
/// It was used since that was last asked.
const USED: u8 = 0x40;

/// A file under a name.
pub(crate) struct PackedFile {
    source: Arc<str>,
    bytes: Box<[u8]>,
}

impl PackedFile {
    /// `name` has at most 255 bytes.
    pub(crate) fn new(name: &str, file: &FileEntry) -> Self {
        let Content { source, key, version, size, id } = &file.content;
        let has_own_name = !key.ends_with(name);
        let mut bytes = Vec::with_capacity(KEY + key.len() + usize::from(has_own_name) * name.len() + 40);
        bytes.extend_from_slice(&id.as_u128().to_le_bytes());
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&file.mtime.0.to_le_bytes());
        bytes.push(name.len() as u8);
        bytes.push(if has_own_name { OWN_NAME } else { 0 });
        bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        bytes.extend_from_slice(key.as_bytes());
        if has_own_name {
            bytes.extend_from_slice(name.as_bytes());
        }
        bytes[KIND] |= put_version(&mut bytes, version);
        Self { source: source.clone(), bytes: bytes.into() }
    }

    /// The name that it was packed under.
    pub(crate) fn name(&self) -> &str {
        let end = self.name_end();
        text(&self.bytes[end - usize::from(self.bytes[NAME_LEN])..end])
    }

    /// The content's id.
    pub(crate) fn id(&self) -> ContentId {
        ContentId::from_u128(u128::from_le_bytes(self.array(ID)))
    }

    /// It is used.
    pub(crate) fn mark_used(&mut self) {
        self.bytes[KIND] |= USED;
    }

    /// Whether it was used since this was last asked.
    pub(crate) fn take_used(&mut self) -> bool {
        let was_used = self.bytes[KIND] & USED != 0;
        self.bytes[KIND] &= !USED;
        was_used
    }

    /// The file as it was packed.
    pub(crate) fn unpack(&self) -> FileEntry {
        let content = Content {
            source: self.source.clone(),
            key: text(&self.bytes[KEY..self.key_end()]).into(),
            version: self.version(),
            size: self.number(SIZE),
            id: self.id(),
        };
        FileEntry { content, mtime: TimestampNs(self.number(MTIME) as i64) }
    }

    fn version(&self) -> Version {
        let at = self.name_end();
        let stamp =
            |file| Version::Stamp { mtime: TimestampNs(self.number(at) as i64), size: self.number(at + 8), file };
        match self.bytes[KIND] & !(OWN_NAME | USED) {
            BY_ID => Version::Id(text(&self.bytes[at..]).into()),
            BY_ETAG => Version::Etag(text(&self.bytes[at..]).into()),
            BY_DIGEST => Version::Etag(format!("\"{:032x}\"", u128::from_be_bytes(self.array(at))).into()),
            BY_STAMP => stamp(None),
            _ => stamp(Some((TimestampNs(self.number(at + 16) as i64), self.number(at + 24)))),
        }
    }

    fn key_end(&self) -> usize {
        KEY + u32::from_le_bytes(self.array(KEY_LEN)) as usize
    }

    fn name_end(&self) -> usize {
        let own = if self.bytes[KIND] & OWN_NAME == 0 { 0 } else { usize::from(self.bytes[NAME_LEN]) };
        self.key_end() + own
    }

    fn number(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.array(at))
    }

    fn array<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[at..at + N]);
        array
    }
}

/// Adds the version, and gives its kind.
fn put_version(bytes: &mut Vec<u8>, version: &Version) -> u8 {
    match version {
        Version::Id(id) => {
            bytes.extend_from_slice(id.as_bytes());
            BY_ID
        }
        Version::Etag(etag) => match digest_of(etag) {
            Some(digest) => {
                bytes.extend_from_slice(&digest.to_be_bytes());
                BY_DIGEST
            }
            None => {
                bytes.extend_from_slice(etag.as_bytes());
                BY_ETAG
            }
        },
        Version::Stamp { mtime, size, file } => {
            bytes.extend_from_slice(&mtime.0.to_le_bytes());
            bytes.extend_from_slice(&size.to_le_bytes());
            let Some((ctime, inode)) = file else { return BY_STAMP };
            bytes.extend_from_slice(&ctime.0.to_le_bytes());
            bytes.extend_from_slice(&inode.to_le_bytes());
            BY_FILE_STAMP
        }
    }
}

/// The number of an etag that is nothing but one, written as it would be written again.
fn digest_of(etag: &str) -> Option<u128> {
    let digits = etag.strip_prefix('"')?.strip_suffix('"')?;
    let is_plain = digits.len() == 32 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    is_plain.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
}

fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(key: &str, version: Version) -> FileEntry {
        let content = Content {
            source: "/ml".into(),
            key: key.into(),
            version,
            size: 1 << 40,
            id: ContentId::from_u128(7 << 100),
        };
        FileEntry { content, mtime: TimestampNs(-5) }
    }

    #[test]
    fn what_is_unpacked_equals_what_was_packed() {
        let stamp = |file| Version::Stamp { mtime: TimestampNs(-1), size: u64::MAX, file };
        let versions = [
            Version::Id("v1".into()),
            Version::Id("".into()),
            Version::Etag("\"0123456789abcdef0123456789abcdef\"".into()),
            Version::Etag("\"0123456789ABCDEF0123456789abcdef\"".into()),
            Version::Etag("\"+123456789abcdef0123456789abcdef\"".into()),
            Version::Etag("\"0123456789abcdef0123456789abcdef-7\"".into()),
            Version::Etag("\"é\"".into()),
            stamp(None),
            stamp(Some((TimestampNs(3), 9))),
        ];
        let long = format!("k/{}", "n".repeat(255));
        for version in versions {
            for (name, key) in [("a", "k/a"), ("ü", "ü"), ("other", "k/a"), ("other", ""), (&long[2..], &*long)] {
                let file = file(key, version.clone());
                let mut packed = PackedFile::new(name, &file);
                assert!(!packed.take_used());
                packed.mark_used();
                assert_eq!((packed.name(), packed.id(), packed.unpack()), (name, file.content.id, file));
                assert!(packed.take_used() && !packed.take_used());
            }
        }
    }

    #[test]
    fn a_packed_file_is_as_small_as_documented() {
        let etag = Version::Etag("\"0123456789abcdef0123456789abcdef\"".into());
        let packed = PackedFile::new("n01440764_00012.JPEG", &file("train/n01440764_00012.JPEG", etag));
        assert_eq!(packed.bytes.len(), 80);
        assert_eq!(size_of::<PackedFile>(), 32);
    }
}
