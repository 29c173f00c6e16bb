//! Pure. The leases of a group and the queue of their ends.

use super::LeaseRecord;
use crate::env::Monotonic;
use crate::ids::LeaseId;
use crate::limits::apply as limits;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// What the operator decides. Equal on every member: grants depend on it.
#[derive(Clone, Copy, Debug)]
pub struct LessorOptions {
    /// Seconds; a smaller wish is raised to it. `ceil(1.5 × election timeout)`.
    pub ttl_min: i64,
    pub checkpoint_interval: Duration,
}

impl Default for LessorOptions {
    fn default() -> LessorOptions {
        LessorOptions {
            ttl_min: limits::LEASE_TTL_SECONDS_MIN,
            checkpoint_interval: Duration::from_secs(limits::LEASE_CHECKPOINT_INTERVAL_S),
        }
    }
}

impl LessorOptions {
    /// The least TTL that outlives an election: 1.5 timeouts, in whole seconds, rounded up.
    pub fn ttl_min_for(election_timeout: Duration) -> i64 {
        let ms = election_timeout.as_millis().saturating_mul(3) / 2;
        i64::try_from(ms.div_ceil(1000))
            .unwrap_or(limits::LEASE_TTL_SECONDS_MAX)
            .max(1)
    }
}

/// Why a lease was not granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrantError {
    /// Id 0 means no lease; the proposer chooses an id before it proposes.
    NoId,
    TtlTooLarge {
        got: i64,
    },
    Exists(LeaseId),
}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrantError::NoId => write!(f, "lease id 0 cannot be granted"),
            GrantError::TtlTooLarge { got } => {
                write!(
                    f,
                    "lease TTL {got} s, at most {} s",
                    limits::LEASE_TTL_SECONDS_MAX
                )
            }
            GrantError::Exists(id) => write!(f, "lease {:x} exists", id.0),
        }
    }
}

impl std::error::Error for GrantError {}

/// The answer to a renewal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Renewal {
    /// Renewed to its full TTL (seconds). `checkpointed`: the log still says that less remains, so
    /// the driver proposes a checkpoint with remaining 0, or the next leader would end it early.
    Renewed { ttl: i64, checkpointed: bool },
    /// No such lease: the client is told TTL 0.
    NotFound,
    /// It ended but its revoke is still on its way: wait for the revoke, then it is not found.
    Expired,
    /// Only the leader renews.
    NotLeader,
}

/// What a client may know of a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseFacts {
    pub id: LeaseId,
    /// Seconds.
    pub granted: i64,
    /// On a member that does not lead: as if renewed now.
    pub remaining: Duration,
}

/// One per group, on the group's core.
#[derive(Debug)]
pub struct Lessor {
    options: LessorOptions,
    leading: bool,
    leases: BTreeMap<LeaseId, Lease>,
    due: BTreeSet<(Monotonic, LeaseId)>,
    checkpoints: BTreeSet<(Monotonic, LeaseId)>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    ttl: i64,
    /// 0 or the seconds left at the last checkpoint.
    remaining: i64,
    /// Its place in `due`, on a leader. While `expiring` the time of the next offer.
    due_at: Monotonic,
    /// Its place in `checkpoints`; `NEVER` when it has none.
    checkpoint_at: Monotonic,
    expiring: bool,
}

const NEVER: Monotonic = Monotonic(u64::MAX);

impl Lessor {
    pub fn new(options: LessorOptions) -> Lessor {
        Lessor {
            options,
            leading: false,
            leases: BTreeMap::new(),
            due: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
        }
    }

    /// A lease found in the tree at a restart. Not for a lessor that leads.
    pub fn restore(&mut self, record: LeaseRecord) {
        assert!(!self.leading, "leases are restored before leading");
        self.leases.insert(record.id, Lease::of(&record));
    }

    /// Begins to end leases: each gets its full TTL, or what the last checkpoint left, plus
    /// `extend` (the time that clients may have lost to the election).
    pub fn promote(&mut self, now: Monotonic, extend: Duration) {
        self.leading = true;
        self.due.clear();
        self.checkpoints.clear();
        for (id, lease) in &mut self.leases {
            lease.expiring = false;
            lease.due_at = now + lease.full() + extend;
            lease.checkpoint_at = NEVER;
            schedule_checkpoint(&self.options, &mut self.checkpoints, *id, lease, now);
        }
        self.due = self
            .leases
            .iter()
            .map(|(id, lease)| (lease.due_at, *id))
            .collect();
    }

