//! Pure. Draws the requests of a comparison. Few keys, so that everything meets everything: keys of
//! one to three bytes out of 0x00, `a`, `b` and 0xff, and now and then a long one.
//!
//! Not drawn: leases that expire, requests beside each other, and what ends etcd (`twice.rs`).

mod edges;
mod watch;

use std::collections::{BTreeSet, VecDeque};

use ringbolt::bench::message::{self, Message, prefix_end};

use super::outcome::Outcome;
use super::step::{Kind, Step};
use super::twice;
use crate::rng::Rng;
use watch::Watching;

/// Leases are never meant to expire here: seconds, far apart, so that their order is certain.
const LEASE_TTL: i64 = 1_000_000;
const LEASE_IDS: u64 = 6;
/// Some ids that are not small.
const FAR_LEASE_IDS: [i64; 3] = [-1, i64::MIN, i64::MAX];
const TXN_OPS_MAX: u64 = 128;
const TXN_DEPTH: u32 = 3;
const LONG_KEY_BYTES_MAX: u64 = 9_000;

pub struct Drawer {
    rng: Rng,
    queue: VecDeque<Step>,
    /// As the answers told.
    revision: i64,
    compacted: i64,
    compactions: BTreeSet<i64>,
    /// Revisions in which a key may have changed twice.
    twice: BTreeSet<i64>,
    watching: Watching,
    grants: i64,
}

impl Drawer {
    pub fn new(seed: u64) -> Drawer {
        Drawer {
            rng: Rng::new(seed),
            queue: edges::edges().into(),
            revision: 1,
            compacted: -1,
            compactions: BTreeSet::new(),
            twice: BTreeSet::new(),
            watching: Watching::default(),
            grants: 0,
        }
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
        if step.kind == Kind::WatchProgress {
            self.revision += 1;
        }
        if outcome.code != 0 || step.kind.is_watch() {
            return;
        }
        self.revision = self.revision.max(outcome.header_revision());
        if step.kind == Kind::Compact {
            self.compacted = message::int(&step.request, 1);
            self.compactions.insert(self.compacted);
        }
        if step.kind == Kind::Txn && twice::may_change_twice(&step.request) {
            self.twice.insert(outcome.header_revision());
        }
    }

    fn push(&mut self, kind: Kind, request: Message) {
        self.queue.push_back(Step {
            kind,
            request: request.into_bytes(),
        });
    }

