//! How a command ends when it does not end well, and the exit code for it.
//!
//! Exit codes: 0 done, 1 failed, 2 wrong usage (flags, settings). They are given here and nowhere else.

use std::io;
use std::process::ExitCode;

use forebay_model::{Fault, FaultKind};

/// Why a command did not finish.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A flag, a setting or an argument is wrong: the user changes the command. Exit code 2.
    Usage(String),
    /// The work failed. Exit code 1.
    Failed {
        /// One sentence: what failed, on what, and what to do.
        message: String,
        /// What the node or the origin said, where it was one of them.
        kind: Option<FaultKind>,
    },
    /// The work failed and the user has been told. Exit code 1.
    Reported,
    /// The reader of standard output has gone (`forebay cat /a | head`): nobody is left to tell. Exit code 0.
    ReaderGone,
}

impl Failure {
    /// Wrong usage, with a sentence for people.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Failed work, with a sentence for people.
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::Failed { message: message.into(), kind: None }
    }

    /// What a service answered about `subject`.
    pub(crate) fn fault(subject: impl std::fmt::Display, fault: &Fault) -> Self {
        Self::Failed { message: format!("{subject}: {fault}"), kind: Some(fault.kind) }
    }

    /// An error of standard output.
    pub(crate) fn output(error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::ReaderGone,
            _ => Self::failed(format!("cannot write to standard output: {error}")),
        }
    }

    /// Prints the failure to standard error and says how the process ends.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        let (message, kind, code) = match self {
            Self::Usage(message) => (message, "usage", 2),
            Self::Failed { message, kind } => (message, kind.map_or("failed", kind_name), 1),
            Self::Reported => return ExitCode::FAILURE,
            Self::ReaderGone => return ExitCode::SUCCESS,
        };
        if json {
            eprintln!("{}", serde_json::json!({ "event": "error", "kind": kind, "message": message }));
        } else {
            eprintln!("forebay: {message}");
        }
        ExitCode::from(code)
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Usage(message) | Self::Failed { message, .. } => f.write_str(message),
            Self::Reported => f.write_str("it failed, as was told above"),
            Self::ReaderGone => f.write_str("nobody reads the output any more"),
        }
    }
}

/// The kind of a fault as `--json` names it.
fn kind_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::NotFound => "not_found",
        FaultKind::NotADirectory => "not_a_directory",
        FaultKind::IsADirectory => "is_a_directory",
        FaultKind::Denied => "denied",
        FaultKind::ReadOnly => "read_only",
        FaultKind::Changed => "changed",
        FaultKind::TimedOut => "timed_out",
        FaultKind::Unavailable => "unavailable",
        FaultKind::Damaged => "damaged",
        FaultKind::Invalid => "invalid",
        FaultKind::Bug => "bug",
    }
}
