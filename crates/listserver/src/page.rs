//! One page of a listing: the query of ListObjectsV2 in, its XML out.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use crate::shape::{Keys, size_of, write_etag};

/// Entries of a page at most, as S3 has it.
const PAGE_MAX: usize = 1_000;
/// Room for a page: about 270 bytes an entry.
const PAGE_ROOM: usize = 320 << 10;
/// What `encoding-type=url` leaves as it is.
const LEFT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) prefix: String,
    pub(crate) delimiter: String,
    pub(crate) start_after: String,
    /// The index to go on from: all that a token says.
    pub(crate) token: Option<u64>,
    pub(crate) max_keys: usize,
    pub(crate) is_encoded: bool,
}

/// A page, and what is counted of it.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) xml: String,
    pub(crate) entries: u64,
}

impl Query {
    /// None: this is no ListObjectsV2.
    pub(crate) fn parse(query: &str) -> Option<Self> {
        let mut parsed = Self { max_keys: PAGE_MAX, ..Self::default() };
        let mut is_list = false;
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let text = || {
                let spaced: Cow<'_, str> =
                    if value.contains('+') { value.replace('+', " ").into() } else { value.into() };
                percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
            };
            match name {
                "list-type" => is_list = value == "2",
                "prefix" => parsed.prefix = text(),
                "delimiter" => parsed.delimiter = text(),
                "start-after" => parsed.start_after = text(),
                "continuation-token" => parsed.token = Some(text().strip_prefix("at-")?.parse().ok()?),
                "max-keys" => parsed.max_keys = value.parse::<usize>().ok()?.min(PAGE_MAX),
                "encoding-type" => parsed.is_encoded = value == "url",
                _ => {}
            }
        }
        is_list.then_some(parsed)
    }
}

/// Renders the page. `is_stuck`: its token leads to the same page again.
pub(crate) fn render(keys: &Keys, query: &Query, is_stuck: bool) -> Page {
    let first = match query.token {
        Some(at) => at.min(keys.count()),
        None => keys.from(&query.prefix).max(keys.after(&query.start_after)),
    };
    let mut xml = String::with_capacity(PAGE_ROOM);
    let (mut prefixes, mut key, mut entries, mut at) = (String::new(), String::new(), 0, first);
    let mut contents = String::with_capacity(PAGE_ROOM);
    let mut is_truncated = false;
    while at < keys.count() {
        keys.write(at, &mut key);
        let Some(rest) = key.strip_prefix(&query.prefix) else { break };
        if entries == query.max_keys {
            is_truncated = true;
            break;
        }
        entries += 1;
        let slash = if query.delimiter.is_empty() { None } else { rest.find(&query.delimiter) };
        if let Some(slash) = slash {
            key.truncate(query.prefix.len() + slash + query.delimiter.len());
            prefixes.push_str("<CommonPrefixes><Prefix>");
            push_text(&mut prefixes, &key, query.is_encoded);
            prefixes.push_str("</Prefix></CommonPrefixes>");
            at = keys.past(&key);
        } else {
            contents.push_str("<Contents><Key>");
            push_text(&mut contents, &key, query.is_encoded);
            contents.push_str("</Key><LastModified>2024-06-01T12:34:56.000Z</LastModified><ETag>&quot;");
            write_etag(at, &mut contents);
            contents.push_str("&quot;</ETag><Size>");
            contents.push_str(&size_of(at).to_string());
            contents.push_str("</Size><StorageClass>STANDARD</StorageClass></Contents>");
            at += 1;
        }
    }
    xml.push_str("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Name>lists</Name><Prefix>");
    push_text(&mut xml, &query.prefix, query.is_encoded);
    xml.push_str("</Prefix>");
    if is_truncated {
        let token = if is_stuck { first } else { at };
        xml.push_str(&format!("<NextContinuationToken>at-{token}</NextContinuationToken>"));
    }
    let encoding = if query.is_encoded { "<EncodingType>url</EncodingType>" } else { "" };
    xml.push_str(&format!(
        "<KeyCount>{entries}</KeyCount><MaxKeys>{}</MaxKeys>{encoding}<IsTruncated>{is_truncated}</IsTruncated>",
        query.max_keys
    ));
    xml.push_str(&contents);
    xml.push_str(&prefixes);
    xml.push_str("</ListBucketResult>");
    Page { xml, entries: entries as u64 }
}

fn push_text(xml: &mut String, text: &str, is_encoded: bool) {
    if is_encoded {
        xml.extend(utf8_percent_encode(text, LEFT));
        return;
    }
    if !text.bytes().any(|b| matches!(b, b'&' | b'<' | b'>' | b'"')) {
        xml.push_str(text);
        return;
    }
    for c in text.chars() {
        match c {
            '&' => xml.push_str("&amp;"),
            '<' => xml.push_str("&lt;"),
            '>' => xml.push_str("&gt;"),
            '"' => xml.push_str("&quot;"),
            c => xml.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shape::Shape;

    fn between<'a>(xml: &'a str, tag: &str) -> Vec<&'a str> {
        let (open, close) = (format!("<{tag}>"), format!("</{tag}>"));
        xml.split(&open).skip(1).filter_map(|rest| rest.split(&close).next()).collect()
    }

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let keys = Keys::new(Shape::Tree, 5_500, "");
        let list = |query: &str| {
            let (mut names, mut token) = (Vec::new(), String::new());
            loop {
                let query = Query::parse(&format!("list-type=2&{query}{token}")).expect("a listing");
                let page = render(&keys, &query, false);
                names.extend(between(&page.xml, "Key").into_iter().map(str::to_owned));
                names.extend(between(&page.xml, "CommonPrefixes").into_iter().map(str::to_owned));
                match between(&page.xml, "NextContinuationToken").first() {
                    Some(next) => token = format!("&continuation-token={next}"),
                    None => return names,
                }
            }
        };
        assert_eq!(list("max-keys=700").len(), 5_500);
        assert_eq!(list("prefix=d000001/").len(), 1_000);
        assert_eq!(list("delimiter=/&max-keys=4").len(), 6);
        assert_eq!(list("delimiter=%2F&start-after=d000003/").len(), 3, "the keys in d000003/ are after it");
        assert_eq!(list("delimiter=/&start-after=d000003~").len(), 2);
        assert_eq!(list("start-after=d000005/f000498.bin").len(), 1);
        assert_eq!(list("prefix=e").len(), 0);
        assert_eq!(Query::parse("prefix=e"), None);
    }
}
