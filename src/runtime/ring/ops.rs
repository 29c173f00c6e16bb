//! Adapter. Operations under way in the kernel, and the one system call of a turn.

use super::block::Block;
use super::buffers::{self, Buffers};
use io_uring::types::{CancelBuilder, Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::runtime::limits;

/// Completions whose operation nobody waits for.
const UNWATCHED: u64 = u64::MAX;
/// Completions of the poll on the core's bell.
const BELL: u64 = u64::MAX - 1;

/// The ring of one core and what it carries. Cloning shares it.
#[derive(Clone)]
pub struct Ops {
    shared: Rc<Shared>,
}

struct Shared {
    /// Never dropped before [`Ops::close`]: it unmaps memory that the kernel knows.
    ring: RefCell<ManuallyDrop<IoUring>>,
    table: RefCell<Slab<Op>>,
    buffers: RefCell<Buffers>,
    bell: RawFd,
    closed: Cell<bool>,
}

/// An operation between its entry and its last completion.
struct Op {
    state: State,
    /// What the kernel uses meanwhile.
    _file: Rc<OwnedFd>,
    memory: Memory,
}

enum State {
    Waiting(Option<Waker>),
    /// Result and flags of its completion.
    Done(i32, u32),
    /// Connections of a listening socket, in order. `bool`: the kernel sends more.
    Stream(VecDeque<i32>, Option<Waker>, bool),
    /// Its future was dropped. `bool`: its results are connections, to be closed.
    Abandoned(bool),
}

/// Memory of an operation. Both kinds keep their bytes in place when they move.
enum Memory {
    None,
    Block(Block),
    Bytes { _bytes: Vec<u8> },
}

/// What became of an operation.
struct Landed {
    result: i32,
    flags: u32,
    memory: Memory,
}

/// Whether this kernel has what the ring needs.
pub fn probe() -> io::Result<()> {
    let ring = build(8)?;
    let buffers = Buffers::register(&ring.submitter())?;
    drop(ring);
    drop(buffers);
    Ok(())
}

fn build(entries: u32) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_taskrun_flag()
        .setup_submit_all()
        .setup_clamp()
        .setup_cqsize(limits::RING_COMPLETIONS)
        .dontfork();
    builder.build(entries)
}

impl Ops {
    /// The ring of the calling thread, which alone may use it. `bell` wakes it while it waits and
    /// must stay open as long. Kernel threads of the ring may run on `cpus`.
    pub(super) fn new(bell: &OwnedFd, cpus: &[usize]) -> io::Result<Ops> {
        let ring = build(limits::RING_ENTRIES)?;
        let buffers = Buffers::register(&ring.submitter())?;
        // It only keeps them off the core's CPU: without it everything works the same.
        let _ = ring.submitter().register_iowq_aff(&cpu_set(cpus));
        let ops = Ops {
            shared: Rc::new(Shared {
                ring: RefCell::new(ManuallyDrop::new(ring)),
                table: RefCell::new(Slab::new()),
                buffers: RefCell::new(buffers),
                bell: bell.as_raw_fd(),
                closed: Cell::new(false),
            }),
        };
        ops.watch_bell();
        Ok(ops)
    }

