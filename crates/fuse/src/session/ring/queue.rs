//! The queue of one core: requests that programs on this core make come to a thread on the same core, so that no other
//! core has to be woken for them.
//!
//! A queue's thread owns its ring: it alone submits. An answer that is given on that thread goes into the ring there and
//! then, and leaves with the next submission; one given on another thread is noted and the queue's thread is woken.

#![expect(
    unsafe_code,
    reason = "what a submission points to must outlive it, which only the caller of the ring can promise"
)]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use io_uring::squeue::Entry128;
use io_uring::{IoUring, opcode, types};
use rustix::event::{EventfdFlags, eventfd};
use zerocopy::IntoBytes;

use super::abi::{COMMAND_COMMIT_AND_FETCH, COMMAND_REGISTER, Command, EntryHeader};
use super::elsewhere::Elsewhere;
use super::memory::Memory;
use super::readers::Employer;
use super::slot::Slot;
use crate::session::buffers::REPLY_MAX;

type Ring = IoUring<Entry128, io_uring::cqueue::Entry>;

/// After how many requests that were alone a queue counts as one reader's.
const CROWD: u32 = 256;
/// A wait of the queue's thread that was too long for the others of its core: it waits for no disk for a while.
const SLOW: Duration = Duration::from_millis(5);

/// Marks the completion that tells of answers by other threads; entries are marked by their numbers.
const WAKE: u64 = u64::MAX;

/// What the threads that answer know of a queue.
pub(super) struct Queue {
    pub(super) memory: Memory,
    /// The number of the core, and of the queue.
    pub(super) core: u16,
    pub(super) device: Arc<OwnedFd>,
    entries: u16,
    /// Requests that are not answered yet.
    under_way: AtomicU32,
    /// Answers by other threads.
    elsewhere: Elsewhere<(u16, u64)>,
    wake: OwnedFd,
}

/// What the queue's thread has of it.
struct Local {
    queue: Arc<Queue>,
    ring: Ring,
    readers: Employer,
    /// Completions, mark and result, that have not been looked at: at most one for each entry, and the wake.
    done: VecDeque<(u64, i32)>,
    /// Above zero while requests lately came when others were under way: how many must come to an idle queue until it
    /// counts as one reader's again.
    crowd: u32,
    /// Whether something was pushed since the last submission.
    is_pending: bool,
}

thread_local! {
    static LOCAL: RefCell<Option<Local>> = const { RefCell::new(None) };
}

/// Does `work`, which may wait for a disk: beside this thread if it is a queue's and that is crowded. A reader that is alone
/// is served sooner without a change of threads.
pub(in crate::session) fn do_waiting(work: impl FnOnce() + Send + 'static) {
    let mut work = Some(work);
    let is_queues = LOCAL.with_borrow_mut(|local| {
        let Some(local) = local else { return false };
        if local.crowd == 0 {
            local.take_answers();
            local.submit();
        } else if let Some(work) = work.take() {
            local.readers.add(Box::new(work));
        }
        true
    });
    let Some(work) = work else { return };
    let began = Instant::now();
    work();
    if is_queues && began.elapsed() > SLOW {
        LOCAL.with_borrow_mut(|local| local.as_mut().map(|local| local.crowd = CROWD));
    }
}

/// What a queue needs of the system, before there is a connection.
pub(super) struct Parts {
    ring: Ring,
    memory: Memory,
    entries: u16,
    wake: OwnedFd,
}

impl Parts {
    /// The parts of a queue of `entries`, whose ring belongs to the thread that calls this.
    pub(super) fn new(entries: u16) -> io::Result<Self> {
        // All entries and the wake may be under way at once; completions have twice the room.
        let size = (u32::from(entries) + 1).next_power_of_two();
        let mut ring: Ring = IoUring::builder().setup_single_issuer().setup_defer_taskrun().build(size)?;
        // To make one may be allowed where to use it is not.
        let nothing = Entry128::from(opcode::Nop::new().build());
        // SAFETY: it points to nothing.
        unsafe { ring.submission().push(&nothing) }.map_err(io::Error::other)?;
        ring.submit_and_wait(1)?;
        ring.completion().for_each(drop);
        let wake = eventfd(0, EventfdFlags::CLOEXEC)?;
        Ok(Self { ring, memory: Memory::new(entries)?, entries, wake })
    }
}

