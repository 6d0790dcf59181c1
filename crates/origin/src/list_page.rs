//! What a page of a listing says, whichever store wrote it (`crate::list_xml`, `crate::list_json`).

use forebay_model::TimestampNs;

use crate::listing::Listed;

/// Entries that room is made for: what S3 and GCS give at most.
pub(crate) const ENTRIES: usize = 1_000;

/// What one page says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ListPage {
    /// Objects, and keys that end in `/` as prefixes, in the order they came in.
    pub(crate) objects: Vec<Listed>,
    pub(crate) prefixes: Vec<Listed>,
    /// Whether there are more pages.
    pub(crate) is_truncated: bool,
    /// Where the next one begins, in the server's words.
    pub(crate) token: Option<String>,
}

/// Why a page cannot be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PageProblem {
    #[error("the answer is no listing")]
    NoListing,
    #[error("the listing was cut short")]
    Cut,
    #[error("the listing is not well-formed")]
    Malformed,
    #[error("an entry of the listing has no key, or a size or time that is none")]
    Entry,
    #[error("the server gives neither a strong etag nor a time, so no version can be proved")]
    Unproved,
}

/// A time as S3 and GCS write it, in whole seconds: what a HEAD has in common with a listing.
pub(crate) fn parse_time(text: &str) -> Option<TimestampNs> {
    let seconds = match *text.as_bytes() {
        [y0, y1, y2, y3, b'-', m0, m1, b'-', d0, d1, b'T', h0, h1, b':', n0, n1, b':', s0, s1, .., b'Z'] => {
            let number = |digits: &[u8]| {
                digits.iter().try_fold(0i64, |n, d| d.is_ascii_digit().then(|| n * 10 + i64::from(d - b'0')))
            };
            let (year, month, day) = (number(&[y0, y1, y2, y3])?, number(&[m0, m1])?, number(&[d0, d1])?);
            let days = days_from_civil(year, month, day)?;
            ((days * 24 + number(&[h0, h1])?) * 60 + number(&[n0, n1])?) * 60 + number(&[s0, s1])?
        }
        _ => text.parse::<opendal::raw::Timestamp>().ok()?.into_inner().as_second(),
    };
    seconds.checked_mul(1_000_000_000).map(TimestampNs)
}

/// Days since 1970-01-01, by Howard Hinnant's algorithm (`days_from_civil`).
fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5 + day - 1;
    Some(era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_the_library() {
        for text in ["1970-01-01T00:00:00Z", "2000-02-29T23:59:59.999Z", "2024-12-31T00:00:01Z", "1969-12-31T23:59:59Z"]
        {
            let library = text.parse::<opendal::raw::Timestamp>().expect(text).into_inner().as_second();
            assert_eq!(parse_time(text), Some(TimestampNs(library * 1_000_000_000)), "{text}");
        }
        for text in ["", "2024-13-01T00:00:00Z", "2024-01-01", "yesterday", "20a4-01-01T00:00:00Z"] {
            assert_eq!(parse_time(text), None, "{text}");
        }
    }
}
