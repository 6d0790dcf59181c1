//! A directory as an origin: names, kinds of file, and files that change under a read.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use forebay_model::{ByteRange, Version};
use forebay_origin::{Listed, Origin, OriginErrorKind, OriginSettings, Proof};
use support::{keys, list, read, read_all, soon};

fn origin(root: &Path) -> (Origin, String) {
    let mut url = String::from("file://");
    url.push_str(root.to_str().unwrap());
    let origin = Origin::open(OriginSettings::new(url.parse().unwrap())).unwrap();
    let prefix = origin.prefix().to_owned();
    (origin, prefix)
}

#[tokio::test]
async fn names_are_exact_and_special_files_are_hidden() {
    let dir = tempfile::tempdir().unwrap();
    let names = [" lead", "trail ", "per%20cent", "a+b", "h#", "q?", "back\\slash", "é", "new\nline"];
    for name in names {
        fs::write(dir.path().join(name), name).unwrap();
    }
    fs::create_dir(dir.path().join("sub")).unwrap();
    fs::write(dir.path().join("sub/x"), "x").unwrap();
    symlink(dir.path().join("sub"), dir.path().join("link-to-sub")).unwrap();
    symlink("a+b", dir.path().join("link")).unwrap();
    symlink("nowhere", dir.path().join("dangling")).unwrap();
    symlink("loop", dir.path().join("loop")).unwrap();
    fs::write(dir.path().join(OsStr::from_bytes(b"not-utf8-\xff")), "x").unwrap();
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from_raw_mode(0o600), 0)
        .unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();

    let (origin, prefix) = origin(dir.path());
    assert_eq!(origin.proof(), Proof::StatAround);
    let mut listing = origin.list(&prefix);
    let mut listed = Vec::new();
    while let Some(batch) = listing.next_batch().await.unwrap() {
        listed.extend(batch);
    }
    assert_eq!(listing.hidden(), 3);
    listed.sort_by(|a, b| a.key().cmp(b.key()));
    let mut wanted: Vec<String> =
        names.iter().chain(&["link", "link-to-sub/", "sub/"]).map(|name| format!("{prefix}{name}")).collect();
    wanted.sort();
    assert_eq!(keys(&listed), wanted);
    for entry in &listed {
        if let Listed::Object { key, meta } = entry {
            assert_eq!(origin.stat(key, soon()).await.unwrap(), *meta);
        }
    }
    for name in names {
        assert_eq!(read_all(&origin, &format!("{prefix}{name}")).await.unwrap(), name.as_bytes());
    }
    assert_eq!(read_all(&origin, &format!("{prefix}link-to-sub/x")).await.unwrap(), b"x");
    for name in ["fifo", "socket", "sub", "dangling", "loop", "none", "a+b/x"] {
        let error = origin.stat(&format!("{prefix}{name}"), soon()).await.unwrap_err();
        assert_eq!(error.kind, OriginErrorKind::NotFound, "{name}: {error}");
    }
    let version = Version::Etag("x".into());
    let error = origin.read(&format!("{prefix}fifo"), &version, 1, ByteRange::new(0, 1), soon()).await.err().unwrap();
    assert_eq!(error.kind, OriginErrorKind::NotFound, "{error}");
}

#[tokio::test]
async fn nothing_above_the_root_is_reached() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("root")).unwrap();
    fs::write(dir.path().join("secret"), "x").unwrap();
    let (origin, prefix) = origin(&dir.path().join("root"));
    let above = prefix.strip_suffix("root/").unwrap();
    for key in [format!("{prefix}../secret"), format!("{above}secret"), format!("{prefix}./x"), format!("{prefix}/x")] {
        let error = origin.stat(&key, soon()).await.unwrap_err();
        assert_eq!(error.kind, OriginErrorKind::Invalid, "{key}");
    }
    assert!(list(&origin, &format!("{prefix}../")).await.is_err());
    assert!(list(&origin, above).await.is_err());
}

