//! Whole objects that are written, old versions that are read, and listings of all depths.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::Arc;

use axum::body::Bytes;
use forebay_model::{ByteRange, Version};
use forebay_origin::{Listed, Origin, OriginErrorKind, OriginSettings};
use support::{Fault, Server, soon};

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect()
}

async fn upload(origin: &Origin, key: &str, bytes: &[u8]) {
    let mut upload = origin.upload(key, soon()).await.unwrap();
    for piece in bytes.chunks(999_999) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    assert!(origin.stat(key, soon()).await.is_err_and(|error| error.kind == OriginErrorKind::NotFound));
    upload.finish().await.unwrap();
}

#[tokio::test]
async fn an_object_is_seen_when_it_is_whole_and_not_before() {
    let server = Server::start().await;
    let mut settings = server.settings("");
    settings.stall = std::time::Duration::from_secs(20);
    let origin = Origin::open(settings).unwrap();
    for (key, len, requests) in [("empty", 0, 1), ("a b+c", 1_000, 1), ("large", 40_000_000, 5)] {
        let before = server.requests("PUT") + server.requests("POST");
        let bytes = pattern(len);
        upload(&origin, key, &bytes).await;
        assert_eq!(server.world.lock().objects[key].0, bytes, "{key}");
        assert_eq!(server.requests("PUT") + server.requests("POST") - before, requests, "{key}");
    }
    assert!(server.world.lock().uploads.is_empty());
}

#[tokio::test]
async fn what_failed_is_sent_again_and_what_is_refused_is_told() {
    let server = Server::start().await;
    let origin = server.origin();
    let bytes = pattern(20_000_000);
    server.fault([Fault::Status(503, "SlowDown"), Fault::None, Fault::Status(500, "InternalError"), Fault::None]);
    upload(&origin, "large", &bytes).await;
    assert_eq!(server.world.lock().objects["large"].0, bytes);
    server.world.lock().always = Some(Fault::Status(403, "AccessDenied"));
    let mut refused = origin.upload("no", soon()).await.unwrap();
    refused.write(Bytes::from_static(b"x")).await.unwrap();
    let error = refused.finish().await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Denied, "{error}");
    assert!(error.message.starts_with("PUT s3://bucket/no"), "{error}");
}

#[tokio::test]
async fn one_that_is_given_up_leaves_nothing() {
    let server = Server::start().await;
    let origin = server.origin();
    let mut upload = origin.upload("large", soon()).await.unwrap();
    upload.write(Bytes::from(pattern(40_000_000))).await.unwrap();
    assert_eq!(server.world.lock().uploads.len(), 1);
    upload.abort().await;
    let world = server.world.lock();
    assert!(world.uploads.is_empty() && world.objects.is_empty());
}

#[tokio::test]
async fn a_file_is_put_in_its_place_whole() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().to_str().unwrap();
    let origin = Origin::open(OriginSettings::new(format!("file://{root}").parse().unwrap())).unwrap();
    let key = format!("{}new/way/a b.jsonl", origin.prefix());
    let bytes = pattern(3_000_000);
    upload(&origin, &key, &bytes).await;
    assert_eq!(std::fs::read(directory.path().join("new/way/a b.jsonl")).unwrap(), bytes);
    let mut given_up = origin.upload(&format!("{}new/x", origin.prefix()), soon()).await.unwrap();
    given_up.write(Bytes::from_static(b"half")).await.unwrap();
    drop(given_up);
    assert_eq!(std::fs::read_dir(directory.path().join("new")).unwrap().count(), 1, "the way alone");
}

#[tokio::test]
async fn what_is_not_written_to_says_so() {
    let server = Server::start().await;
    let url = format!("{}/x.bin", server.endpoint);
    let origin = Origin::open(OriginSettings::new(url.parse().unwrap())).unwrap();
    let error = origin.upload("y.bin", soon()).await.err().unwrap();
    assert_eq!(error.kind, OriginErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn old_versions_are_listed_and_read_by_their_ids() {
    let server = Server::start().await;
    for n in 0..25 {
        server.put(&format!("d/f{n:02}"), format!("now {n}"));
        let mut world = server.world.lock();
        world.ids.insert(format!("d/f{n:02}"), format!("id{n}"));
        world
            .old
            .insert((format!("d/f{n:02}"), format!("old{n}")), (format!("then {n}").into(), format!("\"then-{n}\"")));
    }
    server.put("d/null", "from before");
    server.put("e/other", "elsewhere");
    {
        let mut world = server.world.lock();
        world.old.insert(("d/gone".to_owned(), "g".to_owned()), (Bytes::from_static(b"gone"), "\"g\"".to_owned()));
        world.page = 7;
    }
    let origin = server.origin();
    let mut listing = origin.list_versions("d/").unwrap();
    let mut all: Vec<(Listed, Option<Arc<str>>)> = Vec::new();
    while let Some(batch) = listing.next_batch().await.unwrap() {
        all.extend(batch);
    }
    assert_eq!(all.len(), 26, "the current versions of what was not deleted");
    for (listed, id) in &all {
        match listed.key().strip_prefix("d/f") {
            Some(n) => assert_eq!(id.as_deref(), Some(&*format!("id{}", n.parse::<u32>().unwrap()))),
            None => assert_eq!((listed.key(), id), ("d/null", &None)),
        }
    }
    let range = ByteRange::new(0, 6);
    let read = |id: &'static str, etag: &'static str| {
        let origin = origin.clone();
        async move {
            let version = Version::Etag(etag.into());
            let mut read = origin.read_by_id("d/f03", Some(id), &version, 6, range, soon()).await?;
            Ok::<_, forebay_origin::OriginError>(read.next().await?.unwrap())
        }
    };
    assert_eq!(read("old3", "\"then-3\"").await.unwrap(), "then 3");
    // The id alone proves nothing: the bytes must be of that etag.
    assert_eq!(read("old3", "\"other\"").await.unwrap_err().kind, OriginErrorKind::Changed);
    assert_eq!(read("none", "\"then-3\"").await.unwrap_err().kind, OriginErrorKind::NotFound);
}

#[tokio::test]
async fn all_depths_are_listed_at_once() {
    let server = Server::start().await;
    for n in 0..3_000 {
        server.put(&format!("d/{:02}/{:02}/f{n:04}", n % 17, n % 5), "x");
    }
    server.put("d/empty/", "");
    server.put("e", "x");
    server.world.lock().page = 100;
    let mut listing = server.origin().list_all("d/").unwrap();
    let mut all: Vec<String> = Vec::new();
    while let Some(part) = listing.next().await.unwrap() {
        all.extend(part.entries.iter().map(|entry| entry.key().to_owned()));
    }
    all.sort();
    let expected: Vec<String> =
        server.world.lock().objects.keys().filter(|key| key.starts_with("d/")).cloned().collect();
    assert_eq!(all, expected);
}
