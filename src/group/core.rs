//! Driver. What a group holds, and the facts that follow from it.

use super::open::GroupOptions;
use super::ticket::{GroupStatus, Refusal, Stamp, Ticket};
use super::watching::Watching;
use crate::apply::{Alarm, Fault, StateMachine};
use crate::backend::CommitPolicy;
use crate::env::{Env, Monotonic};
use crate::ids::{LeaseId, LogIndex, Lsn, Term};
use crate::limits::group as limits;
use crate::metrics::CoreMetrics;
use crate::mvcc::{KvHash, RangeError};
use crate::raft::{Committed, Effects, Node};
use crate::wal::{Log, WalError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Who waits for an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Waiter {
    Client(Ticket),
    /// The group proposed it itself: nobody is told.
    Nobody,
}

impl Waiter {
    pub fn ticket(self) -> Option<Ticket> {
        match self {
            Waiter::Client(ticket) => Some(ticket),
            Waiter::Nobody => None,
        }
    }
}

/// A proposal on its way through raft. In log order: `index` grows along the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pending {
    pub index: LogIndex,
    pub term: Term,
    pub waiter: Waiter,
}

/// A raft round, or the part of it that the log had room for, waiting to be durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct InLog {
    /// The round that is durable with this; none for a part.
    pub round: Option<u64>,
    pub lsn: Lsn,
    /// Its entries' bytes.
    pub bytes: usize,
}

/// Everything that a group's turn changes. Owned by the group's tasks on its core.
pub(super) struct Core<E: Env> {
    pub options: GroupOptions,
    pub node: Node,
    pub log: Log<E>,
    pub machine: StateMachine,
    pub watching: Watching,
    pub metrics: Arc<CoreMetrics>,
    pub pending: VecDeque<Pending>,
    pub in_log: VecDeque<InLog>,
    /// Rounds, or their rests, that the full log did not take.
    pub unwritten: VecDeque<Effects>,
    /// The end of the last record that the log took.
    pub last_lsn: Lsn,
    /// Committed and not yet applied.
    pub committed: VecDeque<Committed>,
    /// Bytes of entries that are proposed and not yet durable: the sum over `in_log`, and what raft
    /// holds.
    pub undurable_bytes: usize,
    /// Linearizable queries that came before this leader's first entry was applied.
    pub early: Vec<(super::Query, Ticket)>,
    /// Renewals of leases that ended and are not revoked yet.
    pub renewals: BTreeMap<LeaseId, Vec<Ticket>>,
    pub renewals_waiting: usize,
    /// Leases whose revocation is on its way through the log.
    pub revoking: BTreeSet<LeaseId>,
    /// Physical compactions that wait for the work to be done.
    pub compactions: Vec<(Ticket, super::Answer)>,
    /// Those whose work the tree commit under way takes along.
    pub compactions_in_commit: Vec<(Ticket, super::Answer)>,
    /// The last entry that the log held when the group opened.
    pub found: LogIndex,
    /// What compactions hashed, newest last: etcd answers HashKV at their revisions from these.
    pub hashes: VecDeque<KvHash>,
    /// The space alarm is on its way through the log.
    pub quota_alarm_proposed: bool,
    /// Bytes appended to the log since the last tree commit began.
    pub log_bytes_since_commit: u64,
    pub failure: Option<Failure>,
    /// The tree file could not grow for want of space, and nothing was written since.
    pub tree_full: bool,
    /// Leads since this turn: leases are to be started.
    pub became_leader: bool,
    /// When the first change after the last commit's beginning was applied.
    pub dirty_since: Option<Monotonic>,
    pub policy: CommitPolicy,
    /// A commit is wanted whatever the policy says.
    pub commit_asked: bool,
}

/// Why a group stopped.
#[derive(Clone, Debug)]
pub enum Failure {
    /// The log refused for good.
    Log(WalError),
    /// Writing or syncing the tree file failed.
    TreeFile(String),
    /// Stored bytes are damaged: the text says where.
    Damaged(String),
}

