//! What `up` prints: when it is ready, and when it has stopped.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use forebay_model::{ByteSize, SourceInfo};
use serde::Serialize;

use crate::failure::Failure;
use crate::output::{Output, span_text};

/// What runs. With `--json` it is the first line, as an object with these fields and `"event":"ready"`, `"version"`, `"pid"`.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Ready {
    /// Where the source is mounted; null without a mount.
    pub(crate) mount: Option<PathBuf>,
    /// `files` or `streams`; null without a mount.
    pub(crate) kind: Option<&'static str>,
    /// `active`, or why there is none; null without a mount.
    pub(crate) passthrough: Option<String>,
    /// `io_uring` or `/dev/fuse`: by which way the kernel's requests come; null without a mount.
    pub(crate) transport: Option<String>,
    /// What the mount shows: the origin of the command line, or all sources; null without a mount.
    pub(crate) shows: Option<String>,
    /// The sources, by path.
    pub(crate) sources: Vec<ReadySource>,
    /// The caches, in the order of the settings.
    pub(crate) cache: Vec<ReadyCache>,
    /// What was found from the last run.
    pub(crate) recovered: Recovered,
    /// Where metrics and health are.
    pub(crate) admin: SocketAddr,
    /// Where commands ask.
    pub(crate) socket: PathBuf,
}

/// One source.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReadySource {
    /// Its path in the namespace.
    pub(crate) path: String,
    /// URL of its origin, without credentials.
    pub(crate) origin: String,
    /// Its freshness rule.
    pub(crate) freshness: String,
    /// How its origin proves a version.
    pub(crate) proof: String,
    /// Why it does not answer, if that is known.
    pub(crate) problem: Option<String>,
}

impl From<SourceInfo> for ReadySource {
    fn from(SourceInfo { spec, proof, problem, .. }: SourceInfo) -> Self {
        let (path, freshness) = (spec.path.to_string(), spec.freshness.to_string());
        Self { path, origin: spec.origin, freshness, proof, problem }
    }
}

/// One cache directory.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ReadyCache {
    /// The directory.
    pub(crate) directory: PathBuf,
    /// How much of it may be used.
    pub(crate) capacity_bytes: u64,
    /// How much of it is used.
    pub(crate) resident_bytes: u64,
    /// Whether it failed at the start.
    pub(crate) is_down: bool,
    /// Whether not all that lies there is known yet.
    pub(crate) is_recovering: bool,
}

/// What the caches held at the start.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Recovered {
    /// Contents.
    pub(crate) contents: u64,
    /// Their resident bytes.
    pub(crate) bytes: u64,
    /// Time that it took to find them.
    pub(crate) millis: u64,
    /// Whether that is all: else the rest becomes known while the process serves.
    pub(crate) is_complete: bool,
}

/// How a process ended in good order.
#[derive(Debug)]
pub(crate) struct Stopped {
    /// The signal's name, or what ended it.
    pub(crate) reason: String,
    /// How long it ran.
    pub(crate) ran_for: Duration,
    /// What was mounted.
    pub(crate) mount: Option<PathBuf>,
}

/// How lines for people look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Style {
    /// Bold heads, on a terminal.
    Bold,
    /// Nothing but text.
    Plain,
}

impl Style {
    /// The style of a terminal, or of what is none.
    pub(crate) fn of(terminal: bool) -> Self {
        if terminal { Self::Bold } else { Self::Plain }
    }

    fn head(self, text: &str) -> String {
        match self {
            Self::Bold => format!("\u{1b}[1m{text}\u{1b}[0m"),
            Self::Plain => text.to_owned(),
        }
    }
}

