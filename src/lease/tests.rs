//! Pure. The lessor: rules, and random use against a plain map.

use super::record::{attachment, split_attachment};
use super::*;
use crate::env::Monotonic;
use crate::ids::LeaseId;
use std::collections::BTreeMap;
use std::time::Duration;

fn at(ms: u64) -> Monotonic {
    Monotonic(ms * 1_000_000)
}

fn leader() -> Lessor {
    let mut lessor = Lessor::new(LessorOptions::default());
    lessor.promote(at(0), Duration::ZERO);
    lessor
}

fn expired(lessor: &mut Lessor, now: Monotonic, max: usize) -> Vec<i64> {
    let mut out = Vec::new();
    lessor.take_expired(now, max, &mut out);
    lessor.check();
    out.into_iter().map(|id| id.0).collect()
}

// Catches: a TTL rule of the contract (section 1.3, quirk 6) that is off by one.
#[test]
fn grant_rules() {
    let mut lessor = leader();
    assert_eq!(lessor.grant(LeaseId(0), 10, at(0)), Err(GrantError::NoId));
    for (wish, granted) in [(0, 2), (-5, 2), (1, 2), (2, 2), (3, 3)] {
        let id = LeaseId(1000 + wish);
        assert_eq!(
            lessor.grant(id, wish, at(0)).map(|r| r.ttl),
            Ok(granted),
            "wish {wish}"
        );
    }
    let most = 9_000_000_000;
    assert_eq!(
        lessor.grant(LeaseId(7), most, at(0)).map(|r| r.ttl),
        Ok(most)
    );
    assert_eq!(
        lessor.grant(LeaseId(8), most + 1, at(0)),
        Err(GrantError::TtlTooLarge { got: most + 1 })
    );
    assert_eq!(
        lessor.grant(LeaseId(7), 5, at(0)),
        Err(GrantError::Exists(LeaseId(7)))
    );
    // A too large TTL is found before a duplicate.
    assert_eq!(
        lessor.grant(LeaseId(7), most + 1, at(0)),
        Err(GrantError::TtlTooLarge { got: most + 1 })
    );
    lessor.check();
    assert_eq!(LessorOptions::ttl_min_for(Duration::from_millis(1000)), 2);
    assert_eq!(LessorOptions::ttl_min_for(Duration::from_millis(2000)), 3);
    assert_eq!(LessorOptions::ttl_min_for(Duration::from_millis(100)), 1);
}

// Catches: an expired lease renewed before its revoke, or lost when the revoke does not come.
#[test]
fn expiry_waits_for_its_revoke() {
    let mut lessor = leader();
    lessor.grant(LeaseId(5), 3, at(0)).unwrap();
    assert_eq!(lessor.next_expiry(), Some(at(3000)));
    assert_eq!(expired(&mut lessor, at(2999), 10), Vec::<i64>::new());
    assert_eq!(
        lessor.renew(LeaseId(5), at(1000)),
        Renewal::Renewed {
            ttl: 3,
            checkpointed: false
        }
    );
    assert_eq!(expired(&mut lessor, at(3000), 10), Vec::<i64>::new());
    assert_eq!(
        lessor.renew(LeaseId(5), at(4000)),
        Renewal::Expired,
        "due, not yet taken"
    );
    assert_eq!(expired(&mut lessor, at(4000), 10), [5]);
    assert_eq!(
        expired(&mut lessor, at(4001), 10),
        Vec::<i64>::new(),
        "offered once"
    );
    assert_eq!(lessor.renew(LeaseId(5), at(4001)), Renewal::Expired);
    assert_eq!(lessor.remaining(LeaseId(5), at(4001)), Some(Duration::ZERO));
    assert_eq!(
        expired(&mut lessor, at(7000), 10),
        [5],
        "offered again after the retry time"
    );
    assert!(lessor.revoke(LeaseId(5)));
    assert!(!lessor.revoke(LeaseId(5)));
    assert_eq!(lessor.renew(LeaseId(5), at(7001)), Renewal::NotFound);
    assert_eq!(lessor.next_expiry(), None);
    lessor.check();
}

