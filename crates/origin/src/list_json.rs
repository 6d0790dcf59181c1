//! Pages of `objects.list`, the JSON of Google Cloud Storage, read past OpenDAL as those of S3 are (`crate::list_xml`).
//!
//! A page is whole or an error, here too.

use std::borrow::Cow;

use forebay_model::{TimestampNs, Version};
use serde::Deserialize;

use crate::ObjectMeta;
use crate::list_page::{ListPage, PageProblem, parse_time};
use crate::listing::Listed;
use crate::version::strong_etag;

/// A page, as it is written. `kind` alone tells an empty page from another answer.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written<'a> {
    #[serde(borrow)]
    kind: Cow<'a, str>,
    next_page_token: Option<String>,
    #[serde(default, borrow)]
    prefixes: Vec<Cow<'a, str>>,
    #[serde(default, borrow)]
    items: Vec<Item<'a>>,
}

#[derive(Deserialize)]
struct Item<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    size: Cow<'a, str>,
    #[serde(borrow)]
    generation: Option<Cow<'a, str>>,
    #[serde(borrow)]
    etag: Option<Cow<'a, str>>,
    #[serde(borrow)]
    updated: Option<Cow<'a, str>>,
}

/// Reads a page. `allows_unproved`: objects without generation, etag and time are taken too.
pub(crate) fn parse(json: &[u8], allows_unproved: bool) -> Result<ListPage, PageProblem> {
    let written: Written<'_> = serde_json::from_slice(json).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof if !json.is_empty() => PageProblem::Cut,
        _ => PageProblem::NoListing,
    })?;
    if written.kind != "storage#objects" {
        return Err(PageProblem::NoListing);
    }
    let token = written.next_page_token.filter(|token| !token.is_empty());
    Ok(ListPage {
        objects: written.items.iter().map(|item| item.listed(allows_unproved)).collect::<Result<_, _>>()?,
        prefixes: written.prefixes.iter().map(|key| Listed::Prefix { key: (&**key).into() }).collect(),
        is_truncated: token.is_some(),
        token,
    })
}

impl Item<'_> {
    /// The same version as `crate::version` takes from a stat.
    fn listed(&self, allows_unproved: bool) -> Result<Listed, PageProblem> {
        let size: u64 = self.size.parse().map_err(|_| PageProblem::Entry)?;
        let key = (&*self.name).into();
        if self.name.ends_with('/') {
            return Ok(Listed::Prefix { key });
        }
        let mtime = match &self.updated {
            Some(text) => Some(parse_time(text).ok_or(PageProblem::Entry)?),
            None => None,
        };
        let generation = self.generation.as_deref().filter(|generation| !generation.is_empty());
        let etag = self.etag.as_deref().and_then(strong_etag);
        let version = match (generation, etag, mtime) {
            (Some(generation), _, _) => Version::Id(generation.into()),
            (None, Some(etag), _) => Version::Etag(etag.into()),
            (None, None, Some(mtime)) => Version::Stamp { mtime, size, file: None },
            (None, None, None) if allows_unproved => Version::Stamp { mtime: TimestampNs(0), size, file: None },
            (None, None, None) => return Err(PageProblem::Unproved),
        };
        Ok(Listed::Object { key, meta: ObjectMeta { size, mtime: mtime.unwrap_or_default(), version } })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = r#"{"kind": "storage#objects", "nextPageToken": "a\"b", "prefixes": ["p/z/"], "items": [
        {"kind": "storage#object", "name": "p/\u00e9 \n", "size": "7", "generation": "17", "etag": "e",
         "updated": "2024-06-01T12:34:56.789Z", "acl": [{"object": "no"}]},
        {"name": "p/d/", "size": "0", "updated": "2024-06-01T12:34:56Z"},
        {"name": "p/x", "size": "8", "etag": "CJ+=", "updated": "2024-06-01T12:34:56.789Z"}]}"#;

    #[test]
    fn reads_all_that_a_page_says() {
        let page = parse(PAGE.as_bytes(), false).expect("a page");
        assert_eq!((page.is_truncated, page.token.as_deref()), (true, Some("a\"b")));
        let mtime = TimestampNs(1_717_245_296_000_000_000);
        let object =
            |key: &str, size, version| Listed::Object { key: key.into(), meta: ObjectMeta { size, mtime, version } };
        let expected = [
            object("p/é \n", 7, Version::Id("17".into())),
            Listed::Prefix { key: "p/d/".into() },
            object("p/x", 8, Version::Etag("\"CJ+=\"".into())),
        ];
        assert_eq!(page.objects, expected);
        assert_eq!(page.prefixes, [Listed::Prefix { key: "p/z/".into() }]);
        assert_eq!(parse(br#"{"kind": "storage#objects"}"#, false), Ok(ListPage::default()));
    }

    #[test]
    fn a_page_that_is_cut_anywhere_is_an_error() {
        for end in 0..PAGE.len() {
            assert!(parse(&PAGE.as_bytes()[..end], false).is_err(), "cut at {end}");
        }
        assert_eq!(parse(b"{}", false), Err(PageProblem::NoListing));
        assert_eq!(parse(br#"{"kind": "storage#buckets", "items": []}"#, false), Err(PageProblem::NoListing));
        assert_eq!(parse(b"<html>log in</html>", false), Err(PageProblem::NoListing));
    }

    #[test]
    fn an_entry_must_be_whole() {
        let check = |item: &str, allows_unproved, expected: Result<usize, PageProblem>| {
            let json = format!(r#"{{"kind": "storage#objects", "items": [{{{item}}}]}}"#);
            assert_eq!(parse(json.as_bytes(), allows_unproved).map(|page| page.objects.len()), expected, "{item}");
        };
        check(r#""size": "1""#, true, Err(PageProblem::NoListing));
        check(r#""name": "k""#, true, Err(PageProblem::NoListing));
        check(r#""name": "k", "size": "-1""#, true, Err(PageProblem::Entry));
        check(r#""name": "k", "size": "1", "updated": "then""#, true, Err(PageProblem::Entry));
        check(r#""name": "k", "size": "1""#, false, Err(PageProblem::Unproved));
        check(r#""name": "k", "size": "1""#, true, Ok(1));
    }
}
