//! `forebay.toml`: sections of the table as TOML tables.

use super::nearest::nearest;
use super::table::{KEYS, Key, SECTIONS};
use super::value::Raw;

/// The settings in `text`, in no particular order. The error is a sentence that names the key.
pub(crate) fn parse(text: &str) -> Result<Vec<(&'static Key, Raw)>, String> {
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())?;
    let mut values = Vec::new();
    for (name, value) in table {
        if let toml::Value::Table(section) = value {
            let prefix = format!("{name}.");
            if !SECTIONS.iter().any(|(known, _)| *known == prefix) {
                let known = SECTIONS.iter().filter_map(|(known, _)| known.strip_suffix('.'));
                return Err(unknown("section", &name, nearest(&name, known)));
            }
            for (field, value) in section {
                values.push(one(&format!("{prefix}{field}"), &value)?);
            }
        } else {
            values.push(one(&name, &value)?);
        }
    }
    Ok(values)
}

fn one(name: &str, value: &toml::Value) -> Result<(&'static Key, Raw), String> {
    let Some(key) = KEYS.iter().find(|key| key.name == name) else {
        return Err(unknown("setting", name, nearest(name, KEYS.iter().map(|key| key.name))));
    };
    let raw = raw(value).ok_or_else(|| format!("{name}: a {} is not allowed here", value.type_str()))?;
    Ok((key, raw))
}

fn raw(value: &toml::Value) -> Option<Raw> {
    match value {
        toml::Value::String(text) => Some(Raw::Text(text.clone())),
        toml::Value::Integer(number) => Some(Raw::Plain(number.to_string())),
        toml::Value::Float(number) => Some(Raw::Plain(number.to_string())),
        toml::Value::Boolean(truth) => Some(Raw::Plain(truth.to_string())),
        toml::Value::Array(items) => {
            items.iter().map(|item| item.as_str().map(str::to_owned)).collect::<Option<_>>().map(Raw::List)
        }
        toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

fn unknown(what: &str, name: &str, near: Option<&str>) -> String {
    match near {
        Some(near) => format!("unknown {what} {name:?}: did you mean {near:?}?"),
        None => format!("unknown {what} {name:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sections_and_lists() {
        let text =
            "cache = [\"/a:1GB\", \"/b:2GB\"]\n[origin]\ndeadline = \"5s\"\nmax_requests = 8\npath_style = true\n";
        let values = parse(text).expect("valid");
        let get = |name| values.iter().find(|(key, _)| key.name == name).map(|(_, raw)| raw.clone());
        assert_eq!(get("cache"), Some(Raw::List(vec!["/a:1GB".into(), "/b:2GB".into()])));
        assert_eq!(get("origin.deadline"), Some(Raw::Text("5s".into())));
        assert_eq!(get("origin.max_requests"), Some(Raw::Plain("8".into())));
        assert_eq!(get("origin.path_style"), Some(Raw::Plain("true".into())));
    }

    #[test]
    fn refuses_with_the_nearest_name() {
        for (text, name, near) in [
            ("[mount]\nknid = \"files\"", "\"mount.knid\"", "\"mount.kind\""),
            ("endpoint = \"http://h\"", "\"endpoint\"", "\"origin.endpoint\""),
            ("[orign]\nendpoint = \"http://h\"", "\"orign\"", "\"origin\""),
            ("[mount]\ndir = { a = 1 }", "mount.dir", "table"),
            ("[mount]\ndir = 1979-05-27", "mount.dir", "datetime"),
            ("cache = [1]", "cache", "array"),
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains(name) && error.contains(near), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_broken_file_names_the_line() {
        let error = parse("[mount]\nkind = \n").expect_err("broken");
        assert!(error.contains("line 2"), "{error}");
    }
}
