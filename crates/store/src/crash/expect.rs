//! What a store must find in a directory that a crash has left: read from the bytes alone, record by record, as
//! `docs/store-format.md` says, without any of the code that recovers.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use forebay_model::{BLOCK, ContentId, ExtentIndex, PageIndex, block_count, block_sum, page_len};

use super::disk::Disk;
use super::life::{CONTENTS, id};
use crate::large::{self, pages_in};
use crate::log::{LOG, parse_header};
use crate::pack;
use crate::record::{Decoded, Record};

/// A page of a content.
pub(super) type Pages = BTreeSet<(u32, PageIndex)>;

/// What the log of a directory says.
#[derive(Default)]
struct Said {
    packs: HashMap<u32, u64>,
    small: HashMap<ContentId, (u32, u32, u32)>,
    large: HashMap<ContentId, Told>,
}

struct Told {
    size: u64,
    generation: u64,
    sums: BTreeMap<PageIndex, Vec<u64>>,
}

/// What must be read, and whether every byte that the log speaks of is right.
pub(super) struct Expected {
    pub(super) pages: Pages,
    pub(super) all_right: bool,
    /// Whether there is a log at all.
    pub(super) has_log: bool,
}

pub(super) fn expected(disk: &Disk) -> Expected {
    let said = said(disk);
    let mut expected = Expected { pages: Pages::new(), all_right: true, has_log: said.is_some() };
    let said = said.unwrap_or_default();
    for content in 0..CONTENTS {
        let id = id(content);
        if let Some((number, offset, len)) = said.small.get(&id) {
            let (name, group) = (pack::name(*number), said.packs[number]);
            let entry = disk.read(&name, (*offset).into(), pack::entry_len((*len).into()) as usize);
            let is_right = entry.is_some_and(|entry| pack::verify_entry(&entry, id, group, (*len).into()).is_some());
            // A file that is not there is nothing wrong: what lay in it is absent.
            expected.all_right &= is_right || !disk.names.contains_key(&name);
            if is_right {
                expected.pages.insert((content, PageIndex(0)));
            }
        }
        if let Some(told) = said.large.get(&id) {
            let name = large::name(id, told.generation);
            let is_right = |(page, sums): (&PageIndex, &Vec<u64>)| {
                let bytes = disk.read(&name, page.start(), page_len(told.size, *page) as usize);
                bytes.is_some_and(|bytes| {
                    bytes.chunks(BLOCK as usize).map(|block| block_sum(block).0).eq(sums.iter().copied())
                })
            };
            let is_there = disk.names.contains_key(&name);
            let wrong: Vec<_> =
                told.sums.iter().filter(|page| !is_right(*page)).map(|(page, _)| page.extent()).collect();
            expected.all_right &= !is_there || wrong.is_empty();
            // A damaged page takes its extent with it: nothing is written again in place.
            let served = told.sums.keys().filter(|page| !wrong.contains(&page.extent()));
            expected.pages.extend(served.map(|page| (content, *page)));
        }
    }
    expected
}

fn said(disk: &Disk) -> Option<Said> {
    let log = disk.read(LOG, 0, disk.length(LOG)? as usize)?;
    let (header, mut rest) = log.split_first_chunk()?;
    let (_, salt) = parse_header(header)?;
    let mut said = Said::default();
    while let Decoded::Record(record, len) = Record::decode(rest, salt) {
        said.add(record);
        rest = &rest[len..];
    }
    Some(said)
}

impl Said {
    fn add(&mut self, record: Record) {
        match record {
            Record::Pack { pack, group } => _ = self.packs.insert(pack, group),
            Record::Small { id, pack, offset, len, .. } => {
                if self.packs.contains_key(&pack) {
                    self.small.entry(id).or_insert((pack, offset, len));
                }
            }
            Record::SmallGone { id } => _ = self.small.remove(&id),
            Record::PackGone { pack: gone } => {
                self.packs.remove(&gone);
                self.small.retain(|_, (pack, ..)| *pack != gone);
            }
            Record::Large { id, size, generation, .. } => {
                self.large.insert(id, Told { size, generation, sums: BTreeMap::new() });
            }
            Record::Pages { id, extent, resident, sums, .. } => {
                let Some(told) = self.large.get_mut(&id) else { return };
                let mut rest = &sums[..];
                for page in pages_in(ExtentIndex(extent), resident) {
                    let (of_page, others) = rest.split_at(block_count(page_len(told.size, page)));
                    told.sums.insert(page, of_page.to_vec());
                    rest = others;
                }
            }
            Record::ExtentGone { id, extent, generation } => {
                let Some(told) = self.large.get_mut(&id) else { return };
                told.generation = generation;
                told.sums.retain(|page, _| page.extent() != ExtentIndex(extent));
            }
            Record::LargeGone { id } => _ = self.large.remove(&id),
            Record::Boot(_) | Record::Closed => {}
        }
    }
}
