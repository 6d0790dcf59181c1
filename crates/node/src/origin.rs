//! Origins behind the node's seam.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_catalog::{Observed, ObservedFile};
use forebay_manifest::Line;
use forebay_model::{ByteRange, Fault, FaultKind, Version};
use forebay_origin::{
    KeySpan, Listed, ObjectMeta, Origin, OriginError, OriginErrorKind, PartListing, ReadStream, Stated, Upload,
};

use crate::upstream::{
    Observation, Piece, Places, Turns, Upstream, UpstreamRead, UpstreamWrite, line_of, list_by_levels,
};

/// What the caller can do about an origin's error is what the reader can do about the fault.
pub fn fault(error: OriginError) -> Fault {
    let kind = match error.kind {
        OriginErrorKind::NotFound => FaultKind::NotFound,
        OriginErrorKind::Changed => FaultKind::Changed,
        // It cannot prove a version: a person must act.
        OriginErrorKind::Denied | OriginErrorKind::Unsupported => FaultKind::Denied,
        OriginErrorKind::TimedOut => FaultKind::TimedOut,
        OriginErrorKind::Unavailable => FaultKind::Unavailable,
        OriginErrorKind::Invalid => FaultKind::Invalid,
    };
    Fault::new(kind, error.message)
}

fn observed(meta: ObjectMeta) -> Observed {
    Observed::File(ObservedFile { size: meta.size, mtime: meta.mtime, version: meta.version })
}

/// What was seen, by its key less `cut` bytes.
fn seen(listed: Listed, cut: usize) -> (String, Observed) {
    match listed {
        Listed::Object { key, meta } => (key[cut..].to_owned(), observed(meta)),
        Listed::Prefix { key } => (key[cut..].to_owned(), Observed::Directory),
    }
}

fn warn_of_hidden(prefix: &str, listing: &PartListing) {
    if listing.hidden() > 0 {
        tracing::warn!(prefix, hidden = listing.hidden(), "names that cannot be shown were left out");
    }
}

#[async_trait]
impl Upstream for Origin {
    async fn probe(&self) -> Result<(), Fault> {
        Origin::probe(self).await.map_err(fault)
    }

    async fn stat(&self, key: &str, deadline: Instant) -> Result<Observed, Fault> {
        match Origin::stat(self, key, deadline).await {
            Ok(meta) => Ok(observed(meta)),
            Err(error) if error.kind == OriginErrorKind::NotFound => Ok(Observed::Absent),
            Err(error) => Err(fault(error)),
        }
    }

    async fn has_prefix(&self, prefix: &str, deadline: Instant) -> Result<bool, Fault> {
        Origin::has_prefix(self, prefix, deadline).await.map_err(fault)
    }

    fn names_per_request(&self) -> u64 {
        Origin::names_per_request(self)
    }

    fn turns(&self) -> Turns {
        let (free, max) = Origin::turns(self);
        Turns { free, max }
    }

