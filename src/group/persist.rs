//! Driver. Between raft and the log: proposals in, rounds to the log, durable rounds back.

use super::core::{Core, Failure, InLog, Pending, Waiter};
use super::ticket::Refusal;
use crate::apply::{Entry, Kind};
use crate::env::Env;
use crate::limits::group as limits;
use crate::raft::Effects;
use crate::wal::{Record, WalError};

impl<E: Env> Core<E> {
    /// Whether a proposal may be taken now. While not, inputs wait: the disk is behind. On a full
    /// disk they do not wait for the log: `propose` refuses what it has no room for.
    pub(super) fn takes_proposals(&self) -> bool {
        let log_keeps_up =
            self.undurable_bytes < limits::UNDURABLE_BYTES_MAX && self.unwritten.is_empty();
        let tree_keeps_up =
            self.tree_full || self.machine.store().buffered_bytes() < limits::BUFFERED_BYTES_SOFT;
        (log_keeps_up || self.log.waits_for_room()) && tree_keeps_up
    }

    /// Whether an entry of so many bytes becomes durable although the disk may be full.
    pub(super) fn log_takes(&self, bytes: usize) -> bool {
        !self.log.waits_for_room() || (self.unwritten.is_empty() && self.log.has_room_for(bytes))
    }

    /// Hands an entry to raft. The waiter is answered when it is applied.
    pub(super) fn propose(
        &mut self,
        kind: Kind,
        body: &[u8],
        waiter: Waiter,
    ) -> Result<(), Refusal> {
        if let Some(refusal) = self.refusal() {
            return Err(refusal);
        }
        let entry = Entry::new(kind, 0, body);
        // Both: an operator may allow requests that no log record can hold. Such an entry must not
        // reach raft, which would never get rid of it again.
        let asked = self.options.request_bytes_max;
        let allowed = asked.saturating_add(limits::ENTRY_OVERHEAD_BYTES);
        if entry.encoded_size() > allowed.min(self.log.entry_bytes_max()) {
            return Err(Refusal::TooLarge);
        }
        // What raft has taken cannot be refused any more, and would wait for room.
        if !self.log_takes(entry.encoded_size()) {
            return Err(Refusal::NoSpace);
        }
        let mut data = Vec::with_capacity(entry.encoded_size());
        entry.encode(&mut data);
        let size = data.len();
        let (index, term) = self.node.propose(data).map_err(|_| Refusal::NoLeader)?;
        self.undurable_bytes += size;
        self.pending.push_back(Pending {
            index,
            term,
            waiter,
        });
        if self.log.waits_for_room() {
            // Into the log at once, so that the next one sees the room that is left.
            self.take_rounds();
        }
        Ok(())
    }

    /// Takes what raft wants written and committed; `true` when there was something.
    pub(super) fn take_rounds(&mut self) -> bool {
        let mut progress = self.write_again();
        while self.unwritten.is_empty() {
            let Some(effects) = self.node.take_effects() else {
                break;
            };
            progress = true;
            if let Some(term) = effects.elected {
                self.elected(term);
            }
            self.committed.extend(effects.committed.iter().cloned());
            self.write_round(effects);
        }
        progress
    }

    /// Rounds that the full log did not take are written before any later one.
    fn write_again(&mut self) -> bool {
        let mut progress = false;
        while let Some(effects) = self.unwritten.pop_front() {
            let before = self.unwritten.len();
            self.write_round(effects);
            if self.unwritten.len() > before {
                break;
            }
            progress = true;
        }
        progress
    }

    /// Encodes a round into the log's batch. A log without room keeps the rest for later.
    fn write_round(&mut self, mut effects: Effects) {
        if self.failure.is_some() {
            return;
        }
        let group = self.options.group;
        if let Some(state) = effects.hard_state.take() {
            let state = crate::wal::HardState {
                term: state.term,
                vote: state.vote,
                commit: state.commit,
            };
            match self.log.append(&Record::HardState { group, state }) {
                Ok(lsn) => self.last_lsn = lsn,
                Err(WalError::Full { .. } | WalError::NoRoom { .. }) => {
                    effects.hard_state = Some(crate::raft::HardState {
                        term: state.term,
                        vote: state.vote,
                        commit: state.commit,
                    });
                    self.unwritten.push_front(effects);
                    return;
                }
                Err(error) => return self.fail(Failure::Log(error)),
            }
        }
        let mut written = 0;
        for entry in &effects.entries {
            let record = Record::Entry {
                group,
                index: entry.index,
                term: entry.term,
                data: &entry.data,
            };
            match self.log.append(&record) {
                Ok(lsn) => self.last_lsn = lsn,
                Err(WalError::Full { .. } | WalError::NoRoom { .. }) => break,
                Err(error) => return self.fail(Failure::Log(error)),
            }
            self.log_bytes_since_commit += entry.data.len() as u64;
            written += 1;
        }
        let bytes = effects.entries[..written]
            .iter()
            .map(|entry| entry.data.len())
            .sum();
        let whole = written == effects.entries.len();
        if !whole {
            effects.entries.drain(..written);
        }
        let round = whole.then_some(effects.round);
        self.in_log.push_back(InLog {
            round,
            lsn: self.last_lsn,
            bytes,
        });
        if !whole {
            self.unwritten.push_front(effects);
        }
    }

    /// Tells raft which rounds are durable; `true` when there were some.
    pub(super) fn note_durable(&mut self) -> bool {
        if let Some(error) = self.log.failed() {
            self.fail(Failure::Log(error));
            return false;
        }
        let durable = self.log.durable();
        let mut round = None;
        while let Some(first) = self.in_log.front()
            && first.lsn <= durable
        {
            round = first.round.or(round);
            self.undurable_bytes -= first.bytes;
            self.in_log.pop_front();
        }
        let Some(round) = round else { return false };
        self.node.persisted(round);
        true
    }

    /// Whether nothing is on its way through raft and the log any more, or only what waits for room
    /// on a full disk.
    pub(super) fn is_settled(&self) -> bool {
        let written =
            self.unwritten.is_empty() && self.in_log.is_empty() && self.pending.is_empty();
        let settled = (written || self.log.is_stalled()) && self.committed.is_empty();
        self.failure.is_some() || settled
    }

    /// Latches a failure. Nothing is written from here on; whoever waits is told.
    pub(super) fn fail(&mut self, failure: Failure) {
        if self.failure.is_none() {
            tracing::error!(group = self.options.group.0, error = %failure, "group stopped");
            self.failure = Some(failure);
        }
    }
}
