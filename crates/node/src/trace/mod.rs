//! Records what the node is asked to read (`docs/trace.md`).
//!
//! Always true: one trace at most; a read never waits for it, what finds no place in its queue is counted and left out; its
//! file is a new one that the node makes, no longer than its limit, and names contents by their ids alone.

mod writer;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::Thread;
use std::time::{Duration, Instant};

use forebay_model::{ByteRange, ByteSize, Content, Fault, FaultKind, Trace};
use forebay_store::Group;
use parking_lot::{Mutex, RwLock};

use writer::{Noted, Progress, Writer};

/// Reads that wait to be written: 4 MiB of 64 bytes each. The writer comes every 20 ms: enough for three million a second
/// for a while, and for the million that it writes.
const QUEUE: usize = 1 << 16;
/// How long the end of a trace may take: what is queued is 8 MiB of text. A process must end within 10 s.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Records reads, while it is told to.
#[derive(Debug, Default)]
pub(crate) struct Tracer {
    is_on: Arc<AtomicBool>,
    /// Held while a trace is made; not by those who read.
    starting: Mutex<()>,
    current: RwLock<Option<Recording>>,
}

/// A trace that goes on, or that ended by itself and was not asked about yet.
#[derive(Debug)]
struct Recording {
    began: Instant,
    /// None: it was told to end.
    queue: Option<SyncSender<Noted>>,
    progress: Arc<Progress>,
    writer: Thread,
}

