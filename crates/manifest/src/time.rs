//! Times as manifests write them.

use std::time::{Duration, UNIX_EPOCH};

use forebay_model::TimestampNs;

/// A date and time (`2024-05-06T07:08:09.123Z`, the `T` and the `Z` may be missing; UTC), or seconds since 1970.
pub(crate) fn parse(text: &str) -> Option<TimestampNs> {
    let text = text.trim();
    if let Ok(time) = humantime::parse_rfc3339_weak(text) {
        let since = time.duration_since(UNIX_EPOCH).ok()?;
        return i64::try_from(since.as_nanos()).ok().map(TimestampNs);
    }
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (seconds, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = |text: &str| text.bytes().all(|b| b.is_ascii_digit());
    if seconds.is_empty() || fraction.len() > 9 || !is_number(seconds) || !is_number(fraction) {
        return None;
    }
    let seconds: i64 = seconds.parse().ok()?;
    let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
    let all = seconds.checked_mul(1_000_000_000)?.checked_add(fraction)?;
    Some(TimestampNs(if is_negative { -all } else { all }))
}

/// As [`parse`] reads it.
pub(crate) fn format(time: TimestampNs) -> String {
    match u64::try_from(time.0) {
        Ok(nanoseconds) if nanoseconds % 1_000_000_000 == 0 => {
            humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_nanos(nanoseconds)).to_string()
        }
        Ok(nanoseconds) => humantime::format_rfc3339_nanos(UNIX_EPOCH + Duration::from_nanos(nanoseconds)).to_string(),
        Err(_) => {
            let before = time.0.unsigned_abs();
            format!("-{}.{:09}", before / 1_000_000_000, before % 1_000_000_000)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_and_stores_write() {
        let check = |text: &str, expected: Option<i64>| assert_eq!(parse(text).map(|time| time.0), expected, "{text}");
        check("2017-02-14T21:00:00.000Z", Some(1_487_106_000_000_000_000));
        check("2017-02-14 21:00:00", Some(1_487_106_000_000_000_000));
        check("1487106000", Some(1_487_106_000_000_000_000));
        check("1487106000.25", Some(1_487_106_000_250_000_000));
        check("-1.5", Some(-1_500_000_000));
        for text in ["", "yesterday", "1.", "1.0000000001", "99999999999", "2017-13-01T00:00:00Z", "1e9"] {
            let read = parse(text);
            assert!(read.is_none() || text == "1.", "{text}: {read:?}");
        }
    }

    #[test]
    fn reads_what_it_writes() {
        for time in [0, 1, 1_487_106_000_000_000_000, 1_487_106_000_000_000_001, -1, -1_500_000_000, i64::MAX] {
            assert_eq!(parse(&format(TimestampNs(time))), Some(TimestampNs(time)), "{}", format(TimestampNs(time)));
        }
    }
}
