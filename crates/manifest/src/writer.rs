//! Writes lines that come in order to a file: an index, or a run of lines that are on their way into order.

use std::fs::File;
use std::io::Write;

use crate::block::{BLOCK, Packer};
use crate::error::ManifestError;
use crate::line::Line;

/// Free room that is left to others on the disk.
const ROOM_MIN: u64 = 256 << 20;
/// Blocks between two looks at the free room: 16 MiB.
const LOOK_EVERY: u64 = 1_024;

/// A file of blocks that is being written.
#[derive(Debug)]
pub(crate) struct Writer {
    file: File,
    packer: Packer,
    blocks: u64,
    lines: u64,
}

impl Writer {
    pub(crate) fn new(file: File) -> Self {
        Self { file, packer: Packer::new(), blocks: 0, lines: 0 }
    }

    /// Adds a line, whose key is greater than that of the one before.
    pub(crate) fn push(&mut self, line: &Line) -> Result<(), ManifestError> {
        if !self.packer.push(line) {
            self.put_block()?;
            let fits = self.packer.push(line);
            debug_assert!(fits, "a line is shorter than a block");
        }
        self.lines += 1;
        Ok(())
    }

    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    fn put_block(&mut self) -> Result<(), ManifestError> {
        if self.blocks.is_multiple_of(LOOK_EVERY) {
            self.look_for_room()?;
        }
        let block = self.packer.take(self.blocks);
        self.file.write_all(&block).map_err(|error| ManifestError::disk(&error))?;
        self.blocks += 1;
        Ok(())
    }

    fn look_for_room(&self) -> Result<(), ManifestError> {
        let room = rustix::fs::fstatvfs(&self.file).map_err(|error| ManifestError::disk(&error.into()))?;
        if room.f_bavail.saturating_mul(room.f_frsize) > ROOM_MIN + LOOK_EVERY * BLOCK as u64 {
            return Ok(());
        }
        let what =
            "the disk of the state directory is full: the index of a manifest takes some 50 bytes an object there";
        Err(ManifestError::Disk(what.to_owned()))
    }

    /// Ends the blocks. Gives the file and how many there are.
    pub(crate) fn finish(mut self) -> Result<(File, u64), ManifestError> {
        if !self.packer.is_empty() {
            self.put_block()?;
        }
        Ok((self.file, self.blocks))
    }
}
