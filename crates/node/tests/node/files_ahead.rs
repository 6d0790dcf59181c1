//! Files that are fetched before anybody asks for them: in which orders, how many, and never a wrong byte.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::common::{self, OPEN, Setup, World, context, path, pattern, world};
use forebay_model::{ByteRange, ByteSize, Content, FaultKind, Freshness, PAGE, inode_number};
use forebay_route::{ReadNow, Service};
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng, rngs::StdRng};

pub(crate) const LEN: usize = 20_000;

pub(crate) fn name(nth: usize) -> String {
    format!("d/{nth:05}.bin")
}

pub(crate) fn bytes_of(nth: usize) -> Vec<u8> {
    pattern(nth as u64, LEN).to_vec()
}

/// A directory of `files` files, of which the catalog has the listing.
pub(crate) async fn listed(setup: &Setup, files: usize) -> Arc<World> {
    let w = Arc::new(world(setup));
    fill(&w, files);
    w.node.list(&context(), &path("/ml/d"), "", 1).await.expect("a listing");
    w
}

pub(crate) fn fill(w: &World, files: usize) {
    for nth in 0..files {
        w.cloud.put(&name(nth), bytes_of(nth));
    }
}

pub(crate) async fn read_content(w: &World, content: &Content) -> Vec<u8> {
    let mut buffer = vec![0; content.size as usize];
    let range = ByteRange::new(0, content.size);
    if w.node.read_now(&context(), content, range, &mut buffer) == ReadNow::Absent {
        buffer = w.read(content, 0, content.size).await.expect("a read");
    }
    buffer
}

pub(crate) async fn read(w: &World, nth: usize) {
    let content = w.content(&format!("/ml/{}", name(nth))).await;
    assert!(read_content(w, &content).await == bytes_of(nth), "wrong bytes of {}", content.key);
}

/// What the node says of its fetches, in files: those that were waited for, fetched ahead, used of these, and in vain.
pub(crate) async fn account(w: &World) -> [u64; 4] {
    let status: serde_json::Value =
        serde_json::from_str(&w.node.status(&context()).await.expect("a status")).expect("a document");
    let fields = ["wanted_bytes", "files_ahead_bytes", "files_ahead_used_bytes", "files_ahead_unused_bytes"];
    fields.map(|field| status["fetch"][field].as_u64().expect(field).div_ceil(LEN as u64))
}

pub(crate) fn is_asked_once(w: &World) -> bool {
    let mut keys: Vec<_> = w.cloud.reads.lock().iter().map(|(key, _)| key.clone()).collect();
    keys.sort();
    keys.windows(2).all(|two| two[0] != two[1])
}

/// Each of `readers` reads its files one after the other.
pub(crate) async fn read_all(w: &Arc<World>, readers: Vec<Vec<usize>>) {
    read_at_pace(w, readers, Duration::ZERO).await;
}

/// The same by readers that work on each file for so long.
pub(crate) async fn read_at_pace(w: &Arc<World>, readers: Vec<Vec<usize>>, work: Duration) {
    let mut tasks = tokio::task::JoinSet::new();
    for files in readers {
        let w = w.clone();
        tasks.spawn(async move {
            for nth in files {
                read(&w, nth).await;
                if !work.is_zero() {
                    tokio::time::sleep(work).await;
                }
            }
        });
    }
    tasks.join_all().await;
}

