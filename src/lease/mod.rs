//! Pure. The lessor of one group: which leases exist, when they end, and the bytes by which leases
//! and their keys rest in the tree.
//!
//! In: grants, renewals, checkpoints and revokes as the log orders them, and the time as an
//! argument. Out: leases that are due ([`Lessor::take_expired`]), checkpoints to propose, facts.
//!
//! Call order: [`Lessor::new`], `restore` for each record of the `lease` bucket, replay of the log;
//! `promote` when this member begins to lead (only a leader ends leases), `demote` when it stops.
//! A leader's driver sleeps until `next_expiry`, then proposes a revoke for all that
//! `take_expired` gives, batch by batch; the applied revoke calls `revoke`.
//!
//! Invariants
//! 1. `leases` is decided by the log alone and equal on every member; `due_at` belongs to this
//!    member and never reaches the tree.
//! 2. A leader's lease stands in `due` exactly once, at its `due_at`; a follower's queue is empty.
//! 3. A lease that `take_expired` gave is `expiring` until it is revoked or the leader changes: it
//!    cannot be renewed, and is offered again if its revoke does not arrive.
//! 4. `checkpoints` holds only leases whose TTL exceeds the checkpoint interval.
//!
//! Which keys hang on a lease is not kept in memory. The `lease_keys` bucket has one empty entry
//! per attachment, lease id ++ user key, written in the same generation as the key itself; a revoke
//! reads them in key order, and a restart reads nothing. A lease costs about 110 bytes of memory,
//! an attachment none beyond the overlay of what is not committed yet.
//!
//! Not here: deleting keys (`apply/`), proposing (`group/`), permissions (`auth/`).
//! Bytes: [`record`], and `docs/format/entry.md`.

mod lessor;
pub mod record;

pub use lessor::{GrantError, LeaseFacts, Lessor, LessorOptions, Renewal, lease_id_from};
pub use record::LeaseRecord;

#[cfg(test)]
mod tests;
