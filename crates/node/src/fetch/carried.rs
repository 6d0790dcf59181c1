//! Work that goes on when whoever does it is gone.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};

use tokio::runtime::Handle;

/// Work that is done by the task of one who waits for it, until that has what it wants or gives up: then by a task of its own.
pub(super) struct Carried {
    work: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
    runtime: Handle,
}

impl Carried {
    pub(super) fn new(work: impl Future<Output = ()> + Send + 'static, runtime: Handle) -> Self {
        Self { work: Some(Box::pin(work)), runtime }
    }

    /// Does the work until `wait` has ended.
    pub(super) async fn until<T>(&mut self, wait: impl Future<Output = T>) -> T {
        let mut wait = pin!(wait);
        poll_fn(|context| {
            // Taken meanwhile: work that panics is not gone on with.
            if let Some(mut work) = self.work.take()
                && work.as_mut().poll(context).is_pending()
            {
                self.work = Some(work);
            }
            wait.as_mut().poll(context)
        })
        .await
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if let Some(work) = self.work.take() {
            self.runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn work_goes_on_when_who_waits_has_enough_or_gives_up() {
        let (gate, done) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let work = |gate: Arc<Semaphore>, done: Arc<Semaphore>| async move {
            let _ = gate.acquire().await.map(tokio::sync::SemaphorePermit::forget);
            done.add_permits(1);
        };
        let mut enough = Carried::new(work(gate.clone(), done.clone()), Handle::current());
        assert_eq!(enough.until(async { 7 }).await, 7);
        drop(enough);
        let mut alone = Carried::new(work(gate.clone(), done.clone()), Handle::current());
        let gave_up = tokio::time::timeout(Duration::from_millis(10), alone.until(std::future::pending::<()>())).await;
        assert!(gave_up.is_err());
        drop(alone);
        let mut waits = Carried::new(work(gate.clone(), done.clone()), Handle::current());
        gate.add_permits(3);
        let all = waits.until(done.acquire_many(3));
        assert!(tokio::time::timeout(Duration::from_secs(10), all).await.is_ok(), "all three were done");
    }
}
