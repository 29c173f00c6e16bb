//! Pure. What the hub needs of the revision log. `apply/` implements it over `mvcc`.

use super::Event;
use crate::ids::Revision;
use bytes::Bytes;

/// A store at one moment: its current revision, and the changes that led there.
pub trait RevisionLog {
    type Error;

    /// The newest revision.
    fn revision(&self) -> i64;

    /// The compacted revision, -1 without one. The changes of older ones may be gone.
    fn compacted(&self) -> i64;

    /// Gives the changes from revision `from` on, in order, at least `entries_max` of them unless
    /// the log ends, and never a part of a revision. Returns the first revision not given:
    /// `revision() + 1` at the end.
    fn scan(
        &self,
        from: i64,
        entries_max: usize,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<i64, Self::Error>;

    /// The encoded `KeyValue` that `key` had before the change at `before`: none when it did not
    /// exist or when that revision is compacted.
    fn previous(&self, key: &[u8], before: Revision) -> Result<Option<Bytes>, Self::Error>;
}
