//! `FOREBAY_*`: a setting's name in capitals, with `_` for `.`, after `FOREBAY_`.

use std::ffi::OsString;

use super::nearest::nearest;
use super::table::{KEYS, Key};
use super::value::Raw;

/// Names the process that commands ask.
pub(crate) const NODE_VARIABLE: &str = "FOREBAY_NODE";

/// Names that are not settings of the table: where the process is, which file to read, the log's short name, and the
/// binary that tests run.
const OTHERS: [&str; 4] = [NODE_VARIABLE, "FOREBAY_CONFIG", "FOREBAY_LOG", "FOREBAY_BIN"];

/// The variable that sets `key`.
pub(crate) fn variable(key: &Key) -> String {
    format!("FOREBAY_{}", key.name.replace('.', "_").to_uppercase())
}

/// The settings among `variables`, each with its variable's name. The error is a sentence that names the variable.
pub(crate) fn parse(
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(&'static Key, String, Raw)>, String> {
    let mut values = Vec::new();
    for (name, value) in variables {
        let Some(name) = name.to_str().filter(|name| name.starts_with("FOREBAY_")) else { continue };
        if OTHERS.contains(&name) {
            continue;
        }
        let Some(key) = KEYS.iter().find(|key| variable(key) == name) else {
            let known: Vec<String> = KEYS.iter().map(variable).collect();
            let near = nearest(name, known.iter().map(String::as_str).chain(OTHERS)).unwrap_or_default();
            return Err(format!("unknown environment variable {name}: did you mean {near}?"));
        };
        let value = value.into_string().map_err(|value| format!("{name}: {} is not UTF-8", value.display()))?;
        values.push((key, name.to_owned(), Raw::Text(value)));
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &str, value: &str) -> Result<Vec<(&'static str, Raw)>, String> {
        parse(std::iter::once((name.into(), value.into())))
            .map(|values| values.into_iter().map(|(key, _, raw)| (key.name, raw)).collect())
    }

    #[test]
    fn names_follow_the_table() {
        assert_eq!(check("FOREBAY_ORIGIN_DEADLINE", "5s"), Ok(vec![("origin.deadline", Raw::Text("5s".into()))]));
        assert_eq!(check("FOREBAY_MOUNT_FILE_MODE", "0400"), Ok(vec![("mount.file_mode", Raw::Text("0400".into()))]));
        assert_eq!(check("FOREBAY_CACHE", "/a:1GB"), Ok(vec![("cache", Raw::Text("/a:1GB".into()))]));
    }

    #[test]
    fn others_are_left_alone() {
        for name in OTHERS.into_iter().chain(["PATH", "FOREBAY"]) {
            assert_eq!(check(name, "x"), Ok(vec![]), "{name}");
        }
    }

    #[test]
    fn no_two_settings_share_a_variable() {
        let mut names: Vec<_> = KEYS.iter().map(variable).chain(OTHERS.map(str::to_owned)).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn refuses_with_the_nearest_name() {
        let error = check("FOREBAY_ORIGIN_DEADLNE", "5s").expect_err("unknown");
        assert!(error.contains("FOREBAY_ORIGIN_DEADLNE") && error.ends_with("did you mean FOREBAY_ORIGIN_DEADLINE?"));
    }
}
