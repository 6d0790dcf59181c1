//! How fast pages are kept. Measures, and judges nothing.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::sync::mpsc;
use std::time::Instant;

use forebay_model::{PAGE, PageIndex};
use forebay_store::NotKept;
use support::{fill, id, open, options};

/// Pages kept by one run.
const PAGES: u64 = 2048;

#[test]
#[ignore = "a measurement"]
fn inserts_of_pages() {
    for (name, pages, base) in [
        ("large, memory", 64, "/dev/shm"),
        ("large, disk", 64, "/tmp"),
        ("packs, memory", 1, "/dev/shm"),
        ("packs, disk", 1, "/tmp"),
    ] {
        let scratch = tempfile::tempdir_in(base).unwrap();
        let (store, _) = open(&options(&[scratch.path()], 8 << 30));
        let size = pages * PAGE;
        let one = fill(1, size, PageIndex(0));
        let (send, receive) = mpsc::channel();
        let start = Instant::now();
        for n in 0..PAGES {
            loop {
                let mut fill = one.clone();
                (fill.id, fill.page) = (id(n / pages), PageIndex((n % pages) as u32));
                let send = send.clone();
                match store.keep(fill, Box::new(move |kept| send.send(kept).unwrap())) {
                    Ok(()) => break,
                    Err(NotKept::QueueFull) => std::thread::yield_now(),
                    Err(reason) => panic!("{reason}"),
                }
            }
        }
        (0..PAGES).for_each(|_| _ = receive.recv().unwrap());
        let rate = (PAGES * PAGE) as f64 / start.elapsed().as_secs_f64() / 1e9;
        println!("{name}: {rate:.2} GB/s");
    }
}
