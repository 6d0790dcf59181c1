//! What settings mean to each engine: plain functions from settings to an engine's options, each setting read once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use forebay_catalog::CatalogOptions;
use forebay_fuse::{Kind, MountOptions};
use forebay_model::{ByteSize, Capacity, NsPath, PAGE, check_name};
use forebay_node::FetchSettings;
use forebay_store::{Admission, Caching, DirectoryOptions, Reserve, Scrub, StoreOptions};

use super::limits::Limits;
use crate::failure::Failure;
use crate::settings::{MountKind, OriginText, Settings};

/// The most to ask an origin for in one request: sixteen pages make what a request costs the origin small beside the rest
/// (docs/decisions/0006-requests-to-the-origin.md).
const REQUEST_MAX: ByteSize = ByteSize(16 << 20);
/// How many of the largest requests there is memory for at least.
const REQUESTS_MIN: u64 = 8;
/// What a client waits longer than the node's deadline, so that the node's own words arrive.
const CLIENT_MARGIN: Duration = Duration::from_secs(2);
/// What the mount waits longer than its client.
const MOUNT_MARGIN: Duration = Duration::from_secs(5);
/// The kernel cuts the name of a program in `/proc/PID/comm` after so many bytes.
const COMM_MAX: usize = 15;

/// The path of the source in the namespace: its given name, else the last part of the origin's URL.
pub(crate) fn source_path(settings: &Settings, url: &OriginText) -> Result<NsPath, Failure> {
    let name = match &settings.source.name {
        Some(name) => name.0.as_str(),
        None => {
            let rest = url.0.split_once("://").map_or(url.0.as_str(), |(_, rest)| rest);
            rest.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
        }
    };
    match check_name(name) {
        Ok(()) => Ok(NsPath::root().join(name)),
        Err(_) => Err(Failure::usage(format!("{} has no last part to name the source by: give `--name NAME`", url.0))),
    }
}

/// The store's directories and bounds.
pub(crate) fn store(settings: &Settings, limits: Limits) -> StoreOptions {
    let directory = |cache: &crate::settings::CacheSpec| DirectoryOptions {
        path: absolute(&cache.directory),
        capacity: cache.capacity,
        class: cache.class,
    };
    let mut options = StoreOptions::new(settings.process.cache.iter().map(directory).collect());
    options.write_queue = write_queue(settings, limits);
    options.reserve = match settings.store.reserve {
        Capacity::Bytes(bytes) => Reserve::Bytes(bytes),
        Capacity::Percent(percent) => Reserve::Percent(percent.min(99)),
    };
    options.max_open_files = limits.open_files;
    options.fills = fills(settings);
    options.admission =
        Admission { second_touch: settings.store.second_touch, write_rate_max: settings.store.write_rate_max };
    options.scrub = Scrub { period: settings.store.scrub_period, rate_max: settings.store.scrub_rate };
    options
}

/// What an inode that the kernel knows takes here at most, with a usual key and etag.
const INODE_BYTES: u64 = 256;
/// What may wait for each directory. Pages that wait are counted in the budget too: half of it is left to readers.
fn write_queue(settings: &Settings, limits: Limits) -> ByteSize {
    let directories = settings.process.cache.len().max(1) as u64;
    let share = limits.memory_budget.0 / 2 / directories;
    ByteSize(settings.store.write_queue.0.min(share).max(PAGE))
}

/// Behind a mount the kernel keeps what was read, be it for a while: pages that are filled would lie in memory twice, and a
/// stream would wait for the kernel to write them (docs/decisions/0003-reads-past-the-page-cache.md).
fn fills(settings: &Settings) -> Caching {
    if settings.mount.dir.is_some() { Caching::Drop } else { Caching::Keep }
}

/// Behind a mount of the kind `files` the kernel keeps what was read: once is enough. Otherwise the page cache of the store's
/// own files is what makes a second read fast.
fn caching(settings: &Settings) -> Caching {
    let is_kept = settings.mount.dir.is_some() && settings.mount.kind == MountKind::Files;
    if is_kept { Caching::Drop } else { Caching::Keep }
}

/// The catalog's place and bounds.
pub(crate) fn catalog(settings: &Settings) -> Option<CatalogOptions> {
    let directory = state_directory(settings)?.join("catalog");
    Some(CatalogOptions { directory, disk: settings.catalog.disk, memory: settings.memory.catalog })
}

/// How the node fetches.
pub(crate) fn fetch(settings: &Settings, limits: Limits) -> FetchSettings {
    FetchSettings {
        memory: limits.memory_budget,
        read_ahead_max: settings.read_ahead.max,
        files_ahead: settings.read_ahead.files,
        directories_ahead: settings.read_ahead.directories,
        request_max: request_max(limits),
        deadline: settings.origin.deadline,
        caching: caching(settings),
    }
}

