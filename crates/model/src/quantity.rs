//! Sizes and times as people write them.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A number of bytes. Text: `20GB` (10^9), `20GiB` (2^30), `512` (bytes); K, M, G, T alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ByteSize(pub u64);

/// How much of a directory's file system a cache may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Capacity {
    /// That many bytes.
    Bytes(ByteSize),
    /// That share of the file system's size, in percent, 1 to 100.
    Percent(u8),
}

/// A size or a time that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no {what}: expected {expected}")]
pub struct QuantityParseError {
    text: String,
    what: &'static str,
    expected: &'static str,
}

const UNITS: [(&str, u64); 11] = [
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("kB", 1_000),
    ("B", 1),
    ("", 1),
];

impl FromStr for ByteSize {
    type Err = QuantityParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || QuantityParseError {
            text: text.to_owned(),
            what: "size",
            expected: "a number and a unit, such as `20GB`, `512MiB` or `1.5TB`",
        };
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
        let unit = text[digits.len()..].trim();
        let scale = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, scale)| *scale).ok_or_else(error)?;
        let digits = digits.trim();
        if let Ok(whole) = digits.parse::<u64>() {
            return whole.checked_mul(scale).map(Self).ok_or_else(error);
        }
        let number = digits.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0).ok_or_else(error)?;
        let bytes = number * scale as f64;
        // 2^63 is exact in f64 and above every disk.
        if bytes < 9.2e18 { Ok(Self(bytes as u64)) } else { Err(error()) }
    }
}

impl fmt::Display for ByteSize {
    /// Three figures and a decimal unit: `1.86 GB`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"];
        let mut value = self.0 as f64;
        let mut unit = 0;
        while value >= 999.5 && unit + 1 < units.len() {
            value /= 1000.0;
            unit += 1;
        }
        let text = match value {
            _ if unit == 0 => format!("{} B", self.0),
            v if v < 9.995 => format!("{v:.2} {}", units[unit]),
            v if v < 99.95 => format!("{v:.1} {}", units[unit]),
            v => format!("{v:.0} {}", units[unit]),
        };
        f.pad(&text)
    }
}

impl From<ByteSize> for String {
    fn from(size: ByteSize) -> Self {
        size.0.to_string()
    }
}

impl TryFrom<String> for ByteSize {
    type Error = QuantityParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Capacity {
    type Err = QuantityParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some(percent) = text.strip_suffix('%') else {
            return text.parse().map(Self::Bytes);
        };
        match percent.trim().parse::<u8>() {
            Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
            _ => Err(QuantityParseError {
                text: text.to_owned(),
                what: "share of a disk",
                expected: "a whole percentage from `1%` to `100%`",
            }),
        }
    }
}

impl fmt::Display for Capacity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => bytes.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Reads a time: a whole number and `ms`, `s`, `m`, `h` or `d`.
pub fn parse_duration(text: &str) -> Result<Duration, QuantityParseError> {
    let error = || QuantityParseError {
        text: text.to_owned(),
        what: "time",
        expected: "a whole number and a unit, such as `250ms`, `30s`, `10m`, `12h` or `7d`",
    };
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let millis: u64 = match &text[digits.len()..] {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(error()),
    };
    let number: u64 = digits.parse().map_err(|_| error())?;
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("20GB", 20_000_000_000),
            ("20GiB", 20 << 30),
            ("1.5MB", 1_500_000),
            ("3 MiB", 3 << 20),
        ] {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for text in ["", "GB", "-1GB", "1XB", "nanGB", "infB", "99999999999TB", "1e40B"] {
            assert!(text.parse::<ByteSize>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_capacities() {
        assert_eq!("80%".parse(), Ok(Capacity::Percent(80)));
        assert_eq!("2GB".parse(), Ok(Capacity::Bytes(ByteSize(2_000_000_000))));
        for text in ["0%", "101%", "%", "x%"] {
            assert!(text.parse::<Capacity>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn prints_three_figures() {
        for (bytes, text) in
            [(0, "0 B"), (999, "999 B"), (1_000, "1.00 kB"), (12_345_678, "12.3 MB"), (999_900, "1.00 MB")]
        {
            assert_eq!(ByteSize(bytes).to_string(), text);
        }
    }

    #[test]
    fn reads_times() {
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2h"), Ok(Duration::from_secs(7200)));
        for text in ["", "s", "1", "-1s", "1.5s", "99999999999999999999d", "9999999999999999d"] {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }
}
