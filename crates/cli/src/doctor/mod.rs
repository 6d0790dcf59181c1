//! `forebay doctor`: what this machine and the origin allow, and what to do where they do not.
//!
//! Always true here: every finding is `ok`, `warn` or `fail`; what is not `ok` says what to do; the exit code is 1 when one
//! is `fail`; nothing is changed, and what a check writes it removes.

mod cache;
mod clock;
mod fuse;
mod kernel;
mod memory;
mod origin;

use std::io::IsTerminal as _;

use serde::Serialize;

use crate::args::DoctorArgs;
use crate::connect::connect;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::output::{Output, span_text};
use crate::settings::Sources;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// As it should be.
    Ok,
    /// It works, but slower or less than it could.
    Warn,
    /// `up` will not work like this.
    Fail,
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: String,
    /// How bad it is.
    state: State,
    /// What was found.
    found: String,
    /// What to do; null where nothing needs to be done.
    advice: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, found: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Ok, found: found.into(), advice: None }
    }

    fn warn(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Warn, found: found.into(), advice: Some(advice.into()) }
    }

    fn fail(check: impl Into<String>, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { check: check.into(), state: State::Fail, found: found.into(), advice: Some(advice.into()) }
    }

    fn text(&self, color: bool) -> String {
        let (word, code) = match self.state {
            State::Ok => ("ok  ", 32),
            State::Warn => ("warn", 33),
            State::Fail => ("FAIL", 31),
        };
        let word = if color { format!("\u{1b}[{code}m{word}\u{1b}[0m") } else { word.to_owned() };
        let mut text = format!("{word}  {}: {}", self.check, self.found);
        if let Some(advice) = &self.advice {
            text += &format!("\n      -> {advice}");
        }
        text
    }
}

/// Checks everything that the settings name, and prints each finding as it is known.
pub(crate) async fn run(args: Box<DoctorArgs>, node: Option<&str>, output: &mut Output) -> Result<(), Failure> {
    let DoctorArgs { flags, config } = *args;
    let settings = Sources::of_process(config, flags.into_values()).load()?.settings;
    let machine = Machine::detect();
    let mut totals = Totals::default();

    for finding in fuse::check(&settings.mount) {
        totals.print(&finding, output)?;
    }
    for finding in memory::check(&machine, &settings) {
        totals.print(&finding, output)?;
    }
    for cache in &settings.process.cache {
        for finding in cache::check(cache, &machine) {
            totals.print(&finding, output)?;
        }
    }
    totals.print(&clock::check(), output)?;
    match &settings.source.origin {
        Some(url) => totals.print(&origin::check(url, &settings).await, output)?,
        None => totals.print(
            &Finding::warn("origin", "none is given", "run `forebay doctor ORIGIN` to check that it answers"),
            output,
        )?,
    }
    totals.print(&process(node).await?, output)?;
    totals.end(output)
}

/// Whether a process runs and answers.
async fn process(node: Option<&str>) -> Result<Finding, Failure> {
    let begun = std::time::Instant::now();
    match connect(node).await {
        Ok(client) => Ok(match client.status(crate::connect::principal()).await {
            Ok(_) => Finding::ok("process", format!("runs, answered in {}", span_text(begun.elapsed()))),
            Err(fault) => Finding::fail("process", format!("runs, but: {fault}"), "look at its log"),
        }),
        // Before the first `up` there is none; only one that was asked for by name must be there.
        Err(Failure::Failed { message, .. }) if node.is_some() => Ok(Finding::fail(
            "process",
            message.lines().take(2).collect::<Vec<_>>().join(" "),
            "start it, or change `--node`",
        )),
        Err(Failure::Failed { .. }) => Ok(Finding::ok("process", "none runs on this machine")),
        Err(failure) => Err(failure),
    }
}

#[derive(Debug, Default)]
struct Totals {
    warnings: usize,
    failures: usize,
}

impl Totals {
    fn print(&mut self, finding: &Finding, output: &mut Output) -> Result<(), Failure> {
        match finding.state {
            State::Ok => {}
            State::Warn => self.warnings += 1,
            State::Fail => self.failures += 1,
        }
        if output.is_json() {
            output.object(finding)?;
        } else {
            output.line(finding.text(output.is_terminal() && std::io::stdout().is_terminal()))?;
        }
        // One check may take seconds: those before it are already there to read.
        output.flush()
    }

    fn end(&self, output: &mut Output) -> Result<(), Failure> {
        if !output.is_json() {
            let Self { warnings, failures } = self;
            output.line(match (failures, warnings) {
                (0, 0) => "\nEverything is as it should be.".to_owned(),
                (0, _) => format!("\nIt will work. Warnings: {warnings}."),
                _ => format!("\nIt will not work like this. Failures: {failures}, warnings: {warnings}."),
            })?;
        }
        if self.failures > 0 { Err(Failure::Reported) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_that_is_not_ok_says_what_to_do() {
        let text = Finding::fail("FUSE", "no /dev/fuse", "load the module").text(false);
        assert_eq!(text, "FAIL  FUSE: no /dev/fuse\n      -> load the module");
        let object = serde_json::to_value(Finding::ok("FUSE", "there")).expect("plain fields");
        assert_eq!(object["state"], "ok");
        assert!(object["advice"].is_null());
    }
}
