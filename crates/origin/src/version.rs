//! The version of an object from what a store says about it. A listing and a HEAD of one object give the same version,
//! else cached bytes would be fetched twice.

use std::borrow::Cow;

use forebay_model::{TimestampNs, Version};
use opendal::Metadata;

use crate::Scheme;

/// The strongest version that both a listing and a HEAD of `scheme` give. None: nothing tells contents apart.
pub(crate) fn version_of(scheme: Scheme, meta: &Metadata, size: u64) -> Option<Version> {
    // S3, Azure, OSS and COS have version ids, but their plain listings leave them out: the etag is in both.
    if scheme == Scheme::Gs
        && let Some(generation) = meta.version()
    {
        return Some(Version::Id(generation.into()));
    }
    if let Some(etag) = meta.etag().and_then(strong_etag) {
        return Some(Version::Etag(etag.into()));
    }
    let mtime = mtime_of(scheme, meta)?;
    Some(Version::Stamp { mtime, size, file: None })
}

/// Modification time, in the precision that listing and HEAD have in common: HTTP dates have whole seconds.
pub(crate) fn mtime_of(scheme: Scheme, meta: &Metadata) -> Option<TimestampNs> {
    let time = meta.last_modified()?.into_inner();
    let nanoseconds =
        if scheme == Scheme::Hdfs { time.as_nanosecond() } else { i128::from(time.as_second()) * 1_000_000_000 };
    i64::try_from(nanoseconds).ok().map(TimestampNs)
}

/// An etag with its quotes, whatever quotes it came with. A weak one (`W/"x"`) says "alike", not "the same bytes".
pub(crate) fn strong_etag(etag: &str) -> Option<Cow<'_, str>> {
    let etag = etag.trim();
    if etag.starts_with("W/") {
        return None;
    }
    let bare = etag.trim_matches('"');
    if bare.is_empty() {
        return None;
    }
    let is_quoted_once = etag.len() == bare.len() + 2 && etag.starts_with('"') && etag.ends_with('"');
    Some(if is_quoted_once { etag.into() } else { format!("\"{bare}\"").into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_the_same_everywhere() {
        for text in ["abc-2", "\"abc-2\"", " \"abc-2\" ", "\"\"abc-2\"\""] {
            assert_eq!(strong_etag(text).as_deref(), Some("\"abc-2\""), "{text}");
        }
        for text in ["", "\"\"", "W/\"abc\""] {
            assert_eq!(strong_etag(text), None, "{text}");
        }
    }

    #[test]
    fn the_strongest_proof_wins() {
        let meta = |etag: Option<&str>, version: Option<&str>| {
            let mut meta = opendal::MetadataBuilder::file(7);
            meta.last_modified(opendal::raw::Timestamp::new(5, 123).expect("a time"));
            if let Some(etag) = etag {
                meta.etag(etag);
            }
            if let Some(version) = version {
                meta.version(version);
            }
            meta.build()
        };
        let stamp = Version::Stamp { mtime: TimestampNs(5_000_000_000), size: 7, file: None };
        let etag = Version::Etag("\"e\"".into());
        assert_eq!(version_of(Scheme::S3, &meta(None, None), 7), Some(stamp.clone()));
        assert_eq!(version_of(Scheme::Http, &meta(Some("W/\"e\""), None), 7), Some(stamp));
        assert_eq!(version_of(Scheme::S3, &meta(Some("e"), None), 7), Some(etag.clone()));
        assert_eq!(version_of(Scheme::S3, &meta(Some("e"), Some("v9")), 7), Some(etag));
        assert_eq!(version_of(Scheme::Gs, &meta(Some("e"), Some("v9")), 7), Some(Version::Id("v9".into())));
        assert_eq!(version_of(Scheme::Http, &opendal::MetadataBuilder::file(7).build(), 7), None);
    }
}
