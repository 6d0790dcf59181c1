//! Plain web servers: one object, manifests, and servers that prove little.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use forebay_model::{ByteRange, Version};
use forebay_origin::{Origin, OriginErrorKind, OriginSettings, Proof};
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
async fn what_a_manifest_lists_is_asked_for_and_nothing_is_listed() {
    let server = Server::start().await;
    server.put("set/a", "some bytes");
    for path in ["set/x.manifest.jsonl", "set/"] {
        let mut settings = settings(&server, path);
        settings.has_manifest = true;
        let origin = Origin::open(settings).unwrap();
        assert_eq!((origin.prefix(), origin.proof()), ("set/", Proof::Response));
        assert_eq!(read_all(&origin, "set/a").await.unwrap(), b"some bytes");
        assert_eq!(origin.stat("set/b", soon()).await.unwrap_err().kind, OriginErrorKind::NotFound);
        assert_eq!(list(&origin, "set/").await.unwrap_err().kind, OriginErrorKind::Unsupported);
        origin.probe().await.unwrap();
    }
    let error = Origin::open(settings(&server, "set/")).unwrap_err();
    assert!(error.message.contains("give a manifest"), "{error}");
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
