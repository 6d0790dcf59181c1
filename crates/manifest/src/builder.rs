//! Puts the lines of a manifest in order, on disk, and makes an index of them.
//!
//! What comes in order is written as the index at once. From the first line on that is out of order, lines are sorted in memory and
//! written as runs, which are merged at the end.
//!
//! Always true: memory is at most [`BUILDER_MEMORY`], whatever comes; the index is put in its place whole, or not at all.

use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::NamedTempFile;

use crate::block::BLOCK;
use crate::columns::{Rules, Taken, shown};
use crate::error::ManifestError;
use crate::format::Format;
use crate::index::{Index, IndexFacts, Walk, tail};
use crate::line::{KEY_MAX, Line};
use crate::snapshot::SnapshotHeader;
use crate::writer::Writer;
use crate::{csv_file, json_file, parquet_file};

/// Lines that are put in order in memory at once.
const RUN_BYTES: usize = 16 << 20;
/// Runs that are merged at once, a block of each in memory.
const FAN_IN: usize = 256;
/// Memory that a builder takes, whatever comes: a run, and its lines' places while they are sorted; merging takes less.
pub const BUILDER_MEMORY: usize = 2 * RUN_BYTES;
const _: () = assert!(FAN_IN * 2 * BLOCK < RUN_BYTES);

/// Takes the files of a manifest one after the other and makes an index.
#[derive(Debug)]
pub struct Builder {
    directory: PathBuf,
    rules: Rules,
    run_bytes: usize,
    facts: IndexFacts,
    /// Lines so far, for whoever waits.
    lines: Arc<AtomicU64>,
    /// Where it is written while all comes in order.
    ordered: Option<Ordered>,
    run: Vec<Line>,
    run_weight: usize,
    runs: Vec<File>,
}

#[derive(Debug)]
struct Ordered {
    file: NamedTempFile,
    writer: Writer,
    last: String,
}

impl Builder {
    /// A builder that writes in `directory`, counts lines in `lines`, and takes what `rules` say.
    ///
    /// # Errors
    /// The directory cannot be written.
    pub fn new(directory: &Path, rules: Rules, lines: Arc<AtomicU64>) -> Result<Self, ManifestError> {
        Ok(Self {
            directory: directory.to_owned(),
            rules,
            run_bytes: RUN_BYTES,
            facts: IndexFacts::default(),
            lines,
            ordered: Some(Ordered::new(directory)?),
            run: Vec::new(),
            run_weight: 0,
            runs: Vec::new(),
        })
    }

    #[cfg(test)]
    pub(crate) fn with_runs_of(mut self, bytes: usize) -> Self {
        self.run_bytes = bytes;
        self
    }

