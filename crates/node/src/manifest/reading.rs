//! Reads a manifest, file by file, and makes its index.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bytes::Bytes;
use forebay_catalog::{Observed, ObservedFile};
use forebay_manifest::{Builder, Format, INVENTORY_MAX, Index, Inventory, ManifestError, Rules};
use forebay_model::{ByteRange, Fault, FaultKind};
use tokio::sync::mpsc;

use super::fault_of;
use super::files::ManifestFile;
use crate::beside::beside;
use crate::upstream::Upstream;

/// What is asked for in one request: the version is proved by each of them.
const REQUEST: u64 = 8 << 20;
/// How long a request may take, retries included.
const REQUEST_TIME: Duration = Duration::from_secs(120);
/// Pieces on their way to the parser: of at most a mebibyte each.
const PIECES: usize = 8;

/// The reading of one version of a manifest.
pub(super) struct Reading {
    pub(super) file: ManifestFile,
    pub(super) rules: Rules,
    pub(super) path: PathBuf,
    pub(super) seen: ObservedFile,
    pub(super) version: String,
    pub(super) lines: Arc<AtomicU64>,
}

impl Reading {
    pub(super) async fn run(self) -> Result<Index, Fault> {
        let Self { file, rules, path, seen, version, lines } = self;
        let wrong = |why: String| Fault::new(FaultKind::Invalid, format!("{}: {why}", file.address));
        let format = Format::of(&file.key).map_err(wrong)?;
        let directory = path.parent().map(PathBuf::from).unwrap_or_default();
        let bucket = rules.bucket.clone();
        let mut builder = beside(move || Builder::new(&directory, rules, lines)).await?.map_err(fault_of)?;
        if format != Format::Inventory {
            builder = add(builder, &file, &file.key, seen, Part::File(format)).await?;
        } else {
            let report = inventory(&file, seen).await?;
            if bucket.as_ref().is_some_and(|bucket| *bucket != report.bucket) {
                return Err(wrong(format!("the report is of the bucket {}, not of this source's", report.bucket)));
            }
            for name in &report.files {
                let key = file.key_of_part(name);
                let seen = file.upstream.stat(&key, Instant::now() + REQUEST_TIME).await?;
                let Observed::File(seen) = seen else {
                    return Err(wrong(format!("the report names the file {key}, which is not there")));
                };
                let part = match report.format {
                    Format::Csv { .. } => Part::Columns(report.columns.clone()),
                    format => Part::File(format),
                };
                builder = add(builder, &file, &key, seen, part).await?;
            }
        }
        let address = file.address;
        let named = move |error| match error {
            ManifestError::Wrong(why) => ManifestError::Wrong(format!("{address}: {why}")),
            error => error,
        };
        beside(move || builder.finish(&version, Some(&path)).map_err(named)).await?.map_err(fault_of)
    }
}

/// How a file is read.
enum Part {
    File(Format),
    /// CSV of a report, which has these columns.
    Columns(Vec<String>),
}

/// Takes a file of the manifest, as a stream.
async fn add(
    mut builder: Builder,
    file: &ManifestFile,
    key: &str,
    seen: ObservedFile,
    part: Part,
) -> Result<Builder, Fault> {
    let (sender, receiver) = mpsc::channel(PIECES);
    let name = if key == file.key { file.address.clone() } else { format!("{} (file {key})", file.address) };
    let feeder = tokio::spawn(feed(file.upstream.clone(), key.to_owned(), seen, sender));
    let added = beside(move || {
        let stream = Stream { pieces: receiver, piece: Bytes::new(), has_ended: false };
        let added = match part {
            Part::File(format) => builder.add(format, &name, stream),
            Part::Columns(columns) => builder.add_inventory_csv(&columns, &name, stream),
        };
        added.map(|()| builder)
    });
    let added = added.await;
    feeder.abort();
    added?.map_err(fault_of)
}

/// Sends the bytes of a file, and what went wrong.
async fn feed(
    upstream: Arc<dyn Upstream>,
    key: String,
    seen: ObservedFile,
    sender: mpsc::Sender<Result<Bytes, Fault>>,
) {
    let mut start = 0;
    while start < seen.size {
        let range = ByteRange::at(start, REQUEST, seen.size);
        if let Err(fault) = feed_range(&*upstream, &key, &seen, range, &sender).await {
            // Nobody listens: the parser has failed before.
            let _ = sender.send(Err(fault)).await;
            return;
        }
        start = range.end;
    }
    // An end that is said: a stream that just stops was cut.
    let _ = sender.send(Ok(Bytes::new())).await;
}

async fn feed_range(
    upstream: &dyn Upstream,
    key: &str,
    seen: &ObservedFile,
    range: ByteRange,
    sender: &mpsc::Sender<Result<Bytes, Fault>>,
) -> Result<(), Fault> {
    let deadline = Instant::now() + REQUEST_TIME;
    let mut read = upstream.read(key, &seen.version, seen.size, range, deadline).await?;
    while let Some(piece) = read.next().await? {
        if !piece.is_empty() && sender.send(Ok(piece)).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

async fn inventory(file: &ManifestFile, seen: ObservedFile) -> Result<Inventory, Fault> {
    if seen.size > INVENTORY_MAX {
        let why = format!("{}: a manifest.json has at most {INVENTORY_MAX} bytes", file.address);
        return Err(Fault::new(FaultKind::Invalid, why));
    }
    let (mut text, range) = (Vec::new(), ByteRange::new(0, seen.size));
    let deadline = Instant::now() + REQUEST_TIME;
    let mut read = file.upstream.read(&file.key, &seen.version, seen.size, range, deadline).await?;
    while let Some(piece) = read.next().await? {
        text.extend_from_slice(&piece);
    }
    Inventory::parse(&file.address, &text).map_err(fault_of)
}

impl ManifestFile {
    /// The key of a file of a report: by its own key in the bucket, else `data/NAME` beside the directory of the `manifest.json`, as
    /// reports are laid out.
    fn key_of_part(&self, name: &str) -> String {
        if self.is_in_bucket {
            return name.to_owned();
        }
        let above = self.key.rsplitn(3, '/').nth(2).map_or(String::new(), |above| format!("{above}/"));
        format!("{above}data/{}", name.rsplit('/').next().unwrap_or(name))
    }
}

/// Bytes that come from a task, for a parser on a thread.
struct Stream {
    pieces: mpsc::Receiver<Result<Bytes, Fault>>,
    piece: Bytes,
    has_ended: bool,
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.has_ended {
            return Ok(0);
        }
        if self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                // Empty: the end.
                Some(Ok(piece)) if piece.is_empty() => {
                    self.has_ended = true;
                    return Ok(0);
                }
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(fault)) => return Err(io::Error::other(fault)),
                None => return Err(io::Error::other("the stream of the file ended too early")),
            }
        }
        let read = buffer.len().min(self.piece.len());
        buffer[..read].copy_from_slice(&self.piece.split_to(read));
        Ok(read)
    }
}
