//! Listings: what they show, part by part, whole or on their way.

use std::pin::pin;
use std::sync::Mutex;
use std::task::{self, Wake};

use forebay_model::{CONTENT_MAX, Freshness};

use super::*;
use crate::{Gather, ListingError, Range};

#[test]
fn a_directory_hides_an_object_of_its_name_wherever_it_stands() {
    let w = world(Freshness::default());
    let held = w.list(&[("a", "1"), ("a-b", "2"), ("a.x/", ""), ("a/", ""), ("b", "3")]);
    for limit in 1..7 {
        assert_eq!(all(&held, limit), ["a-b", "a.x", "a", "b"], "{limit}");
    }
    assert_eq!([w.etag("/ml/d/a"), w.etag("/ml/d/a.x"), w.etag("/ml/d/a-b")], ["directory", "directory", "2"]);
}

#[test]
fn parts_of_a_listing_with_newer_names_miss_nothing() {
    let w = world(Freshness::default());
    let held = w.list(&[("a", "1"), ("c", "1"), ("e", "1"), ("x/", "")]);
    for name in ["0", "b", "d", "f"] {
        w.learn(&format!("/ml/d/{name}"), file("2"));
    }
    w.learn("/ml/d/c", Observed::Absent);
    w.learn("/ml/d/x", file("1"));
    w.learn("/ml/d/y", Observed::Directory);
    for limit in 1..9 {
        assert_eq!(all(&held, limit), ["0", "a", "b", "d", "e", "f", "x", "y"], "{limit}");
    }
}

#[test]
fn keys_that_no_name_stands_for_are_counted() {
    let w = world(Freshness::default());
    let writer = w.begin(Absence::Told);
    let long = format!("d/{}", "n".repeat(256));
    let mut gather = Gather::new(&writer, w.catalog().begin());
    let keys = ["d//", "d//x", "d/./", "d/..", "d/a\0b", &long, "elsewhere"];
    gather.push(keys.map(|key| (key.to_owned(), file("1")))).expect("it fits");
    gather.finish().expect("it fits");
    assert!(!writer.is_empty());
    let Paged::Page(page) = writer.finish().expect("it is whole").page("", 10) else { panic!("no page") };
    assert_eq!((page.entries.len(), page.hidden), (0, 7));
    let larger = ObservedFile { size: CONTENT_MAX + 1, mtime: TimestampNs(1), version: Version::Etag("1".into()) };
    let writer = w.begin(Absence::Told);
    writer.range(&w.catalog().begin(), "", &[("a".to_owned(), Observed::File(larger))]).expect("it fits");
    assert_eq!((writer.len(), writer.is_empty()), (0, false));
}

#[test]
fn what_is_coming_in_is_told_until_it_has_come() {
    let w = world(Freshness::default());
    let writer = w.begin(Absence::Told);
    writer.range(&w.catalog().begin(), "", &part(&[("a", "1"), ("b", "1")])).expect("it fits");
    let seen = w.catalog().coming_in();
    assert_eq!(seen.iter().map(|l| (l.path.as_str(), l.names)).collect::<Vec<_>>(), [("/ml/d", 2)]);
    writer.covered(&w.catalog().begin(), "b", None).expect("it fits");
    writer.finish().expect("it is whole");
    assert_eq!(w.catalog().coming_in(), []);
    // One that was given up waits for somebody to go on with it, and is not being made.
    drop(w.begin(Absence::Told));
    assert_eq!(w.catalog().coming_in(), []);
}

#[test]
fn a_marker_shows_that_an_empty_directory_exists() {
    let w = world(Freshness::default());
    let writer = w.begin(Absence::Told);
    assert!(writer.is_empty());
    writer.range(&w.catalog().begin(), "", &part(&[("", "1")])).expect("it fits");
    assert!(!writer.is_empty());
    writer.covered(&w.catalog().begin(), "", None).expect("it fits");
    assert!(all(&writer.finish().expect("it is whole"), 10).is_empty());
}

