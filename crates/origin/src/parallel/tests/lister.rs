//! The lister, above a pager in memory: all listers at once, failures, a receiver that is slow or gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::{Bucket, PREFIX};
use crate::error::{OriginError, OriginErrorKind};
use crate::metrics::OriginMetrics;
use crate::pages::{Page, Pager};
use crate::parallel::board::Board;
use crate::parallel::lister::PARTS;
use crate::parallel::{KeySpan, PartListing};

const CAP: usize = 8;

/// Pages of a bucket, each after a while.
struct Slow {
    bucket: Bucket,
    requests: AtomicUsize,
    under_way: AtomicUsize,
    under_way_max: AtomicUsize,
    /// The request that fails.
    fails: usize,
}

/// Ends a request, also one that is cancelled.
struct End<'a>(&'a AtomicUsize);

impl Drop for End<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Pager for Slow {
    type Pages = (Arc<str>, bool);

    fn pages(&self, after: &Arc<str>) -> Self::Pages {
        (Arc::clone(after), false)
    }

    async fn next(&self, (after, is_token): Self::Pages) -> Result<(Page, Self::Pages), OriginError> {
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        self.under_way_max.fetch_max(self.under_way.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        let _end = End(&self.under_way);
        tokio::time::sleep(Duration::from_micros(500 + number as u64 * 7_919 % 1_000)).await;
        if number == self.fails {
            return Err(OriginError::new(OriginErrorKind::Denied, "the test says so"));
        }
        let page = self.bucket.page(&after, is_token);
        let after = page.entries.last().map_or(after, |entry| entry.key().into());
        Ok((page, (after, true)))
    }
}

fn pager(bucket: Bucket, fails: usize) -> Arc<Slow> {
    let (requests, under_way, under_way_max) = Default::default();
    Arc::new(Slow { bucket, requests, under_way, under_way_max, fails })
}

fn listing(pager: &Arc<Slow>, gaps: Vec<KeySpan>) -> PartListing {
    let give_up =
        |problem: crate::parallel::board::Problem| OriginError::new(OriginErrorKind::Unavailable, problem.to_string());
    PartListing::begin(Arc::clone(pager), Board::new(PREFIX, gaps, CAP), OriginMetrics::default(), give_up)
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_listed_by_many_at_once() {
    let pager = pager(Bucket::numbers(20_000, 50), usize::MAX);
    let mut listing = listing(&pager, vec![KeySpan::whole()]);
    let mut names = Vec::new();
    while let Some(part) = listing.next().await.expect("lists") {
        names.extend(part.entries.iter().map(|entry| entry.key().to_owned()));
    }
    names.sort();
    assert_eq!((names.len(), names == pager.bucket.names()), (20_000, true));
    assert_eq!(listing.next().await, Ok(None));
    assert_eq!(pager.under_way_max.load(Ordering::Relaxed), CAP);
    assert_eq!(pager.under_way.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn a_failure_ends_it_and_the_gaps_can_be_listed() {
    let pager = pager(Bucket::numbers(20_000, 50), 200);
    let mut listing_cut = listing(&pager, vec![KeySpan::whole()]);
    let (mut names, mut covered) = (Vec::new(), Vec::new());
    let error = loop {
        match listing_cut.next().await {
            Ok(Some(part)) => {
                names.extend(part.entries.iter().map(|entry| entry.key().to_owned()));
                covered.extend(part.covered);
            }
            Ok(None) => panic!("a listing that failed has not ended"),
            Err(error) => break error,
        }
    };
    assert_eq!(listing_cut.next().await, Err(error));
    covered.sort_by(|a, b| a.after.cmp(&b.after));
    let (mut gaps, mut at): (Vec<KeySpan>, Option<Arc<str>>) = (Vec::new(), Some("".into()));
    for span in covered {
        let after = at.expect("only the last span has no end");
        if after < span.after {
            gaps.push(KeySpan { after, until: Some(span.after) });
        }
        at = span.until;
    }
    gaps.extend(at.map(|after| KeySpan { after, until: None }));
    assert!(!gaps.is_empty() && names.len() > 5_000, "{} names, {} gaps", names.len(), gaps.len());
    let mut rest = listing(&pager, gaps);
    while let Some(part) = rest.next().await.expect("lists") {
        names.extend(part.entries.iter().map(|entry| entry.key().to_owned()));
    }
    names.sort();
    assert!(names == pager.bucket.names(), "{} names", names.len());
}

#[tokio::test]
async fn no_pages_are_asked_for_that_nobody_takes() {
    let pager = pager(Bucket::numbers(20_000, 50), usize::MAX);
    let listing = listing(&pager, vec![KeySpan::whole()]);
    let asked = || pager.requests.load(Ordering::Relaxed);
    // Until nothing moves: each request ends within 2 ms.
    let mut before = usize::MAX;
    while before != asked() {
        before = asked();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!((PARTS..=PARTS + 2 * CAP + 1).contains(&asked()), "{}", asked());
    drop(listing);
}

#[tokio::test]
async fn a_listing_that_is_dropped_asks_no_more() {
    let pager = pager(Bucket::numbers(20_000, 50), usize::MAX);
    let mut listing = listing(&pager, vec![KeySpan::whole()]);
    for _ in 0..40 {
        listing.next().await.expect("lists").expect("there is more");
    }
    drop(listing);
    while pager.under_way.load(Ordering::Relaxed) > 0 {
        tokio::task::yield_now().await;
    }
    let asked = pager.requests.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(pager.requests.load(Ordering::Relaxed), asked);
    assert!(asked < 100, "{asked}");
}
