//! Many files and many ranges of each at the same time, within one bound of memory.

use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use forebay_client::Client;
use forebay_model::{FileEntry, NsPath, TimestampNs};
use tokio::sync::Semaphore;
use tokio::task::{JoinError, JoinSet};

use super::local::PartFile;
use crate::command::progress::Progress;
use crate::command::ranges;
use crate::failure::Failure;

/// Ranges in flight over all files: 16 x 4 MiB is the memory that a copy takes.
const RANGES_MAX: usize = 16;
/// Files in flight: small ones wait for answers, not for bandwidth.
const FILES_MAX: usize = 32;

/// The files in flight. Dropped, they stop and what they have half written is removed.
#[derive(Debug)]
pub(super) struct Transfers {
    client: Client,
    progress: Arc<Progress>,
    ranges: Arc<Semaphore>,
    files: JoinSet<Result<(), Failure>>,
    /// Files that could not be copied.
    pub(super) failed: usize,
}

impl Transfers {
    /// None in flight.
    pub(super) fn new(client: Client, progress: Arc<Progress>) -> Self {
        let ranges = Arc::new(Semaphore::new(RANGES_MAX));
        Self { client, progress, ranges, files: JoinSet::new(), failed: 0 }
    }

    /// Starts a file. If too many are in flight it waits for one of them, and returns its outcome.
    pub(super) async fn add(
        &mut self,
        path: NsPath,
        file: Arc<FileEntry>,
        target: PathBuf,
    ) -> Result<Option<Result<(), Failure>>, Failure> {
        let ended = if self.files.len() < FILES_MAX { None } else { self.next().await };
        let part = PartFile::create(target)?;
        let transfer = Transfer {
            client: self.client.clone(),
            progress: Arc::clone(&self.progress),
            ranges: Arc::clone(&self.ranges),
            path,
            file,
            part: Arc::new(part),
        };
        self.files.spawn(transfer.run());
        Ok(ended)
    }

    /// Waits for a file to end; none when none is in flight.
    pub(super) async fn next(&mut self) -> Option<Result<(), Failure>> {
        let outcome = self.files.join_next().await?;
        Some(outcome.unwrap_or_else(|error| Err(broken_off(&error))))
    }
}

struct Transfer {
    client: Client,
    progress: Arc<Progress>,
    ranges: Arc<Semaphore>,
    path: NsPath,
    file: Arc<FileEntry>,
    part: Arc<PartFile>,
}

impl Transfer {
    async fn run(self) -> Result<(), Failure> {
        let mut flight: JoinSet<Result<(), Failure>> = JoinSet::new();
        for range in ranges::ranges(self.file.content.size) {
            let permit = Arc::clone(&self.ranges).acquire_owned().await.expect("the semaphore is never closed");
            while let Some(outcome) = flight.try_join_next() {
                outcome.unwrap_or_else(|error| Err(broken_off(&error)))?;
            }
            let (client, file, part) = (self.client.clone(), Arc::clone(&self.file), Arc::clone(&self.part));
            let (path, progress) = (self.path.clone(), Arc::clone(&self.progress));
            flight.spawn(async move {
                let chunks =
                    ranges::read(&client, &file.content, range).await.map_err(|fault| Failure::fault(&path, &fault))?;
                write(part, range.start, chunks).await?;
                progress.add_bytes(range.len());
                drop(permit);
                Ok(())
            });
        }
        while let Some(outcome) = flight.join_next().await {
            outcome.unwrap_or_else(|error| Err(broken_off(&error)))?;
        }
        let part = Arc::into_inner(self.part).expect("every range has ended");
        if let Some(time) = modified(self.file.mtime) {
            part.file.set_modified(time).map_err(|error| part.refused(&error))?;
        }
        part.publish()?;
        self.progress.add_file();
        Ok(())
    }
}

/// Writes on a thread that may block.
async fn write(part: Arc<PartFile>, mut offset: u64, chunks: Vec<Bytes>) -> Result<(), Failure> {
    let write = move || {
        for chunk in chunks {
            part.file.write_all_at(&chunk, offset).map_err(|error| part.refused(&error))?;
            offset += chunk.len() as u64;
        }
        Ok(())
    };
    tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(broken_off(&error)))
}

fn modified(mtime: TimestampNs) -> Option<std::time::SystemTime> {
    u64::try_from(mtime.0).ok().filter(|nanos| *nanos > 0).map(|nanos| UNIX_EPOCH + Duration::from_nanos(nanos))
}

fn broken_off(error: &JoinError) -> Failure {
    Failure::failed(format!("a copy broke off: {error}"))
}
