//! Reading: right bytes or an error.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::sync::atomic::Ordering;

use forebay_model::FaultKind;

use crate::service::Fake;
use crate::support::{Fixture, errno, pattern, pread};

const SIZES: [usize; 8] = [0, 1, 4095, 4096, 114_688, (1 << 20) - 1, (1 << 20) + 1, 5_000_001];

#[test]
fn every_byte_is_right_at_any_offset_at_hand_and_not() {
    for at_hand in [true, false] {
        let fixture = Fixture::new(Fake::new());
        fixture.fake.at_hand.store(at_hand, Ordering::Relaxed);
        for size in SIZES {
            let bytes = pattern(size, size as u64);
            fixture.fake.put(&format!("/d/{size}"), bytes.clone());
            let path = fixture.path(&format!("d/{size}"));
            let file = File::open(&path).unwrap();
            for offset in [0, 1, 4096, size / 2, size.saturating_sub(1), size, size + 1, size + 9_999_999] {
                for len in [1, 4096, 70_000] {
                    let want = &bytes[offset.min(size)..(offset + len).min(size)];
                    assert!(pread(&file, offset as u64, len).unwrap() == want, "{size} bytes: {len} at {offset}");
                }
            }
            assert!(fs::read(&path).unwrap() == bytes, "{size} bytes, at hand: {at_hand}");
            let metadata = fs::metadata(&path).unwrap();
            assert_eq!(metadata.len(), size as u64);
        }
    }
}

#[test]
fn several_threads_read_what_is_not_at_hand() {
    let fixture = Fixture::new(Fake::new());
    fixture.fake.at_hand.store(false, Ordering::Relaxed);
    for n in 0..50 {
        fixture.fake.put(&format!("/many/{n}"), pattern(200_000, n));
    }
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let fixture = &fixture;
            scope.spawn(move || {
                for n in 0..50 {
                    let n = (n + thread * 7) % 50;
                    assert!(fs::read(fixture.path(&format!("many/{n}"))).unwrap() == pattern(200_000, n));
                }
            });
        }
    });
}

#[test]
fn a_mapped_file_holds_the_bytes() {
    let fixture = Fixture::new(Fake::new());
    let bytes = pattern(3_000_000, 1);
    fixture.fake.put("/mapped", bytes.clone());
    // A program of its own maps it: Python's mmap.
    let script = "import mmap,sys; f=open(sys.argv[1],'rb'); m=mmap.mmap(f.fileno(),0,prot=mmap.PROT_READ); \
                  sys.stdout.buffer.write(m[2_500_000:]+m[:2_500_000])";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(fixture.path("mapped")).output();
    let output = output.expect("this test needs python3");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stdout == [&bytes[2_500_000..], &bytes[..2_500_000]].concat());
}

#[test]
fn a_program_in_the_mount_runs() {
    let fixture = Fixture::with(Fake::new(), |options| options.file_mode = 0o555);
    fixture.fake.put("/bin/true", fs::read("/bin/true").unwrap());
    assert!(std::process::Command::new(fixture.path("bin/true")).status().unwrap().success());
}

#[test]
fn the_kernel_asks_to_open_once_only() {
    let fixture = Fixture::new(Fake::new());
    for n in 0..20 {
        fixture.fake.put(&format!("/{n}"), pattern(1000, n));
        assert_eq!(fs::read(fixture.path(&n.to_string())).unwrap(), pattern(1000, n));
    }
    assert_eq!(fixture.metric("requests_total{op=\"open\"}"), 1);
}

#[test]
fn the_kernel_reads_ahead_by_a_mebibyte_a_request() {
    let fixture = Fixture::new(Fake::new());
    fixture.fake.put("/big", pattern(32 << 20, 3));
    let mut file = File::open(fixture.path("big")).unwrap();
    let mut total = 0;
    let mut buffer = vec![0; 128 << 10];
    while let n @ 1.. = file.read(&mut buffer).unwrap() {
        total += n;
    }
    assert_eq!(total, 32 << 20);
    let reads = fixture.metric("requests_total{op=\"read\"}");
    assert!(reads <= 64, "32 MiB took {reads} reads");
}

#[test]
fn faults_have_their_errno() {
    let fixture = Fixture::new(Fake::new());
    fixture.fake.absent_ms.store(0, Ordering::Relaxed);
    let cases = [
        (FaultKind::NotFound, libc::ENOENT),
        (FaultKind::Denied, libc::EACCES),
        (FaultKind::TimedOut, libc::ETIMEDOUT),
        (FaultKind::Unavailable, libc::EIO),
        (FaultKind::Damaged, libc::EIO),
        (FaultKind::Bug, libc::EIO),
        (FaultKind::NotADirectory, libc::ENOTDIR),
    ];
    fixture.fake.at_hand.store(false, Ordering::Relaxed);
    for (kind, number) in cases {
        fixture.fake.put("/f", "x");
        fixture.fake.put("/d/f", "x");
        fixture.fake.fail("/f", kind);
        fixture.fake.fail("/d", kind);
        assert_eq!(errno(fs::metadata(fixture.path("f"))), number, "{kind:?}");
        assert_eq!(errno(fs::read_dir(fixture.path("d"))), number, "{kind:?}");
    }
}

#[test]
fn a_read_that_fails_shows_its_errno() {
    for (kind, number) in [(FaultKind::TimedOut, libc::ETIMEDOUT), (FaultKind::Unavailable, libc::EIO)] {
        let fixture = Fixture::new(Fake::new());
        fixture.fake.put("/f", pattern(10_000, 1));
        let file = File::open(fixture.path("f")).unwrap();
        fixture.fake.at_hand.store(false, Ordering::Relaxed);
        fixture.fake.fail("/f", kind);
        assert_eq!(errno(pread(&file, 0, 100)), number, "{kind:?}");
    }
}

#[test]
fn a_panic_and_a_short_answer_are_errors_and_the_mount_goes_on() {
    let fixture = Fixture::new(Fake::new());
    let bytes = pattern(300_000, 1);
    fixture.fake.put("/f", bytes.clone());
    fixture.fake.at_hand.store(false, Ordering::Relaxed);
    for wrong in [&fixture.fake.panic, &fixture.fake.short] {
        wrong.store(true, Ordering::Relaxed);
        assert_eq!(errno(fs::read(fixture.path("f"))), libc::EIO);
        wrong.store(false, Ordering::Relaxed);
    }
    assert!(fs::read(fixture.path("f")).unwrap() == bytes);
    assert!(fixture.metric("panics_total") >= 1);
}

#[test]
fn seeks_know_the_end() {
    let fixture = Fixture::new(Fake::new());
    fixture.fake.put("/f", pattern(10_000, 1));
    let mut file = File::open(fixture.path("f")).unwrap();
    assert_eq!(file.seek(SeekFrom::End(0)).unwrap(), 10_000);
}
