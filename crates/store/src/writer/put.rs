//! How bytes reach a file, and what it means when they do not.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{MAX_NAME_TRIES, Writer};
use crate::device;
use crate::directory::Directory;
use crate::error::NotKept;
use crate::evict::FULL_REST;
use crate::victim::{Among, Newcomer};
use crate::writeback::Target;

/// Where bytes go.
pub(super) struct Place<'a> {
    pub(super) file: &'a Arc<OwnedFd>,
    /// The same file past the page cache, if they are to go that way: then they are whole pages.
    pub(super) direct: Option<Arc<OwnedFd>>,
    pub(super) offset: u64,
    pub(super) len: u64,
}

impl Writer {
    /// Writes bytes; if the file system has no room, once more after something was evicted for the newcomer, if there is one.
    pub(super) fn write<'a, I: Iterator<Item = &'a [u8]>>(
        &mut self,
        mut to: Place<'_>,
        parts: impl Fn() -> I,
        target: &Target,
        newcomer: Option<Newcomer<'_>>,
    ) -> Result<(), NotKept> {
        let mut outcome = self.put(&to, &parts);
        if outcome.as_ref().is_err_and(device::is_full) {
            // No other description of the file may be open when the kernel is asked for its lease.
            to.direct = None;
            if newcomer.is_some() && self.evict_one(Among::All(newcomer)).is_ok() {
                outcome = self.put(&to, &parts);
            }
        }
        let reached = outcome.map_err(|error| self.failed(&error))?;
        if let Some(space) = &mut self.space {
            space.written += to.len;
        }
        if reached == Reached::PageCache {
            self.writeback.wrote(target, to.file, to.offset, to.len);
            if let Some(failed) = self.writeback.failed() {
                self.writeback_failed(&failed);
                return Err(NotKept::Failed);
            }
        }
        Ok(())
    }

    /// Writes bytes past the page cache if they are to go that way and can, else into it.
    fn put<'a, I: Iterator<Item = &'a [u8]>>(&self, to: &Place<'_>, parts: &impl Fn() -> I) -> io::Result<Reached> {
        if let Some(direct) = &to.direct
            && self.directory.past_cache.write((to.file, direct), parts(), to.len as usize, to.offset)?
        {
            return Ok(Reached::Disk);
        }
        device::write_all_at(to.file, parts(), to.offset)?;
        Ok(Reached::PageCache)
    }

    /// What an error means for the fill and for the directory.
    pub(super) fn failed(&mut self, error: &io::Error) -> NotKept {
        if device::is_full(error) {
            self.space = None;
            self.directory.rest_without_room(FULL_REST);
            return NotKept::Full;
        }
        // A file that is missing alone is found by its readers; out of descriptors passes.
        let passes = matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM));
        let missing = error.kind() == io::ErrorKind::NotFound && !self.directory.root.is_gone();
        if !passes && !missing {
            self.directory.take_out(error);
        }
        NotKept::Failed
    }
}

/// How far written bytes have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reached {
    /// The kernel still has to write them, and may fail.
    PageCache,
    Disk,
}

/// A new file, under the first free of the names that `next_name` gives.
pub(super) fn create(directory: &Directory, mut next_name: impl FnMut() -> io::Result<String>) -> io::Result<OwnedFd> {
    let mut last = io::ErrorKind::AlreadyExists.into();
    for _ in 0..MAX_NAME_TRIES {
        let name = next_name()?;
        match directory.root.create(&name) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let folder = name.rsplit_once('/').map_or("", |(folder, _)| folder);
                for folder in [folder.split('/').next().unwrap_or(""), folder] {
                    directory.root.make_directory(folder)?;
                }
                return directory.root.create(&name);
            }
            outcome => return outcome,
        }
    }
    Err(last)
}
