//! Pure. Bounds of `apply/` and `lease/`.

/// Operations of a transaction by default (`max-txn-ops`); more is `too many operations`.
pub const TXN_OPS_MAX: usize = 128;

/// The greatest lease TTL in seconds; more is `too large lease TTL`.
pub const LEASE_TTL_SECONDS_MAX: i64 = 9_000_000_000;

/// The least lease TTL in seconds with default timeouts: 1.5 election timeouts, rounded up.
/// A smaller wish is raised silently.
pub const LEASE_TTL_SECONDS_MIN: i64 = 2;

/// An expired lease is offered again after this long when its revoke did not come back.
pub const LEASE_REVOKE_RETRY_MS: u64 = 3_000;

/// Leases with a TTL above this have their remaining time written to the log this often.
pub const LEASE_CHECKPOINT_INTERVAL_S: u64 = 300;

/// Leases per checkpoint proposal.
pub const LEASE_CHECKPOINTS_MAX: usize = 1000;

/// Quota cost of a put beside its key and value.
pub const PUT_COST_BYTES: u64 = 256;

/// Quota cost of a lease.
pub const LEASE_COST_BYTES: u64 = 64;

/// The default quota.
pub const QUOTA_BYTES_DEFAULT: u64 = 2 << 30;

/// Name of the user that an entry may carry.
pub const ENTRY_USER_BYTES_MAX: usize = u16::MAX as usize;

const _: () = assert!(LEASE_TTL_SECONDS_MIN <= LEASE_TTL_SECONDS_MAX);
