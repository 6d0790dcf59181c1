//! One manifest: the index of it that answers, and whether it must be asked for or read anew.
//!
//! A manifest is asked for (by HEAD) when it was not for as long as half of its source's freshness, and read if it changed. Until the new
//! one was read whole the old one answers, but who asks within [`PATIENCE`] of the beginning waits for it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use forebay_catalog::Observed;
use forebay_manifest::{Index, ManifestError, Rules};
use forebay_model::{Fault, FaultKind, ManifestInfo};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::fault_of;
use super::files::ManifestFile;
use super::reading::Reading;
use crate::beside::in_place;
use crate::upstream::Upstream;

/// For how long a changed manifest is waited for, rather than answer from the old one: small ones are read by then.
const PATIENCE: Duration = Duration::from_secs(2);
/// A manifest that could not be read for a reason that may pass is not tried again before.
const AGAIN: Duration = Duration::from_secs(5);
/// How long the manifest's origin may take to tell its version.
const ASK_MAX: Duration = Duration::from_secs(30);
/// How long a source that is added waits for its manifest to be read.
pub(crate) const PROBE_PATIENCE: Duration = Duration::from_secs(5);

/// The objects of a source, as its manifest tells them.
pub(crate) struct Listed {
    pub(crate) origin: Arc<dyn Upstream>,
    pub(crate) file: ManifestFile,
    rules: Rules,
    path: PathBuf,
    /// How old what is known of the manifest's version may be. None: it is asked for once.
    every: Option<Duration>,
    runtime: Handle,
    state: Arc<Mutex<State>>,
    /// Held while the manifest's version is asked for.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The index of an earlier process was looked for.
    is_opened: bool,
    index: Option<Arc<Index>>,
    /// When somebody said that it may be another: what was asked for before does not answer.
    outdated: Option<Instant>,
    /// When the version was asked for that the index has.
    asked: Option<Instant>,
    reading: Option<Running>,
    failed: Option<Failed>,
}

impl State {
    /// Whether an answer to what was asked for then still stands.
    fn is_of_now(&self, asked: Instant) -> bool {
        self.outdated.is_none_or(|outdated| asked >= outdated)
    }
}

/// A manifest that is being read.
#[derive(Clone)]
struct Running {
    begun: Instant,
    lines: Arc<AtomicU64>,
    ended: watch::Receiver<()>,
}

struct Failed {
    version: String,
    fault: Fault,
    at: Instant,
}

impl Listed {
    pub(crate) fn new(
        origin: Arc<dyn Upstream>,
        file: ManifestFile,
        rules: Rules,
        path: PathBuf,
        every: Option<Duration>,
        runtime: Handle,
    ) -> Self {
        Self { origin, file, rules, path, every, runtime, state: Arc::default(), turn: tokio::sync::Mutex::default() }
    }

    /// What is known of it, and why it does not answer.
    pub(crate) fn info(&self) -> (ManifestInfo, Option<String>) {
        let state = self.state.lock();
        let lines = state.reading.as_ref().map(|reading| reading.lines.load(Ordering::Relaxed));
        let objects = state.index.as_ref().map(|index| index.facts().objects);
        let info = ManifestInfo {
            address: self.file.address.clone(),
            objects: objects.or(lines).unwrap_or(0),
            is_reading: lines.is_some(),
            is_read: objects.is_some(),
        };
        (info, state.failed.as_ref().map(|failed| failed.fault.message.clone()))
    }

    /// The index that answers for what was asked for already.
    pub(crate) fn known(&self) -> Option<Arc<Index>> {
        self.state.lock().index.clone()
    }

    /// The index that answers while a newer one is made.
    fn old(&self) -> Option<Arc<Index>> {
        let state = self.state.lock();
        let is_of_now = state.asked.map_or(state.outdated.is_none(), |asked| state.is_of_now(asked));
        state.index.clone().filter(|_| is_of_now)
    }

    /// Drops an index that turned out to be damaged: the next question reads the manifest anew.
    pub(crate) fn drop_damaged(&self, index: &Arc<Index>, error: ManifestError) -> Fault {
        if matches!(error, ManifestError::Damaged(_)) {
            let mut state = self.state.lock();
            if state.index.as_ref().is_some_and(|known| Arc::ptr_eq(known, index)) {
                tracing::warn!(manifest = self.file.address, %error, "it is read anew");
                (state.index, state.asked, state.is_opened) = (None, None, true);
            }
        }
        fault_of(error)
    }

    /// Asks for the manifest's version, whenever that was done last, and waits a while if it has to be read.
    pub(crate) async fn probe(&self) -> Result<(), Fault> {
        let begin = Instant::now();
        let reading = {
            let _turn = self.turn.lock().await;
            self.ask(begin + ASK_MAX, true).await?
        };
        if let Some(mut reading) = reading {
            let _ = tokio::time::timeout(PROBE_PATIENCE, reading.ended.changed()).await;
        }
        match &self.state.lock().failed {
            Some(failed) => Err(failed.fault.clone()),
            None => Ok(()),
        }
    }

