//! The server: connections that are kept alive, one buffer each, a latency before each answer, counters.

use std::io::Result;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memchr::memmem;
use percent_encoding::percent_decode_str;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::faults::{Fault, Faults};
use crate::page::{Query, render};
use crate::shape::{Keys, size_of, write_etag};

/// The longest head of a request: a key of 4096 bytes, encoded, twice, with a signature.
const HEAD_MAX: usize = 32 << 10;

/// What is served, and how badly.
#[derive(Clone, Debug)]
pub struct Service {
    /// The keys of the one bucket, whatever its name.
    pub keys: Keys,
    /// Waited before each answer.
    pub latency: Duration,
    /// What fails.
    pub faults: Faults,
}

/// What was served so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Served {
    /// Requests answered, faults too.
    pub requests: u64,
    /// Pages sent whole.
    pub pages: u64,
    /// Entries in them.
    pub entries: u64,
    /// Requests that met a fault.
    pub faults: u64,
    /// Most requests that were under way at once.
    pub in_flight_max: u64,
}

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    pages: AtomicU64,
    entries: AtomicU64,
    faults: AtomicU64,
    in_flight: AtomicU64,
    in_flight_max: AtomicU64,
}

/// A server that runs until the runtime ends.
#[derive(Clone, Debug)]
pub struct ListServer {
    address: SocketAddr,
    counters: Arc<Counters>,
}

impl ListServer {
    /// Listens on `address`, port 0 for a free one, and serves.
    pub async fn start(address: &str, service: Service) -> Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let server = Self { address: listener.local_addr()?, counters: Arc::default() };
        let (counters, service) = (Arc::clone(&server.counters), Arc::new(service));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (counters, service) = (Arc::clone(&counters), Arc::clone(&service));
                tokio::spawn(async move { converse(client, &service, &counters).await });
            }
        });
        Ok(server)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What was served so far.
    pub fn served(&self) -> Served {
        self.counters.served()
    }
}

impl Counters {
    fn served(&self) -> Served {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Served {
            requests: read(&self.requests),
            pages: read(&self.pages),
            entries: read(&self.entries),
            faults: read(&self.faults),
            in_flight_max: read(&self.in_flight_max),
        }
    }

    /// The number of the request that begins now.
    fn begin(&self) -> u64 {
        let under_way = self.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        self.in_flight_max.fetch_max(under_way, Ordering::Relaxed);
        self.requests.fetch_add(1, Ordering::Relaxed)
    }
}

async fn converse(mut client: TcpStream, service: &Service, counters: &Counters) -> Result<()> {
    client.set_nodelay(true)?;
    let mut received = Vec::with_capacity(HEAD_MAX);
    loop {
        let end = loop {
            if let Some(end) = memmem::find(&received, b"\r\n\r\n") {
                break end + 4;
            }
            if received.len() >= HEAD_MAX || client.read_buf(&mut received).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&received[..end]).into_owned();
        received.drain(..end);
        let mut words = head.split(' ');
        let (method, target) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        if path == "/-/served" {
            let text = serde_json::to_string(&counters.served())?;
            answer(&mut client, "200 OK", "application/json", &text).await?;
            continue;
        }
        let number = counters.begin();
        let fault = service.faults.of(number);
        counters.faults.fetch_add(u64::from(fault.is_some()), Ordering::Relaxed);
        if !service.latency.is_zero() {
            tokio::time::sleep(service.latency).await;
        }
        // Under way is what waits, not what is being written.
        counters.in_flight.fetch_sub(1, Ordering::Relaxed);
        match (method, Query::parse(query)) {
            _ if fault == Some(Fault::Throttle) => {
                let text = "<Error><Code>SlowDown</Code><Message>injected</Message></Error>";
                answer(&mut client, "503 Slow Down", "application/xml", text).await?;
            }
            ("GET", Some(query)) => {
                let page = render(&service.keys, &query, fault == Some(Fault::Stuck));
                let head = head_of("200 OK", "application/xml", page.xml.len());
                client.write_all(head.as_bytes()).await?;
                if fault == Some(Fault::Reset) {
                    client.write_all(&page.xml.as_bytes()[..page.xml.len() / 2]).await?;
                    client.set_zero_linger()?;
                    return Ok(());
                }
                client.write_all(page.xml.as_bytes()).await?;
                counters.pages.fetch_add(1, Ordering::Relaxed);
                counters.entries.fetch_add(page.entries, Ordering::Relaxed);
            }
            ("HEAD", _) => client.write_all(describe(&service.keys, path).as_bytes()).await?,
            _ => {
                let text = "<Error><Code>NotImplemented</Code><Message>names only</Message></Error>";
                answer(&mut client, "501 Not Implemented", "application/xml", text).await?;
            }
        }
    }
}

/// The head that HEAD of an object gives.
fn describe(keys: &Keys, path: &str) -> String {
    let key = path.trim_start_matches('/').split_once('/').map_or("", |(_, key)| key);
    let key = percent_decode_str(key).decode_utf8_lossy();
    let (index, mut found) = (keys.from(&key), String::new());
    if index < keys.count() {
        keys.write(index, &mut found);
    }
    if found != *key {
        return head_of("404 Not Found", "application/xml", 0);
    }
    let mut etag = String::new();
    write_etag(index, &mut etag);
    format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nETag: \"{etag}\"\r\nLast-Modified: Sat, 01 Jun 2024 12:34:56 GMT\r\n\r\n",
        size_of(index)
    )
}

fn head_of(status: &str, kind: &str, length: usize) -> String {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n")
}

async fn answer(client: &mut TcpStream, status: &str, kind: &str, text: &str) -> Result<()> {
    client.write_all(head_of(status, kind, text.len()).as_bytes()).await?;
    client.write_all(text.as_bytes()).await
}
