//! Pages of ListObjectsV2, read from their XML as they came: a quarter of what OpenDAL's way costs a name (decision 12).
//!
//! A page is whole or an error: what is cut, is no listing, or misses what an entry must have, is never taken for a
//! shorter page.

use std::sync::Arc;

use forebay_model::{TimestampNs, Version};
use quick_xml::Reader;
use quick_xml::events::{BytesRef, Event};

use crate::ObjectMeta;
use crate::list_page::{ENTRIES, ListPage, PageProblem, parse_time};
use crate::listing::Listed;
use crate::version::strong_etag;

/// An element whose text is wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Field {
    Truncated,
    Token,
    Key,
    Time,
    Etag,
    Size,
    Prefix,
}

/// The element below the root.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Section {
    Object,
    Prefix,
    Other,
}

/// The object whose element is open. Its texts are kept, so that room is made once a page.
#[derive(Default)]
struct Object {
    key: Option<Arc<str>>,
    mtime: Option<TimestampNs>,
    version: Option<Version>,
    size: Option<u64>,
}

/// Reads a page. `allows_unproved`: objects without etag and time are taken too.
pub(crate) fn parse(xml: &[u8], allows_unproved: bool) -> Result<ListPage, PageProblem> {
    let xml = std::str::from_utf8(xml).map_err(|_| PageProblem::Malformed)?;
    let mut reader = Reader::from_str(xml);
    let mut page = ListPage { objects: Vec::with_capacity(ENTRIES), ..ListPage::default() };
    let (mut object, mut truncated) = (Object::default(), None);
    let (mut depth, mut section, mut field, mut is_listing) = (0u32, Section::Other, None, false);
    let mut text = String::new();
    loop {
        match reader
            .read_event()
            .map_err(|_| if is_listing { PageProblem::Malformed } else { PageProblem::NoListing })?
        {
            Event::Start(element) => {
                depth += 1;
                text.clear();
                let name = element.local_name();
                match depth {
                    1 if name.as_ref() == "ListBucketResult" => is_listing = true,
                    1 => return Err(PageProblem::NoListing),
                    2 => {
                        section = match name.as_ref() {
                            "Contents" => Section::Object,
                            "CommonPrefixes" => Section::Prefix,
                            _ => Section::Other,
                        };
                        field = match name.as_ref() {
                            "IsTruncated" => Some(Field::Truncated),
                            "NextContinuationToken" => Some(Field::Token),
                            _ => None,
                        };
                    }
                    3 => {
                        field = match (section, name.as_ref()) {
                            (Section::Object, "Key") => Some(Field::Key),
                            (Section::Object, "LastModified") => Some(Field::Time),
                            (Section::Object, "ETag") => Some(Field::Etag),
                            (Section::Object, "Size") => Some(Field::Size),
                            (Section::Prefix, "Prefix") => Some(Field::Prefix),
                            _ => None,
                        }
                    }
                    _ => field = None,
                }
            }
            Event::Text(piece) if field.is_some() => text.push_str(&piece),
            Event::CData(piece) if field.is_some() => text.push_str(&piece),
            Event::GeneralRef(reference) if field.is_some() => text.push(resolve(&reference)?),
            Event::End(_) => {
                if let Some(field) = field.take() {
                    match field {
                        Field::Truncated => truncated = Some(text.trim() == "true"),
                        Field::Token => page.token = (!text.is_empty()).then(|| text.clone()),
                        Field::Prefix => page.prefixes.push(Listed::Prefix { key: text.as_str().into() }),
                        _ => object.take(field, &text)?,
                    }
                }
                if depth == 2 && section == Section::Object {
                    page.objects.push(std::mem::take(&mut object).listed(allows_unproved)?);
                }
                depth = depth.saturating_sub(1);
                if depth == 1 {
                    section = Section::Other;
                }
            }
            Event::Empty(element) if depth == 0 => {
                if element.local_name().as_ref() != "ListBucketResult" {
                    return Err(PageProblem::NoListing);
                }
                is_listing = true;
            }
            Event::Eof if !is_listing => return Err(PageProblem::NoListing),
            Event::Eof if depth > 0 => return Err(PageProblem::Cut),
            Event::Eof => break,
            _ => {}
        }
    }
    page.is_truncated = truncated.unwrap_or(page.token.is_some());
    Ok(page)
}

impl Object {
    fn take(&mut self, field: Field, text: &str) -> Result<(), PageProblem> {
        match field {
            Field::Key => self.key = Some(text.into()),
            Field::Size => self.size = Some(text.trim().parse().map_err(|_| PageProblem::Entry)?),
            Field::Time => self.mtime = Some(parse_time(text.trim()).ok_or(PageProblem::Entry)?),
            Field::Etag => self.version = strong_etag(text).map(|etag| Version::Etag(etag.into())),
            Field::Truncated | Field::Token | Field::Prefix => {}
        }
        Ok(())
    }

