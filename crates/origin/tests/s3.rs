//! Against a server that speaks S3: exact keys, versions, listings, and every fault that a body can have.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use forebay_model::{ByteRange, Version};
use forebay_origin::{KeySpan, Listed, Origin, OriginErrorKind, Proof};
use support::{Fault, Server, keys, list, list_parts, read, read_all, soon, within};

const NASTY: [&str; 22] = [
    " lead",
    "trail ",
    "  both  ",
    "d/ in dir ",
    "per%cent",
    "per%20cent",
    "pl+us",
    "ha#sh",
    "ques?tion=1&x",
    "back\\slash",
    "dou//ble",
    "ünï/cödé-日本",
    "quo\"te'",
    "le<ss>&amp;",
    "semi;colon,comma:at@",
    "tilde~!*()",
    "...",
    "a/.hidden",
    "brack[et]{s}|^`",
    "tab\there",
    "new\nline",
    "emoji-🦀",
];

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect()
}

#[tokio::test]
async fn every_nasty_key_reaches_its_own_object() {
    let server = Server::start().await;
    for key in NASTY {
        server.put(key, format!("bytes of {key}"));
        // What a careless client would reach instead.
        server.put(key.trim(), if key.trim() == key { format!("bytes of {key}") } else { "wrong".to_owned() });
    }
    server.put("dou/ble", "wrong");
    server.put("per cent", "wrong");
    server.put("pl us", "wrong");
    let origin = server.origin();
    for key in NASTY {
        assert_eq!(read_all(&origin, key).await.unwrap(), format!("bytes of {key}").into_bytes(), "{key:?}");
    }
}

#[tokio::test]
async fn a_listing_gives_exact_keys_and_the_versions_of_stat() {
    let server = Server::start().await;
    for key in NASTY {
        server.put(&format!("x/{}", key.replace('/', "_")), key);
    }
    let origin = server.origin();
    let listed = list(&origin, "x/").await.unwrap();
    let mut wanted: Vec<String> = NASTY.iter().map(|key| format!("x/{}", key.replace('/', "_"))).collect();
    wanted.sort();
    assert_eq!(keys(&listed), wanted);
    for entry in listed {
        let Listed::Object { key, meta } = entry else { panic!("an object") };
        assert_eq!(origin.stat(&key, soon()).await.unwrap(), meta, "{key:?}");
    }
}

#[tokio::test]
async fn keys_that_would_reach_another_object_are_refused() {
    let server = Server::start().await;
    let origin = server.origin();
    for key in ["", "/", "/a", "..", "a/../b", "./a", "a/."] {
        let error = origin.stat(key, soon()).await.unwrap_err();
        assert_eq!(error.kind, OriginErrorKind::Invalid, "{key:?}");
        let version = Version::Etag("\"e\"".into());
        let error = origin.read(key, &version, 1, ByteRange::new(0, 1), soon()).await.err().unwrap();
        assert_eq!(error.kind, OriginErrorKind::Invalid, "{key:?}");
    }
    assert!(list(&origin, "a/../").await.is_err());
    assert!(list(&origin, "a").await.is_err());
    assert_eq!(server.world.lock().log.len(), 0);
}

#[tokio::test]
async fn one_level_is_listed_whole_over_many_pages() {
    let server = Server::start().await;
    server.world.lock().page = 7;
    for n in 0..100 {
        server.put(&format!("a/f{n:03}"), "x");
        server.put(&format!("a/d{n:03}/x"), "x");
        server.put(&format!("a/d{n:03}/y"), "x");
    }
    server.put("a/", "the marker");
    server.put("a", "the object of the same name");
    server.put("/odd", "starts with a slash");
    let origin = server.origin();
    let listed = list(&origin, "a/").await.unwrap();
    assert_eq!(listed.len(), 200);
    assert_eq!(listed.iter().filter(|entry| matches!(entry, Listed::Prefix { .. })).count(), 100);
    assert_eq!(keys(&list(&origin, "").await.unwrap()), ["/", "a", "a/"]);
    assert_eq!(list(&origin, "none/").await.unwrap(), []);
    assert!(origin.has_prefix("a/", soon()).await.unwrap());
    assert!(!origin.has_prefix("none/", soon()).await.unwrap());
    let marker = origin.stat("a/", soon()).await.unwrap();
    assert_eq!(read(&origin, "a/", &marker, ByteRange::new(0, marker.size)).await.unwrap(), b"the marker");
    assert_eq!(origin.stat("a/d000", soon()).await.unwrap_err().kind, OriginErrorKind::NotFound);
}

