//! One frame: a header of 32 bytes, a message in postcard, a payload of raw bytes.

use std::io;

use bytes::{Bytes, BytesMut};
use forebay_model::block_sum;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Version of the framing and of the messages in it.
pub const VERSION: u16 = 1;
/// Bytes of a frame's header.
pub const HEADER_LEN: usize = 32;
/// The largest message: a part of a listing of 10,000 names of 255 bytes, with room to spare.
pub const BODY_MAX: u32 = 16 << 20;
/// The largest payload: the largest range of a read.
pub const PAYLOAD_MAX: u32 = 8 << 20;

const MAGIC: [u8; 4] = *b"FBAY";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request = 1,
    Reply = 2,
}

/// A frame that was read.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    /// Ties a reply to its request; chosen by the asker.
    pub(crate) id: u64,
    pub(crate) body: Bytes,
    pub(crate) payload: Bytes,
}

/// A frame that cannot be read. The connection ends.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The stream failed or ended inside a frame.
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// The other side speaks something else.
    #[error("the other side does not speak this version of Forebay's protocol: {0}")]
    Foreign(String),
    /// A message that cannot be understood.
    #[error("a message cannot be decoded: {0}")]
    Message(#[from] postcard::Error),
}

/// Writes one frame. `payload` is written as it is, chunk by chunk.
pub(crate) async fn write_frame<W, T>(
    stream: &mut W,
    kind: Kind,
    id: u64,
    message: &T,
    payload: &[Bytes],
) -> Result<(), FrameError>
where
    W: AsyncWrite + Unpin,
    T: Serialize + Sync,
{
    let payload_len: usize = payload.iter().map(Bytes::len).sum();
    let too_large =
        |what: &str, len: usize| FrameError::Foreign(format!("a {what} of {len} bytes is too large to send"));
    let payload_len = u32::try_from(payload_len)
        .ok()
        .filter(|len| *len <= PAYLOAD_MAX)
        .ok_or_else(|| too_large("payload", payload_len))?;
    let mut head = postcard::to_extend(message, vec![0; HEADER_LEN])?;
    let body_len = head.len() - HEADER_LEN;
    let body_len =
        u32::try_from(body_len).ok().filter(|len| *len <= BODY_MAX).ok_or_else(|| too_large("message", body_len))?;
    head[..HEADER_LEN].copy_from_slice(&header(kind, id, body_len, payload_len));
    stream.write_all(&head).await?;
    for chunk in payload {
        stream.write_all(chunk).await?;
    }
    Ok(())
}

/// Reads one frame; none at a clean end of the stream.
pub(crate) async fn read_frame<R: AsyncRead + Unpin>(stream: &mut R) -> Result<Option<Frame>, FrameError> {
    let mut header = [0; HEADER_LEN];
    if stream.read(&mut header[..1]).await? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut header[1..]).await?;
    let (kind, id, body_len, payload_len) = parse(&header)?;
    let mut bytes = BytesMut::zeroed((body_len + payload_len) as usize);
    stream.read_exact(&mut bytes).await?;
    let mut body = bytes.freeze();
    let payload = body.split_off(body_len as usize);
    Ok(Some(Frame { kind, id, body, payload }))
}

/// The message of a frame.
pub(crate) fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    Ok(postcard::from_bytes(body)?)
}

fn header(kind: Kind, id: u64, body_len: u32, payload_len: u32) -> [u8; HEADER_LEN] {
    let mut header = [0; HEADER_LEN];
    header[0..4].copy_from_slice(&MAGIC);
    header[4..6].copy_from_slice(&VERSION.to_le_bytes());
    header[6..8].copy_from_slice(&(kind as u16).to_le_bytes());
    header[8..16].copy_from_slice(&id.to_le_bytes());
    header[16..20].copy_from_slice(&body_len.to_le_bytes());
    header[20..24].copy_from_slice(&payload_len.to_le_bytes());
    let sum = block_sum(&header[..24]).0;
    header[24..32].copy_from_slice(&sum.to_le_bytes());
    header
}

/// Kind, id, length of the body and of the payload.
pub(crate) fn parse(header: &[u8; HEADER_LEN]) -> Result<(Kind, u64, u32, u32), FrameError> {
    let foreign = |why: String| FrameError::Foreign(why);
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    if header[..4] != MAGIC {
        return Err(foreign("a frame does not start with FBAY".to_owned()));
    }
    if half(4) != VERSION {
        return Err(foreign(format!("version {}, expected {VERSION}", half(4))));
    }
    if long(24) != block_sum(&header[..24]).0 {
        return Err(foreign("a frame's header fails its checksum".to_owned()));
    }
    let kind = match half(6) {
        1 => Kind::Request,
        2 => Kind::Reply,
        other => return Err(foreign(format!("a frame of kind {other}"))),
    };
    let (body_len, payload_len) = (word(16), word(20));
    if body_len > BODY_MAX || payload_len > PAYLOAD_MAX {
        return Err(foreign(format!("a frame of {body_len} + {payload_len} bytes")));
    }
    Ok((kind, long(8), body_len, payload_len))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    async fn round_trip(message: &str, payload: &[Bytes]) -> Vec<u8> {
        let mut bytes = Vec::new();
        write_frame(&mut bytes, Kind::Request, 7, &message, payload).await.expect("it is written");
        bytes
    }

    #[tokio::test]
    async fn a_frame_is_read_as_it_was_written() {
        let bytes = round_trip("hello", &[Bytes::from_static(b"ab"), Bytes::from_static(b"c")]).await;
        let frame = read_frame(&mut &bytes[..]).await.expect("it is read").expect("a frame");
        assert_eq!((frame.kind, frame.id, &*frame.payload), (Kind::Request, 7, &b"abc"[..]));
        assert_eq!(decode::<String>(&frame.body).expect("a message"), "hello");
        assert!(read_frame(&mut &b""[..]).await.expect("a clean end").is_none());
    }

    #[tokio::test]
    async fn a_frame_cut_anywhere_is_an_error() {
        let bytes = round_trip("hello", &[Bytes::from_static(b"payload")]).await;
        for cut in 1..bytes.len() {
            assert!(read_frame(&mut &bytes[..cut]).await.is_err(), "cut at {cut}");
        }
    }

    #[tokio::test]
    async fn a_flipped_bit_in_a_header_is_an_error() {
        let bytes = round_trip("hello", &[]).await;
        for bit in 0..HEADER_LEN * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read_frame(&mut &bytes[..]).await.is_err(), "bit {bit}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
            let _ = runtime.block_on(read_frame(&mut &bytes[..]));
            let _ = decode::<forebay_model::Request>(&bytes);
            let _ = decode::<forebay_model::Reply>(&bytes);
        }
    }
}
