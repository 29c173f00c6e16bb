//! Driver. The upkeep task: the next segment is ready before it is needed, released segments are
//! recycled, old ones that few records pin are emptied. Never on the path of a commit.
//!
//! A disk without room for the next segment is a condition, not a failure: nothing was in the file
//! that could not be made. The log goes on in what it has, and this task tries again, every
//! `FULL_DISK_RETRY` and whenever a segment is recycled.

use super::error::WalError;
use super::format::Record;
use super::index::{CopyPlan, SmallRecord};
use super::log::Shared;
use super::names::FileRole;
use super::rebuild::Held;
use super::recover::{SegmentReader, create_spare, remove, rename, sync_dir};
use super::scan::{Chain, Scanner};
use crate::codec::Reader;
use crate::env::{Env, LogFile, Monotonic};
use crate::ids::{GroupId, LogIndex, SegmentSeq, Term};
use crate::limits::wal as limits;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::rc::Rc;

/// Runs until the log is closed or has failed.
pub(super) async fn run<E: Env>(shared: Rc<Shared<E>>) {
    loop {
        shared.upkeep.wait().await;
        if is_over(&shared) {
            break;
        }
        match pass(&shared).await {
            // `close` came while records were written again; they stay where they are. The write
            // task may still need its next segment.
            Ok(()) | Err(WalError::Closed) => {}
            Err(error) => {
                shared.fail(error);
                break;
            }
        }
    }
    shared.task_ended();
}

fn is_over<E: Env>(shared: &Shared<E>) -> bool {
    let state = shared.state.borrow();
    let written = state.appender.is_idle() || state.is_stalled();
    // Only this task and the write task are counted.
    let alone = state.tasks < 2;
    state.failed.is_some() || (state.closing && (written || alone))
}

async fn pass<E: Env>(shared: &Rc<Shared<E>>) -> Result<(), WalError> {
    close_retired(shared).await?;
    while recycle_one(shared).await? {}
    prepare(shared).await?;
    if shared.state.borrow().room_retry.is_some() {
        return announce(shared);
    }
    empty_oldest(shared).await
}

async fn close_retired<E: Env>(shared: &Shared<E>) -> Result<(), WalError> {
    let retired = std::mem::take(&mut shared.state.borrow_mut().retired);
    for file in retired {
        // Only the write task held it too, and that holds the next file now.
        if let Ok(file) = Rc::try_unwrap(file) {
            let closed = file.close().await;
            closed.map_err(|source| WalError::io("close", &shared.options.dir, source))?;
        }
    }
    Ok(())
}

/// Takes the oldest segment out of the log when a durable batch says that it is not needed.
async fn recycle_one<E: Env>(shared: &Shared<E>) -> Result<bool, WalError> {
    let dir = &shared.options.dir;
    let (seq, spare) = {
        let state = &mut *shared.state.borrow_mut();
        let announced = state.appender.announced();
        if state.appender.index.oldest().seq >= state.file_seq {
            return Ok(false);
        }
        let Some(segment) = state.appender.index.recycle(announced) else {
            return Ok(false);
        };
        let fits = segment.size == shared.options.segment_bytes;
        let spare = (fits && state.spares.len() < shared.options.segments_spare).then(|| {
            state.file_number_next += 1;
            state.file_number_next - 1
        });
        (segment.seq, spare)
    };
    let path = FileRole::Segment(seq).path(dir);
    // The directory is synced before the next one goes: the numbers never have a hole.
    let mut kept = spare;
    if let Some(number) = spare {
        match rename(&shared.env, dir, &path, &FileRole::Spare(number).path(dir)).await {
            Ok(()) => {}
            // The directory has no room for another name.
            Err(error) if error.is_no_room() => kept = None,
            Err(error) => return Err(error),
        }
    }
    if kept.is_none() {
        remove(&shared.env, &path).await?;
        sync_dir(&shared.env, dir).await?;
    }
    let state = &mut *shared.state.borrow_mut();
    state.spares.extend(kept);
    state.counters.segments_recycled += 1;
    // Spare or removed, it makes room.
    if let Some(retry) = &mut state.room_retry {
        *retry = Monotonic(0);
    }
    Ok(true)
}

