//! Plain web servers: one object, manifests, and servers that prove little.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use forebay_model::{ByteRange, Version};
use forebay_origin::{Listed, Origin, OriginErrorKind, OriginSettings, Proof};
use support::{Fault, Server, keys, list, read, read_all, soon};

fn settings(server: &Server, path: &str) -> OriginSettings {
    let mut settings = OriginSettings::new(format!("{}/{path}", server.endpoint).parse().unwrap());
    settings.stall = std::time::Duration::from_millis(300);
    settings
}

fn origin(server: &Server, path: &str) -> Origin {
    Origin::open(settings(server, path)).unwrap()
}

#[tokio::test]
async fn one_object() {
    let server = Server::start().await;
    server.put("d/a b+c.bin", "some bytes");
    server.put("d/other", "x");
    let origin = origin(&server, "d/a%20b+c.bin");
    assert_eq!((origin.prefix(), origin.proof()), ("d/", Proof::Response));
    assert_eq!(&*origin.id().endpoint, server.endpoint);
    assert_eq!(keys(&list(&origin, "d/").await.unwrap()), ["d/a b+c.bin"]);
    assert_eq!(keys(&list(&origin, "").await.unwrap()), ["d/"]);
    assert!(origin.has_prefix("d/", soon()).await.unwrap());
    assert_eq!(read_all(&origin, "d/a b+c.bin").await.unwrap(), b"some bytes");
    assert_eq!(origin.stat("d/other", soon()).await.unwrap_err().kind, OriginErrorKind::NotFound);
    origin.probe().await.unwrap();
}

#[tokio::test]
async fn a_manifest_of_many_objects() {
    let server = Server::start().await;
    let mut text = String::new();
    for n in 0..1500 {
        server.put(&format!("set/c{}/f{n:04}", n % 3), format!("{n}"));
        let etag = server.world.lock().objects[&format!("set/c{}/f{n:04}", n % 3)].1.clone();
        let etag = etag.trim_matches('"');
        text.push_str(&format!(
            "{{\"path\":\"c{}/f{n:04}\",\"size\":{},\"etag\":\"{etag}\"}}\n",
            n % 3,
            n.to_string().len()
        ));
    }
    server.put("set/plain", "no size given");
    text.push_str(&format!("{{\"url\":\"{}/set/plain\"}}\n", server.endpoint));
    server.put("set/x.manifest.jsonl", text);
    let origin = origin(&server, "set/x.manifest.jsonl");
    assert_eq!(keys(&list(&origin, "set/").await.unwrap()), ["set/c0/", "set/c1/", "set/c2/", "set/plain"]);
    let listed = list(&origin, "set/c1/").await.unwrap();
    assert_eq!(listed.len(), 500);
    // The lines with size and etag cost no request; the other one a HEAD, and the manifest one.
    assert_eq!((server.requests("HEAD"), server.requests("GET")), (2, 1));
    for entry in &listed[..5] {
        let Listed::Object { key, meta } = entry else { panic!("an object") };
        let range = ByteRange::new(0, meta.size);
        let number: u64 = key[8..].parse().unwrap();
        assert_eq!(read(&origin, key, meta, range).await.unwrap(), number.to_string().into_bytes());
    }
    assert_eq!(read_all(&origin, "set/plain").await.unwrap(), b"no size given");
    assert_eq!(origin.stat("set/x.manifest.jsonl", soon()).await.unwrap_err().kind, OriginErrorKind::NotFound);
    assert!(!origin.has_prefix("set/c9/", soon()).await.unwrap());
    // The manifest promises another content than the server has.
    let Listed::Object { key, meta } = &listed[7] else { panic!("an object") };
    server.put(key, "?".repeat(meta.size as usize));
    let error = read(&origin, key, meta, ByteRange::new(0, meta.size)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Changed, "{error}");
}

#[tokio::test]
async fn a_broken_manifest_is_an_error_and_not_a_short_listing() {
    let server = Server::start().await;
    server.put("x.manifest.csv", "path,size\na,1\nb,many\n");
    let origin = origin(&server, "x.manifest.csv");
    let error = list(&origin, "").await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Invalid, "{error}");
    assert!(error.message.contains("line 3"), "{error}");
}

#[tokio::test]
async fn time_and_size_prove_where_there_is_no_strong_etag() {
    let server = Server::start().await;
    server.put("f", "some bytes");
    server.world.lock().weak_etag = true;
    let origin = origin(&server, "f");
    let meta = origin.stat("f", soon()).await.unwrap();
    assert!(matches!(meta.version, Version::Stamp { size: 10, file: None, .. }), "{:?}", meta.version);
    assert_eq!(read_all(&origin, "f").await.unwrap(), b"some bytes");
    server.fault([Fault::Change(b"another size".to_vec(), "\"e\"")]);
    let error = read(&origin, "f", &meta, ByteRange::new(0, 10)).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Changed, "{error}");
}

#[tokio::test]
async fn what_proves_nothing_is_refused_unless_it_never_changes() {
    let server = Server::start().await;
    server.put("f", "some bytes");
    server.world.lock().no_etag = true;
    server.world.lock().no_time = true;
    let error = origin(&server, "f").stat("f", soon()).await.unwrap_err();
    assert_eq!(error.kind, OriginErrorKind::Unsupported, "{error}");
    assert!(error.message.contains("immutable"), "{error}");
    let mut settings = settings(&server, "f");
    settings.allow_unproved = true;
    let origin = Origin::open(settings).unwrap();
    assert_eq!(origin.proof(), Proof::None);
    assert_eq!(read_all(&origin, "f").await.unwrap(), b"some bytes");
}
