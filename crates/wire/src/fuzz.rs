//! Fuzz targets of what comes over a connection: the header of a frame, a frame, and the messages in it.
//!
//! An input is a script of edits to what the real encoders make; the header's checksum is made right again every other
//! time. How long they run and how their worth is tried: as in `crates/store/src/fuzz.rs`.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use bytes::Bytes;
use forebay_model::{
    Body, ByteRange, Content, ContentId, Fault, FaultKind, ListedPage, NsPath, Principal, Reply, ReplyBody, Request,
    Trace, TraceState, Version, block_sum,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frame::{BODY_MAX, HEADER_LEN, Kind, PAYLOAD_MAX, decode, parse, read_frame, write_frame};

/// Runs a target. `BOLERO_RANDOM_TEST_TIME_MS` says how long, in place of a second.
macro_rules! fuzz {
    ($each:expr) => {
        bolero::check!().with_test_time(Duration::from_secs(1)).for_each($each)
    };
}

/// One of the samples with the input's edits; or the input itself.
fn edited(input: &[u8], samples: &[Vec<u8>]) -> Vec<u8> {
    let [choice, count, script @ ..] = input else { return samples[0].clone() };
    if *choice == 0xff {
        return script.to_vec();
    }
    let mut bytes = samples[usize::from(*choice) % samples.len()].clone();
    for edit in script.chunks_exact(3).take(usize::from(count % 5)) {
        let (at, value) = (usize::from(edit[1]) % (bytes.len() + 1), edit[2]);
        match edit[0] % 5 {
            0 if at < bytes.len() => bytes[at] ^= value.max(1),
            1 => bytes.truncate(at),
            2 => bytes.insert(at, value),
            3 if at < bytes.len() => _ = bytes.remove(at),
            _ => bytes.iter_mut().skip(at).take(4).for_each(|byte| *byte = value),
        }
    }
    bytes
}

fn requests() -> Vec<Request> {
    let content = Content {
        source: "/s".into(),
        key: "a/b".into(),
        version: Version::Etag("\"e\"".into()),
        size: 1 << 30,
        id: ContentId::from_u128(7),
    };
    let path = || "/s/a".parse::<NsPath>().unwrap();
    let bodies = [
        Body::Lookup { path: path() },
        Body::List { path: path(), after: "x".to_owned(), limit: 1000 },
        Body::Read { content, range: ByteRange::new(5, 1 << 20) },
        Body::Status,
        Body::TraceStart { file: "/tmp/t".to_owned(), limit: 1 << 20 },
        Body::TraceStop { file: Some("/tmp/t".to_owned()) },
    ];
    bodies.map(|body| Request { principal: Principal::Forebay, deadline_ms: 30_000, body }).into()
}

fn replies() -> Vec<Reply> {
    let state = TraceState::Failed("no space".to_owned());
    let trace = Trace { file: "/tmp/t".to_owned(), reads: 3, dropped: 1, bytes: 400, state };
    let listed = ListedPage { entries: Vec::new(), more: true, hidden: 3, fresh_for: Duration::from_secs(9) };
    let bodies = [
        Ok(ReplyBody::Listed(listed)),
        Ok(ReplyBody::Bytes { content: ContentId::from_u128(7) }),
        Ok(ReplyBody::Status("{}".to_owned())),
        Ok(ReplyBody::Trace(trace)),
        Err(Fault::new(FaultKind::NotFound, "no such path")),
    ];
    bodies.map(|result| Reply { result }).into()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

/// Frames that hold every message, with and without a payload.
fn frames() -> Vec<Vec<u8>> {
    let payload = [Bytes::from_static(b"some"), Bytes::from_static(b"bytes")];
    runtime().block_on(async {
        let mut frames = Vec::new();
        for (n, request) in requests().iter().enumerate() {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, Kind::Request, 7, request, &payload[..n % 3]).await.unwrap();
            frames.push(bytes);
        }
        for reply in replies() {
            let mut bytes = Vec::new();
            write_frame(&mut bytes, Kind::Reply, u64::MAX, &reply, &payload).await.unwrap();
            frames.push(bytes);
        }
        frames
    })
}

/// Makes the header's checksum right.
fn seal(bytes: &mut [u8]) {
    if bytes.len() >= HEADER_LEN {
        let sum = block_sum(&bytes[..24]).0;
        bytes[24..32].copy_from_slice(&sum.to_le_bytes());
    }
}

/// What a header says, told apart from the code that is tried.
fn is_header(header: &[u8]) -> bool {
    let field =
        |at: usize, len: usize| header[at..at + len].iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
    header[..6] == *b"FBAY\x01\x00"
        && (1..=2).contains(&field(6, 2))
        && field(16, 4) <= u64::from(BODY_MAX)
        && field(20, 4) <= u64::from(PAYLOAD_MAX)
        && field(24, 8) == block_sum(&header[..24]).0
}

#[test]
fn frame_header() {
    let samples: Vec<_> = frames().into_iter().map(|frame| frame[..HEADER_LEN].to_vec()).collect();
    fuzz!(|input: &[u8]| {
        let mut bytes = edited(input, &samples);
        bytes.resize(HEADER_LEN, 0);
        if input.len() % 2 == 1 {
            seal(&mut bytes);
        }
        let header: &[u8; HEADER_LEN] = bytes[..].try_into().unwrap();
        let parsed = parse(header);
        assert_eq!(parsed.is_ok(), is_header(header), "{parsed:?}");
        if let Ok((kind, id, body, payload)) = parsed {
            assert_eq!((kind as u8, &id.to_le_bytes()[..]), (header[6], &header[8..16]));
            assert_eq!((&body.to_le_bytes()[..], &payload.to_le_bytes()[..]), (&header[16..20], &header[20..24]));
        }
    });
}

#[test]
fn frame() {
    let (samples, runtime) = (frames(), runtime());
    fuzz!(|input: &[u8]| {
        let mut bytes = edited(input, &samples);
        if input.len() % 2 == 1 {
            seal(&mut bytes);
        }
        // More than is there is asked for by length only: such a header is tried above.
        let wanted =
            |at: usize| bytes.get(at..at + 4).map_or(0, |len| u32::from_le_bytes(len.try_into().unwrap()) as usize);
        let (body, payload) = (wanted(16), wanted(20));
        if body.max(payload) > 1 << 16 {
            return;
        }
        let is_whole = bytes.len() >= HEADER_LEN + body + payload;
        match runtime.block_on(read_frame(&mut &bytes[..])) {
            Ok(None) => assert!(bytes.is_empty()),
            Ok(Some(frame)) => {
                assert!(is_whole && is_header(&bytes[..HEADER_LEN]));
                assert_eq!(frame.body, bytes[HEADER_LEN..HEADER_LEN + body]);
                assert_eq!(frame.payload, bytes[HEADER_LEN + body..HEADER_LEN + body + payload]);
            }
            Err(_) => assert!(bytes.len() < HEADER_LEN || !is_header(&bytes[..HEADER_LEN]) || !is_whole),
        }
    });
}

/// What is decoded is what would be sent for it.
fn message<T: Serialize + DeserializeOwned + PartialEq + std::fmt::Debug>(bytes: &[u8], samples: &[Vec<u8>]) {
    match decode::<T>(bytes) {
        Ok(message) => {
            let again = postcard::to_stdvec(&message).unwrap();
            assert_eq!(decode::<T>(&again).unwrap(), message);
        }
        Err(_) => assert!(!samples.iter().any(|sample| sample == bytes)),
    }
}

#[test]
fn request() {
    let samples: Vec<_> = requests().iter().map(|request| postcard::to_stdvec(request).unwrap()).collect();
    fuzz!(|input: &[u8]| {
        let bytes = edited(input, &samples);
        message::<Request>(&bytes, &samples);
        if let Ok(Request { body: Body::Lookup { path } | Body::List { path, .. }, .. }) = decode(&bytes) {
            assert_eq!(path.to_string().parse(), Ok(path), "a path that nobody may name");
        }
    });
}

#[test]
fn reply() {
    let samples: Vec<_> = replies().iter().map(|reply| postcard::to_stdvec(reply).unwrap()).collect();
    fuzz!(|input: &[u8]| message::<Reply>(&edited(input, &samples), &samples));
}