    async fn list(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<Observation>) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        let mut listing = Origin::list_parts(self, prefix, vec![KeySpan::whole()]);
        while let Some(part) = listing.next().await.map_err(fault)? {
            sink(part.entries.into_iter().map(|listed| seen(listed, 0)).collect())?;
        }
        warn_of_hidden(prefix, &listing);
        Ok(())
    }

    fn lists_ranges(&self) -> bool {
        Origin::lists_ranges(self)
    }

    async fn list_pieces(
        &self,
        prefix: &str,
        gaps: Vec<Places>,
        sink: &mut (dyn FnMut(Piece) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        let key_of =
            |place: &str| -> Arc<str> { if place.is_empty() { "".into() } else { [prefix, place].concat().into() } };
        let place_of = |key: &str| -> Box<str> { key.strip_prefix(prefix).unwrap_or_default().into() };
        let span = |gap: Places| KeySpan { after: key_of(&gap.after), until: gap.to.as_deref().map(key_of) };
        let mut listing = Origin::list_parts(self, prefix, gaps.into_iter().map(span).collect());
        while let Some(part) = listing.next().await.map_err(fault)? {
            let entries = part.entries.into_iter();
            match part.covered {
                Some(span) => {
                    let places = Places { after: place_of(&span.after), to: span.until.as_deref().map(place_of) };
                    sink(Piece::Range { places, seen: entries.map(|listed| seen(listed, prefix.len())).collect() })?;
                }
                None => sink(Piece::Names(entries.map(|listed| seen(listed, 0)).collect()))?,
            }
        }
        warn_of_hidden(prefix, &listing);
        Ok(())
    }

    async fn read(
        &self,
        key: &str,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<Box<dyn UpstreamRead>, Fault> {
        Upstream::read_by_id(self, key, None, version, size, range, deadline).await
    }

    async fn read_by_id(
        &self,
        key: &str,
        id: Option<&str>,
        version: &Version,
        size: u64,
        range: ByteRange,
        deadline: Instant,
    ) -> Result<Box<dyn UpstreamRead>, Fault> {
        let mut stream = Origin::read_by_id(self, key, id, version, size, range, deadline).await.map_err(fault)?;
        if !stream.is_proved_at_end() {
            return Ok(Box::new(OriginRead(stream)));
        }
        // Proved only by the look at the object after the last piece: nothing is given out before.
        let mut pieces = VecDeque::new();
        while let Some(piece) = stream.next().await.map_err(fault)? {
            pieces.push_back(piece);
        }
        Ok(Box::new(Proved(pieces)))
    }

    fn version_of(&self, line: &Line) -> Option<Version> {
        Origin::version_of(
            self,
            &Stated {
                size: line.size?,
                etag: line.etag.as_deref(),
                version_id: line.version_id.as_deref(),
                mtime: line.mtime,
                file: line.file,
            },
        )
    }

    async fn list_all(
        &self,
        prefix: &str,
        sink: &mut (dyn FnMut(Vec<Line>) -> Result<(), Fault> + Send),
    ) -> Result<(), Fault> {
        if keeps_versions(self, prefix).await {
            let Some(mut listing) = self.list_versions(prefix) else { return Ok(()) };
            while let Some(batch) = listing.next_batch().await.map_err(fault)? {
                let line = |(listed, id): (Listed, Option<Arc<str>>)| Line {
                    version_id: id.map(|id| id.to_string()),
                    ..line_of_listed(listed)
                };
                sink(batch.into_iter().map(line).collect())?;
            }
            return Ok(());
        }
        let Some(mut listing) = Origin::list_all(self, prefix) else {
            return list_by_levels(self, prefix, sink).await;
        };
        while let Some(part) = listing.next().await.map_err(fault)? {
            sink(part.entries.into_iter().map(line_of_listed).collect())?;
        }
        Ok(())
    }

    async fn upload(&self, key: &str, deadline: Instant) -> Result<Box<dyn UpstreamWrite>, Fault> {
        let upload = Origin::upload(self, key, deadline).await.map_err(fault)?;
        Ok(Box::new(OriginWrite(upload)))
    }
}

/// Whether a bucket keeps versions: then the ids on the first page of their listing outlive their objects.
async fn keeps_versions(origin: &Origin, prefix: &str) -> bool {
    let Some(mut first) = origin.list_versions(prefix) else { return false };
    match first.next_batch().await {
        Ok(batch) => batch.is_some_and(|batch| batch.iter().any(|(_, id)| id.is_some())),
        Err(error) => {
            tracing::info!(prefix, %error, "the bucket does not tell ids of versions");
            false
        }
    }
}

/// An object, or an empty one that stands for a directory.
fn line_of_listed(listed: Listed) -> Line {
    match listed {
        Listed::Object { key, meta } => {
            let seen = ObservedFile { size: meta.size, mtime: meta.mtime, version: meta.version };
            line_of(key.to_string(), seen)
        }
        Listed::Prefix { key } => Line { key: key.to_string(), size: Some(0), ..Line::default() },
    }
}

struct OriginWrite(Upload);

#[async_trait]
impl UpstreamWrite for OriginWrite {
    async fn write(&mut self, bytes: Bytes) -> Result<(), Fault> {
        self.0.write(bytes).await.map_err(fault)
    }

    async fn finish(&mut self) -> Result<(), Fault> {
        self.0.finish().await.map_err(fault)
    }

    async fn abort(self: Box<Self>) {
        self.0.abort().await;
    }
}

/// Pieces that are proved as they come.
struct OriginRead(ReadStream);

/// Pieces that were proved together.
struct Proved(VecDeque<Bytes>);

#[async_trait]
impl UpstreamRead for OriginRead {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        self.0.next().await.map_err(fault)
    }
}

