//! Pure. One write transaction: what etcd gives one main revision.

use super::Progress;
use super::range::{RangeEnd, RangeError, RangeKvs, RangeScan, RangeSpec, WalkEnd, walk_newest};
use super::store::Store;
use super::view::View;
use crate::backend::{
    Corrupt, EntryRule, IndexEntry, KeyMeta, KvFields, Link, Record, kv_key_bytes, schema,
};
use crate::ids::{LeaseId, Revision};
use crate::limits::mvcc::DELETE_WALK_ENTRIES;
use bytes::Bytes;

/// What a transaction did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changes {
    /// The store's revision after the transaction; that of all changes, if there are any.
    pub revision: i64,
    pub changes: Vec<Change>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    Put,
    Delete,
}

/// One key's change. `key` is a part of `kv`: copy it to keep it longer than the event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    pub revision: Revision,
    pub key: Bytes,
    /// The KeyValue as an event carries it: all of it after a put, key and mod_revision after a
    /// delete.
    pub kv: Bytes,
    /// The live key that was there before, and its lease.
    pub previous: Option<KeyMeta>,
    /// The lease that the key has now; 0 is none.
    pub lease: LeaseId,
}

impl Change {
    /// Whether the key was not there before.
    pub fn is_create(&self) -> bool {
        self.kind == ChangeKind::Put && self.previous.is_none()
    }
}

/// Borrows the store until [`finish`](WriteTxn::finish). Dropping it keeps what it wrote.
pub struct WriteTxn<'s> {
    store: &'s mut Store,
    /// The main revision of the changes, if there are any.
    main: i64,
    changes: Vec<Change>,
}

