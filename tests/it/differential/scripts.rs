//! Pure. Comparisons written by hand, each for servers that are fresh: what chance would rarely
//! hit, what must happen in one order, and what would spoil a random run.

use ringbolt::bench::message::Message;

use super::step::{Kind, Step};

/// Name and steps.
pub struct Script(pub &'static str, pub fn() -> Vec<Step>);

pub const SCRIPTS: [Script; 10] = [
    Script("compact_zero", compact_zero),
    Script("changed_twice", changed_twice),
    Script("compacted_watch", compacted_watch),
    Script("future_watch", future_watch),
    Script("watch_ids", watch_ids),
    Script("fragments", fragments),
    Script("huge_keys", huge_keys),
    Script("alarms", alarms),
    Script("nested_deeply", nested_deeply),
    Script("odd_leases", odd_leases),
];

fn step(kind: Kind, request: Message) -> Step {
    Step {
        kind,
        request: request.into_bytes(),
    }
}

fn put(key: &[u8], value: &[u8]) -> Message {
    Message::new().bytes(1, key).bytes(2, value)
}

fn delete(key: &[u8], end: &[u8]) -> Message {
    Message::new().bytes(1, key).bytes(2, end).flag(3, true)
}

fn compact(revision: i64) -> Step {
    let request = Message::new().int(1, revision).flag(2, true);
    step(Kind::Compact, request)
}

fn hash(revision: i64) -> Step {
    step(Kind::HashKv, Message::new().int(1, revision))
}

fn range_all() -> Message {
    Message::new().bytes(1, b"\0").bytes(2, b"\0")
}

fn everything() -> Step {
    step(Kind::Range, range_all())
}

fn put_op(key: &[u8], value: &[u8]) -> Message {
    Message::new().nested(2, &put(key, value).flag(4, true))
}

fn delete_op(key: &[u8], end: &[u8]) -> Message {
    Message::new().nested(3, &delete(key, end))
}

fn txn_op(txn: &Message) -> Message {
    Message::new().nested(4, txn)
}

/// A transaction without compares.
fn then(ops: &[Message]) -> Message {
    let txn = Message::new();
    ops.iter().fold(txn, |txn, op| txn.nested(2, op))
}

fn watches(creates: &[Message]) -> Message {
    let create = |all: Message, one| all.nested(1, &Message::new().nested(1, one));
    creates.iter().fold(Message::new(), create)
}

fn cancel(id: i64) -> Step {
    let cancel = Message::new().int(1, id);
    let request = Message::new().nested(1, &Message::new().nested(2, &cancel));
    step(Kind::WatchMore, request)
}

fn sync(revision: i64) -> Step {
    step(Kind::WatchSync, Message::new().int(1, revision))
}

/// Waits until the server cancelled every watch.
fn outlive() -> Step {
    step(Kind::WatchSync, Message::new().flag(2, true))
}

fn progress() -> Step {
    step(Kind::WatchProgress, Message::new())
}

fn close() -> Step {
    step(Kind::WatchClose, Message::new())
}

/// A store that was never compacted, asked to compact to revisions that it never had.
fn compact_zero() -> Vec<Step> {
    let mut steps = vec![
        hash(0),
        compact(-1),
        hash(0),
        compact(0),
        hash(0),
        compact(0),
    ];
    steps.extend([compact(-1), compact(2), everything(), hash(0)]);
    steps.push(step(Kind::Range, range_all().int(4, 1)));
    for n in 0..4 {
        steps.push(step(Kind::Put, put(b"a", &[b'0' + n])));
        steps.extend([hash(0), hash(-1), hash(1), hash(2), compact(0)]);
    }
    steps.extend([compact(1), hash(0), hash(1), compact(1), compact(0)]);
    steps.extend([compact(3), hash(0), hash(1), hash(3), hash(4)]);
    steps
}

/// Transactions that change a key twice: which of them are refused, and what the others leave for
/// readers and watchers. A compaction at exactly such a revision is not asked for: etcd then loses
/// a key that was deleted before it was put, and ends when it is read.
fn changed_twice() -> Vec<Step> {
    let txns = [
        // From key, above and below the put.
        then(&[put_op(b"b", b"1"), delete_op(b"a", b"\0")]),
        then(&[delete_op(b"a", b"\0"), put_op(b"b", b"2")]),
        then(&[delete_op(b"b", b"\0"), put_op(b"b", b"3")]),
        then(&[
            delete_op(b"\0", b"\0"),
            put_op(b"b", b"4"),
            put_op(b"c", b"4"),
        ]),
        then(&[
            put_op(b"b", b"5"),
            delete_op(b"b", b"\0"),
            put_op(b"a", b"5"),
        ]),
        // An end that is no longer "from key", and one that is before its key.
        then(&[delete_op(b"a", b"\0\0"), put_op(b"b", b"6")]),
        then(&[delete_op(b"a", b"c"), put_op(b"b", b"7")]),
        then(&[delete_op(b"c", b"a"), put_op(b"b", b"8")]),
        then(&[put_op(b"b", b"9"), put_op(b"b", b"9")]),
        // Nested: below a put, above one, beside one.
        then(&[put_op(b"b", b"10"), txn_op(&then(&[delete_op(b"b", b"")]))]),
        then(&[txn_op(&then(&[delete_op(b"b", b"")])), put_op(b"b", b"11")]),
        then(&[txn_op(&then(&[delete_op(b"a", b"c")])), put_op(b"b", b"12")]),
        then(&[
            txn_op(&then(&[delete_op(b"a", b"\0")])),
            put_op(b"b", b"13"),
        ]),
        then(&[delete_op(b"b", b""), txn_op(&then(&[put_op(b"b", b"14")]))]),
        then(&[
            delete_op(b"a", b"\0"),
            txn_op(&then(&[put_op(b"b", b"15")])),
        ]),
        then(&[
            txn_op(&then(&[put_op(b"b", b"16")])),
            txn_op(&then(&[delete_op(b"b", b"")])),
        ]),
        then(&[
            txn_op(&then(&[delete_op(b"b", b"")])),
            txn_op(&then(&[put_op(b"b", b"17")])),
        ]),
        then(&[
            txn_op(&then(&[delete_op(b"a", b"\0")])),
            txn_op(&then(&[put_op(b"b", b"18"), put_op(b"c", b"18")])),
        ]),
        then(&[
            txn_op(&then(&[put_op(b"b", b"19")])),
            txn_op(&then(&[delete_op(b"a", b"c")])),
            put_op(b"c", b"19"),
        ]),
        // Three changes.
        then(&[
            delete_op(b"a", b"\0"),
            put_op(b"b", b"20"),
            delete_op(b"b", b"\0"),
        ]),
        then(&[
            txn_op(&then(&[put_op(b"b", b"21")])),
            txn_op(&then(&[delete_op(b"b", b"")])),
            put_op(b"b", b"21"),
        ]),
    ];
    let all = Message::new().bytes(1, b"\0").bytes(2, b"\0").flag(6, true);
    let mut steps = vec![step(Kind::Put, put(b"b", b"before"))];
    steps.push(step(Kind::WatchOpen, watches(std::slice::from_ref(&all))));
    for txn in txns {
        steps.push(step(Kind::Txn, txn));
        steps.extend([everything(), hash(0)]);
        steps.push(step(Kind::Put, put(b"b", b"between")));
    }
    steps.extend([progress(), close()]);
    // The same from the log.
    for revision in 1..20 {
        steps.push(step(Kind::Range, range_all().int(4, revision)));
        steps.push(hash(revision));
    }
    steps.push(step(Kind::WatchOpen, watches(&[all.clone().int(3, 1)])));
    steps.push(step(
        Kind::WatchMore,
        watches(&[all.int(3, 5).int_present(5, 0)]),
    ));
    steps.extend([step(Kind::Put, put(b"b", b"on")), sync(38), close()]);
    // Behind the twice changed revisions, which must not trouble a compaction later on.
    steps.extend([compact(20), hash(0), everything()]);
    steps
}

/// A watch that a compaction ended: what its stream answers from then on.
fn compacted_watch() -> Vec<Step> {
    let mut steps = Vec::new();
    for n in 0..6 {
        steps.push(step(Kind::Put, put(b"a", &[b'0' + n])));
    }
    let on = |start: i64| Message::new().bytes(1, b"a").int(3, start);
    let more = |creates: &[Message]| step(Kind::WatchMore, watches(creates));
    steps.extend([compact(5), step(Kind::WatchOpen, watches(&[on(2)]))]);
    steps.extend([outlive(), progress(), progress()]);
    // Its id stays taken; the server picks the next one.
    steps.extend([more(&[on(0), on(0).int(7, 1)]), progress()]);
    steps.extend([cancel(1), progress()]);
    // Canceled by the client as well: then it is gone, once.
    steps.extend([cancel(0), progress(), cancel(0), progress()]);
    steps.extend([more(&[on(0), on(0)]), progress(), close()]);
    // Beside one that lives, and with an id of the client's choice, which can be used again.
    let doomed = on(3).int(7, 5);
    steps.push(step(Kind::WatchOpen, watches(&[on(0), doomed.clone()])));
    steps.extend([cancel(0), outlive(), progress()]);
    steps.extend([more(&[on(0), on(0).int(7, 5)]), progress()]);
    steps.extend([cancel(5), progress(), more(&[on(0).int(7, 5)]), progress()]);
    steps.extend([more(&[on(0)]), cancel(5), progress(), close()]);
    // Id 0, which means that the server picks.
    steps.push(step(Kind::WatchOpen, watches(&[doomed, on(2), on(1)])));
    steps.extend([outlive(), cancel(0), more(&[on(0)]), progress()]);
    steps.extend([cancel(5), cancel(1), progress(), more(&[on(0)]), progress()]);
    steps.push(close());
    steps
}

/// Watches that start at a revision that is not there yet, asked for progress before, at and after
/// it.
fn future_watch() -> Vec<Step> {
    let mut steps = vec![step(Kind::Put, put(b"a", b"first"))];
    let on = |key: &[u8], start: i64| Message::new().bytes(1, key).int(3, start);
    let mut revision = 2;
    for ahead in 1..8 {
        for key in [&b"a"[..], b"other", b"\x01"] {
            let start = revision + ahead;
            steps.push(step(Kind::WatchOpen, watches(&[on(key, start)])));
            // The put of a progress step may be the one that reaches the start.
            steps.extend([progress(), progress()]);
            steps.push(step(Kind::Put, put(b"a", b"on")));
            steps.extend([progress(), progress(), close()]);
            revision += 5;
        }
    }
    steps
}

/// Ids of the client's choice that are not small.
fn watch_ids() -> Vec<Step> {
    let mut steps = vec![step(Kind::Put, put(b"a", b"first"))];
    let ids = [-1, -5, i64::MIN, i64::MAX, 3, 0, -5, 1 << 31];
    let on = |id: i64| Message::new().bytes(1, b"a").int(7, id);
    let creates: Vec<Message> = ids.into_iter().map(on).collect();
    steps.push(step(Kind::WatchOpen, watches(&creates)));
    steps.extend([step(Kind::Put, put(b"a", b"on")), progress()]);
    for id in ids {
        steps.extend([cancel(id), step(Kind::Put, put(b"a", b"on")), progress()]);
    }
    steps.push(step(Kind::WatchMore, watches(&creates)));
    steps.extend([step(Kind::Put, put(b"a", b"on")), progress(), close()]);
    steps
}

/// Events of one revision that are more than one answer may hold, with and without leave to split
/// them.
fn fragments() -> Vec<Step> {
    let large = |size: usize| {
        let value = vec![b'f'; size];
        then(&[b"a", b"b", b"c", b"d"].map(|key| put_op(key, &value)))
    };
    let on = |fragment: bool, previous: bool| {
        let create = Message::new().bytes(1, b"a").bytes(2, b"z");
        create.flag(6, previous).flag(8, fragment)
    };
    let creates = [on(true, true), on(true, false), on(false, true)];
    let mut steps = vec![step(Kind::WatchOpen, watches(&creates))];
    // A stream that is full for a moment answers no progress request: so they are repeated.
    let mut revision = 1;
    let mut settled = |change: Step| {
        revision += 2;
        let put = step(Kind::Put, put(b"\x01", b"on"));
        [change, put, sync(revision)]
    };
    for size in [300_000, 340_000, 380_000, 380_000, 10] {
        steps.extend(settled(step(Kind::Txn, large(size))));
    }
    steps.extend(settled(step(Kind::DeleteRange, delete(b"a", b"z"))));
    steps.push(close());
    steps
}

/// Keys far larger than a page.
fn huge_keys() -> Vec<Step> {
    let sizes = [4_000, 5_000, 40_000, 70_000, 300_000, 1_500_000, 1_572_800];
    let key = |size: usize| vec![b'k'; size];
    let mut steps = vec![step(
        Kind::LeaseGrant,
        Message::new().int(1, 1_000_000).int(2, 9),
    )];
    let all = Message::new().bytes(1, b"\0").bytes(2, b"\0").flag(6, true);
    steps.push(step(Kind::WatchOpen, watches(&[all])));
    for size in sizes {
        steps.push(step(Kind::Put, put(&key(size), b"v").int(3, 9)));
        steps.push(step(Kind::Put, put(&key(size), b"again").flag(4, true)));
        steps.push(step(Kind::Range, Message::new().bytes(1, &key(size))));
        steps.push(step(Kind::Txn, then(&[put_op(&key(size - 1), b"t")])));
    }
    steps.push(step(Kind::Range, range_all().flag(8, true)));
    steps.push(step(Kind::Range, range_all().int(3, 2)));
    steps.push(step(Kind::RangeStream, range_all()));
    steps.extend([hash(0), progress(), close(), compact(12), hash(0)]);
    steps.push(step(Kind::Restart, Message::new()));
    steps.extend([hash(0), everything()]);
    steps.push(step(Kind::Put, put(&key(70_000), b"v").int(3, 9)));
    let keys = Message::new().int(1, 9).flag(2, true);
    steps.push(step(Kind::LeaseTimeToLive, keys));
    steps.push(step(Kind::LeaseRevoke, Message::new().int(1, 9)));
    steps.push(step(Kind::DeleteRange, delete(&key(5_000), b"\0")));
    steps.extend([compact(20), hash(0), everything()]);
    steps
}

/// What each alarm stops.
fn alarms() -> Vec<Step> {
    let alarm = |action: i64, member: i64, kind: i64| {
        let request = Message::new().int(1, action).int(2, member);
        step(Kind::Alarm, request.int(3, kind))
    };
    let range = || Message::new().bytes(1, b"a");
    let range_op = Message::new().nested(1, &range());
    let mut steps = vec![step(Kind::Put, put(b"a", b"first"))];
    let grant = |id: i64| {
        step(
            Kind::LeaseGrant,
            Message::new().int(1, 1_000_000).int(2, id),
        )
    };
    let id = |id: i64| Message::new().int(1, id);
    steps.extend([grant(1), grant(2)]);
    let mut tried = 3;
    for kind in [1, 2, 0] {
        steps.push(alarm(1, 7, kind));
        for _ in 0..2 {
            tried += 1;
            steps.extend([alarm(0, 0, 0), alarm(0, 0, kind), alarm(0, 0, 3)]);
            steps.push(step(Kind::Put, put(b"a", b"x")));
            steps.push(step(Kind::Put, put(b"", b"x")));
            steps.push(step(Kind::Put, put(b"a", b"x").int(3, 99)));
            steps.push(step(Kind::Range, range()));
            steps.push(step(Kind::Range, range().flag(7, true)));
            steps.push(step(Kind::RangeStream, range()));
            steps.push(step(Kind::DeleteRange, delete(b"b", b"")));
            steps.push(step(Kind::Txn, then(&[])));
            steps.push(step(Kind::Txn, then(std::slice::from_ref(&range_op))));
            steps.push(step(Kind::Txn, then(&[put_op(b"a", b"t")])));
            steps.push(step(Kind::Txn, then(&[delete_op(b"b", b"")])));
            let nested = then(&[put_op(b"a", b"n")]);
            steps.push(step(Kind::Txn, then(&[txn_op(&nested)])));
            let skipped = Message::new().nested(3, &put_op(b"a", b"f"));
            steps.push(step(Kind::Txn, skipped));
            steps.push(grant(tried));
            steps.push(step(Kind::LeaseTimeToLive, id(1).flag(2, true)));
            steps.push(step(Kind::LeaseLeases, Message::new()));
            steps.push(step(Kind::LeaseKeepAlive, id(1)));
            steps.push(step(Kind::LeaseRevoke, id(tried)));
            steps.push(step(Kind::LeaseRevoke, id(77)));
            steps.push(step(Kind::Compact, id(1)));
            steps.extend([hash(0), alarm(2, 8, kind), alarm(2, 7, kind)]);
        }
    }
    steps
}

/// Transactions in transactions. Deeper ones are known to differ (docs/decisions/005).
fn nested_deeply() -> Vec<Step> {
    let nested = |depth: usize| {
        let bottom = then(&[put_op(b"deep", b"v")]);
        (0..depth).fold(bottom, |txn, _| then(&[txn_op(&txn)]))
    };
    [1, 10, 40, 45, 49]
        .map(|depth| step(Kind::Txn, nested(depth)))
        .to_vec()
}

/// Times to live at the edges; what expires soon is not asked for again.
fn odd_leases() -> Vec<Step> {
    let grant = |ttl: i64, id: i64| step(Kind::LeaseGrant, Message::new().int(1, ttl).int(2, id));
    let mut steps = Vec::new();
    for (n, ttl) in [9_000_000_000, 9_000_000_001, i64::MAX, i64::MIN + 1]
        .into_iter()
        .enumerate()
    {
        steps.push(grant(ttl, 10 + n as i64));
        let facts = Message::new().int(1, 10 + n as i64).flag(2, true);
        if ttl > 0 {
            steps.push(step(Kind::LeaseTimeToLive, facts));
        }
    }
    for (n, ttl) in [0, -1, 1, 2, 3].into_iter().enumerate() {
        steps.push(grant(ttl, 20 + n as i64));
    }
    for id in [0, -1, i64::MIN, 404] {
        for kind in [
            Kind::LeaseTimeToLive,
            Kind::LeaseRevoke,
            Kind::LeaseKeepAlive,
        ] {
            steps.push(step(kind, Message::new().int(1, id)));
        }
        steps.push(step(Kind::Put, put(b"a", b"v").int(3, id)));
    }
    steps
}
