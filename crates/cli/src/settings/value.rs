//! The types that settings have, and how each is read from text and shown.
//!
//! Every source of settings (file, environment, flags) comes down to [`Raw`]; every type reads it by [`Value`], so a
//! value means the same wherever it stands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use forebay_model::{ByteSize, Capacity, Freshness, check_name, parse_duration};

/// A value as a source of settings gives it, before its type is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Raw {
    /// Text: a TOML string, an environment variable, a flag.
    Text(String),
    /// A TOML number or truth value, printed.
    Plain(String),
    /// A TOML array, or a flag that was given several times.
    List(Vec<String>),
}

/// A type that a setting may have.
pub(crate) trait Value: Sized {
    /// What is expected, to stand after "expected".
    const EXPECTED: &'static str;
    /// Whether TOML may write it without quotes.
    const PLAIN: bool = false;

    /// Reads one text. The error says why not, as a sentence without the setting's name.
    fn parse(text: &str) -> Result<Self, String>;

    /// Reads what a source gives.
    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) => Self::parse(text),
            Raw::Plain(text) if Self::PLAIN => Self::parse(text),
            Raw::Plain(text) => Err(format!("{text} needs quotes: expected {}", Self::EXPECTED)),
            Raw::List(_) => Err(format!("a list is not allowed: expected {}", Self::EXPECTED)),
        }
    }
}

/// "`text` is not valid: expected ..."
fn unexpected<T: Value>(text: &str) -> String {
    format!("{text:?} is not valid: expected {}", T::EXPECTED)
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Count<const MIN: u32, const MAX: u32>(pub(crate) u32);

/// A user or group number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Id(pub(crate) u32);

/// Permission bits, written in octal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mode(pub(crate) u16);

/// The two kinds of mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum MountKind {
    /// No open calls, kernel page cache: for many files.
    Files,
    /// Open calls and passthrough: for large objects.
    Streams,
}

/// Where an origin's credentials come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum CredentialsName {
    /// The origin's standard chain: environment, profile files, the identity of the machine.
    Standard,
    /// None: requests are not signed.
    Anonymous,
    /// A named profile of the origin's credential files.
    Profile(String),
}

/// URL of an origin, checked for its scheme only: `origin` reads the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OriginText(pub(crate) String);

/// URL of an endpoint, without a trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint(pub(crate) String);

/// One name: a component of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) String);

/// What is logged: a level, or directives of `tracing-subscriber`'s `EnvFilter`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogFilter(pub(crate) String);

/// How a line of the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// URL schemes of origins, as DESIGN's origins are named.
pub(crate) const SCHEMES: [&str; 10] = ["s3", "file", "gs", "az", "oss", "cos", "hdfs", "hf", "http", "https"];

impl Value for bool {
    const EXPECTED: &'static str = "`yes` or `no`";
    const PLAIN: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "yes" | "true" => Ok(true),
            "no" | "false" => Ok(false),
            _ => Err(unexpected::<Self>(text)),
        }
    }
}

impl Value for String {
    const EXPECTED: &'static str = "a text";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Err(unexpected::<Self>(text)) } else { Ok(text.to_owned()) }
    }
}

impl Value for PathBuf {
    const EXPECTED: &'static str = "a path";

    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.contains('\0') { Err(unexpected::<Self>(text)) } else { Ok(text.into()) }
    }
}

impl Value for ByteSize {
    const EXPECTED: &'static str = "a size, such as `64MiB` or `20GB`";
    const PLAIN: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| unexpected::<Self>(text))
    }
}

impl Value for Capacity {
    const EXPECTED: &'static str = "a size or a share of the disk, such as `20GB` or `5%`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| unexpected::<Self>(text))
    }
}

impl Value for Duration {
    const EXPECTED: &'static str = "a time, such as `250ms`, `30s` or `10m`";

    fn parse(text: &str) -> Result<Self, String> {
        parse_duration(text).map_err(|_| unexpected::<Self>(text))
    }
}

impl Value for Freshness {
    const EXPECTED: &'static str = "`immutable`, `check` or `ttl=TIME`, such as `ttl=60s`";

    fn parse(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| unexpected::<Self>(text))
    }
}

impl Value for SocketAddr {
    const EXPECTED: &'static str = "an address and a port, such as `127.0.0.1:7601` (port 0: a free one)";

    fn parse(text: &str) -> Result<Self, String> {
        let numeric = text.strip_prefix("localhost:").map(|port| format!("127.0.0.1:{port}"));
        numeric.as_deref().unwrap_or(text).parse().map_err(|_| unexpected::<Self>(text))
    }
}

