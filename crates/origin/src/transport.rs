//! The HTTP client below OpenDAL: one connection pool an origin, and a note of what each answer said.
//!
//! OpenDAL's errors and metadata drop what the rules of this crate need (the status, the code in the body, the range that
//! was really sent), so the transport notes it for the call that is under way. It also bounds what a bad server can send.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use futures_util::stream;
use http::header;
use opendal::raw::Operation;
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport, Result};
use parking_lot::Mutex;

use crate::error::{OriginError, OriginErrorKind};
use crate::list_page::{ListPage, PageProblem};
use crate::metrics::{Op, OriginMetrics};
use crate::{OriginSettings, Scheme, list_json, list_xml};

/// A connection that is not there after this long will not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Instance metadata answers at once where there is any; where there is none, a start must not hang on it.
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);
/// A request for credentials.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(8);
/// Idle connections are kept this long: below the 20 s after which S3 closes them.
const POOL_IDLE: Duration = Duration::from_secs(15);
/// Redirects that are followed, for web servers and the Hub only.
const MAX_REDIRECTS: usize = 5;
/// The largest answer that is not an object's bytes: a page of 1000 keys of 1024 bytes each, encoded, with room.
const ANSWER_MAX: usize = 16 << 20;
/// How much of an error's body is read.
const ERROR_BODY_MAX: usize = 64 << 10;

tokio::task_local! {
    static NOTES: Arc<Mutex<Notes>>;
    static PAGE: Arc<Mutex<PageSlot>>;
}

/// Where a page of a listing is put that is read here and not by OpenDAL.
#[derive(Debug, Default)]
pub(crate) struct PageSlot {
    /// Whether objects without etag and time are taken.
    pub(crate) allows_unproved: bool,
    pub(crate) page: Option<ListPage>,
}

/// What the last answer of a call said.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notes {
    pub(crate) status: Option<u16>,
    /// The store's own code and text of an error.
    pub(crate) code: Option<String>,
    pub(crate) detail: Option<String>,
    /// The region that the bucket is in.
    pub(crate) region: Option<String>,
    pub(crate) retry_after: Option<Duration>,
    /// First byte, last byte and total, of a partial answer.
    pub(crate) content_range: Option<(u64, u64, Option<u64>)>,
    pub(crate) content_length: Option<u64>,
    /// What broke below HTTP.
    pub(crate) broken: Option<Broken>,
    /// Whether the giver of credentials, not the store, failed in a way that may pass.
    pub(crate) credentials_failed: bool,
}

/// What to do about a proxy that lets nobody through.
pub(crate) const PROXY_CREDENTIALS: &str = "the proxy wants credentials: give them in HTTPS_PROXY or HTTP_PROXY";

/// A request that got no answer.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    pub(crate) cause: String,
    /// What must be set before it can be answered; none if asking again may help.
    pub(crate) remedy: Option<&'static str>,
}

/// Runs `call` with `notes` for its answers.
pub(crate) async fn noting<T>(notes: Arc<Mutex<Notes>>, call: impl Future<Output = T>) -> T {
    NOTES.scope(notes, call).await
}

/// Runs `call` so that the pages of listings that it is answered are put into `slot`. To OpenDAL each looks like a page with
/// one entry: it signs, sends, and goes on from page to page, but reads none.
pub(crate) async fn into_slot<T>(slot: Arc<Mutex<PageSlot>>, call: impl Future<Output = T>) -> T {
    PAGE.scope(slot, call).await
}

/// The client of one origin.
pub(crate) struct Transport {
    client: reqwest::Client,
    metrics: OriginMetrics,
    latency: Duration,
    accept_encoding: header::HeaderValue,
    scheme: Scheme,
}

