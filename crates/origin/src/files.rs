//! A directory of this machine as an origin, read by the kernel: its times and inode numbers are stronger proof than what
//! OpenDAL passes on.
//!
//! Always true here: only regular files are opened, without waiting; a file is opened once and its descriptor compared
//! with the version before the first piece and after every piece, before the piece is given out; no key leads above the
//! root. Symbolic links are followed, wherever they lead; dangling ones are absent.
//!
//! Not here: protection from a program that sets times back, or that writes twice within one tick of the file system's
//! clock (at most 4 ms on Linux before 6.13).

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use forebay_model::{ByteRange, TimestampNs, Version};
use rustix::fs::{Mode, OFlags};
use tokio::sync::Semaphore;

use crate::error::{OriginError, OriginErrorKind};
use crate::metrics::{Op, OriginMetrics};
use crate::remote::Turn;
use crate::{ObjectMeta, OriginSettings, Scheme, key};

/// Bytes of one piece: a page of the cache.
const PIECE: usize = 1 << 20;

/// A directory as an origin. Keys are absolute paths without the leading slash.
#[derive(Clone)]
pub(crate) struct Files {
    pub(crate) settings: Arc<OriginSettings>,
    metrics: OriginMetrics,
    turns: Arc<Semaphore>,
}

impl Files {
    pub(crate) fn new(settings: OriginSettings, metrics: OriginMetrics) -> Self {
        let turns = Arc::new(Semaphore::new(settings.max_requests));
        Self { settings: Arc::new(settings), metrics, turns }
    }

    pub(crate) async fn stat(&self, object: &str, deadline: Instant) -> Result<ObjectMeta, OriginError> {
        let path = self.path(object, false)?;
        let name = object.to_owned();
        let files = self.clone();
        self.run(Op::Head, object, deadline, move || {
            let meta = std::fs::metadata(&path).map_err(|error| files.explain(Op::Head, &name, &error))?;
            describe(&meta)
                .ok_or_else(|| files.error(Op::Head, &name, OriginErrorKind::NotFound, "it is no regular file"))
        })
        .await
    }

    pub(crate) async fn has_prefix(&self, prefix: &str, deadline: Instant) -> Result<bool, OriginError> {
        let path = self.path(prefix, true)?;
        let name = prefix.to_owned();
        let files = self.clone();
        self.run(Op::List, prefix, deadline, move || match std::fs::metadata(&path) {
            Ok(meta) => Ok(meta.is_dir()),
            Err(error) => match files.explain(Op::List, &name, &error) {
                error if error.kind == OriginErrorKind::NotFound => Ok(false),
                error => Err(error),
            },
        })
        .await
    }

    /// Requests that could begin now.
    pub(crate) fn turns_free(&self) -> usize {
        self.turns.available_permits()
    }

    pub(crate) async fn read(
        &self,
        object: &str,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<FileRead, OriginError> {
        let path = self.path(object, false)?;
        let (files, name, wanted) = (self.clone(), object.to_owned(), version.clone());
        let file = self
            .run(Op::Get, object, deadline, move || {
                let io = |error: io::Error| files.explain(Op::Get, &name, &error);
                // Before it is opened: opening a device can act on it.
                let meta = std::fs::metadata(&path).map_err(io)?;
                if !meta.is_file() {
                    return Err(files.error(Op::Get, &name, OriginErrorKind::NotFound, "it is no regular file"));
                }
                let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
                let file = rustix::fs::open(&path, flags, Mode::empty()).map_err(|error| io(error.into()))?;
                let file = File::from(file);
                files.prove(&file, &name, &wanted, size)?;
                Ok(file)
            })
            .await?;
        Ok(FileRead {
            files: self.clone(),
            file: Arc::new(file),
            key: object.into(),
            version: version.clone(),
            size,
            position: range.start,
            end: range.end,
            deadline,
        })
    }

    /// Whether the root is there and can be listed.
    pub(crate) async fn probe(&self, deadline: Instant) -> Result<(), OriginError> {
        let root = self.settings.url.prefix().to_owned();
        let path = self.path(&root, true)?;
        let files = self.clone();
        self.run(Op::List, &root.clone(), deadline, move || {
            std::fs::read_dir(&path).map(drop).map_err(|error| files.explain(Op::List, &root, &error))
        })
        .await
    }

    /// The path of a key, if it is one of this origin.
    pub(crate) fn path(&self, key: &str, is_prefix: bool) -> Result<PathBuf, OriginError> {
        if is_prefix {
            key::check_prefix(Scheme::File, key)?;
        } else {
            key::check_object(Scheme::File, key)?;
        }
        if !key.starts_with(self.settings.url.prefix()) {
            let what = format!("it is not below {}", self.settings.url);
            return Err(self.error(Op::Head, key, OriginErrorKind::Invalid, &what));
        }
        Ok(PathBuf::from(format!("/{key}")))
    }

    /// Runs blocking `work` in its turn, until `deadline`. Work on a file system that hangs keeps its turn, so that no
    /// more than the cap of requests can ever hang.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        op: Op,
        object: &str,
        deadline: Instant,
        work: impl FnOnce() -> Result<T, OriginError> + Send + 'static,
    ) -> Result<T, OriginError> {
        self.run_counted(Some(op), op, object, deadline, work).await
    }

