//! The answering side of a connection.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use forebay_model::{Fault, FaultKind, Reply, Request};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{Mutex, Semaphore};
use tokio::task::JoinSet;

use crate::frame::{FrameError, Kind, decode, read_frame, write_frame};

/// Requests of one connection that are worked on at once; the next is read when one is done.
const REQUESTS_MAX: usize = 16;

/// How long a reply may take to be written: an asker that does not read loses its connection.
const WRITE_LIMIT: Duration = Duration::from_secs(30);

/// An answer.
pub struct Answer {
    /// The reply.
    pub reply: Reply,
    /// Its payload.
    pub payload: Vec<Bytes>,
    /// Kept until the answer is written: what its memory was taken from.
    pub hold: Option<Box<dyn Any + Send + Sync>>,
}

impl From<Reply> for Answer {
    fn from(reply: Reply) -> Self {
        Self { reply, payload: Vec::new(), hold: None }
    }
}

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. Ends by the request's deadline.
    fn handle(&self, request: Request) -> impl Future<Output = Answer> + Send;
}

/// Answers the requests of one connection until it ends. Dropping the future ends what is under way.
///
/// # Errors
/// The stream broke, or the other side speaks something else.
pub async fn serve_connection<R, W, H>(mut reader: R, writer: W, handler: Arc<H>) -> Result<(), FrameError>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
    H: Handler,
{
    let writer = Arc::new(Mutex::new(writer));
    let places = Arc::new(Semaphore::new(REQUESTS_MAX));
    let mut tasks = JoinSet::new();
    loop {
        let Ok(place) = places.clone().acquire_owned().await else { return Ok(()) };
        let Some(frame) = read_frame(&mut reader).await? else {
            // The asker has closed its half; what it asked is still answered.
            while tasks.join_next().await.is_some() {}
            return Ok(());
        };
        if frame.kind != Kind::Request {
            return Err(FrameError::Foreign("a reply where a request was expected".to_owned()));
        }
        let request: Request = decode(&frame.body)?;
        let (handler, writer) = (handler.clone(), writer.clone());
        tasks.spawn(async move {
            let answer = handler.handle(request).await;
            let mut writer = writer.lock().await;
            let written = tokio::time::timeout(WRITE_LIMIT, write_answer(&mut *writer, frame.id, &answer)).await;
            if !matches!(written, Ok(Ok(()))) {
                // Half a frame may be out: nothing can follow it. The asker sees the end.
                let _ = writer.shutdown().await;
            }
            drop(place);
        });
        while tasks.try_join_next().is_some() {}
    }
}

/// Writes an answer; one that is too large for a frame becomes the fault that says so.
async fn write_answer<W: AsyncWrite + Unpin>(writer: &mut W, id: u64, answer: &Answer) -> Result<(), FrameError> {
    match write_frame(writer, Kind::Reply, id, &answer.reply, &answer.payload).await {
        // Found out before anything was written.
        Err(error @ FrameError::Foreign(_)) => {
            let fault = Fault::new(FaultKind::Bug, error.to_string());
            write_frame(writer, Kind::Reply, id, &Reply { result: Err(fault) }, &[]).await
        }
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use forebay_model::{Body, Principal, ReplyBody};

    use super::*;
    use crate::{Connection, WireError};

    struct Echo;

    impl Handler for Echo {
        async fn handle(&self, request: Request) -> Answer {
            if request.deadline_ms == 0 {
                std::future::pending::<()>().await;
            }
            let text = request.deadline_ms.to_string();
            let reply = Reply { result: Ok(ReplyBody::Status(text.clone())) };
            Answer { reply, payload: vec![Bytes::from(text)], hold: None }
        }
    }

    fn connected() -> (Connection, tokio::task::JoinHandle<Result<(), FrameError>>) {
        let (near, far) = tokio::io::duplex(1000);
        let (reader, writer) = tokio::io::split(far);
        let server = tokio::spawn(serve_connection(reader, writer, Arc::new(Echo)));
        let (reader, writer) = tokio::io::split(near);
        (Connection::new(reader, writer), server)
    }

    fn status(deadline_ms: u32) -> Request {
        Request { principal: Principal::Forebay, deadline_ms, body: Body::Status }
    }

    #[tokio::test]
    async fn each_of_many_requests_at_once_gets_its_own_answer() {
        let (connection, _server) = connected();
        let connection = Arc::new(connection);
        let mut calls = JoinSet::new();
        for i in 1..500 {
            let connection = connection.clone();
            calls.spawn(async move {
                let (reply, payload) = connection.call(&status(10_000 + i)).await.expect("an answer");
                assert_eq!(reply.result, Ok(ReplyBody::Status((10_000 + i).to_string())));
                assert_eq!(payload, (10_000 + i).to_string());
            });
        }
        calls.join_all().await;
    }

    #[tokio::test]
    async fn a_request_ends_when_nothing_comes() {
        let (connection, _server) = connected();
        assert!(matches!(connection.call(&status(0)).await, Err(WireError::TimedOut(_))));
    }

    #[tokio::test]
    async fn a_request_ends_when_the_connection_does() {
        let (connection, server) = connected();
        let (connection, waiting) = (Arc::new(connection), status(0));
        let call = tokio::spawn({
            let connection = connection.clone();
            async move { connection.call(&waiting).await }
        });
        connection.call(&status(1)).await.expect("an answer");
        server.abort();
        assert!(matches!(call.await.expect("no panic"), Err(WireError::Closed | WireError::TimedOut(_))));
    }
}
