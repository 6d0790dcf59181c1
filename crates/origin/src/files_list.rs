//! One directory's names, in batches.

use std::fs::ReadDir;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tokio::sync::Mutex;

use crate::error::{OriginError, OriginErrorKind};
use crate::files::{Files, describe};
use crate::listing::{BATCH, Listed};
use crate::metrics::Op;

/// A listing of a directory under way.
pub(crate) struct FilesList {
    files: Files,
    prefix: Arc<str>,
    state: Arc<Mutex<State>>,
    hidden: Arc<AtomicU64>,
    ended: bool,
}

/// Kept apart from the call, so that a call that is dropped loses no entry. Its lock is held by the thread that reads,
/// which may hang with its file system: whoever waits for it waits until a deadline.
#[derive(Default)]
struct State {
    reader: Option<ReadDir>,
    batch: Vec<Listed>,
    ended: bool,
}

impl FilesList {
    pub(crate) fn new(files: Files, prefix: &str) -> Self {
        Self { files, prefix: prefix.into(), state: Arc::default(), hidden: Arc::default(), ended: false }
    }

    pub(crate) fn hidden(&self) -> u64 {
        self.hidden.load(Ordering::Relaxed)
    }

    pub(crate) async fn next_batch(&mut self) -> Result<Option<Vec<Listed>>, OriginError> {
        if self.ended {
            return Ok(None);
        }
        let deadline = Instant::now() + self.files.settings.deadline;
        let Ok(mut state) = tokio::time::timeout_at(deadline.into(), Arc::clone(&self.state).lock_owned()).await else {
            let what = "the file system did not answer in time";
            return Err(self.files.error(Op::List, &self.prefix, OriginErrorKind::TimedOut, what));
        };
        let (files, prefix, hidden) = (self.files.clone(), Arc::clone(&self.prefix), Arc::clone(&self.hidden));
        let work = move || fill(&files, &prefix, &mut state, &hidden);
        self.files.run(Op::List, &self.prefix, deadline, work).await?;
        let mut state = self.state.lock().await;
        self.ended = state.ended;
        Ok(if state.batch.is_empty() { None } else { Some(std::mem::take(&mut state.batch)) })
    }
}

fn fill(files: &Files, prefix: &str, state: &mut State, hidden: &AtomicU64) -> Result<(), OriginError> {
    if state.ended {
        return Ok(());
    }
    let reader = match state.reader.take() {
        Some(reader) => reader,
        None => match std::fs::read_dir(files.path(prefix, true)?) {
            Ok(reader) => reader,
            Err(error) => {
                let error = files.explain(Op::List, prefix, &error);
                // As in an object store: what does not exist has no names.
                state.ended = error.kind == OriginErrorKind::NotFound;
                return if state.ended { Ok(()) } else { Err(error) };
            }
        },
    };
    let reader = state.reader.insert(reader);
    while state.batch.len() < BATCH {
        let Some(entry) = reader.next() else {
            state.ended = true;
            return Ok(());
        };
        let entry = entry.map_err(|error| files.explain(Op::List, prefix, &error))?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
            hidden.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let key = format!("{prefix}{name}");
        // Follows links, as a read does.
        match std::fs::metadata(entry.path()) {
            Ok(meta) if meta.is_dir() => state.batch.push(Listed::Prefix { key: format!("{key}/").into() }),
            Ok(meta) => match describe(&meta) {
                Some(meta) => state.batch.push(Listed::Object { key: key.into(), meta }),
                None => {
                    hidden.fetch_add(1, Ordering::Relaxed);
                }
            },
            // Deleted since, or a link that leads nowhere.
            Err(error) if is_absent(&error) => {}
            Err(error) => return Err(files.explain(Op::List, &key, &error)),
        }
    }
    Ok(())
}

fn is_absent(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NAMETOOLONG))
}
