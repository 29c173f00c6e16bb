//! Driver. The plain life: open, write, read, stop, open again.

use super::rig::{NODE, Rig};
use crate::apply::Kind;
use crate::group::{Answer, Query};
use std::time::Duration;

// Would catch: a put that costs two writes or none, or is answered before its write is durable; a
// linearizable read that does not see it.
#[test]
fn a_lone_put_is_one_durable_write() {
    let mut rig = Rig::quiet(1).opened();
    rig.view();
    rig.run_for(Duration::from_millis(300));
    let before = rig.life().log.stats().counters;
    let ticket = rig.propose_put("key", b"value", 0);
    while !rig.is_answered(ticket) {
        let written = rig.life().log.stats().counters.batches;
        rig.run_for(Duration::from_micros(1));
        let at_once = rig.is_answered(ticket);
        assert!(!at_once || rig.life().log.stats().counters.batches > before.batches);
        assert!(written <= before.batches + 1);
    }
    let (result, stamp) = rig.applied(ticket);
    assert_eq!(result.unwrap().revision(), 2);
    assert_eq!(stamp.revision, 2);
    rig.run_for(Duration::from_secs(2));
    let after = rig.life().log.stats().counters;
    assert_eq!(after.batches, before.batches + 1);
    assert_eq!(rig.value("key").as_deref(), Some(&b"value"[..]));
    let (view, _) = rig.life().group.view_now().expect("this member leads");
    assert_eq!(view.revision(), 2);
}

// Would catch: puts of one turn that each pay for a write of their own.
#[test]
fn a_burst_shares_its_writes() {
    let mut rig = Rig::quiet(2).opened();
    rig.put("first", b"");
    let before = rig.life().log.stats().counters;
    let tickets: Vec<_> = (0..500)
        .map(|n| rig.propose_put(&format!("k{n}"), b"v", 0))
        .collect();
    for (n, ticket) in tickets.into_iter().enumerate() {
        let revision = rig.applied(ticket).0.unwrap().revision();
        assert_eq!(revision, 3 + n as i64, "in the order of their arrival");
    }
    let batches = rig.life().log.stats().counters.batches - before.batches;
    assert!(batches <= 2, "{batches} writes");
}

// Would catch: a term that stays over a restart (two leaders of one term), work left for the next
// start by a clean stop, a state that differs after it.
#[test]
fn terms_grow_and_a_clean_stop_leaves_nothing_to_replay() {
    let mut rig = Rig::new(3).opened();
    let mut term = 0;
    for life in 0..6 {
        let (view, stamp) = rig.view();
        assert!(stamp.term.0 > term, "term {} after {term}", stamp.term);
        term = stamp.term.0;
        assert_eq!(view.revision(), 1 + 20 * life);
        for n in 0..20 {
            rig.put(&format!("k{n}"), format!("{life}").as_bytes());
        }
        match life % 2 {
            0 => {
                rig.stop();
                rig.open().unwrap();
                assert_eq!(rig.life().entries_behind, 0, "all of it is in the tree");
                let applied = rig.life().tree_index;
                assert!(applied > 0);
            }
            _ => rig.restart(),
        }
    }
}

// Would catch: a clean stop right behind acknowledged writes, or behind writes under way, that
// forgets a ticket, or leaves a durable entry out of the tree.
#[test]
fn a_stop_answers_everybody() {
    for seed in 0..100 {
        let mut rig = Rig::new(seed).opened();
        rig.put("first", b"");
        let tickets: Vec<_> = (0..seed % 7)
            .map(|n| rig.propose_put(&format!("k{n}"), b"v", 0))
            .collect();
        rig.run_for(Duration::from_micros(seed * 3));
        let outlet = std::rc::Rc::clone(&rig.life().outlet);
        rig.stop();
        let answered = tickets.iter().filter(|t| outlet.is_settled(**t)).count();
        assert_eq!(answered, tickets.len(), "seed {seed}");
        rig.open().unwrap();
        assert_eq!(rig.life().entries_behind, 0, "seed {seed}");
        let (view, _) = rig.view();
        assert_eq!(view.revision(), 2 + tickets.len() as i64, "seed {seed}");
    }
}