#[tokio::test]
async fn parts_have_what_the_listing_has() {
    let server = Server::start().await;
    let origin = server.origin();
    for key in NASTY.iter().filter(|key| !key.starts_with('/')) {
        server.put(&format!("x/{key}"), *key);
    }
    server.put("x/", "the marker");
    for n in 0..200 {
        server.put(&format!("x/d{n:03}/x"), "x");
    }
    for page in [1000, 60, 7, 1] {
        server.world.lock().page = page;
        for prefix in ["x/", "x/d/", "", "x/dou/", "none/"] {
            let expected = list(&origin, prefix).await.unwrap();
            assert_eq!(list_parts(&origin, prefix, vec![KeySpan::whole()]).await.unwrap(), expected, "{prefix}");
        }
    }
    let gaps = [("", Some("x/d001~")), ("x/d100/", Some("x/d150/")), ("x/d190/m", None)];
    let gaps = gaps.map(|(after, until)| KeySpan { after: after.into(), until: until.map(Into::into) });
    let mut expected = list(&origin, "x/").await.unwrap();
    expected.retain(|entry| gaps.iter().any(|gap| gap.contains(entry.key())));
    assert_eq!(list_parts(&origin, "x/", gaps.to_vec()).await.unwrap(), expected);
}

#[tokio::test]
async fn a_small_prefix_costs_one_request_in_parts_too() {
    let server = Server::start().await;
    (0..1000).for_each(|n| server.put(&format!("a/{n}"), "x"));
    let origin = server.origin();
    assert_eq!(list_parts(&origin, "a/", vec![KeySpan::whole()]).await.unwrap().len(), 1000);
    assert_eq!(server.requests("GET"), 1);
    assert_eq!(list_parts(&origin, "none/", vec![KeySpan::whole()]).await.unwrap(), []);
    assert_eq!(server.requests("GET"), 2);
}

#[tokio::test]
async fn a_server_that_begins_elsewhere_is_noticed_and_listed_in_one_go() {
    let server = Server::start().await;
    (0..900).for_each(|n| server.put(&format!("a/{n:04}"), "x"));
    (server.world.lock().page, server.world.lock().ignores_start) = (10, true);
    let origin = server.origin();
    let error = list_parts(&origin, "a/", vec![KeySpan::whole()]).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unavailable, "{error}");
    assert_eq!(list_parts(&origin, "a/", vec![KeySpan::whole()]).await.unwrap().len(), 900);
}

#[tokio::test]
async fn a_listing_that_does_not_advance_ends() {
    let server = Server::start().await;
    server.world.lock().page = 10;
    server.world.lock().endless = true;
    for n in 0..10 {
        server.put(&format!("f{n}"), "x");
    }
    let error = list(&server.origin(), "").await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unavailable, "{error}");
    let error = list_parts(&server.origin(), "", vec![KeySpan::whole()]).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unavailable, "{error}");
}

#[tokio::test]
async fn what_is_no_listing_is_not_taken_for_an_empty_one() {
    let server = Server::start().await;
    server.put("k", "bytes");
    let mut settings = server.settings("");
    settings.deadline = Duration::from_millis(500);
    let origin = Origin::open(settings).unwrap();
    for text in [
        "<html><body>log in first</body></html>",
        "",
        "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>false</IsTruncated>",
    ] {
        server.world.lock().always = Some(Fault::Text(text));
        assert_eq!(list(&origin, "").await.unwrap_err().kind, OriginErrorKind::Unavailable, "{text}");
        let in_parts = list_parts(&origin, "", vec![KeySpan::whole()]).await;
        assert_eq!(in_parts.unwrap_err().kind, OriginErrorKind::Unavailable, "{text}");
        assert_eq!(
            origin.has_prefix("k/", within(500)).await.unwrap_err().kind,
            OriginErrorKind::Unavailable,
            "{text}"
        );
    }
}

#[tokio::test]
async fn any_range_gives_its_bytes() {
    let server = Server::start().await;
    let bytes = noise(3_000_000);
    server.put("k", bytes.clone());
    let origin = server.origin();
    assert_eq!(origin.proof(), Proof::Precondition);
    let meta = origin.stat("k", soon()).await.unwrap();
    for (start, end) in [(0, 3_000_000), (0, 0), (0, 1), (2_999_999, 3_000_000), (1_000_000, 2_000_001)] {
        let range = ByteRange::new(start, end);
        assert_eq!(read(&origin, "k", &meta, range).await.unwrap(), bytes[start as usize..end as usize]);
    }
    let beyond = origin.read("k", &meta.version, meta.size, ByteRange::new(0, 3_000_001), soon()).await;
    assert_eq!(beyond.err().unwrap().kind, OriginErrorKind::Invalid);
    server.put("empty", "");
    assert_eq!(read_all(&origin, "empty").await.unwrap(), b"");
    assert_eq!(origin.metrics().in_flight(), 0);
}

