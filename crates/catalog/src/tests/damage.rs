//! A damaged database never answers wrongly, and never takes the process with it.

use std::fs;

use forebay_model::Freshness;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::*;

/// Names, with an etag that says the name.
fn listing(w: &World, count: usize) {
    let names: Vec<String> = (0..count).map(|n| format!("{n:05}")).collect();
    let etags: Vec<String> = names.iter().map(|name| format!("of {name}")).collect();
    let named: Vec<_> = names.iter().zip(&etags).map(|(name, etag)| (name.as_str(), etag.as_str())).collect();
    w.list(&named);
}

/// Whatever is told must be right. Gives how much is told.
fn told(w: &World, count: usize) -> usize {
    let mut told = 0;
    for n in 0..count + 100 {
        let etag = w.etag(&format!("/ml/d/{n:05}"));
        if etag != "unknown" {
            let right = if n < count { format!("of {n:05}") } else { "absent".to_owned() };
            assert_eq!(etag, right, "{n}");
            told += 1;
        }
    }
    if let Some(held) = w.held() {
        let mut after = String::new();
        while let Paged::Page(page) = held.page(&after, 100) {
            for entry in &page.entries {
                assert_eq!(entry.name.len(), 5, "{}", entry.name);
            }
            assert!(page.more || page.entries.last().is_none_or(|last| *last.name == *format!("{:05}", count - 1)));
            let Some(last) = page.entries.last().filter(|_| page.more) else { break };
            after = last.name.to_string();
        }
    }
    told
}

#[test]
fn flipped_bytes_anywhere_are_found() {
    let mut w = world_of(Freshness::Immutable, ByteSize(16 << 20));
    listing(&w, 5_000);
    w.restart();
    assert_eq!(told(&w, 5_000), 5_100);
    let database = w.options().directory.join("data.mdb");
    w.catalog.take().expect("it is open").close();
    let whole = fs::read(&database).expect("the database");
    let number = |name| std::env::var(name).ok().and_then(|value: String| value.parse().ok());
    let (seed, rounds) = (number("SEED").unwrap_or_else(rand::random), number("ROUNDS").unwrap_or(150));
    println!("SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut anew, mut some) = (0, 0);
    let pages: Vec<usize> = (0..whole.len()).step_by(4096).collect();
    let kind = |page: &usize| u16::from_le_bytes([whole[page + 10], whole[page + 11]]);
    let tree: Vec<usize> = pages.iter().copied().filter(|page| matches!(kind(page), 1 | 2 | 8)).collect();
    assert!(tree.len() > 4, "{} pages of the tree", tree.len());
    for round in 0..rounds {
        let mut bad = whole.clone();
        for _ in 0..random.random_range(1..20) {
            // Some anywhere, some in the headers of pages, and some where they hurt most: in the tree that LMDB walks.
            let of = if round % 2 == 0 { &tree } else { &pages };
            let page = of[random.random_range(0..of.len())];
            let at = page + if random.random() { random.random_range(0..32) } else { random.random_range(0..4096) };
            bad[at] ^= 1 << random.random_range(0..8);
        }
        let marker = w.options().directory.join("marker");
        fs::write(&database, &bad).expect("written");
        fs::write(&marker, "forebay catalog 2 synced\n").expect("written");
        let _ = fs::remove_file(w.options().directory.join("lock.mdb"));
        w.open();
        match told(&w, 5_000) {
            0 => anew += 1,
            _ => some += 1,
        }
        // It can be written to, and what is written is right.
        listing(&w, 5_000);
        w.restart();
        assert_eq!(told(&w, 5_000), 5_100);
        w.catalog.take().expect("it is open").close();
    }
    println!("begun anew {anew}, in part of use {some}");
    assert!(anew > 0 && some > 0, "{anew} {some}");
}

#[test]
fn a_file_that_is_cut_or_none_is_begun_anew() {
    let mut w = world(Freshness::Immutable);
    listing(&w, 3_000);
    w.catalog.take().expect("it is open").close();
    let database = w.options().directory.join("data.mdb");
    let whole = fs::read(&database).expect("the database");
    for len in [0, 1, 4096, 8192, whole.len() / 2, whole.len() - 4096] {
        fs::write(&database, &whole[..len]).expect("written");
        fs::write(w.options().directory.join("marker"), "forebay catalog 2 synced\n").expect("written");
        w.open();
        told(&w, 3_000);
        listing(&w, 3_000);
        assert_eq!(told(&w, 3_000), 3_100);
        w.catalog.take().expect("it is open").close();
    }
    fs::write(&database, vec![7; 100_000]).expect("written");
    w.open();
    assert_eq!(told(&w, 3_000), 0);
}
