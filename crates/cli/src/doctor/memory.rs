//! Memory and open files.

use forebay_model::ByteSize;

use super::Finding;
use crate::machine::{self, Machine};
use crate::settings::Settings;
use crate::up::Limits;

/// Fewer open files than this make a store open and close large objects all the time.
const OPEN_FILES_MIN: u64 = 4096;
/// The program itself beside its budget: the index, threads, code.
const BESIDE_BUDGET: u64 = 128 << 20;

/// Looks at the limits that the process would run under.
pub(super) fn check(machine: &Machine, settings: &Settings) -> Vec<Finding> {
    let limit = machine::raise_open_files();
    let budget = Limits::of(settings, machine, limit).memory_budget;
    vec![memory(machine, budget), open_files(limit)]
}

fn memory(machine: &Machine, budget: ByteSize) -> Finding {
    let usable = machine.usable_memory();
    let found = match &machine.cgroup {
        Some((limit, file)) if *limit < machine.memory => {
            format!("{limit} by {}; budget of buffers {budget}", file.display())
        }
        _ => format!("{usable} of this machine; budget of buffers {budget}"),
    };
    if budget.0.saturating_add(BESIDE_BUDGET) > usable.0 {
        let advice = format!(
            "raise the limit, or lower `memory.budget`: besides it the process needs {}",
            ByteSize(BESIDE_BUDGET)
        );
        return Finding::fail("memory", found, advice);
    }
    Finding::ok("memory", found)
}

fn open_files(limit: u64) -> Finding {
    let found = format!("{limit} at most");
    if limit < OPEN_FILES_MIN {
        return Finding::warn(
            "open files",
            found,
            format!("raise the hard limit to {OPEN_FILES_MIN} or more (`ulimit -Hn`)"),
        );
    }
    Finding::ok("open files", found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::State;

    fn check_memory(limit: u64, state: State) {
        let memory = ByteSize(16 << 30);
        let machine = Machine { cores: 2, memory, cgroup: Some((ByteSize(limit), "memory.max".into())) };
        assert_eq!(super::memory(&machine, ByteSize(192 << 20)).state, state, "{limit}");
    }

    #[test]
    fn a_tight_cgroup_is_a_failure() {
        check_memory(1 << 30, State::Ok);
        check_memory(100 << 20, State::Fail);
    }

    #[test]
    fn few_open_files_are_a_warning() {
        assert_eq!(open_files(1024).state, State::Warn);
        assert_eq!(open_files(1 << 20).state, State::Ok);
    }
}
