//! What must be known to speak to an origin, and where the environment fills in.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use forebay_model::OriginId;

use crate::error::{OriginError, OriginErrorKind};
use crate::{OriginUrl, Scheme};

/// Total time of one call, retries included, unless the caller says otherwise.
const DEADLINE: Duration = Duration::from_secs(30);
/// Requests at one time to one origin.
const MAX_REQUESTS: usize = 64;
/// Pages of one listing at one time: a quarter of the requests, so that a listing leaves room for reads.
const LISTERS: usize = MAX_REQUESTS / 4;
/// A body or an answer that stands still this long is given up and asked for again.
const STALL: Duration = Duration::from_secs(10);
const MAX_REQUESTS_LIMIT: usize = 4096;

/// Who asks, as the origin sees it.
#[derive(Clone, Default)]
pub enum Credentials {
    /// The chain that the store's own tools use: environment, profile files, web identity, instance metadata.
    #[default]
    Standard,
    /// Keys given outright. For `az`: account name and account key; for `hf`: the token as `secret`.
    Static {
        /// Access key id.
        access_key: String,
        /// Secret key.
        secret: String,
        /// Token of temporary keys.
        session_token: Option<String>,
    },
    /// Unsigned requests.
    Anonymous,
}

impl fmt::Debug for Credentials {
    /// Never shows a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Standard => "Standard",
            Self::Static { .. } => "Static { .. }",
            Self::Anonymous => "Anonymous",
        })
    }
}

/// How an origin is reached. Proxies come from `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` in the environment.
#[derive(Clone, Debug)]
pub struct OriginSettings {
    /// Which store, and which prefix in it.
    pub url: OriginUrl,
    /// Where the store answers. None: `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` for `s3`, else the public service.
    /// `az`, and `oss` and `cos` without a region, need it.
    pub endpoint: Option<String>,
    /// None: `AWS_REGION`, `AWS_DEFAULT_REGION`, else `us-east-1`.
    pub region: Option<String>,
    /// Whether the bucket stands in the path and not in the host's name. None: yes if there is an endpoint.
    pub path_style: Option<bool>,
    /// Who asks.
    pub credentials: Credentials,
    /// Profile of `~/.aws/config` and `~/.aws/credentials`; None: `AWS_PROFILE`, else `default`.
    pub profile: Option<String>,
    /// Total time of a page of a listing and of a probe; [`crate::Origin::deadline`] gives it for the other calls.
    pub deadline: Duration,
    /// Cap of requests at one time. Waiting for a turn counts against the deadline.
    pub max_requests: usize,
    /// Pages of one listing that are asked for at one time, at most, within the cap of requests. A server that refuses gets
    /// fewer.
    pub listers: usize,
    /// A body or an answer that stands still this long is asked for again. Raise it for very slow stores.
    pub stall: Duration,
    /// Pay for requests to a requester-pays bucket.
    pub requester_pays: bool,
    /// Take objects that the origin cannot prove a version of (a web server with neither etag nor time). Right only for
    /// sources that are `immutable`.
    pub allow_unproved: bool,
    /// A manifest says which objects there are: a web server need not be one object. What is not listed is not looked for.
    pub has_manifest: bool,
    /// Added before each request: for demonstrations and tests.
    pub injected_latency: Duration,
    /// Certificates of a private authority, PEM, trusted besides those of the system.
    pub ca_file: Option<PathBuf>,
}

impl OriginSettings {
    /// Defaults for `url`.
    pub fn new(url: OriginUrl) -> Self {
        Self {
            url,
            endpoint: None,
            region: None,
            path_style: None,
            credentials: Credentials::default(),
            profile: None,
            deadline: DEADLINE,
            max_requests: MAX_REQUESTS,
            listers: LISTERS,
            stall: STALL,
            requester_pays: false,
            allow_unproved: false,
            has_manifest: false,
            injected_latency: Duration::ZERO,
            ca_file: None,
        }
    }

    /// Fills in what was left open from `environment`, and checks the rest.
    pub(crate) fn resolve(&self, environment: &dyn Fn(&str) -> Option<String>) -> Result<Resolved, OriginError> {
        let url = &self.url;
        let env = |names: &[&str]| names.iter().find_map(|name| environment(name)).filter(|value| !value.is_empty());
        let region = self.region.clone().or_else(|| env(&["AWS_REGION", "AWS_DEFAULT_REGION"]));
        let given = match url.scheme {
            Scheme::S3 => self.endpoint.clone().or_else(|| env(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])),
            Scheme::Hf => self.endpoint.clone().or_else(|| env(&["HF_ENDPOINT"])),
            _ => self.endpoint.clone(),
        };
        if url.scheme.is_web() && url.web_object.is_none() && !self.has_manifest {
            let what = "a web server has no listing: name one object or a `.manifest.jsonl` or `.manifest.csv`, or give a manifest";
            return Err(invalid(format!("{url}: {what}")));
        }
        let is_given = given.is_some();
        let endpoint = match given {
            Some(_) if matches!(url.scheme, Scheme::File | Scheme::Hdfs | Scheme::Http | Scheme::Https) => {
                return Err(invalid(format!("{url}: an endpoint has no meaning here; the address names the host")));
            }
            Some(text) => normalise_endpoint(&text).map_err(|why| invalid(format!("{url}: endpoint: {why}")))?,
            None => default_endpoint(url, self.region.as_deref())?,
        };
        if !(1..=MAX_REQUESTS_LIMIT).contains(&self.max_requests) {
            return Err(invalid(format!("{url}: the cap of requests must be 1 to {MAX_REQUESTS_LIMIT}")));
        }
        if self.listers == 0 {
            return Err(invalid(format!("{url}: a listing needs a lister at least")));
        }
        if self.deadline.is_zero() || self.stall.is_zero() {
            return Err(invalid(format!("{url}: the deadline and the stall time must be above zero")));
        }
        Ok(Resolved {
            id: OriginId {
                scheme: url.scheme.as_str().into(),
                endpoint: endpoint.as_str().into(),
                bucket: url.bucket.as_str().into(),
            },
            path_style: self.path_style.unwrap_or(is_given),
            // A directory bucket has endpoints by zone, which the service works out from its name.
            service_endpoint: (is_given || !url.bucket.ends_with("--x-s3")).then_some(endpoint),
            region: region.unwrap_or_else(|| "us-east-1".to_owned()),
        })
    }
}

