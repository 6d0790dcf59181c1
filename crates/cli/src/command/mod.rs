//! The commands. Those that ask a running process turn one request of a person or a program into calls of `Client`; `bench`
//! and `store` ask none.
//!
//! Always true here: a path that fails is named with what the node said; the others are still done, and the exit code is 1.

mod bench;
mod cat;
mod copy;
mod list;
mod progress;
mod ranges;
mod refresh;
mod show;
mod snapshot;
mod source;
mod status;
mod store;
#[cfg(test)]
pub(crate) mod testing;
mod trace;

pub(crate) use bench::bench;
pub(crate) use cat::cat;
pub(crate) use copy::cp;
pub(crate) use list::ls;
pub(crate) use refresh::refresh;
pub(crate) use show::stat;
pub(crate) use snapshot::snapshot;
pub(crate) use source::source;
pub(crate) use status::status;
pub(crate) use store::store;
pub(crate) use trace::trace;

use crate::failure::Failure;

/// Several paths of one command: a failure of one does not keep the others from being done.
#[derive(Debug, Default)]
struct Outcomes {
    failed: bool,
}

impl Outcomes {
    /// Prints a failure at once; passes on what ends the whole command.
    fn note(&mut self, outcome: Result<(), Failure>, json: bool) -> Result<(), Failure> {
        match outcome {
            Ok(()) => Ok(()),
            Err(failure @ Failure::Failed { .. }) => {
                failure.report(json);
                self.failed = true;
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    /// How the command ends.
    fn end(self) -> Result<(), Failure> {
        if self.failed { Err(Failure::Reported) } else { Ok(()) }
    }
}
