//! Compares what lies in a directory with what its log says, and with its checksums.
//!
//! Always true: what is told to be dropped is what readers of the next start would find absent, by the same checks: of an
//! entry or a page that counts as verified a reader meets the length alone.

mod large;
mod pack;
mod window;

use std::io;
use std::os::fd::OwnedFd;

use forebay_model::BLOCK;

use super::{DIRECTORY, Event, Fate, Finding, Flaw, Flow, Lost, Offline, Summary};
use crate::sweep::{Known, folders};

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Whether files are there, and their lengths.
    Files,
    /// Also every byte that the log speaks of.
    Data,
}

/// One check of a directory.
struct Check<'a> {
    of: &'a Offline,
    level: Level,
    each: &'a mut dyn FnMut(Event<'_>) -> Flow,
    summary: Summary,
}

impl Offline {
    /// Looks at everything, and tells `each` what comes up. What a store changes meanwhile may be told as wrong. None:
    /// `each` broke it off.
    pub fn check(&self, level: Level, each: &mut dyn FnMut(Event<'_>) -> Flow) -> Option<Summary> {
        let mut check = Check { of: self, level, each, summary: Summary::default() };
        check.all().is_continue().then_some(check.summary)
    }
}

impl Check<'_> {
    fn all(&mut self) -> Flow {
        let of = self.of;
        if let Some(cut) = &of.log.cut {
            self.found(cut)?;
        }
        self.strays()?;
        of.for_each_pack(&mut |shelved, entries| self.pack(shelved, entries))?;
        of.larges.iter().try_for_each(|large| self.large(large))
    }

    fn found(&mut self, finding: &Finding) -> Flow {
        self.summary.findings += 1;
        if finding.fate == Fate::Served && finding.flaw == Flaw::Data {
            self.summary.bytes_served += finding.bytes;
        }
        (self.each)(Event::Finding(finding))
    }

    /// So many bytes of a content are lost to its readers.
    fn loses(&mut self, bytes: u64) {
        self.summary.contents_lost += 1;
        self.summary.bytes_lost += bytes;
    }

    fn compared(&mut self, bytes: u64) -> Flow {
        self.summary.bytes_compared += bytes;
        (self.each)(Event::Read(bytes))
    }

    /// Files that the sweeper would remove.
    fn strays(&mut self) -> Flow {
        let of = self.of;
        let known = Known::new(&of.index, DIRECTORY);
        for folder in folders(&of.root) {
            let mut flow = Flow::Continue(());
            // As the sweeper: of a folder that cannot be read nothing is removed.
            let _ = of.root.list(&folder, |name| {
                let file = format!("{folder}/{name}");
                if let Some(bytes) = of.root.file_len(&file).filter(|_| !known.has(&folder, name)) {
                    self.summary.bytes_stray += bytes;
                    let (flaw, fate, lost) = (Flaw::Stray, Fate::Removed, Lost::Nothing);
                    flow = self.found(&Finding { file, offset: 0, bytes, content: None, flaw, fate, lost });
                }
                flow
            });
            flow?;
        }
        Flow::Continue(())
    }

    /// A file, and its length.
    fn open(&self, name: &str) -> Result<(OwnedFd, u64), Flaw> {
        let file = self.of.root.open_to_read(name).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Flaw::Missing,
            _ => Flaw::Unreadable(error.to_string()),
        })?;
        match rustix::fs::fstat(&file) {
            Ok(stat) => Ok((file, stat.st_size as u64)),
            Err(errno) => Err(Flaw::Unreadable(io::Error::from(errno).to_string())),
        }
    }
}

/// Where a block of `len` bytes begins, and its length.
fn block(number: usize, len: u64) -> (u64, u64) {
    let start = number as u64 * BLOCK;
    (start, BLOCK.min(len - start))
}

/// What becomes of bytes that are not those that were written.
fn fate(is_verified: bool) -> Fate {
    if is_verified { Fate::Served } else { Fate::Dropped }
}