/// Settings with nothing left open.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub(crate) id: OriginId,
    pub(crate) path_style: bool,
    /// None: the service knows its own.
    pub(crate) service_endpoint: Option<String>,
    pub(crate) region: String,
}

fn default_endpoint(url: &OriginUrl, region: Option<&str>) -> Result<String, OriginError> {
    let need = |what: &str| invalid(format!("{url}: {what}"));
    Ok(match url.scheme {
        Scheme::File => String::new(),
        Scheme::S3 => "https://s3.amazonaws.com".to_owned(),
        Scheme::Gs => "https://storage.googleapis.com".to_owned(),
        Scheme::Hf => "https://huggingface.co".to_owned(),
        Scheme::Hdfs | Scheme::Http | Scheme::Https => format!("{}://{}", url.scheme.as_str(), url.host),
        Scheme::Az => return Err(need("set the endpoint to `https://ACCOUNT.blob.core.windows.net`")),
        Scheme::Oss => {
            let region = region.ok_or_else(|| need("set the endpoint or the region, such as `cn-hangzhou`"))?;
            format!("https://oss-{region}.aliyuncs.com")
        }
        Scheme::Cos => {
            let region = region.ok_or_else(|| need("set the endpoint or the region, such as `ap-shanghai`"))?;
            format!("https://cos.{region}.myqcloud.com")
        }
    })
}

/// One text for one endpoint: lower case, no default port, no trailing slash.
fn normalise_endpoint(text: &str) -> Result<String, String> {
    let text = if text.contains("://") { text.to_owned() } else { format!("https://{text}") };
    let url = url::Url::parse(&text).map_err(|error| format!("it is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("it must start with http:// or https://".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it must not hold credentials".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it must not have a query or fragment".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

fn invalid(message: String) -> OriginError {
    OriginError::new(OriginErrorKind::Invalid, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> OriginSettings {
        OriginSettings::new(url.parse().expect(url))
    }

    #[test]
    fn the_environment_fills_in() {
        let env = |name: &str| match name {
            "AWS_ENDPOINT_URL" => Some("http://LOCALHOST:80/".to_owned()),
            "AWS_DEFAULT_REGION" => Some("eu-west-1".to_owned()),
            _ => None,
        };
        let resolved = settings("s3://b").resolve(&env).expect("resolves");
        assert_eq!(&*resolved.id.endpoint, "http://localhost");
        assert_eq!((resolved.region.as_str(), resolved.path_style), ("eu-west-1", true));
        let own = |name: &str| if name == "AWS_ENDPOINT_URL_S3" { Some("http://s3:1".into()) } else { env(name) };
        assert_eq!(&*settings("s3://b").resolve(&own).expect("resolves").id.endpoint, "http://s3:1");
    }

    #[test]
    fn the_public_service_is_the_default() {
        let resolved = settings("s3://b").resolve(&|_| None).expect("resolves");
        assert_eq!(
            (resolved.service_endpoint.as_deref(), resolved.path_style),
            (Some("https://s3.amazonaws.com"), false)
        );
        let resolved = settings("s3://b--use1-az4--x-s3").resolve(&|_| None).expect("resolves");
        assert_eq!(resolved.service_endpoint, None);
        assert_eq!(resolved.region, "us-east-1");
        assert!(settings("az://c").resolve(&|_| None).is_err());
        assert_eq!(&*settings("http://h:8080/x").resolve(&|_| None).expect("resolves").id.endpoint, "http://h:8080");
    }

    #[test]
    fn no_secret_is_shown() {
        let mut settings = settings("s3://b");
        settings.credentials =
            Credentials::Static { access_key: "AK".into(), secret: "hush".into(), session_token: Some("hush".into()) };
        assert!(!format!("{settings:?}").contains("hush"));
        settings.endpoint = Some("http://me:hush@h".into());
        let error = settings.resolve(&|_| None).expect_err("refused");
        assert!(!error.message.contains("hush"), "{error}");
    }
}
