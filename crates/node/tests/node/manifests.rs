//! Sources that a manifest tells of, and snapshots.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use forebay_model::{
    Entry, Fault, FaultKind, Freshness, Setting, Snapshot, SnapshotState, SourceChange, SourceInfo, SourceSpec,
    TimestampNs,
};
use forebay_route::Service;

use crate::common::{Setup, World, context, node, path, world};

const SOON: Duration = Duration::from_secs(20);

fn spec(at: &str, manifest: &str) -> SourceSpec {
    let spec = SourceSpec::new(path(at), "s3://b/d/".to_owned(), TimestampNs(9));
    SourceSpec { manifest: Some(manifest.to_owned()), freshness: Freshness::Check, ..spec }
}

async fn add(world: &World, at: &str, manifest: &str) -> SourceInfo {
    world.node.add_source(&context(), spec(at, manifest)).await.expect("it is added")
}

/// A CSV of what the cloud has now below `d/`, in an order that is none.
fn manifest(world: &World) -> String {
    let objects = world.cloud.objects.lock();
    let mut lines: Vec<String> = objects
        .iter()
        .filter(|(key, _)| key.starts_with("d/"))
        .map(|(key, (bytes, version))| format!("{version},{},{key}\n", bytes.len()))
        .collect();
    lines.sort_by_key(|line| line.bytes().map(u64::from).fold(7, |hash, b| hash * 31 % 1_009 + b));
    format!("ETag,Size,Key\n{}", lines.concat())
}

async fn names(world: &World, at: &str) -> Result<Vec<String>, Fault> {
    let (mut names, mut after) = (Vec::new(), String::new());
    loop {
        let page = world.node.list(&context(), &path(at), &after, 100).await?;
        names.extend(page.entries.iter().map(|entry| entry.name.to_string()));
        match names.last().filter(|_| page.more) {
            Some(last) => after = last.clone(),
            None => return Ok(names),
        }
    }
}

async fn bytes(world: &World, at: &str) -> Result<Vec<u8>, Fault> {
    let found = world.node.lookup(&context(), &path(at)).await?;
    let Entry::File(file) = found.entry else { panic!("{at} is a directory") };
    world.read(&file.content, 0, file.content.size).await
}

