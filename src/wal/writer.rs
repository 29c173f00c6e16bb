//! Driver. The write task: one write in flight, two when much waits, no timer.

use super::appender::{Appender, Write};
use super::error::WalError;
use super::format::BATCH_HEADER_SIZE;
use super::log::{BatchFact, Counters, Shared};
use super::names::FileRole;
use crate::env::{Env, LogFile, Monotonic};
use crate::limits::wal as limits;
use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

/// A write on its way to the disk.
struct Flight {
    number: u64,
    sent: Monotonic,
    fact: BatchFact,
    future: Pin<Box<dyn Future<Output = io::Result<()>>>>,
}

/// Runs until the log is closed or has failed.
pub(super) async fn run<E: Env>(shared: Rc<Shared<E>>) {
    let mut flights: Vec<Flight> = Vec::with_capacity(limits::WRITES_IN_FLIGHT_MAX);
    let mut end_marked = false;
    poll_fn(|context| {
        loop {
            poll_flights(&shared, &mut flights, context);
            if is_over(&shared, &flights, &mut end_marked) {
                return Poll::Ready(());
            }
            // A new flight must be polled once, or nothing would wake this task for it.
            if send(&shared, &mut flights) {
                continue;
            }
            if Pin::new(&mut shared.work.wait()).poll(context).is_pending() {
                return Poll::Pending;
            }
        }
    })
    .await;
    shared.task_ended();
}

/// Whether nothing is left to do. After a failure the other write in flight is still awaited: its
/// buffer belongs to the kernel.
fn is_over<E: Env>(shared: &Shared<E>, flights: &[Flight], end_marked: &mut bool) -> bool {
    let state = &mut *shared.state.borrow_mut();
    if !flights.is_empty() {
        return false;
    }
    if state.failed.is_some() {
        return true;
    }
    if state.closing && state.is_stalled() && !state.appender.is_idle() {
        // The batches behind a seal, or the opening ones, have no file. The next life finds the log
        // as a crash would leave it here.
        return true;
    }
    if !state.closing || !state.appender.is_idle() {
        return false;
    }
    if !*end_marked {
        *end_marked = true;
        state.appender.close();
        return false;
    }
    true
}

fn poll_flights<E: Env>(shared: &Shared<E>, flights: &mut Vec<Flight>, context: &mut Context<'_>) {
    let mut i = 0;
    while i < flights.len() {
        match flights[i].future.as_mut().poll(context) {
            Poll::Pending => i += 1,
            Poll::Ready(Ok(())) => land(shared, flights.swap_remove(i)),
            Poll::Ready(Err(source)) => {
                flights.swap_remove(i);
                let file = {
                    let state = shared.state.borrow();
                    FileRole::Segment(state.file_seq).path(&shared.options.dir)
                };
                shared.fail(WalError::io("write", &file, source));
            }
        }
    }
}

/// A write is durable: the prefix may have grown.
fn land<E: Env>(shared: &Shared<E>, flight: Flight) {
    let fact = BatchFact {
        duration: shared.env.now() - flight.sent,
        ..flight.fact
    };
    let (hook, wakers, listeners, upkeep) = {
        let state = &mut *shared.state.borrow_mut();
        state.counters.add(&fact);
        let announced = state.appender.announced();
        let advanced = state.appender.completed(flight.number);
        let upkeep = state.appender.announced() > announced || state.upkeep_waits;
        let hook = state.batch_hook.clone();
        // After a failure nothing more is acknowledged.
        let tell = advanced && state.failed.is_none();
        match tell {
            true => (hook, state.due_waiters(), state.listeners.clone(), upkeep),
            false => (hook, Vec::new(), Vec::new(), false),
        }
    };
    if let Some(hook) = hook {
        hook(&fact);
    }
    for (_, waker) in wakers {
        waker.wake();
    }
    for listener in listeners {
        listener.notify();
    }
    if upkeep {
        shared.upkeep.notify();
    }
}

/// Sends the next write if it is time for one.
fn send<E: Env>(shared: &Shared<E>, flights: &mut Vec<Flight>) -> bool {
    let (sent, upkeep) = send_next(shared, flights);
    if upkeep {
        shared.upkeep.notify();
    }
    sent
}

/// Answers whether a write was sent and whether the upkeep task has something to do.
fn send_next<E: Env>(shared: &Shared<E>, flights: &mut Vec<Flight>) -> (bool, bool) {
    let state = &mut *shared.state.borrow_mut();
    if state.failed.is_some() {
        return (false, false);
    }
    let Some(seq) = state.appender.next_seq() else {
        return (false, false);
    };
    let changes = seq != state.file_seq;
    if changes {
        if !flights.is_empty() {
            return (false, false);
        }
        let Some((_, file)) = state.prepared.take_if(|(prepared, _)| *prepared == seq) else {
            return (false, true);
        };
        let before = std::mem::replace(&mut state.file, Rc::new(file));
        state.file_seq = seq;
        state.retired.push(before);
    }
    let Some(write) = state.appender.next_write() else {
        return (false, changes);
    };
    assert_eq!(
        write.seq, state.file_seq,
        "a batch is written into its own segment"
    );
    let (buffer, fact) = fill(&*state.file, &write);
    let future = Box::pin(state.file.write_at(buffer, write.offset));
    flights.push(Flight {
        number: write.number,
        sent: shared.env.now(),
        fact,
        future,
    });
    state.appender.reuse(write.bytes);
    (true, changes)
}

/// The batch in a buffer of exactly the write's size. Records are gathered in plain memory first,
/// because a write takes the whole of an aligned buffer and a batch's size is known only at its
/// end; this second copy costs 25 ns for a record of 300 bytes.
fn fill<F: LogFile>(file: &F, write: &Write) -> (F::Buffer, BatchFact) {
    let mut buffer = file.alloc(write.span);
    assert_eq!(buffer.len(), write.span);
    buffer[..write.bytes.len()].copy_from_slice(&write.bytes);
    let fact = BatchFact {
        records: write.records,
        record_bytes: write.bytes.len() - BATCH_HEADER_SIZE,
        written_bytes: write.span,
        duration: std::time::Duration::ZERO,
    };
    (buffer, fact)
}

/// Writes the one batch that waits, before the tasks run.
pub(super) async fn write_alone<E: Env>(
    env: &E,
    file: &E::LogFile,
    path: &Path,
    appender: &mut Appender,
    counters: &mut Counters,
) -> Result<(), WalError> {
    let write = appender.next_write().expect("the opening batch waits");
    let (buffer, fact) = fill(file, &write);
    let sent = env.now();
    let written = file.write_at(buffer, write.offset).await;
    written.map_err(|source| WalError::io("write", path, source))?;
    counters.add(&BatchFact {
        duration: env.now() - sent,
        ..fact
    });
    appender.completed(write.number);
    appender.reuse(write.bytes);
    Ok(())
}

impl Counters {
    fn add(&mut self, fact: &BatchFact) {
        self.batches += 1;
        self.records += u64::from(fact.records);
        self.record_bytes += fact.record_bytes as u64;
        self.written_bytes += fact.written_bytes as u64;
        self.write_time += fact.duration;
    }
}
