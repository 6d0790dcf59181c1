//! Opening the database: whether what is there may be trusted.
//!
//! Commits do not wait for the disk, so after a crash of the machine a file may be torn. A marker beside it says whether it
//! was written to since it was last synced, and in which boot: open in another boot means torn, and it is thrown away. It is a
//! cache: what is lost is asked for again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use forebay_model::bytes::Take;
use heed::types::Bytes;
use heed::{EnvFlags, EnvOpenOptions, RwTxn};
use parking_lot::{Condvar, Mutex};

use super::queue::Queue;
use super::{Disk, Env, Table, check};
use crate::CatalogError;
use crate::clock::{Clock, Moment, Saved};
use crate::metrics::Metrics;
use crate::record;

const DATABASE: &str = "data.mdb";
const LOCK: &str = "lock.mdb";
const MARKER: &str = "marker";
/// What is kept has this form; another is thrown away.
const FORMAT: u32 = 2;
/// Those who may read at once: the threads of a mount, and those that a runtime has for work that waits.
const READERS_MAX: u32 = 2_048;
const META: &[u8] = b"M";

pub(super) fn open(directory: PathBuf, size_max: u64, metrics: Metrics) -> Result<Disk, CatalogError> {
    fs::create_dir_all(&directory).map_err(CatalogError::new)?;
    let (began, now) = (Instant::now(), Moment::now());
    // LMDB maps whole pages.
    let size_max = (size_max >> 20 << 20).max(4 << 20);
    let trusted = is_trusted(&directory, &now.boot, size_max);
    if !trusted {
        wipe(&directory)?;
    }
    mark(&directory, Some(&now.boot)).map_err(CatalogError::new)?;
    let opened = environment(&directory, size_max).or_else(|error| {
        tracing::warn!(%error, "the catalog's database is damaged; it is begun anew");
        metrics.damaged.inc();
        wipe(&directory)?;
        environment(&directory, size_max)
    });
    let (env, table) = opened?;
    let (saved, starts, next_id) = read_meta(&env, table).unwrap_or((None, 0, 1));
    let clock = Clock::resume(saved.as_ref(), &now, began);
    let disk = Disk {
        env,
        table,
        directory,
        size_max,
        clock,
        starts: starts + 1,
        next_id: AtomicU64::new(next_id),
        queue: Mutex::new(Queue::default()),
        work: Condvar::new(),
        written: Condvar::new(),
        is_distrusted: AtomicBool::new(false),
        metrics,
    };
    let mut txn = disk.env.write_txn().map_err(CatalogError::new)?;
    disk.put_meta(&mut txn).and_then(|()| txn.commit()).map_err(CatalogError::new)?;
    let mut dead = Vec::new();
    disk.read(|reading| {
        reading.scan(b"D", |key, _| {
            dead.extend(key.get(1..9).and_then(|id| Some(u64::from_be_bytes(id.try_into().ok()?))));
            true
        })
    });
    disk.queue.lock().dead.extend(dead);
    Ok(disk)
}

/// Whether the file in `directory` can be opened: it was synced, or written in this boot by a process that ended.
fn is_trusted(directory: &Path, boot: &[u8; 16], size_max: u64) -> bool {
    let path = directory.join(DATABASE);
    let Ok(file) = fs::metadata(&path) else { return false };
    if file.len() > size_max {
        tracing::info!("the catalog may be smaller than it is: it is begun anew");
        return false;
    }
    let marker = fs::read_to_string(directory.join(MARKER)).unwrap_or_default();
    let is_of_this_boot = *boot != [0; 16] && marker == text(Some(boot));
    if marker != text(None) && !is_of_this_boot {
        tracing::warn!("the machine stopped while the catalog was written: it is begun anew");
        return false;
    }
    match check::check(&path, size_max) {
        Ok(()) => true,
        Err(error) => {
            tracing::warn!(%error, "the catalog's database is damaged; it is begun anew");
            false
        }
    }
}

/// Writes the marker, durably. With a boot: the file is being written. Without: it is synced.
fn mark(directory: &Path, boot: Option<&[u8; 16]>) -> io::Result<()> {
    let mut file = File::create(directory.join(MARKER))?;
    file.write_all(text(boot).as_bytes())?;
    file.sync_all()?;
    File::open(directory)?.sync_all()
}

fn text(boot: Option<&[u8; 16]>) -> String {
    match boot {
        Some(boot) => format!("forebay catalog {FORMAT} open {:032x}\n", u128::from_be_bytes(*boot)),
        None => format!("forebay catalog {FORMAT} synced\n"),
    }
}

fn wipe(directory: &Path) -> Result<(), CatalogError> {
    for name in [DATABASE, LOCK] {
        match fs::remove_file(directory.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(CatalogError::new(error)),
            _ => {}
        }
    }
    Ok(())
}

#[expect(unsafe_code, reason = "LMDB maps its file: whoever opens it promises that nobody else changes it")]
fn environment(directory: &Path, size_max: u64) -> Result<(Env, Table), CatalogError> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(size_max as usize).max_readers(READERS_MAX);
    // SAFETY: the flags only leave out syncing and reading ahead. The file lies in the node's state directory, which the node
    // has for itself; it is changed through LMDB alone, its structure was checked, and one environment of it is open at a time.
    let env = unsafe {
        options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC | EnvFlags::NO_READ_AHEAD);
        options.open(directory).map_err(CatalogError::new)?
    };
    let mut txn = env.write_txn().map_err(CatalogError::new)?;
    let table = env.create_database::<Bytes, Bytes>(&mut txn, None).map_err(CatalogError::new)?;
    // What is damaged where it is written to shows now.
    if let Some(meta) = table.get(&txn, META).map_err(CatalogError::new)?.map(<[u8]>::to_vec) {
        table.put(&mut txn, META, &meta).map_err(CatalogError::new)?;
    }
    txn.commit().map_err(CatalogError::new)?;
    Ok((env, table))
}

fn read_meta(env: &Env, table: Table) -> Option<(Option<Saved>, u64, u64)> {
    let txn = env.read_txn().ok()?;
    let mut take = record::open(META, table.get(&txn, META).ok()??)?;
    let (starts, next_id) = (take.u64()?, take.u64()?);
    Some((Saved::take(&mut Take(take.0)), starts, next_id))
}

impl Disk {
    pub(super) fn put_meta(&self, txn: &mut RwTxn<'_>) -> heed::Result<()> {
        let mut out = vec![0; 8];
        out.extend_from_slice(&self.starts.to_le_bytes());
        out.extend_from_slice(&self.next_id.load(Ordering::Relaxed).to_le_bytes());
        self.clock.save().put(&mut out);
        self.table.put(txn, META, &record::seal(META, out))
    }

    /// What is in the file is older than what was known: the next start is not to use it.
    pub(super) fn distrust(&self) {
        self.is_distrusted.store(true, Ordering::Relaxed);
        if let Err(error) = fs::remove_file(self.directory.join(MARKER)) {
            tracing::warn!(%error, "the catalog's marker could not be removed");
        }
    }

    /// Says that the file is whole on disk. Nothing is written after that.
    pub(crate) fn sync(&self) {
        if self.is_distrusted.load(Ordering::Relaxed) {
            return;
        }
        let synced = self.env.force_sync().map_err(io::Error::other).and_then(|()| mark(&self.directory, None));
        if let Err(error) = synced {
            tracing::warn!(%error, "the catalog could not be synced");
        }
    }
}
