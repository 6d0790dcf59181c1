//! A client that only counts: what the server delivers to somebody who knows the ranges beforehand and looks at no entry.

use std::io::{Error, ErrorKind, Result};

use memchr::memmem;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::shape::Keys;

/// Room for an answer.
const ANSWER_ROOM: usize = 512 << 10;

/// Fetches all pages of `keys` from the server at `address` by `clients` clients, each a part of equal size, and counts the
/// keys in them.
pub async fn count(address: &str, keys: &Keys, clients: u64) -> Result<u64> {
    let mut parts = tokio::task::JoinSet::new();
    for client in 0..clients {
        let (first, end) = (keys.count() * client / clients, keys.count() * (client + 1) / clients);
        let (address, keys) = (address.to_owned(), keys.clone());
        parts.spawn(async move { count_part(&address, &keys, first, end).await });
    }
    let mut total = 0;
    while let Some(part) = parts.join_next().await {
        total += part.map_err(Error::other)??;
    }
    Ok(total)
}

async fn count_part(address: &str, keys: &Keys, first: u64, end: u64) -> Result<u64> {
    let mut server = TcpStream::connect(address).await?;
    server.set_nodelay(true)?;
    let (mut received, mut counted) = (Vec::with_capacity(ANSWER_ROOM), 0);
    let key_tag = memmem::Finder::new(b"<Key>");
    let mut place = match first {
        0 => String::new(),
        first => {
            let mut key = String::new();
            keys.write(first - 1, &mut key);
            format!("&start-after={}", utf8_percent_encode(&key, NON_ALPHANUMERIC))
        }
    };
    while counted < end - first {
        let limit = (end - first - counted).min(1_000);
        let prefix = utf8_percent_encode(keys.root(), NON_ALPHANUMERIC);
        let request =
            format!("GET /lists?list-type=2&prefix={prefix}&max-keys={limit}{place} HTTP/1.1\r\nHost: x\r\n\r\n");
        server.write_all(request.as_bytes()).await?;
        received.clear();
        let body = loop {
            if server.read_buf(&mut received).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            let Some(end) = memmem::find(&received, b"\r\n\r\n") else { continue };
            let head = String::from_utf8_lossy(&received[..end]);
            let length =
                head.split("Content-Length: ").nth(1).and_then(|rest| rest.lines().next()?.parse::<usize>().ok());
            let length = length.ok_or(ErrorKind::InvalidData)?;
            while received.len() < end + 4 + length {
                if server.read_buf(&mut received).await? == 0 {
                    return Err(ErrorKind::UnexpectedEof.into());
                }
            }
            break &received[end + 4..];
        };
        counted += key_tag.find_iter(body).count() as u64;
        let Some(at) = memmem::find(body, b"<NextContinuationToken>") else { break };
        let token = &body[at + b"<NextContinuationToken>".len()..];
        let token = &token[..memmem::find(token, b"<").unwrap_or(0)];
        place = format!("&continuation-token={}", String::from_utf8_lossy(token));
    }
    Ok(counted)
}
