//! Pure. One member of a raft group.

use super::log::{LogEntry, MemoryLog};
use crate::ids::{LogIndex, MemberId, Term};
use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, Message, MessageType};
use raft::{Config, RawNode, StateRole};
use std::collections::VecDeque;

/// Fixed facts of a member.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NodeOptions {
    /// Not 0.
    pub member: MemberId,
    /// Ticks without a leader before a member stands for election; drawn from so many to twice as
    /// many.
    pub election_ticks: usize,
    /// Ticks between heartbeats; `heartbeat_ticks < election_ticks`.
    pub heartbeat_ticks: usize,
    /// Where election timeouts come from: another one in every member and group.
    pub seed: u64,
}

/// What a restart found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Start {
    pub hard_state: HardState,
    /// The last entry that the backend holds.
    pub applied: (LogIndex, Term),
    /// Ascending from `applied.0 + 1`, without a hole.
    pub entries: Vec<LogEntry>,
}

/// What raft must find again after a restart, beside its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    pub term: Term,
    /// 0: no vote in this term.
    pub vote: MemberId,
    pub commit: LogIndex,
}

/// An entry that a majority has. `data` is empty in the first entry of a leader's term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Committed {
    pub index: LogIndex,
    pub term: Term,
    pub data: Bytes,
}

/// What raft wants done, one round of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// To be given to [`Node::persisted`] once all that follows in this round is durable. A round
    /// without hard state and entries is durable with the one before it.
    pub round: u64,
    /// To be written before the entries.
    pub hard_state: Option<HardState>,
    /// To be written; they replace what the log has from the first one's index on.
    pub entries: Vec<LogEntry>,
    /// To be applied, now or later, in order.
    pub committed: Vec<Committed>,
    /// This member has become the leader of this term.
    pub elected: Option<Term>,
    /// Whom this member follows now, itself included, when that has changed. 0: nobody.
    pub leader: Option<MemberId>,
}

/// The answer to a proposal that this member cannot take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NotLeader {
    /// 0: nobody is known.
    pub leader: MemberId,
}

impl std::fmt::Display for NotLeader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "raft: not the leader, which is {:x}", self.leader.0)
    }
}

impl std::error::Error for NotLeader {}

/// A group's member. Owned by the group's task on its core.
pub struct Node {
    raw: RawNode<MemoryLog>,
    options: NodeOptions,
    /// As the log will have it once all rounds taken so far are durable.
    written: HardState,
    /// The newest round taken: `persisted <= taken`.
    taken: u64,
    persisted: u64,
    applied: LogIndex,
}

impl Node {
    /// Continues from what a restart found.
    pub fn new(options: NodeOptions, start: Start) -> Node {
        assert_ne!(options.member, MemberId(0), "raft keeps id 0 for nobody");
        assert!(options.heartbeat_ticks > 0 && options.heartbeat_ticks < options.election_ticks);
        let Start {
            mut hard_state,
            applied,
            entries,
        } = start;
        let last = entries.last().map_or(applied.0, |entry| entry.index);
        assert!(
            hard_state.commit <= last,
            "the log holds what it calls committed"
        );
        let written = hard_state;
        // The commit index travels late, so the backend may be ahead of it.
        hard_state.commit = hard_state.commit.max(applied.0);
        // A term is recorded before the first entry of it, unless only the backend knows it.
        hard_state.term = hard_state.term.max(applied.1);
        let log = MemoryLog::new(options.member, hard_state, applied, VecDeque::from(entries));
        let config = Config {
            id: options.member.0,
            election_tick: options.election_ticks,
            heartbeat_tick: options.heartbeat_ticks,
            applied: applied.0.0,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 256,
            check_quorum: true,
            pre_vote: true,
            batch_append: true,
            ..Config::default()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config, log, &logger)
            .expect("the options are checked and the log in memory answers always");
        let mut node = Node {
            raw,
            options,
            written,
            taken: 0,
            persisted: 0,
            applied: applied.0,
        };
        node.set_timeout();
        node
    }

    /// Stands for election now. A single voter leads when this returns.
    pub fn campaign(&mut self) {
        // The one error, being removed from the group, cannot happen to its only voter.
        let _ = self.raw.campaign();
        self.set_timeout();
    }

    /// A tick of the group's clock has passed.
    pub fn tick(&mut self) {
        self.raw.tick();
        self.set_timeout();
    }

    /// Appends an entry to the leader's log. It is committed under exactly this index and term, or
    /// never.
    pub fn propose(&mut self, data: impl Into<Bytes>) -> Result<(LogIndex, Term), NotLeader> {
        let data = data.into();
        // Empty entries belong to raft: they mark the start of a term.
        assert!(!data.is_empty(), "a proposal has data");
        let entry = Entry {
            data,
            ..Entry::default()
        };
        let mut message = Message::default();
        message.set_msg_type(MessageType::MsgPropose);
        message.from = self.options.member.0;
        message.set_entries(vec![entry].into());
        let before = self.last();
        self.raw.step(message).map_err(|_| NotLeader {
            leader: self.leader(),
        })?;
        let index = self.last();
        assert_eq!(
            index,
            before.next(),
            "a leader takes a proposal at the end of its log"
        );
        Ok((index, self.term()))
    }