    fn draw(&mut self) {
        match self.rng.below(200) {
            0..56 => {
                let put = self.put();
                self.push(Kind::Put, put);
            }
            56..96 => {
                let range = self.range();
                self.push(Kind::Range, range);
            }
            96..132 => {
                let txn = self.whole_txn();
                self.push(Kind::Txn, txn);
            }
            132..148 => {
                let delete = self.delete();
                self.push(Kind::DeleteRange, delete);
            }
            148..158 => self.range_stream(),
            158..164 => self.hash(),
            164..180 => self.lease(),
            180..192 => self.watch(),
            192..195 => self.compact(),
            195 => self.wide_txn(),
            196 => self.alarms(),
            197 if self.rng.one_in(6) => self.restart(),
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
        match self.rng.below(300) {
            0..5 => return Vec::new(),
            5 => {
                let size = self.rng.below(LONG_KEY_BYTES_MAX) as usize;
                return vec![self.rng.pick(b"ab"); size];
            }
            _ => {}
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
            3 if self.rng.one_in(8) => vec![b'V'; self.rng.below(20_000) as usize],
            _ => vec![b'0' + self.rng.below(5) as u8],
        }
    }

    fn some_revision(&mut self) -> i64 {
        match self.rng.below(14) {
            0 => -1,
            1 => self.compacted - 1,
            2 => self.compacted,
            3 => self.compacted + 1,
            4 => self.revision,
            5 => self.revision + 1,
            6 => self.revision + 1_000,
            7 => self.rng.below(self.revision as u64) as i64,
            8 => self.rng.pick(&[i64::MIN, i64::MAX, 0, 1]),
            _ => self.revision - self.rng.below(15) as i64,
        }
    }

    fn lease_id(&mut self) -> i64 {
        match self.rng.one_in(12) {
            true => self.rng.pick(&FAR_LEASE_IDS),
            false => 1 + self.rng.below(LEASE_IDS) as i64,
        }
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

    fn range(&mut self) -> Message {
        let (key, end) = self.interval();
        let mut range = Message::new().bytes(1, &key).bytes(2, &end);
        if self.rng.one_in(3) {
            range = range.int(3, self.rng.pick(&[1, 2, 3, 5, 50, -1, i64::MAX, i64::MIN]));
        }
        if self.rng.one_in(4) {
            range = range.int(4, self.some_revision());
        }
        if self.rng.one_in(4) {
            range = range.int(5, self.rng.pick(&[0, 1, 2, 2, 1, 7, -1]));
            range = range.int(6, self.rng.pick(&[0, 0, 1, 2, 3, 4, 9]));
        }
        range = range
            .flag(7, self.rng.one_in(5))
            .flag(8, self.rng.one_in(6));
        range = range.flag(9, self.rng.one_in(8));
        if self.rng.one_in(8) {
            for filter in 10..14 {
                if self.rng.one_in(2) {
                    range = range.int(filter, self.some_revision());
                }
            }
        }
        range
    }

    /// A target without an order is not drawn: etcd sorts each chunk by itself and goes on behind
    /// its last key, which skips and repeats keys (docs/decisions/003).
    fn range_stream(&mut self) {
        let range = loop {
            let range = self.range();
            let (order, target) = [5, 6].map(|n| message::int(range.as_bytes(), n)).into();
            if order != 0 || target == 0 {
                break range;
            }
        };
        self.push(Kind::RangeStream, range);
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
        let (key, end) = match self.rng.one_in(3) {
            true => self.interval(),
            false => (self.key(), Vec::new()),
        };
        let target = self.rng.below(5) as i64;
        let result = self.rng.below(4) as i64;
        let mut compare = Message::new().int(1, result).int(2, target).bytes(3, &key);
        // An absent value is a case of its own, and so is the value of another target: the server
        // compares with 0 then.
        let given = match self.rng.below(24) {
            0 => None,
            1 => Some(self.rng.below(5) as i64),
            _ => Some(target),
        };
        let number = match target {
            0 => self.rng.below(4) as i64,
            4 => self.rng.below(LEASE_IDS + 1) as i64,
            _ if self.rng.one_in(3) => 0,
            _ => self.revision - self.rng.below(30) as i64,
        };
        compare = match given {
            None => compare,
            Some(3) => compare.bytes_present(7, &self.value()),
            Some(4) => compare.int_present(8, number),
            Some(given) => compare.int_present(4 + given as u32, number),
        };
        compare.bytes(64, &end)
    }

    fn op(&mut self, depth: u32) -> Message {
        match self.rng.below(20) {
            0..7 => Message::new().nested(1, &self.range()),
            7..14 => Message::new().nested(2, &self.put()),
            14..17 => Message::new().nested(3, &self.delete()),
            17 if self.rng.one_in(5) => Message::new(),
            _ if depth < TXN_DEPTH => Message::new().nested(4, &self.txn(depth + 1)),
            _ => Message::new().nested(1, &self.range()),
        }
    }

    fn whole_txn(&mut self) -> Message {
        loop {
            let txn = self.txn(0);
            if !twice::may_end_etcd(txn.as_bytes()) {
                return txn;
            }
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
        // Of compares, operations of the branch that is taken, or of the other one.
        let list = self.rng.pick(&[1, 2, 2, 3]);
        for _ in 0..outer {
            txn = match list {
                1 => txn.nested(1, &Message::new().bytes(3, b"a").int(2, 1)),
                list => txn.nested(list, &range),
            };
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
        match self.rng.below(12) {
            0..4 => {
                self.grants += 1;
                let ttl = match self.rng.below(16) {
                    0 => 9_000_000_001,
                    1 => i64::MAX,
                    _ => LEASE_TTL + 1_000 * self.grants,
                };
                self.push(Kind::LeaseGrant, Message::new().int(1, ttl).int(2, id));
            }
            4..6 => self.push(Kind::LeaseRevoke, Message::new().int(1, id)),
            6..9 => {
                let keys = !self.rng.one_in(3);
                self.push(
                    Kind::LeaseTimeToLive,
                    Message::new().int(1, id).flag(2, keys),
                );
            }
            9..11 => self.push(Kind::LeaseKeepAlive, Message::new().int(1, id)),
            _ => self.push(Kind::LeaseLeases, Message::new()),
        }
    }

    fn compact(&mut self) {
        // A watch that still catches up would lose or keep its past by chance.
        self.sync_watch();
        let mut revision = match self.rng.below(4) {
            0 => self.some_revision(),
            _ => self.revision - self.rng.below(30) as i64,
        };
        // At a revision in which a key was deleted and put, etcd loses the key, and ends when the
        // key is read.
        while self.twice.contains(&revision) || self.twice.contains(&revision.saturating_add(1)) {
            revision += 2;
        }
        if self.rng.one_in(2) {
            self.push(Kind::Compact, Message::new().int(1, revision));
            self.push(
                Kind::Put,
                Message::new().bytes(1, b"a").bytes(2, b"compacted"),
            );
            let next = revision.saturating_add(1);
            self.push(Kind::Compact, Message::new().int(1, next).flag(2, true));
        } else {
            self.push(Kind::Compact, Message::new().int(1, revision).flag(2, true));
        }
        self.push(Kind::HashKv, Message::new());
    }

    /// Raises an alarm, or clears those that are raised. Watches wait meanwhile: without puts
    /// nothing would tell that they have seen everything.
    fn alarms(&mut self) {
        if self.watching.open {
            self.sync_watch();
            self.watch_close();
        }
        let alarm = |action: i64, member: i64, kind: i64| {
            Message::new().int(1, action).int(2, member).int(3, kind)
        };
        self.push(Kind::Alarm, alarm(1, 7, 1));
        let second = self.rng.pick(&[7, 8]);
        self.push(Kind::Alarm, alarm(1, second, 1));
        for _ in 0..self.rng.below(12) {
            match self.rng.below(8) {
                0 => {
                    let request = alarm(0, self.rng.below(10) as i64, self.rng.below(3) as i64);
                    self.push(Kind::Alarm, request);
                }
                1 => {
                    let put = self.put();
                    self.push(Kind::Put, put);
                }
                2 | 3 => {
                    let txn = self.whole_txn();
                    self.push(Kind::Txn, txn);
                }
                4 => {
                    let delete = self.delete();
                    self.push(Kind::DeleteRange, delete);
                }
                5 => {
                    let range = self.range();
                    self.push(Kind::Range, range);
                }
                6 => self.lease(),
                _ => self.hash(),
            }
        }
        for member in [7, 8, 7] {
            self.push(Kind::Alarm, alarm(2, member, 1));
        }
    }

    /// Kills both servers and starts them again.
    fn restart(&mut self) {
        if self.watching.open {
            self.sync_watch();
            self.watch_close();
        }
        self.push(Kind::Restart, Message::new());
        self.push(Kind::LeaseLeases, Message::new());
        self.push(Kind::HashKv, Message::new());
        let all = Message::new().bytes(1, b"\0").bytes(2, b"\0");
        self.push(Kind::Range, all);
    }
}
