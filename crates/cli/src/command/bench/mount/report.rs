//! The rows of a run, as a table for people and as JSON for programs.

use std::time::Duration;

use forebay_model::ByteSize;
use serde_json::{Value, json};

use super::cold::{Cold, FileSystem};
use super::data::DataSet;
use super::figures::Figures;
use super::work::Work;
use crate::args::BenchMountArgs;
use crate::failure::Failure;
use crate::output::Output;

/// One kind of work, and what each side's turns came to.
pub(super) struct Row {
    pub(super) work: Work,
    pub(super) cold: bool,
    pub(super) readers: usize,
    pub(super) here: Vec<Figures>,
    pub(super) native: Vec<Figures>,
    /// Why there are no figures.
    pub(super) note: Option<&'static str>,
}

/// What is printed.
pub(super) struct Report {
    pub(super) rows: Vec<Row>,
    head: Value,
    lines: Vec<String>,
}

impl Row {
    pub(super) fn new(work: Work, cold: bool, readers: usize, here: Vec<Figures>, native: Vec<Figures>) -> Self {
        Self { work, cold, readers, here, native, note: None }
    }
}

impl Report {
    pub(super) fn new(args: &BenchMountArgs, set: &DataSet, system: &FileSystem, cold: Cold) -> Self {
        let meaning = cold.meaning(system, set.made);
        let (files, larges) = (set.small.len(), set.large.len());
        let large_bytes: u64 = set.large.iter().map(|file| file.size).sum();
        let data = if set.made { "made" } else { "taken" };
        let head = json!({
            "bench": "mount",
            "path": args.path.display().to_string(),
            "file_system": system.kind,
            "native": args.native.as_ref().map(|path| path.display().to_string()),
            "data": data,
            "files": files,
            "file_bytes": set.small_bytes,
            "large_files": larges,
            "large_bytes": large_bytes,
            "threads": args.threads,
            "seconds": args.seconds,
            "cold": meaning,
        });
        let of = if set.met > files as u64 { format!(" of {}", set.met) } else { String::new() };
        let lines = vec![
            format!("{} ({})", args.path.display(), system.kind),
            format!(
                "{data}: {files}{of} small files, {}; {larges} large, {} read of them",
                ByteSize(set.small_bytes),
                ByteSize(large_bytes)
            ),
            format!("cold: {meaning}"),
        ];
        Self { rows: Vec::new(), head, lines }
    }

    /// Says so if the hot rows are of less.
    pub(super) fn note_warmed(&mut self, warm: &DataSet) {
        let files = warm.small.len();
        if self.head["files"] != json!(files) {
            self.lines.push(format!("hot: {files} small files, for the others were not read in time"));
        }
        self.head["hot_files"] = json!(files);
        self.head["hot_large_bytes"] = json!(warm.large.first().map_or(0, |file| file.size));
    }

    pub(super) fn print(self, output: &mut Output) -> Result<(), Failure> {
        if output.is_json() {
            output.object(&self.head)?;
            return self.rows.into_iter().try_for_each(|row| output.object(&row.object()));
        }
        let has_native = !self.head["native"].is_null();
        for line in &self.lines {
            output.line(output.name(line))?;
        }
        output.line("")?;
        let native = if has_native { format!("{:>11}{:>7}", "native", "ratio") } else { String::new() };
        output.line(format!(
            "{:<26}{:>8}{:>19}{:>11}{:>10}{:>10}{native}",
            "", "readers", "rate", "MB/s", "p50", "p99"
        ))?;
        self.rows.into_iter().try_for_each(|row| output.line(row.line(has_native)))?;
        output.line("")?;
        output.line("p50, p99: small files and sequential from open to the first byte; else one call (list: all of it)")
    }
}

impl Row {
    fn name(&self) -> String {
        format!("{}, {}", self.work.name(), if self.cold { "cold" } else { "hot" })
    }

