//! What is known after a restart, and after a crash.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use forebay_model::Freshness;

use super::*;
use crate::Range;

/// Threads that read and live on.
const READERS: usize = 16;

#[test]
fn listings_entries_and_absences_survive_with_their_age() {
    for is_crash in [false, true] {
        let mut w = world(Freshness::default());
        w.list(&[("a", "1"), ("b", "2"), ("c", "3"), ("x/", "")]);
        w.learn("/ml/d/b", file("9"));
        w.forget("/ml/d/c");
        w.learn("/ml/e/a", file("5"));
        w.learn("/ml/e/b", Observed::Absent);
        w.catalog().flush();
        if is_crash {
            w.crash();
        } else {
            w.restart();
        }
        let etags = ["d/a", "d/b", "d/c", "d/x", "d/y", "e/a", "e/b"].map(|name| w.etag(&format!("/ml/{name}")));
        assert_eq!(etags, ["1", "9", "unknown", "directory", "absent", "5", "absent"], "crash: {is_crash}");
        assert_eq!(all(&w.held().expect("a listing"), 2), ["a", "b", "c", "x"]);
        let later = std::time::Instant::now() + Duration::from_secs(61);
        assert_eq!([w.etag_at("/ml/d/a", later), w.etag_at("/ml/e/a", later)], ["unknown", "unknown"]);
        // Observations of this life are newer than all of the one before.
        w.learn("/ml/d/a", file("7"));
        w.learn("/ml/e/a", file("8"));
        assert_eq!([w.etag("/ml/d/a"), w.etag("/ml/e/a")], ["7", "8"]);
    }
}

/// A place that a thread had for good would be given back when the thread ends. At the end of the process that is the moment
/// at which another thread closes the database: a write to memory that is unmapped.
#[test]
fn threads_that_read_leave_no_place_in_the_table_of_readers() {
    let mut w = world(Freshness::Immutable);
    w.list(&[("a", "1")]);
    w.restart();
    let w = &w;
    let (done, looked) = mpsc::channel();
    thread::scope(|scope| {
        let ends: Vec<_> = (0..READERS)
            .map(|_| {
                let (end, is_to_end) = mpsc::channel::<()>();
                let done = done.clone();
                scope.spawn(move || {
                    let etag = w.etag("/ml/d/a");
                    done.send(etag).expect("it is waited for");
                    is_to_end.recv().expect_err("the other side ends");
                });
                // One after the other: none needs a place beside the others'.
                assert_eq!(looked.recv().expect("it looks"), "1");
                end
            })
            .collect();
        let places = w.catalog().places_of_readers();
        assert!(places < READERS / 2, "{places} places for {READERS} threads that do not read");
        drop(ends);
    });
}

#[test]
fn what_another_origin_had_at_the_same_path_is_not_told() {
    let mut w = world(Freshness::Immutable);
    w.list(&[("a", "1")]);
    w.learn("/ml/e/a", file("5"));
    w.restart();
    let mut other = (*w.source).clone();
    other.prefix = "elsewhere/".into();
    w.source = Arc::new(other);
    assert_eq!([w.etag("/ml/d/a"), w.etag("/ml/e/a")], ["unknown", "unknown"]);
    assert!(!w.has_listing());
}

#[test]
fn a_listing_that_a_crash_interrupted_is_gone_on_with_and_never_short() {
    let mut w = world(Freshness::Immutable);
    let writer = w.begin(Absence::Told);
    let asked = w.catalog().begin();
    writer.range(&asked, "", &part(&[("a", "1"), ("b", "1")])).expect("it fits");
    writer.range(&asked, "m", &part(&[("n", "1")])).expect("it fits");
    w.learn("/ml/d/b", file("2"));
    w.catalog().flush();
    writer.range(&asked, "b", &part(&[("c", "1")])).expect("it fits");
    std::mem::drop(writer);
    w.crash();
    assert!(!w.has_listing());
    assert_eq!(["a", "b", "n", "z"].map(|n| w.etag(&format!("/ml/d/{n}"))), ["1", "2", "unknown", "unknown"]);
    w.learn("/ml/d/a", file("3"));
    let writer = w.begin(Absence::Told);
    let gaps = writer.gaps();
    assert_eq!(gaps.last(), Some(&Range { after: "n".into(), to: None }));
    assert_eq!(*gaps[0].after, *"b");
    assert!(writer.finish().is_err());
    let asked = w.catalog().begin();
    writer.range(&asked, "b", &part(&[("c", "1"), ("m", "1")])).expect("it fits");
    writer.range(&asked, "n", &part(&[("o", "1")])).expect("it fits");
    writer.covered(&asked, "o", None).expect("it fits");
    writer.finish().expect("it is whole");
    assert_eq!(w.listed(), ["a:3", "b:2", "c:1", "m:1", "n:1", "o:1"]);
    drop(writer);
    w.restart();
    assert_eq!(w.listed(), ["a:3", "b:2", "c:1", "m:1", "n:1", "o:1"]);
}

#[test]
fn a_crash_of_the_machine_begins_anew() {
    let mut w = world(Freshness::Immutable);
    w.list(&[("a", "1")]);
    w.catalog().flush();
    w.catalog.take().expect("it is open").crash();
    let marker = w.options().directory.join("marker");
    let text = std::fs::read_to_string(&marker).expect("a marker");
    assert!(text.contains(" open "), "{text}");
    std::fs::write(&marker, "forebay catalog 2 open 00000000000000000000000000000001\n").expect("written");
    w.open();
    assert_eq!(w.etag("/ml/d/a"), "unknown");
    w.list(&[("a", "2")]);
    w.restart();
    assert_eq!(w.etag("/ml/d/a"), "2");
}

#[test]
fn a_listing_that_ends_after_the_catalog_holds_nothing_open() {
    let mut w = world(Freshness::default());
    let writer = w.begin(Absence::Told);
    writer.range(&w.catalog().begin(), "", &part(&[("a", "1"), ("b", "1")])).expect("it fits");
    writer.covered(&w.catalog().begin(), "b", None).expect("it fits");
    w.catalog().close();
    // A catalog that somebody holds open cannot be opened again.
    drop(writer.finish().expect("it is whole"));
    drop(writer);
    w.restart();
    let writer = w.begin(Absence::Told);
    assert_eq!(writer.gaps(), [], "it goes on where it stopped: nothing was missing but its end");
    writer.finish().expect("it is whole");
    assert_eq!(w.listed(), ["a:1", "b:1"]);
}