/// Has the segment behind the one that is being written ready, unless the disk is full.
async fn prepare<E: Env>(shared: &Rc<Shared<E>>) -> Result<(), WalError> {
    loop {
        let now = shared.env.now();
        let (seq, spare, number) = {
            let state = &mut *shared.state.borrow_mut();
            if state.prepared.is_some() || state.room_retry.is_some_and(|retry| now < retry) {
                return Ok(());
            }
            let spare = state.spares.pop();
            let number = spare.unwrap_or(state.file_number_next);
            state.file_number_next = state.file_number_next.max(number + 1);
            (SegmentSeq(state.file_seq.0 + 1), spare, number)
        };
        if spare.is_none() {
            match create_spare(&shared.env, &shared.options, number).await {
                Ok(()) => shared.state.borrow_mut().counters.segments_created += 1,
                Err(error) if error.is_no_room() => {
                    await_room(shared, &error);
                    continue;
                }
                Err(error) => return Err(error),
            }
        }
        let dir = &shared.options.dir;
        let path = FileRole::Segment(seq).path(dir);
        match rename(&shared.env, dir, &FileRole::Spare(number).path(dir), &path).await {
            Ok(()) => {}
            Err(error) if error.is_no_room() => {
                shared.state.borrow_mut().spares.push(number);
                await_room(shared, &error);
                continue;
            }
            Err(error) => return Err(error),
        }
        let file = shared.env.open_log(&path).await;
        let file = file.map_err(|source| WalError::io("open", &path, source))?;
        let waited = {
            let state = &mut *shared.state.borrow_mut();
            state.prepared = Some((seq, file));
            state.room_retry.take().is_some()
        };
        match waited {
            true => {
                tracing::info!(dir = %dir.display(), "room again: the log has its next segment");
                shared.wake(Vec::new());
            }
            false => shared.work.notify(),
        }
    }
}

/// Has this task woken when the next try is due. Says so once per full disk.
fn await_room<E: Env>(shared: &Rc<Shared<E>>, error: &WalError) {
    let retry = shared.env.now() + limits::FULL_DISK_RETRY;
    let first = shared
        .state
        .borrow_mut()
        .room_retry
        .replace(retry)
        .is_none();
    if first {
        tracing::error!(
            dir = %shared.options.dir.display(),
            wanted_bytes = shared.options.segment_bytes,
            error = %error,
            "disk full: no room for the next log segment; writes go on until the present one is \
             used up and are then refused, reads go on"
        );
        shared.wake(Vec::new());
    }
    let (env, upkeep) = (shared.env.clone(), shared.upkeep.clone());
    shared.env.spawn(async move {
        env.sleep(limits::FULL_DISK_RETRY).await;
        upkeep.notify();
    });
}

