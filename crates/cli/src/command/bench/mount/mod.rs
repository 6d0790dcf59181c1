//! `forebay bench mount`: is it fast here? One directory, and a plain one beside it if asked for, cold and hot.
//!
//! Always true here: it ends in bounded time, whatever the directory does; what it made is removed, also when it is
//! interrupted; both sides of a ratio did the same work in turns.

mod bounded;
mod cold;
mod data;
mod figures;
mod report;
mod sample;
mod steps;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::args::BenchMountArgs;
use crate::failure::Failure;
use crate::output::Output;

use cold::{Cold, FileSystem};
use data::DataSet;
use figures::Figures;
use report::{Report, Row};
use steps::Steps;
use work::{Slice, Work};

/// Parts of the time: cold rows, reading all once, hot rows.
const COLD: f64 = 0.35;
const WARM: f64 = 0.15;
const HOT: f64 = 0.5;
/// Turns of each side of a hot row; the median counts.
const TURNS: u32 = 3;
/// Making and copying get the time for measuring, or this, if that is longer.
const MAKE_LEAST: Duration = Duration::from_secs(60);

/// What the signals of a user set: loops look at it.
pub(super) type Stop = Arc<AtomicBool>;

/// Runs it.
pub(super) fn mount(args: &BenchMountArgs, output: &mut Output) -> Result<(), Failure> {
    let stop = stop_on_signals()?;
    let steps = Steps::start();
    let measured = measured(args, &stop, &steps);
    steps.finish();
    let report = measured?;
    if stop.load(Ordering::Relaxed) {
        return Err(Failure::failed("interrupted; what was made has been removed"));
    }
    report.print(output)
}

fn measured(args: &BenchMountArgs, stop: &Stop, steps: &Steps) -> Result<Report, Failure> {
    let seconds = Duration::from_secs(args.seconds.into());
    let making = seconds.max(MAKE_LEAST);
    let cold = Cold::of_process();
    steps.say("looking for data, or making it");
    let (here, walked) = DataSet::make_or_take(args, making, stop)?;
    let system = FileSystem::of(&here.root);
    let mut report = Report::new(args, &here, &system, cold);
    if let Some(walked) = walked {
        report.rows.push(Row::new(Work::Walk, true, 1, vec![walked], Vec::new()));
    }
    let sides = if args.native.is_some() { 2 } else { 1 };
    let plan = Plan { threads: args.threads.into(), sides, seconds, stop: stop.clone() };
    // Where files were taken, what is copied to the native side is read then: cold rows come before.
    let mut colds = plan.cold(&here, cold, steps)?;
    let native = match &args.native {
        Some(directory) => {
            steps.say("copying the data to the native directory");
            let native = here.copy_to(directory, making, stop)?;
            for (row, slice) in colds.iter_mut().zip(plan.cold(&native, cold, steps)?) {
                row.native = slice.here;
            }
            Some(native)
        }
        None => None,
    };
    report.rows.append(&mut colds);
    plan.hot(&here, native.as_ref(), steps, &mut report)?;
    Ok(report)
}

struct Plan {
    threads: usize,
    sides: u32,
    seconds: Duration,
    stop: Stop,
}

impl Plan {
    /// With one reader, and with many if that is another number.
    fn readers(&self) -> Vec<usize> {
        if self.threads > 1 { vec![1, self.threads] } else { vec![1] }
    }

    /// The cold rows of one side, each with files that none of the others reads.
    fn cold(&self, set: &DataSet, cold: Cold, steps: &Steps) -> Result<Vec<Row>, Failure> {
        let mut work: Vec<(Work, usize)> = Vec::new();
        for kind in [Work::Files, Work::Sequential] {
            work.extend(self.readers().into_iter().map(|readers| (kind, readers)));
        }
        work.push((Work::Random, 1));
        let limit = self.seconds.mul_f64(COLD) / (work.len() as u32 * self.sides);
        let (mut large, parts) = (set.large.iter(), self.readers().len());
        let mut rows = Vec::new();
        for (kind, readers) in work {
            if self.stop.load(Ordering::Relaxed) {
                break;
            }
            let slice = Slice { limit, once: true, ..Slice::new(kind, readers) };
            let slice = match kind {
                Work::Files => {
                    let part = usize::from(readers > 1);
                    let files: Vec<_> = set.small.iter().skip(part).step_by(parts).cloned().collect();
                    if files.is_empty() { None } else { Some(Slice { files: files.into(), ..slice }) }
                }
                _ => large.next().map(|file| Slice { file: Some(file.clone()), ..slice }),
            };
            let Some(slice) = slice else {
                rows.push(Row {
                    note: Some("no file is left that was not read"),
                    ..Row::new(kind, true, readers, Vec::new(), Vec::new())
                });
                continue;
            };
            steps.say(&format!("{}, cold, {readers} at a time", kind.name()));
            cold.drop_pages(&slice, set.made)?;
            let figures = slice.run(&self.stop)?;
            rows.push(Row::new(kind, true, readers, vec![figures], Vec::new()));
        }
        Ok(rows)
    }

