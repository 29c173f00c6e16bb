//! Pure. Draws the requests of a comparison. Few keys, so that everything meets everything: keys of
//! one to three bytes out of 0x00, `a`, `b` and 0xff.

use std::collections::{BTreeSet, VecDeque};

use ringbolt::bench::message::{Message, prefix_end};

use super::outcome::Outcome;
use super::overlap;
use super::step::{Kind, Step};
use crate::rng::Rng;

/// Leases are never meant to expire here: seconds, far apart, so that their order is certain.
const LEASE_TTL: i64 = 1_000_000;
const LEASE_IDS: u64 = 6;
const WATCHES_PER_STREAM: u64 = 6;
const TXN_OPS_MAX: u64 = 128;
const TXN_DEPTH: u32 = 3;
/// etcd's default request limit, and what its transport adds.
const REQUEST_BYTES_MAX: usize = 1_572_864;
const TRANSPORT_EXTRA: usize = 512 << 10;

pub struct Drawer {
    rng: Rng,
    queue: VecDeque<Step>,
    /// As the answers told.
    revision: i64,
    compacted: i64,
    compactions: BTreeSet<i64>,
    watching: bool,
    /// The largest start revision of an open watch: no progress answer before it is reached.
    watch_start_max: i64,
    grants: i64,
}

impl Drawer {
    pub fn new(seed: u64) -> Drawer {
        let mut drawer = Drawer {
            rng: Rng::new(seed),
            queue: VecDeque::new(),
            revision: 1,
            compacted: -1,
            compactions: BTreeSet::new(),
            watching: false,
            watch_start_max: 0,
            grants: 0,
        };
        drawer.queue.extend(edges());
        drawer
    }

    pub fn next(&mut self) -> Step {
        if self.queue.is_empty() {
            self.draw();
        }
        self.queue
            .pop_front()
            .expect("draw queues at least one step")
    }

    /// Learns from the answer that etcd gave.
    pub fn observe(&mut self, step: &Step, outcome: &Outcome) {
        if outcome.code != 0 || step.kind.is_watch() {
            return;
        }
        self.revision = self.revision.max(outcome.header_revision());
        if step.kind == Kind::Compact {
            self.compacted = ringbolt::bench::message::int(&step.request, 1);
            self.compactions.insert(self.compacted);
        }
    }

    fn push(&mut self, kind: Kind, request: Message) {
        self.queue.push_back(Step {
            kind,
            request: request.into_bytes(),
        });
    }

    fn draw(&mut self) {
        match self.rng.below(100) {
            0..28 => {
                let put = self.put();
                self.push(Kind::Put, put);
            }
            28..48 => {
                let range = self.range(true);
                self.push(Kind::Range, range);
            }
            48..66 => {
                let txn = loop {
                    let txn = self.txn(0);
                    if !overlap::breaks_etcd(txn.as_bytes()) {
                        break txn;
                    }
                };
                self.push(Kind::Txn, txn);
            }
            66..74 => {
                let delete = self.delete();
                self.push(Kind::DeleteRange, delete);
            }
            74..79 => {
                let range = self.range(false);
                // A target with an order is refused. A target alone is not drawn: etcd sorts each
                // chunk by itself and goes on behind its last key, which skips and repeats keys.
                let range = match self.rng.one_in(8) {
                    true => range.int(5, 2).int(6, 3),
                    false => range,
                };
                self.push(Kind::RangeStream, range);
            }
            79..82 => self.hash(),
            82..90 => self.lease(),
            90..96 => self.watch(),
            96..98 => self.compact(),
            98 => self.wide_txn(),
            _ => {
                let kind = self.rng.pick(&[
                    Kind::Alarm,
                    Kind::AuthStatus,
                    Kind::UnknownMethod,
                    Kind::UnknownService,
                    Kind::LeaseLeases,
                    Kind::Defragment,
                ]);
                self.push(kind, Message::new());
            }
        }
    }

    fn key(&mut self) -> Vec<u8> {
        if self.rng.one_in(60) {
            return Vec::new();
        }
        let size = self.rng.pick(&[1, 1, 2, 2, 2, 3]);
        (0..size).map(|_| self.rng.pick(b"\0ab\xff")).collect()
    }

