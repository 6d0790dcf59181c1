//! The asking side of a connection.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use forebay_model::{Reply, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Mutex as AsyncMutex, oneshot};
use tokio::task::JoinHandle;

use crate::frame::{FrameError, Kind, decode, read_frame, write_frame};

/// How much longer than its deadline a request is waited for: the node answers at the deadline, and the answer travels.
const GRACE: Duration = Duration::from_secs(1);

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<(Reply, Bytes)>>>>;
type Writer = Box<dyn AsyncWrite + Send + Unpin>;

/// A connection that requests are sent over, many at once.
pub struct Connection {
    /// None once a request was given up in the middle of its frame: nothing can follow it.
    writer: AsyncMutex<Option<Writer>>,
    waiting: Waiting,
    next: AtomicU64,
    reader: JoinHandle<()>,
}

/// A request that got no answer.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The connection is gone; the request may or may not have been carried out.
    #[error("the node closed the connection")]
    Closed,
    /// No answer within the deadline.
    #[error("the node did not answer within {0:?}")]
    TimedOut(Duration),
    /// The request could not be sent.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection over an open stream.
    pub fn new<R, W>(mut reader: R, writer: W) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let waiting = Waiting::default();
        let answers = waiting.clone();
        let reader = tokio::spawn(async move {
            while let Ok(Some(frame)) = read_frame(&mut reader).await {
                let Ok(reply) = decode(&frame.body) else { break };
                if frame.kind != Kind::Reply {
                    break;
                }
                let waiter = lock(&answers).remove(&frame.id);
                if let Some(waiter) = waiter {
                    // A waiter that gave up is no fault of the connection.
                    let _ = waiter.send((reply, frame.payload));
                }
            }
            // Whoever still waits learns that no answer comes.
            lock(&answers).clear();
        });
        Self { writer: AsyncMutex::new(Some(Box::new(writer))), waiting, next: AtomicU64::new(1), reader }
    }

    /// Whether the other side has gone.
    pub fn is_closed(&self) -> bool {
        self.reader.is_finished()
    }

    /// Asks, and waits for the answer and its payload until a little after the request's deadline.
    ///
    /// # Errors
    /// The connection is gone, or nothing came in time.
    pub async fn call(&self, request: &Request) -> Result<(Reply, Bytes), WireError> {
        let limit = Duration::from_millis(u64::from(request.deadline_ms)) + GRACE;
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        lock(&self.waiting).insert(id, sender);
        let answered = tokio::time::timeout(limit, async {
            if self.is_closed() {
                return Err(WireError::Closed);
            }
            let mut place = self.writer.lock().await;
            let mut writer = place.take().ok_or(WireError::Closed)?;
            write_frame(&mut writer, Kind::Request, id, request, &[]).await?;
            *place = Some(writer);
            drop(place);
            receiver.await.map_err(|_| WireError::Closed)
        })
        .await;
        lock(&self.waiting).remove(&id);
        answered.unwrap_or(Err(WireError::TimedOut(limit)))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The map is whole between any two statements that hold the lock.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
