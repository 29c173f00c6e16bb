//! Pure. Encodings of this layer, and what foreign bytes do to them.

use super::entry::{IndexEntry, KeyMeta, waypoint_key, waypoint_revision};
use super::record::{KvFields, Link, Record, RevisionKey, kv_key, kv_key_bytes, split_record};
use super::{CommitPolicy, schema};
use crate::ids::{LeaseId, Revision};
use bytes::Bytes;
use std::time::Duration;

// Catches: revision keys that differ from etcd's, or do not sort as revisions do.
#[test]
fn revision_keys_are_etcds() {
    let key = RevisionKey::new(Revision::new(0x0102, 3), true);
    assert_eq!(key.as_bytes(), b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t");
    assert_eq!(
        RevisionKey::parse(key.as_bytes()),
        Some((Revision::new(0x0102, 3), true))
    );
    for bad in [
        &b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03x"[..],
        b"",
        &[b'_'; 18],
        &[0; 17],
    ] {
        assert_eq!(RevisionKey::parse(bad), None);
    }
}

// Catches: index values that lose a field, and a panic on truncated ones.
#[test]
fn index_values_round_trip() {
    let numbers = [0, 1, 127, 128, 1 << 40];
    for main in [1, 200, i64::MAX] {
        for sub in numbers {
            for (version, create_revision) in [(1, main), (2, 1), (1 << 33, main - 1)] {
                for lease in [0, 1, i64::MAX] {
                    for step in [0, 15] {
                        let modified = Revision::new(main, sub);
                        let lease = LeaseId(lease);
                        let kv_size = 9 + step as u32;
                        let meta = KeyMeta {
                            modified,
                            create_revision,
                            version,
                            lease,
                            kv_size,
                            step,
                        };
                        check_entry(IndexEntry {
                            meta,
                            tombstone: false,
                        });
                        let meta = KeyMeta {
                            modified,
                            kv_size,
                            step,
                            ..KeyMeta::default()
                        };
                        check_entry(IndexEntry {
                            meta,
                            tombstone: true,
                        });
                    }
                }
            }
        }
    }
}

fn check_entry(entry: IndexEntry) {
    let mut bytes = Vec::new();
    entry.encode(&mut bytes);
    assert_eq!(IndexEntry::parse(&bytes), Some(entry));
    for cut in 0..bytes.len() {
        assert_eq!(IndexEntry::parse(&bytes[..cut]), None);
    }
}

// Catches: a link that comes back different, points forward, or takes bytes of the KeyValue.
#[test]
fn records_round_trip() {
    let revision = Revision::new(1000, 4);
    let kv = Bytes::from_static(b"message");
    let previous = [
        Revision::new(1, 0),
        Revision::new(999, 70),
        Revision::new(1000, 3),
    ];
    for previous in previous.map(Some).into_iter().chain([None]) {
        for (tombstone, step) in [(false, 0), (true, 14)] {
            let link = previous.map(|previous| Link::onto(previous, tombstone, step));
            let link = link.unwrap_or_default();
            let record = Record {
                revision,
                tombstone,
                link,
                kv: kv.clone(),
            };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            assert_eq!(split_record(revision, &bytes), Some((link, &kv[..])));
        }
    }
    assert_eq!(split_record(revision, b"\x01\x08\x01"), None);
    assert_eq!(split_record(revision, b"\xff\xff\x7f\x00\x01"), None);
    assert_eq!(split_record(revision, b""), None);
}

// Catches: a KeyValue that is not as gogo marshals it, and a key found elsewhere.
#[test]
fn key_values_are_as_etcd_marshals_them() {
    let fields = KvFields {
        key: b"k",
        create_revision: 2,
        mod_revision: 300,
        version: 1,
        value: b"val",
        lease: LeaseId(-1),
    };
    let bytes = fields.to_bytes();
    let expected = b"\x0a\x01k\x10\x02\x18\xac\x02\x20\x01\x2a\x03val\x30";
    assert_eq!(bytes[..expected.len()], expected[..]);
    assert_eq!(
        bytes[expected.len()..],
        *b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"
    );
    assert_eq!(KvFields::parse(&bytes), Some(fields));
    assert_eq!(kv_key(&bytes), Some(&b"k"[..]));
    let long = KvFields {
        key: &[7; 300],
        ..fields
    }
    .to_bytes();
    assert_eq!(kv_key_bytes(&long, 300), kv_key(&long).expect("a key"));
}

// Catches: waypoints of one key found under another, or out of order.
#[test]
fn waypoints_sort_by_key_then_revision() {
    let mut keys = Vec::new();
    for key in [&b"a"[..], b"a\0", b"a\0\xff", b"a\x01", b"a\xff", b"b"] {
        for main in [1, 256, i64::MAX - 1] {
            let found = waypoint_key(key, Revision::new(main, 2));
            let seek = waypoint_key(key, Revision::new(1, 0));
            assert_eq!(
                waypoint_revision(&found, &seek),
                Some(Revision::new(main, 2))
            );
            for other in [&b"a\0\0"[..], b"a\xff\xff", b""] {
                assert_eq!(
                    waypoint_revision(&found, &waypoint_key(other, Revision::new(1, 0))),
                    None
                );
            }
            keys.push(found);
        }
    }
    assert!(keys.is_sorted());
}

// Catches: two buckets of one number, or one out of the tree's range.
#[test]
fn buckets_are_distinct() {
    let mut ids: Vec<u8> = schema::BUCKETS.iter().map(|(id, _)| id.0).collect();
    ids.dedup();
    assert_eq!(ids.len(), schema::BUCKETS.len());
    assert!(ids.is_sorted() && ids.iter().all(|id| *id < 32));
}

// Catches: a commit that is never due, or due with nothing to write.
#[test]
fn commits_are_due_by_size_log_and_age() {
    let policy = CommitPolicy {
        buffered_bytes: 100,
        log_bytes: 50,
        age: Duration::from_secs(5),
    };
    let late = Duration::from_secs(5);
    for (buffered, log, age, due) in [
        (99, 49, Duration::ZERO, false),
        (100, 0, Duration::ZERO, true),
        (0, 50, Duration::ZERO, true),
        (1, 0, late, true),
        (0, 0, late, false),
    ] {
        assert_eq!(policy.is_due(buffered, log, age), due);
    }
}
