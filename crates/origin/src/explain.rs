//! From what a store answered to what the caller should do: the one place that knows the codes of stores.

use std::time::Duration;

use crate::Scheme;
use crate::error::OriginErrorKind;
use crate::metrics::Op;
use crate::transport::{Notes, PROXY_CREDENTIALS};

/// A request that failed, judged.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub(crate) kind: OriginErrorKind,
    /// What happened and what to do; the operation and the object are put before it.
    pub(crate) what: String,
    /// Whether asking again may help.
    pub(crate) retry: bool,
    /// Whether other credentials may help.
    pub(crate) renew: bool,
    /// How long the store asked to be left alone.
    pub(crate) after: Option<Duration>,
}

impl Failure {
    pub(crate) fn last(kind: OriginErrorKind, what: impl Into<String>) -> Self {
        Self { kind, what: what.into(), retry: false, renew: false, after: None }
    }

    pub(crate) fn again(what: impl Into<String>) -> Self {
        Self { kind: OriginErrorKind::Unavailable, what: what.into(), retry: true, renew: false, after: None }
    }

    pub(crate) fn changed() -> Self {
        Self::last(OriginErrorKind::Changed, "the object is no longer the version asked for")
    }
}

/// Judges `error` by what the transport noted.
pub(crate) fn explain(scheme: Scheme, op: Op, error: &opendal::Error, notes: &Notes) -> Failure {
    if let Some(broken) = &notes.broken {
        return match broken.remedy {
            Some(remedy) => Failure::last(OriginErrorKind::Denied, format!("{}; {remedy}", broken.cause)),
            None => Failure::again(format!("no answer: {}", broken.cause)),
        };
    }
    match notes.status {
        Some(status) if !(200..300).contains(&status) => by_status(scheme, op, status, notes),
        _ if notes.credentials_failed => {
            Failure::again("credentials could not be renewed: their giver does not answer")
        }
        _ => by_kind(scheme, error),
    }
}

fn by_status(scheme: Scheme, op: Op, status: u16, notes: &Notes) -> Failure {
    let code = notes.code.as_deref().unwrap_or("");
    let said = said(status, notes);
    let denied = |advice: &str| Failure::last(OriginErrorKind::Denied, format!("{said}; {advice}"));
    let renewable = |advice: &str| Failure { renew: true, ..denied(advice) };
    match (status, code) {
        // GCS has one code for all that is missing: where it lists, that is the bucket.
        (404, _) if scheme == Scheme::Gs && op == Op::List => denied(BUCKET),
        (_, "NoSuchBucket" | "ContainerNotFound" | "ContainerBeingDeleted" | "NoSuchBucketPolicy") => denied(BUCKET),
        (_, "RequestTimeTooSkewed") => denied("the clock of this machine is wrong: set it, by NTP for instance"),
        (_, "InvalidObjectState" | "BlobArchived") => {
            denied("the object is archived: restore it to an online class first")
        }
        (_, code) if code.starts_with("KMS.") => {
            denied("the key that encrypts the object cannot be used: check the key's policy")
        }
        (_, "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" | "ExpiredTokenException") => {
            renewable("the credentials have expired: renew them")
        }
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidSecurity" | "AuthenticationFailed") => {
            renewable("check the access key and the secret")
        }
        (
            _,
            "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
            | "TemporaryRedirect"
            | "IllegalLocationConstraintException",
        )
        | (301 | 302 | 307 | 308, _) => match &notes.region {
            Some(region) => denied(&format!("the bucket is in region `{region}`: set it")),
            None => denied("the endpoint or the region is not the bucket's: set both"),
        },
        (_, "RequestTimeout" | "SlowDown" | "InternalError" | "ServiceUnavailable") => transient(said, notes),
        (304 | 412 | 416, _) => Failure::changed(),
        (404 | 410, _) => Failure::last(OriginErrorKind::NotFound, said),
        (408 | 425 | 429 | 499 | 500 | 502..=504 | 509, _) => transient(said, notes),
        (405 | 501, _) => Failure::last(OriginErrorKind::Unsupported, format!("{said}; the server cannot do this")),
        (407, _) => denied(PROXY_CREDENTIALS),
        (401, _) => renewable(&format!("give valid credentials: {}", where_credentials_come_from(scheme))),
        (403, _) if scheme.is_web() => denied("the server does not let this object be read"),
        // S3 answers a HEAD without a body, so nothing says why.
        (400 | 403, "") => renewable(&permissions(scheme)),
        (403, _) => denied(&permissions(scheme)),
        (505.., _) => transient(said, notes),
        _ => Failure::last(OriginErrorKind::Denied, said),
    }
}

