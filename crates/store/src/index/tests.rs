//! The index against plain maps, its size at every size, and its readers beside its writers.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use forebay_model::{ByteSize, Capacity, ContentId};
use proptest::prelude::*;

use super::small::{Shard, SmallMap};
use super::{Index, SmallPlace, hash};
use crate::class::Classes;
use crate::directory::Directory;
use crate::options::{BootId, DirectoryOptions, Reserve};
use crate::pack::Pack;

/// What a small object may take in the index, all in (DESIGN.md).
const BYTES_PER_OBJECT: usize = 48;

fn id(number: u64) -> ContentId {
    // Spread as real ids are.
    ContentId::from_u128(u128::from(number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835))
}

fn place(pack: u32, number: u64) -> SmallPlace {
    SmallPlace::new(pack, number as u32, 100, true)
}

fn directory(scratch: &tempfile::TempDir) -> Directory {
    let of = DirectoryOptions::new(scratch.path().to_owned(), Capacity::Bytes(ByteSize(1 << 20)));
    Directory::open(0, &of, Reserve::Bytes(ByteSize(0)), 1, BootId([1; 16]), &mut Classes::default()).unwrap()
}

fn pack(index: &Index, directory: &Directory) -> Arc<Pack> {
    let slot = index.new_slot();
    let pack = Pack::new(directory, slot, slot, 0, Arc::default());
    index.insert_pack(&pack);
    pack
}