    /// Stops ending leases.
    pub fn demote(&mut self) {
        self.leading = false;
        self.due.clear();
        self.checkpoints.clear();
        for lease in self.leases.values_mut() {
            lease.expiring = false;
            lease.due_at = NEVER;
            lease.checkpoint_at = NEVER;
        }
    }

    pub fn is_leading(&self) -> bool {
        self.leading
    }

    /// Grants a lease; the record is what goes into the tree.
    pub fn grant(
        &mut self,
        id: LeaseId,
        ttl: i64,
        now: Monotonic,
    ) -> Result<LeaseRecord, GrantError> {
        if id == LeaseId(0) {
            return Err(GrantError::NoId);
        }
        if ttl > limits::LEASE_TTL_SECONDS_MAX {
            return Err(GrantError::TtlTooLarge { got: ttl });
        }
        if self.leases.contains_key(&id) {
            return Err(GrantError::Exists(id));
        }
        let record = LeaseRecord {
            id,
            ttl: ttl.max(self.options.ttl_min),
            remaining: 0,
        };
        let mut lease = Lease::of(&record);
        if self.leading {
            lease.due_at = now + lease.full();
            self.due.insert((lease.due_at, id));
            schedule_checkpoint(&self.options, &mut self.checkpoints, id, &mut lease, now);
        }
        self.leases.insert(id, lease);
        Ok(record)
    }

    /// Ends a lease. False when there is none.
    pub fn revoke(&mut self, id: LeaseId) -> bool {
        let Some(lease) = self.leases.remove(&id) else {
            return false;
        };
        self.due.remove(&(lease.due_at, id));
        self.checkpoints.remove(&(lease.checkpoint_at, id));
        true
    }

    pub fn exists(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// Starts the TTL of a lease anew.
    pub fn renew(&mut self, id: LeaseId, now: Monotonic) -> Renewal {
        if !self.leading {
            return Renewal::NotLeader;
        }
        let Some(lease) = self.leases.get_mut(&id) else {
            return Renewal::NotFound;
        };
        if lease.expiring || lease.due_at <= now {
            return Renewal::Expired;
        }
        let checkpointed = lease.remaining != 0;
        lease.remaining = 0;
        self.due.remove(&(lease.due_at, id));
        lease.due_at = now + lease.full();
        self.due.insert((lease.due_at, id));
        schedule_checkpoint(&self.options, &mut self.checkpoints, id, lease, now);
        Renewal::Renewed {
            ttl: lease.ttl,
            checkpointed,
        }
    }

    /// A checkpoint from the log: `remaining` seconds of the lease are left. Returns what goes into
    /// the tree, or `None` when the lease is gone, which is no error.
    pub fn checkpoint(
        &mut self,
        id: LeaseId,
        remaining: i64,
        now: Monotonic,
    ) -> Option<LeaseRecord> {
        let lease = self.leases.get_mut(&id)?;
        lease.remaining = remaining.clamp(0, lease.ttl);
        if self.leading {
            schedule_checkpoint(&self.options, &mut self.checkpoints, id, lease, now);
        }
        Some(LeaseRecord {
            id,
            ttl: lease.ttl,
            remaining: lease.remaining,
        })
    }

    /// Appends up to `count_max` leases that are due, earliest first, and marks them as expiring.
    /// Call again while it gives `count_max`: one slice is bounded, the whole is not.
    pub fn take_expired(&mut self, now: Monotonic, count_max: usize, into: &mut Vec<LeaseId>) {
        let retry_at = now + Duration::from_millis(limits::LEASE_REVOKE_RETRY_MS);
        for _ in 0..count_max {
            let Some(&(due_at, id)) = self.due.first() else {
                return;
            };
            if due_at > now {
                return;
            }
            self.due.pop_first();
            let lease = self
                .leases
                .get_mut(&id)
                .expect("the queue holds living leases only");
            lease.expiring = true;
            // Should the revoke get lost on its way into the log, the lease is offered once more.
            lease.due_at = retry_at;
            self.due.insert((retry_at, id));
            into.push(id);
        }
    }

    /// When `take_expired` has something again; `None` without leases.
    pub fn next_expiry(&self) -> Option<Monotonic> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Appends up to `count_max` leases whose remaining seconds should be written to the log.
    pub fn take_checkpoints(
        &mut self,
        now: Monotonic,
        count_max: usize,
        into: &mut Vec<(LeaseId, i64)>,
    ) {
        for _ in 0..count_max {
            let Some(&(at, id)) = self.checkpoints.first() else {
                return;
            };
            if at > now {
                return;
            }
            let lease = self
                .leases
                .get_mut(&id)
                .expect("the queue holds living leases only");
            let left = lease.due_at - now;
            let left_s = i64::try_from(left.as_millis().div_ceil(1000)).unwrap_or(i64::MAX);
            if !lease.expiring && left_s > 0 && left_s < lease.ttl {
                into.push((id, left_s));
            }
            schedule_checkpoint(&self.options, &mut self.checkpoints, id, lease, now);
        }
    }

    pub fn next_checkpoint(&self) -> Option<Monotonic> {
        self.checkpoints.first().map(|(at, _)| *at)
    }

    pub fn facts(&self, id: LeaseId, now: Monotonic) -> Option<LeaseFacts> {
        let lease = self.leases.get(&id)?;
        Some(LeaseFacts {
            id,
            granted: lease.ttl,
            remaining: self.remaining_of(lease, now),
        })
    }

    /// The time left, `None` when the lease does not exist. 0 while its revoke is on its way.
    pub fn remaining(&self, id: LeaseId, now: Monotonic) -> Option<Duration> {
        self.leases
            .get(&id)
            .map(|lease| self.remaining_of(lease, now))
    }

    /// Every lease, the one that ends first in front.
    pub fn list(&self, now: Monotonic) -> Vec<LeaseId> {
        let mut all: Vec<_> = self
            .leases
            .iter()
            .map(|(id, lease)| (self.remaining_of(lease, now), *id))
            .collect();
        all.sort_unstable();
        all.into_iter().map(|(_, id)| id).collect()
    }

    pub fn count(&self) -> usize {
        self.leases.len()
    }

    pub fn records(&self) -> impl Iterator<Item = LeaseRecord> + '_ {
        self.leases.iter().map(|(id, lease)| LeaseRecord {
            id: *id,
            ttl: lease.ttl,
            remaining: lease.remaining,
        })
    }

