//! What this machine gives the process: cores, memory under its cgroup's limit, open files.

use std::fs;
use std::path::{Path, PathBuf};

use forebay_model::ByteSize;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A limit of version 1 above this is no limit: it stands for "none" as a number near 2^63.
const CGROUP_V1_NONE: u64 = 1 << 60;

/// What there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Machine {
    /// Cores that this process may use.
    pub(crate) cores: usize,
    /// Memory of the machine.
    pub(crate) memory: ByteSize,
    /// The tightest limit of a cgroup that the process is in, and the file that states it.
    pub(crate) cgroup: Option<(ByteSize, PathBuf)>,
}

impl Machine {
    /// Looks at this machine.
    pub(crate) fn detect() -> Self {
        Self::detect_in(Path::new("/proc"), Path::new("/sys/fs/cgroup"))
    }

    fn detect_in(proc: &Path, cgroups: &Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let meminfo = fs::read_to_string(proc.join("meminfo")).unwrap_or_default();
        let membership = fs::read_to_string(proc.join("self/cgroup")).unwrap_or_default();
        let cgroup = membership.lines().filter_map(|line| limit_of(line, cgroups)).min();
        Self { cores, memory: memory_total(&meminfo), cgroup }
    }

    /// Memory that the process may use.
    pub(crate) fn usable_memory(&self) -> ByteSize {
        self.cgroup.as_ref().map_or(self.memory, |(limit, _)| self.memory.min(*limit))
    }
}

/// Raises the limit of open files as far as the process may, and returns it.
pub(crate) fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::debug!(%error, "limit of open files not raised");
    }
    open_files()
}

/// How many files the process may open.
pub(crate) fn open_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn memory_total(meminfo: &str) -> ByteSize {
    let kib =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse().ok());
    ByteSize(kib.map_or(0, |kib: u64| kib << 10))
}

/// The tightest limit on the way from the cgroup of one line of `/proc/self/cgroup` to the root.
fn limit_of(line: &str, cgroups: &Path) -> Option<(ByteSize, PathBuf)> {
    let mut fields = line.splitn(3, ':');
    let (_, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
    let (root, file) = if controllers.is_empty() {
        (cgroups.to_owned(), "memory.max")
    } else if controllers.split(',').any(|controller| controller == "memory") {
        (cgroups.join("memory"), "memory.limit_in_bytes")
    } else {
        return None;
    };
    // In a container the path may be the host's and absent here: its ancestors are looked at all the same.
    Path::new(path.trim_start_matches('/'))
        .ancestors()
        .filter_map(|ancestor| {
            let file = root.join(ancestor).join(file);
            let limit: u64 = fs::read_to_string(&file).ok()?.trim().parse().ok()?;
            (limit < CGROUP_V1_NONE).then_some((ByteSize(limit), file))
        })
        .min()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn machine(membership: &str, files: &[(&str, &str)]) -> Machine {
        let directory = tempfile::tempdir().unwrap();
        let proc = directory.path().join("proc");
        fs::create_dir_all(proc.join("self")).unwrap();
        fs::write(proc.join("meminfo"), "MemTotal:       16384000 kB\nMemFree:  1 kB\n").unwrap();
        fs::write(proc.join("self/cgroup"), membership).unwrap();
        let cgroups = directory.path().join("cgroup");
        for (path, text) in files {
            let path = cgroups.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Machine::detect_in(&proc, &cgroups)
    }

    #[test]
    fn no_limit_is_the_machine() {
        let machine = machine("0::/a\n", &[("a/memory.max", "max\n")]);
        assert_eq!(machine.usable_memory(), ByteSize(16_384_000 << 10));
    }

    #[test]
    fn the_tightest_ancestor_counts() {
        let files = [("a/memory.max", "200000000\n"), ("a/b/memory.max", "400000000\n")];
        let machine = machine("0::/a/b\n", &files);
        assert_eq!(machine.usable_memory(), ByteSize(200_000_000));
    }

    #[test]
    fn a_container_sees_its_limit_at_the_root() {
        let machine = machine("0::/../host/path\n", &[("memory.max", "100000000\n")]);
        assert_eq!(machine.usable_memory(), ByteSize(100_000_000));
    }

    #[test]
    fn version_one_has_a_number_for_none() {
        let none = ("memory/a/memory.limit_in_bytes", "9223372036854771712\n");
        assert_eq!(machine("4:memory:/a\n", &[none]).cgroup, None);
        let some = ("memory/a/memory.limit_in_bytes", "1000000\n");
        assert_eq!(machine("4:cpu,memory:/a\n", &[some]).usable_memory(), ByteSize(1_000_000));
    }
}
