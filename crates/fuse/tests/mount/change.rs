//! Objects that change: an open file keeps its version, the next open sees the new one.

use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::Ordering;

use crate::service::Fake;
use crate::support::{Fixture, errno, pattern, pread};

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
    let fixture = Fixture::new(Fake::new());
    fixture.fake.absent_ms.store(3_600_000, std::sync::atomic::Ordering::Relaxed);
    fixture.fake.put("/d/f", "old");
    assert_eq!(fs::read_to_string(fixture.path("d/f")).unwrap(), "old");
    assert_eq!(errno(fs::metadata(fixture.path("d/new"))), libc::ENOENT);
    fixture.fake.put("/d/f", "newer");
    fixture.fake.put("/d/new", "here");
    assert_eq!(fs::read_to_string(fixture.path("d/f")).unwrap(), "old");
    let invalidator = fixture.mount().invalidator();
    assert!(invalidator.path_changed(&"/d/f".parse().unwrap()));
    assert!(invalidator.path_changed(&"/d/new".parse().unwrap()));
    assert!(invalidator.path_changed(&"/unknown/x".parse().unwrap()));
    let (f, new) = (fixture.path("d/f"), fixture.path("d/new"));
    wait_until(|| fs::read_to_string(&f).unwrap() == "newer" && new.exists());

    fixture.fake.put("/d/f", "newest");
    assert!(invalidator.path_changed(&"/".parse().unwrap()));
    wait_until(|| fs::read_to_string(&f).unwrap() == "newest");
    fixture.fake.remove("/d/f");
    assert!(invalidator.path_changed(&"/d".parse().unwrap()));
    wait_until(|| !f.exists());
}

/// Another thread is to bring it about: looks until it has.
fn wait_until(condition: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < end, "it did not come about within 10 s");
        std::thread::yield_now();
    }
}