impl Transport {
    pub(crate) fn new(settings: &OriginSettings, metrics: OriginMetrics) -> std::result::Result<Self, OriginError> {
        let invalid = |why: String| OriginError::new(OriginErrorKind::Invalid, format!("{}: {why}", settings.url));
        // A signed request must not carry its token to another host; where a store redirects, the region is wrong.
        let redirect = match settings.url.scheme {
            Scheme::Http | Scheme::Https | Scheme::Hf => reqwest::redirect::Policy::limited(MAX_REDIRECTS),
            _ => reqwest::redirect::Policy::none(),
        };
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("forebay/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(settings.max_requests)
            .tcp_nodelay(true)
            .http1_only()
            .redirect(redirect)
            .referer(false)
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .retry(reqwest::retry::never());
        if let Some(path) = &settings.ca_file {
            let pem = std::fs::read(path)
                .map_err(|error| invalid(format!("certificate file {}: {error}", path.display())))?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem)
                .map_err(|error| invalid(format!("certificate file {}: {}", path.display(), cause(&error))))?;
            if certificates.is_empty() {
                return Err(invalid(format!("certificate file {} holds no certificate", path.display())));
            }
            builder = builder.tls_certs_merge(certificates);
        }
        let client = builder.build().map_err(|error| invalid(format!("HTTP client: {}", cause(&error))))?;
        // GCS unpacks what was stored packed unless the reader says that it takes it packed.
        let accepted = if settings.url.scheme == Scheme::Gs { "gzip" } else { "identity" };
        Ok(Self {
            client,
            metrics,
            latency: settings.injected_latency,
            accept_encoding: header::HeaderValue::from_static(accepted),
            scheme: settings.url.scheme,
        })
    }

    fn note(change: impl FnOnce(&mut Notes)) {
        // Outside a call there is nobody to note for.
        let _ = NOTES.try_with(|notes| change(&mut notes.lock()));
    }
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: http::Request<Buffer>) -> Result<http::Response<HttpBody>> {
        let (mut parts, body) = request.into_parts();
        let operation = parts.extensions.get::<Operation>().copied();
        let url = reqwest::Url::parse(&parts.uri.to_string())
            .map_err(|error| Error::new(ErrorKind::ConfigInvalid, format!("the address is no URL: {error}")))?;
        parts.headers.entry(header::ACCEPT_ENCODING).or_insert_with(|| self.accept_encoding.clone());
        let limit = match operation {
            Some(_) => None,
            None if is_metadata_host(&url) => Some(METADATA_TIMEOUT),
            None => Some(CREDENTIALS_TIMEOUT),
        };
        let mut request = self.client.request(parts.method, url).headers(parts.headers);
        if !body.is_empty() {
            request = request.body(body.to_bytes());
        }
        if let Some(limit) = limit {
            request = request.timeout(limit);
        }
        match operation {
            Some(Operation::Read) => self.metrics.request(Op::Get, self.latency).await,
            Some(Operation::List) => self.metrics.request(Op::List, self.latency).await,
            Some(_) => self.metrics.request(Op::Head, self.latency).await,
            None => {}
        }
        let response = request.send().await.map_err(|error| {
            let broken = Broken::of(&error);
            let text = broken.cause.clone();
            if operation.is_some() {
                Self::note(|notes| *notes = Notes { broken: Some(broken), ..Notes::default() });
            } else if limit != Some(METADATA_TIMEOUT) {
                Self::note(|notes| notes.credentials_failed = true);
            }
            Error::new(ErrorKind::Unexpected, text).set_temporary()
        })?;
        let status = response.status();
        if operation.is_some() {
            Self::note(|notes| *notes = Notes::of(status.as_u16(), response.headers()));
        } else if status.is_server_error() || status.as_u16() == 429 {
            Self::note(|notes| notes.credentials_failed = true);
        }
        let mut answer = http::Response::builder().status(status).version(response.version());
        if let Some(headers) = answer.headers_mut() {
            headers.clone_from(response.headers());
        }
        let body = if operation.is_some() && !status.is_success() {
            let text = read_bounded(response, ERROR_BODY_MAX).await.unwrap_or_else(|(read, _)| read);
            Self::note(|notes| notes.read_error(&text));
            HttpBody::new(stream::iter([Ok(Buffer::from(text))]), None)
        } else if operation == Some(Operation::List) && self.scheme.has_buckets() {
            let text = read_bounded(response, ANSWER_MAX)
                .await
                .map_err(|(_, why)| Error::new(ErrorKind::Unexpected, why).set_temporary())?;
            let text = match PAGE.try_with(Arc::clone) {
                Ok(slot) => put_page(self.scheme, &slot, &text)?,
                Err(_) => {
                    if let Some(root) = listing_root(self.scheme) {
                        check_listing(&text, root)?;
                    }
                    text
                }
            };
            HttpBody::new(stream::iter([Ok(Buffer::from(text))]), None)
        } else {
            let bound = if operation == Some(Operation::Read) { usize::MAX } else { ANSWER_MAX };
            let mut total = 0usize;
            let chunks = response.bytes_stream().map(move |chunk| {
                let chunk = chunk
                    .map_err(|error| Error::new(ErrorKind::Unexpected, Broken::of(&error).cause).set_temporary())?;
                total = total.saturating_add(chunk.len());
                if total > bound {
                    return Err(Error::new(ErrorKind::Unexpected, "the answer is larger than 16 MiB"));
                }
                Ok(Buffer::from(chunk))
            });
            HttpBody::new(chunks, None)
        };
        answer.body(body).map_err(|error| Error::new(ErrorKind::Unexpected, error.to_string()))
    }
}

