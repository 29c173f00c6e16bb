//! Pure. The raft log in memory: everything behind the last compaction.

use super::node::HardState;
use crate::ids::{LogIndex, MemberId, Term};
use bytes::Bytes;
use raft::eraftpb::{ConfState, Entry, Snapshot};
use raft::storage::{RaftState, Storage};
use raft::{Error, GetEntriesContext, StorageError};
use std::collections::VecDeque;

/// An entry on its way to the log, or read back from it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LogEntry {
    pub index: LogIndex,
    pub term: Term,
    pub data: Bytes,
}

/// raft-rs's storage. `entries[i]` has index `compacted.0 + 1 + i`.
#[derive(Debug)]
pub(super) struct MemoryLog {
    voter: MemberId,
    hard_state: HardState,
    /// The entry before the first: its data is in the backend.
    compacted: (LogIndex, Term),
    entries: VecDeque<LogEntry>,
}

impl MemoryLog {
    pub fn new(
        voter: MemberId,
        hard_state: HardState,
        compacted: (LogIndex, Term),
        entries: VecDeque<LogEntry>,
    ) -> MemoryLog {
        let mut before = compacted;
        for entry in &entries {
            assert_eq!(entry.index, before.0.next(), "the log has no hole");
            assert!(entry.term >= before.1, "terms do not fall along the log");
            before = (entry.index, entry.term);
        }
        MemoryLog {
            voter,
            hard_state,
            compacted,
            entries,
        }
    }

    pub fn last(&self) -> LogIndex {
        self.entries
            .back()
            .map_or(self.compacted.0, |entry| entry.index)
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    /// Takes entries; those from the first one's index on are replaced.
    pub fn append(&mut self, entries: &[LogEntry]) {
        let Some(first) = entries.first() else { return };
        let kept = first.index.0.checked_sub(self.compacted.0.0 + 1);
        let kept = kept.expect("a compacted entry is not written again") as usize;
        assert!(kept <= self.entries.len(), "the log has no hole");
        self.entries.truncate(kept);
        self.entries.extend(entries.iter().cloned());
    }

    /// Forgets entries up to `through`, which are in the backend.
    pub fn compact(&mut self, through: LogIndex) {
        while self
            .entries
            .front()
            .is_some_and(|entry| entry.index <= through)
        {
            if let Some(entry) = self.entries.pop_front() {
                self.compacted = (entry.index, entry.term);
            }
        }
        // A burst must not keep its memory for good.
        if self.entries.capacity() > 4 * self.entries.len() + 4096 {
            self.entries.shrink_to(2 * self.entries.len());
        }
    }

    fn slot(&self, index: u64) -> Result<usize, StorageError> {
        let slot = index
            .checked_sub(self.compacted.0.0 + 1)
            .ok_or(StorageError::Compacted)?;
        Ok(slot as usize)
    }
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        let mut hard_state = raft::eraftpb::HardState::default();
        hard_state.term = self.hard_state.term.0;
        hard_state.vote = self.hard_state.vote.0;
        hard_state.commit = self.hard_state.commit.0;
        let conf_state = ConfState::from((vec![self.voter.0], Vec::new()));
        Ok(RaftState {
            hard_state,
            conf_state,
        })
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        let (low, high) = (self.slot(low)?, self.slot(high)?);
        if high > self.entries.len() || low > high {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let max_size = max_size.into().unwrap_or(u64::MAX);
        let mut size = 0u64;
        let mut out = Vec::with_capacity(high - low);
        for entry in self.entries.range(low..high) {
            size = size.saturating_add(entry.data.len() as u64 + ENTRY_SIZE);
            // At least one, or raft would never get on.
            if size > max_size && !out.is_empty() {
                break;
            }
            out.push(entry.to_raft());
        }
        Ok(out)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.compacted.0.0 {
            return Ok(self.compacted.1.0);
        }
        let slot = self.slot(index)?;
        let entry = self.entries.get(slot).ok_or(StorageError::Unavailable)?;
        Ok(entry.term.0)
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.compacted.0.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Only a follower that is behind needs one.
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}

/// What an entry counts beside its data against a size bound.
const ENTRY_SIZE: u64 = 24;

impl LogEntry {
    fn to_raft(&self) -> Entry {
        let (index, term, data) = (self.index.0, self.term.0, self.data.clone());
        Entry {
            index,
            term,
            data,
            ..Entry::default()
        }
    }

    pub(super) fn from_raft(entry: Entry) -> LogEntry {
        LogEntry {
            index: LogIndex(entry.index),
            term: Term(entry.term),
            data: entry.data,
        }
    }
}