impl<const MIN: u32, const MAX: u32> Value for Count<MIN, MAX> {
    const EXPECTED: &'static str = "a whole number";
    const PLAIN: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        match text.parse() {
            Ok(number) if (MIN..=MAX).contains(&number) => Ok(Self(number)),
            _ => Err(format!("{text:?} is not valid: expected a whole number from {MIN} to {MAX}")),
        }
    }
}

impl Value for Id {
    const EXPECTED: &'static str = "a number of a user or a group, such as `1000`";
    const PLAIN: bool = true;

    fn parse(text: &str) -> Result<Self, String> {
        // 2^32 - 1 means "no change" to chown(2) and is no id.
        text.parse().ok().filter(|id| *id != u32::MAX).map(Self).ok_or_else(|| unexpected::<Self>(text))
    }
}

impl Value for Mode {
    // Never plain: TOML would read 444 as a decimal number.
    const EXPECTED: &'static str = "permissions in octal, such as `0444`";

    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0o").unwrap_or(text);
        let octal = !digits.is_empty() && digits.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mode = if octal { u16::from_str_radix(digits, 8).ok() } else { None };
        mode.filter(|mode| *mode <= 0o777).map(Self).ok_or_else(|| unexpected::<Self>(text))
    }
}

impl Value for MountKind {
    const EXPECTED: &'static str = "`files` or `streams`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "files" => Ok(Self::Files),
            "streams" => Ok(Self::Streams),
            _ => Err(unexpected::<Self>(text)),
        }
    }
}

impl MountKind {
    /// Its name, as it is read.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Files => "files",
            Self::Streams => "streams",
        }
    }
}

impl CredentialsName {
    /// Its text; none for the standard chain.
    pub(crate) fn name(&self) -> Option<String> {
        match self {
            Self::Standard => None,
            Self::Anonymous => Some("anonymous".to_owned()),
            Self::Profile(name) => Some(name.clone()),
        }
    }
}

impl Value for CredentialsName {
    const EXPECTED: &'static str = "`standard`, `anonymous` or the name of a profile";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "standard" => Ok(Self::Standard),
            "anonymous" => Ok(Self::Anonymous),
            _ if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '[' || c == ']') => {
                Err(unexpected::<Self>(text))
            }
            _ => Ok(Self::Profile(text.to_owned())),
        }
    }
}

impl Value for OriginText {
    const EXPECTED: &'static str = "a URL of an origin, such as `s3://bucket/prefix/` or `file:///data`";

    fn parse(text: &str) -> Result<Self, String> {
        let authority = text.split_once("://").and_then(|(_, rest)| rest.split('/').next()).unwrap_or_default();
        if authority.contains('@') {
            // Not repeated here: the text holds a secret.
            return Err(
                "the URL holds credentials before `@`: give them by the environment or `--credentials`".to_owned()
            );
        }
        match text.split_once("://") {
            Some((scheme, rest)) if SCHEMES.contains(&scheme) && !rest.is_empty() => Ok(Self(text.to_owned())),
            Some((scheme, _)) if !SCHEMES.contains(&scheme) => {
                Err(format!("{text:?}: unknown scheme {scheme:?}: expected one of {}", SCHEMES.join(", ")))
            }
            None if text.starts_with('/') => {
                Err(format!("{text:?} is a path, not a URL: write `file://{text}` for a directory of this machine"))
            }
            _ => Err(unexpected::<Self>(text)),
        }
    }
}

impl Value for Endpoint {
    const EXPECTED: &'static str = "a URL without path and password, such as `http://127.0.0.1:9000`";

    fn parse(text: &str) -> Result<Self, String> {
        let bare = text.trim_end_matches('/');
        match bare.split_once("://") {
            // Not repeated here: the text holds a secret, which would stand in the process list and in every log.
            Some((_, host)) if host.contains('@') => {
                Err("the URL holds credentials before `@`: give them by the environment or `--credentials`".to_owned())
            }
            Some((scheme, host)) if !scheme.is_empty() && !host.is_empty() => Ok(Self(bare.to_owned())),
            _ => Err(unexpected::<Self>(text)),
        }
    }
}

impl Value for Name {
    const EXPECTED: &'static str = "one name without `/`";

    fn parse(text: &str) -> Result<Self, String> {
        if text.contains('/') {
            return Err(unexpected::<Self>(text));
        }
        check_name(text).map(|()| Self(text.to_owned())).map_err(|problem| format!("{text:?} is not valid: {problem}"))
    }
}

