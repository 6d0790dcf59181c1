//! Writes a trace to its file, on a thread of its own.
//!
//! Always true: what stands in the file is whole lines, unless the process is killed or the disk fails while it writes; the
//! last line is written whatever ends the trace, if the disk takes it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, SystemTime};

use forebay_model::{ByteRange, ByteSize, ContentId, Fault, FaultKind, Trace, TraceState};
use forebay_store::Group;
use parking_lot::{Condvar, Mutex};

/// How often the writer looks for reads, rather than be woken by those who read.
const PAUSE: Duration = Duration::from_millis(20);
/// Bytes gathered before a write.
const BUFFER: usize = 256 << 10;
/// Bytes of the last line at most: `{"dropped":`, the digits of a `u64`, `}` and the end of the line.
const LAST: u64 = 11 + 20 + 2;
/// The least limit of a file: the first and the last line and some reads.
const LIMIT_MIN: ByteSize = ByteSize(4096);
/// Bytes that one line may speak of.
const READ_MAX: u64 = 1 << 30;

/// A read as it is queued.
#[derive(Debug)]
pub(super) struct Noted {
    /// Microseconds since the trace began.
    pub(super) at: u64,
    pub(super) id: ContentId,
    pub(super) size: u64,
    pub(super) range: ByteRange,
    pub(super) group: Group,
}

/// How far a trace is.
#[derive(Debug)]
pub(super) struct Progress {
    pub(super) file: String,
    reads: AtomicU64,
    bytes: AtomicU64,
    pub(super) dropped: AtomicU64,
    state: Mutex<TraceState>,
    ended: Condvar,
}

/// The file, and what is to be written to it.
pub(super) struct Writer {
    file: File,
    progress: Arc<Progress>,
    limit: u64,
    buffer: Vec<u8>,
    /// Reads in the buffer.
    reads: u64,
    /// The file may end with half a line: nothing may follow it.
    is_torn: bool,
}

impl Progress {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            reads: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            state: Mutex::new(TraceState::Running),
            ended: Condvar::new(),
        }
    }

    pub(super) fn trace(&self) -> Trace {
        Trace {
            file: self.file.clone(),
            reads: self.reads.load(Ordering::Relaxed),
            dropped: self.dropped.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            state: self.state.lock().clone(),
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        *self.state.lock() != TraceState::Running
    }

    /// Waits for the end, at most `time`. Whether it has come.
    pub(super) fn wait_ended(&self, time: Duration) -> bool {
        let mut state = self.state.lock();
        self.ended.wait_while_for(&mut state, |state| *state == TraceState::Running, time);
        *state != TraceState::Running
    }

    fn end(&self, how: TraceState) {
        let mut state = self.state.lock();
        if *state == TraceState::Running {
            *state = how;
            self.ended.notify_all();
        }
    }
}