    async fn run_counted<T: Send + 'static>(
        &self,
        counted: Option<Op>,
        op: Op,
        object: &str,
        deadline: Instant,
        work: impl FnOnce() -> Result<T, OriginError> + Send + 'static,
    ) -> Result<T, OriginError> {
        let run = async {
            let permit = Arc::clone(&self.turns).acquire_owned().await.ok()?;
            let turn = Turn::new(permit, &self.metrics);
            if let Some(op) = counted {
                self.metrics.request(op, self.settings.injected_latency).await;
            }
            tokio::task::spawn_blocking(move || {
                let outcome = work();
                drop(turn);
                outcome
            })
            .await
            .ok()
        };
        match tokio::time::timeout_at(deadline.into(), run).await {
            Ok(Some(outcome)) => outcome,
            Ok(None) => Err(self.error(op, object, OriginErrorKind::Unavailable, "the runtime is shutting down")),
            Err(_) => Err(self.error(op, object, OriginErrorKind::TimedOut, "the file system did not answer in time")),
        }
    }

    fn prove(&self, file: &File, object: &str, version: &Version, size: u64) -> Result<(), OriginError> {
        let meta = file.metadata().map_err(|error| self.explain(Op::Get, object, &error))?;
        match describe(&meta) {
            Some(now) if now.version == *version && now.size == size => Ok(()),
            _ => Err(self.changed(object)),
        }
    }

    fn changed(&self, object: &str) -> OriginError {
        self.error(Op::Get, object, OriginErrorKind::Changed, "the file is no longer the version asked for")
    }

    pub(crate) fn explain(&self, op: Op, object: &str, error: &io::Error) -> OriginError {
        use rustix::io::Errno;
        let errno = error.raw_os_error().map(Errno::from_raw_os_error);
        match errno {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG) => {
                let root = format!("/{}", self.settings.url.prefix());
                if std::fs::metadata(&root).is_ok_and(|meta| meta.is_dir()) {
                    self.error(op, object, OriginErrorKind::NotFound, "no such file")
                } else {
                    // A file system that is not mounted must not pass for one whose files were all deleted.
                    let what = format!("the directory {root} is not there: check that it is mounted");
                    self.error(op, object, OriginErrorKind::Unavailable, &what)
                }
            }
            Some(Errno::ACCESS | Errno::PERM) => {
                let what = format!("{error}; let the user that Forebay runs as read it");
                self.error(op, object, OriginErrorKind::Denied, &what)
            }
            Some(Errno::STALE) => self.changed(object),
            _ => self.error(op, object, OriginErrorKind::Unavailable, &error.to_string()),
        }
    }

    pub(crate) fn error(&self, op: Op, object: &str, kind: OriginErrorKind, what: &str) -> OriginError {
        OriginError::new(kind, format!("{} file:///{object}: {what}", op.as_str().to_uppercase()))
    }
}

/// What is known of a file; None if it is no regular one.
pub(crate) fn describe(meta: &Metadata) -> Option<ObjectMeta> {
    if !meta.is_file() {
        return None;
    }
    let time =
        |seconds: i64, nanoseconds: i64| TimestampNs(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds));
    let mtime = time(meta.mtime(), meta.mtime_nsec());
    let ctime = time(meta.ctime(), meta.ctime_nsec());
    let size = meta.len();
    Some(ObjectMeta { size, mtime, version: Version::Stamp { mtime, size, file: Some((ctime, meta.ino())) } })
}

/// A read of a file under way.
pub(crate) struct FileRead {
    files: Files,
    file: Arc<File>,
    key: Arc<str>,
    version: Version,
    size: u64,
    position: u64,
    end: u64,
    deadline: Instant,
}

impl FileRead {
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, OriginError> {
        let left = self.end - self.position;
        if left == 0 {
            return Ok(None);
        }
        let length = PIECE.min(usize::try_from(left).unwrap_or(PIECE));
        let (files, file, position) = (self.files.clone(), Arc::clone(&self.file), self.position);
        let (name, version, size) = (Arc::clone(&self.key), self.version.clone(), self.size);
        let work = move || {
            let piece = read_exactly(&file, position, length).map_err(|error| files.explain(Op::Get, &name, &error))?;
            files.prove(&file, &name, &version, size)?;
            // The same size as before, and yet it ended early: not a file that can be trusted.
            piece.ok_or_else(|| files.changed(&name))
        };
        let piece = self.files.run_counted(None, Op::Get, &self.key, self.deadline, work).await?;
        self.position += piece.len() as u64;
        self.files.metrics.bytes.inc_by(piece.len() as u64);
        Ok(Some(piece))
    }
}

/// `length` bytes from `position`; None if the file ends before.
fn read_exactly(file: &File, position: u64, length: usize) -> io::Result<Option<Bytes>> {
    let mut piece = Vec::with_capacity(length);
    while piece.len() < length {
        let at = position + piece.len() as u64;
        match rustix::io::pread(file, rustix::buffer::spare_capacity(&mut piece), at) {
            Ok(0) => return Ok(None),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    piece.truncate(length);
    Ok(Some(Bytes::from(piece)))
}