#[tokio::test]
async fn large_files_and_large_directories() {
    let dir = tempfile::tempdir().unwrap();
    let bytes: Vec<u8> = (0..3_500_001u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    fs::write(dir.path().join("big"), &bytes).unwrap();
    fs::write(dir.path().join("empty"), "").unwrap();
    fs::create_dir(dir.path().join("many")).unwrap();
    for n in 0..2500 {
        fs::write(dir.path().join(format!("many/{n}")), "").unwrap();
    }
    let (origin, prefix) = origin(dir.path());
    let big = format!("{prefix}big");
    let meta = origin.stat(&big, soon()).await.unwrap();
    for (start, end) in [(0, 3_500_001), (1, 1_048_577), (3_500_000, 3_500_001), (5, 5)] {
        let range = ByteRange::new(start, end);
        assert_eq!(read(&origin, &big, &meta, range).await.unwrap(), bytes[start as usize..end as usize]);
    }
    assert_eq!(read_all(&origin, &format!("{prefix}empty")).await.unwrap(), b"");
    assert_eq!(list(&origin, &format!("{prefix}many/")).await.unwrap().len(), 2500);
    assert_eq!(list(&origin, &format!("{prefix}none/")).await.unwrap(), []);
    assert!(origin.has_prefix(&format!("{prefix}many/"), soon()).await.unwrap());
    assert!(!origin.has_prefix(&format!("{prefix}none/"), soon()).await.unwrap());
    assert!(!origin.has_prefix(&format!("{big}/"), soon()).await.unwrap());
    origin.probe().await.unwrap();
    assert_eq!(origin.metrics().in_flight(), 0);
}

#[tokio::test]
async fn a_file_that_changes_under_a_read_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let (origin, prefix) = origin(dir.path());
    let key = format!("{prefix}f");
    let changes: [fn(&Path); 4] = [
        |path| fs::OpenOptions::new().append(true).open(path).unwrap().write_all(b"more").unwrap(),
        |path| fs::OpenOptions::new().write(true).open(path).unwrap().set_len(1 << 20).unwrap(),
        |path| fs::OpenOptions::new().write(true).open(path).unwrap().write_all(b"over").unwrap(),
        |path| fs::write(path, "").unwrap(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        fs::write(&path, vec![number as u8; 3 << 20]).unwrap();
        let meta = origin.stat(&key, soon()).await.unwrap();
        let mut stream =
            origin.read(&key, &meta.version, meta.size, ByteRange::new(0, meta.size), soon()).await.unwrap();
        assert_eq!(stream.next().await.unwrap().unwrap().len(), 1 << 20);
        change_until_seen(&path, change);
        let error = stream.next().await.unwrap_err();
        assert_eq!(error.kind, OriginErrorKind::Changed, "{number}: {error}");
        let error = origin.read(&key, &meta.version, meta.size, ByteRange::new(0, 1), soon()).await.err().unwrap();
        assert_eq!(error.kind, OriginErrorKind::Changed, "{number}: {error}");
    }
}

/// Changes a file again until its times differ: two changes within a tick of the clock have the same.
fn change_until_seen(path: &Path, change: fn(&Path)) {
    let before = fs::metadata(path).unwrap().modified().unwrap();
    while fs::metadata(path).unwrap().modified().unwrap() == before {
        change(path);
    }
}

#[tokio::test]
async fn a_replaced_file_is_another_version_and_an_open_one_is_read_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    fs::write(&path, vec![1; 2 << 20]).unwrap();
    let (origin, prefix) = origin(dir.path());
    let key = format!("{prefix}f");
    let old = origin.stat(&key, soon()).await.unwrap();
    let kept = fs::File::open(&path).unwrap();
    fs::write(dir.path().join("new"), vec![2; 2 << 20]).unwrap();
    fs::rename(dir.path().join("new"), &path).unwrap();
    let new = origin.stat(&key, soon()).await.unwrap();
    assert_ne!(old.version, new.version);
    let error = origin.read(&key, &old.version, old.size, ByteRange::new(0, 1), soon()).await.err().unwrap();
    assert_eq!(error.kind, OriginErrorKind::Changed, "{error}");
    drop(kept);
}

#[tokio::test]
async fn a_root_that_is_not_mounted_is_no_empty_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (origin, prefix) = origin(&dir.path().join("absent"));
    assert_eq!(origin.stat(&format!("{prefix}f"), soon()).await.unwrap_err().kind, OriginErrorKind::Unavailable);
    assert_eq!(list(&origin, &prefix).await.unwrap_err().kind, OriginErrorKind::Unavailable);
    assert_eq!(origin.probe().await.unwrap_err().kind, OriginErrorKind::Unavailable);
}
