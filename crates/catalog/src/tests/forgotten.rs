//! What is forgotten on request stays forgotten: over restarts, and whatever was on its way.

use std::time::{Duration, Instant};

use forebay_model::Freshness;

use super::*;
use crate::Asked;

/// Names and listings of two directories, one in the other.
fn filled(w: &World) {
    w.list(&[("a", "1"), ("b", "1"), ("e/", "")]);
    w.learn("/ml/d/b", file("2"));
    w.learn("/ml/d/x", Observed::Absent);
    w.learn("/ml/d/e/deep", file("3"));
    w.learn("/ml/other", file("4"));
}

fn told(w: &World) -> [String; 5] {
    ["d/a", "d/b", "d/x", "d/e/deep", "other"].map(|name| w.etag(&format!("/ml/{name}")))
}

#[test]
fn what_is_forgotten_is_asked_for_anew_and_nothing_else() {
    for (at, is_tree, expected) in [
        ("/ml/d", false, ["unknown", "unknown", "unknown", "3", "4"]),
        ("/ml/d", true, ["unknown", "unknown", "unknown", "unknown", "4"]),
        ("/ml/d/b", false, ["1", "unknown", "absent", "3", "4"]),
        ("/ml/other", true, ["1", "2", "absent", "3", "unknown"]),
        ("/ml", false, ["1", "2", "absent", "3", "unknown"]),
        ("/ml", true, ["unknown"; 5]),
        ("/", true, ["unknown"; 5]),
    ] {
        let mut w = world(Freshness::Immutable);
        filled(&w);
        assert_eq!(told(&w), ["1", "2", "absent", "3", "4"]);
        w.catalog().forget_all(&path(at), is_tree);
        assert_eq!(told(&w), expected, "{at} {is_tree}");
        let shown = w.held().is_some();
        assert_eq!(shown, expected[0] == "1", "{at} {is_tree}: the listing");
        assert!(w.catalog().flush());
        w.crash();
        assert_eq!(told(&w), expected, "{at} {is_tree} after a crash");
        assert_eq!(w.held().is_some(), shown, "{at} {is_tree} after a crash: the listing");
        filled(&w);
        assert_eq!(told(&w), ["1", "2", "absent", "3", "4"], "what is learnt from then on is told");
        w.restart();
        assert_eq!(told(&w), ["1", "2", "absent", "3", "4"]);
    }
}

#[test]
fn a_name_in_doubt_is_asked_for_before_its_directory_is_shown() {
    let mut w = world(Freshness::Immutable);
    filled(&w);
    for name in ["a", "x", "new"] {
        w.catalog().forget_name(&w.source, &path("/ml/d").join(name));
    }
    assert!(w.catalog().flush());
    w.crash();
    let held = w.held().expect("the listing stays");
    assert_eq!(held.asks().iter().map(|name| &**name).collect::<Vec<_>>(), ["a", "new", "x"]);
    w.learn("/ml/d/a", Observed::Absent);
    w.learn("/ml/d/new", file("5"));
    w.learn("/ml/d/x", Observed::Absent);
    assert!(held.asks().is_empty());
    assert_eq!(w.listed(), ["b:2", "e:directory", "new:5"]);
}

#[test]
fn an_answer_that_was_on_its_way_brings_nothing_back() {
    let forget: [fn(&World); 3] = [
        |w| w.catalog().forget_name(&w.source, &path("/ml/d/a")),
        |w| _ = w.catalog().forget_all(&path("/ml/d"), false),
        |w| _ = w.catalog().forget_all(&path("/ml"), true),
    ];
    for forget in forget {
        let w = world(Freshness::Immutable);
        let (asked, writer) = (w.catalog().begin(), w.begin(Absence::Told));
        let epoch = w.catalog().epoch();
        forget(&w);
        assert_ne!(w.catalog().epoch(), epoch, "who asks now joins nobody who asked before");
        let told = w.catalog().learn(&w.source, &path("/ml/d/a"), asked, file("1"));
        let Held::Found(Found { fresh_for, .. }) = told else { panic!("{told:?}") };
        assert_eq!(fresh_for, Duration::ZERO, "who waits is given it, and may not hold it");
        assert_eq!(w.etag("/ml/d/a"), "unknown");
        let held = w.write(&writer, &[("a", "1")]);
        assert_eq!(all(&held, 10), ["a"], "who waits for the listing is given it");
        assert_eq!(w.etag("/ml/d/a"), "unknown");
        assert!(w.held().is_none_or(|held| !held.asks().is_empty()), "nobody begins on it as it is");
        w.learn("/ml/d/a", file("2"));
        assert_eq!(w.etag("/ml/d/a"), "2");
    }
}

