//! What groups are promised: quotas, pins, priorities, TTLs, and to be dropped.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use forebay_model::{ByteSize, PAGE, PageIndex};
use forebay_store::{Group, GroupRules, Kept, NotKept, Store};
use support::{id, keep, keep_page, open, options, readable};

const MIB: u64 = 1 << 20;
/// Bytes of a small object; those of numbers 3 apart are of one group.
const SMALL: u64 = 200_000;

/// The `at`th content of a group.
fn number(group: u64, at: u64) -> u64 {
    3 * at + group
}

/// Keeps contents `0..count` of a group, each of `size` bytes; how many of their pages were refused for that reason.
fn fill_up(store: &Store, group: u64, count: u64, size: u64, refused: NotKept) -> u64 {
    let mut refusals = 0;
    for at in 0..count {
        for page in 0..size.div_ceil(PAGE) {
            match keep_page(store, number(group, at), size, PageIndex(page as u32)) {
                // Of its own there may be what is read more often.
                Kept::Yes | Kept::No(NotKept::Outranked) => {}
                Kept::No(reason) if reason == refused => refusals += 1,
                Kept::No(reason) => panic!("content {at} of group {group}: {reason}"),
            }
        }
    }
    refusals
}

fn whole(store: &Store, group: u64, count: u64, size: u64) -> u64 {
    let pages = size.div_ceil(PAGE) as u32;
    (0..count).filter(|at| readable(store, number(group, *at), size) == pages).count() as u64
}

fn resident(store: &Store, group: u64) -> u64 {
    store.groups().iter().find(|stats| stats.group == Group(group)).map_or(0, |stats| stats.bytes_resident)
}

#[track_caller]
fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn a_group_makes_room_among_its_own_when_its_quota_is_used_up() {
    for size in [SMALL, 3 * PAGE] {
        let scratch = tempfile::tempdir().unwrap();
        let (store, _) = open(&options(&[scratch.path()], 256 * MIB));
        store.set_group(Group(1), &GroupRules { quota: Some(ByteSize(12 * MIB)), ..GroupRules::default() });
        assert_eq!(fill_up(&store, 0, 10, size, NotKept::Full), 0);
        for at in 0..200 {
            keep(&store, number(1, at), size);
            assert!(resident(&store, 1) <= 12 * MIB, "{} bytes", resident(&store, 1));
        }
        assert!(resident(&store, 1) > 6 * MIB, "it uses what it may: {}", resident(&store, 1));
        assert_eq!(whole(&store, 0, 10, size), 10, "the other group has lost nothing");
    }
}

#[test]
fn a_quota_holds_after_a_restart_and_can_be_changed() {
    let scratch = tempfile::tempdir().unwrap();
    let options = options(&[scratch.path()], 256 * MIB);
    let (store, _) = open(&options);
    fill_up(&store, 1, 20, 2 * PAGE, NotKept::Full);
    assert_eq!(resident(&store, 1), 40 * MIB);
    drop(store);
    let (store, _) = open(&options);
    assert_eq!(resident(&store, 1), 40 * MIB, "what it has is counted again");
    store.set_group(Group(1), &GroupRules { quota: Some(ByteSize(10 * MIB)), ..GroupRules::default() });
    keep(&store, number(1, 100), 2 * PAGE);
    assert!(resident(&store, 1) <= 10 * MIB, "the next fill brings it down: {}", resident(&store, 1));
    store.set_group(Group(1), &GroupRules { quota: Some(ByteSize(PAGE)), ..GroupRules::default() });
    assert_eq!(
        keep_page(&store, number(1, 101), 5, PageIndex(0)),
        Kept::Yes,
        "a pack of few bytes fits where all else has gone"
    );
    store.set_group(Group(1), &GroupRules { quota: Some(ByteSize(0)), ..GroupRules::default() });
    assert_eq!(keep_page(&store, number(1, 102), 2 * PAGE, PageIndex(0)), Kept::No(NotKept::Quota));
}

