//! Pure. The part of the log that raft may still ask for, in memory: everything since the entry up
//! to which a durable tree commit made it unnecessary.

use crate::ids::{LogIndex, Term};
use raft::prelude::{ConfState, Entry, HardState, Snapshot};
use raft::storage::{GetEntriesContext, Storage};
use raft::{Error, RaftState, StorageError};
use std::collections::VecDeque;

/// The log as raft-rs reads it. Owned by the node; entries are shared with it by reference count.
pub(super) struct MemoryLog {
    /// `entries[i].index == dropped_index + 1 + i`.
    entries: VecDeque<Entry>,
    dropped_index: u64,
    dropped_term: u64,
    pub(super) hard_state: HardState,
    conf_state: ConfState,
}

impl MemoryLog {
    pub(super) fn new(
        dropped: (LogIndex, Term),
        hard_state: HardState,
        voter: u64,
        entries: VecDeque<Entry>,
    ) -> MemoryLog {
        let conf_state = ConfState { voters: vec![voter], ..ConfState::default() };
        MemoryLog {
            entries,
            dropped_index: dropped.0.0,
            dropped_term: dropped.1.0,
            hard_state,
            conf_state,
        }
    }

    fn last(&self) -> u64 {
        self.dropped_index + self.entries.len() as u64
    }

    /// Appends; an entry that exists already replaces it and all behind it.
    pub(super) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(first.index > self.dropped_index, "a dropped entry is committed: never replaced");
        assert!(first.index <= self.last() + 1, "entries {} leave a gap", first.index);
        self.entries.truncate((first.index - self.dropped_index - 1) as usize);
        self.entries.extend(entries.iter().cloned());
    }

    /// Drops what is no longer needed, up to `through`.
    pub(super) fn compact(&mut self, through: LogIndex) {
        assert!(through.0 <= self.last(), "compacting past the end");
        if through.0 <= self.dropped_index {
            return;
        }
        let count = (through.0 - self.dropped_index) as usize;
        self.dropped_term = self.entries[count - 1].term;
        self.dropped_index = through.0;
        self.entries.drain(..count);
    }

    pub(super) fn entry_count(&self) -> usize {
        self.entries.len()
    }
}

impl Storage for MemoryLog {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        size_max: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.dropped_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        assert!(high <= self.last() + 1, "entries up to {high} of {}", self.last());
        let size_max = size_max.into().unwrap_or(u64::MAX);
        let mut size = 0u64;
        let from = (low - self.dropped_index - 1) as usize;
        let to = (high - self.dropped_index - 1) as usize;
        let fits = |entry: &&Entry| {
            let first = size == 0;
            size += entry.data.len() as u64 + 16;
            first || size <= size_max
        };
        Ok(self.entries.range(from..to).take_while(fits).cloned().collect())
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.dropped_index {
            return Ok(self.dropped_term);
        }
        if index < self.dropped_index {
            return Err(Error::Store(StorageError::Compacted));
        }
        let at = (index - self.dropped_index - 1) as usize;
        match self.entries.get(at) {
            Some(entry) => Ok(entry.term),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.dropped_index + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _: u64, _: u64) -> raft::Result<Snapshot> {
        // A single voter is never asked for one.
        Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
