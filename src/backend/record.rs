//! Pure. Bytes of the `key` bucket: revision keys, links, and encoded KeyValue messages.

use crate::codec::{self, Field, Reader};
use crate::ids::{LeaseId, Revision};
use crate::limits::mvcc::WAYPOINT_EVERY;
use bytes::Bytes;

/// A revision as etcd writes it: 8 bytes of main, `_`, 8 bytes of sub, and `t` for a tombstone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct RevisionKey {
    bytes: [u8; 18],
    size: u8,
}

impl RevisionKey {
    #[inline]
    pub fn new(revision: Revision, tombstone: bool) -> RevisionKey {
        let mut bytes = [0; 18];
        bytes[..8].copy_from_slice(&revision.main.to_be_bytes());
        bytes[8] = b'_';
        bytes[9..17].copy_from_slice(&revision.sub.to_be_bytes());
        if tombstone {
            bytes[17] = b't';
        }
        RevisionKey {
            bytes,
            size: 17 + u8::from(tombstone),
        }
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.size)]
    }

    /// The revision and tombstone flag in `bytes`.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Option<(Revision, bool)> {
        let tombstone = match bytes.len() {
            17 => false,
            18 if bytes[17] == b't' => true,
            _ => return None,
        };
        let (main, rest) = bytes.split_first_chunk::<8>()?;
        let sub = rest.get(1..9)?.first_chunk::<8>()?;
        if rest[0] != b'_' {
            return None;
        }
        let revision = Revision::new(i64::from_be_bytes(*main), i64::from_be_bytes(*sub));
        (revision.main >= 0 && revision.sub >= 0).then_some((revision, tombstone))
    }
}

/// How a record hangs on the record that it superseded.
///
/// A historic read walks links down from the newest record of a key. It would take as many steps as
/// the key has newer revisions, so every [`WAYPOINT_EVERY`]th record is also a waypoint in the
/// `history` bucket, from which a walk can start.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Link {
    /// The record of the same key that this one superseded. It may be compacted away.
    pub previous: Option<(Revision, bool)>,
    /// Steps down to the next waypoint or to the first record; `< WAYPOINT_EVERY`.
    pub step: u8,
}

impl Link {
    /// The link of a record that supersedes `previous`, which had `step`.
    pub fn onto(previous: Revision, tombstone: bool, step: u8) -> Link {
        Link {
            previous: Some((previous, tombstone)),
            step: (step + 1) % WAYPOINT_EVERY,
        }
    }

    /// Whether the record is a waypoint.
    pub fn is_waypoint(&self) -> bool {
        self.step == 0 && self.previous.is_some()
    }

    /// Whether the previous record may be one: if not, none needs deleting with it.
    pub fn follows_waypoint(&self) -> bool {
        self.step == 1 && self.previous.is_some()
    }
}

/// A record that is not in the tree file yet.
#[derive(Clone, Debug)]
pub struct Record {
    pub revision: Revision,
    pub tombstone: bool,
    pub link: Link,
    /// The encoded KeyValue, as the `key` bucket stores it.
    pub kv: Bytes,
}

impl Record {
    pub fn revision_key(&self) -> RevisionKey {
        RevisionKey::new(self.revision, self.tombstone)
    }

    /// Appends the value of the `key` bucket.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put_link(out, self.revision, self.link);
        out.extend_from_slice(&self.kv);
    }
}

/// Appends a link: one zero byte without a previous record, or
/// `varint(1 + main - previous.main) varint(previous.sub * 2 + tombstone) step`.
fn put_link(out: &mut Vec<u8>, revision: Revision, link: Link) {
    let Some((previous, tombstone)) = link.previous else {
        out.push(0);
        return;
    };
    debug_assert!(previous < revision);
    codec::put_varint(out, (revision.main - previous.main) as u64 + 1);
    codec::put_varint(out, (previous.sub as u64) << 1 | u64::from(tombstone));
    out.push(link.step);
}

/// Splits a value of the `key` bucket into its link and the encoded KeyValue.
#[inline]
pub fn split_record(revision: Revision, value: &[u8]) -> Option<(Link, &[u8])> {
    let mut reader = Reader::new(value);
    let back = reader.varint()?;
    if back == 0 {
        return Some((Link::default(), reader.rest()));
    }
    let main = revision.main.checked_sub_unsigned(back - 1)?;
    let sub = reader.varint()?;
    let step = reader.u8()?;
    let previous = Revision::new(main, i64::try_from(sub >> 1).ok()?);
    if main <= 0 || previous >= revision || step >= WAYPOINT_EVERY {
        return None;
    }
    Some((
        Link {
            previous: Some((previous, sub & 1 == 1)),
            step,
        },
        reader.rest(),
    ))
}

/// The fields of a KeyValue message.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KvFields<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: LeaseId,
}

impl<'a> KvFields<'a> {
    /// The size of the message that [`encode`](KvFields::encode) writes.
    pub fn encoded_size(&self) -> usize {
        codec::bytes_field_size(1, self.key.len())
            + codec::varint_field_size(2, self.create_revision as u64)
            + codec::varint_field_size(3, self.mod_revision as u64)
            + codec::varint_field_size(4, self.version as u64)
            + codec::bytes_field_size(5, self.value.len())
            + codec::varint_field_size(6, self.lease.0 as u64)
    }

    /// Appends the message as etcd marshals it: fields in order, zero fields left out.
    pub fn encode(&self, out: &mut Vec<u8>) {
        codec::put_bytes_field(out, 1, self.key);
        codec::put_varint_field(out, 2, self.create_revision as u64);
        codec::put_varint_field(out, 3, self.mod_revision as u64);
        codec::put_varint_field(out, 4, self.version as u64);
        codec::put_bytes_field(out, 5, self.value);
        codec::put_varint_field(out, 6, self.lease.0 as u64);
    }

    /// The message in one allocation of exactly its size.
    pub fn to_bytes(&self) -> Bytes {
        let mut out = Vec::with_capacity(self.encoded_size());
        self.encode(&mut out);
        Bytes::from(out)
    }

    /// Reads a message. Unknown fields are passed over.
    pub fn parse(bytes: &'a [u8]) -> Option<KvFields<'a>> {
        let mut kv = KvFields::default();
        let mut reader = Reader::new(bytes);
        while let Some(field) = reader.field() {
            match field.ok()? {
                (1, Field::Bytes(key)) => kv.key = key,
                (2, Field::Varint(number)) => kv.create_revision = number as i64,
                (3, Field::Varint(number)) => kv.mod_revision = number as i64,
                (4, Field::Varint(number)) => kv.version = number as i64,
                (5, Field::Bytes(value)) => kv.value = value,
                (6, Field::Varint(number)) => kv.lease = LeaseId(number as i64),
                _ => {}
            }
        }
        Some(kv)
    }
}

/// The key of an encoded KeyValue as `encode` writes it: the first field.
#[inline]
pub fn kv_key(bytes: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(bytes);
    if reader.u8()? != (1 << 3 | 2) {
        return None;
    }
    reader.bytes()
}

/// The part of `kv` that holds its key, sharing the allocation.
pub fn kv_key_bytes(kv: &Bytes, key_size: usize) -> Bytes {
    let start = 1 + codec::varint_size(key_size as u64);
    kv.slice(start..start + key_size)
}
