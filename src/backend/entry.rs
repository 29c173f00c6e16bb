//! Pure. Bytes of the `index` and `history` buckets.

use super::record::KvFields;
use crate::codec::{self, Reader};
use crate::ids::{LeaseId, Revision};
use crate::limits::mvcc::WAYPOINT_EVERY;

/// What is known of a key's record without reading it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct KeyMeta {
    /// The record's revision; `main` is the KeyValue's mod_revision.
    pub modified: Revision,
    /// 0 in a tombstone.
    pub create_revision: i64,
    /// 0 in a tombstone.
    pub version: i64,
    pub lease: LeaseId,
    /// Bytes of the encoded KeyValue, so that answers can be sized without reading records.
    pub kv_size: u32,
    /// The record's [`Link::step`](super::record::Link::step).
    pub step: u8,
}

/// The newest record of a key, which may be a tombstone that is not compacted yet.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct IndexEntry {
    pub meta: KeyMeta,
    pub tombstone: bool,
}

const TOMBSTONE: u8 = 1;
const SUB: u8 = 2;
const LEASE: u8 = 4;
/// Version and create revision follow; without them the record is the first of its key.
const OLDER: u8 = 8;
const STEP: u8 = 16;
const FLAGS: u8 = TOMBSTONE | SUB | LEASE | OLDER | STEP;

impl IndexEntry {
    /// The meta of a live key.
    pub fn live(&self) -> Option<KeyMeta> {
        (!self.tombstone).then_some(self.meta)
    }

    /// Appends the value of the `index` bucket: flags, `varint(main) varint(kv_size)`, then as
    /// flagged `varint(sub)`, `varint(version) varint(main - create)`, 8 bytes of lease, step.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let meta = &self.meta;
        let older = !self.tombstone && meta.version != 1;
        let flags = (TOMBSTONE * u8::from(self.tombstone))
            | (SUB * u8::from(meta.modified.sub != 0))
            | (LEASE * u8::from(meta.lease.0 != 0))
            | (OLDER * u8::from(older))
            | (STEP * u8::from(meta.step != 0));
        out.push(flags);
        codec::put_varint(out, meta.modified.main as u64);
        codec::put_varint(out, u64::from(meta.kv_size));
        if flags & SUB != 0 {
            codec::put_varint(out, meta.modified.sub as u64);
        }
        if older {
            codec::put_varint(out, meta.version as u64);
            codec::put_varint(out, (meta.modified.main - meta.create_revision) as u64);
        }
        if flags & LEASE != 0 {
            out.extend_from_slice(&meta.lease.0.to_le_bytes());
        }
        if flags & STEP != 0 {
            out.push(meta.step);
        }
    }

    #[inline]
    pub fn parse(value: &[u8]) -> Option<IndexEntry> {
        let mut reader = Reader::new(value);
        let flags = reader.u8()?;
        if flags & !FLAGS != 0 {
            return None;
        }
        let tombstone = flags & TOMBSTONE != 0;
        let main = i64::try_from(reader.varint()?).ok()?;
        let mut meta = KeyMeta {
            modified: Revision::new(main, 0),
            kv_size: u32::try_from(reader.varint()?).ok()?,
            ..KeyMeta::default()
        };
        if flags & SUB != 0 {
            meta.modified.sub = i64::try_from(reader.varint()?).ok()?;
        }
        if flags & OLDER != 0 {
            meta.version = i64::try_from(reader.varint()?).ok()?;
            meta.create_revision = main.checked_sub_unsigned(reader.varint()?)?;
            if meta.version == i64::MAX || meta.create_revision < 0 {
                return None;
            }
        } else if !tombstone {
            meta.version = 1;
            meta.create_revision = main;
        }
        if flags & LEASE != 0 {
            meta.lease = LeaseId(reader.u64()? as i64);
        }
        if flags & STEP != 0 {
            meta.step = reader.u8().filter(|step| *step < WAYPOINT_EVERY)?;
        }
        reader.is_empty().then_some(IndexEntry { meta, tombstone })
    }
}

impl KeyMeta {
    /// The meta of a stored record.
    pub fn of_record(modified: Revision, step: u8, kv: &[u8]) -> Option<KeyMeta> {
        let fields = KvFields::parse(kv)?;
        Some(KeyMeta {
            modified,
            create_revision: fields.create_revision,
            version: fields.version,
            lease: fields.lease,
            kv_size: u32::try_from(kv.len()).ok()?,
            step,
        })
    }
}

/// Appends `key` so that escaped keys sort as the keys do and none is a prefix of another:
/// 0 becomes `0 255`, and `0 0` ends it.
fn put_escaped(out: &mut Vec<u8>, key: &[u8]) {
    for &byte in key {
        out.push(byte);
        if byte == 0 {
            out.push(255);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// The key of the `history` bucket for `revision` of `key`; main and sub 8 bytes each, big endian.
pub fn waypoint_key(key: &[u8], revision: Revision) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 20);
    put_escaped(&mut out, key);
    out.extend_from_slice(&revision.main.to_be_bytes());
    out.extend_from_slice(&revision.sub.to_be_bytes());
    out
}

/// The revision in a `history` key, when it is one of the key that `seek`, a waypoint key, is of.
pub fn waypoint_revision(found: &[u8], seek: &[u8]) -> Option<Revision> {
    let prefix_size = seek.len() - 16;
    if found.len() != seek.len() || found[..prefix_size] != seek[..prefix_size] {
        return None;
    }
    let (main, sub) = found[prefix_size..].split_at(8);
    Some(Revision {
        main: i64::from_be_bytes(*main.first_chunk()?),
        sub: i64::from_be_bytes(*sub.first_chunk()?),
    })
}