    /// The hot rows, side by side.
    fn hot(&self, here: &DataSet, native: Option<&DataSet>, steps: &Steps, report: &mut Report) -> Result<(), Failure> {
        let mut work: Vec<(Work, usize)> = Vec::new();
        for kind in [Work::Files, Work::Sequential, Work::Random, Work::Stat] {
            work.extend(self.readers().into_iter().map(|readers| (kind, readers)));
        }
        work.push((Work::List, 1));
        steps.say("reading all once");
        let limit = self.seconds.mul_f64(WARM) / self.sides;
        let mut here = here.warmed(limit, &self.stop)?;
        let mut native = native.map(|native| native.warmed(limit, &self.stop)).transpose()?;
        if let Some(native) = &mut native {
            // Both sides do the same work.
            here.cut_to(native);
            native.cut_to(&here);
        }
        report.note_warmed(&here);
        let limit = self.seconds.mul_f64(HOT) / (work.len() as u32 * self.sides * TURNS);
        for (kind, readers) in work {
            let of = |set: &DataSet| set.hot_slice(kind, Slice { limit, ..Slice::new(kind, readers) });
            let Some(slice) = of(&here) else {
                let is_of_files = matches!(kind, Work::Files | Work::Stat);
                let note = Some(if is_of_files { "there is no small file" } else { "there is no large file" });
                report.rows.push(Row { note, ..Row::new(kind, false, readers, Vec::new(), Vec::new()) });
                continue;
            };
            steps.say(&format!("{}, hot, {readers} at a time", kind.name()));
            let other = native.as_ref().and_then(of);
            let (mut ours, mut theirs): (Vec<Figures>, Vec<Figures>) = Default::default();
            for turn in 0..TURNS {
                if self.stop.load(Ordering::Relaxed) {
                    return Ok(());
                }
                ours.push(slice.turn(turn).run(&self.stop)?);
                if let Some(other) = &other {
                    theirs.push(other.turn(turn).run(&self.stop)?);
                }
            }
            report.rows.push(Row::new(kind, false, readers, ours, theirs));
        }
        Ok(())
    }
}

/// Set by SIGINT and SIGTERM. Without a runtime, as in tests, by nobody.
fn stop_on_signals() -> Result<Stop, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Stop::default();
    if tokio::runtime::Handle::try_current().is_ok() {
        let cannot = |error| Failure::failed(format!("cannot listen for signals: {error}"));
        let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot)?;
        let mut terminate = signal(SignalKind::terminate()).map_err(cannot)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stop.store(true, Ordering::Relaxed);
        });
    }
    Ok(stop)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::output::tests::Written;

    fn args(path: &Path, native: Option<&Path>, existing: bool) -> BenchMountArgs {
        BenchMountArgs {
            path: path.to_owned(),
            native: native.map(Path::to_owned),
            files: 20,
            size: forebay_model::ByteSize(10_000),
            large: forebay_model::ByteSize(2 << 20),
            threads: 2,
            seconds: 1,
            existing,
        }
    }

    fn run(args: &BenchMountArgs, json: bool) -> Result<String, String> {
        let written = Written::default();
        let mut output = written.output(json);
        mount(args, &mut output).map_err(|failure| failure.to_string())?;
        output.flush().unwrap();
        Ok(written.text())
    }

    fn names(directory: &Path) -> usize {
        std::fs::read_dir(directory).unwrap().count()
    }

    #[test]
    fn what_is_made_is_measured_on_both_sides_and_removed() {
        let (here, native) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let text = run(&args(here.path(), Some(native.path()), false), true).unwrap();
        let objects: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!((&objects[0]["data"], &objects[0]["files"]), (&"made".into(), &20.into()));
        let rows = &objects[1..];
        assert_eq!(rows.len(), 5 + 9);
        for row in rows {
            assert!(row["rate"].as_f64().unwrap() > 0.0 && row["ratio"].as_f64().unwrap() > 0.0, "{row}");
        }
        assert_eq!((names(here.path()), names(native.path())), (0, 0));
    }

    #[test]
    fn what_lies_there_is_taken_and_left() {
        let (here, native) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::create_dir(here.path().join("sub")).unwrap();
        for number in 0..30 {
            std::fs::write(here.path().join(format!("sub/{number}")), vec![7; 5_000]).unwrap();
        }
        let text = run(&args(here.path(), Some(native.path()), true), false).unwrap();
        assert!(text.contains("20 of 30 small files") && text.contains("there is no large file"), "{text}");
        assert_eq!((names(here.path()), names(&here.path().join("sub")), names(native.path())), (1, 30, 0));
    }

    #[test]
    fn a_directory_that_cannot_be_measured_is_named() {
        let empty = tempfile::tempdir().unwrap();
        let error = run(&args(empty.path(), None, true), false).unwrap_err();
        assert!(
            error.contains("no file with anything in it") && error.contains(empty.path().to_str().unwrap()),
            "{error}"
        );
        let error = run(&args(&empty.path().join("absent"), None, false), false).unwrap_err();
        assert!(error.contains("absent: No such file"), "{error}");
        let error = run(&args(empty.path(), Some(&empty.path().join("absent")), false), false).unwrap_err();
        assert!(error.contains("absent"), "{error}");
        assert_eq!(names(empty.path()), 0, "what was made is left behind");
    }
}
