//! Pure. What the store must equal: every change ever made, in a list, read by brute force.

use super::{KeyMeta, KvFields, RangeSpec, SortOrder, SortTarget};
use crate::backend::RevisionKey;
use crate::ids::{LeaseId, Revision};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Numbers from a seed.
pub struct Rng(pub u64);

impl Rng {
    pub fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ModelRecord {
    pub revision: Revision,
    pub key: Vec<u8>,
    pub tombstone: bool,
    pub create_revision: i64,
    pub version: i64,
    pub value: Vec<u8>,
    pub lease: LeaseId,
}

impl ModelRecord {
    pub fn kv(&self) -> Bytes {
        let mod_revision = if self.tombstone {
            0
        } else {
            self.revision.main
        };
        KvFields {
            key: &self.key,
            create_revision: self.create_revision,
            mod_revision,
            version: self.version,
            value: &self.value,
            lease: self.lease,
        }
        .to_bytes()
    }

    pub fn event_kv(&self) -> Bytes {
        let mod_revision = self.revision.main;
        if !self.tombstone {
            return self.kv();
        }
        KvFields {
            key: &self.key,
            mod_revision,
            ..KvFields::default()
        }
        .to_bytes()
    }
}

#[derive(Clone, Debug)]
pub struct Model {
    pub log: Vec<ModelRecord>,
    pub current: i64,
    pub compacted: i64,
    pub compacted_before: i64,
    pub small: BTreeMap<(u8, Vec<u8>), Vec<u8>>,
}

impl Model {
    pub fn new() -> Model {
        Model {
            log: Vec::new(),
            current: 1,
            compacted: -1,
            compacted_before: -1,
            small: BTreeMap::new(),
        }
    }

    /// The newest record of `key` at or below `main`.
    pub fn newest(&self, key: &[u8], main: i64) -> Option<&ModelRecord> {
        self.log
            .iter()
            .rev()
            .find(|r| r.key == key && r.revision.main <= main)
    }

    pub fn live(&self, key: &[u8], main: i64) -> Option<&ModelRecord> {
        self.newest(key, main).filter(|record| !record.tombstone)
    }

    fn keys(&self) -> BTreeSet<&[u8]> {
        self.log.iter().map(|record| &record.key[..]).collect()
    }

    pub fn in_range(&self, spec: &RangeSpec, main: i64) -> Vec<&ModelRecord> {
        let keys = self.keys();
        let inside = keys.into_iter().filter(|k| *k >= &spec.key[..]);
        let inside = inside.filter(|key| spec.end.includes(&spec.key, key));
        inside.filter_map(|key| self.live(key, main)).collect()
    }

    /// The answer to `spec`, computed as etcd does: all, filter, sort, cut.
    pub fn range(&self, spec: &RangeSpec) -> (Vec<Bytes>, i64, bool) {
        let main = if spec.revision <= 0 {
            self.current
        } else {
            spec.revision
        };
        let mut found = self.in_range(spec, main);
        let count = found.len() as i64;
        if spec.count_only {
            return (Vec::new(), count, false);
        }
        let filters = [spec.min_mod, spec.max_mod, spec.min_create, spec.max_create];
        let fetch_all = filters.iter().any(|bound| *bound != 0)
            || (spec.sort_order != SortOrder::None
                && !(spec.sort_target == SortTarget::Key && spec.sort_order == SortOrder::Ascend));
        if spec.limit > 0 && !fetch_all {
            found.truncate(spec.limit as usize + 1);
        }
        found.retain(|r| {
            !((spec.max_mod != 0 && r.revision.main > spec.max_mod)
                || (spec.min_mod != 0 && r.revision.main < spec.min_mod)
                || (spec.max_create != 0 && r.create_revision > spec.max_create)
                || (spec.min_create != 0 && r.create_revision < spec.min_create))
        });
        let descend = spec.sort_order == SortOrder::Descend;
        found.sort_by(|a, b| {
            let order = match spec.sort_target {
                SortTarget::Key => a.key.cmp(&b.key),
                SortTarget::Version => a.version.cmp(&b.version),
                SortTarget::Create => a.create_revision.cmp(&b.create_revision),
                SortTarget::Mod => a.revision.main.cmp(&b.revision.main),
                SortTarget::Value => a.value.cmp(&b.value),
            };
            if descend { order.reverse() } else { order }
        });
        let more = spec.limit > 0 && found.len() as i64 > spec.limit;
        if more {
            found.truncate(spec.limit as usize);
        }
        let kvs = found.into_iter().map(|record| {
            if !spec.keys_only {
                return record.kv();
            }
            let mut blank = ModelRecord {
                value: Vec::new(),
                ..record.clone()
            };
            if spec.sort_target != SortTarget::Value {
                blank.lease = LeaseId(0);
            }
            blank.kv()
        });
        (kvs.collect(), count, more)
    }

    /// The revisions that stay when everything at `compacted` is physically done.
    fn retained(&self) -> BTreeSet<Revision> {
        let mut stay = BTreeSet::new();
        for record in &self.log {
            let main = record.revision.main;
            let newest = self.newest(&record.key, self.compacted);
            let is_newest = newest.is_some_and(|newest| newest.revision == record.revision);
            if main > self.compacted || (is_newest && (!record.tombstone || main == self.compacted))
            {
                stay.insert(record.revision);
            }
        }
        stay
    }

    /// etcd's HashKV over what a finished compaction leaves.
    pub fn hash(&self, main: i64) -> u32 {
        let mut keep = BTreeSet::new();
        for key in self.keys() {
            if let Some(record) = self.live(key, main) {
                keep.insert(record.revision);
            }
        }
        let retained = self.retained();
        let mut hash = crc32c::crc32c(b"key");
        for record in &self.log {
            let revision = record.revision;
            if revision.main > main || !retained.contains(&revision) {
                continue;
            }
            if revision.main <= self.compacted && !keep.is_empty() && !keep.contains(&revision) {
                continue;
            }
            if revision.main == self.compacted && record.tombstone {
                continue;
            }
            let key = RevisionKey::new(revision, record.tombstone);
            hash = crc32c::crc32c_append(hash, key.as_bytes());
            hash = crc32c::crc32c_append(hash, &record.kv());
        }
        hash
    }

    /// Records a put or a delete (`value` is `None`); `false` when there was nothing to delete.
    pub fn change(
        &mut self,
        revision: Revision,
        key: &[u8],
        value: Option<&[u8]>,
        lease: LeaseId,
    ) -> bool {
        let before = self
            .live(key, i64::MAX)
            .map(|r| (r.create_revision, r.version));
        if value.is_none() && before.is_none() {
            return false;
        }
        let (create_revision, version) = match value {
            Some(_) => before.map_or((revision.main, 1), |(create, ver)| (create, ver + 1)),
            None => (0, 0),
        };
        self.log.push(ModelRecord {
            revision,
            key: key.to_vec(),
            tombstone: value.is_none(),
            create_revision,
            version,
            value: value.unwrap_or(b"").to_vec(),
            lease: if value.is_some() { lease } else { LeaseId(0) },
        });
        self.current = revision.main;
        true
    }
}

/// Whether `meta` says what the record is.
pub fn describes(meta: &KeyMeta, record: &ModelRecord) -> bool {
    meta.modified == record.revision
        && meta.create_revision == record.create_revision
        && meta.version == record.version
        && meta.lease == record.lease
        && meta.kv_size as usize == record.kv().len()
}
