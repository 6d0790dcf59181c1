//! The known name that is most like a mistyped one.

/// The one of `known` that is nearest to `name`, counting letters that were left out, added, changed or swapped. A name
/// given without its section (`endpoint` for `origin.endpoint`) is near the key that ends so.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let distance = |known: &str| {
        let whole = strsim::damerau_levenshtein(name, known);
        // One more than the last parts differ by, so that the whole wins where both fit.
        let part = strsim::damerau_levenshtein(&last(name), &last(known)) + 1;
        (whole.min(part), whole)
    };
    known.into_iter().min_by_key(|known| distance(known))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::KEYS;

    fn check(name: &str, expected: &str) {
        assert_eq!(nearest(name, KEYS.iter().map(|key| key.name)), Some(expected), "{name}");
    }

    #[test]
    fn finds_what_was_meant() {
        check("mount.knid", "mount.kind");
        check("endpoint", "origin.endpoint");
        check("orign.endpoint", "origin.endpoint");
        check("source.endpoint", "origin.endpoint");
        check("caches", "cache");
        check("origin.max-requests", "origin.max_requests");
        check("read_ahead", "mount.read_ahead");
    }
}
