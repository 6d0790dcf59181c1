//! Asks for the pages that the board wants, and hands out what comes.
//!
//! One task has the board; each request is a task of its own, so pages are read side by side. The channel is bounded: when
//! nobody takes the parts, no pages are asked for. When the listing is dropped all its tasks end, and their requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};

use super::board::{Board, Next, Problem, RangeId};
use super::span::{KeySpan, Part};
use crate::error::{OriginError, OriginErrorKind};
use crate::listing::Listing;
use crate::metrics::{Op, OriginMetrics};
use crate::pages::{Page, Pager, RemotePager};
use crate::remote::Remote;

/// Parts on their way to the receiver: 16 of 1000 entries of about 300 bytes are 5 MB, and each lister may hold one more.
pub(super) const PARTS: usize = 16;

type Message = Option<Result<Part, OriginError>>;

/// A listing by many listers. It is whole when `next` gives `None`, and at no other time: after an error it gives the same
/// error for ever. Which ranges were covered until then, the parts say: a new listing of the gaps goes on from there.
pub struct PartListing {
    engine: Engine,
    metrics: OriginMetrics,
    failed: Option<OriginError>,
}

enum Engine {
    Parallel { parts: mpsc::Receiver<Message>, has_ended: bool, task: AbortHandle },
    Whole { listing: Box<Listing>, gaps: Vec<KeySpan> },
    Refused(OriginError),
}

impl PartListing {
    pub(crate) fn parallel(remote: &Arc<Remote>, prefix: &str, gaps: Vec<KeySpan>, is_deep: bool) -> Self {
        let settings = &remote.settings;
        let board = Board::new(prefix, gaps, settings.listers.min(settings.max_requests));
        let pager = Arc::new(RemotePager::new(Arc::clone(remote), prefix, is_deep));
        let give_up = {
            let (remote, prefix) = (Arc::clone(remote), prefix.to_owned());
            move |problem: Problem| {
                if problem == Problem::Disorder {
                    remote.lists_in_disorder.store(true, Ordering::Relaxed);
                }
                remote.error(Op::List, &prefix, OriginErrorKind::Unavailable, &format!("{problem}; list again"))
            }
        };
        Self::begin(pager, board, remote.metrics.clone(), give_up)
    }

    /// Starts a listing by `board`. `give_up` makes its problems errors.
    pub(super) fn begin<P: Pager>(
        pager: Arc<P>,
        board: Board,
        metrics: OriginMetrics,
        give_up: impl Fn(Problem) -> OriginError + Send + 'static,
    ) -> Self {
        let (sender, parts) = mpsc::channel(PARTS);
        let counters = metrics.clone();
        let task = tokio::spawn(async move {
            let end = run(pager, board, &counters, &sender, give_up).await.err().map(Err);
            // Nobody listens: nobody needs to know.
            let _ = sender.send(end).await;
        });
        Self::new(Engine::Parallel { parts, has_ended: false, task: task.abort_handle() }, metrics)
    }

    /// One that is listed in no order: nothing is covered before its end.
    pub(crate) fn whole(listing: Listing, gaps: Vec<KeySpan>, metrics: OriginMetrics) -> Self {
        Self::new(Engine::Whole { listing: Box::new(listing), gaps }, metrics)
    }

    pub(crate) fn refused(error: OriginError, metrics: OriginMetrics) -> Self {
        Self::new(Engine::Refused(error), metrics)
    }

    fn new(engine: Engine, metrics: OriginMetrics) -> Self {
        Self { engine, metrics, failed: None }
    }

    /// The next part; None when all is covered. A call that is dropped loses nothing.
    pub async fn next(&mut self) -> Result<Option<Part>, OriginError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let next = match &mut self.engine {
            Engine::Parallel { parts, has_ended, .. } => next_of(parts, has_ended).await,
            Engine::Whole { listing, gaps } => {
                // It counts its errors itself.
                return Box::pin(next_of_whole(listing, gaps)).await.inspect_err(|e| self.failed = Some(e.clone()));
            }
            Engine::Refused(error) => Err(error.clone()),
        };
        next.inspect_err(|error| {
            self.metrics.failed(error.kind);
            self.failed = Some(error.clone());
        })
    }

    /// Names passed over so far because they cannot be read: not UTF-8, or sockets, devices and pipes.
    pub fn hidden(&self) -> u64 {
        match &self.engine {
            Engine::Whole { listing, .. } => listing.hidden(),
            Engine::Parallel { .. } | Engine::Refused(_) => 0,
        }
    }
}

impl Drop for PartListing {
    fn drop(&mut self) {
        if let Engine::Parallel { task, .. } = &self.engine {
            task.abort();
        }
    }
}

async fn next_of(parts: &mut mpsc::Receiver<Message>, has_ended: &mut bool) -> Result<Option<Part>, OriginError> {
    if *has_ended {
        return Ok(None);
    }
    match parts.recv().await {
        Some(Some(part)) => part.map(Some),
        Some(None) => {
            *has_ended = true;
            Ok(None)
        }
        // Only an end that is said is one.
        None => Err(OriginError::new(
            OriginErrorKind::Unavailable,
            "LIST: the task of the listing ended too early; list again",
        )),
    }
}

async fn next_of_whole(listing: &mut Listing, gaps: &[KeySpan]) -> Result<Option<Part>, OriginError> {
    while let Some(mut entries) = listing.next_batch().await? {
        entries.retain(|entry| gaps.iter().any(|gap| gap.contains(entry.key())));
        if !entries.is_empty() {
            return Ok(Some(Part { covered: None, entries }));
        }
    }
    Ok(None)
}

type Asked<P> = (RangeId, Result<(Page, <P as Pager>::Pages), OriginError>);

async fn run<P: Pager>(
    pager: Arc<P>,
    mut board: Board,
    metrics: &OriginMetrics,
    parts: &mpsc::Sender<Message>,
    give_up: impl Fn(Problem) -> OriginError,
) -> Result<(), OriginError> {
    let mut jobs: JoinSet<Asked<P>> = JoinSet::new();
    let ask = |jobs: &mut JoinSet<Asked<P>>, id, pages| {
        let pager = Arc::clone(&pager);
        jobs.spawn(async move { (id, pager.next(pages).await) });
    };
    while !board.is_covered() {
        let steals = board.steals();
        while let Some(job) = board.next_job() {
            ask(&mut jobs, job.id, pager.pages(&job.after));
        }
        metrics.list_steals.inc_by(board.steals() - steals);
        let Some(asked) = jobs.join_next().await else { return Err(give_up(Problem::Stuck)) };
        let (id, answer) = asked.map_err(|died| {
            OriginError::new(OriginErrorKind::Unavailable, format!("LIST: the task of a page ended too early: {died}"))
        })?;
        let (page, pages) = answer?;
        let (part, next) = board.took(id, page).map_err(&give_up)?;
        // First the next request, then the part, which may have to wait.
        if next == Next::Page {
            ask(&mut jobs, id, pages);
        }
        if let Some(part) = part
            && parts.send(Some(Ok(part))).await.is_err()
        {
            return Ok(());
        }
    }
    Ok(())
}
