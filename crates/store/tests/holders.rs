//! The fault that the kernel's judgement prevents: processes hold a descriptor, a map or both of a content, its daemon is
//! killed, the next store knows nothing of them and evicts all that it can. None of them ever reads a zero.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs::File;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use forebay_model::{ByteRange, EXTENT, PAGE, PageIndex};
use forebay_store::Residency;
use support::{content, id, keep, keep_page, open, options};

/// Two extents, so that one may be punched.
const SIZE: u64 = EXTENT + 2 * PAGE + 5;
const QUOTA: u64 = 160 << 20;
/// Tells a copy of this program what to be.
const DAEMON: &str = "FOREBAY_TEST_DAEMON";
const HOLDER: &str = "FOREBAY_TEST_HOLDER";

/// Another process of this program.
struct Process {
    child: Child,
    input: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    fn start(test: &str, variable: &str, value: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(variable, value)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { input: child.stdin.take().unwrap(), child, lines }
    }

    /// Waits until it says something that begins so; the rest of it.
    fn says(&mut self, what: &str) -> String {
        let said = self.lines.by_ref().map(Result::unwrap).find_map(|line| line.strip_prefix(what).map(str::to_owned));
        said.unwrap_or_else(|| panic!("it ended without saying: {what}"))
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn end(mut self) {
        self.input.write_all(b"end\n").unwrap();
        self.says("whole");
        assert!(self.child.wait().unwrap().success());
    }
}

#[test]
fn daemon_that_hands_out_a_content() {
    // What the next test runs in a process of its own; nothing by itself.
    let Ok(path) = std::env::var(DAEMON) else { return };
    let (store, _) = open(&options(&[path.as_ref()], QUOTA));
    keep(&store, 1, SIZE);
    keep(&store, 2, SIZE);
    let descriptor = store.descriptor(id(1), SIZE).unwrap();
    println!("\nready {}", descriptor.file.as_raw_fd());
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    panic!("was not killed");
}

#[test]
fn holder_that_reads_what_it_was_given() {
    // As above. It reads all the time, until it is told to end.
    let Ok(what) = std::env::var(HOLDER) else { return };
    let (how, path) = what.split_once(':').unwrap();
    let file = File::open(path).unwrap();
    let map = how.contains("map").then(|| support_map::Map::new(&file, SIZE as usize));
    let file = how.contains("descriptor").then_some(file);
    println!("\nholds");
    let right = content(1, 0, SIZE);
    let check = |at: usize, len: usize| {
        if let Some(map) = &map {
            assert!(map.bytes()[at..at + len] == right[at..at + len], "the map lost its bytes at {at}");
        }
        if let Some(file) = &file {
            let mut bytes = vec![0; len];
            file.read_exact_at(&mut bytes, at as u64).unwrap();
            assert!(bytes == right[at..at + len], "the descriptor lost its bytes at {at}");
        }
    };
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::io::stdin().read_line(&mut String::new()).unwrap();
            ends.store(true, Ordering::Relaxed);
        });
        let mut at = 0;
        while !ends.load(Ordering::Relaxed) {
            check(at, 4096);
            at = (at + 9_999_991) % (SIZE as usize - 4096);
        }
    });
    check(0, SIZE as usize);
    println!("\nwhole");
}

#[test]
fn holders_of_a_killed_daemons_content_never_read_a_zero_whatever_the_next_store_evicts() {
    // On the disk and in memory: leases are the file system's.
    for scratch in [tempfile::tempdir().unwrap(), tempfile::tempdir_in("/dev/shm").unwrap()] {
        let path = scratch.path();
        let mut daemon = Process::start("daemon_that_hands_out_a_content", DAEMON, path.to_str().unwrap());
        let fd = daemon.says("ready ");
        // What a reader was given: the very file that the daemon handed out.
        let given = format!("/proc/{}/fd/{fd}", daemon.child.id());
        let start =
            |how: &str| Process::start("holder_that_reads_what_it_was_given", HOLDER, &format!("{how}:{given}"));
        let mut holders = ["descriptor", "map", "descriptor and map"].map(start);
        holders.iter_mut().for_each(|holder| _ = holder.says("holds"));
        daemon.kill();

        let (store, recovery) = open(&options(&[path], QUOTA));
        assert_eq!((recovery.unclean, recovery.unverified, recovery.contents), (1, 0, 2));
        assert!(store.descriptor(id(1), SIZE).is_some(), "nothing need be read again after a kill");
        // Others come until nothing is left of either, and some more: what is not held is punched.
        let is_there = |number| store.residency(id(number), SIZE) != Residency::None;
        let mut number = 1000;
        while is_there(1) || is_there(2) || store.stats().holes_punched == 0 {
            for page in [0, 64, 1, 65] {
                keep_page(&store, number, SIZE, PageIndex(page));
            }
            number += 1;
            assert!(number < 3000, "{:?}", store.stats());
        }
        // Fetched anew it is another file.
        for page in 0..4 {
            keep_page(&store, 1, SIZE, PageIndex(page));
            support::read(&store, 1, SIZE, ByteRange::at(page as u64 * PAGE, PAGE, SIZE));
        }
        let stats = store.stats();
        assert!(stats.leases_refused > 0 && stats.holes_punched > 0 && stats.directories_down == 0, "{stats:?}");
        holders.into_iter().for_each(Process::end);
    }
}

/// An mmap of a file.
mod support_map {
    #![expect(unsafe_code, reason = "mmap")]

    use std::fs::File;

    pub(super) struct Map(*mut std::ffi::c_void, usize);

    impl Map {
        pub(super) fn new(file: &File, len: usize) -> Self {
            use rustix::mm::{MapFlags, ProtFlags, mmap};
            // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
            let at = unsafe { mmap(std::ptr::null_mut(), len, ProtFlags::READ, MapFlags::SHARED, file, 0) };
            Self(at.unwrap(), len)
        }

        pub(super) fn bytes(&self) -> &[u8] {
            // SAFETY: the mapping has that length, lives as long as `self`, and the file is not changed by rule.
            unsafe { std::slice::from_raw_parts(self.0.cast(), self.1) }
        }
    }
}
