//! Pure. The revision log: all records in the order in which they were written.

use super::Progress;
use super::range::{RangeError, bad_record};
use super::txn::ChangeKind;
use super::view::View;
use crate::backend::{
    Corrupt, EntryRule, KvFields, Record, RevisionKey, State, StoredRecord, kv_key, schema,
};
use crate::btree::Cursor;
use crate::ids::Revision;

/// Walks records in ascending revisions: the tree's, then those of the two buffers.
pub(super) struct LogCursor<'a> {
    state: &'a State,
    at: At<'a>,
    /// What `seek` asked for: a buffer may begin below it.
    from: Revision,
}

enum At<'a> {
    Tree(Cursor<'a>),
    Committing(usize),
    Active(usize),
}

impl<'a> LogCursor<'a> {
    pub(super) fn new(state: &'a State) -> LogCursor<'a> {
        let at = At::Tree(state.tree.bucket(schema::KEY).cursor());
        LogCursor {
            state,
            at,
            from: Revision::default(),
        }
    }

    /// Moves to the first record at or above `revision`.
    pub(super) fn seek(&mut self, revision: Revision) -> Result<(), Corrupt> {
        self.from = revision;
        let mut cursor = self.state.tree.bucket(schema::KEY).cursor();
        let found = cursor.seek(RevisionKey::new(revision, false).as_bytes())?;
        self.at = At::Tree(cursor);
        if !found {
            self.enter_committing();
        }
        Ok(())
    }

    /// The current record's revision and whether it is a tombstone.
    pub(super) fn revision(&self) -> Result<Option<(Revision, bool)>, Corrupt> {
        let At::Tree(cursor) = &self.at else {
            return Ok(self
                .buffered()
                .map(|record| (record.revision, record.tombstone)));
        };
        let Some(key) = cursor.key() else {
            return Ok(None);
        };
        match RevisionKey::parse(key) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(Corrupt::entry(schema::KEY, key, EntryRule::RevisionKey)),
        }
    }

    /// The current record.
    pub(super) fn record(&self) -> Result<Option<StoredRecord<'a>>, Corrupt> {
        let At::Tree(cursor) = &self.at else {
            return Ok(self.buffered().map(StoredRecord::of_buffer));
        };
        let Some((revision, tombstone)) = self.revision()? else {
            return Ok(None);
        };
        let Some(value) = cursor.value()? else {
            return Ok(None);
        };
        StoredRecord::of_value(revision, tombstone, value).map(Some)
    }

    pub(super) fn advance(&mut self) -> Result<(), Corrupt> {
        match &mut self.at {
            At::Tree(cursor) => {
                if !cursor.next()? {
                    self.enter_committing();
                }
            }
            At::Committing(index) => {
                *index += 1;
                self.leave_committing();
            }
            At::Active(index) => *index += 1,
        }
        Ok(())
    }

    fn enter_committing(&mut self) {
        let from = self.from;
        let first = self.state.committing.as_ref();
        self.at = At::Committing(first.map_or(0, |layer| layer.records.lower_bound(from)));
        self.leave_committing();
    }

    fn leave_committing(&mut self) {
        if self.buffered().is_none() {
            self.at = At::Active(self.state.active.records.lower_bound(self.from));
        }
    }

    fn buffered(&self) -> Option<&'a Record> {
        match &self.at {
            At::Tree(_) => None,
            At::Committing(index) => self.state.committing.as_ref()?.records.get(*index),
            At::Active(index) => self.state.active.records.get(*index),
        }
    }
}

/// One change as the log has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LoggedChange<'a> {
    pub kind: ChangeKind,
    pub revision: Revision,
    pub key: &'a [u8],
    /// The KeyValue as an event carries it, as in [`Change`](super::Change).
    pub kv: &'a [u8],
}

/// Reads the changes of a range of revisions in order, in slices: how late watchers catch up.
pub struct ChangeScan {
    view: View,
    position: Revision,
    to: i64,
    scratch: Vec<u8>,
}

impl ChangeScan {
    /// The changes with main revisions `from..=to`; those behind the view do not exist yet. Refused
    /// when `from` is below the compacted revision.
    pub fn new(view: View, from: i64, to: i64) -> Result<ChangeScan, RangeError> {
        let compacted = view.compacted();
        if from < compacted {
            return Err(RangeError::Compacted {
                asked: from,
                compacted,
            });
        }
        let (position, to) = (Revision::new(from.max(0), 0), to.min(view.revision()));
        Ok(ChangeScan {
            view,
            position,
            to,
            scratch: Vec::new(),
        })
    }

    /// The view that is read, for [`View::previous`].
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The first revision that was not visited yet.
    pub fn position(&self) -> Revision {
        self.position
    }

    /// Visits up to `entries_max` changes. A transaction may span slices.
    pub fn slice(
        &mut self,
        entries_max: usize,
        visit: &mut dyn FnMut(LoggedChange<'_>),
    ) -> Result<Progress, Corrupt> {
        if self.position.main > self.to {
            return Ok(Progress::Done);
        }
        let view = self.view.clone();
        let mut log = LogCursor::new(view.state());
        log.seek(self.position)?;
        let mut left = entries_max.max(1);
        while let Some((revision, tombstone)) = log.revision()? {
            if revision.main > self.to {
                break;
            }
            self.position = revision;
            if left == 0 {
                return Ok(Progress::More);
            }
            let record = log.record()?.ok_or(Corrupt::Missing { revision })?;
            let key = kv_key(&record.kv).ok_or_else(|| bad_record(revision))?;
            if tombstone {
                self.scratch.clear();
                let mod_revision = revision.main;
                KvFields {
                    key,
                    mod_revision,
                    ..KvFields::default()
                }
                .encode(&mut self.scratch);
                let (kind, kv) = (ChangeKind::Delete, self.scratch.as_slice());
                visit(LoggedChange {
                    kind,
                    revision,
                    key,
                    kv,
                });
            } else {
                let (kind, kv) = (ChangeKind::Put, &*record.kv);
                visit(LoggedChange {
                    kind,
                    revision,
                    key,
                    kv,
                });
            }
            left = left.saturating_sub(1 + record.kv.len() / 4096);
            log.advance()?;
        }
        self.position = Revision::new(self.to + 1, 0);
        Ok(Progress::Done)
    }
}