impl Notes {
    fn of(status: u16, headers: &header::HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status: Some(status),
            code: text("x-ms-error-code").or_else(|| text("x-amz-error-code")).map(clean),
            detail: None,
            region: text("x-amz-bucket-region").map(clean),
            retry_after: text("retry-after").and_then(|value| value.parse().ok()).map(Duration::from_secs),
            content_range: text("content-range").and_then(parse_content_range),
            content_length: text("content-length").and_then(|value| value.parse().ok()),
            broken: None,
            credentials_failed: false,
        }
    }

    /// Takes code and text from an error's body, in the XML of S3, Azure, OSS and COS or the JSON of GCS.
    fn read_error(&mut self, body: &[u8]) {
        let body = String::from_utf8_lossy(body);
        let within = |tag: &str| {
            let (_, rest) = body.split_once(&format!("<{tag}>"))?;
            let (text, _) = rest.split_once(&format!("</{tag}>"))?;
            (!text.is_empty()).then(|| clean(text))
        };
        if let Some(code) = within("Code") {
            self.code = Some(code);
            self.detail = within("Message");
            self.region = self.region.take().or_else(|| within("Region"));
        } else if let Ok(json) = serde_json::from_str::<serde_json::Value>(&body) {
            let error = &json["error"];
            self.code = self.code.take().or_else(|| error["errors"][0]["reason"].as_str().map(clean));
            self.detail = error["message"].as_str().or_else(|| error.as_str()).map(clean);
        }
    }
}

impl Broken {
    fn of(error: &reqwest::Error) -> Self {
        let cause = cause(error);
        // The library tells these two by their words only.
        let remedy = if cause.contains("certificate") {
            Some("if the authority is private, name its certificates by `ca_file`")
        } else if cause.contains("proxy authorization required") {
            Some(PROXY_CREDENTIALS)
        } else {
            None
        };
        let cause = if error.is_timeout() && remedy.is_none() { "no connection in time".to_owned() } else { cause };
        Self { cause, remedy }
    }
}

/// `bytes 0-99/1234`, or with `*` for an unknown total.
fn parse_content_range(text: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let total = if total == "*" { None } else { Some(total.parse().ok()?) };
    Some((first.parse().ok()?, last.parse().ok()?, total))
}

/// One line of at most 200 characters: what a store says is shown to people and logged.
fn clean(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The innermost cause, without the URL, which may be signed.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    clean(&innermost.to_string())
}