impl<'s> WriteTxn<'s> {
    pub(super) fn new(store: &'s mut Store) -> WriteTxn<'s> {
        let main = store.current + 1;
        WriteTxn {
            store,
            main,
            changes: Vec::new(),
        }
    }

    /// The revision that etcd reports inside the transaction: one more after the first change.
    pub fn revision(&self) -> i64 {
        self.store.current
    }

    pub fn compacted(&self) -> i64 {
        self.store.compacted()
    }

    /// The meta of a live key, own writes included.
    pub fn meta(&self, key: &[u8]) -> Result<Option<KeyMeta>, Corrupt> {
        Ok(self
            .store
            .state()
            .index(key)?
            .and_then(|entry| entry.live()))
    }

    /// The encoded KeyValue of a live key, own writes included.
    pub fn kv(&self, key: &[u8]) -> Result<Option<Bytes>, Corrupt> {
        let Some(meta) = self.meta(key)? else {
            return Ok(None);
        };
        Ok(Some(self.store.state().live_kv(meta.modified)?.to_bytes()))
    }

    /// The state with what was written so far.
    pub fn view(&self) -> View {
        View::new(
            self.store.state().clone(),
            self.revision(),
            self.compacted(),
        )
    }

    /// A range over the state with what was written so far, not sliced.
    pub fn range(&self, spec: &RangeSpec) -> Result<RangeKvs, RangeError> {
        let mut scan = RangeScan::new(self.view(), spec.clone())?;
        let mut kvs = Vec::new();
        // Sorting and sending are passes of their own: one slice does not do both.
        while scan.slice(usize::MAX, &mut kvs)? == Progress::More {}
        let totals = scan.totals().expect("the scan is done");
        Ok(RangeKvs {
            kvs,
            count: totals.count,
            more: totals.more,
        })
    }

    /// Sets a key; `lease` 0 is none.
    pub fn put(&mut self, key: &[u8], value: &[u8], lease: LeaseId) -> Result<Revision, Corrupt> {
        let before = self.before(key)?;
        let previous = before.and_then(|entry| entry.live());
        let revision = self.next_revision();
        let main = revision.main;
        let (create_revision, version) =
            previous.map_or((main, 1), |meta| (meta.create_revision, meta.version + 1));
        let fields = KvFields {
            key,
            create_revision,
            mod_revision: main,
            version,
            value,
            lease,
        };
        let kv = fields.to_bytes();
        let meta = KeyMeta {
            modified: revision,
            create_revision,
            version,
            lease,
            kv_size: u32::try_from(kv.len()).expect("requests are far smaller"),
            step: 0,
        };
        let key = kv_key_bytes(&kv, key.len());
        self.record(
            before,
            IndexEntry {
                meta,
                tombstone: false,
            },
            &key,
            kv.clone(),
        );
        let kind = ChangeKind::Put;
        self.changes.push(Change {
            kind,
            revision,
            key,
            kv,
            previous,
            lease,
        });
        Ok(revision)
    }

    /// Deletes a key. `false` when there is none.
    pub fn delete(&mut self, key: &[u8]) -> Result<bool, Corrupt> {
        match self.before(key)?.and_then(|entry| entry.live()) {
            Some(previous) => self.bury(key, previous),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Deletes the live keys of a range; gives their number and, where it is asked for, what they
    /// were. Each key's index entry is read once, and few are held beside the changes.
    pub fn delete_range(
        &mut self,
        key: &[u8],
        end: &RangeEnd,
        mut previous: Option<&mut Vec<Bytes>>,
    ) -> Result<u64, Corrupt> {
        let mut deleted = 0;
        let mut found = Vec::new();
        let mut resume: Option<Vec<u8>> = None;
        loop {
            let walked = walk_newest(
                self.store.state(),
                (key, end),
                resume.as_deref(),
                DELETE_WALK_ENTRIES,
                &mut |key, meta| found.push((Bytes::copy_from_slice(key), meta)),
            )?;
            deleted += found.len() as u64;
            for (key, meta) in found.drain(..) {
                if let Some(previous) = &mut previous {
                    let kv = self.store.state().live_kv(meta.modified)?;
                    previous.push(kv.to_bytes());
                }
                self.check_reached(&key, meta.modified)?;
                self.bury(&key, meta);
            }
            match walked {
                WalkEnd::At(next) => resume = Some(next),
                WalkEnd::Done => return Ok(deleted),
            }
        }
    }

    /// The changes so far.
    pub fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// Ends the transaction.
    pub fn finish(self) -> Changes {
        Changes {
            revision: self.store.current,
            changes: self.changes,
        }
    }

    /// Writes the tombstone of a live key.
    fn bury(&mut self, key: &[u8], previous: KeyMeta) {
        let revision = self.next_revision();
        // The stored tombstone has the key alone; that is the front of what the event carries.
        let mut fields = KvFields {
            key,
            ..KvFields::default()
        };
        let stored_size = fields.encoded_size();
        fields.mod_revision = revision.main;
        let kv = fields.to_bytes();
        let stored = kv.slice(..stored_size);
        let meta = KeyMeta {
            modified: revision,
            kv_size: u32::try_from(stored_size).expect("requests are far smaller"),
            ..KeyMeta::default()
        };
        let key = kv_key_bytes(&kv, key.len());
        let before = IndexEntry {
            meta: previous,
            tombstone: false,
        };
        self.record(
            Some(before),
            IndexEntry {
                meta,
                tombstone: true,
            },
            &key,
            stored,
        );
        let (kind, previous, lease) = (ChangeKind::Delete, Some(previous), LeaseId(0));
        self.changes.push(Change {
            kind,
            revision,
            key,
            kv,
            previous,
            lease,
        });
    }

    /// The key's index entry, below the next revision: links point back.
    fn before(&self, key: &[u8]) -> Result<Option<IndexEntry>, Corrupt> {
        let entry = self.store.state().index(key)?;
        if let Some(entry) = &entry {
            self.check_reached(key, entry.meta.modified)?;
        }
        Ok(entry)
    }

    fn check_reached(&self, key: &[u8], modified: Revision) -> Result<(), Corrupt> {
        match modified.main > self.store.current {
            true => Err(Corrupt::entry(schema::INDEX, key, EntryRule::Reached)),
            false => Ok(()),
        }
    }

    fn next_revision(&mut self) -> Revision {
        self.store.current = self.main;
        Revision::new(self.main, self.changes.len() as i64)
    }

    /// Writes a record that supersedes `before`.
    fn record(&mut self, before: Option<IndexEntry>, entry: IndexEntry, key: &Bytes, kv: Bytes) {
        let (revision, tombstone) = (entry.meta.modified, entry.tombstone);
        let link = before.map_or(Link::default(), |before| {
            Link::onto(before.meta.modified, before.tombstone, before.meta.step)
        });
        self.store.push(
            Record {
                revision,
                tombstone,
                link,
                kv,
            },
            key,
            entry,
        );
    }
}