    /// One entry into the kernel: submits, takes what has completed and wakes its tasks. With
    /// `wait`, waits until something completes, at most so long (`None`: for ever).
    pub(super) fn turn(&self, wait: Option<Option<Duration>>) -> io::Result<()> {
        let entered = {
            let mut ring = self.shared.ring.borrow_mut();
            let (submitter, mut queue, _) = ring.split();
            queue.sync();
            let nothing = queue.is_empty() && !queue.taskrun() && !queue.cq_overflow();
            drop(queue);
            match wait {
                None if nothing => Ok(0),
                None => submitter.submit(),
                Some(None) => submitter.submit_and_wait(1),
                Some(Some(time)) => {
                    let time = Timespec::from(time);
                    submitter.submit_with_args(1, &SubmitArgs::new().timespec(&time))
                }
            }
        };
        match entered {
            Ok(_) => {}
            Err(error) => match error.raw_os_error().map(Errno::from_raw_os_error) {
                // Nothing came in time, a signal came, or completions wait to be taken first.
                Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN) => {}
                _ => return Err(error),
            },
        }
        self.take_completions();
        Ok(())
    }

    fn take_completions(&self) {
        loop {
            let next = {
                let mut ring = self.shared.ring.borrow_mut();
                // Synchronised once per completion: an atomic load and a store, no system call.
                let mut queue = ring.completion();
                queue
                    .next()
                    .map(|entry| (entry.user_data(), entry.result(), entry.flags()))
            };
            match next {
                None => return,
                Some((UNWATCHED, ..)) => {}
                Some((BELL, _, flags)) if cqueue::more(flags) => {}
                Some((BELL, ..)) => self.watch_bell(),
                Some((key, result, flags)) => self.land(key as usize, result, flags),
            }
        }
    }

    /// A completion of the operation `key`.
    fn land(&self, key: usize, result: i32, flags: u32) {
        let mut table = self.shared.table.borrow_mut();
        let more = cqueue::more(flags);
        let op = &mut table[key];
        match &mut op.state {
            State::Waiting(waker) => {
                let waker = waker.take();
                op.state = State::Done(result, flags);
                if let Some(waker) = waker {
                    waker.wake();
                }
            }
            State::Stream(queue, waker, open) => {
                queue.push_back(result);
                *open = more;
                if let Some(waker) = waker.take() {
                    waker.wake();
                }
            }
            State::Abandoned(accepts) => {
                let accepted = *accepts && result >= 0;
                let op = (!more).then(|| table.remove(key));
                drop(table);
                if accepted {
                    // SAFETY: the kernel made this descriptor for us, and nobody else saw it.
                    drop(unsafe { OwnedFd::from_raw_fd(result) });
                }
                self.discard(flags);
                // Its descriptor may close here, which must not find the table borrowed.
                drop(op);
            }
            State::Done(..) => unreachable!("one completion per single operation"),
        }
    }

    /// Takes back what a result that nobody waits for any more came in.
    fn discard(&self, flags: u32) {
        if let Some(buffer) = cqueue::buffer_select(flags) {
            self.shared.buffers.borrow_mut().give(buffer);
        }
    }

    fn watch_bell(&self) {
        let entry = opcode::PollAdd::new(Fd(self.shared.bell), libc::POLLIN as u32)
            .multi(true)
            .build()
            .user_data(BELL);
        // SAFETY: no memory; the descriptor is open as long as the ring, by the contract of `new`.
        unsafe { self.push(&entry) }
    }

    /// # Safety
    /// What the entry names by address stays in place until its last completion.
    unsafe fn push(&self, entry: &squeue::Entry) {
        let mut ring = self.shared.ring.borrow_mut();
        // SAFETY: the caller's word.
        while unsafe { ring.submission().push(entry) }.is_err() {
            // Full: the kernel takes all of it and leaves completions for the next turn.
            if let Err(error) = ring.submit() {
                let busy = matches!(
                    error.raw_os_error().map(Errno::from_raw_os_error),
                    Some(Errno::INTR | Errno::BUSY | Errno::AGAIN)
                );
                assert!(busy, "the ring is broken: {error}");
            }
        }
    }

    /// # Safety
    /// The entry names no memory but that of `memory`, and no descriptor but `file`.
    unsafe fn begin(
        &self,
        entry: squeue::Entry,
        state: State,
        file: &Rc<OwnedFd>,
        memory: Memory,
    ) -> usize {
        let op = Op {
            state,
            _file: Rc::clone(file),
            memory,
        };
        let key = self.shared.table.borrow_mut().insert(op);
        // SAFETY: the table keeps memory and descriptor until the last completion.
        unsafe { self.push(&entry.user_data(key as u64)) };
        key
    }

    /// # Safety
    /// As for `begin`.
    unsafe fn start(
        &self,
        entry: squeue::Entry,
        file: &Rc<OwnedFd>,
        memory: Memory,
        cancel: bool,
    ) -> Flight {
        // SAFETY: the caller's word.
        let key = unsafe { self.begin(entry, State::Waiting(None), file, memory) };
        Flight {
            ops: self.clone(),
            key: Some(key),
            cancel,
        }
    }

    /// Writes, and makes durable what it wrote.
    pub(super) async fn write_durable(
        &self,
        file: &Rc<OwnedFd>,
        block: Block,
        offset: u64,
    ) -> io::Result<usize> {
        let entry = opcode::Write::new(Fd(file.as_raw_fd()), block.as_ptr(), block.len() as u32)
            .offset(offset)
            .rw_flags(libc::RWF_DSYNC)
            .build();
        // SAFETY: a block's bytes stay where they are when it moves.
        let flight = unsafe { self.start(entry, file, Memory::Block(block), false) };
        flight.await.count()
    }

    /// Reads into the block.
    pub(super) async fn read(
        &self,
        file: &Rc<OwnedFd>,
        mut block: Block,
        offset: u64,
    ) -> io::Result<(usize, Block)> {
        let size = block.len() as u32;
        let entry = opcode::Read::new(Fd(file.as_raw_fd()), block.as_mut_ptr(), size)
            .offset(offset)
            .build();
        // SAFETY: a block's bytes stay where they are when it moves.
        let landed = unsafe { self.start(entry, file, Memory::Block(block), false) }.await;
        let count = landed.count()?;
        match landed.memory {
            Memory::Block(block) => Ok((count, block)),
            _ => unreachable!("it was given a block"),
        }
    }

    /// Writes through the page cache.
    pub(super) async fn write(
        &self,
        file: &Rc<OwnedFd>,
        bytes: Vec<u8>,
        offset: u64,
    ) -> io::Result<usize> {
        let size = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let entry = opcode::Write::new(Fd(file.as_raw_fd()), bytes.as_ptr(), size)
            .offset(offset)
            .build();
        // SAFETY: a vector's bytes stay where they are when it moves.
        let flight = unsafe { self.start(entry, file, Memory::Bytes { _bytes: bytes }, false) };
        flight.await.count()
    }

    /// `fdatasync`.
    pub(super) async fn sync(&self, file: &Rc<OwnedFd>) -> io::Result<()> {
        let entry = opcode::Fsync::new(Fd(file.as_raw_fd()))
            .flags(FsyncFlags::DATASYNC)
            .build();
        // SAFETY: no memory.
        let flight = unsafe { self.start(entry, file, Memory::None, false) };
        flight.await.count().map(drop)
    }

    /// Waits until the socket may take bytes.
    pub(super) async fn writable(&self, file: &Rc<OwnedFd>) -> io::Result<()> {
        let entry = opcode::PollAdd::new(Fd(file.as_raw_fd()), libc::POLLOUT as u32).build();
        // SAFETY: no memory.
        let flight = unsafe { self.start(entry, file, Memory::None, true) };
        flight.await.count().map(drop)
    }

    /// Receives into the front of `into`. `quiet`: the last receive left nothing behind, so the
    /// kernel need not look before it waits. Answers the count and whether more is there; an error
    /// `NOBUFS` when every buffer of the core is in use. Dropping the future may lose bytes.
    pub(super) async fn receive(
        &self,
        file: &Rc<OwnedFd>,
        into: &mut [u8],
        quiet: bool,
    ) -> io::Result<(usize, bool)> {
        const POLL_FIRST: u16 = 1;
        let size = into.len().min(limits::RECEIVE_BUFFER_BYTES) as u32;
        let entry = opcode::Recv::new(Fd(file.as_raw_fd()), std::ptr::null_mut(), size)
            .ioprio(if quiet { POLL_FIRST } else { 0 })
            .buf_group(buffers::GROUP)
            .build()
            .flags(squeue::Flags::BUFFER_SELECT);
        // SAFETY: its memory is the core's buffers, which outlive the ring.
        let landed = unsafe { self.start(entry, file, Memory::None, true) }.await;
        let more = cqueue::sock_nonempty(landed.flags);
        let buffer = cqueue::buffer_select(landed.flags);
        let count = landed.count();
        if let Some(buffer) = buffer {
            let mut buffers = self.shared.buffers.borrow_mut();
            if let Ok(count) = count {
                into[..count].copy_from_slice(buffers.bytes(buffer, count));
            }
            buffers.give(buffer);
        }
        Ok((count?, more))
    }

    /// The connections of a listening socket.
    pub(super) fn accept(&self, file: Rc<OwnedFd>) -> Accepting {
        Accepting {
            ops: self.clone(),
            file,
            key: RefCell::new(None),
        }
    }

    /// Asks the kernel to end an operation soon.
    fn cancel(&self, key: usize) {
        if self.shared.closed.get() {
            return;
        }
        let entry = opcode::AsyncCancel::new(key as u64)
            .build()
            .user_data(UNWATCHED);
        // SAFETY: no memory.
        unsafe { self.push(&entry) }
    }

    /// Ends every operation and the ring. What futures still hold of it stays harmless.
    pub(super) fn close(&self) {
        if self.shared.closed.replace(true) {
            return;
        }
        let mut ring = self.shared.ring.borrow_mut();
        // What was never submitted must not begin after its memory is gone.
        let _ = ring.submit();
        let limit = Timespec::from(limits::CLOSE_PATIENCE);
        let ended = ring
            .submitter()
            .register_sync_cancel(Some(limit), CancelBuilder::any());
        let over = match ended {
            Ok(()) => true,
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        if !over {
            // An operation that could not be ended may still write to its memory: all of it is
            // left as it is.
            std::mem::forget(self.clone());
            return;
        }
        // SAFETY: `closed` is set, so that nothing uses the ring from here on, and this is the
        // only place that drops it.
        unsafe { ManuallyDrop::drop(&mut ring) };
    }
}

