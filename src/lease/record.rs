//! Pure. The bytes of a lease in the `lease` bucket and of an attachment in `lease_keys`.
//!
//! `lease`: key = the id, 8 bytes big endian; value = protobuf {1 id, 2 ttl, 3 remaining ttl}, the
//! bytes that etcd stores. `lease_keys`: key = the id, 8 bytes big endian ++ the user key; value
//! empty. The keys of one lease are one run of the bucket, in key order.

use crate::codec::{Field, Reader, put_varint_field};
use crate::ids::LeaseId;

/// A lease as the log decides it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LeaseRecord {
    pub id: LeaseId,
    /// Seconds granted.
    pub ttl: i64,
    /// Seconds left at the last checkpoint; 0 when there was none since the last renewal.
    pub remaining: i64,
}

impl LeaseRecord {
    pub fn key(id: LeaseId) -> [u8; 8] {
        id.0.to_be_bytes()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32);
        put_varint_field(&mut out, 1, self.id.0 as u64);
        put_varint_field(&mut out, 2, self.ttl as u64);
        put_varint_field(&mut out, 3, self.remaining as u64);
        out
    }

    /// `None` when the bytes are not a lease or are that of another key.
    pub fn decode(key: &[u8], value: &[u8]) -> Option<LeaseRecord> {
        let id = LeaseId(i64::from_be_bytes(key.try_into().ok()?));
        let mut record = LeaseRecord {
            id: LeaseId(0),
            ttl: 0,
            remaining: 0,
        };
        let mut reader = Reader::new(value);
        while let Some(field) = reader.field() {
            match field.ok()? {
                (1, Field::Varint(v)) => record.id = LeaseId(v as i64),
                (2, Field::Varint(v)) => record.ttl = v as i64,
                (3, Field::Varint(v)) => record.remaining = v as i64,
                _ => {}
            }
        }
        (record.id == id && id != LeaseId(0) && record.ttl > 0).then_some(record)
    }
}

/// The `lease_keys` entry of `key` on lease `id`.
pub fn attachment(id: LeaseId, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + key.len());
    out.extend_from_slice(&id.0.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// The lease and the user key of a `lease_keys` entry.
pub fn split_attachment(entry: &[u8]) -> Option<(LeaseId, &[u8])> {
    let (id, key) = entry.split_first_chunk::<8>()?;
    Some((LeaseId(i64::from_be_bytes(*id)), key))
}