#[async_trait]
impl UpstreamRead for Proved {
    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        Ok(self.0.pop_front())
    }
}

/// An origin as a node asks it.
pub fn upstream(origin: Origin) -> Arc<dyn Upstream> {
    Arc::new(origin)
}

#[cfg(test)]
mod tests {
    use forebay_listserver::{Faults, Keys, ListServer, Service, Shape};
    use forebay_origin::{Credentials, OriginSettings};

    use super::*;

    #[tokio::test]
    async fn pieces_are_places_of_the_gaps() {
        let keys = Keys::new(Shape::Numbers, 20_000, "data/");
        let service = Service { keys, latency: std::time::Duration::ZERO, faults: Faults::default() };
        let server = ListServer::start("127.0.0.1:0", service).await.expect("a free port");
        let mut settings = OriginSettings::new("s3://lists/".parse().expect("an address"));
        settings.endpoint = Some(format!("http://{}", server.address()));
        settings.credentials = Credentials::Anonymous;
        let origin = Origin::open(settings).expect("opens");
        let gap = |after: &str, to: Option<&str>| Places { after: after.into(), to: to.map(Into::into) };
        for (gaps, count) in
            [(vec![gap("", None)], 20_000), (vec![gap("", Some("00000999.jpg")), gap("00019998.jpg", None)], 1_001)]
        {
            let mut names = Vec::new();
            let mut sink = |piece| {
                let Piece::Range { places, seen } = piece else { panic!("the server lists in order") };
                let inside = |place: &str| *place > *places.after && places.to.as_deref().is_none_or(|to| place <= to);
                assert!(seen.iter().all(|(place, _)| inside(place)), "{places:?}");
                names.extend(seen.into_iter().map(|(place, _)| place));
                Ok(())
            };
            origin.list_pieces("data/", gaps, &mut sink).await.expect("lists");
            names.sort();
            assert_eq!((names.len(), names.last().map(String::as_str)), (count, Some("00019999.jpg")));
        }
        let mut names = 0;
        let mut count = |part: Vec<Observation>| {
            names += part.iter().filter(|(key, _)| key.starts_with("data/")).count();
            Ok(())
        };
        Upstream::list(&origin, "data/", &mut count).await.expect("lists");
        assert_eq!(names, 20_000);
    }

    #[tokio::test]
    async fn what_is_listed_in_no_order_is_never_a_range() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in 0..2_500 {
            std::fs::write(directory.path().join(format!("{name:04}")), "x").expect("it is written");
        }
        let address = format!("file://{}", directory.path().display());
        let origin = Origin::open(OriginSettings::new(address.parse().expect("an address"))).expect("opens");
        let prefix = format!("{}/", directory.path().display()).trim_start_matches('/').to_owned();
        for (gap, count) in
            [(Places { after: "".into(), to: None }, 2_500), (Places { after: "2499".into(), to: None }, 0)]
        {
            let mut names = 0;
            let mut sink = |piece: Piece| {
                assert!(matches!(piece, Piece::Names(_)), "a range says that nothing else is in it: {piece:?}");
                names += piece.len();
                Ok(())
            };
            origin.list_pieces(&prefix, vec![gap], &mut sink).await.expect("lists");
            assert_eq!(names, count);
        }
    }
}
