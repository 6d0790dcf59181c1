//! From named values to a line: which names are known, and which lines are of a source.

use forebay_model::TimestampNs;
use percent_encoding::percent_decode_str;

use crate::line::{KEY_MAX, Line, VERSION_MAX};
use crate::time;

/// What a source takes of a manifest.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// What keys of the source start with: empty, or ending in `/`. `path` is relative to it.
    pub prefix: String,
    /// The source's bucket. Lines that name another one are not its own.
    pub bucket: Option<String>,
    /// What a `url` starts with, up to the key: of web servers.
    pub base_url: Option<String>,
}

/// A column that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Key,
    Path,
    Url,
    Size,
    Etag,
    Mtime,
    VersionId,
    Bucket,
    IsLatest,
    IsDeleteMarker,
    Ctime,
    Inode,
}

impl Column {
    /// By any of its names: `LastModifiedDate` and `last_modified_date` are the same.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let plain: String = name.trim().chars().filter(char::is_ascii_alphanumeric).collect();
        Some(match plain.to_ascii_lowercase().as_str() {
            "key" => Self::Key,
            "path" => Self::Path,
            "url" => Self::Url,
            "size" => Self::Size,
            "etag" => Self::Etag,
            "mtime" | "lastmodified" | "lastmodifieddate" => Self::Mtime,
            "versionid" => Self::VersionId,
            "bucket" => Self::Bucket,
            "islatest" => Self::IsLatest,
            "isdeletemarker" => Self::IsDeleteMarker,
            "ctime" => Self::Ctime,
            "inode" => Self::Inode,
            _ => return None,
        })
    }

    /// Whether it names the object.
    pub(crate) fn is_name(self) -> bool {
        matches!(self, Self::Key | Self::Path | Self::Url)
    }
}

/// The values of one line, as they stand there. An empty one is none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values {
    pub(crate) key: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) url: Option<String>,
    pub(crate) size: Option<u64>,
    pub(crate) etag: Option<String>,
    pub(crate) mtime: Option<TimestampNs>,
    pub(crate) version_id: Option<String>,
    pub(crate) bucket: Option<String>,
    pub(crate) is_latest: Option<bool>,
    pub(crate) is_delete_marker: Option<bool>,
    pub(crate) ctime: Option<TimestampNs>,
    pub(crate) inode: Option<u64>,
}

/// What became of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// It is of the source.
    Line(Line),
    /// It is of another prefix or bucket.
    Elsewhere,
    /// It is an older version, or says that the object was deleted.
    Superseded,
}

impl Values {
    /// Takes a value that is written as text.
    pub(crate) fn put(&mut self, column: Column, text: &str) -> Result<(), String> {
        if text.is_empty() {
            return Ok(());
        }
        let number = |text: &str| text.trim().parse().map_err(|_| format!("{} is no number", shown(text)));
        let truth = |text: &str| match text.trim().to_ascii_lowercase().as_str() {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err(format!("{} is neither true nor false", shown(text))),
        };
        let moment = |text: &str| time::parse(text).ok_or_else(|| format!("{} is no time", shown(text)));
        match column {
            Column::Key => self.key = Some(text.to_owned()),
            Column::Path => self.path = Some(text.to_owned()),
            Column::Url => self.url = Some(text.to_owned()),
            Column::Etag => self.etag = Some(text.to_owned()),
            Column::VersionId => self.version_id = Some(text.to_owned()),
            Column::Bucket => self.bucket = Some(text.to_owned()),
            Column::Size => self.size = Some(number(text)?),
            Column::Inode => self.inode = Some(number(text)?),
            Column::Mtime => self.mtime = Some(moment(text)?),
            Column::Ctime => self.ctime = Some(moment(text)?),
            Column::IsLatest => self.is_latest = Some(truth(text)?),
            Column::IsDeleteMarker => self.is_delete_marker = Some(truth(text)?),
        }
        Ok(())
    }

    /// The line that they make for a source. `is_encoded`: the key is written as in a form of the web.
    pub(crate) fn take(self, rules: &Rules, is_encoded: bool) -> Result<Taken, String> {
        if self.is_latest == Some(false) || self.is_delete_marker == Some(true) {
            return Ok(Taken::Superseded);
        }
        if let (Some(of), Some(ours)) = (&self.bucket, &rules.bucket)
            && of != ours
        {
            return Ok(Taken::Elsewhere);
        }
        let is_made = self.key.is_none();
        let key = match (self.key, self.path, self.url) {
            (Some(key), None, None) if is_encoded => decode(&key)?,
            (Some(key), None, None) => key,
            (None, Some(path), None) => format!("{}{path}", rules.prefix),
            (None, None, Some(url)) => of_url(&url, rules)?,
            _ => return Err("it must name its object once: by `key`, `path` or `url`".to_owned()),
        };
        check_key(&key, is_made).map_err(|why| format!("{}: {why}", shown(&key)))?;
        if !key.starts_with(&rules.prefix) {
            return Ok(Taken::Elsewhere);
        }
        let etag = self.etag.as_deref().and_then(strong).map(str::to_owned);
        for text in [&etag, &self.version_id].into_iter().flatten() {
            if text.len() > VERSION_MAX {
                return Err(format!("an etag or version id of {} bytes: at most {VERSION_MAX}", text.len()));
            }
        }
        let file = self.ctime.zip(self.inode);
        Ok(Taken::Line(Line { key, size: self.size, mtime: self.mtime, etag, version_id: self.version_id, file }))
    }
}

