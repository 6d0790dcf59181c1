//! The one place where faults become errno.
//!
//! The mount's answers are part of its semantics: a program tells an absent file from a failing origin by them.

use forebay_model::FaultKind;

/// An error number as the kernel takes it: positive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Errno(i32);

impl Errno {
    pub(crate) const NO_ENTRY: Self = Self(libc::ENOENT);
    pub(crate) const NOT_A_DIRECTORY: Self = Self(libc::ENOTDIR);
    pub(crate) const IS_A_DIRECTORY: Self = Self(libc::EISDIR);
    pub(crate) const ACCESS: Self = Self(libc::EACCES);
    pub(crate) const READ_ONLY: Self = Self(libc::EROFS);
    pub(crate) const STALE: Self = Self(libc::ESTALE);
    pub(crate) const TIMED_OUT: Self = Self(libc::ETIMEDOUT);
    pub(crate) const IO: Self = Self(libc::EIO);
    pub(crate) const INVALID: Self = Self(libc::EINVAL);
    pub(crate) const NAME_TOO_LONG: Self = Self(libc::ENAMETOOLONG);
    pub(crate) const NO_TTY: Self = Self(libc::ENOTTY);
    /// Makes the kernel stop asking for most operations, and do without.
    pub(crate) const NOT_HERE: Self = Self(libc::ENOSYS);

    /// What a program sees of a fault.
    pub(crate) fn of(kind: FaultKind) -> Self {
        match kind {
            FaultKind::NotFound => Self::NO_ENTRY,
            FaultKind::NotADirectory => Self::NOT_A_DIRECTORY,
            FaultKind::IsADirectory => Self::IS_A_DIRECTORY,
            FaultKind::Denied => Self::ACCESS,
            FaultKind::ReadOnly => Self::READ_ONLY,
            FaultKind::Changed => Self::STALE,
            FaultKind::TimedOut => Self::TIMED_OUT,
            FaultKind::Unavailable | FaultKind::Damaged | FaultKind::Bug => Self::IO,
            FaultKind::Invalid => Self::INVALID,
        }
    }

    /// The number.
    pub(crate) fn number(self) -> i32 {
        self.0
    }

    /// Its name, as metrics show it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::NO_ENTRY => "ENOENT",
            Self::NOT_A_DIRECTORY => "ENOTDIR",
            Self::IS_A_DIRECTORY => "EISDIR",
            Self::ACCESS => "EACCES",
            Self::READ_ONLY => "EROFS",
            Self::STALE => "ESTALE",
            Self::TIMED_OUT => "ETIMEDOUT",
            Self::IO => "EIO",
            Self::INVALID => "EINVAL",
            Self::NAME_TOO_LONG => "ENAMETOOLONG",
            Self::NO_TTY => "ENOTTY",
            Self::NOT_HERE => "ENOSYS",
            Self(_) => "other",
        }
    }

    /// Whether an operator should see a line about it: not what programs bring about by probing. Invalid is what an origin
    /// gave, a manifest that cannot be read for instance.
    pub(crate) fn is_worth_a_line(self) -> bool {
        [Self::ACCESS, Self::STALE, Self::TIMED_OUT, Self::IO, Self::INVALID].contains(&self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_the_documented_errno() {
        let pairs = [
            (FaultKind::NotFound, "ENOENT"),
            (FaultKind::NotADirectory, "ENOTDIR"),
            (FaultKind::IsADirectory, "EISDIR"),
            (FaultKind::Denied, "EACCES"),
            (FaultKind::ReadOnly, "EROFS"),
            (FaultKind::Changed, "ESTALE"),
            (FaultKind::TimedOut, "ETIMEDOUT"),
            (FaultKind::Unavailable, "EIO"),
            (FaultKind::Damaged, "EIO"),
            (FaultKind::Invalid, "EINVAL"),
            (FaultKind::Bug, "EIO"),
        ];
        for (kind, name) in pairs {
            assert_eq!(Errno::of(kind).name(), name, "{kind:?}");
        }
    }
}
