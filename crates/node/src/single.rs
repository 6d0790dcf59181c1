//! One answer for all who ask the same question at once.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::Arc;
use std::time::Instant;

use forebay_model::{Fault, FaultKind};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::watch;

type Answer<V> = watch::Receiver<Option<Result<V, Fault>>>;

/// Questions under way. An answer is worked out by a task of its own, so that an asker that gives up takes nothing from
/// the others.
#[derive(Debug)]
pub(crate) struct Single<K, V> {
    under_way: Arc<Mutex<HashMap<K, Answer<V>>>>,
    runtime: Handle,
}

impl<K, V> Single<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    pub(crate) fn new(runtime: Handle) -> Self {
        Self { under_way: Arc::default(), runtime }
    }

    /// The answer to `key`: of the work already under way, else of `work`. Gives up at `deadline`; the work goes on.
    pub(crate) async fn ask<F>(&self, key: K, deadline: Instant, what: &str, work: F) -> Result<V, Fault>
    where
        F: Future<Output = Result<V, Fault>> + Send + 'static,
    {
        let mut answer = self.join(key, work);
        let waited = tokio::time::timeout_at(deadline.into(), answer.wait_for(Option::is_some)).await;
        match waited {
            Err(_) => Err(Fault::new(FaultKind::TimedOut, format!("{what}: the origin did not answer in time"))),
            Ok(Ok(answer)) => answer.clone().unwrap_or_else(|| Err(died(what))),
            Ok(Err(_)) => Err(died(what)),
        }
    }

    fn join<F>(&self, key: K, work: F) -> Answer<V>
    where
        F: Future<Output = Result<V, Fault>> + Send + 'static,
    {
        let mut under_way = self.under_way.lock();
        if let Some(answer) = under_way.get(&key) {
            return answer.clone();
        }
        let (sender, receiver) = watch::channel(None);
        under_way.insert(key.clone(), receiver.clone());
        // A runtime that is closing drops the task at once, and `end` takes the lock.
        drop(under_way);
        let end = End { under_way: self.under_way.clone(), key };
        self.runtime.spawn(async move {
            let answer = work.await;
            // First off the table, then told: who asks after the answer asks anew.
            drop(end);
            let _ = sender.send(Some(answer));
        });
        receiver
    }
}

fn died(what: &str) -> Fault {
    Fault::new(FaultKind::Bug, format!("{what}: the task that asked the origin ended without an answer"))
}

/// Takes a question off the table, also when its task panics or is cancelled.
struct End<K: Eq + Hash, V> {
    under_way: Arc<Mutex<HashMap<K, Answer<V>>>>,
    key: K,
}

impl<K: Eq + Hash, V> Drop for End<K, V> {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::time::Duration;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[tokio::test]
    async fn all_who_ask_at_once_get_one_answer() {
        let single = Arc::new(Single::<u8, u32>::new(Handle::current()));
        let (asked, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(tokio::sync::Semaphore::new(0)));
        let calls: Vec<_> = (0..50)
            .map(|_| {
                let (single, asked, gate) = (single.clone(), asked.clone(), gate.clone());
                let work = async move {
                    let _ = gate.acquire().await;
                    Ok(asked.fetch_add(1, Ordering::Relaxed))
                };
                async move { single.ask(1, soon(), "x", work).await }
            })
            .collect();
        gate.add_permits(1);
        let answers = futures_util::future::join_all(calls).await;
        assert!(answers.iter().all(|a| *a == Ok(0)), "{answers:?}");
        assert_eq!(single.ask(1, soon(), "x", async { Ok(7) }).await, Ok(7));
    }

    #[tokio::test]
    async fn an_asker_gives_up_and_the_work_goes_on() {
        let single = Single::<u8, u32>::new(Handle::current());
        let (end, ended) = tokio::sync::oneshot::channel();
        let slow = async { Ok(ended.await.unwrap_or(0)) };
        let deadline = Instant::now() + Duration::from_millis(20);
        let gave_up = single.ask(1, deadline, "x", slow).await;
        assert_eq!(gave_up.map_err(|f| f.kind), Err(FaultKind::TimedOut));
        let again = single.ask(1, soon(), "x", async { Ok(2) });
        let answer = async { end.send(1) };
        assert_eq!(tokio::join!(again, answer).0, Ok(1));
    }

    #[tokio::test]
    async fn a_panic_in_the_work_is_a_fault_and_not_for_ever() {
        let single = Single::<u8, u32>::new(Handle::current());
        let bad = single.ask(1, soon(), "x", async { panic!("on purpose") }).await;
        assert_eq!(bad.map_err(|f| f.kind), Err(FaultKind::Bug));
        assert_eq!(single.ask(1, soon(), "x", async { Ok(2) }).await, Ok(2));
    }
}