#[derive(Clone, Copy, Debug)]
enum Step {
    /// Put in those of these numbers that are not in.
    Insert(u64, u64),
    Remove(u64, u64),
    /// Keep those only whose number this does not divide.
    Retain(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = || (0..6000u64, 1..3000u64);
    let step = prop_oneof![
        4 => range().prop_map(|(from, count)| Step::Insert(from, count)),
        3 => range().prop_map(|(from, count)| Step::Remove(from, count)),
        1 => (2..5u64).prop_map(Step::Retain),
    ];
    prop::collection::vec(step, 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_shard_is_a_map(steps in steps()) {
        let (mut shard, mut model) = (Shard::default(), HashMap::new());
        for step in steps {
            match step {
                Step::Insert(from, count) => for n in from..from + count {
                    if model.insert(n, place(0, n)).is_none() {
                        shard.insert(id(n), place(0, n));
                    }
                },
                Step::Remove(from, count) => for n in from..from + count {
                    prop_assert_eq!(shard.remove(id(n)), model.remove(&n).is_some());
                },
                Step::Retain(of) => {
                    shard.retain(|place| !u64::from(place.offset).is_multiple_of(of));
                    model.retain(|n, _| n % of != 0);
                }
            }
            prop_assert_eq!(shard.len(), model.len());
            for n in 0..9000 {
                prop_assert_eq!(shard.get(id(n)), model.get(&n).copied(), "number {}", n);
            }
            let mut all: Vec<u32> = shard.iter().map(|(_, place)| place.offset).collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(all.len(), model.len(), "each once");
        }
    }

    #[test]
    fn the_index_is_a_map_and_packs_take_their_objects_along(
        steps in prop::collection::vec((0..6u8, 0..60u64, 0..4usize), 1..300),
    ) {
        let scratch = tempfile::tempdir().unwrap();
        let directory = directory(&scratch);
        let index = Index::new();
        let mut packs: Vec<Arc<Pack>> = (0..4).map(|_| pack(&index, &directory)).collect();
        // By number: its pack's slot, its offset, whether it is verified.
        let mut model: HashMap<u64, (u32, u32, bool)> = HashMap::new();
        for (offset, (step, n, at)) in steps.into_iter().enumerate() {
            let offset = offset as u32;
            match step {
                0..=2 => {
                    let place = SmallPlace::new(packs[at].slot, offset, 100, false);
                    let new = index.insert_small(id(n), place, &packs[at]);
                    prop_assert_eq!(new, !model.contains_key(&n));
                    model.entry(n).or_insert((packs[at].slot, offset, false));
                }
                3 => if let Some((slot, offset, _)) = model.get(&n).copied() {
                    let pack = packs.iter().find(|pack| pack.slot == slot).unwrap();
                    let elsewhere = SmallPlace::new(slot, offset + 1, 100, false);
                    prop_assert!(!index.remove_small(id(n), elsewhere, pack));
                    prop_assert!(index.remove_small(id(n), SmallPlace::new(slot, offset, 100, false), pack));
                    model.remove(&n);
                },
                4 => if let Some((slot, offset, verified)) = model.get_mut(&n) {
                    index.mark_verified(id(n), SmallPlace::new(*slot, *offset, 100, false));
                    *verified = true;
                },
                _ => {
                    let slot = packs[at].slot;
                    prop_assert!(index.remove_pack(&packs[at]));
                    prop_assert!(!index.remove_pack(&packs[at]));
                    model.retain(|_, (of, ..)| *of != slot);
                    packs[at] = pack(&index, &directory);
                    if n.is_multiple_of(2) {
                        index.sweep_now();
                    }
                }
            }
            prop_assert_eq!(index.contents(), model.len() as u64);
        }
        let seen = |n| index.small(id(n)).map(|(pack, place)| (pack.slot, place.offset, place.is_verified()));
        for n in 0..60 {
            prop_assert_eq!(seen(n), model.get(&n).copied());
        }
        index.sweep_now();
        let mut all = 0;
        index.for_each_small(|id, place| {
            all += 1;
            index.small(id).filter(|(_, known)| known.is_at(place)).map(drop).ok_or(())
        }).unwrap();
        prop_assert_eq!(all, model.len(), "what is swept leaves what lives");
    }
}

#[test]
fn an_object_takes_48_bytes_at_most_however_many_there_are() {
    let map = SmallMap::new();
    let (mut worst, mut n) = ((0, 0), 0u64);
    let mut look_at = 1000u64;
    let mut check = |map: &SmallMap, objects: u64| {
        let bytes = map.bytes();
        assert!(bytes <= BYTES_PER_OBJECT * objects as usize, "{objects} objects: {bytes} bytes");
        worst = worst.max((bytes * 1000 / objects as usize, objects));
    };
    while look_at <= 1_000_000 {
        while n < look_at {
            map.shard(id(n)).insert(id(n), place(0, n));
            n += 1;
        }
        check(&map, n);
        look_at += 1 + look_at / 50;
    }
    // And on the way back.
    let all = n;
    while n > all / 16 {
        n -= 1;
        assert!(map.shard(id(n)).remove(id(n)));
        if n.is_multiple_of(1 + n / 64) {
            check(&map, n);
        }
    }
    println!("worst: {} bytes in 1000 objects, of {}", worst.0, worst.1);
}

#[test]
fn ids_that_have_the_same_hash_are_told_apart() {
    // Both halves alike: the hash of each is that of zero.
    let same = |n: u128| ContentId::from_u128(n << 64 | n);
    assert_eq!(hash(same(1)), hash(same(2)));
    let mut shard = Shard::default();
    for n in 0..200 {
        shard.insert(same(n), place(0, n as u64));
    }
    for n in (0..200).step_by(2) {
        assert!(shard.remove(same(n)));
    }
    for n in 0..200 {
        assert_eq!(shard.get(same(n)).map(|place| place.offset), (n % 2 == 1).then_some(n as u32));
    }
}

#[test]
fn readers_find_what_is_there_while_others_come_and_go() {
    let scratch = tempfile::tempdir().unwrap();
    let directory = directory(&scratch);
    let index = Index::new();
    let stays = pack(&index, &directory);
    const STAY: u64 = 2_000;
    for n in 0..STAY {
        assert!(index.insert_small(id(n), place(stays.slot, n), &stays));
    }
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut rounds = 0u64;
                    while !ended.load(Ordering::Acquire) || rounds == 0 {
                        for n in 0..STAY {
                            let (pack, place) = index.small(id(n)).unwrap();
                            assert_eq!((pack.slot, place.offset), (stays.slot, n as u32));
                        }
                        rounds += 1;
                    }
                    rounds
                })
            })
            .collect();
        // Tables grow, split, shrink and are swept meanwhile.
        let writers: Vec<_> = (0..2u64)
            .map(|writer| {
                let (index, directory) = (&index, &directory);
                scope.spawn(move || {
                    for round in 0..3 {
                        let goes = pack(index, directory);
                        let numbers = (1 + writer) * 1_000_000..(1 + writer) * 1_000_000 + 40_000;
                        for n in numbers.clone() {
                            assert!(index.insert_small(id(n), place(goes.slot, n), &goes));
                        }
                        for n in numbers.filter(|n| n % 3 == round) {
                            assert!(index.remove_small(id(n), place(goes.slot, n), &goes));
                        }
                        assert!(index.remove_pack(&goes));
                        index.sweep_now();
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        ended.store(true, Ordering::Release);
        assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 0));
    });
    assert_eq!(index.contents(), STAY);
}
