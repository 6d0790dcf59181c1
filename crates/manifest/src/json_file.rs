//! Manifests of a JSON object a line.

use std::io::{BufRead, BufReader, Read};

use serde::Deserialize;
use serde_json::Value;

use crate::builder::Builder;
use crate::columns::{Column, Values, shown};
use crate::csv_file::{broken, named};
use crate::error::ManifestError;
use crate::snapshot::{SNAPSHOT_FORMAT, SnapshotHeader};

/// The longest line.
const LINE_MAX: u64 = 1 << 20;
/// What is read ahead of a line.
const AHEAD: usize = 256 << 10;

/// Reads all lines. The first may say that it is a snapshot.
pub(crate) fn read(file: impl Read, name: &str, builder: &mut Builder) -> Result<(), ManifestError> {
    let mut reader = BufReader::with_capacity(AHEAD, file);
    let (mut text, mut number) = (Vec::new(), 0);
    let mut promised = None;
    let mut count = 0;
    loop {
        text.clear();
        let read =
            reader.by_ref().take(LINE_MAX + 1).read_until(b'\n', &mut text).map_err(|error| broken(name, &error))?;
        if read == 0 {
            break;
        }
        number += 1;
        let wrong = |why: String| ManifestError::at_line(name, number, why);
        if read as u64 > LINE_MAX {
            return Err(wrong("a line of over 1 MiB".to_owned()));
        }
        let text = std::str::from_utf8(&text).map_err(|_| wrong("it is not UTF-8".to_owned()))?.trim();
        if text.is_empty() {
            continue;
        }
        if number == 1
            && let Some(header) = header(text).map_err(wrong)?
        {
            promised = Some(header.objects);
            builder.set_snapshot(header);
            continue;
        }
        count += 1;
        let values = values(text).map_err(wrong)?;
        builder
            .take(values.take(builder.rules(), false).map_err(wrong)?)
            .map_err(|error| named(name, number, error))?;
    }
    match promised {
        Some(promised) if promised != count => {
            Err(ManifestError::wrong(name, format!("the snapshot is cut: it has {count} of {promised} objects")))
        }
        _ => Ok(()),
    }
}

/// The first line of a snapshot; none if it is a line like others.
fn header(text: &str) -> Result<Option<SnapshotHeader>, String> {
    #[derive(Deserialize)]
    struct Format {
        forebay_snapshot: Option<u32>,
    }
    match serde_json::from_str::<Format>(text) {
        Ok(Format { forebay_snapshot: Some(SNAPSHOT_FORMAT) }) => {
            serde_json::from_str(text).map(Some).map_err(|error| format!("it is no first line of a snapshot: {error}"))
        }
        Ok(Format { forebay_snapshot: Some(format) }) => {
            Err(format!("it is a snapshot of format {format}: this version reads {SNAPSHOT_FORMAT}"))
        }
        _ => Ok(None),
    }
}

fn values(text: &str) -> Result<Values, String> {
    let object: serde_json::Map<String, Value> =
        serde_json::from_str(text).map_err(|error| format!("{} is no JSON object: {error}", shown(text)))?;
    let mut values = Values::default();
    for (name, value) in &object {
        let Some(column) = Column::named(name) else { continue };
        match value {
            Value::Null => {}
            Value::String(text) => values.put(column, text)?,
            Value::Number(_) | Value::Bool(_) => values.put(column, &value.to_string())?,
            Value::Array(_) | Value::Object(_) => return Err(format!("{name} is no text and no number")),
        }
    }
    Ok(values)
}
