//! A passthrough open outlives its daemon: the next store on the directory, which knows nothing of it, must not punch what
//! it reads. (Descriptors and maps: `crates/store/tests/holders.rs`.)

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use bytes::Bytes;
use forebay_client::Client;
use forebay_fuse::{Kind, Mount, Passthrough};
use forebay_model::{ByteSize, Capacity, ContentId, EXTENT, NsPath, PAGE, PageIndex, block_sums, page_count, page_len};
use forebay_store::{DirectoryOptions, Fill, Group, Kept, Reserve, Residency, Store, StoreOptions};

use crate::service::Fake;
use crate::support::{options, pattern, pread, runtime};

/// Tells a copy of this program where its store is and where to mount.
const CHILD: &str = "FOREBAY_TEST_HAND_OUT_AND_WAIT";
/// Two extents: one alone would be unlinked, never punched.
const SIZE: u64 = EXTENT + PAGE + 5;

fn open_store(path: &Path) -> Store {
    let capacity = Capacity::Bytes(ByteSize(150 << 20));
    let directories = vec![DirectoryOptions::new(path.to_owned(), capacity)];
    let options = StoreOptions { reserve: Reserve::Bytes(ByteSize(0)), ..StoreOptions::new(directories) };
    Store::open(&options).unwrap().0
}

fn id(number: u64) -> ContentId {
    ContentId::from_u128(u128::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

/// Keeps a page of a content of `bytes`, and waits.
fn keep(store: &Store, number: u64, bytes: &Bytes, page: u32) -> Kept {
    let (size, page) = (bytes.len() as u64, PageIndex(page));
    let start = page.start() as usize;
    let chunk = bytes.slice(start..start + page_len(size, page) as usize);
    let fill = Fill { id: id(number), size, group: Group(0), page, sums: block_sums(&chunk), chunks: vec![chunk] };
    let (send, receive) = mpsc::channel();
    store.keep(fill, Box::new(move |kept| _ = send.send(kept))).map_or_else(Kept::No, |()| receive.recv().unwrap())
}

#[test]
fn child_that_hands_out_and_waits() {
    // What the next test runs in a process of its own; nothing by itself.
    let Ok(places) = std::env::var(CHILD) else { return };
    let (place, mount) = places.split_once(':').unwrap();
    let store = open_store(Path::new(place));
    let bytes = Bytes::from(pattern(SIZE as usize, 1));
    for number in [1, 2] {
        (0..page_count(SIZE)).for_each(|page| assert_eq!(keep(&store, number, &bytes, page), Kept::Yes));
    }
    let fake = Fake::new();
    fake.put_file("/f", file_of(Path::new(place), 1));
    let mut options = options(mount, NsPath::root());
    options.kind = Kind::Streams;
    let runtime = runtime();
    let mount = Mount::start(&options, Client::new(fake, Duration::from_secs(30)), runtime.handle().clone()).unwrap();
    println!("\nmounted, active: {}", mount.passthrough() == Passthrough::Active);
    loop {
        std::thread::park();
    }
}

/// The file of a large content.
fn file_of(place: &Path, number: u64) -> PathBuf {
    let folder = place.join(format!("large/{:02x}", id(number).as_u128() >> 120));
    let is_its = |path: &PathBuf| path.display().to_string().contains(&id(number).to_string());
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find(is_its).unwrap()
}

#[test]
fn a_passthrough_open_keeps_its_bytes_when_its_daemon_was_killed_and_the_next_store_evicts_all() {
    // On a file system that passthrough can read: the build's, not a stacked one.
    let scratch = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (place, point) = (scratch.path().join("store"), scratch.path().join("mount"));
    fs::create_dir(&point).unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "holders::child_that_hands_out_and_waits", "--nocapture"])
        .env(CHILD, format!("{}:{}", place.display(), point.display()))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "mounted, active: true"), "these tests need root");
    let held = File::open(point.join("f")).unwrap();
    let right = pattern(SIZE as usize, 1);
    assert!(pread(&held, 0, 4096).unwrap() == right[..4096]);
    child.kill().unwrap();
    child.wait().unwrap();

    let store = open_store(&place);
    assert_eq!(store.residency(id(1), SIZE), Residency::Whole);
    let others = Bytes::from(pattern(SIZE as usize, 2));
    let is_there = |number| store.residency(id(number), SIZE) != Residency::None;
    let mut number = 1000;
    while is_there(1) || is_there(2) || store.stats().holes_punched == 0 {
        for page in [0, 64, 1, 65] {
            keep(&store, number, &others, page);
        }
        number += 1;
        // Read all the while, here and there.
        let at = (number * 7_919_999) % (SIZE - 4096);
        assert!(pread(&held, at, 4096).unwrap() == right[at as usize..][..4096], "at {at}");
        assert!(number < 3000, "{:?}", store.stats());
    }
    assert!(store.stats().leases_refused > 0, "{:?}", store.stats());
    assert!(pread(&held, 0, SIZE as usize).unwrap() == right, "the passthrough open lost its bytes");
    drop(held);
    rustix::mount::unmount(&point, rustix::mount::UnmountFlags::DETACH).unwrap();
}