impl Tracer {
    /// Whether reads are to be noted.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// `range` of a content is read. Never waits.
    pub(crate) fn note(&self, content: &Content, group: Group, range: ByteRange) {
        // Whoever holds it begins or ends the trace at this moment.
        let Some(current) = self.current.try_read() else { return };
        let Some(Recording { began, queue: Some(queue), progress, .. }) = &*current else { return };
        if range.is_empty() {
            return;
        }
        let at = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let noted = Noted { at, id: content.id, size: content.size, range, group };
        if let Err(TrySendError::Full(_)) = queue.try_send(noted) {
            progress.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Begins a trace. Blocks on the file.
    pub(crate) fn start(&self, file: &str, limit: ByteSize) -> Result<Trace, Fault> {
        let invalid = |why: String| Fault::new(FaultKind::Invalid, why);
        if !Path::new(file).is_absolute() {
            return Err(invalid(format!("{file}: the file of a trace needs an absolute path")));
        }
        let Some(_starting) = self.starting.try_lock() else {
            return Err(invalid("another trace is being started".to_owned()));
        };
        if let Some(recording) = &*self.current.read()
            && !recording.progress.has_ended()
        {
            let other = &recording.progress.file;
            return Err(invalid(format!("a trace is running, to {other}: end it first by `forebay trace stop`")));
        }
        let progress = Arc::new(Progress::new(file));
        let began = Instant::now();
        let writer = Writer::create(progress.clone(), limit)?;
        let (queue, noted) = sync_channel(QUEUE);
        let is_on = self.is_on.clone();
        let thread = std::thread::Builder::new().name("trace".to_owned()).spawn(move || writer.run(&noted, &is_on));
        let thread = thread.map_err(|error| {
            // Made a moment ago, and nothing but its first line.
            let _ = std::fs::remove_file(file);
            Fault::new(FaultKind::Unavailable, format!("cannot start a thread for the trace: {error}"))
        })?;
        let trace = progress.trace();
        *self.current.write() =
            Some(Recording { began, queue: Some(queue), progress, writer: thread.thread().clone() });
        self.is_on.store(true, Ordering::Relaxed);
        tracing::info!(file, limit = limit.0, "trace started");
        Ok(trace)
    }

    /// Ends the trace and waits for its last line.
    pub(crate) fn stop(&self, file: Option<&str>) -> Result<Trace, Fault> {
        let mut current = self.current.write();
        let none = || Fault::new(FaultKind::Invalid, "no trace is running: `forebay trace start FILE` begins one");
        let recording = current.as_mut().ok_or_else(none)?;
        let progress = recording.progress.clone();
        if file.is_some_and(|file| file != progress.file) {
            let why =
                format!("the trace that is running goes to {}, not to {}", progress.file, file.unwrap_or_default());
            return Err(Fault::new(FaultKind::Invalid, why));
        }
        // The writer ends when it has written what is queued.
        recording.queue = None;
        recording.writer.unpark();
        // Before the lock is let go: the next trace may begin then.
        self.is_on.store(false, Ordering::Relaxed);
        drop(current);
        if !progress.wait_ended(END_LIMIT) {
            let why = format!("{}: the disk does not take the end of the trace; ask again", progress.file);
            return Err(Fault::new(FaultKind::TimedOut, why));
        }
        let mut current = self.current.write();
        if current.as_ref().is_some_and(|recording| Arc::ptr_eq(&recording.progress, &progress)) {
            *current = None;
        }
        Ok(progress.trace())
    }

    /// Ends the trace with the process.
    pub(crate) fn close(&self) {
        if self.trace().is_some()
            && let Err(fault) = self.stop(None)
        {
            tracing::warn!(%fault, "trace not ended");
        }
    }

    /// The trace that goes on, or that ended by itself.
    pub(crate) fn trace(&self) -> Option<Trace> {
        self.current.read().as_ref().map(|recording| recording.progress.trace())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use forebay_model::{ContentId, TraceState, Version};
    use serde_json::Value;
    use tempfile::TempDir;

    use super::*;

    const MIB: ByteSize = ByteSize(1 << 20);
    const GROUP: Group = Group(0xff);

    fn content(size: u64) -> Content {
        let version = Version::Etag("\"secret-version\"".into());
        Content {
            source: "/secret-source".into(),
            key: "secret-key".into(),
            version,
            size,
            id: ContentId::from_u128(42),
        }
    }

    fn at(directory: &TempDir, name: &str) -> String {
        directory.path().join(name).to_str().unwrap().to_owned()
    }

    fn lines(file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(file).unwrap();
        assert!(text.ends_with('\n') && !text.contains("secret"), "{text}");
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn read(tracer: &Tracer, size: u64, start: u64, end: u64) {
        if tracer.is_on() {
            tracer.note(&content(size), GROUP, ByteRange::new(start, end));
        }
    }

    fn message(result: Result<Trace, Fault>) -> String {
        result.unwrap_err().message
    }

    fn wait_ended(tracer: &Tracer) {
        let progress = tracer.current.read().as_ref().unwrap().progress.clone();
        assert!(progress.wait_ended(Duration::from_secs(10)), "it does not end");
    }

    #[test]
    fn every_read_between_start_and_stop_is_a_line() {
        let directory = tempfile::tempdir().unwrap();
        let (tracer, file) = (Tracer::default(), at(&directory, "t.jsonl"));
        read(&tracer, 9, 0, 9);
        let started = tracer.start(&file, MIB).unwrap();
        assert_eq!((started.state, started.reads), (TraceState::Running, 0));
        for start in 0..1_000 {
            read(&tracer, 5_000, start, start + 7);
        }
        read(&tracer, 5_000, 5_000, 5_000);
        let stopped = tracer.stop(Some(&file)).unwrap();
        read(&tracer, 9, 0, 9);
        let lines = lines(&file);
        assert_eq!(lines[0]["forebay_trace"], 1);
        assert!(lines[0]["began"].as_str().unwrap().ends_with('Z'));
        for (start, line) in lines[1..1_001].iter().enumerate() {
            let expected = serde_json::json!({
                "t": line["t"].as_u64().unwrap(), "id": "0000000000000000000000000000002a", "size": 5_000,
                "offset": start, "len": 7, "group": "00000000000000ff",
            });
            assert_eq!(*line, expected);
        }
        assert_eq!(lines[1_001..], [serde_json::json!({"dropped": 0})]);
        let bytes = std::fs::metadata(&file).unwrap().len();
        assert_eq!(stopped, Trace { file, reads: 1_000, dropped: 0, bytes, state: TraceState::Stopped });
        assert_eq!(tracer.trace(), None);
    }

    #[test]
    fn a_whole_content_is_a_line_for_each_gibibyte() {
        let directory = tempfile::tempdir().unwrap();
        let (tracer, file) = (Tracer::default(), at(&directory, "t"));
        tracer.start(&file, MIB).unwrap();
        let size = (5 << 29) + 3;
        read(&tracer, size, 0, size);
        assert_eq!(tracer.stop(None).unwrap().reads, 3);
        let ranges: Vec<_> = lines(&file)[1..4].iter().map(|l| (l["offset"].as_u64(), l["len"].as_u64())).collect();
        assert_eq!(
            ranges,
            [(0, 1 << 30), (1 << 30, 1 << 30), (1 << 31, (1 << 29) + 3)].map(|(o, l)| (Some(o), Some(l)))
        );
    }

    #[test]
    fn one_trace_at_a_time_each_to_a_new_file() {
        let directory = tempfile::tempdir().unwrap();
        let (tracer, file) = (Tracer::default(), at(&directory, "t"));
        assert!(message(tracer.stop(None)).contains("no trace is running"));
        assert!(
            message(tracer.start("relative", MIB)).contains("relative: the file of a trace needs an absolute path")
        );
        assert!(message(tracer.start(&file, ByteSize(10))).contains("4.10 kB"));
        assert!(message(tracer.start(&at(&directory, "no/t"), MIB)).contains("no/t: No such file"));
        tracer.start(&file, MIB).unwrap();
        let second = message(tracer.start(&at(&directory, "u"), MIB));
        assert!(second.contains(&format!("a trace is running, to {file}")), "{second}");
        assert!(message(tracer.stop(Some("/v"))).contains(&format!("goes to {file}, not to /v")));
        tracer.stop(None).unwrap();
        std::os::unix::fs::symlink(at(&directory, "aim"), at(&directory, "link")).unwrap();
        for taken in [file, at(&directory, "link")] {
            assert!(message(tracer.start(&taken, MIB)).contains(&format!("{taken} exists already")));
        }
        assert!(!directory.path().join("aim").exists());
    }

    #[test]
    fn the_file_is_its_users_alone_and_no_longer_than_its_limit() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let (tracer, file) = (Tracer::default(), at(&directory, "t"));
        tracer.start(&file, ByteSize(5_000)).unwrap();
        for _ in 0..1_000 {
            read(&tracer, 5_000, 0, 7);
        }
        wait_ended(&tracer);
        assert!(!tracer.is_on());
        let metadata = std::fs::metadata(&file).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        let lines = lines(&file);
        assert_eq!(lines.last().unwrap()["dropped"], 0);
        // One line more would not fit.
        assert!((4_800..=5_000).contains(&metadata.len()), "{}", metadata.len());
        assert_eq!(tracer.trace().unwrap().state, TraceState::Full);
        assert_eq!(tracer.stop(None).unwrap().reads, lines.len() as u64 - 2);
    }

    #[test]
    fn what_finds_no_place_is_counted() {
        let (tracer, progress) = (Tracer::default(), Arc::new(Progress::new("/t")));
        let (queue, noted) = sync_channel(3);
        let writer = std::thread::current();
        let queue = Some(queue);
        *tracer.current.write() = Some(Recording { began: Instant::now(), queue, progress: progress.clone(), writer });
        for _ in 0..10 {
            tracer.note(&content(9), GROUP, ByteRange::new(0, 9));
        }
        assert_eq!(progress.dropped.load(Ordering::Relaxed), 7);
        assert_eq!(noted.try_iter().count(), 3);
        // A read that comes while a trace begins or ends goes on without it.
        let _held = tracer.current.write();
        tracer.note(&content(9), GROUP, ByteRange::new(0, 9));
        assert_eq!(noted.try_iter().count(), 0);
    }

    #[test]
    fn a_trace_that_ended_by_itself_makes_way_for_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let tracer = Tracer::default();
        tracer.start(&at(&directory, "t"), ByteSize(4_096)).unwrap();
        for _ in 0..100 {
            read(&tracer, 5_000, 0, 7);
        }
        wait_ended(&tracer);
        tracer.start(&at(&directory, "u"), MIB).unwrap();
        read(&tracer, 5_000, 0, 7);
        tracer.close();
        assert_eq!(lines(&at(&directory, "u")).len(), 3);
    }
}
