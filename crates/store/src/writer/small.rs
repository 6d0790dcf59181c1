//! Small objects: one after the other into packs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::put::{Place, create};
use super::{MAX_OPEN_PACKS, OpenPack, What, Writer};
use crate::error::NotKept;
use crate::files::FileSlot;
use crate::index::SmallPlace;
use crate::pack::{self, Pack};
use crate::queue::Fill;
use crate::record::Record;
use crate::victim::Newcomer;
use crate::writeback::Target;

impl Writer {
    /// Writes a small object. None: it is here already.
    pub(super) fn keep_small(&mut self, fill: &Fill) -> Result<Option<What>, NotKept> {
        if self.shared.index.small(fill.id).is_some() {
            return Ok(None);
        }
        let len = fill.size;
        let total = pack::entry_len(len);
        let group = self.directory.groups.get(fill.group.0);
        let newcomer = Newcomer { group: &group, protect: None };
        self.make_room(total, newcomer)?;
        let header = pack::entry_header(fill.id, fill.group.0, len as u32, &fill.sums);
        let at = self.open_pack(fill.group.0, total)?;
        let open = &self.open_packs[at];
        let parts = || std::iter::once(&header[..]).chain(fill.chunks.iter().map(|chunk| &chunk[..]));
        let (file, offset) = (Arc::clone(&open.file), open.len);
        let target = Target::Pack(Arc::clone(&open.pack));
        let to = Place { file: &file, direct: None, offset, len: total };
        self.write(to, parts, &target, newcomer)?;
        // Evicting for room does not touch an open pack: it stands where it stood.
        let clock = self.directory.clock();
        let open = &mut self.open_packs[at];
        open.len += total;
        open.pack.unit.bytes.fetch_add(total, Ordering::Relaxed);
        open.pack.unit.touch(clock);
        let pack = Arc::clone(&open.pack);
        self.directory.add_used(&pack.unit, total);
        let (number, offset) = (pack.number, offset as u32);
        let place = SmallPlace::new(pack.slot, offset, len as u32, true);
        self.record(&Record::Small { id: fill.id, pack: number, offset, len: len as u32, verified: true });
        Ok(Some(What::Small(fill.id, place, pack)))
    }

    /// The place in `open_packs` of a pack of `group` that has room for an entry.
    fn open_pack(&mut self, group: u64, entry: u64) -> Result<usize, NotKept> {
        if let Some(at) = self.open_packs.iter().position(|open| open.pack.group == group) {
            if self.open_packs[at].len + entry <= self.directory.pack_size.max(entry) {
                // The last is the one written last.
                let open = self.open_packs.remove(at);
                self.open_packs.push(open);
                return Ok(self.open_packs.len() - 1);
            }
            self.open_packs.remove(at);
        }
        if self.open_packs.len() >= MAX_OPEN_PACKS {
            self.open_packs.remove(0);
        }
        let number = &mut self.next_pack;
        let file = create(&self.directory, || {
            *number = number.checked_add(1).ok_or(io::ErrorKind::StorageFull)?;
            Ok(pack::name(*number))
        });
        let file = file.map_err(|error| self.failed(&error))?;
        let slot = self.shared.index.new_slot();
        let file = FileSlot::holding(file, &self.shared.files);
        let pack = Pack::new(&*self.directory, slot, self.next_pack, group, file);
        self.policy.insert(Arc::clone(&pack.unit), self.directory.full.load(Ordering::Relaxed));
        let file = pack.open(&self.directory.root, &self.shared.files).map_err(|error| self.failed(&error))?;
        self.record(&Record::Pack { pack: pack.number, group });
        self.shared.index.insert_pack(Arc::clone(&pack));
        self.open_packs.push(OpenPack { pack, file, len: 0 });
        Ok(self.open_packs.len() - 1)
    }
}