fn asked(world: &World) -> (u64, u64) {
    (world.cloud.stats.load(Ordering::Relaxed), world.cloud.lists.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_manifest_answers_and_the_origin_is_asked_for_bytes_alone() {
    let world = world(&Setup::default());
    for n in 0..2_500 {
        world.cloud.put(&format!("d/x{}/f{n:04}", n % 3), format!("bytes of {n}"));
    }
    world.cloud.put("d/plain", "plain");
    world.cloud.put("m.csv", manifest(&world));
    world.cloud.put("d/later", "is not in the manifest");
    let info = add(&world, "/m", "s3://b/m.csv").await;
    let told = info.manifest.expect("it has one");
    assert_eq!((info.problem, told.objects, told.is_read, told.is_reading), (None, 2_501, true, false));
    let (heads, lists) = asked(&world);
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["plain", "x0", "x1", "x2"]);
    assert_eq!(names(&world, "/m/x1").await.expect("it lists").len(), 833);
    assert_eq!(bytes(&world, "/m/x2/f0002").await.expect("it reads"), b"bytes of 2");
    for absent in ["/m/later", "/m/x1/f0002", "/m/x9"] {
        let fault = world.node.lookup(&context(), &path(absent)).await.expect_err(absent);
        assert_eq!(fault.kind, FaultKind::NotFound, "{absent}");
    }
    let (heads, lists) = (asked(&world).0 - heads, asked(&world).1 - lists);
    assert_eq!(lists, 0, "the origin is never listed");
    assert!(heads <= 20, "only the manifest's version is asked for: {heads}");
}

#[tokio::test]
async fn an_object_that_changed_is_an_error_that_names_it() {
    let world = world(&Setup::default());
    world.cloud.put("d/a", "as it was");
    world.cloud.put("d/gone", "as it was");
    world.cloud.put("m.csv", manifest(&world));
    add(&world, "/m", "s3://b/m.csv").await;
    world.cloud.put("d/a", "another");
    world.cloud.objects.lock().remove("d/gone");
    for name in ["a", "gone"] {
        for _ in 0..2 {
            let fault = bytes(&world, &format!("/m/{name}")).await.expect_err("it is another");
            assert_eq!(fault.kind, FaultKind::Changed, "{fault}");
            assert!(fault.message.contains(&format!("d/{name}")), "{fault}");
            assert!(fault.message.contains("s3://b/m.csv"), "{fault}");
        }
    }
}

#[tokio::test]
async fn a_manifest_that_changed_is_read_anew_and_one_that_is_wrong_is_an_error() {
    let world = world(&Setup::default());
    world.cloud.put("d/a", "a");
    world.cloud.put("m.csv", manifest(&world));
    add(&world, "/m", "s3://b/m.csv").await;
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a"]);
    world.cloud.put("d/b", "b");
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a"]);
    world.cloud.put("m.csv", manifest(&world));
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a", "b"]);
    world.cloud.put("m.csv", "Key,Size\nd/a,1\nd/b,many\n");
    let fault = names(&world, "/m").await.expect_err("it is wrong");
    assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
    assert!(fault.message.contains("s3://b/m.csv: line 3: \"many\" is no number"), "{fault}");
    let fault = world.node.lookup(&context(), &path("/m/a")).await.expect_err("it is wrong");
    assert_eq!(fault.kind, FaultKind::Invalid, "{fault}");
    let problem = world.node.sources(&context()).await.expect("they are told")[0].problem.clone();
    assert!(problem.is_some_and(|why| why.contains("line 3")), "it is told with the sources");
    world.cloud.objects.lock().remove("m.csv");
    let fault = world.node.lookup(&context(), &path("/m/a")).await.expect_err("there is none");
    assert_eq!(fault.kind, FaultKind::Unavailable, "a manifest that is gone is no empty source: {fault}");
    world.cloud.put("m.csv", manifest(&world));
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a", "b"]);
}

#[tokio::test]
async fn an_index_outlives_the_process_and_goes_with_its_source() {
    let setup = Setup::default();
    let world = world(&setup);
    world.cloud.put("d/a", "a");
    world.cloud.put("m.csv", manifest(&world));
    world.cloud.put("n.csv", manifest(&world));
    add(&world, "/m", "s3://b/m.csv").await;
    let manifests = world.directory.path().join("manifests");
    let indexes = || std::fs::read_dir(&manifests).expect("the directory").count();
    assert_eq!(indexes(), 1);
    std::fs::write(manifests.join("left.tmp"), "of a process that ended").expect("it is written");
    let World { store, node: first, cloud, directory, .. } = world;
    first.close().expect("it closes");
    drop((first, store));
    let reads = cloud.reads.lock().len();
    let again = node(&setup, &cloud, &directory);
    again.lookup(&context(), &path("/m/a")).await.expect("it is there");
    assert_eq!(cloud.reads.lock().len(), reads, "it is not read again");
    assert_eq!(indexes(), 1);
    let change = SourceChange { manifest: Some(Setting::To("s3://b/n.csv".to_owned())), ..SourceChange::default() };
    again.set_source(&context(), &path("/m"), change).await.expect("it is set");
    again.lookup(&context(), &path("/m/a")).await.expect("it is there");
    assert_eq!(indexes(), 1);
    again.remove_source(&context(), &path("/m")).await.expect("it is removed");
    assert_eq!(indexes(), 0);
}

#[tokio::test]
async fn another_manifest_is_in_force_at_once() {
    let world = world(&Setup::default());
    for name in ["d/a", "d/b"] {
        world.cloud.put(name, "of then");
    }
    world.cloud.put("m.csv", manifest(&world));
    let spec = SourceSpec { freshness: Freshness::Immutable, ..spec("/m", "s3://b/m.csv") };
    world.node.add_source(&context(), spec).await.expect("it is added");
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a", "b"]);
    assert_eq!(bytes(&world, "/m/a").await.expect("it reads"), b"of then");
    world.cloud.put("d/a", "as it is now");
    world.cloud.objects.lock().remove("d/b");
    world.cloud.put("n.csv", manifest(&world));
    let change = SourceChange { manifest: Some(Setting::To("s3://b/n.csv".to_owned())), ..SourceChange::default() };
    world.node.set_source(&context(), &path("/m"), change).await.expect("it is set");
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a"]);
    assert_eq!(bytes(&world, "/m/a").await.expect("it reads"), b"as it is now");
    let change = SourceChange { manifest: Some(Setting::Default), ..SourceChange::default() };
    world.node.set_source(&context(), &path("/m"), change).await.expect("it is set");
    world.cloud.put("d/c", "listed");
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a", "c"]);
}

#[tokio::test]
async fn a_refresh_asks_for_the_manifest_anew() {
    let world = world(&Setup::default());
    world.cloud.put("d/a", "a");
    world.cloud.put("m.csv", manifest(&world));
    let spec = SourceSpec { freshness: Freshness::Immutable, ..spec("/m", "s3://b/m.csv") };
    world.node.add_source(&context(), spec).await.expect("it is added");
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a"]);
    world.cloud.put("d/b", "b");
    world.cloud.put("m.csv", manifest(&world));
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a"], "it is asked for once");
    world.node.refresh(&context(), &path("/m"), true).await.expect("it is refreshed");
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a", "b"]);
    let (heads, _) = asked(&world);
    assert_eq!(bytes(&world, "/m/b").await.expect("it reads"), b"b");
    assert_eq!(asked(&world).0, heads, "and not again");
}

#[tokio::test]
async fn a_report_of_an_inventory_is_read_file_by_file() {
    let world = world(&Setup::default());
    for n in 0..100 {
        world.cloud.put(&format!("d/f {n:03}"), format!("{n}"));
    }
    let rows = |range: std::ops::Range<usize>| -> String {
        range.map(|n| format!("\"b\",\"d/f+{n:03}\",\"{}\",\"1\"\n", n.to_string().len())).collect()
    };
    // Files of CSV are packed; those of a report that was put together by hand may not be.
    let report = r#"{"sourceBucket":"b","fileFormat":"CSV","fileSchema":"Bucket, Key, Size, ETag",
        "files":[{"key":"inv/data/2.csv.gz"},{"key":"inv/data/1.csv.gz"}]}"#;
    world.cloud.put("inv/data/1.csv.gz", packed(&rows(0..50)));
    world.cloud.put("inv/data/2.csv.gz", packed(&rows(50..100)));
    world.cloud.put("inv/2024/manifest.json", report);
    let info = add(&world, "/m", "s3://b/inv/2024/manifest.json").await;
    assert_eq!((info.problem, info.manifest.map(|manifest| manifest.objects)), (None, Some(100)));
    assert_eq!(bytes(&world, "/m/f 077").await.expect("it reads"), b"77");
    world.cloud.put("inv/2024/manifest.json", report.replace("CSV", "ORC"));
    let fault = world.node.lookup(&context(), &path("/m/f 077")).await.expect_err("it is not read");
    assert!(fault.message.contains("ORC") && fault.message.contains("Parquet or CSV"), "{fault}");
    world.cloud.put("inv/2024/manifest.json", report.replace("\"b\"", "\"other\""));
    let fault = world.node.lookup(&context(), &path("/m/f 077")).await.expect_err("it is of another bucket");
    assert!(fault.message.contains("of the bucket other"), "{fault}");
    world.cloud.put("inv/2024/manifest.json", report);
    world.cloud.objects.lock().remove("inv/data/1.csv.gz");
    let fault = world.node.lookup(&context(), &path("/m/f 077")).await.expect_err("a part is missing");
    assert!(fault.message.contains("inv/data/1.csv.gz"), "{fault}");
}

