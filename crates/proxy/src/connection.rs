//! One client connection and its connection to the origin: requests pass one after the other, bodies stream through.
//!
//! Each client connection has an upstream connection of its own, opened at its first request and again when the origin
//! has closed it. The proxy never buffers a body.

use std::io::{Error, ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::faults::{Fault, Faults, Rules};
use crate::head::{BodyLength, Buffer, RequestHead, ResponseHead, chunk_size};
use crate::stats::{InFlight, Stats};

/// One buffer a direction and connection: large enough that system calls do not matter.
const BUFFER: usize = 512 * 1024;
/// Connections at once; more wait in the listen queue. 2 buffers each: at most 4 GiB of address space, touched as used.
const CONNECTIONS_MAX: usize = 4096;

/// What all connections share.
pub(crate) struct Proxy {
    upstream: String,
    pub(crate) faults: Faults,
    pub(crate) stats: Stats,
    down: watch::Sender<bool>,
}

impl Proxy {
    pub(crate) fn new(upstream: String) -> Self {
        Self { upstream, faults: Faults::new(), stats: Stats::default(), down: watch::Sender::new(false) }
    }

    /// Replaces the rules; a rule that takes the origin down cuts every open connection at once.
    pub(crate) fn set_faults(&self, rules: Rules) {
        self.faults.set(rules);
        self.down.send_replace(self.faults.is_down());
    }
}

/// Accepts connections for ever.
pub(crate) async fn serve(listener: TcpListener, proxy: Arc<Proxy>) -> Result<()> {
    let slots = Arc::new(tokio::sync::Semaphore::new(CONNECTIONS_MAX));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.map_err(Error::other)?;
        let client = match listener.accept().await {
            Ok((client, _)) => client,
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => continue,
            Err(error) => return Err(error),
        };
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let _slot = slot;
            let mut client = client;
            proxy.stats.connected();
            let mut down = proxy.down.subscribe();
            let ended = tokio::select! {
                biased;
                _ = down.wait_for(|down| *down) => { proxy.stats.struck(Fault::Down.name()); End::Reset }
                ended = converse(&mut client, &proxy) => ended.unwrap_or(End::Reset),
            };
            if ended == End::Reset {
                let _ = client.set_zero_linger();
            }
        });
    }
}

/// How a connection ends.
#[derive(PartialEq, Eq)]
enum End {
    /// In order.
    Closed,
    /// With a reset.
    Reset,
}

struct Upstream {
    stream: TcpStream,
    buffer: Buffer,
}

async fn converse(client: &mut TcpStream, proxy: &Proxy) -> Result<End> {
    client.set_nodelay(true)?;
    let mut received = Buffer::new(BUFFER);
    let mut upstream: Option<Upstream> = None;
    loop {
        let Some(length) = received.fill_head(client).await? else { return Ok(End::Closed) };
        let head = received.filled()[..length].to_vec();
        received.consume(length);
        let request = RequestHead::parse(&head)?;
        let in_flight = proxy.stats.begin(&request);

        let verdict = proxy.faults.judge(&request);
        if verdict.latency_ms > 0 {
            proxy.stats.struck("latency");
            tokio::time::sleep(Duration::from_millis(verdict.latency_ms)).await;
        }
        if let Some(fault) = verdict.fault {
            proxy.stats.struck(fault.name());
        }
        match verdict.fault {
            Some(Fault::Down) => return Ok(End::Reset),
            Some(Fault::Hang) => return wait_for_close(client).await,
            Some(Fault::Throttle) => {
                refuse(client, proxy, &request, 503).await?;
                return Ok(End::Closed);
            }
            Some(Fault::Status { status }) => {
                refuse(client, proxy, &request, status).await?;
                return Ok(End::Closed);
            }
            _ => {}
        }
        if request.expects_continue {
            client.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await?;
        }
        let response_length = forward_request(client, &mut received, &mut upstream, proxy, &head, &request).await?;
        let Some(up) = upstream.as_mut() else { return Ok(End::Reset) };
        let response = ResponseHead::parse(&up.buffer.filled()[..response_length], &request.method)?;
        client.write_all(&up.buffer.filled()[..response_length]).await?;
        up.buffer.consume(response_length);
        proxy.stats.answered(response.status);

        let limit = match verdict.fault {
            Some(Fault::Reset { after } | Fault::Truncate { after } | Fault::Stall { after }) => after,
            _ => u64::MAX,
        };
        let whole = forward_body(up, client, response.body, limit, &in_flight).await?;
        if !whole {
            client.flush().await?;
            return match verdict.fault {
                Some(Fault::Reset { .. }) => Ok(End::Reset),
                Some(Fault::Stall { .. }) => wait_for_close(client).await,
                _ => Ok(End::Closed),
            };
        }
        if response.close {
            upstream = None;
        }
        if request.close || response.close {
            return Ok(End::Closed);
        }
    }
}

