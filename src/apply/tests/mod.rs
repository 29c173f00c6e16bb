//! Pure. The state machine over a tree file in memory.

mod alarms;
mod build;
mod codecs;
mod kv;
mod leases;
mod model;
mod random;
mod txns;
mod validation;
mod watching;

use super::*;
use crate::backend::{Backend, schema};
use crate::btree::{self, Options, Tree, memory::MemoryPages};
use crate::env::Monotonic;
use crate::ids::{ClusterId, LogIndex, MemberId, Term};
use crate::mvcc::{CommitProgress, CompactProgress, Store};
use bytes::Bytes;
use prost::Message;
use std::sync::Arc;

/// A machine over a tree file in memory, and the log that made it.
pub(super) struct World {
    pages: MemoryPages,
    pub machine: StateMachine,
    options: MachineOptions,
    /// Entry n is at n - 1.
    pub log: Vec<Vec<u8>>,
    pub now: Monotonic,
}

pub(super) const HEADER: Header = Header {
    cluster: ClusterId(1),
    member: MemberId(2),
    term: Term(3),
};

impl World {
    pub fn new() -> World {
        World::with(MachineOptions::default())
    }

    pub fn with(options: MachineOptions) -> World {
        let pages = MemoryPages::new();
        pages.run(&btree::format(&Options { page_size: 1024 }, 7));
        let machine = open(&pages, options);
        World {
            pages,
            machine,
            options,
            log: Vec::new(),
            now: Monotonic(0),
        }
    }

    /// Forgets everything but the file, and replays the log.
    pub fn restart(&mut self) {
        self.machine = open(&self.pages, self.options);
        for n in 1..=self.log.len() {
            let entry = self.log[n - 1].clone();
            let replayed = self.machine.apply(index(n), Term(1), &entry, self.now);
            replayed.expect("what was applied once applies again");
        }
    }

    pub fn apply(&mut self, kind: Kind, body: &[u8]) -> Outcome {
        let mut entry = Vec::new();
        Entry::new(kind, self.log.len() as u64 + 100, body).encode(&mut entry);
        self.apply_entry(entry)
    }

    pub fn apply_entry(&mut self, entry: Vec<u8>) -> Outcome {
        self.log.push(entry.clone());
        let outcome = self
            .machine
            .apply(index(self.log.len()), Term(1), &entry, self.now);
        outcome.expect("no fault").expect("a new entry")
    }

    pub fn call<M: Message>(&mut self, kind: Kind, message: &M) -> Result<Response, ApplyError> {
        self.apply(kind, &message.encode_to_vec()).result
    }

    /// The decoded answer.
    pub fn answer<M: Message, R: Message + Default>(
        &mut self,
        kind: Kind,
        message: &M,
    ) -> Result<R, ApplyError> {
        self.call(kind, message).map(|response| decoded(&response))
    }

    pub fn commit(&mut self) {
        if !self.machine.store_mut().commit_begin() {
            return;
        }
        loop {
            match self.machine.store_mut().commit_slice(30).expect("whole") {
                CommitProgress::More => {}
                CommitProgress::Plan(plan) => {
                    let receipt = self.pages.run(&plan);
                    self.machine.store_mut().committed(receipt);
                    return;
                }
            }
        }
    }

    /// Removes all that is compacted.
    pub fn finish_compaction(&mut self) {
        loop {
            match self.machine.store_mut().compact_slice(10).expect("whole") {
                CompactProgress::More => {}
                CompactProgress::WaitsForCommit => self.commit(),
                CompactProgress::Done => return,
            }
        }
    }

    /// Every entry of the committed file that the log decides. Not decided are links and waypoints
    /// of `mvcc`, which follow where compaction slices fell: of records and index entries the key
    /// stands here, and the hash covers the values.
    pub fn contents(&mut self) -> Vec<(u8, Vec<u8>, Vec<u8>)> {
        self.finish_compaction();
        self.commit();
        let tree = Tree::open(Arc::new(self.pages.clone()), self.pages.size()).expect("whole");
        let read = tree.read();
        let mut entries = Vec::new();
        for (bucket, _) in schema::BUCKETS {
            let bucket_read = read.bucket(bucket);
            let mut cursor = bucket_read.cursor();
            let mut more = cursor.first().expect("whole");
            while more {
                let (key, value) = cursor.current().expect("whole").expect("an entry");
                match bucket {
                    schema::KEY | schema::INDEX => {
                        entries.push((bucket.0, key.to_vec(), Vec::new()));
                    }
                    schema::HISTORY => {}
                    _ => entries.push((bucket.0, key.to_vec(), value.to_vec())),
                }
                more = cursor.next().expect("whole");
            }
        }
        entries
    }
}

fn open(pages: &MemoryPages, options: MachineOptions) -> StateMachine {
    let tree = Tree::open(Arc::new(pages.clone()), pages.size()).expect("whole");
    let store = Store::open(Backend::open(tree).expect("whole")).expect("whole");
    StateMachine::open(store, options).expect("whole")
}

fn index(n: usize) -> LogIndex {
    LogIndex(n as u64)
}

/// The response as protobuf reads it; prost must write the same bytes.
pub(super) fn decoded<R: Message + Default>(response: &Response) -> R {
    let mut bytes = Vec::new();
    response.encode(&HEADER, &mut bytes);
    assert_eq!(bytes.len(), response.encoded_size(&HEADER));
    let message = R::decode(&bytes[..]).expect("a message");
    assert_eq!(message.encode_to_vec(), bytes);
    message
}

pub(super) fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) struct Random(pub u64);

impl Random {
    pub fn below(&mut self, below: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % below
    }
}
