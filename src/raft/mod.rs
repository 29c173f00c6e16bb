//! Pure. Consensus of one raft group: raft-rs behind a contract of our own.
//!
//! In: [`Node::propose`], [`Node::tick`], [`Node::campaign`], [`Node::persisted`],
//! [`Node::applied`], [`Node::compact`]. Out: [`Node::take_effects`], what is to be written and
//! what is committed, in order.
//!
//! Call order: `new` with what a restart found; any input; after inputs `take_effects` until it
//! answers nothing. Write an effect's hard state and entries in the order they came, then report
//! its round with `persisted`; rounds may be many in flight and are reported in order, a later one
//! standing for all before it. Report `applied` as the state machine goes on, `compact` when the
//! backend has it durably.
//!
//! Invariants
//! 1. Rounds count from 1 without holes; an entry is committed only after its round is persisted
//!    (with one voter) and handed out once, in index order.
//! 2. Inputs never wait for the disk: raft stays open while rounds are in flight.
//! 3. A hard state that changed only its commit index travels with the next entries: it costs no
//!    write of its own.
//! 4. Election timeouts come from the seed and the term. raft-rs draws them from the thread's
//!    generator; they are overwritten after every input that can draw one.
//! 5. The log in memory begins behind the last compaction: `first = compacted + 1`.
//!
//! One voter: it campaigns at once and leads without a message. Its configuration is its own id,
//! set directly: no entry changes it, so every entry's data is the group's.
//!
//! Not here: the clock, the disk, encoding. raft-rs's protobuf codec is never fed foreign bytes.

mod log;
mod node;
#[cfg(test)]
mod tests;

pub use log::LogEntry;
pub use node::{Committed, Effects, HardState, Node, NodeOptions, NotLeader, Start};
