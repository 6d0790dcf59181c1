//! Mounts for tests.

use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use forebay_client::{Client, Holder, Outdated};
use forebay_fuse::{Mount, MountOptions};
use forebay_model::NsPath;
use prometheus_client::registry::Registry;

use crate::service::Fake;

/// A mount on a directory of its own, taken away at the end.
pub(crate) struct Fixture {
    pub(crate) fake: Arc<Fake>,
    pub(crate) mount: Option<Mount>,
    pub(crate) directory: PathBuf,
    registry: Registry,
    _temporary: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Fixture {
    pub(crate) fn new(fake: Arc<Fake>) -> Self {
        Self::with(fake, |_| {})
    }

    pub(crate) fn with(fake: Arc<Fake>, change: impl FnOnce(&mut MountOptions)) -> Self {
        assert!(Path::new("/dev/fuse").exists(), "these tests need /dev/fuse: load the module by `modprobe fuse`");
        let temporary = tempfile::tempdir().unwrap();
        // Other users come by here.
        std::fs::set_permissions(temporary.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let directory = temporary.path().join("mount point");
        std::fs::create_dir(&directory).unwrap();
        let runtime = runtime();
        let mut given = options(&directory, NsPath::root());
        change(&mut given);
        let client = Client::new(fake.clone(), Duration::from_secs(30));
        let mount = Mount::start(&given, client, runtime.handle().clone())
            .unwrap_or_else(|error| panic!("these tests mount, as root: {error}"));
        let mut registry = Registry::default();
        mount.register(&mut registry);
        Self { fake, mount: Some(mount), directory, registry, _temporary: temporary, runtime }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub(crate) fn mount(&self) -> &Mount {
        self.mount.as_ref().unwrap()
    }

    /// Whether the kernel has let go of what is outdated.
    pub(crate) fn let_go(&self, outdated: &[Outdated]) -> bool {
        self.runtime.block_on(self.mount().invalidator().let_go(outdated))
    }

    /// The value of a metric, by its name with labels as the text format shows it.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("forebay_fuse_{name} ")));
        line.unwrap_or_else(|| panic!("no metric {name} in\n{text}")).parse().unwrap()
    }
}

/// Set in a process whose mounts take requests over `/dev/fuse`, whatever else the kernel offers.
pub(crate) const DEVICE: &str = "FOREBAY_TEST_DEVICE";

pub(crate) fn options(directory: impl Into<PathBuf>, root: NsPath) -> MountOptions {
    let mut options = MountOptions::new(directory, root);
    options.io_uring = std::env::var_os(DEVICE).is_none();
    options
}

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Bytes that differ from page to page.
pub(crate) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let byte = |i: usize| ((i as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15 ^ seed) >> 32) as u8;
    (0..len).map(byte).collect()
}

pub(crate) fn errno<T: std::fmt::Debug>(result: io::Result<T>) -> i32 {
    result.expect_err("an error was wanted").raw_os_error().expect("the error has an errno")
}

pub(crate) fn pread(file: &std::fs::File, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    let got = file.read_at(&mut buffer, offset)?;
    buffer.truncate(got);
    Ok(buffer)
}

pub(crate) fn sorted_names(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    names
}

/// Another thread is to bring it about: looks until it has.
pub(crate) fn wait_until(condition: impl Fn() -> bool) {
    let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
    while !condition() {
        assert!(std::time::Instant::now() < end, "it did not come about within 10 s");
        std::thread::yield_now();
    }
}

/// Whether the kernel is of this version or newer.
pub(crate) fn kernel_is_since(major: u32, minor: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (major, minor)
}
