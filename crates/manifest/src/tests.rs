//! Files of every format, whole and damaged, against a plain map.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use forebay_model::TimestampNs;
use parquet::data_type::{BoolType, ByteArrayType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use proptest::prelude::*;
use tempfile::TempDir;

use crate::block::tests::lines;
use crate::{Builder, Format, Index, Line, ManifestError, Place, Rules, SNAPSHOT_FORMAT, SnapshotHeader, SnapshotText};

fn builder(directory: &TempDir, prefix: &str) -> Builder {
    let rules = Rules { prefix: prefix.into(), bucket: Some("ml".into()), base_url: None };
    Builder::new(directory.path(), rules, Arc::new(AtomicU64::new(0))).unwrap()
}

fn index(format: Format, prefix: &str, file: &[u8]) -> Result<Index, ManifestError> {
    let directory = tempfile::tempdir().unwrap();
    let mut builder = builder(&directory, prefix);
    builder.add(format, "m.file", file)?;
    builder.finish("v1", Some(&directory.path().join("index")))
}

const CSV: Format = Format::Csv { is_packed: false };
const JSON: Format = Format::JsonLines { is_packed: false };

fn all(index: &Index) -> Vec<Line> {
    let mut walk = index.walk();
    std::iter::from_fn(|| walk.next_line().unwrap()).collect()
}

fn keys(index: &Index) -> Vec<String> {
    all(index).into_iter().map(|line| line.key).collect()
}

fn packed(text: &[u8]) -> Vec<u8> {
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(text).unwrap();
    packer.finish().unwrap()
}

#[test]
fn csv_is_read_by_its_header() {
    let text = "\u{feff}Size,ETag,key,note,mtime\n3,\"\"\"e\"\"\",\"d/a,\"\"b\"\"\",x,2024-01-02T03:04:05Z\n,,d/c,,\n";
    let index = index(CSV, "d/", text.as_bytes()).unwrap();
    let first = Line {
        key: "d/a,\"b\"".into(),
        size: Some(3),
        etag: Some("e".into()),
        mtime: Some(TimestampNs(1_704_164_645_000_000_000)),
        ..Line::default()
    };
    assert_eq!(all(&index), [first, Line { key: "d/c".into(), ..Line::default() }]);
    assert_eq!((index.facts().objects, index.facts().bytes, index.facts().open), (2, 3, 1));
}

#[test]
fn lines_of_json_are_read() {
    let text =
        "{\"path\":\"a b\",\"size\":3,\"etag\":\"e\"}\n\n{\"key\":\"d/é\",\"size\":\"4\",\"mtime\":1.5,\"x\":null}\n";
    let index = index(JSON, "d/", text.as_bytes()).unwrap();
    assert_eq!(keys(&index), ["d/a b", "d/é"]);
    assert_eq!(index.get("d/é").unwrap().unwrap().mtime, Some(TimestampNs(1_500_000_000)));
    let again = self::index(Format::JsonLines { is_packed: true }, "d/", &packed(text.as_bytes())).unwrap();
    assert_eq!(all(&again), all(&index));
}

#[test]
fn a_csv_of_an_inventory_has_no_header_and_encoded_keys() {
    let directory = tempfile::tempdir().unwrap();
    let mut builder = builder(&directory, "set/");
    let columns: Vec<String> =
        ["Bucket", "Key", "VersionId", "IsLatest", "IsDeleteMarker", "Size", "LastModifiedDate", "ETag"]
            .map(str::to_owned)
            .into();
    let text = concat!(
        "\"ml\",\"set/b+c%2B%C3%A9\",\"v2\",\"true\",\"false\",\"5\",\"2017-02-14T21:00:00.000Z\",\"aa\"\n",
        "\"ml\",\"set/b+c%2B%C3%A9\",\"v1\",\"false\",\"false\",\"4\",\"2016-02-14T21:00:00.000Z\",\"bb\"\n",
        "\"ml\",\"set/gone\",\"v9\",\"true\",\"true\",\"\",\"2017-02-14T21:00:00.000Z\",\"\"\n",
        "\"ml\",\"other/x\",\"v1\",\"true\",\"false\",\"1\",\"2017-02-14T21:00:00.000Z\",\"cc\"\n",
        "\"no\",\"set/x\",\"v1\",\"true\",\"false\",\"1\",\"2017-02-14T21:00:00.000Z\",\"cc\"\n",
    );
    builder.add_inventory_csv(&columns, "x.csv.gz", &*packed(text.as_bytes())).unwrap();
    let index = builder.finish("v", None).unwrap();
    assert_eq!(keys(&index), ["set/b c+é"]);
    let line = index.get("set/b c+é").unwrap().unwrap();
    assert_eq!((line.version_id.as_deref(), line.size, line.etag.as_deref()), (Some("v2"), Some(5), Some("aa")));
    assert_eq!((index.facts().elsewhere, index.facts().superseded), (2, 2));
}

/// A Parquet file as S3 Inventory writes it.
fn parquet(rows: &[(&str, i64, Option<&str>, bool)]) -> Vec<u8> {
    let schema = "message inventory {
        required binary bucket (UTF8); required binary key (UTF8); optional boolean is_latest; optional int64 size;
        optional int64 last_modified_date (TIMESTAMP_MILLIS); optional binary e_tag (UTF8); optional binary storage_class (UTF8); }";
    let mut file = Vec::new();
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(parquet::basic::Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(&mut file, schema, Arc::new(properties)).unwrap();
    for rows in rows.chunks(1_500) {
        let mut group = writer.next_row_group().unwrap();
        let mut nth = 0;
        while let Some(mut column) = group.next_column().unwrap() {
            let full: Vec<i16> = vec![1; rows.len()];
            match nth {
                0 => drop(column.typed::<ByteArrayType>().write_batch(&vec!["ml".into(); rows.len()], None, None)),
                1 => {
                    let keys: Vec<_> = rows.iter().map(|row| row.0.into()).collect();
                    column.typed::<ByteArrayType>().write_batch(&keys, None, None).unwrap();
                }
                2 => {
                    let latest: Vec<_> = rows.iter().map(|row| row.3).collect();
                    column.typed::<BoolType>().write_batch(&latest, Some(&full), None).unwrap();
                }
                3 => {
                    let sizes: Vec<_> = rows.iter().map(|row| row.1).collect();
                    column.typed::<Int64Type>().write_batch(&sizes, Some(&full), None).unwrap();
                }
                4 => {
                    let times = vec![1_487_106_000_123; rows.len()];
                    column.typed::<Int64Type>().write_batch(&times, Some(&full), None).unwrap();
                }
                5 => {
                    let levels: Vec<i16> = rows.iter().map(|row| i16::from(row.2.is_some())).collect();
                    let etags: Vec<_> = rows.iter().filter_map(|row| row.2.map(Into::into)).collect();
                    column.typed::<ByteArrayType>().write_batch(&etags, Some(&levels), None).unwrap();
                }
                _ => {
                    column.typed::<ByteArrayType>().write_batch(&[], Some(&vec![0; rows.len()]), None).unwrap();
                }
            }
            column.close().unwrap();
            nth += 1;
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    file
}

#[test]
fn parquet_is_read_column_by_column() {
    let names: Vec<String> = (0..4_000).map(|n| format!("d/{n:05}+%20")).collect();
    let etag = |n: usize| if n.is_multiple_of(3) { None } else { Some("0123456789abcdef0123456789abcdef") };
    let rows: Vec<_> = names.iter().enumerate().map(|(n, key)| (key.as_str(), n as i64, etag(n), n % 5 != 4)).collect();
    let index = index(Format::Parquet, "d/", &parquet(&rows)).unwrap();
    assert_eq!((index.facts().objects, index.facts().superseded), (3_200, 800));
    let line = index.get("d/03001+%20").unwrap().unwrap();
    assert_eq!((line.size, line.etag.as_deref()), (Some(3_001), etag(3_001)));
    assert_eq!(line.mtime, Some(TimestampNs(1_487_106_000_123_000_000)));
    assert_eq!(index.get("d/03003+%20").unwrap().unwrap().etag, None);
}

#[test]
fn what_is_damaged_is_named_with_file_line_and_columns() {
    let row = "{\"key\":\"a\",\"size\":1}\n";
    for (format, text, said) in [
        (CSV, "", "it is empty"),
        (CSV, "name,size\na,1\n", "line 1: the columns \"name,size\" name no object"),
        (CSV, "key,size\na,many\n", "line 2: \"many\" is no number"),
        (CSV, "key,size\na,1\nb\n", "line 3: it has 1 values for 2 columns"),
        (CSV, "key,size\na,1\n\"b,2\n", "line 3"),
        (CSV, "key,size\na,1\na,2\n", "line 3: the key \"a\" is listed twice"),
        (CSV, "key,size\nb,1\na,1\nb,2\n", "the key \"b\" is listed twice"),
        (JSON, &row.repeat(2), "line 2: the key \"a\" is listed twice"),
        (JSON, "nonsense\n", "line 1: \"nonsense\" is no JSON object"),
        (JSON, "{\"key\":\"a\"}\n{\"key\":\n", "line 2"),
        (JSON, "{\"size\":1}\n", "line 1: it must name its object"),
        (JSON, "{\"key\":[1]}\n", "line 1: key is no text"),
        (JSON, "{\"key\":\"a\",\"size\":-1}\n", "line 1: \"-1\" is no number"),
        (JSON, "{\"forebay_snapshot\":9}\n", "format 9"),
        (JSON, "{\"forebay_snapshot\":1}\n", "no first line of a snapshot"),
        (Format::Parquet, "PAR1", "no Parquet file"),
        (Format::Csv { is_packed: true }, "key\na\n", "m.file"),
    ] {
        let error = index(format, "", text.as_bytes()).expect_err(text);
        assert!(matches!(error, ManifestError::Wrong(_)), "{text:?}: {error:?}");
        let error = error.to_string();
        assert!(error.starts_with("m.file: ") || error.contains("listed twice"), "{text:?}: {error}");
        assert!(error.contains(said), "{text:?}: {error}");
    }
    let error = index(CSV, "", b"key,size\na,x\n").unwrap_err().to_string();
    assert!(error.contains("expected are key, size and etag"), "{error}");
    let error = index(CSV, "set/", b"key\nother/a\n").unwrap_err().to_string();
    assert!(error.contains("none of its 1 objects is below \"set/\""), "{error}");
    let endless = [b"key,size\n\"a".as_slice(), &b"x,1\n".repeat(1 << 20)].concat();
    let error = index(CSV, "", &endless).unwrap_err().to_string();
    assert!(error.contains("is a quote not closed?"), "{error}");
    let long = format!("{{\"key\":\"{}\"}}\n", "a".repeat(2 << 20));
    assert!(index(JSON, "", long.as_bytes()).unwrap_err().to_string().contains("over 1 MiB"));
    let whole = packed(
        &b"key\n".iter().copied().chain((0..9_999).flat_map(|n| format!("k{n:05}\n").into_bytes())).collect::<Vec<_>>(),
    );
    let cut = index(Format::Csv { is_packed: true }, "", &whole[..whole.len() / 2]).unwrap_err();
    assert!(matches!(cut, ManifestError::Wrong(_)), "{cut:?}");
}

#[test]
fn a_snapshot_is_read_as_it_was_written_and_a_cut_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut builder = builder(&directory, "");
    for n in 0..30_000 {
        let file = (n % 2 == 0).then_some((TimestampNs(-5), n));
        let (key, version_id) = (format!("k/{n:06}\n\"é"), (n % 3 == 0).then(|| format!("id{n}")));
        let mtime = Some(TimestampNs(1_700_000_000_000_000_000 + n as i64));
        builder.push(Line { key, size: Some(n), mtime, etag: Some("e".into()), version_id, file }).unwrap();
    }
    let index = builder.finish("v", None).unwrap();
    let header = SnapshotHeader {
        forebay_snapshot: SNAPSHOT_FORMAT,
        name: "n".into(),
        source: "/s".into(),
        origin: "s3://ml".into(),
        taken: "2024-01-01T00:00:00Z".into(),
        objects: index.facts().objects,
        bytes: index.facts().bytes,
        old_versions: 10_000,
    };
    let mut text = SnapshotText::new(header.clone(), &index);
    let parts: Vec<_> = std::iter::from_fn(|| text.next_part().unwrap()).collect();
    assert!(parts.len() > 1 && parts.iter().all(|part| part.len() < 2 << 20));
    let text = parts.concat();
    let again = self::index(JSON, "", &text).unwrap();
    assert_eq!(all(&again), all(&index));
    assert_eq!(again.facts().snapshot, Some(header));
    let cut = text.len() - text.iter().rev().skip(1).position(|b| *b == b'\n').unwrap() - 1;
    let error = self::index(JSON, "", &text[..cut]).unwrap_err().to_string();
    assert!(error.contains("29999 of 30000"), "{error}");
}

#[test]
fn an_index_that_was_damaged_is_an_error_and_no_absence() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let mut builder = builder(&directory, "");
    (0..9_000).for_each(|n| builder.push(Line { key: format!("k{n:06}"), size: Some(n), ..Line::default() }).unwrap());
    let lines = builder.finish("v", Some(&path)).unwrap().facts().objects;
    assert_eq!(lines, 9_000);
    let whole = std::fs::read(&path).unwrap();
    for at in [0, 9, 500, whole.len() / 2, whole.len() - 16_384 + 30, whole.len() - 16_384 + 3] {
        let mut bad = whole.clone();
        bad[at] ^= 4;
        std::fs::write(&path, &bad).unwrap();
        let Some(index) = Index::open(&path).unwrap() else { continue };
        let mut is_noticed = false;
        for n in 0..9_000 {
            match index.get(&format!("k{n:06}")) {
                Ok(line) => assert_eq!(line.and_then(|line| line.size), Some(n)),
                Err(error) => is_noticed = matches!(error, ManifestError::Damaged(_)),
            }
        }
        assert!(is_noticed, "byte {at}");
    }
    for length in [0, 100, 16_384, whole.len() - 1, whole.len() - 16_384] {
        std::fs::write(&path, &whole[..length]).unwrap();
        assert!(Index::open(&path).unwrap().is_none(), "cut at {length}");
    }
    assert!(Index::open(&directory.path().join("none")).unwrap().is_none());
}

/// One level below `prefix`, as a plain map has it.
fn level(map: &BTreeMap<String, Line>, prefix: &str) -> Vec<Place> {
    let mut places: Vec<Place> = Vec::new();
    for (key, line) in map.iter().filter(|(key, _)| key.starts_with(prefix) && *key != prefix) {
        match key[prefix.len()..].find('/') {
            Some(slash) => {
                let directory = Place::Prefix(key[..=prefix.len() + slash].to_owned());
                if places.last() != Some(&directory) {
                    places.push(directory);
                }
            }
            None => places.push(Place::Object(line.clone())),
        }
    }
    places
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn an_index_says_what_a_plain_map_says(lines in lines(), shuffle in any::<u64>(), run in 1_000usize..100_000, limit in 1usize..50) {
        let directory = tempfile::tempdir().unwrap();
        let counter = Arc::new(AtomicU64::new(0));
        let mut builder = Builder::new(directory.path(), Rules::default(), counter).unwrap().with_runs_of(run);
        let map: BTreeMap<String, Line> = lines.iter().map(|line| (line.key.clone(), line.clone())).collect();
        let mut mixed = lines;
        if shuffle % 3 > 0 {
            mixed.sort_by_key(|line| line.key.bytes().fold(shuffle, |hash, b| (hash ^ u64::from(b)).wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        }
        for line in mixed {
            builder.push(line).unwrap();
        }
        let index = builder.finish("v", Some(&directory.path().join("index"))).unwrap();
        prop_assert_eq!(all(&index), map.values().cloned().collect::<Vec<_>>());
        let mut prefixes: Vec<String> = map.keys().flat_map(|key| key.match_indices('/').map(|(at, _)| key[..=at].to_owned())).collect();
        prefixes.push(String::new());
        prefixes.push("nothing/".to_owned());
        for prefix in prefixes {
            let (mut places, mut after) = (Vec::new(), String::new());
            loop {
                let part = index.level(&prefix, &after, limit).unwrap();
                match part.last() {
                    Some(Place::Object(line)) => after.clone_from(&line.key),
                    Some(Place::Prefix(key)) => after.clone_from(key),
                    None => {}
                }
                let is_last = part.len() < limit;
                places.extend(part);
                if is_last {
                    break;
                }
            }
            prop_assert_eq!(&places, &level(&map, &prefix), "{:?}", prefix);
            prop_assert_eq!(index.has_prefix(&prefix).unwrap(), map.keys().any(|key| key.starts_with(&prefix)));
        }
        for key in map.keys().map(String::as_str).chain(["", "b", "zz", "a/"]) {
            let found = index.get(key).unwrap();
            prop_assert_eq!(found.as_ref(), map.get(key));
        }
    }

    #[test]
    fn damage_of_a_file_is_an_error_or_other_lines_and_never_a_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let csv = "Key,Size,ETag,LastModifiedDate\n\"a,1\",3,e,2017-02-14T21:00:00Z\nb,4,f,\n".as_bytes().to_vec();
        let json = "{\"key\":\"a\",\"size\":3}\n{\"key\":\"b\",\"mtime\":\"2017-02-14T21:00:00Z\"}\n".as_bytes().to_vec();
        for (format, mut file) in [(CSV, csv.clone()), (JSON, json), (Format::Csv { is_packed: true }, packed(&csv))] {
            let at = at.index(file.len());
            file[at] = byte;
            if cut {
                file.truncate(at);
            }
            if let Ok(index) = index(format, "", &file) {
                prop_assert_eq!(all(&index).len() as u64, index.facts().objects);
            }
        }
    }
}

#[test]
fn lines_are_counted_for_whoever_waits() {
    let directory = tempfile::tempdir().unwrap();
    let lines = Arc::new(AtomicU64::new(0));
    let mut builder = Builder::new(directory.path(), Rules::default(), Arc::clone(&lines)).unwrap();
    builder.add(CSV, "m", "key\na\nb\n".as_bytes()).unwrap();
    assert_eq!(lines.load(Ordering::Relaxed), 2);
}