#[test]
fn what_comes_in_no_order_is_put_in_order_on_disk() {
    for runs_of in [3, 7, 100, 10_000] {
        let w = world(Freshness::default());
        let writer = w.begin(Absence::Told);
        let mut gather = Gather::new(&writer, w.catalog().begin()).with_runs_of(runs_of);
        for i in 0..1000 {
            let name = (i * 7) % 1000;
            gather
                .push([(format!("d/{name:03}"), file("1")), (format!("d/{name:03}-x/"), file("1"))])
                .expect("it fits");
        }
        gather.push([("d/003".to_owned(), file("2")), ("d/999".to_owned(), Observed::Directory)]).expect("it fits");
        gather.finish().expect("it fits");
        let held = writer.finish().expect("it is whole");
        let names = all(&held, 37);
        assert_eq!(names.len(), 2000, "{runs_of}");
        assert_eq!(names.iter().filter(|name| **name == "999").count(), 1);
        assert_eq!([w.etag("/ml/d/003"), w.etag("/ml/d/999")], ["1", "directory"]);
    }
}

#[test]
fn names_can_be_used_while_the_rest_comes_in() {
    let w = world(Freshness::default());
    let writer = w.begin(Absence::Told);
    let asked = w.catalog().begin();
    writer.range(&asked, "m", &part(&[("n", "1"), ("p", "2")])).expect("it fits");
    assert_eq!(
        ["n", "o", "p", "q", "a"].map(|n| w.etag(&format!("/ml/d/{n}"))),
        ["1", "absent", "unknown", "unknown", "unknown"]
    );
    let held = w.catalog().filling(&w.source, &path("/ml/d"), None).expect("it is on its way");
    assert_eq!(held.page("", 10), Paged::NotYet);
    assert_eq!(names(&held.page("m", 10)), ["n"], "whether `p` is hidden by a directory is not known yet");
    writer.range(&asked, "", &part(&[("a", "3"), ("b/", "")])).expect("it fits");
    assert_eq!(names(&held.page("", 10)), ["a", "b"]);
    assert_eq!(writer.finish().err(), Some(ListingError::Gaps));
    assert_eq!(writer.gaps(), [gap("b/", Some("m")), gap("p", None)]);
    writer.covered(&asked, "b/", Some("m")).expect("it fits");
    writer.range(&asked, "p", &part(&[("z", "4")])).expect("it fits");
    assert!(w.held().is_none());
    writer.covered(&asked, "z", None).expect("it fits");
    let held = writer.finish().expect("it is whole");
    assert_eq!(all(&held, 2), ["a", "b", "n", "p", "z"]);
    assert_eq!(held.len(), 5);
    assert_eq!(w.etag("/ml/d/q"), "absent");
}

/// Looks, at the very moment at which it is woken, for a listing that is coming in.
struct Looker {
    world: Arc<World>,
    found: Mutex<Vec<bool>>,
}

impl Wake for Looker {
    fn wake(self: Arc<Self>) {
        let found = self.world.catalog().filling(&self.world.source, &path("/ml/d"), None).is_some();
        self.found.lock().expect("nobody panics").push(found);
    }
}

#[test]
fn who_waits_for_a_listing_to_begin_is_woken_when_it_can_be_read() {
    let w = Arc::new(world(Freshness::default()));
    for what in ["new", "gone on with"] {
        let looker = Arc::new(Looker { world: w.clone(), found: Mutex::default() });
        let mut begun = pin!(w.catalog().begun());
        assert!(begun.as_mut().poll(&mut task::Context::from_waker(&looker.clone().into())).is_pending());
        let writer = w.begin(Absence::Told);
        assert_eq!(*looker.found.lock().expect("nobody panics"), [true], "{what}");
        writer.range(&w.catalog().begin(), "", &part(&[("a", "1")])).expect("it fits");
    }
}

fn gap(after: &str, to: Option<&str>) -> Range {
    Range { after: after.into(), to: to.map(Into::into) }
}