    fn listed(self, allows_unproved: bool) -> Result<Listed, PageProblem> {
        let (Some(key), Some(size)) = (self.key, self.size) else { return Err(PageProblem::Entry) };
        if key.ends_with('/') {
            return Ok(Listed::Prefix { key });
        }
        let version = match (self.version, self.mtime) {
            (Some(version), _) => version,
            (None, Some(mtime)) => Version::Stamp { mtime, size, file: None },
            (None, None) if allows_unproved => Version::Stamp { mtime: TimestampNs(0), size, file: None },
            (None, None) => return Err(PageProblem::Unproved),
        };
        Ok(Listed::Object { key, meta: ObjectMeta { size, mtime: self.mtime.unwrap_or_default(), version } })
    }
}

fn resolve(reference: &BytesRef<'_>) -> Result<char, PageProblem> {
    match reference.as_ref() {
        "quot" => Ok('"'),
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "apos" => Ok('\''),
        _ => reference.resolve_char_ref().ok().flatten().ok_or(PageProblem::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = "<?xml version=\"1.0\"?>\n<ListBucketResult xmlns=\"x\">\n <Name>b</Name><Prefix>p/</Prefix>\
        <IsTruncated>true</IsTruncated><NextContinuationToken>a&amp;b=</NextContinuationToken>\
        <Contents><Key>p/&lt;&#xA;&#233;&amp;</Key><LastModified>2024-06-01T12:34:56.789Z</LastModified>\
        <ETag>&quot;e-1&quot;</ETag><Size>7</Size><Owner><ID>1</ID><Key>no</Key></Owner></Contents>\
        <Contents><Key>p/d/</Key><LastModified>2024-06-01T12:34:56Z</LastModified><Size>0</Size></Contents>\
        <Contents><Key><![CDATA[p/<x>]]></Key><LastModified>2024-06-01T14:34:56+02:00</LastModified><ETag>W/\"e\"</ETag>\
        <Size>8</Size><Tags/></Contents><CommonPrefixes><Prefix>p/z/</Prefix></CommonPrefixes></ListBucketResult>";

    #[test]
    fn reads_all_that_a_page_says() {
        let page = parse(PAGE.as_bytes(), false).expect("a page");
        assert_eq!((page.is_truncated, page.token.as_deref()), (true, Some("a&b=")));
        let mtime = TimestampNs(1_717_245_296_000_000_000);
        let object =
            |key: &str, size, version| Listed::Object { key: key.into(), meta: ObjectMeta { size, mtime, version } };
        let expected = [
            object("p/<\né&", 7, Version::Etag("\"e-1\"".into())),
            Listed::Prefix { key: "p/d/".into() },
            object("p/<x>", 8, Version::Stamp { mtime, size: 8, file: None }),
        ];
        assert_eq!(page.objects, expected);
        assert_eq!(page.prefixes, [Listed::Prefix { key: "p/z/".into() }]);
        assert_eq!(parse(b"<ListBucketResult/>", false), Ok(ListPage { objects: Vec::new(), ..ListPage::default() }));
    }

    #[test]
    fn a_page_that_is_cut_anywhere_is_an_error() {
        for end in 0..PAGE.len() {
            assert!(parse(&PAGE.as_bytes()[..end], false).is_err(), "cut at {end}");
        }
        assert_eq!(parse(b"<html><body>log in</body></html>", false), Err(PageProblem::NoListing));
        assert_eq!(parse(b"", false), Err(PageProblem::NoListing));
    }

    #[test]
    fn an_entry_must_be_whole() {
        let check = |inner: &str, allows_unproved, expected: Result<usize, PageProblem>| {
            let xml = format!("<ListBucketResult><Contents>{inner}</Contents></ListBucketResult>");
            assert_eq!(parse(xml.as_bytes(), allows_unproved).map(|page| page.objects.len()), expected, "{inner}");
        };
        check("<Size>1</Size>", true, Err(PageProblem::Entry));
        check("<Key>k</Key>", true, Err(PageProblem::Entry));
        check("<Key>k</Key><Size>-1</Size>", true, Err(PageProblem::Entry));
        check("<Key>k</Key><Size>1</Size><LastModified>then</LastModified>", true, Err(PageProblem::Entry));
        check("<Key>k&nbsp;</Key><Size>1</Size>", true, Err(PageProblem::Malformed));
        check("<Key>k</Key><Size>1</Size>", false, Err(PageProblem::Unproved));
        check("<Key>k</Key><Size>1</Size>", true, Ok(1));
    }
}