impl Value for LogFilter {
    const EXPECTED: &'static str = "a level (`error`, `warn`, `info`, `debug`, `trace`, `off`) or directives such as \
                                    `info,forebay_origin=debug`";

    fn parse(text: &str) -> Result<Self, String> {
        // EnvFilter takes any word for the name of a module: a mistyped level would silence the log without a word.
        let levels = ["error", "warn", "info", "debug", "trace", "off"];
        let known = |part: &str| part.contains('=') || part.contains('[') || levels.contains(&part);
        if text.is_empty() || !text.split(',').all(|part| known(part.trim())) {
            return Err(unexpected::<Self>(text));
        }
        match tracing_subscriber::EnvFilter::try_new(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(_) => Err(unexpected::<Self>(text)),
        }
    }
}

impl Value for LogFormat {
    const EXPECTED: &'static str = "`text` or `json`";

    fn parse(text: &str) -> Result<Self, String> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(unexpected::<Self>(text)),
        }
    }
}

impl<T: Value> Value for Option<T> {
    const EXPECTED: &'static str = T::EXPECTED;
    const PLAIN: bool = T::PLAIN;

    /// An empty text is "not set".
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::parse(text).map(Some) }
    }
}

impl<T: Value> Value for Vec<T> {
    const EXPECTED: &'static str = T::EXPECTED;

    /// Items apart by commas; an empty text is an empty list.
    fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(Self::new()) } else { text.split(',').map(|item| T::parse(item.trim())).collect() }
    }

    fn read(raw: &Raw) -> Result<Self, String> {
        match raw {
            Raw::Text(text) => Self::parse(text),
            Raw::Plain(text) => Err(format!("{text} needs quotes: expected a list of {}", T::EXPECTED)),
            Raw::List(items) => items.iter().map(|item| T::parse(item)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::needless_pass_by_value, reason = "the cases below read better")]
    fn check<T: Value + PartialEq + std::fmt::Debug>(text: &str, value: Option<T>) {
        assert_eq!(T::parse(text).ok(), value, "{text:?}");
    }

    #[test]
    fn truth() {
        check("yes", Some(true));
        check("false", Some(false));
        check::<bool>("1", None);
    }

    #[test]
    fn counts_have_ends() {
        check("1", Some(Count::<1, 8>(1)));
        check("8", Some(Count::<1, 8>(8)));
        check::<Count<1, 8>>("9", None);
        check::<Count<1, 8>>("0", None);
        check::<Count<1, 8>>("-1", None);
    }

    #[test]
    fn modes_are_octal_text() {
        check("0444", Some(Mode(0o444)));
        check("555", Some(Mode(0o555)));
        check("0o700", Some(Mode(0o700)));
        check::<Mode>("888", None);
        check::<Mode>("+44", None);
        check::<Mode>("1777", None);
        assert!(Mode::read(&Raw::Plain("292".into())).is_err(), "TOML's 0o444 arrives as 292");
    }

    #[test]
    fn origins_need_a_known_scheme() {
        check("s3://ml/a/", Some(OriginText("s3://ml/a/".into())));
        for text in ["", "s3://", "s4://x", "ml", "/data", "s3://key:secret@b/"] {
            check::<OriginText>(text, None);
        }
        assert!(OriginText::parse("/data").is_err_and(|why| why.contains("file:///data")));
    }

    #[test]
    fn endpoints_hold_no_password() {
        check("http://h:1/", Some(Endpoint("http://h:1".into())));
        check::<Endpoint>("http://me:secret@h", None);
        check::<Endpoint>("h:1", None);
    }

    #[test]
    fn a_mistyped_level_is_no_module() {
        check("debug", Some(LogFilter("debug".into())));
        check("info,forebay_origin=debug", Some(LogFilter("info,forebay_origin=debug".into())));
        check::<LogFilter>("debgu", None);
        check::<LogFilter>("", None);
    }

    #[test]
    fn names_of_hosts_are_numbers() {
        check("localhost:0", Some(SocketAddr::from(([127, 0, 0, 1], 0))));
        check::<SocketAddr>("7601", None);
    }

    #[test]
    fn lists_split_at_commas_or_come_as_lists() {
        assert_eq!(Vec::<String>::parse("a, b"), Ok(vec!["a".into(), "b".into()]));
        assert_eq!(Vec::<String>::read(&Raw::List(vec!["a,b".into()])), Ok(vec!["a,b".into()]));
    }
}
