//! Driver. The log of one core as its groups see it.

use super::appender::{Appender, Bounds, Refused, Shape};
use super::error::WalError;
use super::format::{ENTRY_HEADER_SIZE, HARD_STATE_SIZE, LARGE_BLOCK_SIZE, Record};
use super::recover::{self, Recovered};
use super::{upkeep, writer};
use crate::env::{Env, LogFile, Monotonic, Notify};
use crate::ids::{GroupId, LogIndex, Lsn, SegmentSeq};
use crate::limits::wal as limits;
use std::cell::RefCell;
use std::future::poll_fn;
use std::path::PathBuf;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

/// What an operator or a test may choose about a log.
#[derive(Clone, Debug)]
pub struct Options {
    /// The log's own directory; created when missing.
    pub dir: PathBuf,
    /// Size of new segments: a multiple of 4096, at least `limits::SEGMENT_BYTES_MIN`.
    pub segment_bytes: u64,
    /// Recycled segments kept for use; more are deleted.
    pub segments_spare: usize,
    /// Beyond so many segments the oldest one's few live records are copied forward.
    pub segments_live: usize,
    pub bounds: Bounds,
}

impl Options {
    pub fn new(dir: impl Into<PathBuf>) -> Options {
        Options {
            dir: dir.into(),
            segment_bytes: limits::SEGMENT_BYTES_DEFAULT,
            segments_spare: limits::SEGMENTS_SPARE_DEFAULT,
            segments_live: limits::SEGMENTS_LIVE_DEFAULT,
            bounds: Bounds::default(),
        }
    }

    fn check(&self) -> Result<(), WalError> {
        let expected = if self.segment_bytes < limits::SEGMENT_BYTES_MIN {
            "at least 16384"
        } else if !self.segment_bytes.is_multiple_of(4096) {
            "a multiple of 4096"
        } else if self.segment_bytes > u64::from(u32::MAX) {
            "less than 4 GiB"
        } else if self.bounds.in_flight_bytes_max < self.bounds.batch_span_max() {
            "bounds whose writes in flight hold the largest batch"
        } else if self.bounds.queue_bytes_max < 2 * self.bounds.record_bytes_max {
            "bounds whose queue holds the largest record twice"
        } else {
            return Ok(());
        };
        Err(WalError::Options {
            segment_bytes: self.segment_bytes,
            expected,
        })
    }
}

/// One core's log. Cloning shares it; it never leaves its core.
pub struct Log<E: Env> {
    pub(super) shared: Rc<Shared<E>>,
}

impl<E: Env> Clone for Log<E> {
    fn clone(&self) -> Log<E> {
        Log {
            shared: Rc::clone(&self.shared),
        }
    }
}

/// What the log's tasks and handles share.
pub(super) struct Shared<E: Env> {
    pub env: E,
    pub options: Options,
    pub state: RefCell<State<E>>,
    /// Wakes the write task.
    pub work: Notify,
    /// Wakes the upkeep task.
    pub upkeep: Notify,
}

pub(super) struct State<E: Env> {
    pub appender: Appender,
    /// The segment file that is being written.
    pub file: Rc<E::LogFile>,
    pub file_seq: SegmentSeq,
    /// The segment file behind it, once it is ready.
    pub prepared: Option<(SegmentSeq, E::LogFile)>,
    /// Written-out segment files that are still open.
    pub retired: Vec<Rc<E::LogFile>>,
    /// Numbers of the spare files.
    pub spares: Vec<u64>,
    /// Larger than every number used by a spare or new file.
    pub file_number_next: u64,
    pub failed: Option<WalError>,
    /// The disk had no room for the next segment: when to try again. Then `prepared` is none.
    pub room_retry: Option<Monotonic>,
    pub closing: bool,
    /// Tasks that have not returned.
    pub tasks: usize,
    /// The upkeep task wants to hear of every durable advance.
    pub upkeep_waits: bool,
    pub waiters: Vec<(Lsn, Waker)>,
    pub listeners: Vec<Notify>,
    pub batch_hook: Option<BatchHook>,
    pub counters: Counters,
}

/// Hears of every completed write.
pub(super) type BatchHook = Rc<dyn Fn(&BatchFact)>;

/// Counts since the log was opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counters {
    /// Durable writes; each is one batch and one sync.
    pub batches: u64,
    pub records: u64,
    /// Records, their headers included.
    pub record_bytes: u64,
    /// What went to the device, padding included.
    pub written_bytes: u64,
    pub write_time: Duration,
    /// Records written again so that an old segment could go.
    pub copied_records: u64,
    pub segments_recycled: u64,
    /// Segment files filled with zeros.
    pub segments_created: u64,
    /// Old segments whose live records could not be read back; they stay until released.
    pub copy_failures: u64,
}

/// Counters and the present state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stats {
    pub counters: Counters,
    pub durable: Lsn,
    /// Appended and not yet durable.
    pub queued_bytes: usize,
    pub segments: usize,
    pub spares: usize,
    /// Whose release would free the oldest segment, when more than the usual number is held.
    pub pinned_by: Option<(GroupId, LogIndex)>,
}