const BUCKET: &str = "check the name of the bucket, the endpoint and the region";

fn permissions(scheme: Scheme) -> String {
    let mut advice = "check the credentials and that they may read and list here".to_owned();
    match scheme {
        Scheme::S3 => advice.push_str("; a requester-pays bucket needs `requester_pays`"),
        Scheme::Az => advice.push_str(
            ": AZURE_STORAGE_ACCOUNT_NAME must be the endpoint's account and AZURE_STORAGE_ACCOUNT_KEY its key",
        ),
        _ => {}
    }
    advice
}

fn transient(said: String, notes: &Notes) -> Failure {
    Failure { after: notes.retry_after, ..Failure::again(said) }
}

fn said(status: u16, notes: &Notes) -> String {
    let mut text = format!("the origin answered {status}");
    if let Some(code) = &notes.code {
        text.push_str(&format!(" {code}"));
    }
    if let Some(detail) = &notes.detail {
        text.push_str(&format!(" ({detail})"));
    }
    text
}

/// Where no HTTP answer says what happened: another protocol, or an answer that could not be understood.
fn by_kind(scheme: Scheme, error: &opendal::Error) -> Failure {
    use opendal::ErrorKind;
    // What follows the first line is a stack of Java's calls.
    let text: String =
        error.message().lines().next().unwrap_or("").chars().filter(|c| !c.is_control()).take(300).collect();
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory => {
            Failure::last(OriginErrorKind::NotFound, text)
        }
        ErrorKind::ConditionNotMatch | ErrorKind::RangeNotSatisfied => Failure::changed(),
        ErrorKind::ConfigInvalid => Failure::last(OriginErrorKind::Invalid, text),
        ErrorKind::Unsupported => Failure::last(OriginErrorKind::Unsupported, text),
        ErrorKind::RateLimited => Failure::again(text),
        _ if is_about_credentials(&text) => Failure::last(
            OriginErrorKind::Denied,
            format!("{text}; no usable credentials were found: {}", where_credentials_come_from(scheme)),
        ),
        _ if scheme == Scheme::Hdfs && is_refusal_of_hdfs(error) => Failure::last(
            OriginErrorKind::Denied,
            format!("{text}; set HADOOP_USER_NAME to a user who may read this, or give a Kerberos ticket (kinit)"),
        ),
        ErrorKind::PermissionDenied => Failure::last(OriginErrorKind::Denied, text),
        _ if error.is_temporary() || scheme == Scheme::Hdfs => Failure::again(with_cause(&text, error)),
        _ if text.contains("content length") => Failure::last(
            OriginErrorKind::Unsupported,
            "the server does not tell the object's size (no Content-Length)",
        ),
        _ => Failure::last(OriginErrorKind::Unavailable, with_cause(&text, error)),
    }
}

fn with_cause(text: &str, error: &opendal::Error) -> String {
    let mut innermost: Option<&dyn std::error::Error> = std::error::Error::source(error);
    while let Some(source) = innermost.and_then(std::error::Error::source) {
        innermost = Some(source);
    }
    // Only a system's error is sure to hold neither URL nor secret.
    match innermost.and_then(|cause| cause.downcast_ref::<std::io::Error>()) {
        Some(cause) => format!("{text}: {cause}"),
        None => text.to_owned(),
    }
}

fn is_about_credentials(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    lower.contains("credential") || lower.contains("signing") || lower.contains("sign the request")
}

/// OpenDAL has no kind for these; its cause, the native client's error, names Java's exception.
fn is_refusal_of_hdfs(error: &opendal::Error) -> bool {
    let cause = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    ["AccessControlException", "SASL", "GSSAPI"].iter().any(|word| cause.contains(word))
}

