//! Whole objects that are written to an origin: nobody sees one before it is whole.
//!
//! Object stores make an object visible when its one request, or the last one of its parts, is answered; a file is written under another
//! name and put in its place. One that is dropped before its end leaves nothing but, at an object store, parts that its
//! rules for unfinished uploads remove: end it by [`Upload::abort`].

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use opendal::Buffer;
use opendal::raw::OpWrite;
use opendal::raw::oio::{self, WriteDyn};

use crate::error::{OriginError, OriginErrorKind};
use crate::explain::explain;
use crate::files::Files;
use crate::metrics::{Op, OriginMetrics};
use crate::remote::{Remote, Try, Turn};
use crate::transport::{Notes, noting};
use crate::{Scheme, key, retry};

/// Bytes of one part: 10,000 of them, the most that S3 takes, are 160 GB.
const PART: usize = 16 << 20;
/// How long a part may take at least, retries included: at 140 kB/s.
const PART_TIME: Duration = Duration::from_secs(120);

/// An object that is being written.
pub struct Upload {
    engine: Engine,
    metrics: OriginMetrics,
}

pub(crate) enum Engine {
    Remote(Box<RemoteUpload>),
    File(FileUpload),
}

impl Upload {
    pub(crate) fn new(engine: Engine, metrics: OriginMetrics) -> Self {
        Self { engine, metrics }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// They cannot be written.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), OriginError> {
        let written = match &mut self.engine {
            Engine::Remote(upload) => Box::pin(upload.write(bytes)).await,
            Engine::File(upload) => upload.write(bytes).await,
        };
        written.inspect_err(|error| self.metrics.failed(error.kind))
    }

    /// All is written: the object is there when this returns.
    ///
    /// # Errors
    /// It cannot be ended. What was written may still have to be aborted.
    pub async fn finish(&mut self) -> Result<(), OriginError> {
        let finished = match &mut self.engine {
            Engine::Remote(upload) => Box::pin(upload.finish()).await,
            Engine::File(upload) => upload.finish().await,
        };
        finished.inspect_err(|error| self.metrics.failed(error.kind))
    }

    /// Takes away what was written, as far as the origin lets it.
    pub async fn abort(self) {
        if let Engine::Remote(mut upload) = self.engine {
            let time = upload.remote.settings.deadline;
            let _ = tokio::time::timeout(time, upload.writer.abort_dyn()).await;
        }
    }
}

/// An upload to a store behind OpenDAL.
pub(crate) struct RemoteUpload {
    remote: Arc<Remote>,
    key: Arc<str>,
    attempt: Try,
    writer: oio::Writer,
    waiting: BytesMut,
}

impl RemoteUpload {
    pub(crate) fn begin(remote: Arc<Remote>, object: &str) -> Result<Self, OriginError> {
        key::check_object(remote.scheme(), object)?;
        if !matches!(remote.scheme(), Scheme::S3 | Scheme::Gs | Scheme::Az | Scheme::Oss | Scheme::Cos) {
            let what = "Forebay does not write to this kind of origin: name another place";
            return Err(remote.error(Op::Put, object, OriginErrorKind::Unsupported, what));
        }
        let attempt = remote.attempt();
        let writer = attempt.service.write_dyn(&attempt.context, object, OpWrite::new()).map_err(|error| {
            let failure = explain(remote.scheme(), Op::Put, &error, &Notes::default());
            remote.error(Op::Put, object, failure.kind, &failure.what)
        })?;
        Ok(Self { key: object.into(), attempt, writer, waiting: BytesMut::new(), remote })
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), OriginError> {
        self.waiting.extend_from_slice(&bytes);
        while self.waiting.len() >= PART {
            let part = self.waiting.split_to(PART).freeze();
            self.put(Some(part)).await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), OriginError> {
        let rest = std::mem::take(&mut self.waiting).freeze();
        if !rest.is_empty() {
            self.put(Some(rest)).await?;
        }
        self.put(None).await
    }

    /// Gives a part to the writer, which keeps the newest and sends the one before; or ends it. What failed is given again.
    async fn put(&mut self, part: Option<Bytes>) -> Result<(), OriginError> {
        let deadline = Instant::now() + self.remote.settings.deadline.max(PART_TIME);
        let mut failures = 0;
        loop {
            let _turn: Turn = self.remote.turn(Op::Put, &self.key, deadline, None).await?;
            let notes = Arc::clone(&self.attempt.notes);
            *notes.lock() = Notes::default();
            let writer = &mut self.writer;
            let sent = async {
                match &part {
                    Some(part) => writer.write_dyn(Buffer::from(part.clone())).await,
                    None => writer.close_dyn().await.map(drop),
                }
            };
            let sent = tokio::time::timeout_at(deadline.into(), noting(Arc::clone(&notes), sent)).await;
            let failure = match sent {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => explain(self.remote.scheme(), Op::Put, &error, &notes.lock()),
                Err(_) => return Err(self.remote.out_of_time(Op::Put, &self.key, None)),
            };
            failures += 1;
            let wait = retry::wait(failures, rand::random(), failure.after);
            if !failure.retry || failures >= retry::MAX_ATTEMPTS || Instant::now() + wait >= deadline {
                return Err(self.remote.error(Op::Put, &self.key, failure.kind, &failure.what));
            }
            tokio::time::sleep(wait).await;
            self.remote.metrics.retries.inc();
        }
    }
}

/// A file that is written beside its place.
pub(crate) struct FileUpload {
    files: Files,
    key: Arc<str>,
    path: PathBuf,
    beside: PathBuf,
    file: Option<Arc<File>>,
}

impl FileUpload {
    pub(crate) async fn begin(files: Files, object: &str, deadline: Instant) -> Result<Self, OriginError> {
        let path = files.path(object, false)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let beside = path.with_file_name(format!(".{name}.{:016x}.part", rand::random::<u64>()));
        let (ours, of, target) = (files.clone(), object.to_owned(), beside.clone());
        let work = move || {
            if let Some(directory) = target.parent() {
                std::fs::create_dir_all(directory).map_err(|error| ours.explain(Op::Put, &of, &error))?;
            }
            File::create_new(&target).map_err(|error| ours.explain(Op::Put, &of, &error))
        };
        let file = files.run(Op::Put, object, deadline, work).await?;
        Ok(Self { files, key: object.into(), path, beside, file: Some(Arc::new(file)) })
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), OriginError> {
        self.work(move |file, _, _| (&*file).write_all(&bytes)).await
    }

    async fn finish(&mut self) -> Result<(), OriginError> {
        self.work(|file, beside, path| {
            file.sync_all()?;
            std::fs::rename(beside, path)?;
            match path.parent() {
                Some(directory) => File::open(directory)?.sync_all(),
                None => Ok(()),
            }
        })
        .await?;
        self.file = None;
        Ok(())
    }

    async fn work(
        &self,
        work: impl FnOnce(Arc<File>, &PathBuf, &PathBuf) -> std::io::Result<()> + Send + 'static,
    ) -> Result<(), OriginError> {
        let Some(file) = self.file.clone() else {
            return Err(self.files.error(Op::Put, &self.key, OriginErrorKind::Invalid, "it was ended"));
        };
        let (files, key, beside, path) =
            (self.files.clone(), Arc::clone(&self.key), self.beside.clone(), self.path.clone());
        let work = move || work(file, &beside, &path).map_err(|error| files.explain(Op::Put, &key, &error));
        self.files.run(Op::Put, &self.key, Instant::now() + PART_TIME, work).await
    }
}

impl Drop for FileUpload {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = std::fs::remove_file(&self.beside);
        }
    }
}
