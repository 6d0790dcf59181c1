//! Lookups through a node: what they cost at the origin.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::common::{OPEN, Setup, World, context, path, world};
use forebay_model::Freshness;
use forebay_route::Service;

/// Looks up `names` names of one directory, one after the other, and waits in between until the origin is left alone.
async fn look_up(w: &World, names: std::ops::Range<u32>) {
    for name in names {
        w.node.lookup(&context(), &path(&format!("/ml/d/{name}"))).await.expect("it exists");
        let lists = w.cloud.lists.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(if lists == 0 { 1 } else { 10 })).await;
    }
}

fn put(w: &World, names: u32) {
    (0..names).for_each(|name| w.cloud.put(&format!("d/{name}"), "x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_whose_names_are_looked_up_is_listed_once() {
    let w = world(&Setup::default());
    put(&w, 100);
    look_up(&w, 0..100).await;
    assert_eq!(w.cloud.lists.load(Ordering::Relaxed), 1);
    assert!(w.cloud.stats.load(Ordering::Relaxed) < 30, "{}", w.cloud.stats.load(Ordering::Relaxed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_lookups_in_a_huge_directory_do_not_list_it() {
    let w = world(&Setup::default());
    put(&w, 60_000);
    look_up(&w, 0..20).await;
    assert_eq!(w.cloud.lists.load(Ordering::Relaxed), 1, "begun once, and given up");
    assert_eq!(w.cloud.stats.load(Ordering::Relaxed), 20, "an unfinished listing answers nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_one_name_are_one_lookup() {
    let w = std::sync::Arc::new(world(&Setup::default()));
    put(&w, 10);
    let shut = w.cloud.gate.acquire_many(OPEN as u32).await.expect("open");
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let w = w.clone();
        askers.spawn(async move { w.node.lookup(&context(), &path("/ml/d/1")).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(shut);
    assert!(askers.join_all().await.iter().all(Result::is_ok));
    assert_eq!(w.cloud.lists.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_held_is_not_listed() {
    let w = world(&Setup { freshness: Freshness::Check, ..Setup::default() });
    put(&w, 100);
    look_up(&w, 0..100).await;
    assert_eq!(w.cloud.lists.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_behind_the_readers_hides_no_new_object() {
    let w = world(&Setup::default());
    put(&w, 30);
    look_up(&w, 0..30).await;
    put(&w, 60);
    look_up(&w, 30..60).await;
    assert_eq!(w.cloud.lists.load(Ordering::Relaxed), 1, "it would tell nothing of them");
}