/// One completed write, for histograms.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchFact {
    pub records: u32,
    pub record_bytes: usize,
    pub written_bytes: usize,
    /// From sending the write to its durability.
    pub duration: Duration,
}

impl<E: Env> Log<E> {
    /// Recovers the log in `options.dir`, or begins one, and starts its tasks. When it returns, a
    /// durable batch marks where this process goes on; or the disk has no room for the segment of
    /// that batch, then nothing is taken until there is ([`Log::waits_for_room`]).
    pub async fn open(env: &E, options: Options) -> Result<(Log<E>, Recovered), WalError> {
        options.check()?;
        let found = recover::recover(env, &options).await?;
        let shape = Shape {
            stream: found.stream,
            epoch: found.epoch,
            segment_bytes: options.segment_bytes,
            alignment: found.file.alignment() as u64,
            bounds: options.bounds,
        };
        let mut appender = Appender::new(
            shape,
            found.index,
            found.tail,
            found.previous_end,
            found.start,
        );
        appender.open();
        let file = Rc::new(found.file);
        let mut counters = Counters {
            segments_created: found.created,
            ..Counters::default()
        };
        let room_retry = match found.ready {
            true => None,
            false => Some(env.now()),
        };
        while found.ready && !appender.is_idle() {
            writer::write_alone(env, &file, &found.path, &mut appender, &mut counters).await?;
        }
        let state = State {
            appender,
            file,
            file_seq: found.seq,
            prepared: None,
            retired: Vec::new(),
            spares: found.spares,
            file_number_next: found.file_number_next,
            failed: None,
            room_retry,
            closing: false,
            tasks: 2,
            upkeep_waits: false,
            waiters: Vec::new(),
            listeners: Vec::new(),
            batch_hook: None,
            counters,
        };
        let shared = Rc::new(Shared {
            env: env.clone(),
            options,
            state: RefCell::new(state),
            work: Notify::new(),
            upkeep: Notify::new(),
        });
        env.spawn(writer::run(Rc::clone(&shared)));
        env.spawn(upkeep::run(Rc::clone(&shared)));
        shared.upkeep.notify();
        Ok((Log { shared }, found.recovered))
    }

    /// Takes a record into the batch that is filling. No IO happens here; the write starts when
    /// the calling task yields. The record is durable once `durable()` reaches the answer.
    pub fn append(&self, record: &Record<'_>) -> Result<Lsn, WalError> {
        self.shared.append(record)
    }

    /// The disk has no room for the next segment. What the present one has room for is still taken
    /// and becomes durable; what was taken beyond waits.
    pub fn waits_for_room(&self) -> bool {
        self.shared.state.borrow().room_retry.is_some()
    }

    /// Whether an entry with so many bytes of data, and a hard state before it, becomes durable
    /// even if the disk never has more room.
    pub fn has_room_for(&self, data_bytes: usize) -> bool {
        let state = self.shared.state.borrow();
        if state.room_retry.is_none() {
            return true;
        }
        // Where the two meet in different batches, padding may come between.
        let size = HARD_STATE_SIZE + LARGE_BLOCK_SIZE + ENTRY_HEADER_SIZE + data_bytes;
        state.fits_without_next(size, state.appender.kept_for_marks())
    }

    /// The log waits for room and everything that does not need it is durable.
    pub fn is_stalled(&self) -> bool {
        self.shared.state.borrow().is_stalled()
    }

    /// The most that an entry's data may hold: a larger one is refused with `RecordTooLarge`.
    pub fn entry_bytes_max(&self) -> usize {
        let state = self.shared.state.borrow();
        state.appender.record_bytes_max() - ENTRY_HEADER_SIZE
    }

    /// All records up to here are on stable storage.
    pub fn durable(&self) -> Lsn {
        self.shared.state.borrow().appender.durable()
    }

    /// Waits until `durable()` reaches `lsn`.
    pub async fn wait_durable(&self, lsn: Lsn) -> Result<(), WalError> {
        poll_fn(|context| {
            let state = &mut *self.shared.state.borrow_mut();
            if state.appender.durable() >= lsn {
                return Poll::Ready(Ok(()));
            }
            if let Some(error) = state.refusal() {
                return Poll::Ready(Err(error));
            }
            let waker = context.waker();
            let known = |(at, known): &(Lsn, Waker)| *at == lsn && known.will_wake(waker);
            if !state.waiters.iter().any(known) {
                state.waiters.push((lsn, waker.clone()));
            }
            Poll::Pending
        })
        .await
    }

    /// From now on `notify` is notified whenever `durable()` has advanced, the log has failed, or
    /// begins or ends to wait for room.
    pub fn on_durable(&self, notify: &Notify) {
        self.shared
            .state
            .borrow_mut()
            .listeners
            .push(notify.clone());
    }

    /// Calls `hook` after every completed write.
    pub fn on_batch(&self, hook: impl Fn(&BatchFact) + 'static) {
        self.shared.state.borrow_mut().batch_hook = Some(Rc::new(hook));
    }

