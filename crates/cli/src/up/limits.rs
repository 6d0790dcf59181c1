//! What the settings leave to the machine: memory, threads, open files.

use std::ops::RangeInclusive;

use forebay_model::ByteSize;

use crate::machine::Machine;
use crate::settings::Settings;

/// Memory for bytes on their way: a quarter of what there is, but not more than this. With the write queues, the index and
/// the program itself the process stays under 300 MiB.
const BUDGET_MAX: u64 = 160 << 20;
/// And not less: a few reads of several pages each, at the same time.
const BUDGET_MIN: u64 = 16 << 20;
/// The most files that a store holds open by default: more are opened and closed faster than disks are read.
const OPEN_FILES_MAX: u64 = 4096;
/// And not fewer: one for each reader of a small machine.
const OPEN_FILES_MIN: u64 = 16;
/// Threads that answer the kernel, by default: some wait for a disk while others answer from memory.
const THREADS_PER_CORE: usize = 4;
/// Fewer than this leave a fast disk idle, more only switch.
const THREADS: RangeInclusive<usize> = 8..=32;

/// The limits that the process runs within: as the user set them, else as the machine allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Memory for buffers and read-ahead.
    pub(crate) memory_budget: ByteSize,
    /// Threads that answer the kernel.
    pub(crate) mount_threads: usize,
    /// Files that the store may hold open.
    pub(crate) open_files: usize,
}

impl Limits {
    /// The limits of a process that may open `open_files` files.
    pub(crate) fn of(settings: &Settings, machine: &Machine, open_files: u64) -> Self {
        let budget = ByteSize((machine.usable_memory().0 / 4).clamp(BUDGET_MIN, BUDGET_MAX));
        // At most 4096: no cast can cut it.
        let files = (open_files / 2).clamp(OPEN_FILES_MIN, OPEN_FILES_MAX) as usize;
        let threads = (THREADS_PER_CORE * machine.cores).clamp(*THREADS.start(), *THREADS.end());
        Self {
            memory_budget: settings.memory.budget.unwrap_or(budget),
            mount_threads: settings.mount.threads.map_or(threads, |count| count.0 as usize),
            open_files: settings.store.max_open_files.map_or(files, |count| count.0 as usize),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{KEYS, Raw};

    fn limits(memory: u64, cores: usize, open_files: u64, values: &[(&str, &str)]) -> Limits {
        let mut settings = Settings::default();
        for (name, value) in values {
            let key = KEYS.iter().find(|key| key.name == *name).expect("a key");
            settings.put(key, &Raw::Text((*value).to_owned())).expect("a value");
        }
        Limits::of(&settings, &Machine { cores, memory: ByteSize(memory), cgroup: None }, open_files)
    }

    #[test]
    fn the_machine_decides_what_the_user_does_not() {
        let small = limits(200_000_000, 1, 1024, &[]);
        assert_eq!(small, Limits { memory_budget: ByteSize(50_000_000), mount_threads: 8, open_files: 512 });
        let large = limits(1 << 40, 128, u64::MAX, &[]);
        assert_eq!(large, Limits { memory_budget: ByteSize(BUDGET_MAX), mount_threads: 32, open_files: 4096 });
    }

    #[test]
    fn the_user_decides_first() {
        let values = [("memory.budget", "1GiB"), ("mount.threads", "3"), ("store.max_open_files", "100")];
        let expected = Limits { memory_budget: ByteSize(1 << 30), mount_threads: 3, open_files: 100 };
        assert_eq!(limits(1 << 40, 128, 1 << 20, &values), expected);
    }
}