impl Queue {
    /// The queue of a core on the connection behind `device`, on the thread of its parts: gives its entries to the kernel.
    /// What waits for disks is done by `readers`.
    pub(super) fn open(core: u16, parts: Parts, device: Arc<OwnedFd>, readers: Employer) -> io::Result<Arc<Self>> {
        let Parts { ring, memory, entries, wake } = parts;
        let queue = Arc::new(Self {
            memory,
            core,
            device,
            entries,
            under_way: AtomicU32::new(0),
            elsewhere: Elsewhere::new(entries),
            wake,
        });
        let done = VecDeque::with_capacity(usize::from(entries) + 1);
        let mut local = Local { queue: queue.clone(), ring, readers, done, crowd: 0, is_pending: false };
        local.register()?;
        local.push(&wake_up(&queue));
        LOCAL.set(Some(local));
        Ok(queue)
    }

    /// A request of this queue is to be answered.
    pub(super) fn begun(&self) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
    }

    /// An entry's answer lies in its memory.
    pub(super) fn answered(self: &Arc<Self>, entry: u16, commit_id: u64) {
        self.under_way.fetch_sub(1, Ordering::Relaxed);
        let is_here = LOCAL.try_with(|local| match &mut *local.borrow_mut() {
            Some(local) if Arc::ptr_eq(&local.queue, self) => {
                local.push(&commit(self, entry, commit_id));
                true
            }
            _ => false,
        });
        if is_here != Ok(true)
            && self.elsewhere.put((entry, commit_id))
            && let Err(error) = rustix::io::write(&self.wake, &1u64.to_ne_bytes())
        {
            tracing::error!(%error, "the thread of a queue could not be woken");
        }
    }

    /// Serves requests by `serve`, on the thread that opened the queue, until the connection ends. What is answered after
    /// that goes into memory that the answer holds, and to nobody.
    pub(super) fn run(self: &Arc<Self>, serve: impl Fn(Slot)) -> io::Result<()> {
        let mut live = self.entries;
        let result = loop {
            if live == 0 {
                break Err(io::Error::other("the kernel refused every entry"));
            }
            let next = LOCAL.with_borrow_mut(|local| local.as_mut().map(Local::next));
            match next {
                Some(Ok((WAKE, result))) if result >= 0 => {
                    LOCAL.with_borrow_mut(|local| local.as_mut().map(|local| local.push(&wake_up(self))));
                }
                Some(Ok((WAKE, result))) => break Err(io::Error::from_raw_os_error(-result)),
                // SAFETY: the kernel has given the entry with this completion; its last slot was spent by an answer.
                Some(Ok((entry, 0..))) => serve(unsafe { Slot::new(self.clone(), entry as u16) }),
                Some(Ok((_, error))) if is_end(error) => break Ok(()),
                Some(Ok((_, error))) => {
                    let error = io::Error::from_raw_os_error(-error);
                    tracing::warn!(core = self.core, %error, "the kernel refused an entry of a queue");
                    live -= 1;
                }
                Some(Err(error)) => break Err(error),
                None => break Ok(()),
            }
        };
        LOCAL.set(None);
        result
    }
}

/// Whether the connection has ended, and every entry with it.
fn is_end(error: i32) -> bool {
    [libc::ENOTCONN, libc::ECONNABORTED, libc::ECANCELED].contains(&-error)
}

impl Local {
    /// Gives all entries to the kernel.
    fn register(&mut self) -> io::Result<()> {
        let queue = self.queue.clone();
        // The kernel takes the entry that it was given last: the first ones are to be those that are used.
        for entry in (0..queue.entries).rev() {
            // SAFETY: mapped for as long as the queue lives; no slot of the entry exists yet. The kernel reads the
            // addresses only, of which the lengths are true.
            let parts = unsafe {
                [
                    IoSlice::new(std::slice::from_raw_parts(
                        queue.memory.header(entry).as_ptr().cast(),
                        size_of::<EntryHeader>(),
                    )),
                    IoSlice::new(std::slice::from_raw_parts(queue.memory.payload(entry).as_ptr(), REPLY_MAX)),
                ]
            };
            self.push(&register(&queue, entry, &parts));
            // The kernel takes the parts over while it takes the submission: none may be left for later.
            if self.ring.submit()? != 1 {
                return Err(io::Error::other("the kernel did not take an entry of a queue"));
            }
        }
        self.is_pending = false;
        // Requests come with the first wait; what is there by now was refused.
        match self.ring.completion().map(|done| done.result()).find(|result| *result < 0) {
            Some(error) => Err(io::Error::from_raw_os_error(-error)),
            None => Ok(()),
        }
    }