    /// Everything of this round and all before it is durable.
    pub fn persisted(&mut self, round: u64) {
        assert!(round <= self.taken, "round {round} was not taken");
        if round > self.persisted {
            self.persisted = round;
            self.raw.on_persist_ready(round);
        }
    }

    /// The state machine has applied the entries up to `index`.
    pub fn applied(&mut self, index: LogIndex) {
        assert!(
            index <= self.committed(),
            "only committed entries are applied"
        );
        if index > self.applied {
            self.applied = index;
            self.raw.advance_apply_to(index.0);
        }
    }

    /// The backend holds the entries up to `through` durably: they leave memory.
    pub fn compact(&mut self, through: LogIndex) {
        assert!(
            through <= self.applied,
            "only applied entries are in the backend"
        );
        self.raw.mut_store().compact(through);
    }

    /// The next round of what is to be done, if there is any.
    pub fn take_effects(&mut self) -> Option<Effects> {
        if !self.raw.has_ready() {
            return None;
        }
        let mut ready = self.raw.ready();
        let mut effects = Effects {
            round: ready.number(),
            ..Effects::default()
        };
        self.taken = effects.round;
        if let Some(state) = ready.ss() {
            effects.leader = Some(MemberId(state.leader_id));
            effects.elected = (state.raft_state == StateRole::Leader).then(|| self.term());
        }
        let entries = ready.take_entries();
        effects.entries = entries
            .into_iter()
            .map(plain)
            .map(LogEntry::from_raft)
            .collect();
        self.raw.mut_store().append(&effects.entries);
        effects.hard_state = self.due_hard_state(ready.must_sync());
        let committed = ready.take_committed_entries();
        effects.committed = committed
            .into_iter()
            .map(plain)
            .map(committed_entry)
            .collect();
        assert!(
            ready.snapshot().get_metadata().index == 0,
            "nobody sends one voter a snapshot"
        );
        // With one voter there is nobody to send to.
        debug_assert!(ready.messages().is_empty() && ready.persisted_messages().is_empty());
        self.raw.advance_append_async(ready);
        Some(effects)
    }

    /// The hard state, if this round is written anyway and the log has another one.
    fn due_hard_state(&mut self, must_sync: bool) -> Option<HardState> {
        let state = self.raw.raft.hard_state();
        let state = HardState {
            term: Term(state.term),
            vote: MemberId(state.vote),
            commit: LogIndex(state.commit),
        };
        self.raw.mut_store().set_hard_state(state);
        if !must_sync || state == self.written {
            return None;
        }
        self.written = state;
        Some(state)
    }

    pub fn term(&self) -> Term {
        Term(self.raw.raft.term)
    }

    pub fn is_leader(&self) -> bool {
        self.raw.raft.state == StateRole::Leader
    }

    /// 0: nobody.
    pub fn leader(&self) -> MemberId {
        MemberId(self.raw.raft.leader_id)
    }

    pub fn has_leader(&self) -> bool {
        self.leader() != MemberId(0)
    }

    /// The newest committed entry.
    pub fn committed(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.committed)
    }

    /// The newest entry of this member's log, durable or not.
    pub fn last(&self) -> LogIndex {
        LogIndex(self.raw.raft.raft_log.last_index())
    }

    /// Entries held in memory, for metrics.
    pub fn entry_count(&self) -> usize {
        let first = self.raw.raft.raft_log.first_index();
        (self.last().0 + 1 - first) as usize
    }

    /// The election timeout of this seed and term, whatever raft-rs has drawn.
    fn set_timeout(&mut self) {
        let span = self.options.election_ticks as u64;
        let drawn = mix(self.options.seed ^ mix(self.term().0)) % span;
        let ticks = self.options.election_ticks + drawn as usize;
        self.raw.raft.set_randomized_election_timeout(ticks);
    }

    #[cfg(test)]
    pub(super) fn election_timeout(&self) -> usize {
        self.raw.raft.randomized_election_timeout()
    }
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node")
            .field("member", &self.options.member)
            .field("term", &self.term())
            .field("leader", &self.leader())
            .field("last", &self.last())
            .field("committed", &self.committed())
            .field("applied", &self.applied)
            .finish()
    }
}

/// Every entry is the group's own: the configuration is never changed through the log.
fn plain(entry: Entry) -> Entry {
    assert_eq!(entry.get_entry_type(), EntryType::EntryNormal);
    entry
}

fn committed_entry(entry: Entry) -> Committed {
    Committed {
        index: LogIndex(entry.index),
        term: Term(entry.term),
        data: entry.data,
    }
}

/// Spreads a number over 64 bits (the finalizer of splitmix64).
fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
