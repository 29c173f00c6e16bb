//! Pure. Bytes of entries and requests.

use super::*;
use crate::pb::etcdserverpb::{DeleteRangeRequest, PutRequest};

// Catches: an entry that reads back differently, with and without author.
#[test]
fn entries_round_trip() {
    for kind in Kind::ALL {
        for author in [
            None,
            Some(Author {
                user: "räuber",
                auth_revision: u64::MAX,
            }),
        ] {
            let entry = Entry {
                kind,
                request_id: 0x0102_0304_0506_0708,
                author,
                body: b"body",
            };
            let mut out = Vec::new();
            entry.encode(&mut out);
            assert_eq!(out.len(), entry.encoded_size());
            assert_eq!(Entry::decode(&out), Ok(entry));
        }
    }
}

// Catches: another layout of the bytes on disk than docs/format/entry.md has.
#[test]
fn an_entry_has_the_documented_bytes() {
    let mut out = Vec::new();
    Entry::new(Kind::Put, 0x1122, b"xy").encode(&mut out);
    assert_eq!(out, b"\x01\x01\0\0\0\0\0\0\x22\x11\0\0\0\0\0\0xy");
    let author = Some(Author {
        user: "bo",
        auth_revision: 5,
    });
    let mut out = Vec::new();
    Entry {
        kind: Kind::Txn,
        request_id: 1,
        author,
        body: b"z",
    }
    .encode(&mut out);
    let expected = b"\x01\x03\x01\0\0\0\0\0\x01\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x02\0boz";
    assert_eq!(out, expected);
}

// Catches: foreign bytes taken for an entry, or a panic on them; each rule has its own error.
#[test]
fn bad_entries_are_refused() {
    let good = |flags: u8| {
        let mut bytes = vec![1, 1, flags, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(b"\x05\0\0\0\0\0\0\0\x02\0bo");
        bytes
    };
    let with = |at: usize, byte: u8| {
        let mut bytes = good(1);
        bytes[at] = byte;
        bytes
    };
    for (bytes, error) in [
        (
            good(1)[..15].to_vec(),
            EntryError::Short {
                size: 15,
                expected: 16,
            },
        ),
        (
            good(1)[..20].to_vec(),
            EntryError::Short {
                size: 20,
                expected: 26,
            },
        ),
        (
            good(1)[..27].to_vec(),
            EntryError::Short {
                size: 27,
                expected: 28,
            },
        ),
        (
            Vec::new(),
            EntryError::Short {
                size: 0,
                expected: 16,
            },
        ),
        (
            with(0, 2),
            EntryError::Version {
                got: 2,
                expected: 1,
            },
        ),
        (with(1, 0), EntryError::Kind { got: 0 }),
        (with(1, 14), EntryError::Kind { got: 14 }),
        (with(2, 3), EntryError::Flags { got: 3 }),
        (with(7, 1), EntryError::Reserved { got: 1 << 24 }),
        (with(26, 0xff), EntryError::Author),
    ] {
        assert_eq!(Entry::decode(&bytes), Err(error));
    }
    assert!(Entry::decode(&good(0)).is_ok());
    let mut random = Random(3);
    for _ in 0..2000 {
        let mut bytes = good(1);
        for _ in 0..1 + random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        let _ = Entry::decode(&bytes);
    }
}

// Catches: a committed entry with a body that is no message applied, or a panic on it; a fault
// leaves the consistent index where it was.
#[test]
fn a_bad_body_is_a_fault() {
    let mut world = World::new();
    for kind in [
        Kind::Put,
        Kind::DeleteRange,
        Kind::Txn,
        Kind::Compact,
        Kind::LeaseGrant,
    ] {
        let mut entry = Vec::new();
        Entry::new(kind, 1, b"\xff\xff").encode(&mut entry);
        let fault = world
            .machine
            .apply(LogIndex(1), Term(1), &entry, world.now)
            .unwrap_err();
        let error = EntryError::Body { kind };
        assert_eq!(
            fault,
            Fault::Entry {
                index: LogIndex(1),
                error
            }
        );
        assert_eq!(world.machine.consistent().0, LogIndex(0));
    }
    let mut entry = Vec::new();
    Entry::new(Kind::ClusterVersion, 1, b"\xff\xff").encode(&mut entry);
    assert!(
        world
            .machine
            .apply(LogIndex(1), Term(1), &entry, world.now)
            .is_err()
    );
}

// Catches: a put or delete that the hand decoder reads differently from prost, fields twice and
// unknown fields included.
#[test]
fn hand_decoders_agree_with_prost() {
    let mut random = Random(9);
    for _ in 0..20_000 {
        let mut out = Vec::new();
        for _ in 0..random.below(6) {
            let number = 1 + random.below(8) as u32;
            if random.below(2) == 0 {
                let value = vec![b'x'; random.below(5) as usize];
                crate::codec::put_message_header(&mut out, number, value.len());
                out.extend_from_slice(&value);
            } else {
                let value = [0, 1, 300, u64::MAX][random.below(4) as usize];
                crate::codec::put_varint(&mut out, u64::from(number << 3));
                crate::codec::put_varint(&mut out, value);
            }
        }
        if random.below(4) == 0 {
            out.truncate(random.below(out.len() as u64 + 1) as usize);
        }
        let put = PutRequestRef::decode(&out).map(|put| PutRequest {
            key: Bytes::copy_from_slice(put.key),
            value: Bytes::copy_from_slice(put.value),
            lease: put.lease,
            prev_kv: put.prev_kv,
            ignore_value: put.ignore_value,
            ignore_lease: put.ignore_lease,
        });
        assert_eq!(put, PutRequest::decode(&out[..]).ok(), "{out:?}");
        let delete = DeleteRequestRef::decode(&out).map(|delete| DeleteRangeRequest {
            key: Bytes::copy_from_slice(delete.key),
            range_end: Bytes::copy_from_slice(delete.range_end),
            prev_kv: delete.prev_kv,
        });
        assert_eq!(delete, DeleteRangeRequest::decode(&out[..]).ok(), "{out:?}");
    }
}
