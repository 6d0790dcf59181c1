//! Packs: whether the entries that the log knows are there and as they were written.

use std::ops::ControlFlow;

use forebay_model::ContentId;

use super::window::Window;
use super::{Check, Level, block, fate};
use crate::group::Group;
use crate::offline::entries::Entry;
use crate::offline::{Event, Fate, Finding, Flaw, Flow, Lost, PackReport, Shelved};
use crate::pack::{self, Pack, entry_len, header_len};

impl Check<'_> {
    pub(super) fn pack(&mut self, Shelved { pack, live }: &Shelved, entries: &[Entry]) -> Flow {
        let of_contents: u64 = entries.iter().map(|entry| u64::from(entry.place.len())).sum();
        let count = entries.len() as u64;
        let mut report = PackReport {
            file: pack::name(pack.number),
            group: Group(pack.group),
            bytes: 0,
            entries: count,
            bytes_live: *live,
            bytes_dead: 0,
            entries_lost: 0,
        };
        match self.open(&report.file) {
            Ok((opened, len)) => {
                (report.bytes, report.bytes_dead) = (len, len.saturating_sub(*live));
                let mut window = Window::new(opened, len);
                for entry in entries {
                    if self.entry(pack, &report.file, &mut window, entry)? {
                        self.loses(entry.place.len().into());
                        report.entries_lost += 1;
                    }
                }
            }
            // Nobody reads what has no objects.
            Err(_) if entries.is_empty() => {}
            Err(flaw) => {
                report.entries_lost = count;
                self.summary.contents_lost += count;
                self.summary.bytes_lost += of_contents;
                let (file, fate, lost) = (report.file.clone(), Fate::Dropped, Lost::Pack(count));
                self.found(&Finding { file, offset: 0, bytes: *live, content: None, flaw, fate, lost })?;
            }
        }
        self.summary.contents += count;
        self.summary.bytes_resident += of_contents;
        self.summary.bytes_packs += report.bytes;
        self.summary.bytes_dead += report.bytes_dead;
        (self.each)(Event::Pack(&report))
    }

    /// Whether the entry would be dropped.
    fn entry(&mut self, pack: &Pack, file: &str, window: &mut Window, entry: &Entry) -> ControlFlow<(), bool> {
        let place = entry.place.in_pack(pack);
        let (len, start) = (u64::from(place.len()), u64::from(place.offset));
        let end = start + entry_len(len);
        let flaws: Vec<(u64, u64, Flaw)> = if end > window.file_len {
            let cut = window.file_len.max(start);
            vec![(cut, end - cut, Flaw::Short)]
        } else if self.level == Level::Files {
            Vec::new()
        } else {
            match window.read(&self.of.root, start, end - start) {
                Ok(Some(bytes)) => {
                    let flaws = flaws(bytes, entry.id, pack.group, (start, len));
                    self.compared(end - start)?;
                    flaws
                }
                // It was cut since.
                Ok(None) => vec![(start, end - start, Flaw::Short)],
                Err(error) => vec![(start, end - start, Flaw::Unreadable(error.to_string()))],
            }
        };
        let mut is_dropped = false;
        for (offset, bytes, flaw) in flaws {
            let is_compared = matches!(flaw, Flaw::EntryHeader | Flaw::Data);
            let fate = if is_compared { fate(place.is_verified()) } else { Fate::Dropped };
            is_dropped |= fate == Fate::Dropped;
            let (file, content, lost) = (file.to_owned(), Some(entry.id), Lost::Object);
            self.found(&Finding { file, offset, bytes, content, flaw, fate, lost })?;
        }
        ControlFlow::Continue(is_dropped)
    }
}

/// What is wrong with an entry that lies at `start`, and where in the file.
fn flaws(entry: &[u8], id: ContentId, group: u64, (start, len): (u64, u64)) -> Vec<(u64, u64, Flaw)> {
    let header = header_len(len) as u64;
    match pack::flaw(entry, id, group, len) {
        None => Vec::new(),
        Some(pack::Flaw::Header) => vec![(start, header, Flaw::EntryHeader)],
        Some(pack::Flaw::Blocks(blocks)) => {
            let at = |number: usize| {
                let (offset, bytes) = block(number, len);
                (start + header + offset, bytes, Flaw::Data)
            };
            blocks.into_iter().map(at).collect()
        }
    }
}
