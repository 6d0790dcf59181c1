//! Objects that change: an open file keeps its version, the next open sees the new one.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

use forebay_client::Outdated;
use forebay_model::NsPath;

use crate::service::Fake;
use crate::support::{Fixture, errno, pattern, pread, wait_until};

#[test]
fn an_open_file_keeps_its_bytes_and_the_next_open_sees_the_new_ones() {
    for at_hand in [true, false] {
        let fixture = Fixture::new(Fake::new());
        fixture.fake.at_hand.store(at_hand, Ordering::Relaxed);
        fixture.fake.fresh_ms.store(0, Ordering::Relaxed);
        fixture.fake.put("/f", pattern(500_000, 1));
        let old = File::open(fixture.path("f")).unwrap();
        assert_eq!(pread(&old, 0, 100).unwrap(), pattern(100, 1));
        fixture.fake.put("/f", pattern(300_000, 2));
        assert!(fs::read(fixture.path("f")).unwrap() == pattern(300_000, 2));
        // Neither cached nor read before.
        assert_eq!(pread(&old, 400_000, 100).unwrap(), pattern(500_000, 1)[400_000..400_100]);
        assert_eq!(old.metadata().unwrap().len(), 500_000);
        assert_ne!(old.metadata().unwrap().ino(), fs::metadata(fixture.path("f")).unwrap().ino());
    }
}

#[test]
fn bytes_that_are_gone_are_stale_and_the_next_open_sees_the_new_ones() {
    let fixture = Fixture::new(Fake::new());
    let id = fixture.fake.put("/d/f", pattern(5_000_000, 1));
    let old = File::open(fixture.path("d/f")).unwrap();
    fixture.fake.put("/d/f", pattern(1000, 2));
    // Names are held for an hour here: without a word to the kernel the old version would be opened.
    assert_eq!(fs::metadata(fixture.path("d/f")).unwrap().len(), 5_000_000);
    fixture.fake.lose(id);
    assert_eq!(errno(pread(&old, 4_000_000, 100)), libc::ESTALE);
    // Told on a thread of its own: soon.
    let path = fixture.path("d/f");
    wait_until(|| fs::metadata(&path).unwrap().len() == 1000);
    assert_eq!(fs::read(&path).unwrap(), pattern(1000, 2));
}

#[test]
fn an_outdated_name_is_looked_up_anew() {
    let fixture = held_for_an_hour();
    fixture.fake.put("/d/f", "old");
    assert_eq!(fs::read_to_string(fixture.path("d/f")).unwrap(), "old");
    assert_eq!(errno(fs::metadata(fixture.path("d/new"))), libc::ENOENT);
    fixture.fake.put("/d/f", "newer");
    fixture.fake.put("/d/new", "here");
    assert_eq!(fs::read_to_string(fixture.path("d/f")).unwrap(), "old");
    assert!(fixture.let_go(&[name("/d/f"), name("/d/new"), name("/unknown/x"), name("/")]));
    assert_eq!(fs::read_to_string(fixture.path("d/f")).unwrap(), "newer");
    assert_eq!(fs::read_to_string(fixture.path("d/new")).unwrap(), "here");

    fixture.fake.put("/d/f", "newest");
    assert!(fixture.let_go(&[Outdated::Tree(path("/"))]));
    assert_eq!(fs::read_to_string(fixture.path("d/f")).unwrap(), "newest");
    fixture.fake.remove("/d/f");
    assert!(fixture.let_go(&[name("/d/f")]));
    assert_eq!(errno(fs::metadata(fixture.path("d/f"))), libc::ENOENT);
}

/// Names that are in use stay in the kernel's tree when the directories above them are taken out of it.
#[test]
fn names_below_what_is_outdated_are_looked_up_anew_though_they_are_in_use() {
    for (outdated, deep_changes) in [
        (Outdated::Directory(path("/d")), false),
        (Outdated::Tree(path("/d")), true),
        (Outdated::Directory(path("/")), true),
        (Outdated::Tree(path("/")), true),
    ] {
        let fixture = held_for_an_hour();
        fixture.fake.put("/d/f", pattern(50_000, 1));
        fixture.fake.put("/d/e/deep", pattern(50_000, 3));
        let (f, deep) = (fixture.path("d/f"), fixture.path("d/e/deep"));
        let held = [File::open(&f).unwrap(), File::open(&deep).unwrap(), File::open(fixture.path("d/e")).unwrap()];
        assert_eq!(errno(fs::metadata(fixture.path("d/new"))), libc::ENOENT);
        assert_eq!(errno(fs::metadata(fixture.path("d/e/new"))), libc::ENOENT);
        fixture.fake.put("/d/f", pattern(70_000, 2));
        fixture.fake.put("/d/e/deep", pattern(70_000, 4));
        fixture.fake.put("/d/new", "new");
        fixture.fake.put("/d/e/new", "new");
        assert!(fixture.let_go(std::slice::from_ref(&outdated)));
        assert!(fs::read(&f).unwrap() == pattern(70_000, 2), "{outdated:?}");
        assert_eq!(fs::read_to_string(fixture.path("d/new")).unwrap(), "new", "{outdated:?}");
        if deep_changes {
            assert!(fs::read(&deep).unwrap() == pattern(70_000, 4), "{outdated:?}");
            assert_eq!(fs::read_to_string(fixture.path("d/e/new")).unwrap(), "new", "{outdated:?}");
        }
        assert_eq!(pread(&held[0], 30_000, 100).unwrap(), pattern(50_000, 1)[30_000..30_100], "{outdated:?}");
        assert_eq!(pread(&held[1], 30_000, 100).unwrap(), pattern(50_000, 3)[30_000..30_100], "{outdated:?}");
    }
}