    /// Takes all of a file. `name` is for people.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn add(&mut self, format: Format, name: &str, file: impl Read + Send) -> Result<(), ManifestError> {
        match format {
            Format::Csv { is_packed: false } => csv_file::read(file, name, None, self),
            Format::Csv { is_packed: true } => csv_file::read(unpacked(file), name, None, self),
            Format::JsonLines { is_packed: false } => json_file::read(file, name, self),
            Format::JsonLines { is_packed: true } => json_file::read(unpacked(file), name, self),
            Format::Parquet => parquet_file::read(file, name, self),
            Format::Inventory => Err(ManifestError::wrong(name, "a report is read file by file")),
        }
    }

    /// Takes all of a CSV file of an S3 Inventory report, whose columns the report names.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn add_inventory_csv(
        &mut self,
        columns: &[String],
        name: &str,
        file: impl Read + Send,
    ) -> Result<(), ManifestError> {
        csv_file::read(unpacked(file), name, Some(columns), self)
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    /// The file says that it is a snapshot.
    pub(crate) fn set_snapshot(&mut self, header: SnapshotHeader) {
        self.facts.snapshot = Some(header);
    }

    /// Takes what became of a line.
    pub(crate) fn take(&mut self, taken: Taken) -> Result<(), ManifestError> {
        self.lines.fetch_add(1, Ordering::Relaxed);
        match taken {
            Taken::Line(line) => self.push(line),
            Taken::Elsewhere => {
                self.facts.elsewhere += 1;
                Ok(())
            }
            Taken::Superseded => {
                self.facts.superseded += 1;
                Ok(())
            }
        }
    }

    /// Takes a line.
    ///
    /// # Errors
    /// Its key came before, or it cannot be kept.
    pub fn push(&mut self, line: Line) -> Result<(), ManifestError> {
        if line.key.len() > KEY_MAX {
            return Err(ManifestError::Wrong(format!("the key {} has over {KEY_MAX} bytes", shown(&line.key))));
        }
        self.facts.objects += 1;
        self.facts.bytes = self.facts.bytes.saturating_add(line.size.unwrap_or(0));
        let is_marker = line.key.ends_with('/');
        let is_proved = line.etag.is_some() || line.mtime.is_some() || line.version_id.is_some();
        self.facts.open += u64::from(!is_marker && (line.size.is_none() || !is_proved));
        if let Some(ordered) = &mut self.ordered {
            if ordered.last < line.key || ordered.writer.lines() == 0 {
                ordered.writer.push(&line)?;
                ordered.last = line.key;
                return Ok(());
            }
            if ordered.last == line.key {
                return Err(twice(&line.key));
            }
            if let Some(ordered) = self.ordered.take() {
                let (file, _) = ordered.writer.finish()?;
                self.runs.push(file);
            }
        }
        self.run_weight += line.weight();
        self.run.push(line);
        if self.run_weight >= self.run_bytes { self.put_run() } else { Ok(()) }
    }

    fn put_run(&mut self) -> Result<(), ManifestError> {
        self.run.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let mut writer = Writer::new(run_file(&self.directory)?);
        let mut last: Option<&str> = None;
        for line in &self.run {
            if last == Some(&line.key) {
                return Err(twice(&line.key));
            }
            writer.push(line)?;
            last = Some(&line.key);
        }
        self.runs.push(writer.finish()?.0);
        // Its room goes back: the allocator would keep it for good.
        self.run = Vec::new();
        self.run_weight = 0;
        if self.runs.len() >= FAN_IN { self.merge_runs() } else { Ok(()) }
    }

    /// Makes one run of all.
    fn merge_runs(&mut self) -> Result<(), ManifestError> {
        let mut writer = Writer::new(run_file(&self.directory)?);
        merge(std::mem::take(&mut self.runs), &mut writer)?;
        self.runs.push(writer.finish()?.0);
        Ok(())
    }

    /// All has come: the index of the manifest's `version`. With `path` it is put there; without, nobody sees its file.
    ///
    /// # Errors
    /// A key came twice, or it cannot be kept.
    pub fn finish(mut self, version: &str, path: Option<&Path>) -> Result<Index, ManifestError> {
        if self.facts.objects == 0 && self.facts.elsewhere > 0 {
            let what = format!(
                "none of its {} objects is below {:?}: keys are full keys of the bucket",
                self.facts.elsewhere, self.rules.prefix
            );
            return Err(ManifestError::Wrong(what));
        }
        let Ordered { mut file, writer, .. } = match self.ordered.take() {
            Some(ordered) => ordered,
            None => {
                self.put_run()?;
                let mut ordered = Ordered::new(&self.directory)?;
                merge(std::mem::take(&mut self.runs), &mut ordered.writer)?;
                ordered
            }
        };
        writer.finish()?;
        let facts = IndexFacts { version: version.to_owned(), ..self.facts };
        let disk = |error: std::io::Error| ManifestError::disk(&error);
        file.write_all(&tail(&facts)?).map_err(disk)?;
        match path {
            Some(path) => {
                file.as_file().sync_all().map_err(disk)?;
                let file = file.persist(path).map_err(|error| ManifestError::disk(&error.error))?;
                Index::read(file)
            }
            None => Index::read(file.into_file()),
        }
    }
}

impl Ordered {
    fn new(directory: &Path) -> Result<Self, ManifestError> {
        let disk = |error: std::io::Error| ManifestError::disk(&error);
        let file = NamedTempFile::new_in(directory).map_err(disk)?;
        let writer = Writer::new(file.as_file().try_clone().map_err(disk)?);
        Ok(Self { file, writer, last: String::new() })
    }
}

/// A file that goes with its last holder.
pub(crate) fn run_file(directory: &Path) -> Result<File, ManifestError> {
    tempfile::tempfile_in(directory).map_err(|error| ManifestError::disk(&error))
}

fn unpacked(file: impl Read + Send) -> impl Read + Send {
    flate2::read::MultiGzDecoder::new(file)
}

fn twice(key: &str) -> ManifestError {
    ManifestError::Wrong(format!("the key {} is listed twice", shown(key)))
}

/// Writes the lines of all runs in order.
fn merge(runs: Vec<File>, writer: &mut Writer) -> Result<(), ManifestError> {
    let runs: Vec<Index> = runs.into_iter().map(Index::of_run).collect::<Result<_, _>>()?;
    let mut walks: Vec<Walk<'_>> = runs.iter().map(Index::walk).collect();
    let mut heads = BinaryHeap::new();
    for (nth, walk) in walks.iter_mut().enumerate() {
        heads.extend(walk.next_line()?.map(|line| Head { line, nth }));
    }
    let mut last: Option<String> = None;
    while let Some(Head { line, nth }) = heads.pop() {
        if last.as_ref() == Some(&line.key) {
            return Err(twice(&line.key));
        }
        writer.push(&line)?;
        last = Some(line.key);
        heads.extend(walks[nth].next_line()?.map(|line| Head { line, nth }));
    }
    Ok(())
}

/// The next line of a run; the greatest head is that of the least key.
#[derive(PartialEq, Eq)]
struct Head {
    line: Line,
    nth: usize,
}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.line.key.cmp(&self.line.key).then(other.nth.cmp(&self.nth))
    }
}
