//! What may be said, and for how long.

use std::time::{Duration, Instant};

use forebay_model::{ContentId, Freshness};

use super::*;
use crate::generation::{NEWER_MAX, SEEN_MAX};

#[test]
fn a_listing_answers_lookups_of_its_names_and_of_absent_ones() {
    let w = world(Freshness::default());
    assert_eq!(w.etag("/ml/d/a"), "unknown");
    w.list(&[("a", "1"), ("b", "2"), ("c/", "")]);
    let etags = ["a", "b", "c", "d"].map(|name| w.etag(&format!("/ml/d/{name}")));
    assert_eq!(etags, ["1", "2", "directory", "absent"]);
}

#[test]
fn the_newer_observation_wins_in_lookups_and_listings() {
    let w = world(Freshness::default());
    w.learn("/ml/d/a", file("0"));
    w.list(&[("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(w.etag("/ml/d/a"), "1");
    w.learn("/ml/d/a", file("9"));
    w.learn("/ml/d/b", Observed::Absent);
    w.learn("/ml/d/bb", file("8"));
    assert_eq!(w.listed(), ["a:9", "bb:8", "c:3"]);
}

#[test]
fn what_changed_is_not_answered_from_an_older_listing() {
    let w = world(Freshness::Immutable);
    w.list(&[("a", "1")]);
    w.forget("/ml/d/a");
    assert_eq!(w.etag("/ml/d/a"), "unknown");
    let Paged::Page(page) = w.held().expect("a listing").page("", 10) else { panic!("no page") };
    assert_eq!(page.fresh_for, Duration::ZERO, "the kernel must look the name up");
    w.learn("/ml/d/a", file("2"));
    assert_eq!((w.etag("/ml/d/a"), w.listed()), ("2".to_owned(), vec!["a:2".to_owned()]));
}

#[test]
fn what_is_forgotten_while_a_listing_is_on_its_way_stays_forgotten() {
    let w = world(Freshness::Immutable);
    w.list(&[("a", "1"), ("b", "1")]);
    let writer = w.begin(Absence::Told);
    w.forget("/ml/d/a");
    w.write(&writer, &[("a", "1"), ("b", "1")]);
    assert_eq!([w.etag("/ml/d/a"), w.etag("/ml/d/b")], ["unknown", "1"]);
}

#[test]
fn an_old_version_that_is_gone_does_not_take_the_new_one_with_it() {
    let w = world(Freshness::default());
    w.learn("/ml/d/a", file("2"));
    w.catalog().forget(&w.source, &path("/ml/d/a"), ContentId::from_u128(1));
    assert_eq!(w.etag("/ml/d/a"), "2");
}

#[test]
fn who_is_in_the_middle_of_a_listing_goes_on_in_it() {
    let w = world(Freshness::Check);
    w.list(&[("a", "1")]);
    assert!(w.held().is_none());
    let held = w.catalog().listing_to_continue(&w.source, &path("/ml/d"), Instant::now()).expect("a listing");
    assert_eq!(held.fresh_for, Duration::ZERO);
    assert_eq!(all(&held, 10), ["a"]);
}

#[test]
fn a_slow_answer_to_an_older_question_is_not_kept() {
    let w = world(Freshness::default());
    let old = w.catalog().begin();
    w.learn("/ml/d/a", file("2"));
    w.catalog().learn(&w.source, &path("/ml/d/a"), old, file("1"));
    assert_eq!(w.etag("/ml/d/a"), "2");
}

#[test]
fn a_listing_that_nobody_has_seen_tells_no_absence() {
    let w = world(Freshness::default());
    w.write(&w.begin(Absence::Open), &[("a", "1")]);
    assert_eq!([w.etag("/ml/d/a"), w.etag("/ml/d/b")], ["1", "unknown"]);
    w.learn("/ml/d/b", Observed::Absent);
    assert_eq!(w.etag("/ml/d/b"), "absent");
}

#[test]
fn what_is_seen_while_the_first_listing_is_on_its_way_stays_above_it() {
    let w = world(Freshness::default());
    let writer = w.begin(Absence::Told);
    w.learn("/ml/d/a", file("2"));
    w.learn("/ml/d/new", file("1"));
    let held = w.write(&writer, &[("a", "1")]);
    assert_eq!(all(&held, 10), ["a", "new"]);
    assert_eq!(w.listed(), ["a:2", "new:1"]);
    drop(writer);
    assert!(!w.catalog().shelf().has_fillings());
}

#[test]
fn a_listing_is_held_however_many_of_its_names_are_seen_meanwhile_unless_too_many_differ() {
    let check = |seen: usize, etag: &str, is_held: bool| {
        let w = world(Freshness::Immutable);
        let writer = w.begin(Absence::Told);
        let mut names: Vec<_> = (0..seen).map(|name| name.to_string()).collect();
        names.sort();
        for name in &names {
            w.learn(&format!("/ml/d/{name}"), file(etag));
        }
        let names: Vec<_> = names.iter().map(|name| (name.as_str(), "old")).collect();
        w.write(&writer, &names);
        assert_eq!(w.has_listing(), is_held, "{seen} names seen as {etag}");
    };
    check(3 * NEWER_MAX, "old", true);
    check(NEWER_MAX, "new", true);
    check(NEWER_MAX + 1, "new", false);
    check(SEEN_MAX + 1, "old", false);
}

#[test]
fn too_many_names_that_differ_drop_a_listing() {
    let w = world(Freshness::Immutable);
    w.list(&[("a", "1")]);
    for name in 0..NEWER_MAX {
        w.learn(&format!("/ml/d/{name}"), file("new"));
    }
    assert!(w.has_listing());
    w.learn("/ml/d/one-more", file("new"));
    assert!(!w.has_listing());
    assert_eq!([w.etag("/ml/d/one-more"), w.etag("/ml/d/a")], ["new", "unknown"]);
}

#[test]
fn a_listing_that_nobody_has_seen_neither_shows_nor_hides_one_that_was() {
    let w = world(Freshness::default());
    w.write(&w.begin(Absence::Open), &[("a", "1")]);
    assert!(w.held().is_none(), "not to be shown");
    assert!(w.has_listing());
    w.list(&[("a", "1")]);
    w.write(&w.begin(Absence::Open), &[("a", "1"), ("b", "1")]);
    assert_eq!([w.etag("/ml/d/a"), w.etag("/ml/d/b")], ["1", "absent"]);
}

#[test]
fn answers_end_with_their_freshness() {
    for (freshness, seconds, file_now, absent_now) in [
        (Freshness::default(), 59, "1", "absent"),
        (Freshness::default(), 61, "unknown", "unknown"),
        (Freshness::Immutable, 61, "1", "unknown"),
        (Freshness::Check, 0, "unknown", "unknown"),
    ] {
        let w = world(freshness);
        w.list(&[("a", "1")]);
        w.learn("/ml/e/a", file("1"));
        w.learn("/ml/e/x", Observed::Absent);
        let now = Instant::now() + Duration::from_secs(seconds);
        for directory in ["/ml/d", "/ml/e"] {
            assert_eq!(w.etag_at(&format!("{directory}/a"), now), file_now, "{freshness} {seconds} {directory}");
            assert_eq!(w.etag_at(&format!("{directory}/x"), now), absent_now, "{freshness} {seconds} {directory}");
        }
    }
}

#[test]
fn a_sea_of_lookups_stays_within_its_part_of_the_disk() {
    let w = world_of(Freshness::default(), ByteSize(8 << 20));
    w.list(&[("a", "1")]);
    for i in 0..60_000 {
        w.learn(&format!("/ml/e/{i}"), file("1"));
        if i % 4_000 == 0 {
            w.catalog().flush();
        }
    }
    w.catalog().flush();
    assert!(w.catalog().disk_used() < 4 << 20, "{}", w.catalog().disk_used());
    assert!(w.has_listing(), "it was not for them that the listing had to go");
}

#[test]
fn a_sea_of_lookups_stays_within_its_memory() {
    let w = world(Freshness::default());
    let mut options = w.options();
    options.directory = w.directory.path().join("other");
    options.memory = ByteSize(4 << 20);
    let catalog = Catalog::open(&options).expect("a catalog");
    for i in 0..50_000 {
        catalog.learn(&w.source, &path(&format!("/ml/d/{i}")), catalog.begin(), file("1"));
    }
    assert!(catalog.entries_weight() <= 1 << 20, "{}", catalog.entries_weight());
}
