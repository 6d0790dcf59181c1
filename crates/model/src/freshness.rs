//! How long a source's attributes may be used without asking the origin.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::quantity::parse_duration;

/// A source's freshness rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Freshness {
    /// Contents never change; listings and absent names follow the default ttl.
    Immutable,
    /// Attributes and listings are used for this long.
    Ttl(Duration),
    /// Attributes are asked for at each open.
    Check,
}

/// A freshness rule that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no freshness rule: expected `immutable`, `check` or `ttl=DURATION` such as `ttl=60s`")]
pub struct FreshnessParseError(String);

impl Freshness {
    /// The ttl of listings and absent names under `immutable`, and of everything by default.
    pub const DEFAULT_TTL: Duration = Duration::from_secs(60);

    /// For how long the attributes of a file that exists may be used.
    pub fn of_files(self) -> Duration {
        match self {
            // A year: the kernel takes it as a finite time, and no process lives longer.
            Self::Immutable => Duration::from_secs(365 * 86_400),
            Self::Ttl(ttl) => ttl,
            Self::Check => Duration::ZERO,
        }
    }

    /// For how long listings and absent names may be used.
    pub fn of_listings(self) -> Duration {
        match self {
            Self::Immutable => Self::DEFAULT_TTL,
            Self::Ttl(ttl) => ttl,
            Self::Check => Duration::ZERO,
        }
    }
}

impl Default for Freshness {
    fn default() -> Self {
        Self::Ttl(Self::DEFAULT_TTL)
    }
}

impl FromStr for Freshness {
    type Err = FreshnessParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || FreshnessParseError(text.to_owned());
        match text {
            "immutable" => Ok(Self::Immutable),
            "check" => Ok(Self::Check),
            _ => text.strip_prefix("ttl=").and_then(|d| parse_duration(d).ok()).map(Self::Ttl).ok_or_else(error),
        }
    }
}

impl fmt::Display for Freshness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Immutable => f.write_str("immutable"),
            Self::Check => f.write_str("check"),
            Self::Ttl(ttl) if ttl.subsec_millis() == 0 => write!(f, "ttl={}s", ttl.as_secs()),
            Self::Ttl(ttl) => write!(f, "ttl={}ms", ttl.as_millis()),
        }
    }
}

impl From<Freshness> for String {
    fn from(freshness: Freshness) -> Self {
        freshness.to_string()
    }
}

impl TryFrom<String> for Freshness {
    type Error = FreshnessParseError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_prints() {
        for text in ["immutable", "check", "ttl=60s", "ttl=250ms", "ttl=0s"] {
            assert_eq!(text.parse::<Freshness>().map(|f| f.to_string()), Ok(text.to_owned()));
        }
        assert_eq!("ttl=5m".parse(), Ok(Freshness::Ttl(Duration::from_secs(300))));
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for text in ["", "ttl", "ttl=", "ttl=x", "ttl=60", "60s", "Immutable"] {
            assert!(text.parse::<Freshness>().is_err(), "{text:?}");
        }
    }
}
