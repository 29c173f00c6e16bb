//! Pure. `PutRequest` and `DeleteRangeRequest` read from borrowed bytes, without an allocation.

use crate::codec::{Field, Reader};

/// A put, borrowed from its entry.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct PutRequestRef<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    pub lease: i64,
    pub prev_kv: bool,
    pub ignore_value: bool,
    pub ignore_lease: bool,
}

impl<'a> PutRequestRef<'a> {
    /// `None` when the bytes are not a `PutRequest`. As protobuf wants it: of a field that is there
    /// twice the last counts, unknown fields are skipped.
    #[inline]
    pub fn decode(bytes: &'a [u8]) -> Option<PutRequestRef<'a>> {
        let mut put = PutRequestRef::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field() {
            match field.ok()? {
                (1, Field::Bytes(key)) => put.key = key,
                (2, Field::Bytes(value)) => put.value = value,
                (3, Field::Varint(lease)) => put.lease = lease as i64,
                (4, Field::Varint(set)) => put.prev_kv = set != 0,
                (5, Field::Varint(set)) => put.ignore_value = set != 0,
                (6, Field::Varint(set)) => put.ignore_lease = set != 0,
                (1..=6, _) => return None,
                _ => {}
            }
        }
        Some(put)
    }
}

/// A delete, borrowed from its entry.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct DeleteRequestRef<'a> {
    pub key: &'a [u8],
    pub range_end: &'a [u8],
    pub prev_kv: bool,
}

impl<'a> DeleteRequestRef<'a> {
    /// `None` when the bytes are not a `DeleteRangeRequest`.
    pub fn decode(bytes: &'a [u8]) -> Option<DeleteRequestRef<'a>> {
        let mut delete = DeleteRequestRef::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field() {
            match field.ok()? {
                (1, Field::Bytes(key)) => delete.key = key,
                (2, Field::Bytes(end)) => delete.range_end = end,
                (3, Field::Varint(set)) => delete.prev_kv = set != 0,
                (1..=3, _) => return None,
                _ => {}
            }
        }
        Some(delete)
    }
}

/// The facts of an encoded `KeyValue` that compares and puts read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct KeyValueRef<'a> {
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

impl<'a> KeyValueRef<'a> {
    pub fn decode(bytes: &'a [u8]) -> Option<KeyValueRef<'a>> {
        let mut kv = KeyValueRef::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field() {
            match field.ok()? {
                (2, Field::Varint(v)) => kv.create_revision = v as i64,
                (3, Field::Varint(v)) => kv.mod_revision = v as i64,
                (4, Field::Varint(v)) => kv.version = v as i64,
                (5, Field::Bytes(value)) => kv.value = value,
                (6, Field::Varint(v)) => kv.lease = v as i64,
                _ => {}
            }
        }
        Some(kv)
    }
}