/// One reader, while fetches never have more than so many bytes of memory. The most requests at once.
pub(crate) async fn read_within(w: &Arc<World>, files: Vec<usize>, memory_max: u64) -> usize {
    let mut under_way = tokio::task::JoinSet::new();
    let reader = w.clone();
    under_way.spawn(async move { read_all(&reader, vec![files]).await });
    while under_way.try_join_next().is_none() {
        let status = w.node.status(&context()).await.expect("a status");
        let status: serde_json::Value = serde_json::from_str(&status).expect("a document");
        assert!(status["fetch"]["memory_bytes"].as_u64().expect("bytes") <= memory_max);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    w.cloud.under_way_max.load(Ordering::Relaxed)
}

fn far() -> Setup {
    Setup { delay: common::far(Duration::from_millis(3)), ..Setup::default() }
}

async fn check_orderly(what: &str, files: usize, readers: Vec<Vec<usize>>, waited_max: u64) {
    check_orderly_at_pace(what, files, readers, Duration::ZERO, waited_max).await;
}

async fn check_orderly_at_pace(what: &str, files: usize, readers: Vec<Vec<usize>>, work: Duration, waited_max: u64) {
    let w = listed(&far(), files).await;
    let count = readers.iter().map(Vec::len).sum::<usize>() as u64;
    read_at_pace(&w, readers, work).await;
    let [wanted, ahead, used, unused] = account(&w).await;
    assert!(wanted <= waited_max, "{what}: {wanted} files were waited for, {ahead} fetched ahead");
    assert!(used + wanted >= count, "{what}: {used} of {ahead} used, {wanted} waited for, of {count}");
    assert!(ahead <= used + 256, "{what}: {ahead} fetched ahead, {used} used");
    assert_eq!(unused, 0, "{what}");
    assert!(is_asked_once(&w), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_in_order_finds_the_next_files_there() {
    check_orderly("one reader", 3_000, vec![(0..3_000).collect()], 8).await;
    check_orderly("from the middle", 3_000, vec![(1_500..3_000).collect()], 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_every_nth_file_finds_them_there_and_no_others() {
    for stride in [2, 7, 64] {
        let files: Vec<usize> = (0..4_000).step_by(stride).collect();
        let w = listed(&far(), 4_000).await;
        let count = files.len() as u64;
        read_all(&w, vec![files]).await;
        let [wanted, ahead, used, _] = account(&w).await;
        assert!(wanted <= 16, "stride {stride}: {wanted} of {count} were waited for");
        assert_eq!(ahead, used, "stride {stride}: the directory ends where the window does");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sorts_by_inode_numbers_finds_the_next_files_there() {
    let w = listed(&far(), 2_000).await;
    let mut order = Vec::new();
    for nth in 0..2_000 {
        let at = path(&format!("/ml/{}", name(nth)));
        let content = w.content(at.as_str()).await;
        order.push((inode_number(&at, Some(content.id), 0), nth));
    }
    order.sort_unstable();
    read_all(&w, vec![order.into_iter().map(|(_, nth)| nth).collect()]).await;
    let [wanted, ahead, used, _] = account(&w).await;
    assert!(wanted <= 80 && used >= 1_920, "{wanted} waited for, {used} used");
    assert_eq!(ahead, used);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_take_turns_find_their_files_there() {
    let workers: Vec<Vec<usize>> = (0..4).map(|worker| (worker..2_000).step_by(4).collect()).collect();
    let parts: Vec<Vec<usize>> = (0..4).map(|part| (part * 500..(part + 1) * 500).collect()).collect();
    // A loader's workers take batches in turns.
    let batches = |worker: usize| (0..2_000).filter(|nth| nth / 32 % 4 == worker).collect::<Vec<usize>>();
    let batches: Vec<_> = (0..4).map(batches).collect();
    check_orderly("four with a stride", 2_000, workers.clone(), 100).await;
    // Faster than 48 requests of 3 ms bring files: how many they have to want themselves is the origin's to say.
    check_orderly("four with a quarter each, in haste", 2_000, parts.clone(), 2_000).await;
    check_orderly("four with batches, in haste", 2_000, batches.clone(), 2_000).await;
    let work = Duration::from_millis(1);
    check_orderly_at_pace("four with a stride, at work", 2_000, workers, work, 40).await;
    check_orderly_at_pace("four with a quarter each", 2_000, parts, work, 40).await;
    check_orderly_at_pace("four with batches", 2_000, batches, work, 40).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn shuffled_reads_fetch_next_to_nothing_ahead() {
    for seed in 0..4 {
        let w = listed(&Setup::default(), 2_000).await;
        let mut order: Vec<usize> = (0..2_000).collect();
        order.shuffle(&mut StdRng::seed_from_u64(seed));
        let readers = order.chunks(250).map(<[usize]>::to_vec).collect();
        read_all(&w, readers).await;
        let [_, ahead, ..] = account(&w).await;
        assert!(ahead <= 40, "seed {seed}: {ahead} of 2,000 files were fetched ahead");
        assert!(is_asked_once(&w));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_soon_again_and_again_is_not_fetched_for_any_more() {
    let w = listed(&Setup::default(), 20_000).await;
    let mut rng = StdRng::seed_from_u64(7);
    let mut count = 0;
    for _ in 0..300 {
        let start = rng.random_range(0..19_900);
        for nth in start..start + 4 {
            read(&w, nth).await;
            count += 1;
        }
    }
    let [_, ahead, used, _] = account(&w).await;
    assert!(ahead - used <= 32 + used + 2 * 8, "{ahead} fetched ahead and {used} used, of {count} read");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_the_origins_requests_are_bounded() {
    let setup = Setup { memory: 4 << 20, turns: 16, delay: Duration::from_millis(2), ..Setup::default() };
    let w = listed(&setup, 600).await;
    let most = read_within(&w, (0..600).collect(), 4 << 20).await;
    assert!(most <= 13, "{most} requests at once, of 16 of which a quarter is for those who wait");
    assert!(most >= 8, "{most}");
    let [_, _, used, _] = account(&w).await;
    assert!(used >= 400, "{used}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_origin_holds_no_more_than_the_window_and_its_return_ends_it() {
    let w = listed(&Setup::default(), 500).await;
    read(&w, 0).await;
    let silence = w.cloud.gate.acquire_many(OPEN as u32).await.expect("the gate");
    let reader = w.clone();
    let waiting = tokio::spawn(async move { read_all(&reader, vec![(1..500).collect()]).await });
    let until = Instant::now() + Duration::from_secs(5);
    while w.cloud.reads.lock().len() < 2 + 8 && Instant::now() < until {
        tokio::task::yield_now().await;
    }
    assert_eq!(w.cloud.reads.lock().len(), 2 + 8, "the file that is waited for and the first window");
    drop(silence);
    waiting.await.expect("all is read");
    assert!(is_asked_once(&w));
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_change_meanwhile_never_give_a_wrong_byte() {
    for seed in 0..3 {
        let setup = Setup { freshness: Freshness::Ttl(Duration::from_secs(60)), ..far() };
        let w = listed(&setup, 500).await;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut changed = vec![0_u64; 500];
        let mut anew = 0;
        for nth in 0..500 {
            for _ in 0..2 {
                let other = rng.random_range(0..500);
                changed[other] += 1_000;
                w.cloud.put(&name(other), pattern(other as u64 + changed[other], LEN));
            }
            let content = w.content(&format!("/ml/{}", name(nth))).await;
            let digits: String = format!("{:?}", content.version).chars().filter(char::is_ascii_digit).collect();
            let version: u64 = digits.parse().expect("the cloud counts its versions");
            anew += usize::from(version > 1);
            match w.read(&content, 0, content.size).await {
                Ok(bytes) => {
                    assert!(bytes == pattern(nth as u64 + (version - 1) * 1_000, LEN), "{nth} of version {version}");
                }
                Err(fault) => {
                    assert_eq!(fault.kind, FaultKind::Changed);
                    let content = w.content(&format!("/ml/{}", name(nth))).await;
                    assert!(
                        w.read(&content, 0, content.size).await.expect("it is known anew")
                            == pattern(nth as u64 + changed[nth], LEN)
                    );
                }
            }
        }
        assert!(anew > 0, "seed {seed}: nothing changed in time");
        assert!(account(&w).await[2] > 0, "seed {seed}: nothing was fetched ahead");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_origin_is_left_alone_and_asked_again_by_its_readers() {
    let w = listed(&Setup::default(), 300).await;
    read_all(&w, vec![(0..50).collect()]).await;
    *w.cloud.fault.lock() = Some(FaultKind::Unavailable);
    let before = w.cloud.reads.lock().len();
    let mut failed = 0;
    for nth in 50..300 {
        let content = w.content(&format!("/ml/{}", name(nth))).await;
        failed += usize::from(w.read(&content, 0, content.size).await.is_err());
    }
    assert!(failed > 0);
    let asked = w.cloud.reads.lock().len() - before;
    assert!(asked <= failed + 3 * 64, "{asked} requests for {failed} reads");
    *w.cloud.fault.lock() = None;
    read_all(&w, vec![(50..300).collect()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_checks_each_opening_finds_the_next_files_there_too() {
    let w = listed(&Setup { freshness: Freshness::Check, ..far() }, 300).await;
    read_all(&w, vec![(0..300).collect()]).await;
    let [wanted, _, used, _] = account(&w).await;
    assert!(wanted <= 8 && used >= 290, "{wanted} waited for, {used} used");
    assert!(is_asked_once(&w));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_switched_off() {
    let w = listed(&Setup { files_ahead: false, ..far() }, 100).await;
    read_all(&w, vec![(0..100).collect()]).await;
    assert_eq!(account(&w).await, [100, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_that_is_still_coming_in_is_enough() {
    let w = Arc::new(world(&far()));
    fill(&w, 5_000);
    // Two parts of five have come.
    let held = w.cloud.parts.acquire_many(OPEN as u32 - 2).await.expect("the parts");
    let lister = w.clone();
    let listing = tokio::spawn(async move {
        let mut after = String::new();
        loop {
            let page = lister.node.list(&context(), &path("/ml/d"), &after, 1_000).await.expect("a listing");
            match page.entries.last() {
                Some(last) if page.more => after = last.name.to_string(),
                _ => return,
            }
        }
    });
    let until = Instant::now() + Duration::from_secs(10);
    while w.node.lookup_now(&context(), &path(&format!("/ml/{}", name(1_000)))).is_none() {
        assert!(Instant::now() < until, "the first names do not come");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    read_all(&w, vec![(0..900).collect()]).await;
    let [wanted, _, used, _] = account(&w).await;
    assert!(wanted <= 8 && used >= 890, "{wanted} waited for, {used} used");
    drop(held);
    read_all(&w, vec![(900..5_000).collect()]).await;
    listing.await.expect("the listing ends");
    let [wanted, _, used, _] = account(&w).await;
    assert!(wanted <= 200 && used + wanted == 5_000, "{wanted} waited for, {used} used");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_nobody_has_listed_is_listed_behind_its_reader() {
    let w = Arc::new(world(&far()));
    fill(&w, 1_000);
    read_all(&w, vec![(0..1_000).collect()]).await;
    let [wanted, _, used, _] = account(&w).await;
    assert!(wanted <= 100 && used >= 900, "{wanted} waited for, {used} used");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_between_small_ones_are_stepped_over() {
    let w = Arc::new(world(&far()));
    fill(&w, 500);
    for nth in (0..500).step_by(3) {
        w.cloud.put(&format!("{}.large", name(nth)), pattern(7, PAGE as usize + 1));
        w.cloud.put(&format!("{}.none", name(nth)), pattern(7, 0));
    }
    w.node.list(&context(), &path("/ml/d"), "", 1).await.expect("a listing");
    read_all(&w, vec![(0..500).collect()]).await;
    let [wanted, ahead, used, _] = account(&w).await;
    assert!(wanted <= 8 && used >= 490 && ahead == used, "{wanted} waited for, {ahead} fetched ahead, {used} used");
    assert!(w.cloud.reads.lock().iter().all(|(key, _)| key.ends_with(".bin")));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_store_does_not_keep_is_there_for_its_reader_all_the_same() {
    let w = listed(&Setup { write_rate_max: Some(ByteSize(1 << 20)), ..far() }, 1_000).await;
    read_all(&w, vec![(0..1_000).collect()]).await;
    let [wanted, _, used, unused] = account(&w).await;
    assert!(wanted <= 20 && used >= 980 && unused == 0, "{wanted} waited for, {used} used, {unused} unused");
    assert!(w.store.stats().bytes_kept < 500 * LEN as u64, "the store keeps less than was read");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_before_is_not_fetched_again() {
    let w = listed(&far(), 2_000).await;
    let mut order: Vec<usize> = (0..2_000).collect();
    let mut rng = StdRng::seed_from_u64(1);
    order.shuffle(&mut rng);
    read_all(&w, vec![order[..1_000].to_vec()]).await;
    let before = account(&w).await;
    read_all(&w, vec![(0..2_000).collect()]).await;
    let after = account(&w).await;
    assert!(is_asked_once(&w));
    let wanted = after[0] - before[0];
    assert!(wanted <= 60, "{wanted} of 1,000 were waited for");
}
