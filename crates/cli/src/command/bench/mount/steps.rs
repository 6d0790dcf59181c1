//! Progress: which step is under way, on a terminal as a line that is drawn over, elsewhere as a line a step.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget};

/// Time between turns of the spinner.
const TURN: Duration = Duration::from_millis(200);

/// The steps of one run.
pub(super) struct Steps {
    spinner: Option<ProgressBar>,
}

impl Steps {
    pub(super) fn start() -> Self {
        let spinner = std::io::stderr().is_terminal().then(|| {
            let spinner = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            spinner.enable_steady_tick(TURN);
            spinner
        });
        Self { spinner }
    }

    /// Another step begins.
    pub(super) fn say(&self, what: &str) {
        match &self.spinner {
            Some(spinner) => spinner.set_message(what.to_owned()),
            None => eprintln!("forebay: {what}"),
        }
    }

    pub(super) fn finish(&self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}
