//! The two ways by which requests come.

use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use forebay_fuse::Transport;

use crate::service::Fake;
use crate::support::{DEVICE, Fixture, pattern, pread};

fn is_enabled() -> bool {
    fs::read_to_string("/sys/module/fuse/parameters/enable_uring").is_ok_and(|value| value.trim() == "Y")
}

#[test]
fn requests_come_by_io_uring_where_that_is_enabled_and_wanted() {
    for wanted in [true, false] {
        let fixture = Fixture::with(Fake::new(), |options| options.io_uring = wanted);
        let expected = if wanted && is_enabled() { Transport::IoUring } else { Transport::Device };
        assert_eq!(fixture.mount().transport(), expected);
    }
}

#[test]
fn all_tests_of_mounts_pass_over_the_device_too() {
    if std::env::var_os(DEVICE).is_some() || !is_enabled() {
        // This is the child, or all of them run so anyhow.
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap()).env(DEVICE, "1").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}\n{err}");
}

#[test]
fn more_requests_than_a_queue_has_entries_are_all_answered() {
    const FILES: usize = 400;
    let fake = Fake::new();
    let bytes: Vec<Vec<u8>> = (0..FILES).map(|i| pattern(70_000, i as u64)).collect();
    for (i, bytes) in bytes.iter().enumerate() {
        fake.put(&format!("/f{i}"), bytes.clone());
    }
    let fixture = Fixture::new(fake);
    let (next, bytes) = (Arc::new(AtomicUsize::new(0)), Arc::new(bytes));
    std::thread::scope(|scope| {
        for _ in 0..200 {
            scope.spawn(|| {
                loop {
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(bytes) = bytes.get(i) else { return };
                    let file = fs::File::open(fixture.path(&format!("f{i}"))).unwrap();
                    assert_eq!(pread(&file, 65_000, 5_000).unwrap(), bytes[65_000..]);
                    assert!(fs::read(fixture.path(&format!("f{i}"))).unwrap() == *bytes);
                }
            });
        }
    });
}
