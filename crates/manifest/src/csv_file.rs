//! Manifests of comma-separated values.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use csv::{ErrorKind, ReaderBuilder, StringRecord};

use crate::builder::Builder;
use crate::columns::{Column, Values, shown};
use crate::error::{EXPECTED, ManifestError};

/// The longest record. A quote that is not closed would make the rest of the file one field.
const RECORD_MAX: u64 = 1 << 20;
/// What is read ahead of a record.
const AHEAD: usize = 256 << 10;

/// Reads all records. Their columns are named by the first one, or by `columns`: then keys are encoded as inventories do.
pub(crate) fn read(
    file: impl Read,
    name: &str,
    columns: Option<&[String]>,
    builder: &mut Builder,
) -> Result<(), ManifestError> {
    let since = Arc::new(AtomicU64::new(0));
    let bounded = Bounded { file, since: Arc::clone(&since) };
    let mut reader = ReaderBuilder::new().has_headers(false).buffer_capacity(AHEAD).from_reader(bounded);
    let mut record = StringRecord::new();
    let is_encoded = columns.is_some();
    let columns: Vec<Option<Column>> = match columns {
        Some(columns) => columns.iter().map(|name| Column::named(name)).collect(),
        None => {
            if !reader.read_record(&mut record).map_err(|error| explain(name, &error))? {
                return Err(ManifestError::wrong(
                    name,
                    format!("it is empty; its first line names columns: {EXPECTED}"),
                ));
            }
            // A byte order mark, as spreadsheets write it.
            record.iter().map(|name| Column::named(name.trim_start_matches('\u{feff}'))).collect()
        }
    };
    if !columns.iter().flatten().any(|column| column.is_name()) {
        let why = format!("the columns {} name no object", shown(&record.iter().collect::<Vec<_>>().join(",")));
        return Err(ManifestError::at_line(name, 1, why));
    }
    while reader.read_record(&mut record).map_err(|error| explain(name, &error))? {
        since.store(0, Ordering::Relaxed);
        let line = record.position().map_or(0, csv::Position::line);
        let wrong = |why: String| ManifestError::at_line(name, line, why);
        if record.len() != columns.len() {
            return Err(wrong(format!("it has {} values for {} columns", record.len(), columns.len())));
        }
        let mut values = Values::default();
        for (column, value) in columns.iter().zip(&record).filter_map(|(column, value)| Some(((*column)?, value))) {
            values.put(column, value).map_err(wrong)?;
        }
        builder
            .take(values.take(builder.rules(), is_encoded).map_err(wrong)?)
            .map_err(|error| named(name, line, error))?;
    }
    Ok(())
}

/// Names the line in an error that does not know it.
pub(crate) fn named(name: &str, line: u64, error: ManifestError) -> ManifestError {
    match error {
        ManifestError::Wrong(why) => ManifestError::Wrong(format!("{name}: line {line}: {why}")),
        error => error,
    }
}

fn explain(name: &str, error: &csv::Error) -> ManifestError {
    let line = error.position().map_or(1, csv::Position::line);
    match error.kind() {
        ErrorKind::Io(error) => broken(name, error),
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            ManifestError::at_line(name, line, format!("it has {len} values for {expected_len} columns"))
        }
        ErrorKind::Utf8 { .. } => ManifestError::at_line(name, line, "it is not UTF-8"),
        _ => ManifestError::at_line(name, line, error.to_string()),
    }
}

/// The stream failed, or what unpacks it, or a record is too long.
pub(crate) fn broken(name: &str, error: &io::Error) -> ManifestError {
    match error.kind() {
        // What a person must mend: damaged gzip, a record that does not end.
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => {
            ManifestError::wrong(name, error)
        }
        _ => ManifestError::Broken(format!("{name}: {error}")),
    }
}

/// Fails when much was read and no record came of it.
struct Bounded<R> {
    file: R,
    since: Arc<AtomicU64>,
}

impl<R: Read> Read for Bounded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.since.load(Ordering::Relaxed) > RECORD_MAX + AHEAD as u64 {
            let why = "a line of over 1 MiB: is a quote not closed?";
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        let read = self.file.read(buffer)?;
        self.since.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}