#[test]
fn a_program_stays_in_its_directory_though_that_is_outdated() {
    let fixture = held_for_an_hour();
    fixture.fake.put("/d/e/f", "old");
    let mut shell = std::process::Command::new("sh")
        .args(["-c", "cat f; echo; read _; cat f; echo; ls; cat \"$PWD\"/f; pwd -P"])
        .current_dir(fixture.path("d/e"))
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    let mut lines = std::io::BufReader::new(shell.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut lines, &mut first).unwrap();
    assert_eq!(first, "old\n");
    fixture.fake.put("/d/e/f", "new");
    assert!(fixture.let_go(&[Outdated::Tree(path("/d"))]));
    std::io::Write::write_all(shell.stdin.as_mut().unwrap(), b"\n").unwrap();
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut lines, &mut rest).unwrap();
    let place = fs::canonicalize(&fixture.directory).unwrap().join("d/e");
    assert_eq!(rest, format!("new\nf\nnew{}\n", place.display()));
    assert!(shell.wait().unwrap().success());
}

/// A page of names that is at hand was asked for before: the kernel may show its names, but not hold them.
#[test]
fn a_listing_that_is_under_way_brings_no_outdated_names_back() {
    for outdated in [Outdated::Tree(path("/")), name("/d/0500")] {
        let fixture = held_for_an_hour();
        for n in 0..1000 {
            fixture.fake.put(&format!("/d/{n:04}"), "old");
        }
        let mut names = fs::read_dir(fixture.path("d")).unwrap();
        names.next().unwrap().unwrap();
        fixture.fake.put("/d/0500", "newer");
        assert!(fixture.let_go(std::slice::from_ref(&outdated)));
        assert_eq!(names.filter(Result::is_ok).count(), 999);
        assert_eq!(fs::read_to_string(fixture.path("d/0500")).unwrap(), "newer", "{outdated:?}");
    }
}

#[test]
fn a_name_in_doubt_is_looked_up_once_and_stays_if_it_is_the_same() {
    let fixture = held_for_an_hour();
    fixture.fake.put("/d/f", "x");
    let held = File::open(fixture.path("d/f")).unwrap();
    assert_eq!(errno(fs::metadata(fixture.path("new"))), libc::ENOENT);
    fixture.fake.put("/new/f", "x");
    let lookups = || fixture.metric("requests_total{op=\"lookup\"}");
    let before = lookups();
    assert!(fixture.let_go(&[Outdated::Doubtful(path("/d")), Outdated::Doubtful(path("/new"))]));
    for _ in 0..3 {
        assert_eq!(fs::metadata(fixture.path("d/f")).unwrap().ino(), held.metadata().unwrap().ino());
    }
    assert_eq!(lookups(), before + 1);
    assert!(fixture.path("new").is_dir());
}

#[test]
fn more_names_than_can_be_told_one_by_one_are_outdated_together() {
    let fixture = held_for_an_hour();
    fixture.fake.put("/d/f", "old");
    assert_eq!(fs::read_to_string(fixture.path("d/f")).unwrap(), "old");
    fixture.fake.put("/d/f", "newer");
    let names: Vec<_> = (0..5_000).map(|n| name(&format!("/d/{n}"))).collect();
    assert!(fixture.let_go(&names));
    assert_eq!(fs::read_to_string(fixture.path("d/f")).unwrap(), "newer");
    assert_eq!(fixture.metric("invalidations_of_all_total"), 1);
}

/// A mount whose names the kernel holds for an hour, and those that do not exist too.
fn held_for_an_hour() -> Fixture {
    let fixture = Fixture::new(Fake::new());
    fixture.fake.absent_ms.store(3_600_000, Ordering::Relaxed);
    fixture
}

fn path(text: &str) -> NsPath {
    text.parse().unwrap()
}

fn name(text: &str) -> Outdated {
    Outdated::Name(path(text))
}
