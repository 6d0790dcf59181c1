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

/// What a manifest states of an object.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stated<'a> {
    /// Its size.
    pub size: u64,
    /// Its strong etag, without quotes.
    pub etag: Option<&'a str>,
    /// The id of its version, or its generation.
    pub version_id: Option<&'a str>,
    /// Its modification time.
    pub mtime: Option<TimestampNs>,
    /// Change time and inode number of a file.
    pub file: Option<(TimestampNs, u64)>,
}

/// The version that `stated` proves at `scheme`: the same as [`version_of`] gives for that object.
pub(crate) fn version_of_stated(scheme: Scheme, stated: &Stated<'_>) -> Option<Version> {
    let etag = || stated.etag.and_then(strong_etag).map(|etag| Version::Etag(etag.into()));
    let stamp = |file| stated.mtime.map(|mtime| Version::Stamp { mtime, size: stated.size, file });
    match scheme {
        Scheme::Gs => stated.version_id.map(|generation| Version::Id(generation.into())),
        Scheme::File => stamp(stated.file),
        Scheme::Hdfs => stamp(None),
        // What they give themselves is an etag, where they have one.
        Scheme::S3 | Scheme::Az | Scheme::Oss | Scheme::Cos | Scheme::Hf | Scheme::Http | Scheme::Https => etag(),
    }
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
    fn what_a_manifest_states_is_what_a_listing_gives() {
        let stated =
            Stated { size: 7, etag: Some("e-2"), version_id: Some("v9"), mtime: Some(TimestampNs(5)), file: None };
        let check = |scheme, expected| assert_eq!(version_of_stated(scheme, &stated), expected, "{scheme:?}");
        check(Scheme::S3, Some(Version::Etag("\"e-2\"".into())));
        check(Scheme::Gs, Some(Version::Id("v9".into())));
        check(Scheme::File, Some(Version::Stamp { mtime: TimestampNs(5), size: 7, file: None }));
        assert_eq!(version_of_stated(Scheme::S3, &Stated { etag: None, ..stated }), None);
        assert_eq!(version_of_stated(Scheme::File, &Stated { mtime: None, ..stated }), None);
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