/// Sends the request to the origin and receives the head of the final response; returns the head's length.
async fn forward_request(
    client: &mut TcpStream,
    received: &mut Buffer,
    upstream: &mut Option<Upstream>,
    proxy: &Proxy,
    head: &[u8],
    request: &RequestHead,
) -> Result<usize> {
    let mut reused = upstream.is_some();
    loop {
        if upstream.is_none() {
            let stream = TcpStream::connect(&proxy.upstream).await?;
            stream.set_nodelay(true)?;
            *upstream = Some(Upstream { stream, buffer: Buffer::new(BUFFER) });
        }
        let Some(up) = upstream.as_mut() else { return Err(ErrorKind::NotConnected.into()) };
        let answered = async {
            up.stream.write_all(head).await?;
            copy_body(client, received, &mut up.stream, request.body, u64::MAX, None).await?;
            loop {
                let Some(length) = up.buffer.fill_head(&mut up.stream).await? else {
                    return Err(Error::from(ErrorKind::UnexpectedEof));
                };
                // The proxy has said "continue" itself.
                if ResponseHead::parse(&up.buffer.filled()[..length], &request.method)?.status != 100 {
                    return Ok(length);
                }
                up.buffer.consume(length);
            }
        }
        .await;
        match answered {
            Ok(length) => return Ok(length),
            // An idle connection that the origin had closed: once more on a new one, if no body is lost by it.
            Err(_) if reused && request.body == BodyLength::Known(0) => {
                *upstream = None;
                reused = false;
            }
            Err(error) => return Err(error),
        }
    }
}

async fn forward_body(
    up: &mut Upstream,
    client: &mut TcpStream,
    length: BodyLength,
    limit: u64,
    in_flight: &InFlight<'_>,
) -> Result<bool> {
    copy_body(&mut up.stream, &mut up.buffer, client, length, limit, Some(in_flight)).await
}

/// Copies a body, as it is on the wire; `false`: it stopped at `limit` bytes.
async fn copy_body(
    from: &mut TcpStream,
    buffer: &mut Buffer,
    to: &mut TcpStream,
    length: BodyLength,
    limit: u64,
    in_flight: Option<&InFlight<'_>>,
) -> Result<bool> {
    let mut copied = 0;
    match length {
        BodyLength::Known(n) => copy_bytes(from, buffer, to, n, limit, &mut copied, in_flight, false).await,
        BodyLength::UntilClose => copy_bytes(from, buffer, to, u64::MAX, limit, &mut copied, in_flight, true).await,
        BodyLength::Chunked => loop {
            let line = buffer.fill_line(from).await?;
            let size = chunk_size(&buffer.filled()[..line])?;
            to.write_all(&buffer.filled()[..line]).await?;
            buffer.consume(line);
            if size == 0 {
                // Trailers, up to the empty line.
                loop {
                    let line = buffer.fill_line(from).await?;
                    to.write_all(&buffer.filled()[..line]).await?;
                    buffer.consume(line);
                    if line == 2 {
                        return Ok(true);
                    }
                }
            }
            if !copy_bytes(from, buffer, to, size + 2, limit, &mut copied, in_flight, false).await? {
                return Ok(false);
            }
        },
    }
}

#[expect(clippy::too_many_arguments, reason = "the state of one copy loop, which has two callers in this file")]
async fn copy_bytes(
    from: &mut TcpStream,
    buffer: &mut Buffer,
    to: &mut TcpStream,
    n: u64,
    limit: u64,
    copied: &mut u64,
    in_flight: Option<&InFlight<'_>>,
    close_ends_it: bool,
) -> Result<bool> {
    let mut left = n;
    while left > 0 {
        if *copied >= limit {
            return Ok(false);
        }
        if buffer.filled().is_empty() && buffer.fill(from).await? == 0 {
            return if close_ends_it { Ok(true) } else { Err(ErrorKind::UnexpectedEof.into()) };
        }
        let take = left.min(limit - *copied).min(buffer.filled().len() as u64);
        to.write_all(&buffer.filled()[..take as usize]).await?;
        buffer.consume(take as usize);
        left -= take;
        *copied += take;
        if let Some(in_flight) = in_flight {
            in_flight.sent(take);
        }
    }
    Ok(true)
}

/// Answers in the origin's place with an S3 error, and closes (the request's body is not read).
async fn refuse(client: &mut TcpStream, proxy: &Proxy, request: &RequestHead, status: u16) -> Result<()> {
    let code = match status {
        401 | 403 => "AccessDenied",
        404 => "NoSuchKey",
        412 => "PreconditionFailed",
        503 => "SlowDown",
        _ => "InternalError",
    };
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>injected</Message></Error>"
    );
    let sent = if request.method == "HEAD" { "" } else { &body };
    let answer = format!(
        "HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{sent}",
        body.len()
    );
    client.write_all(answer.as_bytes()).await?;
    client.shutdown().await?;
    proxy.stats.answered(status);
    Ok(())
}

/// Sends nothing more; ends when the client gives up.
async fn wait_for_close(client: &mut TcpStream) -> Result<End> {
    let mut scratch = [0; 4096];
    while client.read(&mut scratch).await? > 0 {}
    Ok(End::Closed)
}