#[test]
fn an_interrupted_listing_of_what_was_forgotten_is_not_gone_on_with() {
    let w = world(Freshness::Immutable);
    let writer = w.begin(Absence::Told);
    writer.range(&w.catalog().begin(), "", &part(&[("a", "1")])).expect("it fits");
    drop(writer);
    w.catalog().forget_all(&path("/ml/d"), false);
    let gaps = w.begin(Absence::Told).gaps();
    assert_eq!((gaps.len(), &*gaps[0].after), (1, ""));
}

#[test]
fn who_is_in_the_middle_of_a_listing_goes_on_in_it_though_it_was_forgotten() {
    let w = world(Freshness::Immutable);
    filled(&w);
    w.catalog().forget_all(&path("/ml"), true);
    let held = w.catalog().listing_to_continue(&w.source, &path("/ml/d"), Instant::now()).expect("it is there");
    assert_eq!((held.fresh_for, all(&held, 10).len()), (Duration::ZERO, 3));
}

/// Less than the ages that are told apart.
const MOMENT: Duration = Duration::from_millis(400);

/// For how long the catalog says that what it tells of `at` may be held.
fn fresh_for(w: &World, at: &str, now: Instant) -> Duration {
    match w.catalog().lookup(&w.source, &path(at), now) {
        Held::Found(found) => found.fresh_for,
        Held::Absent(fresh_for) => fresh_for,
        Held::Unknown => Duration::ZERO,
    }
}

#[test]
fn what_is_told_may_be_held_for_what_is_left_and_no_longer() {
    // The catalog's time begins with one second: nothing is older.
    let (ttl, age) = (Duration::from_secs(60), Duration::from_millis(900));
    let mut w = world(Freshness::Ttl(ttl));
    let asked = |w: &World| Asked { when: Instant::now() - age, ..w.catalog().begin() };
    // Told at once to who waits, and later from memory, disk and listing.
    for (at, seen) in [("/ml/e/a", file("1")), ("/ml/e/x", Observed::Absent), ("/ml/e/d", Observed::Directory)] {
        let held = match w.catalog().learn(&w.source, &path(at), asked(&w), seen) {
            Held::Found(found) => found.fresh_for,
            Held::Absent(fresh_for) => fresh_for,
            Held::Unknown => panic!("{at}"),
        };
        assert!(held <= ttl - age && held > ttl - age - Duration::from_secs(5), "{at}: {held:?}");
    }
    let begun = Instant::now();
    w.list(&[("a", "1"), ("d/", "")]);
    let later = begun + age;
    for is_after_restart in [false, true] {
        if is_after_restart {
            w.restart();
        }
        for (at, now) in [
            ("/ml/e/a", Instant::now()),
            ("/ml/e/x", Instant::now()),
            ("/ml/e/d", Instant::now()),
            ("/ml/d/a", later),
            ("/ml/d/d", later),
            ("/ml/d/absent", later),
        ] {
            let held = fresh_for(&w, at, now);
            let context = format!("{at}, after a restart: {is_after_restart}: {held:?}");
            // The listing was begun a moment after `begun`.
            let most = ttl - age + if at.starts_with("/ml/d/") { MOMENT } else { Duration::ZERO };
            assert!(held <= most && held > ttl - age - Duration::from_secs(5), "{context}");
            assert_eq!(fresh_for(&w, at, now + ttl), Duration::ZERO, "{context}");
        }
        let listing = w.catalog().listing(&w.source, &path("/ml/d"), later).expect("a listing").fresh_for;
        assert!(listing <= ttl - age + MOMENT, "{listing:?}");
        let Paged::Page(page) = w.held().expect("a listing").page("", 10) else { panic!("no page") };
        assert!(page.fresh_for <= ttl);
    }
}