fn cpu_set(cpus: &[usize]) -> libc::cpu_set_t {
    // SAFETY: a set of CPUs is an array of integers, for which zeros are valid, and `CPU_SET`
    // writes inside it for numbers below `CPU_SETSIZE`.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        for cpu in cpus.iter().filter(|cpu| **cpu < libc::CPU_SETSIZE as usize) {
            libc::CPU_SET(*cpu, &mut set);
        }
        set
    }
}

impl Landed {
    fn count(&self) -> io::Result<usize> {
        usize::try_from(self.result).map_err(|_| io::Error::from_raw_os_error(-self.result))
    }
}

/// The future of one operation.
struct Flight {
    ops: Ops,
    /// `None` once its result was taken.
    key: Option<usize>,
    /// Whether the kernel should end it when nobody waits any more.
    cancel: bool,
}

impl Future for Flight {
    type Output = Landed;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Landed> {
        let key = self.key.expect("not polled after its end");
        let mut table = self.ops.shared.table.borrow_mut();
        match &mut table[key].state {
            State::Done(result, flags) => {
                let (result, flags) = (*result, *flags);
                let op = table.remove(key);
                drop(table);
                self.key = None;
                Poll::Ready(Landed {
                    result,
                    flags,
                    memory: op.memory,
                })
            }
            State::Waiting(waker) => {
                match waker {
                    Some(waker) => waker.clone_from(context.waker()),
                    None => *waker = Some(context.waker().clone()),
                }
                Poll::Pending
            }
            _ => unreachable!("a single operation with a future"),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut table = self.ops.shared.table.borrow_mut();
        if let State::Done(_, flags) = table[key].state {
            let op = table.remove(key);
            drop(table);
            self.ops.discard(flags);
            drop(op);
            return;
        }
        table[key].state = State::Abandoned(false);
        drop(table);
        if self.cancel {
            self.ops.cancel(key);
        }
    }
}

/// A listening socket whose connections the kernel accepts ahead.
pub struct Accepting {
    ops: Ops,
    file: Rc<OwnedFd>,
    key: RefCell<Option<usize>>,
}

impl Accepting {
    /// The next connection. One task at a time waits here.
    pub(super) async fn next(&self) -> io::Result<OwnedFd> {
        let result = std::future::poll_fn(|context| self.poll_next(context)).await;
        if result < 0 {
            return Err(io::Error::from_raw_os_error(-result));
        }
        // SAFETY: the kernel made this descriptor for us, and its number was taken once.
        Ok(unsafe { OwnedFd::from_raw_fd(result) })
    }

