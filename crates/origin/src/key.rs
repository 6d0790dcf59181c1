//! Which keys can be addressed exactly.
//!
//! A URL parser resolves `.` and `..`, and OpenDAL drops a leading slash: such a key would reach another object, so it
//! is refused. Everything else (spaces at either end, `%`, `+`, `#`, `?`, backslash, unicode, `//`) goes out as it is.

use crate::Scheme;
use crate::error::{OriginError, OriginErrorKind};

/// The longest key, in bytes: S3 and GCS allow 1024, HDFS and file systems more in theory; a bound for memory.
const KEY_MAX: usize = 4096;

/// Why a key cannot be addressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum KeyProblem {
    #[error("a key must not be empty")]
    Empty,
    #[error("a key that starts with `/` cannot be addressed")]
    LeadingSlash,
    #[error("a key with the component `.` or `..` cannot be addressed")]
    Dots,
    #[error("a key with a NUL byte cannot be addressed")]
    Nul,
    #[error("a key longer than 4096 bytes cannot be addressed")]
    TooLong,
    #[error("a key with `//` cannot be addressed in this kind of origin")]
    EmptyComponent,
    #[error("a key that ends in `/` cannot be addressed in this kind of origin")]
    TrailingSlash,
}

/// Whether `key` can be addressed exactly in an object store.
pub(crate) fn check(key: &str) -> Result<(), KeyProblem> {
    if key.is_empty() {
        return Err(KeyProblem::Empty);
    }
    if key.starts_with('/') {
        return Err(KeyProblem::LeadingSlash);
    }
    if key.len() > KEY_MAX {
        return Err(KeyProblem::TooLong);
    }
    if key.contains('\0') {
        return Err(KeyProblem::Nul);
    }
    if key.split('/').any(|component| matches!(component, "." | "..")) {
        return Err(KeyProblem::Dots);
    }
    Ok(())
}

/// Whether `key` can be addressed exactly as an object of `scheme`.
pub(crate) fn check_object(scheme: Scheme, key: &str) -> Result<(), OriginError> {
    check(key).and_then(|()| check_tree(scheme, key)).map_err(|why| refuse(scheme, key, why))?;
    match scheme {
        // Only these answer for a key that ends in `/` as for any other.
        Scheme::S3 | Scheme::Http | Scheme::Https => Ok(()),
        _ if key.ends_with('/') => Err(refuse(scheme, key, KeyProblem::TrailingSlash)),
        _ => Ok(()),
    }
}

/// Whether `prefix` (empty, or ending in `/`) can be listed exactly.
pub(crate) fn check_prefix(scheme: Scheme, prefix: &str) -> Result<(), OriginError> {
    if prefix.is_empty() {
        return Ok(());
    }
    debug_assert!(prefix.ends_with('/'), "{prefix:?} is no prefix of a directory");
    check(prefix).and_then(|()| check_tree(scheme, prefix)).map_err(|why| refuse(scheme, prefix, why))
}

/// Trees of directories take `a//b` for `a/b`: another object.
fn check_tree(scheme: Scheme, key: &str) -> Result<(), KeyProblem> {
    let is_tree = matches!(scheme, Scheme::File | Scheme::Hdfs | Scheme::Hf);
    if is_tree && key.contains("//") { Err(KeyProblem::EmptyComponent) } else { Ok(()) }
}

fn refuse(scheme: Scheme, key: &str, why: KeyProblem) -> OriginError {
    OriginError::new(OriginErrorKind::Invalid, format!("{} key {key:?}: {why}", scheme.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_nasty_names_and_refuses_what_would_reach_another_object() {
        for key in [" a", "a ", "a%20b", "a+b", "a#b", "a?b", "a\\b", "a//b", "a/", "é", "...", "a/.b", "a/b..", "\n"]
        {
            assert_eq!(check(key), Ok(()), "{key:?}");
        }
        for key in ["", "/", "/a", ".", "..", "a/../b", "a/.", "./a", "a\0"] {
            assert!(check(key).is_err(), "{key:?}");
        }
        assert!(check_object(Scheme::S3, "a//b").is_ok());
        assert!(check_object(Scheme::S3, "a/").is_ok());
        assert!(check_object(Scheme::File, "a//b").is_err());
        assert!(check_object(Scheme::Hdfs, "a/").is_err());
    }
}