/// Stored, not deflated: one block of gzip.
fn packed(text: &str) -> Vec<u8> {
    let mut crc = u32::MAX;
    for byte in text.bytes() {
        crc ^= u32::from(byte);
        (0..8).for_each(|_| crc = if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 });
    }
    let length = text.len() as u16;
    let mut file = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    file.extend_from_slice(&length.to_le_bytes());
    file.extend_from_slice(&(!length).to_le_bytes());
    file.extend_from_slice(text.as_bytes());
    file.extend_from_slice(&(!crc).to_le_bytes());
    file.extend_from_slice(&u32::from(length).to_le_bytes());
    file
}

#[tokio::test]
async fn lines_without_a_version_are_asked_for() {
    let world = world(&Setup::default());
    world.cloud.put("d/a", "some bytes");
    world.cloud.put("m.jsonl", "{\"path\":\"a\"}\n{\"path\":\"b\",\"size\":1,\"etag\":\"1\"}\n");
    add(&world, "/m", "s3://b/m.jsonl").await;
    assert_eq!(names(&world, "/m").await.expect("it lists"), ["a", "b"]);
    assert_eq!(bytes(&world, "/m/a").await.expect("it reads"), b"some bytes");
}

async fn snapshot(world: &World, name: &str, to: Option<&str>) -> Result<Snapshot, Fault> {
    let begun = Instant::now();
    let mut snapshot = world.node.snapshot(&context(), &path("/ml"), name, to).await?;
    loop {
        match snapshot.state {
            SnapshotState::Done => return Ok(snapshot),
            SnapshotState::Failed(fault) => return Err(fault),
            SnapshotState::Listing | SnapshotState::Writing => {}
        }
        assert!(begun.elapsed() < SOON, "it does not end");
        tokio::time::sleep(Duration::from_millis(5)).await;
        snapshot = world.node.snapshot_state(&context(), name).await?;
    }
}