    /// Invariants 2 and 4.
    pub fn check(&self) {
        if !self.leading {
            assert!(self.due.is_empty(), "a follower ends no lease");
            assert!(
                self.checkpoints.is_empty(),
                "a follower checkpoints no lease"
            );
            return;
        }
        assert_eq!(
            self.due.len(),
            self.leases.len(),
            "each lease is queued once"
        );
        for (id, lease) in &self.leases {
            assert!(
                self.due.contains(&(lease.due_at, *id)),
                "lease {id} is not in the queue"
            );
            let queued = self.checkpoints.contains(&(lease.checkpoint_at, *id));
            assert_eq!(
                queued,
                lease.checkpoint_at != NEVER,
                "checkpoint of lease {id}"
            );
        }
        let scheduled = self
            .leases
            .values()
            .filter(|l| l.checkpoint_at != NEVER)
            .count();
        assert_eq!(
            self.checkpoints.len(),
            scheduled,
            "checkpoints of leases that are gone"
        );
    }

    fn remaining_of(&self, lease: &Lease, now: Monotonic) -> Duration {
        match () {
            () if !self.leading => lease.full(),
            () if lease.expiring => Duration::ZERO,
            () => lease.due_at - now,
        }
    }
}

impl Lease {
    fn of(record: &LeaseRecord) -> Lease {
        Lease {
            ttl: record.ttl,
            remaining: record.remaining,
            due_at: NEVER,
            checkpoint_at: NEVER,
            expiring: false,
        }
    }

    fn full(&self) -> Duration {
        let seconds = if self.remaining > 0 {
            self.remaining
        } else {
            self.ttl
        };
        Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
    }
}

fn schedule_checkpoint(
    options: &LessorOptions,
    queue: &mut BTreeSet<(Monotonic, LeaseId)>,
    id: LeaseId,
    lease: &mut Lease,
    now: Monotonic,
) {
    if lease.checkpoint_at != NEVER {
        queue.remove(&(lease.checkpoint_at, id));
        lease.checkpoint_at = NEVER;
    }
    if lease.due_at - now > options.checkpoint_interval {
        lease.checkpoint_at = now + options.checkpoint_interval;
        queue.insert((lease.checkpoint_at, id));
    }
}

/// A lease id for a client that named none: a positive number made of `random` bits. The proposer
/// draws again when the grant finds it taken.
pub fn lease_id_from(random: u64) -> LeaseId {
    LeaseId(((random & i64::MAX as u64) as i64).max(1))
}
