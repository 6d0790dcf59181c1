//! Listings while they come in.

use std::sync::atomic::Ordering;
use std::time::Duration;

use forebay_model::{FaultKind, ListedPage};
use forebay_route::Service;

use crate::common::{Setup, World, context, path, world};

fn fill(w: &World, names: u32) {
    (0..names).for_each(|name| w.cloud.put(&format!("d/{name:05}"), "x"));
}

async fn page(w: &World, after: &str) -> Result<ListedPage, FaultKind> {
    let (context, directory) = (context(), path("/ml/d"));
    let asked = w.node.list(&context, &directory, after, 400);
    tokio::time::timeout(Duration::from_secs(10), asked).await.expect("it ends").map_err(|fault| fault.kind)
}

/// Reads on from `after` until no name follows, or it fails.
async fn rest(w: &World, mut after: String) -> (u32, Option<FaultKind>) {
    let mut names = 0;
    loop {
        match page(w, &after).await {
            Err(kind) => return (names, Some(kind)),
            Ok(page) => {
                names += page.entries.len() as u32;
                if !page.more {
                    return (names, None);
                }
                after = page.entries.last().expect("a page with more after it is not empty").name.to_string();
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_shown_while_the_rest_of_a_listing_is_on_its_way() {
    let w = world(&Setup::default());
    fill(&w, 5000);
    w.cloud.parts.forget_permits(usize::MAX >> 8);
    w.cloud.parts.add_permits(1);
    let first = page(&w, "").await.expect("the first names");
    assert!(first.more && !first.entries.is_empty());
    assert_eq!(w.cloud.lists_ended.load(Ordering::Relaxed), 0, "it goes on");
    assert!(w.node.lookup_now(&context(), &path("/ml/d/00500")).is_some(), "a name that came is known");
    assert!(w.node.lookup_now(&context(), &path("/ml/d/04500")).is_none());
    w.cloud.parts.add_permits(10);
    let last = first.entries.last().expect("names").name.to_string();
    assert_eq!(rest(&w, last).await, (5000 - first.entries.len() as u32, None));
    assert_eq!(w.cloud.lists.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_fails_in_the_middle_is_never_short_silently() {
    for in_order in [true, false] {
        let w = world(&Setup::default());
        w.cloud.in_order.store(in_order, Ordering::Relaxed);
        fill(&w, 5000);
        w.cloud.parts.forget_permits(usize::MAX >> 8);
        w.cloud.parts.add_permits(2);
        let reader = tokio::spawn({
            let node = w.node.clone();
            async move {
                let context = context();
                let mut after = String::new();
                loop {
                    match node.list(&context, &path("/ml/d"), &after, 400).await {
                        Err(fault) => return Err(fault.kind),
                        Ok(page) if !page.more => return Ok(()),
                        Ok(page) => after = page.entries.last().expect("names").name.to_string(),
                    }
                }
            }
        });
        while in_order && w.node.lookup_now(&context(), &path("/ml/d/01500")).is_none() {
            tokio::task::yield_now().await;
        }
        *w.cloud.fault.lock() = Some(FaultKind::Unavailable);
        w.cloud.parts.add_permits(1);
        assert_eq!(reader.await.expect("no panic"), Err(FaultKind::Unavailable), "in order: {in_order}");
        *w.cloud.fault.lock() = None;
        w.cloud.parts.add_permits(100);
        assert_eq!(rest(&w, String::new()).await, (5000, None));
    }
}