#[tokio::test]
async fn a_snapshot_keeps_what_was_there() {
    let world = world(&Setup::default());
    for (key, bytes) in [("a", "a of then"), ("d/b", "b of then"), ("d/c", "c")] {
        world.cloud.put(key, bytes);
    }
    let made = snapshot(&world, "one", None).await.expect("it is made");
    assert_eq!((made.objects, made.bytes, made.old_versions), (3, 19, 0));
    assert_eq!(made.address, "s3://b/.forebay/snapshots/one.jsonl");
    world.cloud.put("a", "a of now");
    world.cloud.put("new", "new");
    assert_eq!(names(&world, "/.snapshots").await.expect("it lists"), ["one"]);
    assert_eq!(names(&world, "/.snapshots/one").await.expect("it lists"), ["a", "d"]);
    assert_eq!(bytes(&world, "/.snapshots/one/d/b").await.expect("it reads"), b"b of then");
    let fault = bytes(&world, "/.snapshots/one/a").await.expect_err("it changed");
    assert_eq!(fault.kind, FaultKind::Changed);
    assert!(fault.message.contains("the snapshot one of 2") && fault.message.contains("a has changed"), "{fault}");
    assert!(fault.message.contains("does not keep"), "{fault}");
    // What Forebay wrote itself is no part of the next one.
    assert_eq!(snapshot(&world, "two", None).await.expect("it is made").objects, 4);
    let refused = snapshot(&world, "one", None).await.expect_err("it is there");
    assert!(refused.message.contains("source remove /.snapshots/one"), "{refused}");
    world.node.remove_source(&context(), &path("/.snapshots/one")).await.expect("it is removed");
    assert!(world.cloud.objects.lock().contains_key(".forebay/snapshots/one.jsonl"), "its file stays");
    let refused = snapshot(&world, "one", None).await.expect_err("its file is there");
    assert!(refused.message.contains("is there already"), "{refused}");
    let again = snapshot(&world, "one", Some("s3://b/other/one.jsonl")).await.expect("it is made");
    assert_eq!(again.address, "s3://b/other/one.jsonl");
}

