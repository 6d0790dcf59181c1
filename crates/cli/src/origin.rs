//! From what a source says, and the process's settings, to an origin.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay_model::{Freshness, NsPath, SourceSpec, TimestampNs};
use forebay_origin::{Credentials, Origin, OriginMetrics, OriginSettings, OriginUrl, Scheme};

use crate::failure::Failure;
use crate::settings::{CredentialsName, Endpoint, OriginText, Settings, Value};

/// The longest that an attempt may stand still.
const STALL_MAX: Duration = Duration::from_secs(10);

/// The source that the settings of `up` or `doctor` speak of.
pub(crate) fn source(url: &OriginText, path: NsPath, settings: &Settings) -> SourceSpec {
    let of = &settings.origin;
    SourceSpec {
        freshness: settings.source.freshness,
        endpoint: of.endpoint.as_ref().map(|endpoint| endpoint.0.clone()),
        region: of.region.clone(),
        path_style: of.path_style,
        credentials: of.credentials.name(),
        ..SourceSpec::new(path, url.0.clone(), now())
    }
}

/// The origin of a source. Sends nothing.
///
/// # Errors
/// `Usage`, with what is wrong.
pub(crate) fn open(spec: &SourceSpec, settings: &Settings, metrics: OriginMetrics) -> Result<Origin, Failure> {
    let wrong = |what: &str, why: String| Failure::usage(format!("source {}: {what}: {why}", spec.path));
    // What comes over the socket was not read as settings are.
    let text = OriginText::parse(&spec.origin).map_err(|why| wrong("origin", why))?;
    let url: OriginUrl = text.0.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let endpoint = spec.endpoint.as_deref().map(Endpoint::parse).transpose().map_err(|why| wrong("endpoint", why))?;
    let name = spec.credentials.as_deref().map(CredentialsName::parse).transpose();
    let (credentials, profile) = match name.map_err(|why| wrong("credentials", why))? {
        None | Some(CredentialsName::Standard) => (Credentials::Standard, None),
        Some(CredentialsName::Anonymous) => (Credentials::Anonymous, None),
        Some(CredentialsName::Profile(name)) => (Credentials::Standard, Some(name)),
    };
    let of = &settings.origin;
    let settings = OriginSettings {
        endpoint: endpoint.map(|endpoint| endpoint.0),
        region: spec.region.clone(),
        path_style: spec.path_style,
        credentials,
        profile,
        deadline: of.deadline,
        // An attempt that stands still leaves time for another before the reader gives up.
        stall: (of.deadline / 2).min(STALL_MAX),
        max_requests: of.max_requests.0 as usize,
        listers: of.listers.0 as usize,
        requester_pays: of.requester_pays,
        has_manifest: spec.manifest.is_some(),
        allow_unproved: spec.freshness == Freshness::Immutable,
        injected_latency: of.injected_latency,
        ca_file: of.ca_file.clone(),
        ..OriginSettings::new(url)
    };
    Origin::open_counted(settings, metrics).map_err(|error| Failure::usage(error.to_string()))
}

/// The file of an address, by the rules of a source: what the source says of its origin holds where the file lies in one of the
/// same kind. Sends nothing.
///
/// # Errors
/// `Usage`, with what is wrong.
pub(crate) fn open_file(
    spec: &SourceSpec,
    address: &str,
    settings: &Settings,
    metrics: OriginMetrics,
) -> Result<(Origin, String), Failure> {
    let (url, key) = OriginUrl::file(address).map_err(|error| Failure::usage(error.to_string()))?;
    let scheme = |text: &str| text.split_once("://").map(|(scheme, _)| scheme.to_owned());
    let is_alike = scheme(address) == scheme(&spec.origin);
    let of = SourceSpec { origin: url.with_file(&key), manifest: None, ..spec.clone() };
    let of = if is_alike {
        of
    } else {
        SourceSpec { endpoint: None, region: None, path_style: None, credentials: None, ..of }
    };
    let origin = match url.scheme() {
        scheme if scheme.is_web() => of.origin.clone(),
        // A directory that is made with its file is no directory that is not mounted.
        Scheme::File => "file:///".to_owned(),
        _ => url.with_file(""),
    };
    let open = SourceSpec { origin, ..of };
    Ok((self::open(&open, settings, metrics)?, key))
}

/// The time now.
pub(crate) fn now() -> TimestampNs {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    TimestampNs(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX))
}
