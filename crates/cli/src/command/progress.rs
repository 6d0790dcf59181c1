//! Progress of long work: a bar on a terminal, a line every few seconds elsewhere, always on standard error.

use std::cell::Cell;
use std::io::IsTerminal as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use forebay_model::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::output::span_text;

/// Time between lines where there is no terminal: a log stays short, and a person sees that it lives.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Time between two questions about work that another process does.
pub(crate) const POLL_EVERY: Duration = Duration::from_millis(200);
/// Time between redraws of a bar.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// How progress is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// A bar.
    Bar,
    /// Lines.
    Lines,
    /// Not at all.
    Silent,
}

/// Work that is done and work that is known to be left.
#[derive(Debug)]
pub(crate) struct Progress {
    started: Instant,
    bytes: AtomicU64,
    files: AtomicU64,
    expected_bytes: AtomicU64,
    expected_files: AtomicU64,
    counted: AtomicBool,
    bar: Option<ProgressBar>,
}

/// Work that is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Whole files.
    pub(crate) files: u64,
    /// Bytes, also of files that failed later.
    pub(crate) bytes: u64,
}

impl Style {
    /// A bar where standard error is a terminal.
    pub(crate) fn of_process() -> Self {
        if std::io::stderr().is_terminal() { Self::Bar } else { Self::Lines }
    }
}

impl Progress {
    /// Starts to count and, from a task of its own, to show.
    pub(crate) fn start(style: Style) -> Arc<Self> {
        let progress = Arc::new(Self {
            started: Instant::now(),
            bytes: AtomicU64::new(0),
            files: AtomicU64::new(0),
            expected_bytes: AtomicU64::new(0),
            expected_files: AtomicU64::new(0),
            counted: AtomicBool::new(false),
            bar: (style == Style::Bar).then(bar),
        });
        let every = match style {
            Style::Bar => BAR_EVERY,
            Style::Lines => LINE_EVERY,
            Style::Silent => return progress,
        };
        // Weak: the task ends with the work.
        tokio::spawn(show(Arc::downgrade(&progress), every));
        progress
    }

    /// One more file of `bytes` is known.
    pub(crate) fn expect(&self, bytes: u64) {
        self.expect_many(1, bytes);
    }

    /// More files are known, of `bytes` together.
    pub(crate) fn expect_many(&self, files: u64, bytes: u64) {
        self.expected_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.expected_files.fetch_add(files, Ordering::Relaxed);
    }

    /// Nothing more will be expected: time left can be told.
    pub(crate) fn counted(&self) {
        self.counted.store(true, Ordering::Relaxed);
    }

    /// More bytes are done.
    pub(crate) fn add_bytes(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One more file is done.
    pub(crate) fn add_file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// Prints a line beside the bar.
    pub(crate) fn say(&self, line: &str) {
        self.suspend(|| eprintln!("forebay: {line}"));
    }

    /// Does what prints to standard error while the bar is away.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// Takes the bar away and says what was done and how long it took.
    pub(crate) fn finish(&self) -> (Totals, Duration) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        let files = self.files.load(Ordering::Relaxed);
        (Totals { files, bytes: self.bytes.load(Ordering::Relaxed) }, self.started.elapsed())
    }

    fn line(&self, elapsed: Duration) -> String {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let files = self.files.load(Ordering::Relaxed);
        let rate = bytes as f64 / elapsed.as_secs_f64().max(0.001);
        let done = ByteSize(bytes);
        let speed = ByteSize(rate as u64);
        if !self.counted.load(Ordering::Relaxed) {
            return format!("{files} files, {done}, {speed}/s, still counting");
        }
        let expected_bytes = self.expected_bytes.load(Ordering::Relaxed);
        let expected_files = self.expected_files.load(Ordering::Relaxed);
        let left = if rate >= 1.0 {
            span_text(Duration::from_secs_f64((expected_bytes.saturating_sub(bytes) as f64 / rate).ceil().min(1e9)))
        } else {
            "unknown time".to_owned()
        };
        format!("{files} of {expected_files} files, {done} of {}, {speed}/s, {left} left", ByteSize(expected_bytes))
    }
}

async fn show(progress: Weak<Progress>, every: Duration) {
    let mut ticks = tokio::time::interval(every);
    // The first tick comes at once, when there is nothing to show.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(progress) = progress.upgrade() else { return };
        let line = progress.line(progress.started.elapsed());
        match &progress.bar {
            Some(bar) => {
                let expected = progress.expected_bytes.load(Ordering::Relaxed);
                let bytes = progress.bytes.load(Ordering::Relaxed);
                bar.set_length(expected.max(bytes).max(1));
                bar.set_position(bytes);
                bar.set_message(line);
            }
            None => eprintln!("{line}"),
        }
    }
}

/// Work of another process, whose end is not known: how much is done, and how fast.
pub(crate) struct Meter {
    started: Instant,
    told: Cell<Instant>,
    what: &'static str,
    spinner: Option<ProgressBar>,
}

impl Meter {
    /// Begins to measure `what`.
    pub(crate) fn start(style: Style, what: &'static str) -> Self {
        let spinner = (style == Style::Bar).then(|| {
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr())
                .with_style(ProgressStyle::default_spinner())
        });
        Self { started: Instant::now(), told: Cell::new(Instant::now()), what, spinner }
    }

    /// So much is done.
    pub(crate) fn show(&self, doing: &str, done: u64) {
        let rate = done as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let line = format!("{doing}: {done} {}, {rate:.0}/s", self.what);
        match &self.spinner {
            Some(spinner) => {
                spinner.set_message(line);
                spinner.tick();
            }
            None if self.told.get().elapsed() >= LINE_EVERY => {
                self.told.set(Instant::now());
                eprintln!("{line}");
            }
            None => {}
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:24} {percent:>3}%  {msg}").expect("the template is right: a test draws it");
    ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn time_left_is_told_when_everything_is_counted() {
        let progress = Progress::start(Style::Silent);
        progress.expect(3_000_000_000);
        progress.expect(1_000_000_000);
        progress.add_bytes(1_000_000_000);
        progress.add_file();
        let elapsed = Duration::from_secs(10);
        assert_eq!(progress.line(elapsed), "1 files, 1.00 GB, 100 MB/s, still counting");
        progress.counted();
        assert_eq!(progress.line(elapsed), "1 of 2 files, 1.00 GB of 4.00 GB, 100 MB/s, 30s left");
        assert_eq!(progress.finish().0, Totals { files: 1, bytes: 1_000_000_000 });
    }

    #[test]
    fn the_bar_can_be_drawn() {
        bar().finish_and_clear();
    }
}
