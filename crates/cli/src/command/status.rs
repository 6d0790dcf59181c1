//! `forebay status`: the node's document, as it is or as a page for people.

use std::fmt::Write as _;
use std::time::Duration;

use forebay_client::Client;
use forebay_model::ByteSize;
use serde_json::{Map, Value};

use crate::connect::principal;
use crate::failure::Failure;
use crate::output::{Output, span_text};

/// Shows what the process does.
pub(crate) async fn status(client: &Client, output: &mut Output) -> Result<(), Failure> {
    let text = client.status(principal()).await.map_err(|fault| Failure::fault("status", &fault))?;
    let document: Value = serde_json::from_str(&text).map_err(|error| {
        Failure::failed(format!("the process sent a status that is no JSON ({error}): report this"))
    })?;
    if output.is_json() {
        return output.object(&document);
    }
    let page = page(&document);
    output.line(page.trim_end())
}

/// The document as lines: plain fields first, then a section for each object and a table for each list of objects, by
/// name. A new field of the document needs no change here.
fn page(document: &Value) -> String {
    let mut page = String::new();
    let Value::Object(fields) = document else { return document.to_string() };
    section(&mut page, fields);
    for (name, value) in fields {
        match value {
            Value::Object(fields) => {
                let _ = write!(page, "\n{}\n", title(name));
                section(&mut page, fields);
            }
            Value::Array(rows) if rows.iter().any(Value::is_object) => {
                let _ = write!(page, "\n{}\n", title(name));
                table(&mut page, rows);
            }
            _ => {}
        }
    }
    page
}

fn section(page: &mut String, fields: &Map<String, Value>) {
    let plain: Vec<(String, String)> = fields
        .iter()
        .filter(|(_, value)| is_plain(value))
        .map(|(name, value)| (title(name), cell(name, value)))
        .collect();
    let width = plain.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    for (name, value) in plain {
        let _ = writeln!(page, "  {name:<width$}  {value}");
    }
}

fn table(page: &mut String, rows: &[Value]) {
    let mut columns: Vec<&String> = Vec::new();
    for row in rows.iter().filter_map(Value::as_object) {
        for (name, value) in row {
            if is_plain(value) && !columns.contains(&name) {
                columns.push(name);
            }
        }
    }
    // What a row is about comes first, its figures after.
    let is_text = |name: &str| rows.iter().any(|row| matches!(row.get(name), Some(Value::String(_) | Value::Bool(_))));
    columns.sort_by_key(|name| !is_text(name));
    let mut lines = vec![columns.iter().map(|name| title(name)).collect::<Vec<_>>()];
    for row in rows {
        lines.push(columns.iter().map(|name| row.get(name).map_or(String::new(), |value| cell(name, value))).collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0))
        .collect();
    for line in lines {
        let cells = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        let _ = writeln!(page, "  {}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
}

fn is_plain(value: &Value) -> bool {
    match value {
        Value::Object(_) => false,
        Value::Array(items) => !items.iter().any(Value::is_object),
        _ => true,
    }
}

/// A field's name without its unit, for the value shows that.
fn title(name: &str) -> String {
    let bare = ["_bytes", "_seconds", "_millis", "_ms"].iter().find_map(|unit| name.strip_suffix(unit)).unwrap_or(name);
    bare.replace('_', " ")
}

fn cell(name: &str, value: &Value) -> String {
    let is = |unit: &str| name == unit || name.ends_with(&format!("_{unit}"));
    match value {
        Value::Null => "-".to_owned(),
        Value::Bool(truth) => if *truth { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.replace(char::is_control, "?"),
        Value::Array(items) => items.iter().map(|item| cell(name, item)).collect::<Vec<_>>().join(", "),
        Value::Number(number) => match (number.as_u64(), number.as_f64()) {
            (Some(bytes), _) if is("bytes") => ByteSize(bytes).to_string(),
            (_, Some(seconds)) if is("seconds") && (0.0..1e12).contains(&seconds) => {
                span_text(Duration::from_secs_f64(seconds))
            }
            (Some(millis), _) if is("millis") || is("ms") => span_text(Duration::from_millis(millis)),
            (None, Some(real)) => format!("{real:.2}"),
            _ => number.to_string(),
        },
        Value::Object(_) => value.to_string(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::command::testing::Tree;
    use crate::output::tests::Written;

    #[test]
    fn people_read_sections_and_tables() {
        let document = json!({
            "version": "0.1.0",
            "uptime_seconds": 61.5,
            "cache": [
                { "directory": "/c", "capacity_bytes": 20_000_000_000_u64, "down": false },
                { "directory": "/long/name", "capacity_bytes": 5, "down": true },
            ],
            "memory": { "budget_bytes": 1_000_000, "share": 0.5, "none": null },
        });
        let text = page(&document);
        for line in [
            "  version  0.1.0",
            "  uptime   1m 1s",
            "  directory   down  capacity",
            "  /c          no    20.0 GB",
            "  /long/name  yes   5 B",
            "  budget  1.00 MB",
            "  share   0.50",
            "  none    -",
        ] {
            assert!(text.lines().any(|other| other == line), "{line:?} is missing in:\n{text}");
        }
    }

    #[tokio::test]
    async fn programs_read_the_document() {
        let written = Written::default();
        let mut output = written.output(true);
        status(&Tree::default().client(), &mut output).await.unwrap();
        output.flush().unwrap();
        let document: Value = serde_json::from_str(&written.text()).unwrap();
        assert_eq!(document["cache"][0]["directory"], "/c");
    }
}