/// On a full disk: says in the log that the oldest segment is not needed, when the missing word is
/// all that keeps it. Otherwise a mark rides in a batch that is written anyway, but here none may
/// come until there is room, and this is what makes it.
fn announce<E: Env>(shared: &Shared<E>) -> Result<(), WalError> {
    loop {
        let next = {
            let state = &mut *shared.state.borrow_mut();
            let index = &mut state.appender.index;
            let oldest = index.oldest().seq;
            if state.closing || oldest >= state.file_seq || index.pinned_by().is_some() {
                return Ok(());
            }
            match index.due_mark() {
                Some((group, mark)) => SmallRecord::Mark(group, mark),
                None => match index.small_record_in(oldest) {
                    Some(small) => small,
                    None => return Ok(()),
                },
            }
        };
        match shared.append(&next.record()) {
            Ok(_) => {}
            Err(WalError::NoRoom { .. } | WalError::Full { .. }) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// Writes the oldest segment's few live records again while the log has too many segments. The
/// next durable batch then says that the segment is not needed.
async fn empty_oldest<E: Env>(shared: &Rc<Shared<E>>) -> Result<(), WalError> {
    let plan = {
        let state = &mut *shared.state.borrow_mut();
        let index = &mut state.appender.index;
        if state.closing
            || index.segment_count() <= shared.options.segments_live
            || index.oldest().seq >= state.file_seq
        {
            return Ok(());
        }
        match index.copy_plan(shared.options.segment_bytes / limits::COPY_SHARE) {
            Some(plan) => plan,
            None => return Ok(()),
        }
    };
    shared.state.borrow_mut().upkeep_waits = true;
    let copied = copy(shared, &plan).await;
    shared.state.borrow_mut().upkeep_waits = false;
    match copied {
        // Bit rot in an old segment: raft still holds the entries, and the segment stays until
        // they are released.
        Err(WalError::Lost { .. } | WalError::Version { .. } | WalError::Malformed { .. }) => {
            shared.state.borrow_mut().counters.copy_failures += 1;
            Ok(())
        }
        // The disk is full: what room is left belongs to others. The next pass behind it begins
        // again; the same entry twice is one entry.
        Err(WalError::NoRoom { .. }) => Ok(()),
        other => other,
    }
}

async fn copy<E: Env>(shared: &Rc<Shared<E>>, plan: &CopyPlan) -> Result<(), WalError> {
    // Releases that wait for a batch to ride in may be all that pins the segment.
    loop {
        room(shared).await?;
        let due = shared.state.borrow_mut().appender.index.due_mark();
        let Some((group, mark)) = due else { break };
        put(
            shared,
            &Record::Mark {
                group,
                index: mark.index,
                term: mark.term,
            },
        )?;
    }
    if plan.entries {
        copy_entries(shared, plan.seq).await?;
        shared
            .state
            .borrow_mut()
            .appender
            .index
            .forget_entries(plan.seq);
    }
    loop {
        room(shared).await?;
        let small = shared
            .state
            .borrow()
            .appender
            .index
            .small_record_in(plan.seq);
        let Some(small) = small else { return Ok(()) };
        put(shared, &small.record())?;
    }
}

/// The entries of the oldest segment that may have to be written again.
#[derive(Default)]
struct Candidates {
    /// At most an eighth of a segment, or the plan would not have been made.
    entries: Vec<Candidate>,
    /// The last index of each group in them.
    last: BTreeMap<GroupId, LogIndex>,
}

impl Candidates {
    fn push(&mut self, entry: Candidate) {
        self.last.insert(entry.group, entry.index);
        self.entries.push(entry);
    }

    /// The group's entries from `index` on are void.
    fn cut(&mut self, group: GroupId, index: LogIndex) {
        if self.last.get(&group).is_some_and(|last| *last >= index) {
            self.entries
                .retain(|old| old.group != group || old.index < index);
        }
    }
}

struct Candidate {
    group: GroupId,
    index: LogIndex,
    term: Term,
    data: Bytes,
}

/// Writes the live entries of the oldest segment again.
async fn copy_entries<E: Env>(shared: &Rc<Shared<E>>, seq: SegmentSeq) -> Result<(), WalError> {
    let size = {
        let state = shared.state.borrow();
        let oldest = state.appender.index.oldest();
        debug_assert_eq!(oldest.seq, seq);
        oldest.size
    };
    let mut chain = Chain::default();
    let mut held: Held<Bytes> = Held::default();
    let mut candidates = Candidates::default();
    let scanner = Scanner::oldest(seq, size);
    let mut reader = SegmentReader::open(&shared.env, &shared.options.dir, seq, scanner).await?;
    while let Some((_, header, void_from, records)) = reader.next(&mut chain).await? {
        held.push(header, void_from, records);
        while let Some((_, records)) = held.pop_sure() {
            collect(shared, &records, &mut candidates);
        }
    }
    while let Some((_, records)) = held.pop() {
        collect(shared, &records, &mut candidates);
    }
    reader.close().await?;
    for Candidate {
        group,
        index,
        term,
        data,
    } in &candidates.entries
    {
        let (group, index, term) = (*group, *index, *term);
        room(shared).await?;
        // Asked again: the group may have released or replaced it while others were written.
        if shared
            .state
            .borrow()
            .appender
            .index
            .is_live(group, index, term)
        {
            put(
                shared,
                &Record::Copy {
                    group,
                    index,
                    term,
                    data,
                },
            )?;
        }
    }
    Ok(())
}

/// Adds a batch's live entries, and drops those that it makes void.
fn collect<E: Env>(shared: &Shared<E>, records: &Bytes, candidates: &mut Candidates) {
    let index_of_log = &shared.state.borrow().appender.index;
    let mut reader = Reader::new(records);
    while let Some(Ok(record)) = Record::decode(&mut reader) {
        match record {
            Record::Entry {
                group,
                index,
                term,
                data,
            } => {
                candidates.cut(group, index);
                if index_of_log.is_live(group, index, term) {
                    let data = records.slice_ref(data);
                    candidates.push(Candidate {
                        group,
                        index,
                        term,
                        data,
                    });
                }
            }
            Record::Copy {
                group,
                index,
                term,
                data,
            } => {
                if index_of_log.is_live(group, index, term) {
                    let data = records.slice_ref(data);
                    candidates.push(Candidate {
                        group,
                        index,
                        term,
                        data,
                    });
                }
            }
            Record::Removed { group } | Record::Reset { group, .. } => {
                candidates.cut(group, LogIndex(0));
            }
            Record::HardState { .. } | Record::Mark { .. } | Record::Meta { .. } => {}
        }
    }
}

/// Waits while much is queued, so that copies never delay a put by more than one batch. What is
/// copied is looked up afterwards: it may have been replaced meanwhile, and a stale record would
/// replace its successor.
async fn room<E: Env>(shared: &Rc<Shared<E>>) -> Result<(), WalError> {
    let queued = || shared.state.borrow().appender.queued_bytes();
    let bounds = shared.options.bounds;
    let enough = bounds.queue_bytes_max - bounds.record_bytes_max;
    while queued() >= enough.min(bounds.second_write_bytes_min) {
        // The queue may be waiting for a segment, which only this task prepares.
        prepare(shared).await?;
        if shared.state.borrow().room_retry.is_some() {
            return Err(shared.no_room());
        }
        shared.upkeep.wait().await;
        if is_over(shared) {
            return Err(WalError::Closed);
        }
    }
    Ok(())
}

/// Writes a record again; there was room for it.
fn put<E: Env>(shared: &Shared<E>, record: &Record<'_>) -> Result<(), WalError> {
    shared.append(record)?;
    shared.state.borrow_mut().counters.copied_records += 1;
    Ok(())
}