    /// A key and the end of its range: one key, a prefix, "from", "all", or any other end.
    fn interval(&mut self) -> (Vec<u8>, Vec<u8>) {
        let key = self.key();
        let end = match self.rng.below(10) {
            0..3 => Vec::new(),
            3..6 => prefix_end(&key),
            6 => vec![0],
            7 => return (vec![0], vec![0]),
            8 => key.clone(),
            _ => self.key(),
        };
        (key, end)
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.below(12) {
            0 => Vec::new(),
            1 => vec![0xff, 0, 0xff],
            2 => vec![b'v'; self.rng.below(700) as usize],
            _ => vec![b'0' + self.rng.below(5) as u8],
        }
    }

    fn some_revision(&mut self) -> i64 {
        match self.rng.below(12) {
            0 => -1,
            1 => self.compacted - 1,
            2 => self.compacted,
            3 => self.compacted + 1,
            4 => self.revision,
            5 => self.revision + 1,
            6 => self.revision + 1_000,
            7 => self.rng.below(self.revision as u64) as i64,
            _ => self.revision - self.rng.below(15) as i64,
        }
    }

    fn lease_id(&mut self) -> i64 {
        1 + self.rng.below(LEASE_IDS) as i64
    }

    fn put(&mut self) -> Message {
        let mut put = Message::new().bytes(1, &self.key());
        match self.rng.below(12) {
            0 => put = put.flag(5, true),
            1 => put = put.bytes(2, b"x").flag(5, true),
            _ => put = put.bytes(2, &self.value()),
        }
        match self.rng.below(12) {
            0..2 => put = put.int(3, self.lease_id()),
            2 => put = put.flag(6, true),
            3 => put = put.int(3, self.lease_id()).flag(6, true),
            _ => {}
        }
        put.flag(4, self.rng.one_in(3))
    }

    fn range(&mut self, top: bool) -> Message {
        let (key, end) = self.interval();
        let mut range = Message::new().bytes(1, &key).bytes(2, &end);
        if self.rng.one_in(3) {
            range = range.int(3, self.rng.pick(&[1, 2, 3, 5, 50, -1]));
        }
        if self.rng.one_in(4) {
            range = range.int(4, self.some_revision());
        }
        // Inside a txn only by key: what a sort does with equals is not compared there.
        if self.rng.one_in(5) {
            range = range.int(5, self.rng.pick(&[0, 1, 2, 2, 1, 7]));
            if top {
                range = range.int(6, self.rng.pick(&[0, 0, 1, 2, 3, 4, 9]));
            }
        }
        range = range
            .flag(7, self.rng.one_in(5))
            .flag(8, self.rng.one_in(6));
        range = range.flag(9, self.rng.one_in(8));
        if self.rng.one_in(8) {
            let filter = 10 + self.rng.below(4) as u32;
            range = range.int(filter, self.some_revision());
        }
        range
    }

    fn delete(&mut self) -> Message {
        let (key, end) = self.interval();
        // Deletes of everything are rare, or there would be nothing left to look at.
        let end = if end == [0] && !self.rng.one_in(5) {
            Vec::new()
        } else {
            end
        };
        Message::new()
            .bytes(1, &key)
            .bytes(2, &end)
            .flag(3, self.rng.one_in(2))
    }

    fn compare(&mut self) -> Message {
        let key = self.key();
        let target = self.rng.below(5) as i64;
        let mut compare = Message::new()
            .int(1, self.rng.below(4) as i64)
            .int(2, target);
        compare = compare.bytes(3, &key);
        // An absent value is a case of its own: the server compares with 0 then.
        if !self.rng.one_in(20) {
            let number = match target {
                0 => self.rng.below(4) as i64,
                4 => self.rng.below(LEASE_IDS + 1) as i64,
                _ if self.rng.one_in(3) => 0,
                _ => self.revision - self.rng.below(30) as i64,
            };
            compare = match target {
                0 => compare.int_present(4, number),
                1 => compare.int_present(5, number),
                2 => compare.int_present(6, number),
                3 => compare.bytes_present(7, &self.value()),
                _ => compare.int_present(8, number),
            };
        }
        if self.rng.one_in(4) {
            compare = compare.bytes(64, &prefix_end(&key));
        }
        compare
    }

    fn op(&mut self, depth: u32) -> Message {
        match self.rng.below(20) {
            0..7 => Message::new().nested(1, &self.range(false)),
            7..15 => Message::new().nested(2, &self.put()),
            15..18 => Message::new().nested(3, &self.delete()),
            18 if self.rng.one_in(5) => Message::new(),
            _ if depth < TXN_DEPTH => Message::new().nested(4, &self.txn(depth + 1)),
            _ => Message::new().nested(1, &self.range(false)),
        }
    }

