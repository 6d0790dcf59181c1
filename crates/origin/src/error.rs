//! What can go wrong at an origin, by what the caller does about it.

use std::fmt;

/// What the caller can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OriginErrorKind {
    /// No object of this key. A missing bucket or root directory is never this: it would be remembered as an absence.
    NotFound,
    /// The version asked for is not the current one: look the object up anew.
    Changed,
    /// The origin refuses: keys, permissions, clock, region, an archived object, a bucket that does not exist. Retrying
    /// does not help; a person must act.
    Denied,
    /// No answer within the deadline. Retry later.
    TimedOut,
    /// Failures after retries: server errors, throttling, refused or broken connections. Retry later.
    Unavailable,
    /// The settings or the key make no sense. Do not retry.
    Invalid,
    /// The origin cannot do what is needed, such as prove a version. Do not retry.
    Unsupported,
}

impl OriginErrorKind {
    /// A name for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Changed => "changed",
            Self::Denied => "denied",
            Self::TimedOut => "timed_out",
            Self::Unavailable => "unavailable",
            Self::Invalid => "invalid",
            Self::Unsupported => "unsupported",
        }
    }
}

/// A call that failed: the kind, and a sentence that names the operation, the object, what the origin said and what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OriginError {
    /// What the caller can do.
    pub kind: OriginErrorKind,
    /// For people. Holds no credential and no signed URL.
    pub message: String,
}

impl OriginError {
    pub(crate) fn new(kind: OriginErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for OriginError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for OriginError {}
