//! Standard output: lines for people, JSON for programs, raw bytes for `cat`.

use std::fmt::Display;
use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use forebay_model::TimestampNs;
use serde::Serialize;

use crate::failure::Failure;

/// Bytes gathered before a write: one pipe's worth.
const BUFFER: usize = 64 << 10;

/// Where results go.
pub(crate) struct Output {
    json: bool,
    terminal: bool,
    writer: BufWriter<Box<dyn Write + Send>>,
}

impl Output {
    /// Standard output of this process.
    pub(crate) fn stdout(json: bool) -> Result<Self, Failure> {
        // Not `std::io::stdout()`: it looks for line ends in everything, which costs `cat` a third of its speed.
        let descriptor = rustix::io::dup(std::io::stdout()).map_err(|error| Failure::output(&error.into()))?;
        let terminal = std::io::stdout().is_terminal();
        Ok(Self::new(json, terminal, Box::new(File::from(descriptor))))
    }

    fn new(json: bool, terminal: bool, writer: Box<dyn Write + Send>) -> Self {
        Self { json, terminal, writer: BufWriter::with_capacity(BUFFER, writer) }
    }

    /// Whether programs read it.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// Whether a person looks at it.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// One line.
    pub(crate) fn line(&mut self, line: impl Display) -> Result<(), Failure> {
        writeln!(self.writer, "{line}").map_err(|error| Failure::output(&error))
    }

    /// One line of JSON.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let text = serde_json::to_string(object)
            .map_err(|error| Failure::failed(format!("cannot write the result as JSON: {error}")))?;
        self.line(text)
    }

    /// Bytes as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer.write_all(bytes).map_err(|error| Failure::output(&error))
    }

    /// Sends out what is gathered.
    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| Failure::output(&error))
    }

    /// `name` as it may be shown: on a terminal control characters become `?`, for a name could hold commands to it.
    pub(crate) fn name(&self, name: &str) -> String {
        if self.terminal { name.replace(char::is_control, "?") } else { name.to_owned() }
    }
}

/// A time as text, `2026-01-31T23:59:59Z`; `-` for times before 1970, which origins use for "unknown".
pub(crate) fn time_text(time: TimestampNs) -> String {
    match u64::try_from(time.0) {
        Ok(nanos) if nanos > 0 => {
            let time: SystemTime = UNIX_EPOCH + Duration::from_nanos(nanos);
            humantime::format_rfc3339_seconds(time).to_string()
        }
        _ => "-".to_owned(),
    }
}

/// A time span to two units: `2m 5s`, `340ms`.
pub(crate) fn span_text(span: Duration) -> String {
    if span < Duration::from_millis(1) {
        return "under 1ms".to_owned();
    }
    let rounded = if span.as_secs() > 0 {
        Duration::from_secs(span.as_secs())
    } else {
        Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    };
    let text = humantime::format_duration(rounded).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(crate) mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What an [`Output`] of a test has written.
    #[derive(Clone, Default)]
    pub(crate) struct Written(Arc<Mutex<Vec<u8>>>);

    impl Written {
        pub(crate) fn output(&self, json: bool) -> Output {
            Output::new(json, false, Box::new(self.clone()))
        }

        pub(crate) fn bytes(&self) -> Vec<u8> {
            self.0.lock().expect("no test panics with it").clone()
        }

        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.bytes()).expect("text")
        }
    }

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("no test panics with it").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn times_that_no_one_knows_are_a_dash() {
        assert_eq!(time_text(TimestampNs(0)), "-");
        assert_eq!(time_text(TimestampNs(-1)), "-");
        assert_eq!(time_text(TimestampNs(1_000_000_000_000_000_000)), "2001-09-09T01:46:40Z");
        assert_eq!(time_text(TimestampNs(i64::MAX)), "2262-04-11T23:47:16Z");
    }

    #[test]
    fn spans_have_two_units() {
        assert_eq!(span_text(Duration::from_micros(340)), "under 1ms");
        assert_eq!(span_text(Duration::from_millis(340)), "340ms");
        assert_eq!(span_text(Duration::from_micros(125_999_999)), "2m 5s");
        assert_eq!(span_text(Duration::from_secs(90_061)), "1day 1h");
    }

    #[test]
    fn a_name_cannot_command_a_terminal() {
        let terminal = Output::new(false, true, Box::new(Written::default()));
        assert_eq!(terminal.name("a\u{1b}[2Jb\n"), "a?[2Jb?");
        assert_eq!(Written::default().output(false).name("a\n"), "a\n");
    }
}
