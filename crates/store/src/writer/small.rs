//! Small objects: one after the other into packs.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::put::{Place, create};
use super::{MAX_OPEN_PACKS, OpenPack, What, Writer};
use crate::error::NotKept;
use crate::files::FileSlot;
use crate::index::SmallPlace;
use crate::pack::{self, Kind, Pack};
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
        self.admit(fill)?;
        let len = fill.size;
        let room = pack::entry_room(len);
        let group = self.directory.groups.get(fill.group.0);
        let newcomer = self.newcomer(fill, &group, None);
        self.make_room(room, newcomer)?;
        let header = pack::entry_header(fill.id, fill.group.0, len as u32, &fill.sums);
        let parts = || std::iter::once(&header[..]).chain(fill.chunks.iter().map(|chunk| &chunk[..]));
        let at = self.open_pack(fill.group.0, Kind::New, room)?;
        let (pack, offset) = self.append(at, len, parts, Some(newcomer))?;
        let place = SmallPlace::new(pack.slot, offset, len as u32, true);
        self.record(&Record::Small { id: fill.id, pack: pack.number, offset, len: len as u32, verified: true });
        Ok(Some(What::Small(fill.id, place, pack)))
    }

    /// Appends the entry of an object of `len` bytes to an open pack: the pack, and where it starts there.
    pub(super) fn append<'a, I: Iterator<Item = &'a [u8]>>(
        &mut self,
        at: usize,
        len: u64,
        parts: impl Fn() -> I,
        newcomer: Option<Newcomer<'_>>,
    ) -> Result<(Arc<Pack>, u32), NotKept> {
        let open = &self.open_packs[at];
        let (file, pack) = (Arc::clone(&open.file), Arc::clone(&open.pack));
        let end = pack.len.load(Ordering::Relaxed);
        let filler = pack::filler(pack::filler_len(end, len), pack.group);
        let offset = end + filler.len() as u64;
        let total = filler.len() as u64 + pack::entry_len(len);
        let target = Target::Pack(Arc::clone(&pack));
        let to = Place { file: &file, direct: None, offset: end, len: total };
        // Shorter lives than the caller's, for the filler's sake.
        let all = || std::iter::once(&filler[..]).chain(parts().map(|part| -> &[u8] { part }));
        self.write(to, all, &target, newcomer)?;
        pack.len.fetch_add(total, Ordering::Relaxed);
        pack.unit.bytes.fetch_add(total, Ordering::Relaxed);
        pack.unit.touch(self.directory.clock());
        self.directory.add_used(&pack.unit, total);
        if end < offset {
            self.free_range(&pack, end..offset);
        }
        Ok((pack, offset as u32))
    }

    /// The place in `open_packs` of a pack of `group` that has that much room.
    pub(super) fn open_pack(&mut self, group: u64, kind: Kind, room: u64) -> Result<usize, NotKept> {
        if let Some(at) = self.open_packs.iter().position(|open| open.pack.group == group && open.kind == kind) {
            let len = self.open_packs[at].pack.len.load(Ordering::Relaxed);
            if len + room <= self.directory.pack_size.max(room) {
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
        let is_tried = kind == Kind::New && self.directory.full.load(Ordering::Relaxed);
        self.evictor.insert(Arc::clone(&pack.unit), is_tried);
        let file = pack.open(&self.directory.root, &self.shared.files).map_err(|error| self.failed(&error))?;
        self.record(&Record::Pack { pack: pack.number, group });
        self.shared.index.insert_pack(&pack);
        self.open_packs.push(OpenPack { pack, file, kind });
        Ok(self.open_packs.len() - 1)
    }
}
