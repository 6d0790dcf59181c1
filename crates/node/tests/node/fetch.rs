//! Reads through a node: right bytes, each page once, every wait ends.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::common::{OPEN, Setup, context, node, path, pattern, world};
use forebay_model::{ByteRange, Content, ContentId, Fault, FaultKind, Freshness, PAGE, PageIndex, Principal, pages_of};
use forebay_node::Listener;
use forebay_route::{Context, ReadNow, RemoteNode, Service};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// Pages that the cloud was asked for more than once.
fn asked_twice(reads: &[(String, ByteRange)]) -> Vec<(String, PageIndex)> {
    let mut pages: Vec<_> = reads.iter().flat_map(|(key, range)| pages_of(*range).map(|p| (key.clone(), p))).collect();
    pages.sort();
    let twice = pages.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0].clone());
    twice.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_page_is_fetched_once_for_all_who_wait() {
    let w = Arc::new(world(&Setup::default()));
    let bytes = pattern(1, 20 * PAGE as usize + 77);
    w.cloud.put("big", bytes.clone());
    w.cloud.put("small", pattern(2, 5000));
    let (big, small) = (w.content("/ml/big").await, w.content("/ml/small").await);
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..40_u64 {
        let (w, bytes, big, small) = (w.clone(), bytes.clone(), big.clone(), small.clone());
        readers.spawn(async move {
            assert_eq!(w.read(&small, 10, 100).await.expect("a read"), pattern(2, 5000)[10..110]);
            for step in 0..21 {
                let at = (step + reader) % 21 * PAGE;
                let read = w.read(&big, at, PAGE).await.expect("a read");
                assert!(read == bytes[at as usize..(at + PAGE).min(big.size) as usize], "wrong bytes at {at}");
            }
        });
    }
    readers.join_all().await;
    assert_eq!(asked_twice(&w.cloud.reads.lock()), []);
    assert_eq!(w.cloud.bytes_read(), big.size + 5000);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_here_at_the_next_read_and_after_a_restart() {
    let setup = Setup::default();
    let w = world(&setup);
    let bytes = pattern(3, 3 * PAGE as usize + 5);
    w.cloud.put("f", bytes.clone());
    let content = w.content("/ml/f").await;
    w.read(&content, 0, content.size).await.expect("a read");
    let mut buffer = vec![0; content.size as usize];
    let range = ByteRange::new(0, content.size);
    assert_eq!(w.node.read_now(&context(), &content, range, &mut buffer), ReadNow::Filled);
    assert!(buffer == bytes);
    // A reader has its bytes before the store does.
    let until = Instant::now() + Duration::from_secs(5);
    while !w.node.status(&context()).await.expect("a status").contains("\"pages_on_their_way\":0") {
        assert!(Instant::now() < until, "the pages that were read do not reach the store");
        tokio::task::yield_now().await;
    }
    let (cloud, directory) = (w.cloud.clone(), w.directory.clone());
    w.node.close().expect("a clean end");
    drop(w);
    let again = node(&setup, &cloud, &directory);
    buffer.fill(0);
    assert_eq!(again.read_now(&context(), &content, range, &mut buffer), ReadNow::Filled);
    assert!(buffer == bytes);
    assert_eq!(cloud.bytes_read(), content.size);
}

#[tokio::test(flavor = "multi_thread")]
async fn whether_a_try_to_read_is_worth_it_is_known_beforehand() {
    let w = world(&Setup::default());
    w.cloud.put("small", pattern(1, 5_000));
    w.cloud.put("large", pattern(2, 2 * PAGE as usize));
    for (at, other) in [("/ml/small", 0), ("/ml/large", PAGE)] {
        let content = w.content(at).await;
        assert!(!w.node.may_have(&content, 0));
        w.read(&content, 0, 5_000).await.expect("a read");
        let until = Instant::now() + Duration::from_secs(10);
        while !w.node.may_have(&content, other) {
            assert!(Instant::now() < until, "{at}: what was read, or read ahead, is not here");
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn random_reads_of_a_cache_too_small_give_right_bytes() {
    let w = Arc::new(world(&Setup { capacity: 24 << 20, memory: 16 << 20, ..Setup::default() }));
    let mut objects = Vec::new();
    for i in 0..12_u64 {
        let len = [1, 4095, 65_537, PAGE - 1, PAGE, PAGE + 1, 5 * PAGE + 3][i as usize % 7] as usize;
        w.cloud.put(&format!("o{i}"), pattern(i, len));
        objects.push((w.content(&format!("/ml/o{i}")).await, pattern(i, len)));
    }
    let objects = Arc::new(objects);
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..4 {
        let (w, objects) = (w.clone(), objects.clone());
        readers.spawn(async move {
            let mut rng = StdRng::seed_from_u64(reader);
            for _ in 0..300 {
                let (content, bytes) = &objects[rng.random_range(0..objects.len())];
                let start = rng.next_u64() % content.size;
                let range = ByteRange::at(start, rng.next_u64() % (2 * PAGE) + 1, content.size);
                let expected = &bytes[range.start as usize..range.end as usize];
                let mut buffer = vec![0; expected.len()];
                if w.node.read_now(&context(), content, range, &mut buffer) == ReadNow::Absent {
                    buffer = w.read(content, range.start, range.len()).await.expect("a read");
                }
                assert!(buffer == expected, "{} {range:?}", content.key);
            }
        });
    }
    readers.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_fetched_ahead_in_few_requests_and_nothing_twice() {
    let w = world(&Setup::default());
    let bytes = pattern(5, 60 * PAGE as usize);
    w.cloud.put("stream", bytes.clone());
    let content = w.content("/ml/stream").await;
    let step = 128 << 10;
    let mut buffer = vec![0; step];
    for at in (0..bytes.len()).step_by(step) {
        let range = ByteRange::new(at as u64, (at + step) as u64);
        if w.node.read_now(&context(), &content, range, &mut buffer) == ReadNow::Absent {
            buffer = w.read(&content, at as u64, step as u64).await.expect("a read");
        }
        assert!(buffer == bytes[at..at + step], "wrong bytes at {at}");
    }
    let reads = w.cloud.reads.lock();
    assert_eq!(asked_twice(&reads), []);
    assert!(reads.len() <= 20, "{} requests for 60 pages", reads.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_fetched_ahead_reaches_its_reader_from_memory() {
    let w = world(&Setup::default());
    let bytes = pattern(6, 60 * PAGE as usize);
    w.cloud.put("stream", bytes.clone());
    let content = w.content("/ml/stream").await;
    for page in 0..12 {
        w.read(&content, page * PAGE, PAGE).await.expect("a read");
    }
    let until = Instant::now() + Duration::from_secs(10);
    while !w.store.has_page(content.id, PageIndex(12)) {
        assert!(Instant::now() < until, "the next page does not reach the store");
        tokio::task::yield_now().await;
    }
    let before = w.store.stats().bytes_read;
    let mut buffer = vec![0; PAGE as usize];
    let range = ByteRange::at(12 * PAGE, PAGE, content.size);
    assert_eq!(w.node.read_now(&context(), &content, range, &mut buffer), ReadNow::Filled);
    assert!(buffer == bytes[range.start as usize..range.end as usize]);
    assert_eq!(w.store.stats().bytes_read, before, "it was not read back from the disk");
    assert_eq!(w.node.read_now(&context(), &content, range, &mut buffer), ReadNow::Filled);
    assert_eq!(w.store.stats().bytes_read, before + PAGE, "it is not held in memory for a second reader");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_object_is_an_error_and_then_the_new_version() {
    let w = world(&Setup { freshness: Freshness::Immutable, ..Setup::default() });
    w.cloud.put("f", pattern(1, 3 * PAGE as usize));
    let old = w.content("/ml/f").await;
    let first = w.read(&old, 0, 100).await.expect("a read");
    w.cloud.put("f", pattern(2, 100));
    // What is here of the old version goes on; what is missing is an error.
    assert_eq!(w.read(&old, 0, 100).await, Ok(first));
    assert_eq!(w.read(&old, 2 * PAGE, 100).await.map_err(|f| f.kind), Err(FaultKind::Changed));
    let new = w.content("/ml/f").await;
    assert_eq!(w.read(&new, 0, 200).await, Ok(pattern(2, 100).to_vec()));
    // Whoever still reads the old one does not make the new one be asked for again.
    let stats = w.cloud.stats.load(Ordering::Relaxed);
    assert_eq!(w.read(&old, 2 * PAGE, 100).await.map_err(|f| f.kind), Err(FaultKind::Changed));
    assert_eq!(w.content("/ml/f").await, new);
    assert_eq!(w.cloud.stats.load(Ordering::Relaxed), stats);
    // One that is deleted has changed, too, for whoever has it open.
    w.cloud.put("g", pattern(1, 100));
    let gone = w.content("/ml/g").await;
    w.cloud.objects.lock().remove("g");
    assert_eq!(w.read(&gone, 0, 100).await.map_err(|f| f.kind), Err(FaultKind::Changed));
    let lookup = w.node.lookup(&context(), &path("/ml/g")).await;
    assert_eq!(lookup.map_err(|f| f.kind), Err(FaultKind::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_origin_is_a_fault_and_its_return_ends_it() {
    let w = world(&Setup::default());
    w.cloud.put("f", pattern(1, 100));
    let content = w.content("/ml/f").await;
    *w.cloud.fault.lock() = Some(FaultKind::Unavailable);
    assert_eq!(w.read(&content, 0, 100).await.map_err(|f| f.kind), Err(FaultKind::Unavailable));
    let lookup = w.node.lookup(&context(), &path("/ml/other")).await;
    assert_eq!(lookup.map_err(|f| f.kind), Err(FaultKind::Unavailable));
    *w.cloud.fault.lock() = None;
    assert_eq!(w.read(&content, 0, 100).await, Ok(pattern(1, 100).to_vec()));
    let lookup = w.node.lookup(&context(), &path("/ml/other")).await;
    assert_eq!(lookup.map_err(|f| f.kind), Err(FaultKind::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_wait_for_a_silent_origin_ends_by_the_deadline() {
    let w = world(&Setup::default());
    w.cloud.put("f", pattern(1, 100));
    let content = w.content("/ml/f").await;
    let silence = w.cloud.gate.acquire_many(OPEN as u32).await.expect("the gate");
    let short = || Context::new(Principal::Forebay, Duration::from_millis(200));
    let began = Instant::now();
    let read = w.node.read(&short(), &content, ByteRange::new(0, 100)).await;
    let lookup = w.node.lookup(&short(), &path("/ml/g")).await;
    let list = w.node.list(&short(), &path("/ml"), "", 10).await;
    for fault in [read.err(), lookup.err(), list.err()] {
        assert_eq!(fault.map(|f: Fault| f.kind), Some(FaultKind::TimedOut));
    }
    assert!(began.elapsed() < Duration::from_secs(5));
    drop(silence);
    assert!(w.read(&content, 0, 100).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_for_bytes_on_their_way_is_bounded() {
    let w = Arc::new(world(&Setup { memory: 16 << 20, ..Setup::default() }));
    w.cloud.put("f", pattern(1, 40 * PAGE as usize));
    let content = w.content("/ml/f").await;
    let silence = w.cloud.gate.acquire_many(OPEN as u32).await.expect("the gate");
    let mut readers = tokio::task::JoinSet::new();
    for page in 0..40 {
        let (w, content) = (w.clone(), content.clone());
        readers.spawn(async move { w.read(&content, page * PAGE, PAGE).await.expect("a read").len() });
    }
    // As many as memory allows have asked; the others wait for memory.
    let until = Instant::now() + Duration::from_secs(5);
    while w.cloud.bytes_read() < 16 << 20 && Instant::now() < until {
        tokio::task::yield_now().await;
    }
    assert_eq!(w.cloud.bytes_read(), 16 << 20);
    drop(silence);
    assert_eq!(readers.join_all().await, [PAGE as usize; 40]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_hides_an_object_of_its_name_in_lookups_as_in_listings() {
    let w = world(&Setup { freshness: Freshness::Check, ..Setup::default() });
    for key in ["d", "d/x", "e/marker/", "f"] {
        w.cloud.put(key, pattern(1, 10));
    }
    let is_directory = async |at: &str| w.node.lookup(&context(), &path(at)).await.map(|f| f.entry.is_directory());
    assert_eq!(is_directory("/ml/d").await, Ok(true));
    assert_eq!(is_directory("/ml/e").await, Ok(true));
    assert_eq!(is_directory("/ml/e/marker").await, Ok(true));
    assert_eq!(is_directory("/ml/f").await, Ok(false));
    assert_eq!(is_directory("/ml/g").await.map_err(|f| f.kind), Err(FaultKind::NotFound));
    assert_eq!(is_directory("/").await, Ok(true));
    assert_eq!(is_directory("/other").await.map_err(|f| f.kind), Err(FaultKind::NotFound));
    let listed = async |at: &str| {
        let page = w.node.list(&context(), &path(at), "", 100).await?;
        Ok::<_, Fault>(page.entries.iter().map(|e| (e.name.to_string(), e.entry.is_directory())).collect::<Vec<_>>())
    };
    let names = |names: &[(&str, bool)]| Ok(names.iter().map(|(n, d)| ((*n).to_owned(), *d)).collect::<Vec<_>>());
    assert_eq!(listed("/").await, names(&[("ml", true)]));
    assert_eq!(listed("/ml").await, names(&[("d", true), ("e", true), ("f", false)]));
    assert_eq!(listed("/ml/e/marker").await, names(&[]));
    assert_eq!(listed("/ml/none").await.map_err(|f| f.kind), Err(FaultKind::NotFound));
}

#[tokio::test(flavor = "multi_thread")]
async fn lookups_and_listings_ask_the_origin_once() {
    let w = Arc::new(world(&Setup::default()));
    for i in 0..2500 {
        w.cloud.put(&format!("d/{i:05}"), pattern(1, 10));
    }
    let mut askers = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let w = w.clone();
        askers.spawn(async move {
            let (mut names, mut after) = (0, String::new());
            loop {
                let page = w.node.list(&context(), &path("/ml/d"), &after, 700).await.expect("a listing");
                names += page.entries.len();
                after = page.entries.last().expect("a name").name.to_string();
                if !page.more {
                    return names;
                }
            }
        });
    }
    assert_eq!(askers.join_all().await, [2500; 20]);
    for i in 0..2500 {
        w.node.lookup(&context(), &path(&format!("/ml/d/{i:05}"))).await.expect("a file");
    }
    assert_eq!((w.cloud.lists.load(Ordering::Relaxed), w.cloud.stats.load(Ordering::Relaxed)), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_answers_over_its_socket_as_in_its_process() {
    let w = world(&Setup::default());
    let bytes = pattern(9, 20 * PAGE as usize + 1);
    w.cloud.put("d/f", bytes.clone());
    let socket = w.directory.path().join("run/node.sock");
    let listener = Listener::bind(&socket, w.node.clone()).expect("a socket");
    assert!(Listener::bind(&socket, w.node.clone()).is_err(), "a second process must not take the socket over");
    let remote = RemoteNode::connect(&socket).await.expect("a connection");
    let found = remote.lookup(&context(), &path("/ml/d/f")).await.expect("a file");
    assert_eq!(found.entry, w.node.lookup(&context(), &path("/ml/d/f")).await.expect("a file").entry);
    let page = remote.list(&context(), &path("/ml/d"), "", 10).await.expect("a listing");
    assert_eq!(page.entries.len(), 1);
    let content = w.content("/ml/d/f").await;
    let read = remote.read(&context(), &content, ByteRange::new(0, content.size)).await.expect("a read");
    assert!(read.concat() == bytes);
    let absent = remote.lookup(&context(), &path("/ml/none")).await;
    assert_eq!(absent.map_err(|f| f.kind), Err(FaultKind::NotFound));
    assert!(remote.status(&context()).await.expect("a status").contains("/ml"));
    // Whoever asks for a content under an id that is not its own is refused: its bytes would be kept under that id.
    let forged = Content { id: ContentId::from_u128(7), ..content };
    let read = remote.read(&context(), &forged, ByteRange::new(0, 10)).await;
    assert_eq!(read.map_err(|f| f.kind), Err(FaultKind::Invalid));
    drop(listener);
    assert!(RemoteNode::connect(&socket).await.is_err());
}
