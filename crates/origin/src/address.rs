//! The address of an origin as people write it: `s3://bucket/prefix` and its like.
//!
//! An address never holds a credential: one that carries user information is refused, and the refusal does not repeat it.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What is shown percent-encoded in a `file` or `http` address, so that the text reads back as the same address.
const SHOWN_ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'%').add(b'?').add(b'#').add(b'\\');

/// The kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Amazon S3 and what speaks its protocol.
    S3,
    /// A directory that this machine can read.
    File,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage.
    Az,
    /// Alibaba Cloud OSS.
    Oss,
    /// Tencent Cloud COS.
    Cos,
    /// Hadoop's file system, by its native protocol.
    Hdfs,
    /// Hugging Face Hub.
    Hf,
    /// A web server, in the clear.
    Http,
    /// A web server.
    Https,
}

impl Scheme {
    const ALL: [Self; 10] =
        [Self::S3, Self::File, Self::Gs, Self::Az, Self::Oss, Self::Cos, Self::Hdfs, Self::Hf, Self::Http, Self::Https];

    /// As written before `://`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::S3 => "s3",
            Self::File => "file",
            Self::Gs => "gs",
            Self::Az => "az",
            Self::Oss => "oss",
            Self::Cos => "cos",
            Self::Hdfs => "hdfs",
            Self::Hf => "hf",
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// Whether it keeps keys in buckets, and no tree of directories.
    pub(crate) fn has_buckets(self) -> bool {
        matches!(self, Self::S3 | Self::Gs | Self::Az | Self::Oss | Self::Cos)
    }

    /// Whether this is a plain web server.
    pub fn is_web(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// The address of an origin and of a prefix in it. Its text form never holds a credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct OriginUrl {
    pub(crate) scheme: Scheme,
    /// `host` or `host:port` of `hdfs`, `http` and `https`; empty for the others.
    pub(crate) host: String,
    /// Bucket or container; for `hf` the kind, repository and revision; empty where the scheme has none.
    pub(crate) bucket: String,
    /// Empty, or ends in `/`.
    pub(crate) prefix: String,
    /// For the web: the key of the one object, or of the manifest.
    pub(crate) web_object: Option<String>,
}

/// Text that is no address of an origin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{shown} is no origin: {why}")]
pub struct OriginUrlError {
    shown: String,
    why: String,
}

impl OriginUrl {
    /// The kind of store.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Bucket, container or repository; empty where the scheme has none.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    /// What all keys of it start with: empty, or ends in `/`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether it names a manifest: a list of objects on a web server.
    pub fn is_manifest(&self) -> bool {
        self.web_object.as_ref().is_some_and(|key| key.ends_with(".manifest.jsonl") || key.ends_with(".manifest.csv"))
    }
}

impl FromStr for OriginUrl {
    type Err = OriginUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let Some((scheme_text, rest)) = text.split_once("://") else {
            return Err(refuse(
                &format!("{text:?}"),
                "it has no scheme; write for example `s3://bucket/prefix` or `file:///data`",
            ));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(refuse(
                &format!("the given `{scheme_text}` address"),
                "it holds credentials before `@`; give them by settings or the environment",
            ));
        }
        let shown = format!("{text:?}");
        let scheme = Scheme::ALL.into_iter().find(|scheme| scheme.as_str() == scheme_text).ok_or_else(|| {
            refuse(&shown, "the scheme must be one of s3, file, gs, az, oss, cos, hdfs, hf, http and https")
        })?;
        let parsed = match scheme {
            Scheme::File => parse_file(authority, path),
            Scheme::Http | Scheme::Https => parse_web(scheme, authority, path),
            Scheme::Hf => parse_hf(rest),
            Scheme::Hdfs => check_host(authority).and_then(|()| {
                Ok(Self {
                    scheme,
                    host: authority.to_ascii_lowercase(),
                    bucket: String::new(),
                    prefix: as_prefix(path)?,
                    web_object: None,
                })
            }),
            Scheme::S3 | Scheme::Gs | Scheme::Az | Scheme::Oss | Scheme::Cos => {
                check_bucket(authority).and_then(|()| {
                    Ok(Self {
                        scheme,
                        host: String::new(),
                        bucket: authority.to_owned(),
                        prefix: as_prefix(path)?,
                        web_object: None,
                    })
                })
            }
        };
        parsed.map_err(|why| refuse(&shown, &why))
    }
}

