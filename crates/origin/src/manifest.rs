//! Manifests: a file that lists the objects of a web server, one a line.
//!
//! `.jsonl` lines are objects with `path` (relative to the manifest) or `url` (on the same host), and optional `size` and
//! `etag`. `.csv` files have those names in their first line. An object below another's key, a key twice, or a line that
//! cannot be understood makes the manifest invalid: nothing is passed over silently.

use std::collections::BTreeMap;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::Deserialize;

use crate::version::strong_etag;
use crate::{OriginUrl, key};

/// The largest manifest.
pub(crate) const MANIFEST_MAX: u64 = 256 << 20;

/// What a manifest says of its objects, by full key.
pub(crate) type Rows = BTreeMap<Arc<str>, Row>;

/// What a manifest says of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) size: Option<u64>,
    /// A strong etag, with quotes.
    pub(crate) etag: Option<Arc<str>>,
}

#[derive(Deserialize)]
struct Line {
    path: Option<String>,
    url: Option<String>,
    size: Option<u64>,
    etag: Option<String>,
}

/// Reads a manifest at `url`.
pub(crate) fn parse(url: &OriginUrl, text: &str) -> Result<Rows, String> {
    let is_csv = url.web_object.as_ref().is_some_and(|key| key.ends_with(".csv"));
    let mut rows = Rows::new();
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let columns = if is_csv { columns(lines.next().map_or("", |(_, line)| line))? } else { Vec::new() };
    for (number, line) in lines {
        let at = |why: String| format!("line {}: {why}", number + 1);
        let line = if is_csv { from_csv(&columns, line) } else { from_json(line) }.map_err(at)?;
        let key = line.key(url).map_err(at)?;
        let row = Row { size: line.size, etag: line.etag.as_deref().and_then(strong_etag).map(Into::into) };
        if rows.insert(key.as_str().into(), row).is_some() {
            return Err(at(format!("{key:?} is listed twice")));
        }
    }
    Ok(rows)
}

impl Line {
    fn key(&self, manifest: &OriginUrl) -> Result<String, String> {
        let object = match (&self.path, &self.url) {
            (Some(path), None) => format!("{}{path}", manifest.prefix()),
            (None, Some(url)) => {
                let base = format!("{}://{}/", manifest.scheme().as_str(), manifest.host);
                let path = url.strip_prefix(&base).ok_or_else(|| format!("its url is not on {base}"))?;
                if path.contains(['?', '#']) || path.to_ascii_lowercase().contains("%2f") {
                    return Err("its url has a query, a fragment or an encoded slash".to_owned());
                }
                percent_decode_str(path).decode_utf8().map_err(|_| "its url is not UTF-8".to_owned())?.into_owned()
            }
            _ => return Err("give either `path` or `url`".to_owned()),
        };
        key::check(&object).map_err(|why| format!("{object:?}: {why}"))?;
        if object.ends_with('/') {
            return Err(format!("{object:?} ends in `/`"));
        }
        if !object.starts_with(manifest.prefix()) {
            return Err(format!("{object:?} is not below the manifest's directory"));
        }
        Ok(object)
    }
}

fn from_json(line: &str) -> Result<Line, String> {
    serde_json::from_str(line).map_err(|error| format!("it is no JSON object with path or url, size and etag: {error}"))
}

fn columns(header: &str) -> Result<Vec<String>, String> {
    let columns = fields(header)?;
    let known = |name: &String| matches!(name.as_str(), "path" | "url" | "size" | "etag");
    if columns.is_empty() || !columns.iter().all(known) {
        return Err("line 1: a csv manifest starts with its columns: path or url, size, etag".to_owned());
    }
    Ok(columns)
}

fn from_csv(columns: &[String], line: &str) -> Result<Line, String> {
    let mut values = fields(line)?;
    if values.len() != columns.len() {
        return Err(format!("{} values for {} columns", values.len(), columns.len()));
    }
    let mut take = |name: &str| {
        let at = columns.iter().position(|column| column == name)?;
        Some(std::mem::take(&mut values[at])).filter(|value| !value.is_empty())
    };
    let (path, url, etag) = (take("path"), take("url"), take("etag"));
    let size = take("size").map(|text| text.trim().parse().map_err(|_| format!("{text:?} is no size"))).transpose()?;
    Ok(Line { path, url, size, etag })
}

/// The fields of a csv line (RFC 4180, without line breaks in quotes).
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut fields = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        let field = fields.last_mut().ok_or("no field")?;
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(String::new()),
            c => field.push(c),
        }
    }
    if quoted { Err("a quote is not closed".to_owned()) } else { Ok(fields) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> OriginUrl {
        text.parse().expect(text)
    }

    #[test]
    fn reads_lines_of_json() {
        let manifest = url("http://h:1/d/x.manifest.jsonl");
        let text = "{\"path\":\"a b.bin\",\"size\":3,\"etag\":\"e\"}\n\n{\"url\":\"http://h:1/d/c/%25.bin\"}\n";
        let rows = parse(&manifest, text).expect("reads");
        let keys: Vec<&str> = rows.keys().map(|key| &**key).collect();
        assert_eq!(keys, ["d/a b.bin", "d/c/%.bin"]);
        assert_eq!(rows["d/a b.bin"], Row { size: Some(3), etag: Some("\"e\"".into()) });
    }

    #[test]
    fn reads_csv() {
        let rows = parse(&url("http://h/x.manifest.csv"), "path,size,etag\n\"a,\"\"b\"\"\",7,\"\"\"e\"\"\"\nc,,\n")
            .expect("reads");
        assert_eq!(rows["a,\"b\""], Row { size: Some(7), etag: Some("\"e\"".into()) });
        assert_eq!(rows["c"], Row::default());
    }

    #[test]
    fn passes_nothing_over() {
        let manifest = url("http://h/d/x.manifest.jsonl");
        for text in [
            "nonsense",
            "{}",
            "{\"path\":\"../a\"}",
            "{\"path\":\"a\",\"url\":\"http://h/d/a\"}",
            "{\"url\":\"http://other/d/a\"}",
            "{\"url\":\"http://h/e/a\"}",
            "{\"path\":\"a\"}\n{\"path\":\"a\"}",
            "{\"path\":\"a/\"}",
        ] {
            assert!(parse(&manifest, text).is_err(), "{text}");
        }
        assert!(parse(&url("http://h/x.manifest.csv"), "name,size\na,1\n").is_err());
        assert!(parse(&url("http://h/x.manifest.csv"), "path,size\na,b\n").is_err());
    }
}