    fn txn(&mut self, depth: u32) -> Message {
        let mut txn = Message::new();
        // Mostly few and easy compares, so that both branches are taken.
        for _ in 0..self.rng.pick(&[0, 1, 1, 2]) {
            txn = txn.nested(1, &self.compare());
        }
        for branch in [2, 3] {
            for _ in 0..self.rng.below(4) {
                txn = txn.nested(branch, &self.op(depth));
            }
        }
        txn
    }

    /// A txn at or just above the limit of operations, which nested ones share.
    fn wide_txn(&mut self) {
        let inner = self.rng.below(4);
        let outer = TXN_OPS_MAX - inner + self.rng.below(2);
        let range = Message::new().nested(1, &Message::new().bytes(1, b"a").flag(9, true));
        let mut txn = Message::new();
        for _ in 0..outer {
            txn = txn.nested(2, &range);
        }
        let mut nested = Message::new();
        for _ in 0..=inner {
            nested = nested.nested(2, &range);
        }
        self.push(Kind::Txn, txn.nested(3, &Message::new().nested(4, &nested)));
    }

    fn hash(&mut self) {
        let mut revision = if self.rng.one_in(2) {
            0
        } else {
            self.some_revision()
        };
        // etcd keeps the hash that a compaction made, and answers from it or makes a new one by
        // whether that compaction is done: at just these revisions two etcds differ.
        while self.compactions.contains(&revision) {
            revision += 1;
        }
        self.push(Kind::HashKv, Message::new().int(1, revision));
    }

    fn lease(&mut self) {
        let id = self.lease_id();
        match self.rng.below(10) {
            0..4 => {
                self.grants += 1;
                let ttl = match self.rng.below(12) {
                    0 => 9_000_000_001,
                    _ => LEASE_TTL + 1_000 * self.grants,
                };
                self.push(Kind::LeaseGrant, Message::new().int(1, ttl).int(2, id));
            }
            4..6 => self.push(Kind::LeaseRevoke, Message::new().int(1, id)),
            6..8 => {
                let keys = !self.rng.one_in(3);
                self.push(
                    Kind::LeaseTimeToLive,
                    Message::new().int(1, id).flag(2, keys),
                );
            }
            8 => self.push(Kind::LeaseKeepAlive, Message::new().int(1, id)),
            _ => self.push(Kind::LeaseLeases, Message::new()),
        }
    }

    fn compact(&mut self) {
        // A watch that still catches up would lose or keep its past by chance.
        self.sync_watch();
        let revision = match self.rng.below(4) {
            0 => self.some_revision(),
            _ => self.revision - self.rng.below(30) as i64,
        };
        if self.rng.one_in(2) {
            self.push(Kind::Compact, Message::new().int(1, revision));
            self.push(
                Kind::Put,
                Message::new().bytes(1, b"a").bytes(2, b"compacted"),
            );
            self.push(
                Kind::Compact,
                Message::new().int(1, revision + 1).flag(2, true),
            );
        } else {
            self.push(Kind::Compact, Message::new().int(1, revision).flag(2, true));
        }
        self.push(Kind::HashKv, Message::new());
    }

    fn watch(&mut self) {
        if !self.watching {
            self.watching = true;
            self.watch_start_max = 0;
            let doomed = self.compacted > 1 && self.rng.one_in(6);
            let mut request = Message::new();
            for _ in 0..1 + self.rng.below(WATCHES_PER_STREAM) {
                request = request.nested(1, &self.watch_create(doomed));
            }
            self.push(Kind::WatchOpen, request);
            if doomed {
                // Once a watch has met compaction, etcd answers no progress request on its stream
                // any more. So these have a stream of their own, and end together.
                self.watching = false;
                self.push(Kind::WatchSync, Message::new().flag(2, true));
                self.push(Kind::WatchClose, Message::new());
            }
            return;
        }
        self.sync_watch();
        match self.rng.below(4) {
            0 => {
                let cancel = Message::new().int(1, self.rng.below(8) as i64);
                let request = Message::new().nested(1, &Message::new().nested(2, &cancel));
                self.push(Kind::WatchMore, request);
            }
            1 => {
                let request = Message::new().nested(1, &self.watch_create(false));
                self.push(Kind::WatchMore, request);
                self.sync_watch();
            }
            2 => {
                self.watching = false;
                self.push(Kind::WatchClose, Message::new());
            }
            _ => {}
        }
    }

