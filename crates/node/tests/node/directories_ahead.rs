//! Directories that are read in no order: what is fetched of them before anybody asks, and what is not.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::{OPEN, Setup, context, far, path, pattern, world};
use crate::files_ahead::{
    LEN, account, bytes_of, fill, is_asked_once, listed, name, read, read_all, read_at_pace, read_content, read_within,
};
use forebay_model::{FaultKind, Freshness};
use forebay_route::Service;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng, rngs::StdRng};

fn setup() -> Setup {
    Setup { directories_ahead: true, delay: far(Duration::from_millis(3)), ..Setup::default() }
}

fn shuffled(files: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..files).collect();
    order.shuffle(&mut StdRng::seed_from_u64(seed));
    order
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shuffled_epoch_waits_for_few_of_its_files() {
    let (haste, work) = (Duration::ZERO, Duration::from_millis(1));
    // Readers that work on each file, as a loader does. Eight that do nothing but read outrun the origin: how many files they wait
    // for it decides.
    for (seed, readers, work, most) in [(0, 1, haste, 350), (1, 1, work, 350), (2, 8, work, 400), (3, 8, haste, 2_000)]
    {
        let w = listed(&setup(), 2_000).await;
        let order = shuffled(2_000, seed);
        read_at_pace(&w, order.chunks(2_000 / readers).map(<[usize]>::to_vec).collect(), work).await;
        let [wanted, ahead, used, unused] = account(&w).await;
        assert!(wanted <= most, "seed {seed}: {wanted} of 2,000 were waited for");
        assert_eq!((used, unused, wanted + ahead), (ahead, 0, 2_000), "seed {seed}");
        assert!(is_asked_once(&w), "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_in_order_has_no_more_fetched_than_its_window() {
    let w = listed(&setup(), 2_000).await;
    read_all(&w, vec![(0..500).collect()]).await;
    let [_, ahead, used, _] = account(&w).await;
    assert!(ahead <= used + 256, "{ahead} fetched ahead, {used} used");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_a_sample_pays_four_times_that_at_most() {
    for (sample, most) in [(15, 0), (60, 240)] {
        let w = listed(&setup(), 5_000).await;
        read_all(&w, vec![shuffled(5_000, 9)[..sample].to_vec()]).await;
        let until = Instant::now() + Duration::from_millis(300);
        while Instant::now() < until {
            let [_, ahead, ..] = account(&w).await;
            assert!(ahead <= most, "{ahead} fetched ahead of {sample} that were read");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert!(sample < 16 || account(&w).await[1] >= 150);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_evicted_for_it() {
    // Room for some 800 files, of which a sixteenth is left.
    let w = listed(&Setup { capacity: 800 * (LEN as u64 + 500), ..setup() }, 3_000).await;
    let order = shuffled(3_000, 4);
    for nth in &order[..150] {
        read(&w, *nth).await;
    }
    let [wanted, ahead, ..] = account(&w).await;
    assert!((500..=750).contains(&(wanted + ahead)), "{ahead} fetched ahead, {wanted} waited for");
    assert_eq!(w.store.stats().bytes_evicted, 0, "{ahead} fetched ahead, {wanted} waited for");
    for nth in &order[150..] {
        read(&w, *nth).await;
    }
    let [wanted, ahead, ..] = account(&w).await;
    assert!(ahead <= 800 && wanted + ahead >= 3_000, "{ahead} fetched ahead, {wanted} waited for");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_nobody_has_listed_is_fetched_once_its_names_are_known() {
    let w = Arc::new(world(&setup()));
    fill(&w, 600);
    let order = shuffled(600, 5);
    read_all(&w, vec![order[..100].to_vec()]).await;
    w.node.list(&context(), &path("/ml/d"), "", 1).await.expect("a listing");
    // What was not listed is asked for again after a second.
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    read_all(&w, vec![order[100..].to_vec()]).await;
    let [wanted, ahead, used, _] = account(&w).await;
    assert!(ahead >= 200 && used == ahead && wanted + ahead == 600, "{ahead} fetched ahead, {used} used, {wanted}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_in_order_beside_it_keeps_the_window() {
    let w = listed(&setup(), 6_000).await;
    let scattered: Vec<usize> = shuffled(3_000, 2).into_iter().map(|nth| nth + 3_000).collect();
    let (beside, done) = (w.clone(), Arc::new(AtomicBool::new(false)));
    let is_done = done.clone();
    let reader = tokio::spawn(async move {
        for nth in scattered {
            if is_done.load(Ordering::Relaxed) {
                return;
            }
            read(&beside, nth).await;
        }
    });
    let begun = Instant::now();
    read_all(&w, vec![(0..1_000).collect()]).await;
    let took = begun.elapsed();
    done.store(true, Ordering::Relaxed);
    reader.await.expect("all is read");
    // One after the other they take 3 s.
    assert!(took < 1_000 * far(Duration::from_millis(3)) / 3, "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_of_the_requests_are_for_others_and_memory_is_bounded() {
    let w = listed(&Setup { memory: 4 << 20, turns: 16, ..setup() }, 1_000).await;
    let most = read_within(&w, shuffled(1_000, 8), 4 << 20).await;
    // The reader's own is one.
    assert!(most <= 9, "{most} requests at once, of 16");
    assert!(most >= 4, "{most}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_change_meanwhile_never_give_a_wrong_byte() {
    for seed in 0..3 {
        let w = listed(&Setup { freshness: Freshness::Ttl(Duration::from_secs(60)), ..setup() }, 500).await;
        let mut rng = StdRng::seed_from_u64(seed);
        let mut changed = vec![0_u64; 500];
        for nth in shuffled(500, seed) {
            let other = rng.random_range(0..500);
            changed[other] += 1_000;
            w.cloud.put(&name(other), pattern(other as u64 + changed[other], LEN));
            let content = w.content(&format!("/ml/{}", name(nth))).await;
            let digits: String = format!("{:?}", content.version).chars().filter(char::is_ascii_digit).collect();
            let version: u64 = digits.parse().expect("the cloud counts its versions");
            match w.read(&content, 0, content.size).await {
                Ok(bytes) => {
                    assert!(bytes == pattern(nth as u64 + (version - 1) * 1_000, LEN), "{nth} of version {version}");
                }
                Err(fault) => assert_eq!(fault.kind, FaultKind::Changed),
            }
        }
        assert!(account(&w).await[2] > 0, "seed {seed}: nothing was fetched ahead");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_or_silent_origin_ends_it_and_its_return_begins_it_again() {
    let w = listed(&setup(), 1_000).await;
    let order = shuffled(1_000, 6);
    read_all(&w, vec![order[..40].to_vec()]).await;
    *w.cloud.fault.lock() = Some(FaultKind::Unavailable);
    let before = w.cloud.reads.lock().len();
    let mut failed = 0;
    for nth in &order[40..80] {
        let content = w.content(&format!("/ml/{}", name(*nth))).await;
        failed += usize::from(w.read(&content, 0, content.size).await.is_err());
    }
    let asked = w.cloud.reads.lock().len() - before;
    assert!(failed > 0 && asked <= failed + 2 * 48, "{asked} requests for {failed} reads that failed");
    *w.cloud.fault.lock() = None;
    let silence = w.cloud.gate.acquire_many(OPEN as u32).await.expect("the gate");
    let (reader, rest) = (w.clone(), order[40..].to_vec());
    let waiting = tokio::spawn(async move { read_all(&reader, vec![rest]).await });
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    drop(silence);
    waiting.await.expect("all is read");
    let [_, ahead, used, _] = account(&w).await;
    assert!(used >= 400, "{used} of {ahead} used");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_can_be_switched_off() {
    let w = listed(&Setup { directories_ahead: false, files_ahead: false, ..setup() }, 300).await;
    read_all(&w, vec![shuffled(300, 7)]).await;
    assert_eq!(account(&w).await, [300, 0, 0, 0]);
    // Without files ahead of readers in order the rest of a directory is fetched for them too.
    let w = listed(&Setup { files_ahead: false, ..setup() }, 300).await;
    read_all(&w, vec![(0..300).collect()]).await;
    assert!(account(&w).await[2] >= 100);
    let content = w.content(&format!("/ml/{}", name(1))).await;
    assert!(read_content(&w, &content).await == bytes_of(1));
}