// Catches: a follower that ends leases, a new leader that ends them early (contract 1.3: full TTL
// unless checkpointed), and a checkpoint that survives a renewal unnoticed.
#[test]
fn promotion_and_checkpoints() {
    let mut lessor = Lessor::new(LessorOptions::default());
    lessor.restore(LeaseRecord {
        id: LeaseId(1),
        ttl: 1000,
        remaining: 0,
    });
    lessor.restore(LeaseRecord {
        id: LeaseId(2),
        ttl: 1000,
        remaining: 400,
    });
    assert_eq!(lessor.next_expiry(), None);
    assert_eq!(lessor.renew(LeaseId(1), at(0)), Renewal::NotLeader);
    lessor.promote(at(0), Duration::from_secs(1));
    lessor.check();
    assert_eq!(lessor.next_expiry(), Some(at(401_000)));
    assert_eq!(lessor.next_checkpoint(), Some(at(300_000)));
    let mut due = Vec::new();
    lessor.take_checkpoints(at(300_000), 10, &mut due);
    assert_eq!(due, [(LeaseId(1), 701), (LeaseId(2), 101)]);
    lessor.check();
    for (id, left) in due {
        let record = lessor.checkpoint(id, left, at(300_100)).unwrap();
        assert_eq!((record.ttl, record.remaining), (1000, left));
    }
    lessor.check();
    assert_eq!(
        lessor.renew(LeaseId(2), at(300_200)),
        Renewal::Renewed {
            ttl: 1000,
            checkpointed: true
        }
    );
    assert_eq!(
        lessor.remaining(LeaseId(2), at(300_200)),
        Some(Duration::from_secs(1000))
    );
    assert_eq!(lessor.list(at(300_200)), [LeaseId(1), LeaseId(2)]);
    assert_eq!(lessor.checkpoint(LeaseId(99), 1, at(300_200)), None);
    lessor.demote();
    lessor.check();
    assert_eq!(expired(&mut lessor, at(10_000_000), 10), Vec::<i64>::new());
}

// Catches: a batch that gives a lease twice or never, when 50,000 end at once (W17).
#[test]
fn fifty_thousand_leases_of_one_ttl() {
    let mut lessor = leader();
    for id in 1..=50_000 {
        lessor.grant(LeaseId(id), 5, at(0)).unwrap();
    }
    let mut seen = std::collections::BTreeSet::new();
    let mut batches = 0;
    loop {
        let mut batch = Vec::new();
        lessor.take_expired(at(5000), 1000, &mut batch);
        batches += 1;
        if batch.is_empty() {
            break;
        }
        assert!(batch.len() <= 1000);
        for id in batch {
            assert!(seen.insert(id));
            assert!(lessor.revoke(id));
        }
    }
    assert_eq!((seen.len(), batches, lessor.count()), (50_000, 51, 0));
    lessor.check();
}

// Catches: any drift between the queue and the leases under random use, against a plain map.
#[test]
fn random_use_matches_a_plain_map() {
    let mut seed = 0x1234_5678_9abc_def1u64;
    let mut random = move |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed % below
    };
    let mut lessor = leader();
    let mut model: BTreeMap<i64, (i64, u64)> = BTreeMap::new(); // id → ttl, end in ms
    let mut now = 0;
    for _ in 0..20_000 {
        now += random(300);
        let id = 1 + random(60) as i64;
        match random(4) {
            0 => {
                let ttl = 2 + random(10) as i64;
                let granted = lessor.grant(LeaseId(id), ttl, at(now)).is_ok();
                assert_eq!(granted, !model.contains_key(&id));
                model.entry(id).or_insert((ttl, now + ttl as u64 * 1000));
            }
            1 => assert_eq!(lessor.revoke(LeaseId(id)), model.remove(&id).is_some()),
            2 => {
                let expected = match model.get_mut(&id) {
                    None => Renewal::NotFound,
                    Some((_, end)) if *end <= now => Renewal::Expired,
                    Some((ttl, end)) => {
                        *end = now + *ttl as u64 * 1000;
                        Renewal::Renewed {
                            ttl: *ttl,
                            checkpointed: false,
                        }
                    }
                };
                assert_eq!(lessor.renew(LeaseId(id), at(now)), expected);
            }
            _ => {
                let mut got = expired(&mut lessor, at(now), 1000);
                got.sort_unstable();
                let due: Vec<i64> = model
                    .iter()
                    .filter(|(_, (_, end))| *end <= now)
                    .map(|(id, _)| *id)
                    .collect();
                assert_eq!(got, due);
                for id in due {
                    assert!(lessor.revoke(LeaseId(id)));
                    model.remove(&id);
                }
            }
        }
        let expected = model.get(&id).map(|(_, end)| end.saturating_sub(now));
        let left = lessor
            .remaining(LeaseId(id), at(now))
            .map(|d| d.as_millis() as u64);
        assert_eq!(left, expected);
        lessor.check();
    }
}

// Catches: a record that reads back differently, and foreign bytes taken for a lease.
#[test]
fn records_round_trip() {
    let record = LeaseRecord {
        id: LeaseId(0x1234),
        ttl: 60,
        remaining: 7,
    };
    let key = LeaseRecord::key(record.id);
    assert_eq!(LeaseRecord::decode(&key, &record.encode()), Some(record));
    assert_eq!(
        LeaseRecord::decode(&LeaseRecord::key(LeaseId(9)), &record.encode()),
        None
    );
    assert_eq!(LeaseRecord::decode(&key, b"\x08"), None);
    assert_eq!(LeaseRecord::decode(b"short", b""), None);
    let entry = attachment(LeaseId(258), b"key");
    assert_eq!(entry, b"\0\0\0\0\0\0\x01\x02key");
    assert_eq!(split_attachment(&entry), Some((LeaseId(258), &b"key"[..])));
    assert_eq!(split_attachment(b"1234567"), None);
    assert_eq!(lease_id_from(0), LeaseId(1));
    assert_eq!(lease_id_from(u64::MAX), LeaseId(i64::MAX));
}
