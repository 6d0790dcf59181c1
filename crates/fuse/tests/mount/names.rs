//! Names, listings and attributes.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, MetadataExt};
use std::process::Command;
use std::sync::atomic::Ordering;

use crate::service::Fake;
use crate::support::{Fixture, errno, kernel_is_since, pattern, pread, sorted_names, wait_until};

const MANY: usize = 100_000;

fn nasty_names() -> Vec<String> {
    let names =
        ["a b", "ünïcödé 文件 🙂", "100%", "%41", "a+b", r"back\slash", "-rf", "*?[x]", "'\"", "new\nline", "...", " "];
    names.map(str::to_owned).into_iter().chain(["x".repeat(255), "é".repeat(127)]).collect()
}

#[test]
fn the_kernel_knows_no_more_files_than_it_may() {
    const MAX: u64 = 1_000;
    let fixture = Fixture::with(Fake::new(), |options| options.inodes_max = MAX as usize);
    for n in 0..10 * MAX {
        fixture.fake.put(&format!("/d/{n:06}"), pattern(10, n));
    }
    let (used, kept) = (fixture.path("d/000000"), fs::File::open(fixture.path("d/000001")).unwrap());
    assert_eq!(fs::read(&used).unwrap(), pattern(10, 0));
    // Names with what they stand for, as `find -size` or `ls -l` ask for them.
    let listed = fs::read_dir(fixture.path("d")).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len());
    assert_eq!(listed.sum::<u64>(), 10 * 10 * MAX);
    if !kernel_is_since(6, 18) {
        return;
    }
    wait_until(|| fixture.metric("nodes") <= MAX);
    assert!(fixture.metric("pruned_total") > 0);
    // What is open stays, and what was forgotten is looked up anew.
    assert_eq!(pread(&kept, 0, 10).unwrap(), pattern(10, 1));
    for n in [0, 2, 10 * MAX - 1] {
        assert_eq!(fs::read(fixture.path(&format!("d/{n:06}"))).unwrap(), pattern(10, n));
    }
}

#[test]
fn files_that_were_in_use_are_forgotten_once_they_are_not() {
    const MAX: u64 = 100;
    let fixture = Fixture::with(Fake::new(), |options| options.inodes_max = MAX as usize);
    let names: Vec<_> = (0..4 * MAX).map(|n| format!("d/{n:06}")).collect();
    for name in &names {
        fixture.fake.put(&format!("/{name}"), pattern(10, 1));
    }
    let open: Vec<_> = names.iter().map(|name| fs::File::open(fixture.path(name)).unwrap()).collect();
    assert!(fixture.metric("nodes") >= 4 * MAX);
    if !kernel_is_since(6, 18) {
        return;
    }
    // Asked in vain for as long as they are open.
    wait_until(|| fixture.metric("pruned_total") > 4 * MAX);
    assert!(fixture.metric("nodes") >= 4 * MAX);
    drop(open);
    wait_until(|| fixture.metric("nodes") <= MAX);
}

#[test]
fn nasty_names_are_shown_and_read() {
    let fixture = Fixture::new(Fake::new());
    let mut names = nasty_names();
    for name in &names {
        fixture.fake.put(&format!("/odd/{name}"), name.clone());
        fixture.fake.put(&format!("/odd dirs/{name}/f"), name.clone());
    }
    names.sort_unstable();
    assert_eq!(sorted_names(&fixture.path("odd")), names);
    assert_eq!(sorted_names(&fixture.path("odd dirs")), names);
    for name in &names {
        assert_eq!(fs::read_to_string(fixture.path("odd").join(name)).unwrap(), *name);
        assert_eq!(fs::read_to_string(fixture.path("odd dirs").join(name).join("f")).unwrap(), *name);
    }
}