    fn push(&mut self, submission: &Entry128) {
        // SAFETY: what it points to lives as long as the queue, which the ring's thread holds.
        let pushed = unsafe { self.ring.submission().push(submission) };
        assert!(pushed.is_ok(), "there is room for every entry of the queue");
        self.is_pending = true;
    }

    /// Submits what was pushed. An error shows again where the thread waits.
    fn submit(&mut self) {
        if self.is_pending
            && let Err(error) = self.enter(0)
        {
            tracing::warn!(core = self.queue.core, %error, "answers could not be submitted");
        }
    }

    /// Submits, and waits for `want` completions. An interrupt counts as one.
    fn enter(&mut self, want: usize) -> io::Result<()> {
        match self.ring.submit_and_wait(want) {
            Ok(_) => {
                self.is_pending = false;
                Ok(())
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EINTR | libc::EBUSY | libc::EAGAIN)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next completion: its mark and its result.
    fn next(&mut self) -> io::Result<(u64, i32)> {
        loop {
            let answered = self.take_answers();
            self.done.extend(self.ring.completion().map(|done| (done.user_data(), done.result())));
            if let Some((mark, result)) = self.done.pop_front() {
                if mark != WAKE {
                    let others_came = self.done.iter().any(|(mark, _)| *mark != WAKE);
                    // One answer from elsewhere may be that of a lone reader, whose file is read on the core that it came from.
                    let is_crowded = others_came || answered > 1 || self.queue.under_way.load(Ordering::Relaxed) > 0;
                    self.crowd = if is_crowded { self.crowd.max(CROWD) } else { self.crowd.saturating_sub(1) };
                }
                // Who has been answered does not wait until this one is.
                self.submit();
                return Ok((mark, result));
            }
            self.queue.elsewhere.falls_asleep();
            let want = usize::from(self.take_answers() == 0);
            let waited = self.enter(want);
            self.queue.elsewhere.wakes_up();
            waited?;
        }
    }

    /// Pushes the answers that other threads have given. How many there were.
    fn take_answers(&mut self) -> usize {
        let queue = self.queue.clone();
        let answers = queue.elsewhere.take();
        for (entry, commit_id) in &answers {
            self.push(&commit(&queue, *entry, *commit_id));
        }
        answers.len()
    }
}

/// Gives an entry to the kernel for the first time.
fn register(queue: &Queue, entry: u16, parts: &[IoSlice<'_>; 2]) -> Entry128 {
    let mut submission =
        command(queue, COMMAND_REGISTER, 0).addr(Some(parts.as_ptr() as u64)).build().user_data(u64::from(entry));
    const LEN_AT: usize = 24;
    const { assert!(size_of::<Entry128>() == 128) };
    // The library has no setter for the length of a command's address: the number of parts.
    // SAFETY: `Entry128` is a submission of 128 bytes as the kernel reads it, of which bytes 24 to 27 are the length.
    unsafe { ptr::from_mut(&mut submission).cast::<u8>().add(LEN_AT).cast::<u32>().write_unaligned(2) };
    submission
}

/// Gives an entry back with its answer, for the next request.
fn commit(queue: &Queue, entry: u16, commit_id: u64) -> Entry128 {
    command(queue, COMMAND_COMMIT_AND_FETCH, commit_id).build().user_data(u64::from(entry))
}

fn command(queue: &Queue, command: u32, commit_id: u64) -> opcode::UringCmd80 {
    let body = Command { flags: 0, commit_id, queue: queue.core, padding: [0; 62] };
    let mut bytes = [0; 80];
    bytes.copy_from_slice(body.as_bytes());
    opcode::UringCmd80::new(types::Fd(queue.device.as_raw_fd()), command).cmd(bytes)
}

/// Completes when another thread has answered.
fn wake_up(queue: &Queue) -> Entry128 {
    let read = opcode::Read::new(types::Fd(queue.wake.as_raw_fd()), queue.memory.word(), size_of::<u64>() as u32);
    Entry128::from(read.build().user_data(WAKE))
}
