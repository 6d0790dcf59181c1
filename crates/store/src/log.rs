//! The index log of one directory: what lies on it, written after the bytes themselves.
//!
//! Always true: the log is a header and whole records. A write that fails half-way is cut off again. It is written with
//! plain writes: a crash of the process loses nothing of it, a crash of the machine may tear it anywhere, which the
//! records' checksums show.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;

use forebay_model::block_sum;

use crate::device::{self, Root};
use crate::options::BootId;
use crate::read::Caching;
use crate::record::{Decoded, FRAME, Flaw, MAX_RECORD, Record};

/// The log's name in its directory.
pub(crate) const LOG: &str = "index.log";
/// The name of a log that is being rewritten.
const LOG_NEW: &str = "index.new";
const MAGIC: [u8; 8] = *b"FOREBAYI";
/// Version of the whole directory's format.
pub(crate) const VERSION: u32 = 1;
pub(crate) const HEADER: usize = 32;
/// Bytes read at a time.
const WINDOW: usize = 4 << 20;
/// Bytes collected before a rewritten log is written on.
const REWRITE_BUFFER: usize = 1 << 20;

/// The log, open for appending.
#[derive(Debug)]
pub(crate) struct Log {
    /// None: there was no room to make one.
    file: Option<OwnedFd>,
    salt: u64,
    len: u64,
}

/// A log as it was found, before its records are read.
#[derive(Debug)]
pub(crate) struct Found {
    log: Log,
    /// Its length with all that stands in it.
    size: u64,
    /// Bytes of another that was of no use.
    lost: u64,
}

/// What opening a log came to.
#[derive(Debug)]
pub(crate) enum Opened {
    /// It is there, or is new.
    Found(Found),
    /// A newer version of the format.
    Newer(u32),
}

/// What stands where a log should.
#[derive(Debug)]
pub(crate) enum Looked {
    /// No file.
    Nothing,
    /// No header of this format, or of an older one; the file's length.
    Useless(u64),
    /// A newer version of the format.
    Newer(u32),
    /// A header that is right; the log's salt, and its length with all that stands in it.
    Sound(OwnedFd, u64, u64),
}

/// Where a log's records end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) at: u64,
    /// What is wrong with that which stands there. None: the start of a record, or nothing.
    pub(crate) flaw: Option<Flaw>,
}

impl Found {
    /// Gives the records to `each` in order, as long as it says so. The log, and how many bytes at its end are no
    /// records: they are cut off when [`Log::begin_boot`] has said so. None: `each` broke it off.
    pub(crate) fn replay(
        self,
        root: &Root,
        each: impl FnMut(Record) -> ControlFlow<()>,
    ) -> io::Result<Option<(Log, u64)>> {
        let Self { mut log, size, lost } = self;
        let Some(file) = log.file.as_ref().filter(|_| size > log.len) else { return Ok(Some((log, lost))) };
        let Some(End { at: len, .. }) = replay(root, file, log.salt, size, each)? else { return Ok(None) };
        log.len = len;
        Ok(Some((log, lost + size - len)))
    }
}

impl Log {
    /// Opens the log of `root`, or makes one.
    pub(crate) fn open(root: &Root) -> io::Result<Opened> {
        let new = |lost| Self::empty(root).map(|log| Opened::Found(Found { size: log.len, log, lost }));
        match look(root, root.open_own(LOG))? {
            Looked::Sound(file, salt, size) => {
                let log = Self { file: Some(file), salt, len: HEADER as u64 };
                Ok(Opened::Found(Found { log, size, lost: 0 }))
            }
            Looked::Newer(version) => Ok(Opened::Newer(version)),
            Looked::Nothing => new(0),
            Looked::Useless(size) => new(size),
        }
    }

    fn empty(root: &Root) -> io::Result<Self> {
        match Self::rewrite(root, |_| Ok(())) {
            Err(error) if device::is_full(&error) => Ok(Self { file: None, salt: 0, len: 0 }),
            outcome => outcome,
        }
    }