impl Writer {
    /// Makes the file and writes its first line.
    pub(super) fn create(progress: Arc<Progress>, limit: ByteSize) -> Result<Self, Fault> {
        let path = &progress.file;
        if limit < LIMIT_MIN {
            let why = format!("a trace of at most {limit}: it needs {LIMIT_MIN} or more");
            return Err(Fault::new(FaultKind::Invalid, why));
        }
        let no_follow = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).custom_flags(no_follow).open(path);
        let file = file.map_err(|error| cannot(path, &error))?;
        let began = humantime::format_rfc3339_micros(SystemTime::now());
        let buffer = format!("{{\"forebay_trace\":1,\"began\":\"{began}\"}}\n").into_bytes();
        let mut writer = Self { file, progress, limit: limit.0, buffer, reads: 0, is_torn: false };
        if let Err(error) = writer.flush() {
            let path = &writer.progress.file;
            let _ = std::fs::remove_file(path);
            return Err(cannot(path, &error));
        }
        Ok(writer)
    }

    /// Writes what is queued until nobody queues any more or the file may not grow.
    pub(super) fn run(mut self, noted: &Receiver<Noted>, is_on: &AtomicBool) {
        let how = self.record(noted).unwrap_or_else(|error| TraceState::Failed(error.to_string()));
        // What comes from now on comes after the trace.
        is_on.store(false, Ordering::Relaxed);
        let how = match self.write_last() {
            Err(error) if !matches!(how, TraceState::Failed(_)) => TraceState::Failed(error.to_string()),
            _ => how,
        };
        let Trace { file, reads, dropped, bytes, .. } = self.progress.trace();
        match &how {
            TraceState::Failed(why) => {
                tracing::warn!(file, reads, dropped, bytes, why, "trace ended: its file cannot be written");
            }
            _ => tracing::info!(file, reads, dropped, bytes, how = how.name(), "trace ended"),
        }
        self.progress.end(how);
    }

    fn record(&mut self, noted: &Receiver<Noted>) -> io::Result<TraceState> {
        loop {
            match noted.try_recv() {
                Ok(noted) => {
                    if !self.put(&noted)? {
                        self.flush()?;
                        return Ok(TraceState::Full);
                    }
                }
                Err(TryRecvError::Empty) => {
                    self.flush()?;
                    std::thread::park_timeout(PAUSE);
                }
                Err(TryRecvError::Disconnected) => {
                    self.flush()?;
                    return Ok(TraceState::Stopped);
                }
            }
        }
    }

    /// Gathers the lines of a read. False: the file may not grow any more.
    fn put(&mut self, noted: &Noted) -> io::Result<bool> {
        let Noted { at, id, size, range, group } = noted;
        let mut start = range.start;
        while start < range.end {
            let part = ByteRange::at(start, READ_MAX, range.end);
            let before = self.buffer.len();
            let (id, offset, len, group) = (id.as_u128(), part.start, part.len(), group.0);
            writeln!(
                self.buffer,
                r#"{{"t":{at},"id":"{id:032x}","size":{size},"offset":{offset},"len":{len},"group":"{group:016x}"}}"#
            )?;
            if self.progress.bytes.load(Ordering::Relaxed) + self.buffer.len() as u64 + LAST > self.limit {
                self.buffer.truncate(before);
                return Ok(false);
            }
            self.reads += 1;
            start = part.end;
            if self.buffer.len() >= BUFFER {
                self.flush()?;
            }
        }
        Ok(true)
    }

    /// Writes what is gathered, or drops it and leaves the file as it was.
    fn flush(&mut self) -> io::Result<()> {
        let written = self.file.write_all(&self.buffer);
        match &written {
            Ok(()) => {
                self.progress.reads.fetch_add(self.reads, Ordering::Relaxed);
                self.progress.bytes.fetch_add(self.buffer.len() as u64, Ordering::Relaxed);
            }
            Err(_) => {
                self.progress.dropped.fetch_add(self.reads, Ordering::Relaxed);
                self.is_torn = self.cut().is_err();
            }
        }
        self.buffer.clear();
        self.reads = 0;
        written
    }

    /// Takes half a line away from the end.
    fn cut(&mut self) -> io::Result<()> {
        let whole = self.progress.bytes.load(Ordering::Relaxed);
        self.file.set_len(whole)?;
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(whole)).map(drop)
    }

    fn write_last(&mut self) -> io::Result<()> {
        if self.is_torn {
            return Ok(());
        }
        self.buffer.clear();
        writeln!(self.buffer, r#"{{"dropped":{}}}"#, self.progress.dropped.load(Ordering::Relaxed))?;
        self.flush()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Nothing is changed unless a panic has ended the thread.
        self.progress.end(TraceState::Failed("the writer of the trace broke off: report this".to_owned()));
    }
}

fn cannot(path: &str, error: &io::Error) -> Fault {
    let kind = match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let why = format!("{path} exists already: a trace is written to a new file");
            return Fault::new(FaultKind::Invalid, why);
        }
        io::ErrorKind::NotFound => FaultKind::NotFound,
        io::ErrorKind::NotADirectory => FaultKind::NotADirectory,
        io::ErrorKind::PermissionDenied => FaultKind::Denied,
        io::ErrorKind::ReadOnlyFilesystem => FaultKind::ReadOnly,
        _ => FaultKind::Unavailable,
    };
    Fault::new(kind, format!("the process cannot make the file of a trace: {path}: {error}"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// A writer to a device of which every write fails with ENOSPC.
    fn to_full_disk() -> Writer {
        let file = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let progress = Arc::new(Progress::new("/dev/full"));
        Writer { file, progress, limit: 1 << 20, buffer: Vec::new(), reads: 0, is_torn: false }
    }

    #[test]
    fn a_full_disk_ends_the_trace_and_what_was_lost_is_counted() {
        let writer = to_full_disk();
        let (progress, is_on) = (writer.progress.clone(), AtomicBool::new(true));
        let (queue, noted) = sync_channel(4);
        for _ in 0..3 {
            let (range, group) = (ByteRange::new(0, 9), Group(1));
            queue.try_send(Noted { at: 1, id: ContentId::from_u128(1), size: 9, range, group }).unwrap();
        }
        writer.run(&noted, &is_on);
        assert!(!is_on.load(Ordering::Relaxed));
        let Trace { reads, dropped, bytes, state, .. } = progress.trace();
        assert_eq!((reads, dropped, bytes), (0, 3, 0));
        assert!(matches!(&state, TraceState::Failed(why) if why.contains("No space left")), "{state:?}");
    }

    #[test]
    fn the_last_line_fits_what_is_left_for_it() {
        assert_eq!(format!("{{\"dropped\":{}}}\n", u64::MAX).len() as u64, LAST);
    }

    #[test]
    fn a_writer_that_breaks_off_ends_its_trace() {
        let writer = to_full_disk();
        let progress = writer.progress.clone();
        drop(writer);
        assert!(progress.wait_ended(Duration::ZERO));
    }
}