#[test]
fn several_write_ranges_of_one_listing_at_once() {
    let w = world(Freshness::default());
    let writer = w.begin(Absence::Told);
    std::thread::scope(|scope| {
        for lister in 0..4 {
            let (writer, catalog) = (&writer, w.catalog());
            scope.spawn(move || {
                let mut after = if lister == 0 { String::new() } else { format!("{}", lister * 25_000 + 99_999) };
                for first in (100_000 + lister * 25_000..100_000 + (lister + 1) * 25_000).step_by(1000) {
                    let names: Vec<_> = (first..first + 1000).map(|n| (n.to_string(), file("1"))).collect();
                    writer.range(&catalog.begin(), &after, &names).expect("it fits");
                    after = (first + 999).to_string();
                }
                if lister == 3 {
                    writer.covered(&catalog.begin(), &after, None).expect("it fits");
                }
            });
        }
    });
    let held = writer.finish().expect("it is whole");
    let listed = all(&held, 1024);
    assert_eq!(listed.len(), 100_000);
    assert!(listed.is_sorted());
    assert_eq!([w.etag("/ml/d/150000"), w.etag("/ml/d/200000")], ["1", "absent"]);
}

#[test]
fn an_interrupted_listing_is_gone_on_with() {
    let w = world(Freshness::default());
    let writer = w.begin(Absence::Told);
    let asked = w.catalog().begin();
    writer.range(&asked, "", &part(&[("a", "1"), ("b", "1")])).expect("it fits");
    drop(writer);
    assert!(w.catalog().filling(&w.source, &path("/ml/d"), None).is_none(), "nobody is listing");
    assert_eq!(w.etag("/ml/d/a"), "1", "what came is of use");
    w.learn("/ml/d/b", file("2"));
    let writer = w.begin(Absence::Told);
    assert_eq!(writer.gaps(), [gap("b", None)]);
    writer.range(&asked, "b", &part(&[("c", "1")])).expect("it fits");
    writer.covered(&asked, "c", None).expect("it fits");
    writer.finish().expect("it is whole");
    assert_eq!(w.listed(), ["a:1", "b:2", "c:1"]);
}

#[test]
fn who_checks_at_each_opening_does_not_go_on_with_an_older_listing() {
    let w = world(Freshness::Check);
    let writer = w.begin(Absence::Told);
    writer.range(&w.catalog().begin(), "", &part(&[("a", "1")])).expect("it fits");
    drop(writer);
    assert_eq!(w.begin(Absence::Told).gaps(), [gap("", None)]);
}

#[test]
fn a_new_listing_takes_the_place_of_the_old_one_whole_and_its_room() {
    let w = world(Freshness::default());
    let many: Vec<String> = (0..20_000).map(|n| format!("{n:05}")).collect();
    let mut used = 0;
    for round in 0..5 {
        let etag = round.to_string();
        let named: Vec<_> = many.iter().map(|name| (name.as_str(), etag.as_str())).collect();
        let held = w.list(&named);
        assert_eq!(all(&held, 5000).len(), 20_000);
        assert_eq!(w.etag("/ml/d/12345"), etag);
        drop(held);
        w.catalog().settle();
        if round == 0 {
            used = w.catalog().disk_used();
        }
        assert!(w.catalog().disk_used() < used * 3 / 2, "{} after {used}", w.catalog().disk_used());
    }
}

#[test]
fn the_bound_on_disk_holds_and_the_least_recently_used_goes() {
    let mut w = world_of(Freshness::Immutable, ByteSize(8 << 20));
    let many: Vec<String> = (0..5_000).map(|n| format!("{n:05}")).collect();
    let named: Vec<_> = many.iter().map(|name| (name.as_str(), "0123456789abcdef")).collect();
    for directory in 0..100 {
        let writer = w.catalog().begin_listing(&w.source, &path(&format!("/ml/{directory}")), Absence::Told);
        w.write(&writer, &named);
        drop(writer);
        w.catalog().settle();
    }
    let file = std::fs::metadata(w.options().directory.join("data.mdb")).expect("the database").len();
    assert!(file <= 8 << 20, "{file}");
    let kept = |w: &World| (0..100).filter(|d| w.etag(&format!("/ml/{d}/00042")) != "unknown").count();
    let before = kept(&w);
    assert!((5..100).contains(&before), "{before}");
    assert_ne!(w.etag("/ml/99/00042"), "unknown", "the last used stays");
    w.restart();
    assert!(kept(&w) > 0);
}

