//! Origins that are not there: every kind ends within the deadline, with a message that names it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::{Duration, Instant};

use forebay_model::{ByteRange, Version};
use forebay_origin::{Credentials, Origin, OriginErrorKind, OriginSettings};

/// A port on which nothing listens: it was free a moment ago.
fn dead_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn keys() -> Credentials {
    // Azure wants its account key in base64.
    Credentials::Static { access_key: "account".into(), secret: "c2VjcmV0".into(), session_token: None }
}

async fn check(url: &str, endpoint: Option<String>, credentials: Credentials) {
    let mut settings = OriginSettings::new(url.parse().unwrap());
    settings.endpoint = endpoint;
    settings.credentials = credentials;
    settings.deadline = Duration::from_secs(2);
    let origin = Origin::open(settings).unwrap();
    let started = Instant::now();
    let key = format!("{}dead.bin", origin.prefix());
    let deadline = || Instant::now() + Duration::from_secs(2);
    let version = Version::Etag("\"e\"".into());
    let mut errors = vec![
        origin.stat(&key, deadline()).await.unwrap_err(),
        origin.read(&key, &version, 10, ByteRange::new(0, 10), deadline()).await.err().unwrap(),
        origin.probe().await.unwrap_err(),
    ];
    if !origin.url().scheme().is_web() {
        let prefix = origin.prefix().to_owned();
        errors.push(origin.list(&prefix).next_batch().await.unwrap_err());
    }
    let elapsed = started.elapsed();
    assert!(elapsed < Duration::from_secs(11), "{url}: {elapsed:?}");
    for error in errors {
        println!("{:?} {error}", error.kind);
        let fits = matches!(error.kind, OriginErrorKind::Unavailable | OriginErrorKind::TimedOut);
        assert!(fits, "{url}: {:?} {error}", error.kind);
        assert!(!error.message.contains("c2VjcmV0"), "{error}");
        assert!(error.message.contains("127.0.0.1") || error.message.contains("localhost"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3() {
    check("s3://bucket/p", Some(format!("http://127.0.0.1:{}", dead_port())), keys()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn gs() {
    check("gs://bucket/p", Some(format!("http://127.0.0.1:{}", dead_port())), Credentials::Anonymous).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn az() {
    check("az://container/p", Some(format!("http://127.0.0.1:{}/account", dead_port())), keys()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oss() {
    check("oss://bucket/p", Some(format!("http://127.0.0.1:{}", dead_port())), keys()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cos() {
    // Its client puts the bucket before the host's name, so a numeric address will not do.
    check("cos://bucket-1/p", Some(format!("http://localhost:{}", dead_port())), keys()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hdfs() {
    check(&format!("hdfs://127.0.0.1:{}/p", dead_port()), None, Credentials::Standard).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hf() {
    let endpoint = format!("http://127.0.0.1:{}", dead_port());
    check("hf://datasets/org/set/p", Some(endpoint), Credentials::Anonymous).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http() {
    check(&format!("http://127.0.0.1:{}/p/dead.bin", dead_port()), None, Credentials::Standard).await;
}

#[test]
fn what_makes_no_sense_is_refused_at_once() {
    let open = |url: &str, credentials: Credentials| {
        let mut settings = OriginSettings::new(url.parse().unwrap());
        settings.credentials = credentials;
        Origin::open(settings).err().unwrap()
    };
    for error in [
        open("az://container", Credentials::Standard),
        open("gs://bucket", keys()),
        open("oss://bucket", Credentials::Standard),
        open("cos://bucket", Credentials::Anonymous),
    ] {
        assert_eq!(error.kind, OriginErrorKind::Invalid, "{error}");
    }
    let mut settings = OriginSettings::new("s3://b".parse().unwrap());
    settings.ca_file = Some("/no/such/file.pem".into());
    let error = Origin::open(settings).err().unwrap();
    assert!(error.message.contains("/no/such/file.pem"), "{error}");
}