/// The text of a strong etag; a weak one proves nothing.
fn strong(etag: &str) -> Option<&str> {
    let etag = etag.trim();
    let bare = etag.trim_matches('"');
    (!etag.starts_with("W/") && !bare.is_empty()).then_some(bare)
}

/// Keys of inventories are written as in a form: `+` for a space, `%2B` for a plus.
fn decode(key: &str) -> Result<String, String> {
    let spaced = key.replace('+', " ");
    let decoded =
        percent_decode_str(&spaced).decode_utf8().map_err(|_| format!("the key {} is not UTF-8", shown(key)))?;
    Ok(decoded.into_owned())
}

fn of_url(url: &str, rules: &Rules) -> Result<String, String> {
    let base = rules.base_url.as_deref().ok_or("`url` is for web servers: give `key`")?;
    let path = url.strip_prefix(base).ok_or_else(|| format!("its url is not on {base}"))?;
    if path.contains(['?', '#']) || path.to_ascii_lowercase().contains("%2f") {
        return Err("its url has a query, a fragment or an encoded slash".to_owned());
    }
    Ok(percent_decode_str(path).decode_utf8().map_err(|_| "its url is not UTF-8")?.into_owned())
}

/// Refuses what is no key. A key that has no name in a directory is taken, and hidden as in a listing; but one that was made of a path
/// must not lead out of its directory.
fn check_key(key: &str, is_made: bool) -> Result<(), String> {
    if key.is_empty() || key.len() > KEY_MAX {
        return Err(format!("a key has 1 to {KEY_MAX} bytes"));
    }
    if key.contains('\0') {
        return Err("a key has no NUL".to_owned());
    }
    if is_made && key.split('/').any(|component| matches!(component, "." | "..")) {
        return Err("a key with the component `.` or `..` cannot be addressed".to_owned());
    }
    Ok(())
}

/// What a person can find again in the file.
pub(crate) fn shown(text: &str) -> String {
    let mut cut: String = text.chars().take(80).collect();
    if cut.len() < text.len() {
        cut.push('…');
    }
    format!("{cut:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(rules: &Rules, is_encoded: bool, values: &[(&str, &str)]) -> Result<Taken, String> {
        let mut all = Values::default();
        for (name, value) in values {
            all.put(Column::named(name).expect(name), value)?;
        }
        all.take(rules, is_encoded)
    }

    fn key(taken: Result<Taken, String>) -> String {
        match taken {
            Ok(Taken::Line(line)) => line.key,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn names_are_known_however_they_are_written() {
        for name in ["LastModifiedDate", "last_modified_date", " mtime ", "Last-Modified"] {
            assert_eq!(Column::named(name), Some(Column::Mtime), "{name}");
        }
        assert_eq!(Column::named("ETag"), Some(Column::Etag));
        assert_eq!(Column::named("e_tag"), Some(Column::Etag));
        assert_eq!(Column::named("StorageClass"), None);
    }

    #[test]
    fn keys_are_full_or_relative_or_urls() {
        let rules = Rules { prefix: "d/".into(), bucket: Some("b".into()), base_url: Some("http://h/".into()) };
        assert_eq!(key(take(&rules, false, &[("key", "d/a+%20b")])), "d/a+%20b");
        assert_eq!(key(take(&rules, true, &[("key", "d/a+b%2Bc%25")])), "d/a b+c%");
        assert_eq!(key(take(&rules, false, &[("path", "x/y")])), "d/x/y");
        assert_eq!(key(take(&rules, false, &[("key", "d//../x")])), "d//../x");
        assert_eq!(key(take(&rules, false, &[("url", "http://h/d/%25.bin")])), "d/%.bin");
        assert_eq!(take(&rules, false, &[("key", "e/a")]), Ok(Taken::Elsewhere));
        assert_eq!(take(&rules, false, &[("key", "d/a"), ("bucket", "c")]), Ok(Taken::Elsewhere));
        for (name, value) in [("IsLatest", "false"), ("is_delete_marker", "TRUE")] {
            assert_eq!(take(&rules, false, &[("key", "d/a"), (name, value)]), Ok(Taken::Superseded));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_said() {
        let rules = Rules { base_url: Some("http://h/".into()), ..Rules::default() };
        for (values, said) in [
            (&[("key", "a"), ("size", "many")][..], "\"many\" is no number"),
            (&[("key", "a"), ("mtime", "soon")], "no time"),
            (&[("key", "a"), ("IsLatest", "perhaps")], "neither"),
            (&[("size", "1")], "must name its object"),
            (&[("key", "a"), ("path", "b")], "once"),
            (&[("path", "../a")], "`..`"),
            (&[("key", "a\0")], "NUL"),
            (&[("url", "http://other/a")], "not on http://h/"),
            (&[("url", "http://h/a?b")], "query"),
        ] {
            let taken = take(&rules, false, values);
            assert!(taken.as_ref().is_err_and(|why| why.contains(said)), "{values:?}: {taken:?}");
        }
        assert!(take(&rules, true, &[("key", "%ff")]).is_err_and(|why| why.contains("UTF-8")));
    }

    #[test]
    fn weak_etags_prove_nothing() {
        for (etag, bare) in [("\"e\"", Some("e")), ("e-2", Some("e-2")), ("W/\"e\"", None), ("\"\"", None)] {
            assert_eq!(strong(etag), bare, "{etag}");
        }
    }
}
