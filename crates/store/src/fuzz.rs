//! Fuzz targets: every parser of the format has one, named for it.
//!
//! An input is a script of edits to what the real encoders make (see [`edited`]): bytes by chance alone get past no magic
//! and no checksum. Where a checksum stands before what is to be tried it is made right again.
//!
//! `cargo test` runs each for a second; `make soak` for ten minutes with the compiler's coverage to guide it, and plants a
//! defect in each parser, which its target must find (`scripts/planted.py`).

use std::fs;
use std::ops::ControlFlow;
use std::time::Duration;

use forebay_model::{ContentId, block_sum, block_sums};

use crate::device::Root;
use crate::log::{HEADER, LOG, Log, Opened, VERSION, header, parse_header};
use crate::options::BootId;
use crate::record::{Decoded, FRAME, Flaw, MAX_RECORD, Record, checksum};
use crate::{large, pack};

const ID: ContentId = ContentId::from_u128(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10);
const SALT: u64 = 0x5a5a_0123_4567_89ab;

/// Runs a target. `BOLERO_RANDOM_TEST_TIME_MS` says how long, in place of a second.
macro_rules! fuzz {
    ($each:expr) => {
        bolero::check!().with_test_time(Duration::from_secs(1)).for_each($each)
    };
}

/// One of the samples with the input's edits; or the input itself.
fn edited(input: &[u8], samples: &[Vec<u8>]) -> Vec<u8> {
    let [choice, count, script @ ..] = input else { return samples[0].clone() };
    if *choice == 0xff {
        return script.to_vec();
    }
    let mut bytes = samples[usize::from(*choice) % samples.len()].clone();
    for edit in script.chunks_exact(4).take(usize::from(count % 5)) {
        let at = usize::from(u16::from_le_bytes([edit[1], edit[2]])) % (bytes.len() + 1);
        let value = edit[3];
        match edit[0] % 6 {
            0 | 1 if at < bytes.len() => bytes[at] ^= value.max(1),
            2 => bytes.truncate(at),
            3 => bytes.insert(at, value),
            4 if at < bytes.len() => _ = bytes.remove(at),
            _ => {
                let number = [0, 1, u32::MAX, 1 << 31, bytes.len() as u32][usize::from(value) % 5].to_le_bytes();
                bytes.iter_mut().skip(at).zip(number).for_each(|(byte, new)| *byte = new);
            }
        }
    }
    bytes
}

/// One record of each kind, and one of the longest.
fn records() -> Vec<Record> {
    let sums = |count: u64| (0..count).map(|n| n.wrapping_mul(SALT)).collect();
    vec![
        Record::Boot(BootId([7; 16])),
        Record::Pack { pack: 3, group: 9 },
        Record::Small { id: ID, pack: 3, offset: 40, len: 1 << 20, verified: true },
        Record::SmallGone { id: ID },
        Record::PackGone { pack: 3 },
        Record::Large { id: ID, size: 3 << 20, group: 1, generation: 2 },
        Record::Pages { id: ID, extent: 1, resident: 0b101, verified: 1, sums: sums(32) },
        Record::ExtentGone { id: ID, extent: 1, generation: 3 },
        Record::LargeGone { id: ID },
        Record::Closed,
        Record::Pages { id: ID, extent: 1, resident: u64::MAX, verified: 0, sums: sums(1024) },
    ]
}