    /// The index of the manifest as it is now, or was not longer ago than the source allows.
    pub(crate) async fn current(&self, deadline: Instant) -> Result<Arc<Index>, Fault> {
        let begin = Instant::now();
        loop {
            if let Some(index) = self.fresh(begin) {
                return Ok(index);
            }
            let reading = {
                let Ok(_turn) = tokio::time::timeout_at(deadline.into(), self.turn.lock()).await else {
                    return Err(self.too_late());
                };
                if let Some(index) = self.fresh(begin) {
                    return Ok(index);
                }
                self.ask(deadline, false).await?
            };
            let Some(mut reading) = reading else { continue };
            let old = self.old();
            let until = if old.is_some() { deadline.min(reading.begun + PATIENCE) } else { deadline };
            match (tokio::time::timeout_at(until.into(), reading.ended.changed()).await, old) {
                (Ok(_), _) => {}
                (Err(_), Some(old)) => return Ok(old),
                (Err(_), None) => return Err(self.too_late()),
            }
        }
    }

    /// The next question asks for the manifest's version, and waits until a new one was read.
    pub(crate) fn refresh(&self) {
        self.state.lock().outdated = Some(Instant::now());
    }

    fn fresh(&self, begin: Instant) -> Option<Arc<Index>> {
        let state = self.state.lock();
        let (index, asked) = (state.index.as_ref()?, state.asked.filter(|asked| state.is_of_now(*asked))?);
        let is_fresh = self.every.is_none_or(|every| asked >= begin || asked.elapsed() < every);
        is_fresh.then(|| Arc::clone(index))
    }

    /// Asks for the manifest's version. Gives the reading of it if there is one; none: the index is of that version.
    async fn ask(&self, deadline: Instant, is_forced: bool) -> Result<Option<Running>, Fault> {
        {
            let state = self.state.lock();
            if let Some(reading) = &state.reading {
                return Ok(Some(reading.clone()));
            }
        }
        self.open_index()?;
        let asked = Instant::now();
        if self.every.is_none() && !is_forced {
            let mut state = self.state.lock();
            if state.index.is_some() && state.outdated.is_none() {
                state.asked = Some(asked);
                return Ok(None);
            }
        }
        let seen = self.file.upstream.stat(&self.file.key, deadline.min(asked + ASK_MAX)).await;
        let seen = seen.map_err(|fault| self.named(&fault))?;
        let Observed::File(seen) = seen else {
            return Err(self.unavailable("there is no such manifest"));
        };
        let version = format!("{:?} {}", seen.version, seen.size);
        let mut state = self.state.lock();
        if state.index.as_ref().is_some_and(|index| index.facts().version == version) {
            (state.asked, state.failed) = (Some(asked), None);
            return Ok(None);
        }
        if let Some(failed) = state.failed.as_ref().filter(|failed| failed.version == version)
            && !is_forced
            && (failed.fault.kind == FaultKind::Invalid || failed.at.elapsed() < AGAIN)
        {
            return Err(failed.fault.clone());
        }
        let (sender, ended) = watch::channel(());
        let reading = Running { begun: asked, lines: Arc::default(), ended };
        state.reading = Some(reading.clone());
        let work = Reading {
            file: self.file.clone(),
            rules: self.rules.clone(),
            path: self.path.clone(),
            seen,
            version: version.clone(),
            lines: reading.lines.clone(),
        };
        let (state, address) = (Arc::clone(&self.state), self.file.address.clone());
        self.runtime.spawn(async move {
            let read = tokio::spawn(work.run()).await;
            let read = read.unwrap_or_else(|error| Err(Fault::new(FaultKind::Bug, format!("{address}: {error}"))));
            let mut state = state.lock();
            state.reading = None;
            match read {
                Ok(index) => {
                    let facts = index.facts();
                    let seconds = asked.elapsed().as_secs_f64();
                    tracing::info!(manifest = address, objects = facts.objects, seconds, "the manifest was read");
                    (state.index, state.asked, state.failed) = (Some(Arc::new(index)), Some(asked), None);
                }
                Err(fault) => {
                    tracing::warn!(manifest = address, %fault, "the manifest cannot be read");
                    state.failed = Some(Failed { version, fault, at: Instant::now() });
                }
            }
            drop(state);
            drop(sender);
        });
        Ok(Some(reading))
    }

    /// Takes the index that an earlier process made.
    fn open_index(&self) -> Result<(), Fault> {
        if self.state.lock().is_opened {
            return Ok(());
        }
        let index = in_place(|| Index::open(&self.path)).map_err(fault_of)?;
        let mut state = self.state.lock();
        (state.is_opened, state.index) = (true, index.map(Arc::new));
        Ok(())
    }

    fn too_late(&self) -> Fault {
        let lines = self.state.lock().reading.as_ref().map(|reading| reading.lines.load(Ordering::Relaxed));
        let what = match lines {
            Some(lines) => format!("the manifest {} is being read, {lines} lines so far: try again", self.file.address),
            None => format!("the manifest {} did not tell its version in time", self.file.address),
        };
        Fault::new(FaultKind::TimedOut, what)
    }

    fn unavailable(&self, what: &str) -> Fault {
        Fault::new(FaultKind::Unavailable, format!("{}: {what}", self.file.address))
    }

    /// A fault of the manifest's own origin: never the absence of what was asked for.
    fn named(&self, fault: &Fault) -> Fault {
        let kind = if fault.kind == FaultKind::NotFound { FaultKind::Unavailable } else { fault.kind };
        Fault::new(kind, format!("the manifest {}: {}", self.file.address, fault.message))
    }
}
