//! Large prefixes in parts, from a server that lists them over real connections, with faults.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use forebay_listserver::{Faults, Keys, ListServer, Served, Service, Shape};
use forebay_origin::{Credentials, KeySpan, Listed, Origin, OriginSettings};
use support::list_parts;

async fn check(shape: Shape, count: u64, faults: Faults) -> (Served, Origin) {
    let keys = Keys::new(shape, count, "data/");
    let service = Service { keys: keys.clone(), latency: Duration::from_millis(1), faults };
    let server = ListServer::start("127.0.0.1:0", service).await.unwrap();
    let mut settings = OriginSettings::new("s3://lists/".parse().unwrap());
    settings.endpoint = Some(format!("http://{}", server.address()));
    settings.credentials = Credentials::Anonymous;
    let origin = Origin::open(settings).unwrap();
    let listed = list_parts(&origin, "data/", vec![KeySpan::whole()]).await.unwrap();
    let mut key = String::new();
    if matches!(shape, Shape::Tree | Shape::Imagenet) {
        assert!(listed.iter().all(|entry| matches!(entry, Listed::Prefix { .. })));
        assert_eq!(listed.len() as u64, count.div_ceil(1_000));
    } else {
        assert_eq!(listed.len() as u64, count, "{shape:?}");
        for (number, entry) in listed.iter().enumerate() {
            keys.write(number as u64, &mut key);
            assert_eq!(entry.key(), key);
        }
    }
    assert_eq!(origin.metrics().in_flight(), 0);
    (server.served(), origin)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_shape_is_listed_by_many_at_once() {
    for shape in [Shape::Numbers, Shape::Hashes, Shape::Pictures, Shape::Skewed, Shape::Unicode] {
        let (served, origin) = check(shape, 150_000, Faults::default()).await;
        assert!(served.in_flight_max >= 8, "{shape:?}: {served:?}");
        assert!(served.requests <= (150 + 1 + 32) * 8 / 7, "{shape:?}: {served:?}");
        assert!(origin.metrics().list_steals() > 8, "{shape:?}");
    }
    check(Shape::Tree, 30_000_000, Faults::default()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_make_it_slower_not_wrong() {
    let (served, origin) =
        check(Shape::Numbers, 60_000, Faults { throttle: 0.1, reset: 0.1, stuck: 0.1, seed: 7 }).await;
    assert!(served.faults > 10, "{served:?}");
    assert!(origin.metrics().retries() > 5);
}
