//! Pure. The state machine of one group: a committed entry goes in; changed state, the answer, and
//! what watchers and the driver must know come out.
//!
//! In: entries in log order with their index and term, and the time (it moves lease ends of this
//! member only, never the tree). Out: [`Outcome`] per entry.
//!
//! Call order: the API layer calls [`validate`] and [`Entry::encode`]; the group proposes the bytes
//! and hands each committed entry to [`StateMachine::apply`], entries of raft's own (empty,
//! configuration changes) to [`StateMachine::advance`]. `lessor_mut` serves renewals and expiry,
//! `store_mut` commits and compaction slices. Read-only transactions go to [`read_txn`].
//!
//! Invariants
//! 1. Deterministic: keys, revisions and small buckets after entry n depend on entries 1..=n and
//!    the options that are equal on every member. The quota decides none of it: past it a put is
//!    applied and its answer is an error, as in etcd, because members may differ in file size.
//! 2. Total: any bytes give an outcome or a [`Fault`]. A fault means that log or tree are damaged:
//!    the group latches it and stops.
//! 3. Idempotent: an entry at or below the store's consistent index changes nothing.
//! 4. An entry either applies as a whole or fails before its first write.
//! 5. `lease_keys` holds (lease, key) exactly for each live key with that lease.
//!
//! Not here: proposing, waiting, permissions (the header of an entry has room for them), pushing
//! to watchers (the driver hands `Outcome::changes` to the hub before the next entry).
//! Bytes of an entry: `docs/format/entry.md`.

mod alarms;
mod entry;
mod error;
mod leases;
mod machine;
mod put;
pub mod quota;
mod range;
mod response;
mod revision_log;
mod txn;
pub mod validate;

pub use crate::watch::Header;
pub use alarms::{Alarm, AlarmMember, Alarms};
pub use entry::{Author, Entry, EntryError, Kind};
pub use error::{ApplyError, Fault};
pub use machine::{MachineOptions, Outcome, StateMachine};
pub use put::{DeleteRequestRef, PutRequestRef};
pub use range::range_spec;
pub use response::{OpResponse, Response, TxnResponse};
pub use revision_log::{StoreLog, watch_events};
pub use txn::{ReadTxnError, read_txn};

#[cfg(test)]
mod tests;
