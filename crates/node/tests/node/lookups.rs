//! Lookups through a node: what they cost at the origin.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::common::{OPEN, Setup, World, context, path, world};
use forebay_model::Freshness;
use forebay_route::Service;

/// Longer than any of this takes.
const LIMIT: Duration = Duration::from_secs(30);

/// Looks up names of one directory, one after the other. How many of them the origin was asked for.
async fn look_up(w: &World, names: Range<u32>) -> u64 {
    let before = w.cloud.stats.load(Ordering::Relaxed);
    for name in names {
        w.node.lookup(&context(), &path(&format!("/ml/d/{name}"))).await.expect("it exists");
    }
    w.cloud.stats.load(Ordering::Relaxed) - before
}

/// Looks up one name after the other until one costs the origin nothing, and returns the next.
async fn look_up_until_listed(w: &World, names: u32) -> u32 {
    for name in 0..names {
        if look_up(w, name..name + 1).await == 0 {
            return name + 1;
        }
        // Nobody waits for the listing: let it go on.
        tokio::task::yield_now().await;
    }
    panic!("{names} lookups have not brought a listing");
}

/// Waits until `counter` has come to `count`.
async fn until(counter: &AtomicU64, count: u64) {
    let reached = async {
        while counter.load(Ordering::Relaxed) < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, reached).await.expect("it comes to that");
}

fn put(w: &World, names: u32) {
    (0..names).for_each(|name| w.cloud.put(&format!("d/{name}"), "x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_whose_names_are_looked_up_is_listed_once() {
    let w = world(&Setup::default());
    // Names that come in no order are known when all are.
    w.cloud.in_order.store(false, Ordering::Relaxed);
    put(&w, 3000);
    let next = look_up_until_listed(&w, 3000).await;
    // Of the last name it is known at the very end only that no directory hides it.
    assert!(look_up(&w, next..3000).await <= 1, "the listing has them all");
    assert_eq!(w.cloud.lists.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_lookups_in_a_huge_directory_do_not_list_it() {
    // What an unfinished listing has is of use where it came in order.
    for (in_order, asked) in [(false, 10), (true, 0)] {
        let w = world(&Setup::default());
        w.cloud.in_order.store(in_order, Ordering::Relaxed);
        put(&w, 60_000);
        // Looked up while nothing of a listing comes.
        w.cloud.parts.forget_permits(OPEN);
        assert_eq!(look_up(&w, 0..10).await, 10);
        w.cloud.parts.add_permits(OPEN);
        until(&w.cloud.lists_ended, 1).await;
        assert_eq!(look_up(&w, 10..20).await, asked, "in order: {in_order}");
        assert_eq!(w.cloud.lists.load(Ordering::Relaxed), 1, "begun once, and given up");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_ask_for_one_name_are_one_lookup() {
    let w = Arc::new(world(&Setup::default()));
    put(&w, 10);
    let shut = w.cloud.gate.acquire_many(OPEN as u32).await.expect("open");
    let begun = Arc::new(AtomicU64::new(0));
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..1000 {
        let (w, begun) = (w.clone(), begun.clone());
        askers.spawn(async move {
            begun.fetch_add(1, Ordering::Relaxed);
            w.node.lookup(&context(), &path("/ml/d/1")).await.map(drop)
        });
    }
    until(&begun, 1000).await;
    until(&w.cloud.stats, 1).await;
    drop(shut);
    assert!(askers.join_all().await.iter().all(Result::is_ok));
    assert_eq!([&w.cloud.stats, &w.cloud.lists].map(|count| count.load(Ordering::Relaxed)), [1, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_be_held_is_not_listed() {
    let w = world(&Setup { freshness: Freshness::Check, ..Setup::default() });
    put(&w, 100);
    assert_eq!(look_up(&w, 0..100).await, 100);
    assert_eq!(w.cloud.lists.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_behind_the_readers_hides_no_new_object() {
    let w = world(&Setup::default());
    put(&w, 3000);
    look_up_until_listed(&w, 3000).await;
    put(&w, 3030);
    assert_eq!(look_up(&w, 3000..3030).await, 30, "each is found at its first lookup");
    assert_eq!(w.cloud.lists.load(Ordering::Relaxed), 1, "another listing would tell nothing of them");
}
