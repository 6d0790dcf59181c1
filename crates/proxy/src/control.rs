//! The control port: faults in, counters out. One request a connection.

use std::io::{ErrorKind, Result};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::connection::Proxy;
use crate::faults::Rules;
use crate::head::{BodyLength, Buffer, RequestHead};

/// Longest body of a control request.
const BODY_MAX: u64 = 64 * 1024;
/// A control request that is not whole by then is dropped.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Accepts control requests for ever.
pub(crate) async fn serve(listener: TcpListener, proxy: Arc<Proxy>) -> Result<()> {
    loop {
        let (client, _) = listener.accept().await?;
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move {
            let _ = tokio::time::timeout(TIME_MAX, answer(client, &proxy)).await;
        });
    }
}

async fn answer(mut client: TcpStream, proxy: &Proxy) -> Result<()> {
    let mut buffer = Buffer::new(0);
    let Some(length) = buffer.fill_head(&mut client).await? else { return Ok(()) };
    let request = RequestHead::parse(&buffer.filled()[..length])?;
    buffer.consume(length);
    let BodyLength::Known(expected @ 0..=BODY_MAX) = request.body else {
        return Err(ErrorKind::InvalidData.into());
    };
    while (buffer.filled().len() as u64) < expected {
        if buffer.fill(&mut client).await? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
    let (status, body) = respond(proxy, &request, &buffer.filled()[..expected as usize]);
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    client.write_all(head.as_bytes()).await?;
    client.write_all(body.as_bytes()).await?;
    client.shutdown().await
}

fn respond(proxy: &Proxy, request: &RequestHead, body: &[u8]) -> (&'static str, String) {
    match (request.method.as_str(), request.target.as_str()) {
        ("PUT", "/faults") => match serde_json::from_slice::<Rules>(body) {
            Ok(rules) => {
                proxy.set_faults(rules);
                ("200 OK", "{}".to_owned())
            }
            Err(error) => ("400 Bad Request", serde_json::json!({ "error": error.to_string() }).to_string()),
        },
        ("GET", "/faults") => shown(&proxy.faults.get()),
        ("GET", "/stats") => shown(&proxy.stats.snapshot()),
        ("POST", "/stats/reset") => {
            proxy.stats.reset();
            ("200 OK", "{}".to_owned())
        }
        ("GET", "/requests") => shown(&proxy.stats.log()),
        _ => ("404 Not Found", "{\"error\":\"no such resource\"}".to_owned()),
    }
}

fn shown(value: &impl serde::Serialize) -> (&'static str, String) {
    match serde_json::to_string(value) {
        Ok(text) => ("200 OK", text),
        Err(error) => ("500 Internal Server Error", serde_json::json!({ "error": error.to_string() }).to_string()),
    }
}
