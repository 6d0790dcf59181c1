//! Request and response heads: just enough of HTTP/1.1 to know where a message ends. Heads are forwarded unchanged.

use std::io::{Error, ErrorKind, Result};

use tokio::io::{AsyncRead, AsyncReadExt};

/// Longest head accepted: far above what S3 clients send (signatures and metadata stay under 16 KiB).
const HEAD_MAX: usize = 128 * 1024;
/// Longest line of a chunked body (a size in hex and its extensions; aws-chunked adds a signature).
const CHUNK_LINE_MAX: usize = 4 * 1024;

/// Bytes received and not yet consumed.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Buffer {
    /// An empty buffer of `size` bytes.
    pub(crate) fn new(size: usize) -> Self {
        Self { bytes: vec![0; size.max(HEAD_MAX)].into_boxed_slice(), start: 0, end: 0 }
    }

    /// What is there now.
    pub(crate) fn filled(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Marks the first `n` bytes as used.
    pub(crate) fn consume(&mut self, n: usize) {
        self.start += n;
        assert!(self.start <= self.end, "consumed more than was filled");
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Receives more; returns how many bytes came (0: the peer has closed).
    pub(crate) async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<usize> {
        if self.start > 0 && self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.bytes.len() {
            return Err(Error::new(ErrorKind::InvalidData, "a head is longer than the buffer"));
        }
        let n = from.read(&mut self.bytes[self.end..]).await?;
        self.end += n;
        Ok(n)
    }

    /// Receives until a whole head is there and returns its length; `None`: the peer closed before its first byte.
    pub(crate) async fn fill_head(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<Option<usize>> {
        let mut searched = 0;
        loop {
            let filled = self.filled();
            if let Some(at) = find(&filled[searched..], b"\r\n\r\n") {
                return Ok(Some(searched + at + 4));
            }
            if filled.len() > HEAD_MAX {
                return Err(Error::new(ErrorKind::InvalidData, "a head is too long"));
            }
            searched = filled.len().saturating_sub(3);
            if self.fill(from).await? == 0 {
                return if self.filled().is_empty() { Ok(None) } else { Err(ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Receives until a whole line is there and returns its length with the line end.
    pub(crate) async fn fill_line(&mut self, from: &mut (impl AsyncRead + Unpin)) -> Result<usize> {
        loop {
            if let Some(at) = find(self.filled(), b"\r\n") {
                return Ok(at + 2);
            }
            if self.filled().len() > CHUNK_LINE_MAX {
                return Err(Error::new(ErrorKind::InvalidData, "a chunk's line is too long"));
            }
            if self.fill(from).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// How a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BodyLength {
    /// After so many bytes.
    Known(u64),
    /// With the chunk of size 0.
    Chunked,
    /// When the connection closes.
    UntilClose,
}

/// What the proxy needs to know of a request.
pub(crate) struct RequestHead {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) range: Option<String>,
    pub(crate) body: BodyLength,
    pub(crate) expects_continue: bool,
    pub(crate) close: bool,
}

impl RequestHead {
    /// Reads a request's head.
    pub(crate) fn parse(head: &[u8]) -> Result<Self> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let mut first = lines.next().unwrap_or_default().split(' ');
        let (Some(method), Some(target)) = (first.next(), first.next()) else {
            return Err(Error::new(ErrorKind::InvalidData, "a request line is malformed"));
        };
        let fields = Fields::parse(lines)?;
        Ok(Self {
            method: method.to_owned(),
            target: target.to_owned(),
            range: fields.range,
            body: match (fields.chunked, fields.length) {
                (true, _) => BodyLength::Chunked,
                (false, length) => BodyLength::Known(length.unwrap_or(0)),
            },
            expects_continue: fields.expects_continue,
            close: fields.close,
        })
    }

    /// Whether it lists a bucket (S3 ListObjects, either version).
    pub(crate) fn is_list(&self) -> bool {
        self.method == "GET"
            && self.target.split_once('?').is_some_and(|(_, query)| {
                query.split('&').any(|pair| pair.starts_with("list-type=") || pair.starts_with("prefix="))
            })
    }
}

/// What the proxy needs to know of a response.
pub(crate) struct ResponseHead {
    pub(crate) status: u16,
    pub(crate) body: BodyLength,
    pub(crate) close: bool,
}

impl ResponseHead {
    /// Reads the head of the response to a request of `method`.
    pub(crate) fn parse(head: &[u8], method: &str) -> Result<Self> {
        let text = String::from_utf8_lossy(head);
        let mut lines = text.split("\r\n");
        let status = lines.next().unwrap_or_default().split(' ').nth(1).and_then(|status| status.parse().ok());
        let Some(status) = status else {
            return Err(Error::new(ErrorKind::InvalidData, "a status line is malformed"));
        };
        let fields = Fields::parse(lines)?;
        let bodyless = method == "HEAD" || matches!(status, 100..=199 | 204 | 304);
        let body = match (bodyless, fields.chunked, fields.length) {
            (true, _, _) => BodyLength::Known(0),
            (false, true, _) => BodyLength::Chunked,
            (false, false, Some(length)) => BodyLength::Known(length),
            (false, false, None) => BodyLength::UntilClose,
        };
        Ok(Self { status, body, close: fields.close || body == BodyLength::UntilClose })
    }
}

#[derive(Default)]
struct Fields {
    length: Option<u64>,
    chunked: bool,
    expects_continue: bool,
    close: bool,
    range: Option<String>,
}

impl Fields {
    fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut fields = Self::default();
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { continue };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    let length = value
                        .parse()
                        .map_err(|_| Error::new(ErrorKind::InvalidData, "a content-length is malformed"))?;
                    fields.length = Some(length);
                }
                "transfer-encoding" => fields.chunked = value.to_ascii_lowercase().contains("chunked"),
                "expect" => fields.expects_continue = value.eq_ignore_ascii_case("100-continue"),
                "connection" => fields.close = value.to_ascii_lowercase().contains("close"),
                "range" => fields.range = Some(value.to_owned()),
                _ => {}
            }
        }
        Ok(fields)
    }
}

/// The size that a chunk's first line states.
pub(crate) fn chunk_size(line: &[u8]) -> Result<u64> {
    let text = String::from_utf8_lossy(line);
    let digits = text.trim_end().split(';').next().unwrap_or_default().trim().to_owned();
    u64::from_str_radix(&digits, 16).map_err(|_| Error::new(ErrorKind::InvalidData, "a chunk's size is malformed"))
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    bytes.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

    use super::*;

    #[test]
    fn request() {
        let head =
            RequestHead::parse(b"GET /b?list-type=2&prefix=a HTTP/1.1\r\nHost: h\r\nRange: bytes=0-1\r\n\r\n").unwrap();
        assert_eq!((head.method.as_str(), head.is_list(), head.close), ("GET", true, false));
        assert_eq!(head.range.as_deref(), Some("bytes=0-1"));
        assert_eq!(head.body, BodyLength::Known(0));
        let head =
            RequestHead::parse(b"PUT /b/k HTTP/1.1\r\ncontent-length: 7\r\nExpect: 100-continue\r\n\r\n").unwrap();
        assert_eq!((head.body, head.expects_continue, head.is_list()), (BodyLength::Known(7), true, false));
    }

    #[test]
    fn response() {
        let body = |head: &[u8], method| ResponseHead::parse(head, method).unwrap().body;
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "GET"), BodyLength::Known(9));
        assert_eq!(body(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", "HEAD"), BodyLength::Known(0));
        assert_eq!(body(b"HTTP/1.1 304 Not Modified\r\n\r\n", "GET"), BodyLength::Known(0));
        assert_eq!(body(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "GET"), BodyLength::Chunked);
        assert_eq!(body(b"HTTP/1.1 200 OK\r\n\r\n", "GET"), BodyLength::UntilClose);
        assert!(ResponseHead::parse(b"nonsense\r\n\r\n", "GET").is_err());
    }

    #[test]
    fn chunk_sizes() {
        assert_eq!(chunk_size(b"1a;chunk-signature=x\r\n").unwrap(), 26);
        assert!(chunk_size(b"\r\n").is_err());
    }
}