#[test]
fn names_that_cannot_be_are_absent() {
    let fixture = Fixture::new(Fake::new());
    assert_eq!(errno(fs::metadata(fixture.path(&"x".repeat(256)))), libc::ENAMETOOLONG);
    assert_eq!(errno(fs::metadata(fixture.directory.join(OsStr::from_bytes(b"\xff\xfe")))), libc::ENOENT);
    assert_eq!(errno(fs::metadata(fixture.path("none"))), libc::ENOENT);
}

#[test]
fn a_hundred_thousand_names_come_once_each() {
    for at_hand in [true, false] {
        let fixture = Fixture::new(Fake::new());
        fixture.fake.at_hand.store(at_hand, Ordering::Relaxed);
        for n in 0..MANY {
            fixture.fake.put(&format!("/many/{n:06}"), "");
        }
        let names: Vec<_> = fs::read_dir(fixture.path("many")).unwrap().map(|e| e.unwrap()).collect();
        assert_eq!(names.len(), MANY);
        let unique: HashSet<_> = names.iter().map(fs::DirEntry::file_name).collect();
        assert_eq!(unique.len(), MANY);
        let inodes: HashSet<_> = names.iter().map(DirEntryExt::ino).collect();
        assert_eq!(inodes.len(), MANY);
        // What the listing said is what stat says.
        let some = &names[MANY / 2];
        assert_eq!(some.ino(), some.metadata().unwrap().ino());
        assert!(fixture.metric("nodes") as usize > MANY / 2, "readdirplus brings nodes along");
    }
}

#[test]
fn a_listing_can_be_rewound_and_gone_back_into() {
    let fixture = Fixture::new(Fake::new());
    for n in 0..5000 {
        fixture.fake.put(&format!("/seek/{n:04}"), "");
    }
    // No safe interface in Rust: Python's os calls libc by ctypes.
    let script = r"
import ctypes, sys
libc = ctypes.CDLL(None, use_errno=True)
class D(ctypes.Structure):
    _fields_ = [('ino', ctypes.c_uint64), ('off', ctypes.c_int64), ('len', ctypes.c_ushort), ('type', ctypes.c_ubyte), ('name', ctypes.c_char * 256)]
libc.opendir.restype = ctypes.c_void_p
libc.readdir.argtypes = [ctypes.c_void_p]; libc.readdir.restype = ctypes.POINTER(D)
libc.telldir.argtypes = [ctypes.c_void_p]; libc.telldir.restype = ctypes.c_long
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
libc.rewinddir.argtypes = [ctypes.c_void_p]
d = libc.opendir(sys.argv[1].encode())
places, names = [], []
while True:
    place = libc.telldir(d)
    e = libc.readdir(d)
    if not e: break
    places.append(place); names.append(e.contents.name)
assert names[:2] == [b'.', b'..'], names[:2]
assert len(names) == 5002 and len(set(names)) == 5002, len(names)
for i in [4000, 10, 0, 1, 2, 5001, 2500, 1025, 1026, 1027, 3]:
    libc.seekdir(d, places[i])
    e = libc.readdir(d)
    assert e.contents.name == names[i], (i, e.contents.name, names[i])
libc.rewinddir(d)
assert libc.readdir(d).contents.name == b'.'
again = 1
while libc.readdir(d): again += 1
assert again == 5002, again
";
    let status = Command::new("python3").args(["-c", script]).arg(fixture.path("seek")).status();
    assert!(status.expect("this test needs python3").success());
}

#[test]
fn programs_walk_the_tree() {
    let fixture = Fixture::new(Fake::new());
    for a in 0..5 {
        for b in 0..5 {
            fixture.fake.put(&format!("/tree/{a}/{b}/leaf"), "x");
        }
    }
    let output = Command::new("find").arg(fixture.path("tree")).output().unwrap();
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 1 + 5 + 25 + 25);
    let output = Command::new("find").arg(fixture.path("tree")).args(["-type", "f"]).output().unwrap();
    assert_eq!(output.stdout.iter().filter(|byte| **byte == b'\n').count(), 25);
    assert!(Command::new("ls").arg("-lR").arg(&fixture.directory).output().unwrap().status.success());
}

