//! From settings to an origin.

use std::time::Duration;

use forebay_origin::{Credentials, Origin, OriginSettings, OriginUrl};

use crate::failure::Failure;
use crate::settings::{CredentialsName, OriginText, Settings};

/// The longest that an attempt may stand still.
const STALL_MAX: Duration = Duration::from_secs(10);

/// The origin that `url` and the settings name. Sends nothing.
///
/// # Errors
/// `Usage`, with what is wrong.
pub(crate) fn open(url: &OriginText, settings: &Settings) -> Result<Origin, Failure> {
    let url: OriginUrl = url.0.parse().map_err(|error| Failure::usage(format!("{error}")))?;
    let of = &settings.origin;
    let (credentials, profile) = match &of.credentials {
        CredentialsName::Standard => (Credentials::Standard, None),
        CredentialsName::Anonymous => (Credentials::Anonymous, None),
        CredentialsName::Profile(name) => (Credentials::Standard, Some(name.clone())),
    };
    let settings = OriginSettings {
        endpoint: of.endpoint.as_ref().map(|endpoint| endpoint.0.clone()),
        region: of.region.clone(),
        path_style: of.path_style,
        credentials,
        profile,
        deadline: of.deadline,
        // An attempt that stands still leaves time for another before the reader gives up.
        stall: (of.deadline / 2).min(STALL_MAX),
        max_requests: of.max_requests.0 as usize,
        listers: of.listers.0 as usize,
        requester_pays: of.requester_pays,
        allow_unproved: settings.source.freshness == forebay_model::Freshness::Immutable,
        injected_latency: of.injected_latency,
        ca_file: of.ca_file.clone(),
        ..OriginSettings::new(url)
    };
    Origin::open(settings).map_err(|error| Failure::usage(error.to_string()))
}
