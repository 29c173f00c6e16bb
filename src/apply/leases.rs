//! Pure. Leases in the tree: their records, and which keys hang on them.

use super::alarms::SLICE_ENTRIES;
use super::{Fault, StateMachine};
use crate::backend::{Corrupt, schema};
use crate::ids::LeaseId;
use crate::lease::record::{attachment, split_attachment};
use crate::lease::{LeaseRecord, Lessor, LessorOptions};
use crate::mvcc::{Changes, Store, View};
use bytes::Bytes;

/// Reads every lease; keys are not read.
pub(super) fn open(view: &View, options: LessorOptions) -> Result<Lessor, Fault> {
    let mut lessor = Lessor::new(options);
    let mut bad = None;
    let mut from = Some(Vec::new());
    while let Some(start) = from {
        from = view.small_scan(schema::LEASE, &start, SLICE_ENTRIES, &mut |key, value| {
            match LeaseRecord::decode(key, value) {
                Some(record) => lessor.restore(record),
                None => bad = Some(key.to_vec()),
            }
            true
        })?;
    }
    match bad {
        Some(key) => Err(Fault::Small {
            bucket: schema::LEASE,
            key,
        }),
        None => Ok(lessor),
    }
}

pub(super) fn write_record(store: &mut Store, record: &LeaseRecord) {
    store.put_small(
        schema::LEASE,
        &LeaseRecord::key(record.id),
        &record.encode(),
    );
}

/// Moves attachments as the changes of a transaction moved leases.
pub(super) fn reattach(store: &mut Store, changes: &Changes) {
    for change in &changes.changes {
        let before = change.previous.map_or(LeaseId(0), |meta| meta.lease);
        if before == change.lease {
            continue;
        }
        if before != LeaseId(0) {
            store.delete_small(schema::LEASE_KEYS, &attachment(before, &change.key));
        }
        if change.lease != LeaseId(0) {
            store.put_small(
                schema::LEASE_KEYS,
                &attachment(change.lease, &change.key),
                b"",
            );
        }
    }
}

/// The keys of a lease, in order.
pub(super) fn keys(view: &View, id: LeaseId) -> Result<Vec<Bytes>, Corrupt> {
    let mut keys = Vec::new();
    let mut from = Some(attachment(id, b""));
    while let Some(start) = from {
        let mut ended = false;
        from = view.small_scan(
            schema::LEASE_KEYS,
            &start,
            SLICE_ENTRIES,
            &mut |entry, _| match split_attachment(entry) {
                Some((lease, key)) if lease == id => {
                    keys.push(Bytes::copy_from_slice(key));
                    true
                }
                _ => {
                    ended = true;
                    false
                }
            },
        )?;
        if ended {
            break;
        }
    }
    Ok(keys)
}

impl StateMachine {
    /// The keys that hang on a lease, in order. Reads them all: as many as the lease has.
    pub fn lease_keys(&self, id: LeaseId) -> Result<Vec<Bytes>, Corrupt> {
        keys(&self.store().view(), id)
    }
}