/// As much as there is memory for, as a power of two.
fn request_max(limits: Limits) -> ByteSize {
    let share = limits.memory_budget.0 / REQUESTS_MIN;
    ByteSize(share.checked_ilog2().map_or(1, |bits| 1 << bits).min(REQUEST_MAX.0))
}

/// How long clients in this process wait.
pub(crate) fn client_deadline(settings: &Settings) -> Duration {
    settings.origin.deadline + CLIENT_MARGIN
}

/// How the source at `root` is shown at `mountpoint`.
pub(crate) fn mount(
    settings: &Settings,
    limits: Limits,
    mountpoint: &Path,
    root: NsPath,
    shown: String,
) -> MountOptions {
    let given = &settings.mount;
    let mut options = MountOptions::new(absolute(mountpoint), root);
    options.kind = match given.kind {
        MountKind::Files => Kind::Files,
        MountKind::Streams => Kind::Streams,
    };
    options.allow_other = given.allow_other.unwrap_or(options.allow_other);
    options.uid = given.uid.map_or(options.uid, |id| id.0);
    options.gid = given.gid.map_or(options.gid, |id| id.0);
    options.file_mode = given.file_mode.0;
    options.dir_mode = given.dir_mode.0;
    options.threads = limits.mount_threads;
    options.read_ahead = given.read_ahead;
    options.io_uring = given.io_uring;
    options.fs_name = shown;
    options.refuse_programs = given.refuse_programs.iter().map(|name| comm(name)).collect();
    // A reply holds up to a page: a quarter of the budget for replies beside what is on its way.
    options.reads_in_flight = usize::try_from(limits.memory_budget.0 / 4 / PAGE).unwrap_or(usize::MAX).clamp(8, 128);
    options.inodes_max = usize::try_from(settings.memory.inodes.0 / INODE_BYTES).unwrap_or(usize::MAX).max(1);
    options.request_limit = client_deadline(settings) + MOUNT_MARGIN;
    options
}

/// Where the node's id and the registry are.
pub(crate) fn state_directory(settings: &Settings) -> Option<PathBuf> {
    let inside = || settings.process.cache.first().map(|cache| cache.directory.join("state"));
    settings.process.state.clone().or_else(inside).map(|path| absolute(&path))
}

/// The path from the root: a daemon's working directory may change, its directories may not.
pub(crate) fn absolute(path: &Path) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.to_owned())
}

/// The name of a program as `/proc/PID/comm` shows it.
fn comm(name: &str) -> String {
    let mut end = name.len().min(COMM_MAX);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    name[..end].to_owned()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::settings::{KEYS, Raw};

    fn settings(values: &[(&str, &str)]) -> Settings {
        let mut settings = Settings::default();
        for (name, value) in values {
            let key = KEYS.iter().find(|key| key.name == *name).unwrap();
            settings.put(key, &Raw::Text((*value).to_owned())).unwrap();
        }
        settings
    }

    const LIMITS: Limits = Limits { memory_budget: ByteSize(192 << 20), mount_threads: 8, open_files: 100 };

    fn check_path(url: &str, expected: Option<&str>) {
        let path = source_path(&settings(&[]), &OriginText(url.to_owned()));
        assert_eq!(path.ok().map(|path| path.to_string()).as_deref(), expected, "{url}");
    }

    #[test]
    fn a_source_is_named_by_the_last_part() {
        check_path("s3://ml", Some("/ml"));
        check_path("s3://ml/imagenet/", Some("/imagenet"));
        check_path("file:///data/train", Some("/train"));
        check_path("file:///", None);
        let named = source_path(&settings(&[("source.name", "x")]), &OriginText("file:///".to_owned()));
        assert_eq!(named.unwrap().as_str(), "/x");
    }

    #[test]
    fn the_kernel_cuts_names_of_programs() {
        let options = mount(&settings(&[]), LIMITS, Path::new("/m"), NsPath::root(), String::new());
        assert!(options.refuse_programs.contains(&"updatedb.plocat".to_owned()));
        assert_eq!(comm("äääääääää"), "äääääää");
    }

    #[test]
    fn every_wait_is_longer_than_the_one_behind_it() {
        let settings = settings(&[("origin.deadline", "2m")]);
        let options = mount(&settings, LIMITS, Path::new("/m"), NsPath::root(), String::new());
        assert!(fetch(&settings, LIMITS).deadline < client_deadline(&settings));
        assert!(client_deadline(&settings) < options.request_limit);
    }

    #[test]
    fn state_is_inside_the_first_cache() {
        let path = state_directory(&settings(&[("cache", "/a:1GB,/b:1GB")]));
        assert_eq!(path, Some("/a/state".into()));
        assert_eq!(state_directory(&settings(&[("state", "/s"), ("cache", "/a:1GB")])), Some("/s".into()));
    }
}