impl fmt::Display for OriginUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.scheme.as_str();
        let path = self.prefix.trim_end_matches('/');
        match self.scheme {
            Scheme::File => write!(f, "file:///{}", utf8_percent_encode(path, SHOWN_ENCODED)),
            Scheme::Http | Scheme::Https => {
                let object = self.web_object.as_deref().unwrap_or_default();
                write!(f, "{scheme}://{}/{}", self.host, utf8_percent_encode(object, SHOWN_ENCODED))
            }
            _ => {
                write!(f, "{scheme}://{}{}", self.host, self.bucket)?;
                if path.is_empty() { Ok(()) } else { write!(f, "/{path}") }
            }
        }
    }
}

fn refuse(shown: &str, why: &str) -> OriginUrlError {
    OriginUrlError { shown: shown.to_owned(), why: why.to_owned() }
}

fn parse_file(authority: &str, path: &str) -> Result<OriginUrl, String> {
    if !authority.is_empty() {
        return Err("a directory is written with three slashes and its absolute path, as in `file:///data`".to_owned());
    }
    Ok(OriginUrl {
        scheme: Scheme::File,
        host: String::new(),
        bucket: String::new(),
        prefix: as_prefix(&decode(path)?)?,
        web_object: None,
    })
}

fn parse_web(scheme: Scheme, host: &str, path: &str) -> Result<OriginUrl, String> {
    check_host(host)?;
    if path.contains(['?', '#']) {
        return Err("an address with a query or fragment is not supported".to_owned());
    }
    let lower = path.to_ascii_lowercase();
    if lower.contains("%2f") || lower.contains("%00") || path.contains('\\') {
        return Err("an encoded slash, a NUL or a backslash cannot be addressed exactly".to_owned());
    }
    let object = decode(path)?;
    if object.is_empty() || object.ends_with('/') {
        return Err("a web server has no listing: name one object or a `.manifest.jsonl` or `.manifest.csv`".to_owned());
    }
    crate::key::check(&object).map_err(|why| why.to_string())?;
    let prefix = object.rfind('/').map_or("", |slash| &object[..=slash]).to_owned();
    let port = if scheme == Scheme::Http { ":80" } else { ":443" };
    let host = host.to_ascii_lowercase();
    let host = host.strip_suffix(port).unwrap_or(&host).to_owned();
    Ok(OriginUrl { scheme, host, bucket: String::new(), prefix, web_object: Some(object) })
}

/// `[datasets/|models/|spaces/]org/repo[@revision][/path]`.
fn parse_hf(rest: &str) -> Result<OriginUrl, String> {
    let shape = "write `hf://datasets/ORG/REPO[@REVISION][/PATH]` or `hf://models/ORG/REPO...`";
    let (kind, rest) = match rest.split_once('/') {
        Some((kind @ ("datasets" | "models" | "spaces"), rest)) => (kind, rest),
        _ => ("models", rest),
    };
    let mut parts = rest.splitn(3, '/');
    let (organisation, repository) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
    let plain = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) && text != ".."
    };
    let (name, revision) = repository.split_once('@').unwrap_or((repository, "main"));
    let revision_fits = !revision.is_empty() && revision.chars().all(|c| c.is_ascii_graphic());
    if !plain(organisation) || !plain(name) || !revision_fits {
        return Err(shape.to_owned());
    }
    Ok(OriginUrl {
        scheme: Scheme::Hf,
        host: String::new(),
        bucket: format!("{kind}/{organisation}/{name}@{revision}"),
        prefix: as_prefix(parts.next().unwrap_or(""))?,
        web_object: None,
    })
}