fn where_credentials_come_from(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::S3 => "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile, or ask for anonymous access",
        Scheme::Gs => "set GOOGLE_APPLICATION_CREDENTIALS, or ask for anonymous access",
        Scheme::Az => {
            "set AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, or log in, or ask for anonymous access"
        }
        Scheme::Oss => "set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        Scheme::Cos => "set TENCENTCLOUD_SECRET_ID and TENCENTCLOUD_SECRET_KEY",
        Scheme::Hf => "set HF_TOKEN",
        Scheme::File | Scheme::Hdfs | Scheme::Http | Scheme::Https => "this kind of origin takes none",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(status: u16, code: &str, kind: OriginErrorKind, retry: bool, advice: &str) {
        let notes = Notes {
            status: Some(status),
            code: (!code.is_empty()).then(|| code.to_owned()),
            region: Some("eu-north-1".to_owned()),
            ..Notes::default()
        };
        let error = opendal::Error::new(opendal::ErrorKind::Unexpected, "x");
        let failure = explain(Scheme::S3, Op::Get, &error, &notes);
        assert_eq!((failure.kind, failure.retry), (kind, retry), "{status} {code}");
        assert!(failure.what.contains(advice), "{status} {code}: {}", failure.what);
    }

    #[test]
    fn says_what_to_do() {
        use OriginErrorKind::{Changed, Denied, NotFound, Unavailable, Unsupported};
        check(404, "NoSuchKey", NotFound, false, "");
        check(404, "NoSuchBucket", Denied, false, "name of the bucket");
        check(403, "RequestTimeTooSkewed", Denied, false, "clock");
        check(403, "InvalidObjectState", Denied, false, "restore");
        check(403, "AccessDenied", Denied, false, "requester_pays");
        check(400, "KMS.DisabledException", Denied, false, "key");
        check(400, "ExpiredToken", Denied, false, "renew");
        check(403, "SignatureDoesNotMatch", Denied, false, "secret");
        check(301, "PermanentRedirect", Denied, false, "eu-north-1");
        check(301, "", Denied, false, "eu-north-1");
        check(412, "PreconditionFailed", Changed, false, "");
        check(416, "InvalidRange", Changed, false, "");
        check(503, "SlowDown", Unavailable, true, "SlowDown");
        check(500, "InternalError", Unavailable, true, "");
        check(429, "", Unavailable, true, "429");
        check(401, "", Denied, false, "AWS_ACCESS_KEY_ID");
        check(400, "RequestTimeout", Unavailable, true, "");
        check(501, "NotImplemented", Unsupported, false, "");
    }
    #[test]
    fn what_is_missing_where_gcs_lists_is_the_bucket() {
        let notes = Notes { status: Some(404), code: Some("notFound".to_owned()), ..Notes::default() };
        let error = opendal::Error::new(opendal::ErrorKind::NotFound, "x");
        let kind = |op| explain(Scheme::Gs, op, &error, &notes).kind;
        assert_eq!((kind(Op::Head), kind(Op::List)), (OriginErrorKind::NotFound, OriginErrorKind::Denied));
    }

    #[test]
    fn who_may_not_read_in_hdfs_is_told_so_and_not_asked_to_wait() {
        let cause =
            std::io::Error::other("RPC error: org.apache.hadoop.security.AccessControlException Permission denied");
        let error = opendal::Error::new(opendal::ErrorKind::Unexpected, "Permission denied: user=x\n\tat java")
            .set_source(cause);
        let failure = explain(Scheme::Hdfs, Op::Get, &error, &Notes::default());
        assert_eq!((failure.kind, failure.retry), (OriginErrorKind::Denied, false));
        assert!(failure.what.starts_with("Permission denied: user=x; set HADOOP_USER_NAME"), "{}", failure.what);
        let error = opendal::Error::new(opendal::ErrorKind::Unexpected, "the connection is closed");
        assert!(explain(Scheme::Hdfs, Op::Get, &error, &Notes::default()).retry);
    }
}
