//! Rows: pairs of slices, in turns, and how they are printed.

use std::io::Result;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::rival::Way;

/// Length of a slice that finds out which way is the fastest.
const PROBE: Duration = Duration::from_millis(300);

/// What is measured, and how.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Where; a directory of this bench alone.
    pub(crate) directory: PathBuf,
    /// Pairs of a row.
    pub(crate) pairs: u64,
    /// Length of a slice.
    pub(crate) slice: Duration,
    /// Only rows whose id contains this.
    pub(crate) only: String,
}

/// One row. `runs` holds ours and the baseline of each pair.
#[derive(Debug, Serialize)]
struct Row<'a> {
    id: &'a str,
    unit: &'a str,
    baseline_name: &'a str,
    higher_is_better: bool,
    target: f64,
    runs: Vec<[f64; 2]>,
}

/// What a row is called and compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) id: &'a str,
    pub(crate) unit: &'a str,
    pub(crate) target: f64,
    pub(crate) higher_is_better: bool,
}

impl<'a> Head<'a> {
    /// A rate against the rival, which is to be no faster.
    pub(crate) fn rate(id: &'a str, unit: &'a str) -> Self {
        Self { id, unit, target: 1.0, higher_is_better: true }
    }
}

impl Plan {
    /// Whether a row is wanted.
    pub(crate) fn wants(&self, id: &str) -> bool {
        id.contains(&self.only)
    }

    /// Measures both sides in turns, the other first in every second pair, and prints the row. Each is told the pair's number.
    pub(crate) fn compare(
        &self,
        head: Head<'_>,
        baseline_name: &str,
        mut ours: impl FnMut(u64) -> Result<f64>,
        mut baseline: impl FnMut(u64) -> Result<f64>,
    ) -> Result<()> {
        let mut runs = Vec::new();
        for pair in 0..self.pairs {
            runs.push(if pair % 2 == 0 {
                let ours = ours(pair)?;
                [ours, baseline(pair)?]
            } else {
                let baseline = baseline(pair)?;
                [ours(pair)?, baseline]
            });
        }
        let Head { id, unit, target, higher_is_better } = head;
        let row = Row { id, unit, baseline_name, higher_is_better, target, runs };
        println!("{}", serde_json::to_string(&row)?);
        Ok(())
    }

    /// The fastest of the rival's ways for some work, told the length of a slice.
    pub(crate) fn fastest(
        &self,
        id: &str,
        ways: &[Way],
        mut rate: impl FnMut(Way, Duration) -> Result<f64>,
    ) -> Result<Way> {
        let mut best = (ways[0], 0.0);
        // The better of two: a machine's bad moment is to choose nothing.
        for &way in ways {
            let rate = rate(way, PROBE)?.max(rate(way, PROBE)?);
            eprintln!("{id}: {}: {rate:.3e}", way.name());
            if rate > best.1 {
                best = (way, rate);
            }
        }
        Ok(best.0)
    }
}
