//! Entries of one pack, read many at a time.

use std::io;
use std::os::fd::OwnedFd;

use crate::device::Root;
use crate::read::Caching;

/// Bytes read at a time, if an entry is no longer: some thousand small objects.
const WINDOW: u64 = 4 << 20;

/// A part of a file.
pub(super) struct Window {
    file: OwnedFd,
    /// Length of the file.
    pub(super) file_len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(super) fn new(file: OwnedFd, file_len: u64) -> Self {
        Self { file, file_len, start: 0, bytes: Vec::new() }
    }

    /// The `len` bytes from `offset`, which is mostly further on than the last. None: the file ends before.
    pub(super) fn read(&mut self, root: &Root, offset: u64, len: u64) -> io::Result<Option<&[u8]>> {
        let is_here = offset >= self.start && offset + len <= self.start + self.bytes.len() as u64;
        if !is_here {
            let many = WINDOW.min(self.file_len.saturating_sub(offset)).max(len);
            // A bad sector behind the entry is no reason not to have it.
            if !self.fill(root, offset, many).unwrap_or(false) && !self.fill(root, offset, len)? {
                return Ok(None);
            }
        }
        let from = (offset - self.start) as usize;
        Ok(Some(&self.bytes[from..from + len as usize]))
    }

    fn fill(&mut self, root: &Root, offset: u64, len: u64) -> io::Result<bool> {
        self.start = offset;
        self.bytes.resize(len as usize, 0);
        let outcome = root.read_at(&self.file, &mut self.bytes, offset, Caching::Drop);
        if !matches!(outcome, Ok(true)) {
            self.bytes.clear();
        }
        outcome
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn any_part_of_a_file_is_read_and_none_behind_it() {
        let scratch = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> = (0..WINDOW + 1000).map(|at| (at % 251) as u8).collect();
        std::fs::write(scratch.path().join("f"), &bytes).unwrap();
        let root = Root::look(scratch.path()).unwrap();
        let mut window = Window::new(root.open_to_read("f").unwrap(), bytes.len() as u64);
        for (offset, len) in [(5, 10), (900, WINDOW), (WINDOW - 3, 1003), (0, 1), (WINDOW + 999, 1), (7, 0)] {
            let read = window.read(&root, offset, len).unwrap().unwrap();
            assert_eq!(read, &bytes[offset as usize..(offset + len) as usize], "{len} bytes at {offset}");
        }
        assert_eq!(window.read(&root, WINDOW, 1001).unwrap(), None);
    }
}
