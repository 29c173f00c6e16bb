//! Pure. Records in log order become what each group finds again after a restart.

use super::error::WalError;
use super::format::{BatchHeader, HardState, Record};
use super::index::Mark;
use crate::ids::{GroupId, LogIndex, Lsn, Term};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};

/// A raft entry read back. `data` borrows from the read that brought it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub index: LogIndex,
    pub term: Term,
    pub data: Bytes,
}

/// What the log holds of one group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RecoveredGroup {
    pub hard_state: Option<HardState>,
    /// The last entry known to be in the backend; entries follow it without a hole.
    pub released: Mark,
    /// Ascending from `released.index + 1`.
    pub entries: Vec<Entry>,
    pub meta: Option<Bytes>,
}

#[derive(Debug, Default)]
pub struct Rebuild {
    groups: BTreeMap<GroupId, Building>,
}

#[derive(Debug, Default)]
struct Building {
    hard_state: Option<HardState>,
    released: Mark,
    meta: Option<Bytes>,
    /// Ascending without holes.
    entries: VecDeque<Entry>,
    /// Copies of entries whose segments are gone; below the first of `entries`.
    copies: BTreeMap<LogIndex, Entry>,
    /// Entries jumped over this index: legal only if it is released by the end of the log.
    jumped: LogIndex,
}

impl Rebuild {
    /// Applies a record; `body` is what it was decoded from.
    pub fn apply(&mut self, record: &Record<'_>, body: &Bytes) {
        let group = record.group();
        if let Record::Removed { .. } = record {
            self.groups.remove(&group);
            return;
        }
        let state = self.groups.entry(group).or_default();
        match *record {
            Record::Entry {
                index, term, data, ..
            } => {
                state.entry(Entry {
                    index,
                    term,
                    data: body.slice_ref(data),
                });
            }
            Record::Copy {
                index, term, data, ..
            } => {
                state.copy(Entry {
                    index,
                    term,
                    data: body.slice_ref(data),
                });
            }
            Record::HardState {
                state: hard_state, ..
            } => state.hard_state = Some(hard_state),
            Record::Mark { index, term, .. } => state.mark(Mark { index, term }),
            Record::Meta { bytes, .. } => state.meta = Some(body.slice_ref(bytes)),
            Record::Reset { index, term, .. } => {
                state.entries.clear();
                state.copies.clear();
                state.jumped = LogIndex(0);
                state.released = Mark { index, term };
            }
            Record::Removed { .. } => {}
        }
    }

    /// The groups, once every record was applied.
    pub fn finish(self) -> Result<BTreeMap<GroupId, RecoveredGroup>, WalError> {
        let finish = |(group, state): (GroupId, Building)| Ok((group, state.finish(group)?));
        self.groups.into_iter().map(finish).collect()
    }
}

impl Building {
    fn entry(&mut self, entry: Entry) {
        if entry.index <= self.released.index {
            // Written before its release by a log whose marks came first; the backend has it.
            return;
        }
        let next = self.entries.back().map(|last| last.index.next());
        if next != Some(entry.index) {
            self.place(entry.index, next);
        }
        self.entries.push_back(entry);
    }

    /// Makes `index` the end of the entries although it is not behind the last one.
    fn place(&mut self, index: LogIndex, next: Option<LogIndex>) {
        let _ = self.copies.split_off(&index);
        let Some(next) = next else { return };
        if index > next {
            self.jumped = self.jumped.max(LogIndex(index.0 - 1));
            self.entries.clear();
            return;
        }
        let first = self.entries.front().map_or(next, |entry| entry.index);
        self.entries
            .truncate(index.0.saturating_sub(first.0) as usize);
    }

    fn copy(&mut self, entry: Entry) {
        let first = self
            .entries
            .front()
            .map_or(LogIndex(u64::MAX), |entry| entry.index);
        if entry.index > self.released.index && entry.index < first {
            self.copies.insert(entry.index, entry);
        }
    }

    fn mark(&mut self, mark: Mark) {
        if mark.index <= self.released.index {
            return;
        }
        self.released = mark;
        self.copies = self.copies.split_off(&mark.index.next());
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.index <= mark.index)
        {
            self.entries.pop_front();
        }
    }

    fn finish(self, group: GroupId) -> Result<RecoveredGroup, WalError> {
        let mut expected = self.released.index.next();
        if self.jumped >= expected {
            return Err(WalError::Gap {
                group,
                expected,
                found: self.jumped.next(),
            });
        }
        let mut term = Term(0);
        let mut entries: Vec<Entry> = Vec::with_capacity(self.copies.len() + self.entries.len());
        for entry in self.copies.into_values().chain(self.entries) {
            if entry.index != expected || entry.term < term {
                return Err(WalError::Gap {
                    group,
                    expected,
                    found: entry.index,
                });
            }
            expected = entry.index.next();
            term = entry.term;
            entries.push(entry);
        }
        // Raft calls an entry committed only once it is durable, and commits before it says so.
        let last = LogIndex(expected.0 - 1);
        let committed = self.hard_state.map_or(LogIndex(0), |state| state.commit);
        if committed > last {
            return Err(WalError::CommitLost {
                group,
                committed,
                last,
            });
        }
        Ok(RecoveredGroup {
            hard_state: self.hard_state,
            released: self.released,
            entries,
            meta: self.meta,
        })
    }
}

/// Batches that no later one has called durable yet. A process that did not see them may have
/// opened the log before them, which makes them void.
#[derive(Debug)]
pub struct Held<T> {
    batches: VecDeque<(BatchHeader, T)>,
}

impl<T> Default for Held<T> {
    fn default() -> Held<T> {
        Held {
            batches: VecDeque::new(),
        }
    }
}

impl<T> Held<T> {
    /// Takes the chain's next batch; batches from `void_from` on leave unseen.
    pub fn push(&mut self, header: BatchHeader, void_from: Lsn, batch: T) {
        while self
            .batches
            .back()
            .is_some_and(|(last, _)| last.lsn >= void_from)
        {
            self.batches.pop_back();
        }
        self.batches.push_back((header, batch));
    }

    /// The next batch that nothing can void any more.
    pub fn pop_sure(&mut self) -> Option<(BatchHeader, T)> {
        let durable = self.batches.back()?.0.durable;
        if self.batches.front()?.0.end() > durable {
            return None;
        }
        self.batches.pop_front()
    }

    /// The next batch, once the log has ended.
    pub fn pop(&mut self) -> Option<(BatchHeader, T)> {
        self.batches.pop_front()
    }
}
