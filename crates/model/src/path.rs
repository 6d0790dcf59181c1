//! Paths of the namespace and the names in them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The longest name that a directory shows, in bytes: POSIX NAME_MAX, on which programs size their buffers.
pub const NAME_MAX: usize = 255;

/// An absolute path of the namespace: `/`, or `/a/b` without `//`, `.`, `..` or a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct NsPath(Arc<str>);

/// Text that is no path of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path:?} is no path of the namespace: {why}")]
pub struct PathParseError {
    path: String,
    why: String,
}

/// Why a component of a key cannot be a name in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// The key has `//` or starts with `/`.
    #[error("a name is empty")]
    Empty,
    /// The component is `.` or `..`.
    #[error("`.` and `..` are no names")]
    Dots,
    /// The component has a NUL byte.
    #[error("a name has a NUL byte")]
    Nul,
    /// The component has more than [`NAME_MAX`] bytes.
    #[error("a name is longer than 255 bytes")]
    TooLong,
}

/// Whether `name` can be shown in a directory.
pub fn check_name(name: &str) -> Result<(), NameProblem> {
    match name {
        "" => Err(NameProblem::Empty),
        "." | ".." => Err(NameProblem::Dots),
        _ if name.contains('\0') => Err(NameProblem::Nul),
        _ if name.len() > NAME_MAX => Err(NameProblem::TooLong),
        _ => Ok(()),
    }
}

impl NsPath {
    /// The root of the namespace.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The path as text, with its leading slash.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path of `name` in this directory. `name` has passed [`check_name`], except that it may be too long.
    pub fn join(&self, name: &str) -> Self {
        debug_assert!(!name.is_empty() && !name.contains('/'), "{name:?} is no name");
        if self.is_root() { Self(format!("/{name}").into()) } else { Self(format!("{}/{name}", self.0).into()) }
    }

    /// Whether this is `/`.
    pub fn is_root(&self) -> bool {
        &*self.0 == "/"
    }

    /// The directory that holds it; none for the root.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.split()?;
        Some(if parent.is_empty() { Self::root() } else { Self(parent.into()) })
    }

    /// Its last component; none for the root.
    pub fn name(&self) -> Option<&str> {
        self.split().map(|(_, name)| name)
    }

    /// What follows `prefix`, without a leading slash: the rest of a path below a source. None if it is not below it.
    pub fn below(&self, prefix: &Self) -> Option<&str> {
        if prefix.is_root() {
            return Some(&self.0[1..]);
        }
        let rest = self.0.strip_prefix(&*prefix.0)?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
    }

    fn split(&self) -> Option<(&str, &str)> {
        if self.is_root() { None } else { self.0.rsplit_once('/') }
    }
}

impl FromStr for NsPath {
    type Err = PathParseError;

    /// Reads an absolute path; trailing slashes are dropped.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = |why: &str| PathParseError { path: text.to_owned(), why: why.to_owned() };
        let rest = text.strip_prefix('/').ok_or_else(|| error("it must start with `/`"))?;
        let rest = rest.trim_end_matches('/');
        if rest.is_empty() {
            return Ok(Self::root());
        }
        for name in rest.split('/') {
            match check_name(name) {
                // Too long for a mount, but `forebay cat` reaches it.
                Ok(()) | Err(NameProblem::TooLong) => {}
                Err(problem) => return Err(error(&problem.to_string())),
            }
        }
        Ok(Self(format!("/{rest}").into()))
    }
}

impl fmt::Display for NsPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<NsPath> for String {
    fn from(path: NsPath) -> Self {
        path.0.to_string()
    }
}

impl TryFrom<String> for NsPath {
    type Error = PathParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> NsPath {
        text.parse().expect(text)
    }

    #[test]
    fn splits_and_joins() {
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), Some(NsPath::root()));
        assert_eq!(NsPath::root().parent(), None);
        assert_eq!(path("/a/b").name(), Some("b"));
        assert_eq!(NsPath::root().join("a").join("b c"), path("/a/b c"));
        assert_eq!(path("/a/b/"), path("/a/b"));
    }

    #[test]
    fn knows_what_lies_below() {
        assert_eq!(path("/a/b/c").below(&path("/a")), Some("b/c"));
        assert_eq!(path("/a").below(&path("/a")), Some(""));
        assert_eq!(path("/ab").below(&path("/a")), None);
        assert_eq!(path("/ab").below(&NsPath::root()), Some("ab"));
    }

    #[test]
    fn refuses_what_no_directory_shows() {
        for text in ["", "a", "/a//b", "/a/./b", "/a/..", "/a\0"] {
            assert!(text.parse::<NsPath>().is_err(), "{text:?}");
        }
    }
}
