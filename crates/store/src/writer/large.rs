//! Pages of large contents: each to its place in the content's sparse file.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use forebay_model::{ContentId, PAGE, page_len};

use super::put::{Place, create};
use super::{What, Writer};
use crate::compact;
use crate::error::NotKept;
use crate::files::FileSlot;
use crate::large::{self, Extent, Large, bit};
use crate::queue::Fill;
use crate::read::Caching;
use crate::record::Record;
use crate::writeback::Target;

impl Writer {
    /// Writes a page of a large content. None: it is here already.
    pub(super) fn keep_page(&mut self, fill: &Fill) -> Result<Option<What>, NotKept> {
        let (page, bytes) = (fill.page, page_len(fill.size, fill.page));
        let known = self.shared.index.large(fill.id);
        if let Some(large) = &known {
            // Before the file is changed.
            let _ = self.directory.prove_large(large);
            if large.size != fill.size {
                return Err(NotKept::Invalid);
            }
            if large.directory != self.directory.index {
                return Err(NotKept::Elsewhere);
            }
            if let Some(extent) = large.extent(page.extent()) {
                if extent.is_resident(page) {
                    return Ok(None);
                }
                if extent.residency.written() & bit(page) != 0 {
                    // Damaged, or its record could not be written: never written again in place.
                    self.flush();
                    self.evict_extent(large, page.extent());
                }
            }
        }
        self.admit(fill)?;
        let protect = known.and_then(|large| large.extent(page.extent())).map(|extent| Arc::clone(&extent.unit));
        let group = self.directory.groups.get(fill.group.0);
        let newcomer = self.newcomer(fill, &group, protect.as_ref());
        self.make_room(bytes, newcomer)?;
        // Making room may have taken the content away, and another directory may have it since.
        let large = match self.shared.index.large(fill.id) {
            Some(large) if large.size != fill.size => return Err(NotKept::Invalid),
            Some(large) if large.directory != self.directory.index => return Err(NotKept::Elsewhere),
            Some(large) if self.has_file(&large) => large,
            Some(large) => {
                self.drop_large(&large);
                self.new_large(fill)?
            }
            None => self.new_large(fill)?,
        };
        let outcome = self.write_page(fill, &large);
        if outcome.is_ok() {
            self.record_page(fill);
        }
        if outcome.is_err() && large.extents.read().is_empty() {
            self.drop_large(&large);
        }
        outcome.map(|extent| Some(What::Page(large, extent, page)))
    }

    /// Whether a content's file is there: the log may speak of one that a crash has taken away, and nobody has read it since.
    fn has_file(&self, large: &Large) -> bool {
        match large.open(&self.directory.root, &self.shared.files) {
            Err(error) => error.kind() != io::ErrorKind::NotFound || self.directory.root.is_gone(),
            Ok(_) => true,
        }
    }

    fn new_large(&mut self, fill: &Fill) -> Result<Arc<Large>, NotKept> {
        let large = self.make_large((fill.id, fill.size, fill.group.0))?;
        if self.shared.index.insert_large(&large).is_err() {
            // Another directory's writer was first; an unlinked file is found by no index.
            let _ = self.directory.root.unlink(&large.name());
            return Err(NotKept::Elsewhere);
        }
        self.record_large(&large);
        Ok(large)
    }

    /// A large content with a file, which is in no index yet.
    pub(super) fn make_large(&mut self, (id, size, group): (ContentId, u64, u64)) -> Result<Arc<Large>, NotKept> {
        let mut generation = 0;
        let file = create(&self.directory, || {
            generation = self.shared.next_generation.fetch_add(1, Ordering::Relaxed);
            Ok(large::name(id, generation))
        });
        let file = FileSlot::holding(file.map_err(|error| self.failed(&error))?, &self.shared.files);
        Ok(Arc::new(Large::new((id, size, group), self.directory.index, generation, file)))
    }

    /// Says of a large content that is in the log not yet what of it is here.
    pub(super) fn record_whole(&mut self, large: &Large) {
        // It is broken off by nobody.
        let _ = compact::put_large(large, &mut |record| {
            self.record(record);
            Ok(())
        });
    }

    fn record_large(&mut self, large: &Large) {
        let generation = large.generation.load(Ordering::Acquire);
        self.record(&Record::Large { id: large.id, size: large.size, group: large.group, generation });
    }

    /// Writes a page into its file; no record speaks of it yet.
    pub(super) fn write_page(&mut self, fill: &Fill, large: &Arc<Large>) -> Result<Arc<Extent>, NotKept> {
        let (page, bytes) = (fill.page, page_len(fill.size, fill.page));
        let file = large.open(&self.directory.root, &self.shared.files).map_err(|error| self.failed(&error))?;
        let clock = self.directory.clock();
        let known = large.extent(page.extent()).map(|extent| Arc::clone(&extent.unit));
        let parts = || fill.chunks.iter().map(|chunk| &chunk[..]);
        let target = Target::Large(Arc::clone(large));
        let direct = if self.shared.fills == Caching::Drop && bytes == PAGE {
            large.open_direct(&self.directory.root, &self.shared.files).ok().flatten()
        } else {
            None
        };
        let to = Place { file: &file, direct, offset: page.start(), len: bytes };
        let group = self.directory.groups.get(large.group);
        let newcomer = self.newcomer(fill, &group, known.as_ref());
        self.write(to, parts, &target, Some(newcomer))?;
        if large.gone.load(Ordering::Acquire) {
            // Something was evicted for the write, and it was this file.
            return Err(NotKept::Full);
        }
        let extent = large.extent(page.extent()).unwrap_or_else(|| {
            let extent = Arc::new(Extent::new(&*self.directory, large, page.extent()));
            self.evictor.insert(Arc::clone(&extent.unit), self.directory.full.load(Ordering::Relaxed));
            large.extents.write().insert(page.extent().0, Arc::clone(&extent));
            extent
        });
        extent.residency.begin(bit(page));
        extent.unit.bytes.fetch_add(bytes, Ordering::Relaxed);
        extent.unit.touch(clock);
        self.directory.add_used(&extent.unit, bytes);
        for (known, sum) in extent.sums(page).iter().zip(&fill.sums) {
            known.store(sum.0, Ordering::Relaxed);
        }
        Ok(extent)
    }

    fn record_page(&mut self, fill: &Fill) {
        let sums = fill.sums.iter().map(|sum| sum.0).collect();
        let (page, bit) = (fill.page, bit(fill.page));
        self.record(&Record::Pages { id: fill.id, extent: page.extent().0, resident: bit, verified: bit, sums });
    }
}