#[test]
fn attributes_are_as_told() {
    let fixture = Fixture::with(Fake::new(), |options| {
        (options.uid, options.gid, options.file_mode, options.dir_mode) = (1234, 2345, 0o440, 0o550);
    });
    fixture.fake.put("/d/f", vec![7; 1000]);
    let file = fs::metadata(fixture.path("d/f")).unwrap();
    assert_eq!((file.uid(), file.gid(), file.mode()), (1234, 2345, 0o100_440));
    assert_eq!((file.size(), file.blocks(), file.nlink(), file.blksize()), (1000, 2, 1, 4096));
    assert_eq!((file.mtime(), file.mtime_nsec()), (1_700_000_000, 123_456_789));
    let directory = fs::metadata(fixture.path("d")).unwrap();
    assert_eq!((directory.mode(), directory.nlink()), (0o40_550, 1));
    assert!(Command::new("df").arg(&fixture.directory).output().unwrap().status.success());
}

#[test]
fn writes_are_refused_as_read_only() {
    let fixture = Fixture::new(Fake::new());
    fixture.fake.put("/d/f", "x");
    let (new, old) = (fixture.path("d/new"), fixture.path("d/f"));
    let results = [
        fs::write(&new, "x"),
        fs::write(&old, "x"),
        fs::create_dir(&new),
        fs::remove_file(&old),
        fs::rename(&old, &new),
        fs::hard_link(&old, &new),
        std::os::unix::fs::symlink(&old, &new),
        fs::set_permissions(&old, std::os::unix::fs::PermissionsExt::from_mode(0o600)),
        fs::OpenOptions::new().append(true).open(&old).map(drop),
    ];
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(errno(result), libc::EROFS, "case {n}");
    }
}

#[test]
fn absence_is_held_no_longer_than_allowed() {
    for (timeout, lookups) in [(0, 3), (3_600_000, 1)] {
        let fixture = Fixture::new(Fake::new());
        fixture.fake.absent_ms.store(timeout, std::sync::atomic::Ordering::Relaxed);
        let before = fixture.metric("requests_total{op=\"lookup\"}");
        for _ in 0..3 {
            assert_eq!(errno(fs::metadata(fixture.path("none"))), libc::ENOENT);
        }
        assert_eq!(fixture.metric("requests_total{op=\"lookup\"}") - before, lookups);
    }
}

#[test]
fn refused_programs_list_nothing() {
    let fixture = Fixture::with(Fake::new(), |options| options.refuse_programs = vec!["updatedb".to_owned()]);
    fixture.fake.put("/f", "x");
    let place = tempfile::tempdir().unwrap();
    let program = place.path().join("updatedb");
    fs::copy("/bin/ls", &program).unwrap();
    assert!(!Command::new(&program).arg(&fixture.directory).status().unwrap().success());
    assert!(Command::new("ls").arg(&fixture.directory).status().unwrap().success());
}

#[test]
fn another_user_may_enter() {
    use std::os::unix::process::CommandExt;
    let fixture = Fixture::with(Fake::new(), |options| options.allow_other = true);
    fixture.fake.put("/d/f", "for all");
    let output = Command::new("cat").arg(fixture.path("d/f")).uid(65_534).gid(65_534).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "for all", "{}", String::from_utf8_lossy(&output.stderr));
    drop(fixture);

    let fixture = Fixture::with(Fake::new(), |options| options.file_mode = 0o400);
    fixture.fake.put("/f", "for root");
    assert!(!Command::new("cat").arg(fixture.path("f")).uid(65_534).gid(65_534).status().unwrap().success());
    drop(fixture);

    let fixture = Fixture::with(Fake::new(), |options| options.allow_other = false);
    fixture.fake.put("/f", "for one");
    assert!(!Command::new("cat").arg(fixture.path("f")).uid(65_534).gid(65_534).status().unwrap().success());
}