#[tokio::test]
async fn a_snapshot_with_ids_of_versions_reads_the_old_ones() {
    let world = world(&Setup::default());
    world.cloud.keeps_versions.store(true, Ordering::Relaxed);
    world.cloud.put("a", "a of then");
    world.cloud.put("b", "b of then");
    let made = snapshot(&world, "one", None).await.expect("it is made");
    assert_eq!((made.objects, made.old_versions), (2, 2));
    // What the source has in the cache the snapshot has too: the bytes are the same.
    assert_eq!(bytes(&world, "/ml/b").await.expect("it reads"), b"b of then");
    let reads = world.cloud.reads.lock().len();
    assert_eq!(bytes(&world, "/.snapshots/one/b").await.expect("it reads"), b"b of then");
    assert_eq!(world.cloud.reads.lock().len(), reads);
    world.cloud.put("a", "a of now");
    world.cloud.objects.lock().remove("b");
    assert_eq!(bytes(&world, "/.snapshots/one/a").await.expect("it reads"), b"a of then");
    assert_eq!(bytes(&world, "/ml/a").await.expect("it reads"), b"a of now");
    let text = world.cloud.objects.lock()[".forebay/snapshots/one.jsonl"].0.clone();
    let first = std::str::from_utf8(&text).expect("text").lines().next().expect("a line").to_owned();
    let first: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!((first["objects"].as_u64(), first["old_versions"].as_u64()), (Some(2), Some(2)));
}

#[tokio::test]
async fn a_snapshot_that_cannot_be_made_leaves_nothing() {
    let world = world(&Setup::default());
    world.cloud.put("a", "a");
    for name in ["", "../x", "a b"] {
        assert_eq!(snapshot(&world, name, None).await.expect_err(name).kind, FaultKind::Invalid);
    }
    let fault = world.node.snapshot(&context(), &path("/nowhere"), "x", None).await.expect_err("no source");
    assert_eq!(fault.kind, FaultKind::NotFound);
    assert_eq!(world.node.snapshot_state(&context(), "x").await.expect_err("none").kind, FaultKind::NotFound);
    let fault = snapshot(&world, "x", Some("s3://b/x.csv")).await.expect_err("it is no .jsonl");
    assert!(fault.message.contains(".jsonl"), "{fault}");
    let read_only = SourceChange { read_only: Some(true), ..SourceChange::default() };
    world.node.set_source(&context(), &path("/ml"), read_only).await.expect("it is set");
    let fault = snapshot(&world, "x", None).await.expect_err("nothing is written there");
    assert_eq!(fault.kind, FaultKind::ReadOnly);
    assert!(fault.message.contains("--to"), "{fault}");
    let begun = world.node.snapshot(&context(), &path("/ml"), "x", Some("s3://b/x.jsonl")).await.expect("it begins");
    assert_eq!(begun.path.as_str(), "/.snapshots/x");
    assert_eq!(snapshot(&world, "x", Some("s3://b/x.jsonl")).await.map(|made| made.objects).unwrap_or(1), 1);
    *world.cloud.fault.lock() = Some(FaultKind::Denied);
    assert!(snapshot(&world, "y", Some("s3://b/y.jsonl")).await.is_err());
    *world.cloud.fault.lock() = None;
    assert!(!world.cloud.objects.lock().contains_key("y.jsonl"));
    assert!(names(&world, "/.snapshots").await.expect("it lists").iter().all(|name| name == "x"));
}