#[test]
fn a_listing_that_does_not_fit_says_so() {
    let w = world_of(Freshness::Immutable, ByteSize(4 << 20));
    let writer = w.begin(Absence::Told);
    let (mut after, mut failed) = (String::new(), false);
    for first in (0..400_000).step_by(1000) {
        let names: Vec<_> = (first..first + 1000).map(|n| (format!("{n:06}"), file(&format!("{n:032}")))).collect();
        if writer.range(&w.catalog().begin(), &after, &names).is_err() {
            failed = true;
            break;
        }
        after.clone_from(&names[999].0);
    }
    assert!(failed);
    assert_eq!(writer.finish().err(), Some(ListingError::NotKept));
    drop(writer);
    w.catalog().settle();
    w.list(&[("a", "1")]);
    assert_eq!(w.etag("/ml/d/a"), "1", "there is room for others again");
}

#[test]
fn who_goes_on_after_a_directory_waits_until_it_is_known_that_it_is_one() {
    let w = world(Freshness::default());
    let writer = w.begin(Absence::Told);
    let held = writer.so_far();
    assert_eq!(held.page("e", 10), Paged::NotYet, "an object `e` would stand before the directory");
    w.write(&writer, &[("e/", ""), ("x", "1")]);
    assert_eq!(names(&held.page("e", 10)), ["x"]);
}

#[test]
fn what_changed_its_kind_between_two_parts_is_not_told_to_be_absent() {
    let w = world(Freshness::Immutable);
    let writer = w.begin(Absence::Told);
    // "a" is a directory, after "a-b" in the origin's order.
    let asked = w.catalog().begin();
    writer.range(&asked, "", &part(&[("a-b", "1")])).expect("it fits");
    // Now it is an object, before it.
    let asked = w.catalog().begin();
    writer.range(&asked, "a-b", &part(&[("b", "1")])).expect("it fits");
    writer.covered(&asked, "b", None).expect("it fits");
    writer.finish().expect("it is whole");
    assert_eq!(w.etag("/ml/d/a"), "unknown");
    assert_eq!((w.etag("/ml/d/a-b"), w.etag("/ml/d/b")), ("1".to_owned(), "1".to_owned()));
    assert_eq!((w.etag("/ml/d/a.x"), w.etag("/ml/d/c")), ("absent".to_owned(), "absent".to_owned()));
    w.learn("/ml/d/a", Observed::Absent);
    assert_eq!(w.etag("/ml/d/a"), "absent");
}

#[test]
fn a_large_directory_is_cut_into_ranges_that_the_next_listing_begins_with() {
    let mut w = world(Freshness::Immutable);
    let writer = w.begin(Absence::Told);
    assert_eq!(writer.gaps().len(), 1);
    let mut after = String::new();
    for nth in 0..120 {
        let asked = w.catalog().begin();
        let names: Vec<String> = (0..10_000).map(|n| format!("{:08}", nth * 10_000 + n)).collect();
        let part: Vec<_> = names.iter().map(|name| (name.clone(), file("1"))).collect();
        writer.range(&asked, &after, &part).expect("it fits");
        after = names.last().expect("there are some").clone();
    }
    writer.covered(&w.catalog().begin(), &after, None).expect("it fits");
    writer.finish().expect("it is whole");
    drop(writer);
    let cuts = |w: &World| w.begin(Absence::Told).gaps().iter().map(|gap| gap.to.clone()).collect::<Vec<_>>();
    let expected = vec![Some("00999999".into()), None];
    assert_eq!(cuts(&w), expected);
    w.restart();
    assert_eq!(cuts(&w), expected);
    assert_eq!((w.etag("/ml/d/01199999"), w.etag("/ml/d/01200000")), ("1".to_owned(), "absent".to_owned()));
    // What was left of a listing that was interrupted is cut there too.
    let writer = w.begin(Absence::Told);
    writer.range(&w.catalog().begin(), "", &part(&[("00500000", "2")])).expect("it fits");
    drop(writer);
    let gaps = w.begin(Absence::Told).gaps();
    assert_eq!(gaps[0].after, "00500000".into());
    assert_eq!(gaps.len(), 2);
}
