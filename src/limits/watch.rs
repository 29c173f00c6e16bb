//! Pure. Bounds of `watch/`.

/// Bytes of events that one stream may hold undelivered: queued in the hub or taken by the driver
/// and not yet reported as drained. At the bound its watchers fall back to the revision log.
pub const STREAM_BYTES_MAX: usize = 1 << 20;

/// A stream that was full is given events again below this many undelivered bytes: half the bound,
/// so that a watcher does not change between live and catch-up for each response.
pub const STREAM_BYTES_RESUME: usize = STREAM_BYTES_MAX / 2;

/// What a queued response is counted as beside its events: its own memory and the wire header.
pub const RESPONSE_COST_BYTES: usize = 128;

/// What an event is counted as beside its bytes: the reference to them. The bytes themselves are
/// shared, but a slow stream may be the last to hold them.
pub const EVENT_COST_BYTES: usize = 48;

/// An undelivered response takes further revisions up to this size; then a new one begins.
pub const RESPONSE_BYTES_SOFT: usize = 256 << 10;

/// Revisions that share one response at most, as in etcd.
pub const RESPONSE_REVISIONS_MAX: u16 = 1000;

/// Responses that `take_responses` hands over in one call: bounds what a driver sends in a turn.
pub const TAKE_RESPONSES_MAX: usize = 4096;

/// Groups of lagging watchers that read the log separately. Beyond it a lagging watcher joins the
/// group before it, or pulls one back; it costs reading some revisions twice.
pub const COHORTS_MAX: usize = 8;

/// How far ahead of a group's position a lagging watcher may start and still join it.
pub const COHORT_JOIN_REVISIONS: i64 = 10_000;

/// The default `max-request-bytes` (1.5 MiB) + 512 KiB: responses of watches with `fragment` are
/// split at this size.
pub const FRAGMENT_BYTES: usize = (1536 << 10) + (512 << 10);

/// Watches of one stream. A watch past it is refused.
pub const STREAM_WATCHES_MAX: usize = 1 << 20;

const _: () = assert!(STREAM_BYTES_RESUME < STREAM_BYTES_MAX);
const _: () = assert!(RESPONSE_BYTES_SOFT < STREAM_BYTES_MAX);