/// A body of at most `bound` bytes; if it breaks or is longer, what came of it and why.
async fn read_bounded(response: reqwest::Response, bound: usize) -> std::result::Result<Bytes, (Bytes, String)> {
    let promised = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut read = BytesMut::with_capacity(promised.min(bound));
    let mut chunks = response.bytes_stream();
    while let Some(chunk) = chunks.next().await {
        match chunk {
            Ok(chunk) if read.len() + chunk.len() <= bound => read.extend_from_slice(&chunk),
            Ok(_) => return Err((read.freeze(), format!("the answer is larger than {bound} bytes"))),
            Err(error) => return Err((read.freeze(), Broken::of(&error).cause)),
        }
    }
    Ok(read.freeze())
}

/// Reads a page into `slot`. What is left for OpenDAL: where the next page begins, and an entry, for it never stops at a page
/// without.
fn put_page(scheme: Scheme, slot: &Mutex<PageSlot>, text: &[u8]) -> Result<Bytes> {
    let allows_unproved = slot.lock().allows_unproved;
    let parse = if scheme == Scheme::Gs { list_json::parse } else { list_xml::parse };
    let page = parse(text, allows_unproved).map_err(|why| {
        let error = Error::new(ErrorKind::Unexpected, why.to_string());
        if why == PageProblem::Unproved {
            Error::new(ErrorKind::Unsupported, why.to_string())
        } else {
            error.set_temporary()
        }
    })?;
    let left = if scheme == Scheme::Gs {
        // A token that is null is none.
        serde_json::json!({"nextPageToken": page.token, "prefixes": ["/"]}).to_string()
    } else {
        let token = page.token.as_deref().map(quick_xml::escape::escape).unwrap_or_default();
        format!(
            "<ListBucketResult><IsTruncated>{}</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>\
             <CommonPrefixes><Prefix>/</Prefix></CommonPrefixes></ListBucketResult>",
            page.is_truncated && page.token.is_some(),
        )
    };
    slot.lock().page = Some(page);
    Ok(left.into())
}

/// The root element of a listing, where listings are XML.
fn listing_root(scheme: Scheme) -> Option<&'static str> {
    match scheme {
        Scheme::S3 | Scheme::Oss | Scheme::Cos => Some("ListBucketResult"),
        Scheme::Az => Some("EnumerationResults"),
        _ => None,
    }
}

/// OpenDAL takes any XML without keys, such as a proxy's page or an answer that was cut, for an empty listing.
fn check_listing(text: &[u8], root: &str) -> Result<()> {
    let (head, tail) = (&text[..text.len().min(1024)], &text[text.len().saturating_sub(128)..]);
    let (head, tail) = (String::from_utf8_lossy(head), String::from_utf8_lossy(tail));
    let is_empty_element = || head.trim_end().ends_with("/>");
    if head.contains(&format!("<{root}")) && (tail.contains(&format!("</{root}>")) || is_empty_element()) {
        return Ok(());
    }
    let why = if head.contains(&format!("<{root}")) { "the listing was cut short" } else { "the answer is no listing" };
    Err(Error::new(ErrorKind::Unexpected, why).set_temporary())
}

/// The addresses at which clouds give credentials to their machines.
fn is_metadata_host(url: &reqwest::Url) -> bool {
    matches!(
        url.host_str(),
        Some(
            "169.254.169.254"
                | "169.254.170.2"
                | "169.254.170.23"
                | "[fd00:ec2::254]"
                | "metadata.google.internal"
                | "100.100.100.200"
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_content_ranges() {
        assert_eq!(parse_content_range("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(parse_content_range("bytes 5-9/*"), Some((5, 9, None)));
        assert_eq!(parse_content_range("bytes */10"), None);
        assert_eq!(parse_content_range("items 5-9/10"), None);
    }

    #[test]
    fn reads_errors_of_stores() {
        let check = |body: &str, code: &str, detail: &str| {
            let mut notes = Notes::default();
            notes.read_error(body.as_bytes());
            assert_eq!((notes.code.as_deref(), notes.detail.as_deref()), (Some(code), Some(detail)), "{body}");
        };
        check("<?xml?><Error><Code>NoSuchKey</Code><Message>gone</Message></Error>", "NoSuchKey", "gone");
        check(r#"{"error":{"code":403,"message":"no","errors":[{"reason":"forbidden"}]}}"#, "forbidden", "no");
    }
}
