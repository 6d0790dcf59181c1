//! From settings to an OpenDAL service: the only place that knows the builders.
//!
//! Calls go to the service itself, not to OpenDAL's operator: the operator trims spaces from keys and folds `//`.

use std::sync::Arc;

use opendal::raw::Servicer;
use opendal::services::{Azblob, Cos, Gcs, HdfsNative, Hf, Http, Oss, S3};
use opendal::{Builder, Error};

use crate::error::{OriginError, OriginErrorKind};
use crate::settings::Resolved;
use crate::{Credentials, OriginSettings, Scheme};

/// A service for `settings`. Sends nothing.
pub(crate) fn connect(settings: &OriginSettings, resolved: &Resolved) -> Result<Servicer, OriginError> {
    let url = &settings.url;
    let invalid = |why: &str| OriginError::new(OriginErrorKind::Invalid, format!("{url}: {why}"));
    let endpoint = resolved.service_endpoint.as_deref().unwrap_or("");
    let built = match url.scheme {
        Scheme::S3 => build(s3(settings, resolved)),
        Scheme::Gs => {
            let builder = Gcs::default().bucket(&url.bucket).endpoint(endpoint);
            match &settings.credentials {
                Credentials::Standard => build(builder),
                Credentials::Anonymous => build(builder.skip_signature()),
                Credentials::Static { .. } => {
                    return Err(invalid("gs takes no keys: set GOOGLE_APPLICATION_CREDENTIALS"));
                }
            }
        }
        Scheme::Az => {
            let builder = Azblob::default().container(&url.bucket).endpoint(endpoint);
            match &settings.credentials {
                Credentials::Standard => build(builder),
                Credentials::Anonymous => build(builder.skip_signature()),
                Credentials::Static { access_key, secret, .. } => {
                    build(builder.account_name(access_key).account_key(secret))
                }
            }
        }
        Scheme::Oss => {
            let builder = Oss::default().bucket(&url.bucket).endpoint(endpoint);
            let builder = match resolved.path_style && is_address(endpoint) {
                // A bucket cannot stand before a numeric address.
                true => builder.addressing_style("path"),
                false => builder,
            };
            match &settings.credentials {
                Credentials::Standard => build(builder),
                Credentials::Anonymous => build(builder.skip_signature()),
                Credentials::Static { access_key, secret, session_token } => build(
                    builder
                        .access_key_id(access_key)
                        .access_key_secret(secret)
                        .security_token(session_token.as_deref().unwrap_or("")),
                ),
            }
        }
        Scheme::Cos => {
            let builder = Cos::default().bucket(&url.bucket).endpoint(endpoint);
            match &settings.credentials {
                Credentials::Standard => build(builder),
                Credentials::Anonymous => return Err(invalid("cos has no anonymous access: give keys")),
                Credentials::Static { access_key, secret, session_token } => {
                    let builder = builder.secret_id(access_key).secret_key(secret);
                    build(match session_token {
                        Some(token) => builder.security_token(token),
                        None => builder,
                    })
                }
            }
        }
        Scheme::Hdfs => build(HdfsNative::default().name_node(endpoint)),
        Scheme::Hf => {
            let (kind, rest) = url.bucket.split_once('/').unwrap_or(("models", &url.bucket));
            let (repository, revision) = rest.split_once('@').unwrap_or((rest, "main"));
            let builder = Hf::default()
                .repo_type(kind.trim_end_matches('s'))
                .repo_id(repository)
                .revision(revision)
                .endpoint(endpoint)
                // The other protocol opens connections of its own, past the proxy and the limits set here.
                .download_mode("http");
            build(match &settings.credentials {
                Credentials::Static { secret, .. } => builder.token(secret),
                Credentials::Standard | Credentials::Anonymous => builder,
            })
        }
        Scheme::Http | Scheme::Https => build(Http::default().endpoint(endpoint)),
        Scheme::File => return Err(invalid("a directory is read without OpenDAL")),
    };
    built.map_err(|error| invalid(error.message()))
}

fn s3(settings: &OriginSettings, resolved: &Resolved) -> S3 {
    let mut builder = S3::default().bucket(&settings.url.bucket).region(&resolved.region);
    if let Some(endpoint) = &resolved.service_endpoint {
        builder = builder.endpoint(endpoint);
    }
    if !resolved.path_style {
        builder = builder.enable_virtual_host_style();
    }
    if settings.requester_pays {
        builder = builder.enable_request_payer();
    }
    match &settings.credentials {
        Credentials::Standard => builder.profile(settings.profile.as_deref().unwrap_or("")),
        Credentials::Anonymous => builder.skip_signature().disable_config_load().disable_ec2_metadata(),
        Credentials::Static { access_key, secret, session_token } => builder
            .access_key_id(access_key)
            .secret_access_key(secret)
            .session_token(session_token.as_deref().unwrap_or(""))
            .disable_config_load()
            .disable_ec2_metadata(),
    }
}

fn build<B: Builder>(builder: B) -> Result<Servicer, Error> {
    Ok(Arc::new(builder.build()?))
}

fn is_address(endpoint: &str) -> bool {
    url::Url::parse(endpoint).ok().is_some_and(|url| !matches!(url.host(), Some(url::Host::Domain(_)) | None))
}