    /// The backend holds the group's entries up to `through`, durably. Segments that nothing
    /// needs any more are recycled. The mark itself is written with the next batch.
    pub fn release(&self, group: GroupId, through: LogIndex) {
        let waits = {
            let state = &mut *self.shared.state.borrow_mut();
            state.appender.index.release(group, through);
            state.room_retry.is_some()
        };
        if waits {
            // On a full disk no batch may come for the mark to ride in.
            self.shared.upkeep.notify();
        }
    }

    /// Why the log refuses, if it does.
    pub fn failed(&self) -> Option<WalError> {
        self.shared.state.borrow().failed.clone()
    }

    pub fn stats(&self) -> Stats {
        let state = self.shared.state.borrow();
        let segments = state.appender.index.segment_count();
        let crowded = segments > self.shared.options.segments_live;
        Stats {
            counters: state.counters,
            durable: state.appender.durable(),
            queued_bytes: state.appender.queued_bytes(),
            segments,
            spares: state.spares.len(),
            pinned_by: state.appender.index.pinned_by().filter(|_| crowded),
        }
    }

    /// Writes what is waiting, marks the end of this process life and ends the tasks. Later
    /// appends answer `Closed`. What waits for room on a full disk is given up, as in a crash:
    /// nothing of it was durable.
    pub async fn close(&self) -> Result<(), WalError> {
        self.shared.state.borrow_mut().closing = true;
        self.shared.work.notify();
        self.shared.upkeep.notify();
        poll_fn(|context| {
            let state = &mut *self.shared.state.borrow_mut();
            if state.tasks > 0 {
                state.waiters.push((Lsn(u64::MAX), context.waker().clone()));
                return Poll::Pending;
            }
            Poll::Ready(state.failed.clone().map_or(Ok(()), Err))
        })
        .await
    }
}

impl<E: Env> Shared<E> {
    #[inline]
    pub fn append(&self, record: &Record<'_>) -> Result<Lsn, WalError> {
        let lsn = {
            let state = &mut *self.state.borrow_mut();
            if let Some(error) = state.refusal() {
                return Err(error);
            }
            if state.room_retry.is_some() {
                self.check_room(state, record)?;
            }
            state
                .appender
                .append(record)
                .map_err(|refused| match refused {
                    Refused::TooLarge { size, max } => WalError::RecordTooLarge { size, max },
                    Refused::Full { queued, max } => WalError::Full { queued, max },
                })?
        };
        self.work.notify();
        Ok(lsn)
    }

    /// On a full disk only what the present segment holds is taken: a seal would end it, and with
    /// it the last place for the marks that give old segments back.
    #[cold]
    fn check_room(&self, state: &State<E>, record: &Record<'_>) -> Result<(), WalError> {
        let kept = match record {
            Record::Mark { .. } => 0,
            _ => state.appender.kept_for_marks(),
        };
        match state.fits_without_next(record.size(), kept) {
            true => Ok(()),
            false => Err(self.no_room()),
        }
    }

    pub fn no_room(&self) -> WalError {
        WalError::NoRoom {
            dir: self.options.dir.clone(),
            wanted_bytes: self.options.segment_bytes,
        }
    }

    /// Keeps the first failure and tells everybody.
    pub fn fail(&self, error: WalError) {
        let wakers = {
            let state = &mut *self.state.borrow_mut();
            state.failed.get_or_insert(error);
            std::mem::take(&mut state.waiters)
        };
        self.wake(wakers);
    }

    /// A task has returned.
    pub fn task_ended(&self) {
        let wakers = {
            let state = &mut *self.state.borrow_mut();
            state.tasks -= 1;
            std::mem::take(&mut state.waiters)
        };
        self.wake(wakers);
    }

    /// Wakes these and all listeners and tasks. Nothing is borrowed meanwhile: a waker may run
    /// code that comes back here.
    pub fn wake(&self, wakers: Vec<(Lsn, Waker)>) {
        for (_, waker) in wakers {
            waker.wake();
        }
        let listeners = self.state.borrow().listeners.clone();
        for listener in listeners {
            listener.notify();
        }
        self.work.notify();
        self.upkeep.notify();
    }
}

impl<E: Env> State<E> {
    /// Why nothing more is taken.
    pub fn refusal(&self) -> Option<WalError> {
        match &self.failed {
            Some(error) => Some(error.clone()),
            None if self.closing => Some(WalError::Closed),
            None => None,
        }
    }

    /// Whether the segment file that is being written takes `size` more bytes of records.
    pub fn fits_without_next(&self, size: usize, kept: u64) -> bool {
        self.appender.index.tail().seq == self.file_seq && self.appender.fits(size, kept)
    }

    pub fn is_stalled(&self) -> bool {
        self.room_retry.is_some() && self.appender.stands_at(self.file_seq)
    }

    /// Takes the waiters that the durable prefix has reached.
    pub fn due_waiters(&mut self) -> Vec<(Lsn, Waker)> {
        let durable = self.appender.durable();
        self.waiters
            .extract_if(.., |(lsn, _)| *lsn <= durable)
            .collect()
    }
}
