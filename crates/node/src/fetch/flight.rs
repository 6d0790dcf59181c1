//! One page on its way: chunks as they arrive, and whoever waits for them.

use std::time::Instant;

use bytes::Bytes;
use forebay_model::{ContentId, Fault, FaultKind, PageIndex};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::budget::Memory;

/// A page that is being fetched, or that was and is not in the store yet.
#[derive(Debug)]
pub(crate) struct Flight {
    pub(crate) content: ContentId,
    pub(crate) page: PageIndex,
    /// Length of the page in bytes.
    pub(crate) len: u64,
    /// Whether it is fetched for a reader that is still to come.
    pub(crate) is_ahead: bool,
    pub(crate) started: Instant,
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: Vec<Bytes>,
    have: u64,
    /// The least that somebody waits for: chunks before it wake nobody.
    wanted: Option<u64>,
    failed: Option<Fault>,
    memory: Option<Memory>,
    /// Somebody has read to its end.
    is_read: bool,
    /// The store has it, or does not want it.
    is_settled: bool,
}

impl Flight {
    pub(crate) fn new(content: ContentId, page: PageIndex, len: u64, is_ahead: bool) -> Self {
        let (state, changed) = (Mutex::default(), Notify::new());
        Self { content, page, len, is_ahead, started: Instant::now(), state, changed }
    }

    /// Holds `memory` for as long as anybody holds the flight.
    pub(crate) fn hold(&self, memory: Option<Memory>) {
        self.state.lock().memory = memory;
    }

    /// Takes the next bytes; never more than the page has.
    pub(crate) fn push(&self, chunk: Bytes) {
        let satisfies = {
            let mut state = self.state.lock();
            state.have += chunk.len() as u64;
            assert!(state.have <= self.len, "a fetch cuts its chunks at the page's end");
            state.chunks.push(chunk);
            let have = state.have;
            state.wanted.take_if(|wanted| *wanted <= have).is_some()
        };
        if satisfies {
            self.changed.notify_waiters();
        }
    }

    /// Ends it without the bytes. A flight that is whole stays whole.
    pub(crate) fn fail(&self, fault: &Fault) {
        {
            let mut state = self.state.lock();
            if state.have == self.len {
                return;
            }
            state.failed.get_or_insert_with(|| fault.clone());
        }
        self.changed.notify_waiters();
    }

    /// Whether every byte came.
    pub(crate) fn is_whole(&self) -> bool {
        self.state.lock().have == self.len
    }

    /// Somebody has read its bytes up to `end`. True: nobody needs it any more, for the store has it or does not want it.
    pub(crate) fn read_to(&self, end: u64) -> bool {
        let mut state = self.state.lock();
        let is_done = end == self.len && !state.is_read && state.is_settled;
        state.is_read |= end == self.len;
        is_done
    }

    /// The store has it, or does not want it. True: nobody is expected to read it from here any more.
    pub(crate) fn settled(&self) -> bool {
        let mut state = self.state.lock();
        state.is_settled = true;
        !self.is_ahead || state.is_read
    }

    /// All of its chunks; for a whole flight.
    pub(crate) fn chunks(&self) -> Vec<Bytes> {
        self.state.lock().chunks.clone()
    }

    /// Bytes `start..end` of the page once they have come.
    pub(crate) async fn wait(&self, start: u64, end: u64, deadline: Instant) -> Result<Vec<Bytes>, Fault> {
        debug_assert!(end <= self.len, "a part of a page lies in it");
        let arrival = async {
            loop {
                let changed = self.changed.notified();
                tokio::pin!(changed);
                // From here on no change is missed, so the state may be looked at.
                changed.as_mut().enable();
                {
                    let mut state = self.state.lock();
                    if state.have >= end {
                        return Ok(cut(&state.chunks, start, end));
                    }
                    if let Some(fault) = &state.failed {
                        return Err(fault.clone());
                    }
                    state.wanted = Some(state.wanted.map_or(end, |wanted| wanted.min(end)));
                }
                changed.await;
            }
        };
        tokio::time::timeout_at(deadline.into(), arrival).await.unwrap_or_else(|_| {
            let message = format!("byte {} of the object did not arrive in time", self.page.start() + end);
            Err(Fault::new(FaultKind::TimedOut, message))
        })
    }

    /// Copies the bytes from `start` into `buffer` if all of them have come.
    pub(crate) fn copy_now(&self, start: u64, buffer: &mut [u8]) -> bool {
        let end = start + buffer.len() as u64;
        let chunks = {
            let state = self.state.lock();
            if state.have < end {
                return false;
            }
            cut(&state.chunks, start, end)
        };
        let mut at = 0;
        for chunk in chunks {
            buffer[at..at + chunk.len()].copy_from_slice(&chunk);
            at += chunk.len();
        }
        true
    }
}

/// Bytes `start..end` of what the chunks hold, without copying.
fn cut(chunks: &[Bytes], start: u64, end: u64) -> Vec<Bytes> {
    let mut cut = Vec::new();
    let mut at = 0;
    for chunk in chunks {
        let next = at + chunk.len() as u64;
        if next > start && at < end {
            cut.push(chunk.slice((start.max(at) - at) as usize..(end.min(next) - at) as usize));
        }
        at = next;
    }
    cut
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn flight() -> Flight {
        Flight::new(ContentId::from_u128(1), PageIndex(0), 10, true)
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn bytes_are_given_as_they_arrive() {
        let flight = flight();
        flight.push(Bytes::from_static(b"0123"));
        flight.push(Bytes::from_static(b"456"));
        let joined = |chunks: Vec<Bytes>| chunks.concat();
        assert_eq!(flight.wait(2, 6, soon()).await.map(joined), Ok(b"2345".to_vec()));
        let mut buffer = [0; 4];
        assert!(flight.copy_now(3, &mut buffer) && &buffer == b"3456");
        assert!(!flight.copy_now(4, &mut buffer));
        let late = flight.wait(5, 9, soon());
        let push = async { flight.push(Bytes::from_static(b"789")) };
        let (late, ()) = tokio::join!(late, push);
        assert_eq!(late.map(joined), Ok(b"5678".to_vec()));
        assert!(flight.is_whole());
    }

    #[test]
    fn a_page_fetched_ahead_is_needed_until_it_is_both_kept_and_read() {
        let kept_first = flight();
        assert!(!kept_first.settled(), "its reader is still to come");
        assert!(!kept_first.read_to(9), "and has not come to its end");
        assert!(kept_first.read_to(10));
        assert!(!kept_first.read_to(10), "told once");
        let read_first = flight();
        assert!(!read_first.read_to(10), "the store does not have it");
        assert!(read_first.settled());
        assert!(Flight::new(ContentId::from_u128(1), PageIndex(0), 10, false).settled(), "its reader has come already");
    }

    #[tokio::test]
    async fn a_wait_ends_with_the_deadline_or_the_failure() {
        let flight = flight();
        flight.push(Bytes::from_static(b"01"));
        let late = flight.wait(0, 3, Instant::now() + Duration::from_millis(5)).await;
        assert_eq!(late.map_err(|f| f.kind), Err(FaultKind::TimedOut));
        flight.fail(&Fault::new(FaultKind::Changed, "it changed"));
        assert_eq!(flight.wait(0, 3, soon()).await.map_err(|f| f.kind), Err(FaultKind::Changed));
        assert!(flight.wait(0, 2, soon()).await.is_ok(), "what came before the failure is of the same version");
    }
}