impl Ready {
    /// A report without a node: the parts fill in what they know.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self {
            mount: None,
            kind: None,
            passthrough: None,
            transport: None,
            shows: None,
            sources: Vec::new(),
            cache: Vec::new(),
            recovered: Recovered { contents: 0, bytes: 0, millis: 0, is_complete: true },
            admin: (Ipv4Addr::LOCALHOST, 0).into(),
            socket,
        }
    }

    /// Prints it, at once: whoever started the process waits for it.
    pub(crate) fn print(&self, output: &mut Output, style: Style, took: Duration) -> Result<(), Failure> {
        if output.is_json() {
            #[derive(Serialize)]
            struct Line<'a> {
                event: &'static str,
                version: &'static str,
                pid: u32,
                #[serde(flatten)]
                ready: &'a Ready,
            }
            let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
            output.object(&Line { event: "ready", version, pid, ready: self })?;
        } else {
            output.line(self.text(style, took))?;
        }
        output.flush()
    }

    fn text(&self, style: Style, took: Duration) -> String {
        let line = |name: &str, value: String| format!("\n  {} {value}", style.head(&format!("{name:<10}")));
        let version = env!("CARGO_PKG_VERSION");
        let mut text = style.head(&format!("forebay {version} is ready after {}", span_text(took)));
        if let (Some(mount), Some(shows)) = (&self.mount, &self.shows) {
            text += &line("mount", format!("{} shows {shows}", mount.display()));
        }
        if let Some(kind) = self.kind {
            let passthrough = match self.passthrough.as_deref() {
                Some(state) if kind == "streams" => format!(", passthrough: {state}"),
                _ => String::new(),
            };
            let transport = match self.transport.as_deref() {
                Some(transport) => format!(", requests by {transport}"),
                None => String::new(),
            };
            text += &line("kind", format!("{kind}{transport}{passthrough}"));
        }
        for ReadySource { path, origin, freshness, proof, problem } in &self.sources {
            let problem = problem.as_ref().map_or(String::new(), |why| format!("; {why}"));
            text += &line("source", format!("{path} is {origin}, {freshness}, proof of version: {proof}{problem}"));
        }
        if self.sources.is_empty() {
            text += &line("source", "none yet: forebay source add PATH ORIGIN".to_owned());
        }
        for cache in &self.cache {
            let (used, capacity) = (ByteSize(cache.resident_bytes), ByteSize(cache.capacity_bytes));
            let used = if cache.is_down {
                "not usable, see the log".to_owned()
            } else if cache.is_recovering {
                format!("{capacity}; what lies there becomes known while it serves")
            } else {
                format!("{used} of {capacity} in use")
            };
            text += &line("cache", format!("{}: {used}", cache.directory.display()));
        }
        let Recovered { contents, bytes, millis, is_complete } = self.recovered;
        if contents > 0 || !is_complete {
            let bytes = ByteSize(bytes);
            let so_far = if is_complete { "" } else { " so far, and goes on: see `forebay status`" };
            text += &line("recovered", format!("{contents} contents, {bytes}, in {millis} ms{so_far}"));
        }
        text += &line("metrics", format!("http://{}/metrics", self.admin));
        text += &line("socket", self.socket.display().to_string());
        text += &line("stop", format!("Ctrl-C, or: kill {}", std::process::id()));
        text
    }
}

impl Stopped {
    /// Prints the last line.
    pub(crate) fn print(&self, output: &mut Output) -> Result<(), Failure> {
        let printed = if output.is_json() {
            let seconds = self.ran_for.as_secs_f64();
            output.object(&serde_json::json!({ "event": "stopped", "reason": self.reason, "seconds": seconds }))
        } else {
            let unmounted =
                self.mount.as_ref().map_or(String::new(), |mount| format!("unmounted {}, ", mount.display()));
            output.line(format!("forebay stopped ({}): {unmounted}ran for {}", self.reason, span_text(self.ran_for)))
        };
        match printed.and_then(|()| output.flush()) {
            // Everything has stopped well: a reader that has gone does not make it a failure.
            Err(Failure::ReaderGone) => Ok(()),
            printed => printed,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::output::tests::Written;

    fn ready() -> Ready {
        let mut ready = Ready::new("/run/forebay/node.sock".into());
        ready.sources.push(ReadySource {
            path: "/imagenet".into(),
            origin: "s3://ml/imagenet/".into(),
            freshness: "ttl=60s".into(),
            proof: "precondition".into(),
            problem: None,
        });
        ready.mount = Some("/data".into());
        ready.shows = Some("s3://ml/imagenet/".into());
        ready.kind = Some("files");
        for (directory, resident_bytes, is_down) in [("/c", 1_860_000_000, false), ("/d", 0, true)] {
            let (directory, capacity_bytes) = (directory.into(), 20_000_000_000);
            let is_recovering = false;
            ready.cache.push(ReadyCache { directory, capacity_bytes, resident_bytes, is_down, is_recovering });
        }
        ready.recovered = Recovered { contents: 6900, bytes: 1_860_000_000, millis: 12, is_complete: true };
        ready
    }

    #[test]
    fn the_json_line_has_the_fields_that_programs_read() {
        let written = Written::default();
        ready().print(&mut written.output(true), Style::Plain, Duration::from_millis(412)).unwrap();
        let text = written.text();
        assert_eq!(text.lines().count(), 1);
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["event"], "ready");
        assert_eq!(line["mount"], "/data");
        assert_eq!(line["cache"][0]["capacity_bytes"], 20_000_000_000_u64);
        assert_eq!(line["recovered"]["contents"], 6900);
        assert_eq!(line["sources"][0]["freshness"], "ttl=60s");
        for field in ["version", "pid", "kind", "passthrough", "transport", "shows", "admin", "socket"] {
            assert!(line.get(field).is_some(), "{field}");
        }
    }

    #[test]
    fn people_read_a_few_lines() {
        let text = ready().text(Style::Plain, Duration::from_millis(412));
        assert!(text.starts_with("forebay "), "{text}");
        for part in [
            "ready after 412ms",
            "/data shows s3://ml/imagenet/",
            "/imagenet is s3://ml/imagenet/, ttl=60s",
            "1.86 GB of 20.0 GB",
            "/d: not usable",
            "6900 contents",
            "kill ",
        ] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
        assert!(!text.contains('\u{1b}') && !text.contains("so far"), "{text}");
        let mut early = ready();
        early.recovered = Recovered { contents: 0, bytes: 0, millis: 500, is_complete: false };
        early.cache[0].is_recovering = true;
        let text = early.text(Style::Plain, Duration::from_millis(612));
        for part in ["/c: 20.0 GB; what lies there becomes known", "in 500 ms so far"] {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
