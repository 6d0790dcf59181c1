//! A small server in the test's own process that speaks enough S3, and plain HTTP, with faults on demand.
#![allow(dead_code, unreachable_pub, reason = "each test program uses a part of it")]

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use forebay_model::ByteRange;
use forebay_origin::{Credentials, KeySpan, Listed, ObjectMeta, Origin, OriginError, OriginSettings};
use futures_util::{StreamExt, stream};
use parking_lot::Mutex;

pub const BUCKET: &str = "bucket";
pub const LIST_TIME: &str = "2024-01-02T03:04:05.678Z";
pub const HTTP_TIME: &str = "Tue, 02 Jan 2024 03:04:05 GMT";

/// What goes wrong with one answer.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The body stops after so many bytes and the connection closes.
    Short(usize),
    /// The body stops after so many bytes and the connection stays.
    Stall(usize),
    /// No answer at all.
    Silence,
    /// An error with a code.
    Status(u16, &'static str),
    /// The range is ignored.
    Whole,
    /// Other bytes than asked for are sent, and the answer says so.
    Shifted,
    /// The body is chunked and longer than the range.
    Long,
    /// The object changes to this before the answer.
    Change(Vec<u8>, &'static str),
    /// A page of HTML, as a captive proxy sends it, or a listing that was cut.
    Text(&'static str),
    /// No fault.
    None,
}

#[derive(Default)]
pub struct World {
    pub objects: BTreeMap<String, (Bytes, String)>,
    /// Taken one a GET of an object.
    pub faults: VecDeque<Fault>,
    /// Every answer.
    pub always: Option<Fault>,
    /// The access key that must have signed.
    pub access_key: Option<String>,
    /// Keys of a page of a listing.
    pub page: usize,
    pub no_etag: bool,
    pub weak_etag: bool,
    pub no_time: bool,
    /// Each page of a listing is the first one.
    pub endless: bool,
    /// Begins each listing at the first key, whatever is asked for.
    pub ignores_start: bool,
    /// Old versions by key and id, with their etags; ids of the current ones by key.
    pub old: BTreeMap<(String, String), (Bytes, String)>,
    pub ids: BTreeMap<String, String>,
    /// Uploads in parts that were not ended.
    pub uploads: BTreeMap<String, BTreeMap<u32, Bytes>>,
    /// Method and path of every request.
    pub log: Vec<String>,
}

#[derive(Clone, Default)]
pub struct Server {
    pub world: Arc<Mutex<World>>,
    pub endpoint: String,
}

impl Server {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
        let server = Self { world: Arc::default(), endpoint };
        server.world.lock().page = 1000;
        let app = axum::Router::new().fallback(answer).with_state(server.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        server
    }

    pub fn put(&self, key: &str, bytes: impl Into<Vec<u8>>) {
        let bytes: Vec<u8> = bytes.into();
        let etag = format!("\"{:x}-{}\"", bytes.iter().map(|b| u64::from(*b)).sum::<u64>(), bytes.len());
        self.world.lock().objects.insert(key.to_owned(), (Bytes::from(bytes), etag));
    }

    pub fn fault(&self, faults: impl IntoIterator<Item = Fault>) {
        self.world.lock().faults.extend(faults);
    }

    pub fn settings(&self, prefix: &str) -> OriginSettings {
        let mut settings = OriginSettings::new(format!("s3://{BUCKET}/{prefix}").parse().expect("an address"));
        settings.endpoint = Some(self.endpoint.clone());
        settings.credentials =
            Credentials::Static { access_key: "AK".to_owned(), secret: "SECRET".to_owned(), session_token: None };
        settings.stall = Duration::from_millis(300);
        settings
    }

    pub fn origin(&self) -> Origin {
        Origin::open(self.settings("")).expect("opens")
    }

    pub fn requests(&self, method: &str) -> usize {
        self.world.lock().log.iter().filter(|line| line.starts_with(method)).count()
    }
}

pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub fn within(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

pub async fn read(origin: &Origin, key: &str, meta: &ObjectMeta, range: ByteRange) -> Result<Vec<u8>, OriginError> {
    let mut stream = origin.read(key, &meta.version, meta.size, range, soon()).await?;
    let mut read = Vec::new();
    while let Some(piece) = stream.next().await? {
        assert!(!piece.is_empty());
        read.extend_from_slice(&piece);
    }
    assert_eq!(read.len() as u64, range.len());
    Ok(read)
}

pub async fn read_all(origin: &Origin, key: &str) -> Result<Vec<u8>, OriginError> {
    let meta = origin.stat(key, soon()).await?;
    read(origin, key, &meta, ByteRange::new(0, meta.size)).await
}

pub async fn list(origin: &Origin, prefix: &str) -> Result<Vec<Listed>, OriginError> {
    let mut listing = origin.list(prefix);
    let mut all = Vec::new();
    while let Some(batch) = listing.next_batch().await? {
        assert!(!batch.is_empty());
        all.extend(batch);
    }
    all.sort_by(|a, b| a.key().cmp(b.key()));
    Ok(all)
}

/// All that is listed in parts, and whether all was covered without a hole; nothing, if it is listed in no order.
pub async fn list_parts(origin: &Origin, prefix: &str, gaps: Vec<KeySpan>) -> Result<Vec<Listed>, OriginError> {
    let expected = if origin.lists_ranges() { gaps.clone() } else { Vec::new() };
    let mut listing = origin.list_parts(prefix, gaps);
    let (mut all, mut covered) = (Vec::new(), Vec::new());
    while let Some(part) = listing.next().await? {
        if let Some(span) = part.covered {
            assert!(part.entries.is_sorted_by(|a, b| a.key() < b.key()));
            assert!(part.entries.iter().all(|entry| span.contains(entry.key())));
            covered.push(span);
        }
        all.extend(part.entries);
    }
    covered.sort_by(|a, b| a.after.cmp(&b.after));
    // What borders on each other is one.
    let mut joined: Vec<KeySpan> = Vec::new();
    for span in covered {
        match joined.last_mut() {
            Some(last) if last.until.as_ref() == Some(&span.after) => last.until = span.until,
            _ => joined.push(span),
        }
    }
    assert_eq!(joined, expected);
    all.sort_by(|a, b| a.key().cmp(b.key()));
    Ok(all)
}

pub fn keys(listed: &[Listed]) -> Vec<&str> {
    listed.iter().map(Listed::key).collect()
}

async fn answer(State(server): State<Server>, request: Request) -> Response {
    let (request, body) = request.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
    let fault = {
        let mut world = server.world.lock();
        world.log.push(format!("{} {}", request.method, request.uri.path()));
        let is_list = request.uri.query().is_some_and(|query| query.contains("list-type"));
        match world.always.clone() {
            Some(fault) => fault,
            None if matches!(request.method.as_str(), "GET" | "PUT" | "POST") && !is_list => {
                world.faults.pop_front().unwrap_or(Fault::None)
            }
            None => Fault::None,
        }
    };
    if matches!(fault, Fault::Silence) {
        std::future::pending::<()>().await;
    }
    respond(&server, &request, &body, &fault)
}

fn respond(server: &Server, request: &axum::http::request::Parts, sent: &Bytes, fault: &Fault) -> Response {
    let method = request.method.as_str().to_owned();
    let path = request.uri.path().to_owned();
    let header = |name: &str| request.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let (range, if_match, signature) = (header("range"), header("if-match"), header("authorization"));
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(request.uri.query().unwrap_or("").as_bytes()).into_owned().collect();
    let mut key = path.trim_start_matches('/').to_owned();
    let is_s3 = key == BUCKET || key.starts_with(&format!("{BUCKET}/"));
    if is_s3 {
        key = key[BUCKET.len()..].strip_prefix('/').unwrap_or("").to_owned();
    }
    let key = percent_encoding::percent_decode_str(&key).decode_utf8().expect("UTF-8").into_owned();

    match fault {
        Fault::Status(status, code) => return error(*status, code, &method),
        Fault::Text(text) => return Response::new(Body::from(*text)),
        Fault::Change(bytes, etag) => {
            server.world.lock().objects.insert(key.clone(), (Bytes::from(bytes.clone()), (*etag).to_owned()));
        }
        _ => {}
    }
    if matches!(method.as_str(), "PUT" | "POST" | "DELETE") {
        return write(server, &method, &key, &query, sent);
    }
    let world = server.world.lock();
    if let Some(wanted) = &world.access_key
        && !signature.contains(&format!("Credential={wanted}/"))
    {
        return error(403, "InvalidAccessKeyId", &method);
    }
    if query.contains_key("list-type") {
        return page(&world, &query);
    }
    if query.contains_key("versions") {
        return versions(&world, &query);
    }
    let found = match query.get("versionId") {
        Some(id) if world.ids.get(&key) != Some(id) => world.old.get(&(key.clone(), id.clone())),
        _ => world.objects.get(&key),
    };
    let Some((bytes, etag)) = found.cloned() else { return error(404, "NoSuchKey", &method) };
    if !if_match.is_empty() && if_match != etag && !world.no_etag {
        return error(412, "PreconditionFailed", &method);
    }
    let mut response = Response::builder();
    if !world.no_etag {
        response = response.header("etag", if world.weak_etag { format!("W/{etag}") } else { etag });
    }
    if !world.no_time {
        response = response.header("last-modified", HTTP_TIME);
    }
    if method == "HEAD" {
        return response.header("content-length", bytes.len()).body(Body::empty()).expect("a response");
    }
    let (mut first, mut last) = (0, bytes.len());
    if let Some((start, end)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-'))
        && !matches!(fault, Fault::Whole)
    {
        first = start.parse().expect("a number");
        last = end.parse::<usize>().map_or(bytes.len(), |end| (end + 1).min(bytes.len()));
        if first >= bytes.len() {
            return error(416, "InvalidRange", &method);
        }
        if matches!(fault, Fault::Shifted) {
            (first, last) = (first.saturating_sub(1), last - 1);
        }
        let total = bytes.len();
        response = response.status(206).header("content-range", format!("bytes {first}-{}/{total}", last - 1));
    }
    let body = bytes.slice(first..last);
    let cut = |length: usize, body: &Bytes| {
        let start: Result<Bytes, std::io::Error> = Ok(body.slice(..length.min(body.len())));
        stream::once(async { start })
    };
    match fault {
        Fault::Short(length) => {
            let broken = stream::once(async { Err(std::io::Error::other("cut")) });
            let body_stream = cut(*length, &body).chain(broken);
            response.header("content-length", body.len()).body(Body::from_stream(body_stream)).expect("a response")
        }
        Fault::Stall(length) => {
            let body_stream = cut(*length, &body).chain(stream::pending());
            response.header("content-length", body.len()).body(Body::from_stream(body_stream)).expect("a response")
        }
        Fault::Long => {
            let more: Result<Bytes, std::io::Error> = Ok(Bytes::from_static(b"more"));
            let body_stream = cut(usize::MAX, &body).chain(stream::once(async { more }));
            response.body(Body::from_stream(body_stream)).expect("a response")
        }
        _ => response.header("content-length", body.len()).body(Body::from(body)).expect("a response"),
    }
}

/// A whole object, or one in parts.
fn write(server: &Server, method: &str, key: &str, query: &BTreeMap<String, String>, sent: &Bytes) -> Response {
    let xml = |text: String| Response::new(Body::from(text));
    let upload = query.get("uploadId").cloned();
    match (method, upload) {
        ("POST", None) => {
            let mut world = server.world.lock();
            let id = format!("u{}", world.log.len());
            world.uploads.insert(id.clone(), BTreeMap::new());
            xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
        }
        ("PUT", Some(id)) => {
            let number: u32 = query["partNumber"].parse().expect("a number");
            let mut world = server.world.lock();
            world.uploads.get_mut(&id).expect("an upload").insert(number, sent.clone());
            Response::builder().header("etag", format!("\"p{number}\"")).body(Body::empty()).expect("a response")
        }
        ("POST", Some(id)) => {
            let parts = server.world.lock().uploads.remove(&id).expect("an upload");
            server.put(key, parts.into_values().collect::<Vec<_>>().concat());
            xml("<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>".to_owned())
        }
        ("DELETE", Some(id)) => {
            server.world.lock().uploads.remove(&id);
            Response::builder().status(204).body(Body::empty()).expect("a response")
        }
        _ => {
            server.put(key, sent.to_vec());
            Response::builder().header("etag", "\"e\"").body(Body::empty()).expect("a response")
        }
    }
}

/// All versions, the current one of each key first, by pages.
fn versions(world: &World, query: &BTreeMap<String, String>) -> Response {
    let get = |name: &str| query.get(name).map_or("", String::as_str);
    let (prefix, after, limit) = (get("prefix"), get("key-marker"), world.page);
    let mut keys: Vec<&String> = world.objects.keys().chain(world.old.keys().map(|(key, _)| key)).collect();
    keys.sort();
    keys.dedup();
    keys.retain(|key| key.starts_with(prefix) && (after.is_empty() || key.as_str() > after));
    let is_truncated = keys.len() > limit;
    keys.truncate(limit);
    let mut entries = String::new();
    for key in &keys {
        let version = |id: &str, is_latest: bool, (bytes, etag): &(Bytes, String)| {
            format!(
                "<Version><Key>{}</Key><VersionId>{id}</VersionId><IsLatest>{is_latest}</IsLatest><LastModified>{LIST_TIME}\
                 </LastModified><ETag>{}</ETag><Size>{}</Size></Version>",
                escape(key),
                escape(etag),
                bytes.len()
            )
        };
        match world.objects.get(*key) {
            Some(object) => entries += &version(world.ids.get(*key).map_or("null", String::as_str), true, object),
            None => {
                entries += &format!(
                    "<DeleteMarker><Key>{}</Key><VersionId>d</VersionId><IsLatest>true</IsLatest>\
                     <LastModified>{LIST_TIME}</LastModified></DeleteMarker>",
                    escape(key)
                );
            }
        }
        for ((of, id), object) in world.old.iter().filter(|((of, _), _)| of == *key) {
            debug_assert_eq!(of, *key);
            entries += &version(id, false, object);
        }
    }
    let next = keys.last().filter(|_| is_truncated).map_or(String::new(), |key| {
        format!("<NextKeyMarker>{}</NextKeyMarker><NextVersionIdMarker>x</NextVersionIdMarker>", escape(key))
    });
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListVersionsResult><Name>{BUCKET}</Name>\
         <IsTruncated>{is_truncated}</IsTruncated>{next}{entries}</ListVersionsResult>"
    );
    Response::builder().header("content-type", "application/xml").body(Body::from(xml)).expect("a response")
}

fn error(status: u16, code: &str, method: &str) -> Response {
    let body = format!("<Error><Code>{code}</Code><Message>the test says so</Message></Error>");
    let body = if method == "HEAD" { Body::empty() } else { Body::from(body) };
    Response::builder().status(status).body(body).expect("a response")
}

fn page(world: &World, query: &BTreeMap<String, String>) -> Response {
    let get = |name: &str| query.get(name).map_or("", String::as_str);
    let (prefix, delimiter) = (get("prefix"), get("delimiter"));
    let after = match get("continuation-token") {
        _ if world.endless => "",
        "" if world.ignores_start => "",
        "" => get("start-after"),
        token => token,
    };
    let limit = get("max-keys").parse::<usize>().unwrap_or(1000).min(world.page);
    let (mut contents, mut prefixes, mut last) = (String::new(), Vec::<String>::new(), String::new());
    let mut count = 0;
    let mut truncated = world.endless;
    for (key, (bytes, etag)) in &world.objects {
        let Some(rest) = key.strip_prefix(prefix) else { continue };
        let slash = if delimiter.is_empty() { None } else { rest.find('/') };
        let entry = slash.map_or_else(|| key.clone(), |at| key[..=prefix.len() + at].to_owned());
        if (!after.is_empty() && entry.as_str() <= after) || prefixes.contains(&entry) {
            continue;
        }
        if count == limit {
            truncated = true;
            break;
        }
        count += 1;
        last.clone_from(&entry);
        if slash.is_some() {
            prefixes.push(entry);
        } else {
            contents.push_str(&format!(
                "<Contents><Key>{}</Key><LastModified>{LIST_TIME}</LastModified><ETag>{}</ETag><Size>{}</Size></Contents>",
                escape(key),
                escape(etag),
                bytes.len()
            ));
        }
    }
    let prefixes: String = prefixes
        .iter()
        .map(|prefix| format!("<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", escape(prefix)))
        .collect();
    let token = if truncated {
        format!("<NextContinuationToken>{}</NextContinuationToken>", escape(&last))
    } else {
        String::new()
    };
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?><ListBucketResult><Name>{BUCKET}</Name>\
         <IsTruncated>{truncated}</IsTruncated>{token}{contents}{prefixes}</ListBucketResult>"
    );
    Response::builder().header("content-type", "application/xml").body(Body::from(xml)).expect("a response")
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&#34;"),
            c if c.is_control() => escaped.push_str(&format!("&#x{:X};", c as u32)),
            c => escaped.push(c),
        }
    }
    escaped
}
