//! Numbers of inodes: what a mount shows as `st_ino`, and so the order in which programs that sort by it (`cp -r`) read.

use crate::content::ContentId;
use crate::path::NsPath;

/// The number of the file of this content at `path`, or of the directory there. Two things that hash to one number are told
/// apart by the salt of the second.
///
/// A hash, not a counter: a process that takes over a mount derives the same ones.
pub fn inode_number(path: &NsPath, content: Option<ContentId>, salt: u32) -> u64 {
    let content = content.map(|content| content.as_u128().to_le_bytes());
    let content = content.as_ref().map_or(&[][..], |content| &content[..]);
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"forebay node 1");
    hasher.update(&salt.to_le_bytes());
    // Of fixed length for each kind, so that it cannot flow into the path.
    hasher.update(&[content.len() as u8]);
    hasher.update(content);
    hasher.update(path.as_str().as_bytes());
    let mut number = [0; 8];
    number.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    // 0 means "absent" to the kernel, 1 is the root.
    match u64::from_le_bytes(number) {
        reserved @ (0 | 1) => reserved + 2,
        number => number,
    }
}