#[test]
fn pins_outlive_any_pressure_and_refuse_clearly_when_they_fill_the_store() {
    for size in [SMALL, 2 * PAGE] {
        let scratch = tempfile::tempdir().unwrap();
        let (store, _) = open(&options(&[scratch.path()], 32 * MIB));
        store.set_group(Group(0), &GroupRules { is_pinned: true, ..GroupRules::default() });
        let pinned = 10 * MIB / size;
        assert_eq!(fill_up(&store, 0, pinned, size, NotKept::Pinned), 0);
        assert_eq!(fill_up(&store, 1, 100 * MIB / size, size, NotKept::Pinned), 0);
        assert_eq!(whole(&store, 0, pinned, size), pinned, "nothing of it went");
        assert!(fill_up(&store, 0, 100 * MIB / size, size, NotKept::Pinned) > 0, "at last there is no room for pins");
        assert_eq!(whole(&store, 0, pinned, size), pinned);
        assert_eq!(keep_page(&store, number(1, 1000), size, PageIndex(0)), Kept::No(NotKept::Pinned));
        store.set_group(Group(0), &GroupRules::default());
        assert_eq!(keep_page(&store, number(1, 1000), size, PageIndex(0)), Kept::Yes, "unpinned, they give way");
    }
}

#[test]
fn lower_priorities_give_way_to_higher_ones_and_never_the_other_way() {
    for size in [SMALL, 2 * PAGE] {
        let scratch = tempfile::tempdir().unwrap();
        let (store, _) = open(&options(&[scratch.path()], 32 * MIB));
        store.set_group(Group(2), &GroupRules { priority: 200, ..GroupRules::default() });
        store.set_group(Group(0), &GroupRules { priority: 50, ..GroupRules::default() });
        let high = 16 * MIB / size;
        assert_eq!(fill_up(&store, 2, high, size, NotKept::Full), 0);
        fill_up(&store, 0, 40 * MIB / size, size, NotKept::Full);
        assert_eq!(whole(&store, 2, high, size), high, "the low one has evicted nothing but itself");
        assert!(resident(&store, 0) > 4 * MIB);
        assert_eq!(fill_up(&store, 2, 40 * MIB / size, size, NotKept::Full), 0);
        assert!(resident(&store, 0) < 4 * MIB, "the high one has taken its place: {}", resident(&store, 0));
        let before = resident(&store, 2);
        fill_up(&store, 0, 64 * MIB / size, size, NotKept::Full);
        assert_eq!(resident(&store, 2), before, "what the low one cannot evict of its own it does not get");
    }
}

#[test]
fn what_is_older_than_its_ttl_goes_and_the_rest_stays() {
    let scratch = tempfile::tempdir().unwrap();
    let (store, _) = open(&options(&[scratch.path()], 256 * MIB));
    fill_up(&store, 0, 5, SMALL, NotKept::Full);
    fill_up(&store, 1, 5, SMALL, NotKept::Full);
    fill_up(&store, 1, 5, 2 * PAGE, NotKept::Full);
    store.set_group(Group(1), &GroupRules { ttl: Some(Duration::from_secs(3600)), ..GroupRules::default() });
    store.set_group(Group(1), &GroupRules { ttl: Some(Duration::from_millis(1)), ..GroupRules::default() });
    wait_until("all of it goes", || resident(&store, 1) == 0);
    assert_eq!(whole(&store, 0, 5, SMALL), 5);
    assert_eq!(whole(&store, 1, 5, SMALL), 0);
    store.set_group(Group(1), &GroupRules::default());
    keep(&store, number(1, 9), SMALL);
    assert_eq!(readable(&store, number(1, 9), SMALL), 1);
}

#[test]
fn a_group_is_dropped_whole_also_after_a_restart() {
    let scratch = tempfile::tempdir().unwrap();
    let options = options(&[scratch.path()], 256 * MIB);
    let (store, _) = open(&options);
    store.set_group(Group(1), &GroupRules { is_pinned: true, ..GroupRules::default() });
    for group in [0, 1] {
        fill_up(&store, group, 5, SMALL, NotKept::Full);
        fill_up(&store, group, 5, 2 * PAGE + group, NotKept::Full);
    }
    let large = number(1, 0);
    let held = store.descriptor(id(large), 2 * PAGE + 1);
    store.forget_group(Group(1));
    let check = |store: &Store| {
        assert_eq!(whole(store, 1, 5, SMALL) + whole(store, 1, 5, 2 * PAGE + 1), 0);
        assert_eq!(whole(store, 0, 5, 2 * PAGE), 5);
    };
    check(&store);
    wait_until("its bytes are given back", || resident(&store, 1) == 0);
    drop((store, held));
    let (store, _) = open(&options);
    check(&store);
}