    /// Says that nothing before was verified in this start of the machine, and cuts off what follows. In an order in which
    /// a process that is killed half-way leaves a log that is torn still, and so is not trusted either.
    pub(crate) fn begin_boot(&mut self, boot: BootId) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::ErrorKind::StorageFull.into()) };
        let mut record = Vec::new();
        Record::Boot(boot).encode(self.salt, &mut record);
        let end = self.len + record.len() as u64;
        let size = rustix::fs::fstat(file)?.st_size as u64;
        if size > self.len {
            // No record is all zeros: what stands behind must not be taken for what follows this one.
            device::write_all_at(file, [&[0; FRAME][..]], end)?;
        }
        device::write_all_at(file, [&record[..]], self.len)?;
        device::truncate(file, end)?;
        self.len = end;
        Ok(())
    }

    /// A new log that holds what `write` gives, in place of the old one. If it fails the old one stands.
    pub(crate) fn rewrite(
        root: &Root,
        write: impl FnOnce(&mut dyn FnMut(&Record) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let outcome = Self::write_new(root, write);
        if outcome.is_err() {
            // It may not exist; and a rewrite that comes later begins it anew.
            let _ = root.unlink(LOG_NEW);
        }
        outcome
    }

    fn write_new(
        root: &Root,
        write: impl FnOnce(&mut dyn FnMut(&Record) -> io::Result<()>) -> io::Result<()>,
    ) -> io::Result<Self> {
        let file = root.open_or_create(LOG_NEW)?;
        device::truncate(&file, 0)?;
        let salt = RandomState::new().build_hasher().finish();
        let mut len = 0;
        let mut buffer = header(salt);
        let mut put = |record: &Record| {
            record.encode(salt, &mut buffer);
            if buffer.len() >= REWRITE_BUFFER {
                device::write_all_at(&file, [&buffer[..]], len)?;
                len += buffer.len() as u64;
                buffer.clear();
            }
            Ok(())
        };
        write(&mut put)?;
        device::write_all_at(&file, [&buffer[..]], len)?;
        len += buffer.len() as u64;
        device::sync_data(&file)?;
        root.rename(LOG_NEW, LOG)?;
        root.sync()?;
        Ok(Self { file: Some(file), salt, len })
    }

    /// Appends records that [`Self::encode`] made: all or none.
    pub(crate) fn append(&mut self, records: &[u8]) -> io::Result<()> {
        let Some(file) = &self.file else { return Err(io::ErrorKind::StorageFull.into()) };
        match device::write_all_at(file, [records], self.len) {
            Ok(()) => {
                self.len += records.len() as u64;
                Ok(())
            }
            Err(error) => {
                // What follows a torn record would never be read again. The next append overwrites it in any case.
                let _ = device::truncate(file, self.len);
                Err(error)
            }
        }
    }

    /// Appends a record's bytes to `out`, for [`Self::append`].
    pub(crate) fn encode(&self, record: &Record, out: &mut Vec<u8>) {
        record.encode(self.salt, out);
    }

    /// Says that nothing on the directory was changed after the log was.
    pub(crate) fn end(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), device::touch)
    }

    /// Length in bytes.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Whether somebody removed it.
    pub(crate) fn is_gone(&self) -> bool {
        self.file.as_ref().is_some_and(device::is_unlinked)
    }

    /// Writes it to the disk.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.as_ref().map_or(Ok(()), device::sync_data)
    }
}

pub(crate) fn header(salt: u64) -> Vec<u8> {
    let mut header = Vec::with_capacity(HEADER);
    header.extend_from_slice(&MAGIC);
    header.extend_from_slice(&VERSION.to_le_bytes());
    header.extend_from_slice(&[0; 4]);
    header.extend_from_slice(&salt.to_le_bytes());
    let sum = block_sum(&header).0;
    header.extend_from_slice(&sum.to_le_bytes());
    header
}

/// Version and salt of a header that is whole.
pub(crate) fn parse_header(header: &[u8; HEADER]) -> Option<(u32, u64)> {
    let field = |at: usize| header[at..at + 8].try_into().map(u64::from_le_bytes).ok();
    let sound = header[..8] == MAGIC && field(24)? == block_sum(&header[..24]).0;
    sound.then_some((field(8)? as u32, field(16)?))
}

/// What a file that was to be opened as a log holds. Changes nothing.
pub(crate) fn look(root: &Root, opened: io::Result<OwnedFd>) -> io::Result<Looked> {
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Looked::Nothing),
        Err(error) => return Err(error),
    };
    let size = rustix::fs::fstat(&file)?.st_size as u64;
    let mut header = [0; HEADER];
    let whole = root.read_at(&file, &mut header, 0, Caching::Keep)?;
    Ok(match parse_header(&header) {
        Some((VERSION, salt)) if whole => Looked::Sound(file, salt, size),
        Some((version, _)) if whole && version > VERSION => Looked::Newer(version),
        _ => Looked::Useless(size),
    })
}

/// Gives the records after the header to `each`; where they end. Changes nothing. None: `each` broke it off.
pub(crate) fn replay(
    root: &Root,
    file: &OwnedFd,
    salt: u64,
    size: u64,
    mut each: impl FnMut(Record) -> ControlFlow<()>,
) -> io::Result<Option<End>> {
    const { assert!(WINDOW > 2 * MAX_RECORD, "a window holds any record") };
    let mut window = Vec::new();
    let mut at = HEADER as u64;
    let mut used = 0;
    loop {
        match Record::decode(&window[used..], salt) {
            Decoded::Record(record, len) => {
                if each(record).is_break() {
                    return Ok(None);
                }
                used += len;
            }
            Decoded::Bad(flaw) => return Ok(Some(End { at: at + used as u64, flaw: Some(flaw) })),
            Decoded::Short => {
                at += used as u64;
                let left = size.saturating_sub(at);
                let kept = window.len() - used;
                if left <= kept as u64 {
                    return Ok(Some(End { at, flaw: None }));
                }
                used = 0;
                window.resize(left.min(WINDOW as u64) as usize, 0);
                if !root.read_at(file, &mut window, at, Caching::Keep)? {
                    return Ok(Some(End { at, flaw: None }));
                }
            }
        }
    }
}