fn decode(path: &str) -> Result<String, String> {
    let decoded = percent_decode_str(path).decode_utf8().map_err(|_| "its path is not UTF-8".to_owned())?;
    Ok(decoded.into_owned())
}

fn check_bucket(bucket: &str) -> Result<(), String> {
    let fits = (1..=255).contains(&bucket.len())
        && bucket.chars().all(|c| c.is_ascii_alphanumeric() || "-_.$".contains(c))
        && bucket != "."
        && bucket != "..";
    if fits { Ok(()) } else { Err("the name of a bucket must follow `://`".to_owned()) }
}

fn check_host(host: &str) -> Result<(), String> {
    let fits = !host.is_empty() && host.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:[],".contains(c));
    if fits { Ok(()) } else { Err("a host, or host:port, must follow `://`".to_owned()) }
}

/// A path as the prefix of keys: empty, or with one slash at its end.
fn as_prefix(path: &str) -> Result<String, String> {
    let trimmed = path.strip_suffix('/').unwrap_or(path);
    if trimmed.is_empty() && !path.starts_with('/') {
        return Ok(String::new());
    }
    crate::key::check(trimmed).map_err(|why| why.to_string())?;
    if trimmed.contains("//") || trimmed.ends_with('/') {
        return Err("a prefix with `//` cannot be shown".to_owned());
    }
    Ok(format!("{trimmed}/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, bucket: &str, prefix: &str) {
        let url: OriginUrl = text.parse().expect(text);
        assert_eq!((url.bucket(), url.prefix()), (bucket, prefix), "{text}");
        assert_eq!(url.to_string().parse::<OriginUrl>().as_ref(), Ok(&url), "{text} -> {url}");
    }

    #[test]
    fn reads_what_people_write() {
        check("s3://ml", "ml", "");
        check("s3://ml/", "ml", "");
        check("s3://ml/imagenet", "ml", "imagenet/");
        check("s3://ml/imagenet/train/", "ml", "imagenet/train/");
        check("s3://ml/a%20b", "ml", "a%20b/");
        check("gs://ml/a b", "ml", "a b/");
        check("az://images/x", "images", "x/");
        check("oss://b", "b", "");
        check("cos://b-125", "b-125", "");
        check("file:///data/set", "", "data/set/");
        check("file:///data/a%20b%25", "", "data/a b%/");
        check("file:///", "", "");
        check("hdfs://nn:8020/user/x", "", "user/x/");
        check("hf://datasets/org/set@abc/train", "datasets/org/set@abc", "train/");
        check("hf://org/model", "models/org/model@main", "");
        check("http://host:8080/d/a%20b.bin", "", "d/");
        check("https://host:443/x.manifest.jsonl", "", "");
    }

    #[test]
    fn refuses_what_cannot_be_meant() {
        for text in [
            "",
            "bucket",
            "s3:/b",
            "s3://",
            "s3:///x",
            "ftp://h/x",
            "file://data",
            "file:///a/../b",
            "s3://b//x",
            "s3://b/a//x",
            "http://h/",
            "http://h",
            "http://h/a/",
            "http://h/a?b=1",
            "http://h/a%2Fb",
            "hf://org",
            "hdfs:///x",
            "s3://b/../x",
        ] {
            assert!(text.parse::<OriginUrl>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_refusal_repeats_no_credential() {
        let error = "s3://AKIA:topsecret@bucket/x".parse::<OriginUrl>().expect_err("refused");
        assert!(!error.to_string().contains("topsecret"), "{error}");
        let error = "http://me:topsecret@host/x".parse::<OriginUrl>().expect_err("refused");
        assert!(!error.to_string().contains("topsecret"), "{error}");
    }

    #[test]
    fn knows_a_manifest() {
        let url = |text: &str| text.parse::<OriginUrl>().expect(text);
        assert!(url("http://h/d/x.manifest.jsonl").is_manifest());
        assert!(url("http://h/d/x.manifest.csv").is_manifest());
        assert!(!url("http://h/d/x.jsonl").is_manifest());
    }
}