fn encoded(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    record.encode(SALT, &mut bytes);
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    bytes[at..at + 4].iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[test]
fn log_header() {
    let samples = vec![header(SALT), header(0)];
    fuzz!(|input: &[u8]| {
        let mut bytes = edited(input, &samples);
        bytes.resize(HEADER, 0);
        let seals = input.len() % 2 == 1;
        if seals {
            let sum = block_sum(&bytes[..24]).0;
            bytes[24..].copy_from_slice(&sum.to_le_bytes());
        }
        let is_sound = bytes[..8] == *b"FOREBAYI" && bytes[24..] == block_sum(&bytes[..24]).0.to_le_bytes();
        let parsed = parse_header(bytes[..].try_into().expect("of its length"));
        assert_eq!(parsed.is_some(), is_sound);
        if let Some((version, salt)) = parsed {
            assert_eq!((version as usize, &salt.to_le_bytes()[..]), (u32_at(&bytes, 8), &bytes[16..24]));
            assert!(version != VERSION || header(salt)[..12] == bytes[..12]);
        }
    });
}

#[test]
fn record_frame() {
    let samples: Vec<_> = records().iter().map(encoded).collect();
    fuzz!(|input: &[u8]| {
        let bytes = edited(input, &samples);
        let stated = (bytes.len() >= FRAME).then(|| FRAME + u32_at(&bytes, 8));
        match Record::decode(&bytes, SALT) {
            Decoded::Record(record, len) => {
                assert_eq!((Some(len), len <= MAX_RECORD), (stated, true));
                assert_eq!(bytes[..8], checksum(SALT, &bytes[8..len]).to_le_bytes(), "its checksum");
                assert_eq!(encoded(&record)[8..13], bytes[8..13], "its length and kind");
            }
            Decoded::Short => assert!(stated.is_none_or(|len| len > bytes.len() && len <= MAX_RECORD), "{stated:?}"),
            Decoded::Bad(_) => assert!(stated.is_some()),
        }
    });
}

/// A payload of `kind` behind a frame that is right: a record if and only if its length fits, of these very fields.
fn payload(
    kind: u8,
    fits: impl Fn(usize) -> bool + std::panic::RefUnwindSafe,
) -> impl Fn(&[u8]) + std::panic::RefUnwindSafe {
    let samples: Vec<_> =
        records().iter().map(encoded).filter(|bytes| bytes[12] == kind).map(|bytes| bytes[FRAME..].to_vec()).collect();
    move |input| {
        let payload = edited(input, &samples);
        let mut bytes = vec![0; 8];
        bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
        bytes.push(kind);
        bytes.extend_from_slice(&payload);
        let sum = checksum(SALT, &bytes[8..]);
        bytes[..8].copy_from_slice(&sum.to_le_bytes());
        match Record::decode(&bytes, SALT) {
            Decoded::Record(record, len) => {
                assert!(fits(payload.len()) && len == bytes.len(), "a payload of {} bytes", payload.len());
                let again = encoded(&record);
                // Of the byte that says whether a small object is verified only 1 says so.
                let told = if kind == 3 { again.len() - 1 } else { again.len() };
                assert_eq!(again[8..told], bytes[8..told], "{record:?}");
                assert_eq!(Record::decode(&again, SALT), Decoded::Record(record, again.len()));
            }
            Decoded::Bad(flaw) => {
                let expected = if bytes.len() > MAX_RECORD { Flaw::Length } else { Flaw::Kind };
                assert!(flaw == expected && (!fits(payload.len()) || flaw == Flaw::Length), "{flaw:?}");
            }
            Decoded::Short => panic!("it is whole"),
        }
    }
}

/// The targets of the records' payloads: name, kind, which lengths fit.
macro_rules! payloads {
    ($($name:ident $kind:literal $fits:expr;)*) => {
        $(
            #[test]
            fn $name() {
                let each = payload($kind, $fits);
                fuzz!(|input: &[u8]| each(input));
            }
        )*
    };
}

payloads! {
    record_boot 1 |len| len == 16;
    record_pack 2 |len| len == 12;
    record_small 3 |len| len == 29;
    record_small_gone 4 |len| len == 16;
    record_pack_gone 5 |len| len == 4;
    record_large 6 |len| len == 40;
    record_pages 7 |len| len >= 36 && (len - 36) % 8 == 0;
    record_extent_gone 8 |len| len == 28;
    record_large_gone 9 |len| len == 16;
    record_closed 10 |len| len == 0;
}

#[test]
fn index_log() {
    let all: Vec<u8> = records().iter().flat_map(encoded).collect();
    let samples = vec![[header(SALT), all].concat(), header(SALT)];
    let scratch = tempfile::tempdir_in("/dev/shm").expect("a scratch directory");
    let root = Root::open(scratch.path()).expect("it opens");
    fuzz!(|input: &[u8]| {
        let bytes = edited(input, &samples);
        fs::write(scratch.path().join(LOG), &bytes).expect("it is written");
        let mut given = Vec::new();
        let cut = match Log::open(&root).expect("any log can be opened") {
            Opened::Newer(version) => Err(version),
            Opened::Found(found) => {
                let replayed = found.replay(&root, |record| {
                    given.push(record);
                    ControlFlow::Continue(())
                });
                Ok(replayed.expect("any log can be read").expect("it is read to its end").1)
            }
        };
        let parsed = bytes.first_chunk().and_then(parse_header).filter(|(version, _)| *version >= VERSION);
        let Some((version, salt)) = parsed else {
            assert!(given.is_empty() && cut == Ok(bytes.len() as u64));
            return;
        };
        if version > VERSION {
            assert!(given.is_empty() && cut == Err(version));
            return;
        }
        let mut rest = &bytes[HEADER..];
        let mut expected = Vec::new();
        while let Decoded::Record(record, len) = Record::decode(rest, salt) {
            expected.push(record);
            rest = &rest[len..];
        }
        assert_eq!(given, expected);
        assert_eq!(cut, Ok(rest.len() as u64), "what is no record is cut");
    });
}

#[test]
fn pack_entry() {
    let entry = |len: usize| {
        let data: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        [pack::entry_header(ID, 4, len as u32, &block_sums(&data)), data].concat()
    };
    let samples = vec![entry(100), entry(0), entry(70_000), entry(65_536)];
    fuzz!(|input: &[u8]| {
        let mut bytes = edited(input, &samples);
        // The length is the index's, not the entry's.
        let len = input.first().map_or(0, |choice| [100, 0, 70_000, 65_536][usize::from(*choice) % 4]);
        let header_len = pack::header_len(len);
        if input.len() % 2 == 1 && bytes.len() >= header_len {
            bytes[32..40].fill(0);
            let sum = block_sum(&bytes[..header_len]).0;
            bytes[32..40].copy_from_slice(&sum.to_le_bytes());
        }
        let right = bytes.split_at_checked(header_len).filter(|(header, data)| {
            data.len() as u64 == len && pack::entry_header(ID, 4, len as u32, &block_sums(data)) == *header
        });
        assert_eq!(pack::verify_entry(&bytes, ID, 4, len), right.map(|(_, data)| data));
    });
}

#[test]
fn pack_name() {
    let last = |name: String| name.rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
    let samples = vec![last(pack::name(0)), last(pack::name(0x1f)), last(pack::name(u32::MAX))];
    fuzz!(|input: &[u8]| {
        let bytes = edited(input, &samples);
        let Ok(name) = str::from_utf8(&bytes) else { return };
        match pack::parse_name(name) {
            Some(number) => assert_eq!(pack::name(number), format!("packs/{name}")),
            None => assert!(!samples.contains(&bytes)),
        }
    });
}

#[test]
fn large_name() {
    let last = |name: String| name.rsplit('/').next().unwrap_or_default().as_bytes().to_vec();
    let samples = vec![last(large::name(ID, 9)), last(large::name(ContentId::from_u128(u128::MAX), u64::MAX))];
    fuzz!(|input: &[u8]| {
        let bytes = edited(input, &samples);
        let Ok(name) = str::from_utf8(&bytes) else { return };
        match large::parse_name(name) {
            Some((id, generation)) => assert_eq!(large::name(id, generation), format!("{}/{name}", large::folder(id))),
            None => assert!(!samples.contains(&bytes)),
        }
    });
}