// Would catch: a request that the log can never take and that stops the whole group.
#[test]
fn a_request_too_large_for_the_log_is_refused_alone() {
    let mut rig = Rig::quiet(4);
    rig.options.request_bytes_max = 64 << 20;
    let mut rig = rig.opened();
    for size in [900 << 10, 1 << 20, 3 << 20] {
        let ticket = rig.propose_put("large", &vec![7; size], 0);
        match rig.wait(ticket) {
            Answer::Applied(Ok(_), _) => assert!(size < 1 << 20),
            Answer::Refused(refusal) => {
                assert_eq!(refusal, crate::group::Refusal::TooLarge, "{size}");
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(rig.failure(), None);
    rig.put("key", b"value");
}

// Would catch: a view that misses writes answered before it was asked for, an early query of a
// fresh leader that is lost or answered from the state before the replay.
#[test]
fn early_queries_wait_for_the_replay() {
    let mut rig = Rig::quiet(5).opened();
    for n in 0..600 {
        let ticket = rig.propose_put("k", format!("{n}").as_bytes(), 0);
        if n == 599 {
            rig.applied(ticket).0.unwrap();
        }
    }
    rig.restart();
    assert!(rig.life().entries_behind >= 600);
    assert!(
        rig.life().group.view_now().is_none(),
        "nothing is applied yet"
    );
    let tickets = [
        rig.ask(Query::View { linearizable: true }),
        rig.ask(Query::View {
            linearizable: false,
        }),
        rig.ask(Query::Leases),
        rig.ask(Query::Alarms),
        rig.ask(Query::Status),
    ];
    let [linearizable, serializable, leases, alarms, status] = tickets.map(|t| rig.wait(t));
    assert!(matches!(linearizable, Answer::View(view, _) if view.revision() == 601));
    assert!(matches!(serializable, Answer::View(view, _) if view.revision() <= 601));
    assert!(matches!(leases, Answer::Leases(ids, _) if ids.is_empty()));
    assert!(matches!(alarms, Answer::Alarms(raised, _) if raised.is_empty()));
    assert!(matches!(status, Answer::Status(_)));
}

// Would catch: a failed guard, a wrong revision or a lost change of a transaction on its way
// through the log.
#[test]
fn a_transaction_through_the_log() {
    use super::rig::{delete_request, op, put_request};
    use crate::pb::etcdserverpb::TxnRequest;
    use crate::pb::etcdserverpb::request_op::Request;
    let mut rig = Rig::new(6).opened();
    rig.put("old", b"1");
    let request = TxnRequest {
        success: vec![
            op(Request::RequestPut(put_request("new", b"2", 0))),
            op(Request::RequestDeleteRange(delete_request("old", ""))),
        ],
        ..TxnRequest::default()
    };
    let ticket = rig.propose(Kind::Txn, &request, 600);
    assert_eq!(rig.applied(ticket).0.unwrap().revision(), 3);
    rig.restart();
    assert_eq!(rig.value("old"), None);
    assert_eq!(rig.value("new").as_deref(), Some(&b"2"[..]));
    rig.world.faults(NODE, |disk| assert!(disk.steps() > 0));
}

// Would catch: a log that keeps what the tree file has, start after start, because the power went
// between a tree commit and the mark behind it.
#[test]
fn a_start_lets_go_what_the_tree_has() {
    let mut rig = Rig::quiet(5).opened();
    for n in 0..20 {
        rig.put(&format!("key/{n}"), b"value");
    }
    rig.commit();
    rig.restart();
    assert!(
        rig.life().entries_behind >= 20,
        "no batch took the mark along"
    );
    rig.run_for(Duration::from_millis(50));
    rig.restart();
    assert!(
        rig.life().entries_behind <= 2,
        "{}",
        rig.life().entries_behind
    );
    assert!(rig.value("key/7").is_some());
}