#[tokio::test]
async fn a_broken_body_is_resumed_where_it_stopped() {
    let server = Server::start().await;
    let bytes = noise(500_000);
    server.put("k", bytes.clone());
    let origin = server.origin();
    server.fault([
        Fault::Status(503, "SlowDown"),
        Fault::Status(503, "SlowDown"),
        Fault::Short(100_000),
        Fault::Stall(100_000),
        Fault::Short(0),
        Fault::Shifted,
        Fault::Long,
        Fault::Silence,
    ]);
    let meta = origin.stat("k", soon()).await.unwrap();
    assert_eq!(read(&origin, "k", &meta, ByteRange::new(1_000, 499_000)).await.unwrap(), bytes[1_000..499_000]);
    assert!(server.world.lock().faults.is_empty());
    assert!(origin.metrics().retries() >= 8);
    assert_eq!(origin.metrics().bytes(), 498_000);
    assert_eq!(origin.metrics().in_flight(), 0);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_gives_the_right_bytes() {
    let server = Server::start().await;
    let bytes = noise(300_000);
    server.put("k", bytes.clone());
    let origin = server.origin();
    server.fault([Fault::Whole]);
    let meta = origin.stat("k", soon()).await.unwrap();
    assert_eq!(read(&origin, "k", &meta, ByteRange::new(100_000, 200_000)).await.unwrap(), bytes[100_000..200_000]);
}

#[tokio::test]
async fn a_changed_object_is_never_mixed() {
    let server = Server::start().await;
    server.put("k", noise(500_000));
    let origin = server.origin();
    let meta = origin.stat("k", soon()).await.unwrap();
    // Changed before the read.
    server.fault([Fault::Change(vec![7; 500_000], "\"new\"")]);
    let error = read(&origin, "k", &meta, ByteRange::new(0, 500_000)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Changed, "{error}");
    // Changed in the middle: what comes after the break is the new one.
    server.put("k", noise(500_000));
    server.fault([Fault::Short(200_000), Fault::Change(vec![7; 500_000], "\"new\"")]);
    let error = read(&origin, "k", &meta, ByteRange::new(0, 500_000)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Changed, "{error}");
    // Shrunk.
    server.put("k", "short");
    let error = read(&origin, "k", &meta, ByteRange::new(400_000, 500_000)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Changed, "{error}");
    // Deleted.
    server.world.lock().objects.clear();
    let error = read(&origin, "k", &meta, ByteRange::new(0, 500_000)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::NotFound, "{error}");
    assert_eq!(origin.stat("k", soon()).await.unwrap_err().kind, OriginErrorKind::NotFound);
}

#[tokio::test]
async fn a_server_that_proves_nothing_is_refused() {
    let server = Server::start().await;
    server.put("k", "bytes");
    let origin = server.origin();
    let meta = origin.stat("k", soon()).await.unwrap();
    // Etags vanish: If-Match is ignored and the answer names no version.
    server.world.lock().no_etag = true;
    let error = read(&origin, "k", &meta, ByteRange::new(0, 5)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unsupported, "{error}");
}

#[tokio::test]
async fn throttling_for_ever_ends_by_the_deadline() {
    let server = Server::start().await;
    server.put("k", "bytes");
    server.world.lock().always = Some(Fault::Status(503, "SlowDown"));
    let mut settings = server.settings("");
    settings.deadline = Duration::from_millis(800);
    let origin = Origin::open(settings).unwrap();
    let started = Instant::now();
    let error = origin.stat("k", within(800)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unavailable, "{error}");
    assert!(error.message.contains("503"), "{error}");
    let error = list(&origin, "").await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unavailable, "{error}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

#[tokio::test]
async fn silence_ends_by_the_deadline() {
    let server = Server::start().await;
    server.world.lock().always = Some(Fault::Silence);
    let mut settings = server.settings("");
    settings.deadline = Duration::from_millis(500);
    settings.stall = Duration::from_secs(60);
    let origin = Origin::open(settings).unwrap();
    let started = Instant::now();
    assert_eq!(origin.stat("k", within(500)).await.unwrap_err().kind, OriginErrorKind::TimedOut);
    assert_eq!(list(&origin, "").await.unwrap_err().kind, OriginErrorKind::TimedOut);
    assert_eq!(origin.probe().await.unwrap_err().kind, OriginErrorKind::TimedOut);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn a_body_that_stands_still_ends_by_the_deadline() {
    let server = Server::start().await;
    server.put("k", noise(1000));
    let origin = server.origin();
    let meta = origin.stat("k", soon()).await.unwrap();
    server.fault((0..50).map(|_| Fault::Stall(0)));
    let mut stream = origin.read("k", &meta.version, meta.size, ByteRange::new(0, 1000), within(700)).await.unwrap();
    let error = stream.next().await.unwrap_err();
    assert!(matches!(error.kind, OriginErrorKind::TimedOut | OriginErrorKind::Unavailable), "{error}");
    drop(stream);
    assert_eq!(origin.metrics().in_flight(), 0);
}

#[tokio::test]
async fn the_cap_of_requests_holds_and_counts_against_the_deadline() {
    let server = Server::start().await;
    server.put("k", noise(100_000));
    let mut settings = server.settings("");
    settings.max_requests = 1;
    let origin = Origin::open(settings).unwrap();
    let meta = origin.stat("k", soon()).await.unwrap();
    server.fault([Fault::Stall(10)]);
    let held = origin.read("k", &meta.version, meta.size, ByteRange::new(0, 100_000), soon()).await.unwrap();
    let error = origin.stat("k", within(200)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::TimedOut, "{error}");
    assert!(error.message.contains("busy"), "{error}");
    drop(held);
    assert!(origin.stat("k", soon()).await.is_ok());
}

#[tokio::test]
async fn refusals_say_what_to_do_and_are_not_repeated() {
    let server = Server::start().await;
    server.put("k", "bytes");
    let origin = server.origin();
    for (status, code, kind, advice) in [
        (403, "AccessDenied", OriginErrorKind::Denied, "requester_pays"),
        (403, "InvalidObjectState", OriginErrorKind::Denied, "restore"),
        (403, "RequestTimeTooSkewed", OriginErrorKind::Denied, "clock"),
        (404, "NoSuchBucket", OriginErrorKind::Denied, "bucket"),
        (301, "PermanentRedirect", OriginErrorKind::Denied, "region"),
        (400, "KMS.DisabledException", OriginErrorKind::Denied, "key"),
    ] {
        server.world.lock().always = Some(Fault::Status(status, code));
        let before = server.world.lock().log.len();
        let error = list(&origin, "").await.unwrap_err();
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(advice), "{error}");
        assert_eq!(server.world.lock().log.len(), before + 1, "{code} was asked again");
        if status != 404 {
            // A HEAD has no body: the reason comes from a GET of one byte.
            let error = origin.stat("k", soon()).await.unwrap_err();
            assert!(error.message.contains(advice), "{error}");
        }
        assert!(!error.message.contains("SECRET"), "{error}");
    }
}

#[tokio::test]
async fn latency_is_added_and_requests_are_counted() {
    let server = Server::start().await;
    server.put("k", "bytes");
    let mut settings = server.settings("");
    settings.injected_latency = Duration::from_millis(50);
    let origin = Origin::open(settings).unwrap();
    let started = Instant::now();
    read_all(&origin, "k").await.unwrap();
    list(&origin, "").await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(150));
    let metrics = origin.metrics();
    assert_eq!((metrics.requests_of("head"), metrics.requests_of("get"), metrics.requests_of("list")), (1, 1, 1));
    assert_eq!(server.world.lock().log.len(), 3);
}

#[tokio::test]
async fn a_dropped_call_loses_no_entry_and_no_byte() {
    let server = Server::start().await;
    server.world.lock().page = 10;
    for n in 0..100 {
        server.put(&format!("f{n:03}"), "x");
    }
    server.put("big", noise(400_000));
    let mut settings = server.settings("");
    settings.injected_latency = Duration::from_millis(5);
    let origin = Origin::open(settings).unwrap();
    let mut listing = origin.list("");
    let mut all = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_millis(12), listing.next_batch()).await {
            Err(_) => {}
            Ok(Ok(Some(batch))) => all.extend(batch),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => panic!("{error}"),
        }
    }
    assert_eq!(all.len(), 101);
    let meta = origin.stat("big", soon()).await.unwrap();
    let mut stream = origin.read("big", &meta.version, meta.size, ByteRange::new(0, meta.size), soon()).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        match tokio::time::timeout(Duration::from_micros(50), stream.next()).await {
            Err(_) => {}
            Ok(Ok(Some(piece))) => bytes.extend_from_slice(&piece),
            Ok(Ok(None)) => break,
            Ok(Err(error)) => panic!("{error}"),
        }
    }
    assert_eq!(bytes, noise(400_000));
}