    fn watch_create(&mut self, doomed: bool) -> Message {
        let (key, end) = self.interval();
        let oldest = self.compacted.max(1);
        let start = match self.rng.below(8) {
            _ if doomed => 1 + self.rng.below(self.compacted as u64 - 1) as i64,
            0 => -1,
            1 => self.revision + self.rng.below(4) as i64,
            2 => oldest,
            3..6 => (self.revision - self.rng.below(40) as i64).max(oldest),
            _ => 0,
        };
        self.watch_start_max = self.watch_start_max.max(start);
        let mut create = Message::new().bytes(1, &key).bytes(2, &end).int(3, start);
        create = create
            .flag(4, self.rng.one_in(4))
            .flag(6, self.rng.one_in(2));
        if self.rng.one_in(5) {
            create = create.int_present(5, self.rng.below(2) as i64);
        }
        if self.rng.one_in(8) {
            create = create.int(7, self.rng.below(8) as i64);
        }
        Message::new().nested(1, &create.flag(8, self.rng.one_in(4)))
    }

    /// Waits until the open watches have seen everything. At least one put makes the revision new,
    /// so that a late answer to an earlier request cannot pass for this one; more puts reach the
    /// start of watches of the future.
    fn sync_watch(&mut self) {
        if !self.watching {
            return;
        }
        let mut revision = self.revision + self.queued_puts();
        loop {
            self.push(Kind::Put, Message::new().bytes(1, b"a").bytes(2, b"on"));
            revision += 1;
            if revision >= self.watch_start_max {
                break;
            }
        }
        self.push(Kind::WatchSync, Message::new().int(1, revision));
    }

    fn queued_puts(&self) -> i64 {
        self.queue
            .iter()
            .filter(|step| step.kind == Kind::Put)
            .count() as i64
    }
}

/// What chance would rarely hit: asked once, at the start.
fn edges() -> Vec<Step> {
    let step = |kind, request: Message| Step {
        kind,
        request: request.into_bytes(),
    };
    // A compaction to revision 0 of a fresh etcd succeeds and leaves a hash behind that answers
    // HashKV(0) until ten more compactions are done. So the first compaction is to a real revision.
    let mut steps = vec![
        step(Kind::Put, Message::new().bytes(1, b"a").bytes(2, b"first")),
        step(Kind::Compact, Message::new().int(1, 1).flag(2, true)),
    ];
    let empty = Kind::ALL
        .into_iter()
        .filter(|kind| !kind.is_watch() && *kind != Kind::Defragment)
        // An empty LeaseGrant draws a random id, which would stay in one side's list.
        .filter(|kind| *kind != Kind::LeaseGrant)
        .map(|kind| step(kind, Message::new()));
    steps.extend(empty);
    for size in [
        REQUEST_BYTES_MAX - 100,
        REQUEST_BYTES_MAX,
        REQUEST_BYTES_MAX + TRANSPORT_EXTRA - 100,
        REQUEST_BYTES_MAX + TRANSPORT_EXTRA + 1,
    ] {
        steps.push(step(
            Kind::Put,
            Message::new().bytes(1, b"big").bytes(2, &vec![b'x'; size]),
        ));
    }
    let all = Message::new().bytes(1, b"\0").bytes(2, b"\0");
    steps.push(step(Kind::Range, all.clone().flag(8, true)));
    steps.push(step(Kind::DeleteRange, all));
    for revision in [0, -1, 1, 1 << 40] {
        if revision != 1 {
            steps.push(step(Kind::HashKv, Message::new().int(1, revision)));
        }
        steps.push(step(Kind::Compact, Message::new().int(1, revision)));
    }
    // Bodies that are no messages: a field that ends early, a field number 0, a wire type 7.
    for body in [&[0x0a, 5, b'a'][..], &[0, 0], &[0x0f]] {
        steps.push(Step {
            kind: Kind::Range,
            request: body.to_vec(),
        });
    }
    // Unknown fields are skipped.
    steps.push(step(
        Kind::Range,
        Message::new().bytes(1, b"a").bytes(99, b"?").int(98, 7),
    ));
    steps
}
