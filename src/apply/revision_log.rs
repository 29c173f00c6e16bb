//! Pure. The changes of the store as watchers see them: of one entry, and from the revision log.

use crate::ids::Revision;
use crate::mvcc::{ChangeKind, ChangeScan, Changes, Progress, RangeError, Store, View};
use crate::watch::{Event, EventKind, RevisionLog};
use bytes::Bytes;

/// The events of an applied entry, for `watch::Hub::applied`.
pub fn watch_events(changes: &Changes) -> impl Iterator<Item = Event<'_>> {
    changes.changes.iter().map(|change| Event {
        kind: kind_of(change.kind),
        revision: change.revision,
        key: &change.key,
        kv: &change.kv,
        may_have_previous: change.previous.is_some(),
    })
}

fn kind_of(kind: ChangeKind) -> EventKind {
    match kind {
        ChangeKind::Put => EventKind::Put,
        ChangeKind::Delete => EventKind::Delete,
    }
}

/// Changes read past a full slice to find where its last revision ends.
const BOUNDARY_ENTRIES: usize = 16;

impl RevisionLog for View {
    type Error = RangeError;

    fn revision(&self) -> i64 {
        View::revision(self)
    }

    fn compacted(&self) -> i64 {
        View::compacted(self)
    }

    fn scan(
        &self,
        from: i64,
        entries_max: usize,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<i64, RangeError> {
        let to = View::revision(self);
        if from > to {
            return Ok(to + 1);
        }
        let mut scan = ChangeScan::new(self.clone(), from, to)?;
        let mut count = 0;
        let mut current = from;
        let mut next = None;
        loop {
            let wanted = entries_max.saturating_sub(count).max(BOUNDARY_ENTRIES);
            let progress = scan.slice(wanted, &mut |change| {
                if next.is_some() {
                    return;
                }
                if count >= entries_max && change.revision.main != current {
                    next = Some(change.revision.main);
                    return;
                }
                current = change.revision.main;
                count += 1;
                each(Event {
                    kind: kind_of(change.kind),
                    revision: change.revision,
                    key: change.key,
                    kv: change.kv,
                    may_have_previous: true,
                });
            })?;
            match (next, progress) {
                (Some(next), _) => return Ok(next),
                (None, Progress::Done) => return Ok(to + 1),
                (None, Progress::More) => {}
            }
        }
    }

    fn previous(&self, key: &[u8], before: Revision) -> Result<Option<Bytes>, RangeError> {
        Ok(View::previous(self, key, before)?)
    }
}

/// The log of a store right after an entry was applied, for `watch::Hub::applied`. A view makes the
/// next write copy what they share, so it is taken only when a watcher asks for a previous value.
pub struct StoreLog<'a>(pub &'a Store);

impl RevisionLog for StoreLog<'_> {
    type Error = RangeError;

    fn revision(&self) -> i64 {
        self.0.current()
    }

    fn compacted(&self) -> i64 {
        self.0.compacted()
    }

    fn scan(
        &self,
        from: i64,
        entries_max: usize,
        each: &mut dyn FnMut(Event<'_>),
    ) -> Result<i64, RangeError> {
        self.0.view().scan(from, entries_max, each)
    }

    fn previous(&self, key: &[u8], before: Revision) -> Result<Option<Bytes>, RangeError> {
        Ok(self.0.view().previous(key, before)?)
    }
}