    fn poll_next(&self, context: &mut Context<'_>) -> Poll<i32> {
        let mut place = self.key.borrow_mut();
        let key = *place.get_or_insert_with(|| {
            let entry = opcode::AcceptMulti::new(Fd(self.file.as_raw_fd()))
                .flags(libc::SOCK_CLOEXEC)
                .build();
            let state = State::Stream(VecDeque::new(), None, true);
            // SAFETY: no memory.
            unsafe { self.ops.begin(entry, state, &self.file, Memory::None) }
        });
        let mut table = self.ops.shared.table.borrow_mut();
        let State::Stream(queue, waker, open) = &mut table[key].state else {
            unreachable!("the operation of a listening socket");
        };
        let Some(result) = queue.pop_front() else {
            *waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        if !*open && queue.is_empty() {
            // An error, or the kernel's wish: the next call begins anew.
            let op = table.remove(key);
            *place = None;
            drop(table);
            drop(op);
        }
        Poll::Ready(result)
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else { return };
        let mut table = self.ops.shared.table.borrow_mut();
        let State::Stream(queue, _, open) = &mut table[key].state else {
            unreachable!("the operation of a listening socket");
        };
        for result in queue.drain(..).filter(|result| *result >= 0) {
            // SAFETY: as in `next`: nobody took this number.
            drop(unsafe { OwnedFd::from_raw_fd(result) });
        }
        if *open {
            table[key].state = State::Abandoned(true);
            drop(table);
            self.ops.cancel(key);
        } else {
            let op = table.remove(key);
            drop(table);
            drop(op);
        }
    }
}