impl Failure {
    pub fn of_fault(fault: &Fault) -> Failure {
        Failure::Damaged(fault.to_string())
    }

    pub fn of_read(error: &RangeError) -> Failure {
        Failure::Damaged(error.to_string())
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Log(error) => error.fmt(f),
            Failure::TreeFile(error) => write!(f, "tree file: {error}"),
            Failure::Damaged(text) => f.write_str(text),
        }
    }
}

impl<E: Env> Core<E> {
    pub fn stamp(&self) -> Stamp {
        Stamp {
            revision: self.machine.store().current(),
            term: self.node.term(),
            corrupt: self.machine.alarms().is_raised(Alarm::Corrupt),
        }
    }

    /// Whether a linearizable read of the applied state is right now. The only voter's log holds
    /// all that was ever committed, so it has applied that once it has applied what its log held
    /// at the start. It does not wait for an entry of its own term: on a full disk that may take
    /// long, and reads go on.
    pub fn may_read(&self) -> bool {
        self.node.is_leader() && self.applied() >= self.found
    }

    /// The last applied entry.
    pub fn applied(&self) -> LogIndex {
        self.machine.consistent().0
    }

    pub fn refusal(&self) -> Option<Refusal> {
        match &self.failure {
            Some(Failure::Damaged(_)) => Some(Refusal::Corrupt),
            Some(_) => Some(Refusal::Stopped),
            None => None,
        }
    }

    pub fn status(&self) -> GroupStatus {
        let store = self.machine.store();
        let mut errors = Vec::new();
        if !self.node.has_leader() {
            errors.push("etcdserver: no leader".into());
        }
        if self.log.waits_for_room() {
            errors.push("ringbolt: disk full: the log waits for room".into());
        }
        if self.tree_full {
            errors.push("ringbolt: disk full: the tree file waits for room".into());
        }
        let alarms = self.machine.alarms().list(None);
        errors.extend(alarms.iter().map(|raised| {
            format!(
                "memberID:{} alarm:{} ",
                raised.member.0,
                raised.alarm.name()
            )
        }));
        GroupStatus {
            stamp: self.stamp(),
            leader: self.node.leader().0,
            raft_index: self.node.committed().0,
            applied_index: self.applied().0,
            size_bytes: store.size_bytes(),
            in_use_bytes: store.in_use_bytes(),
            quota_bytes: self.machine.quota().bytes() as i64,
            errors,
            alarms: alarms.iter().map(|raised| raised.alarm).collect(),
        }
    }

    /// Writes that grow the store are refused: the disk has no room for what is applied already.
    pub fn is_overfull(&self) -> bool {
        self.tree_full && self.machine.store().buffered_bytes() >= limits::BUFFERED_BYTES_MAX
    }

    /// Whether a tree commit should begin.
    pub fn wants_commit(&mut self, now: Monotonic) -> bool {
        let store = self.machine.store();
        let buffered = store.buffered_bytes();
        if buffered == 0 {
            self.dirty_since = None;
        } else if self.dirty_since.is_none() {
            self.dirty_since = Some(now);
        }
        let age = self.dirty_since.map_or(Duration::ZERO, |since| now - since);
        self.commit_asked
            || self
                .policy
                .is_due(buffered, self.log_bytes_since_commit, age)
    }

    /// Puts the state of the group into its gauges. Once per tick and not once per turn: nobody
    /// reads them more often, and a lone put has its own turns.
    pub fn export(&self, inputs: usize) {
        let metrics = &self.metrics;
        let store = self.machine.store();
        metrics
            .proposals_committed
            .set(self.node.committed().0 as i64);
        metrics.proposals_applied.set(self.applied().0 as i64);
        metrics
            .proposals_pending
            .set((self.pending.len() + inputs) as i64);
        metrics.current_revision.set(store.current());
        metrics.compact_revision.set(store.compacted());
        metrics.db_size.set(store.size_bytes() as i64);
        metrics.db_size_in_use.set(store.in_use_bytes() as i64);
    }
}