    fn line(self, has_native: bool) -> String {
        let (name, readers, unit, note) = (self.name(), self.readers, self.work.unit(), self.note);
        let (here, native) = (Figures::median(self.here), Figures::median(self.native));
        let Some(here) = here.filter(|figures| figures.done > 0) else {
            return format!("{name:<26}{readers:>8}  {}", note.unwrap_or("nothing was done in time"));
        };
        let bytes =
            if here.bytes_per_second > 0.0 { format!("{:.1}", here.bytes_per_second / 1e6) } else { "-".to_owned() };
        let took = |part| here.percentile(part).map_or_else(|| "-".to_owned(), short);
        let mut line = format!(
            "{name:<26}{readers:>8}{:>19}{bytes:>11}{:>10}{:>10}",
            format!("{} {unit}", grouped(here.rate)),
            took(0.5),
            took(0.99)
        );
        if has_native {
            match native.filter(|figures| figures.done > 0) {
                Some(native) => {
                    line.push_str(&format!("{:>11}{:>7.2}", grouped(native.rate), here.rate / native.rate));
                }
                None => line.push_str(&format!("{:>11}{:>7}", "-", "-")),
            }
        }
        line
    }

    fn object(self) -> Value {
        let (work, cold, readers, note) = (self.work, self.cold, self.readers, self.note);
        let (here, native) = (Figures::median(self.here), Figures::median(self.native));
        let did = |figures: &Figures| figures.done > 0;
        let here = here.filter(did);
        let native = native.filter(did);
        let micros = |figures: &Option<Figures>, part| {
            figures.as_ref().and_then(|figures| figures.percentile(part)).map(|took| took.as_nanos() as f64 / 1e3)
        };
        json!({
            "row": work.id(),
            "cold": cold,
            "readers": readers,
            "unit": work.unit(),
            "rate": here.as_ref().map(|figures| figures.rate),
            "bytes_per_second": here.as_ref().map(|figures| figures.bytes_per_second),
            "p50_us": micros(&here, 0.5),
            "p99_us": micros(&here, 0.99),
            "native_rate": native.as_ref().map(|figures| figures.rate),
            "native_p50_us": micros(&native, 0.5),
            "native_p99_us": micros(&native, 0.99),
            "ratio": here.as_ref().zip(native.as_ref()).map(|(here, native)| here.rate / native.rate),
            "note": note,
        })
    }
}

/// `12,345`; below a hundred with a decimal.
fn grouped(number: f64) -> String {
    if number < 100.0 {
        return format!("{number:.1}");
    }
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `3.2 us`, `41 ms`, `1.2 s`: two figures or three.
fn short(took: Duration) -> String {
    let nanos = took.as_nanos() as f64;
    let (number, unit) = match nanos {
        n if n < 1e6 => (n / 1e3, "us"),
        n if n < 1e9 => (n / 1e6, "ms"),
        n => (n / 1e9, "s"),
    };
    if number < 10.0 { format!("{number:.1} {unit}") } else { format!("{number:.0} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        let check = |number, text| assert_eq!(grouped(number), text);
        check(0.25, "0.2");
        check(123.4, "123");
        check(1_234_567.8, "1,234,568");
        for (nanos, text) in [(900, "0.9 us"), (12_000, "12 us"), (2_340_000, "2.3 ms"), (1_500_000_000, "1.5 s")] {
            assert_eq!(short(Duration::from_nanos(nanos)), text);
        }
    }

    #[test]
    fn a_row_without_figures_says_why() {
        let row =
            || Row { note: Some("there is no large file"), ..Row::new(Work::Random, false, 4, Vec::new(), Vec::new()) };
        assert!(row().line(true).ends_with("4  there is no large file"), "{}", row().line(true));
        assert_eq!(
            (&row().object()["rate"], &row().object()["note"]),
            (&Value::Null, &"there is no large file".into())
        );
    }
}
