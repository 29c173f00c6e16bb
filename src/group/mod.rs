//! Driver. One raft group on its core: proposals, log, apply, reads, watches, leases, tree commits.
//!
//! In: [`Input`]s with a [`Ticket`], from this core directly and from others through the mesh; the
//! log's progress; the time. Out: [`Answer`]s to an [`Outlet`]; effects on the log and the tree.
//!
//! Call order: [`Group::open`] recovers and starts the tasks; `submit` at any time after; `stop`
//! ends it. One turn (`task.rs`) is: inputs → raft → log → what became durable → apply → answers →
//! watches. Beside it run, in slices: the tree commit, compaction, watch catch-up, the clock.
//!
//! Invariants
//! 1. An answer to a proposal leaves only after the log holds its entry durably.
//! 2. Entries are applied in log order, each once; a tree commit holds exactly a prefix of them.
//! 3. A view answered to a linearizable query was taken after the query came in, from a state that
//!    holds every entry committed before it.
//! 4. The log is released only up to what a durable tree commit holds.
//! 5. After the log or the tree failed nothing is written and no proposal is answered with success.
//! 6. Every ticket of a proposal or query is answered exactly once.
//! 7. A full disk is no failure: reads go on, a new proposal that needs room is refused at once,
//!    and what raft had taken before is finished when there is room, or given up by `stop`.
//!
//! Not here: what an entry means (`apply/`), sockets and gRPC (`api/`), placement of groups.

mod applying;
mod clock;
mod committing;
mod core;
mod open;
mod persist;
mod queries;
mod task;
mod ticket;
mod watching;

#[cfg(test)]
mod tests;

pub use committing::run_hash;
pub use open::{GroupOptions, OpenError};
pub use task::Group;
pub use ticket::{Answer, GroupStatus, Input, LeaseAnswer, Outlet, Query, Refusal, Stamp, Ticket};
