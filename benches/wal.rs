//! What a record costs on its way into a write, and out of a segment again; what raft adds.
//!
//! `batch` minus `floor` is the price of a record's header, bookkeeping and bounds.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringbolt::ids::{GroupId, LogIndex, Lsn, MemberId, SegmentSeq, Term};
use ringbolt::raft::{Node, NodeOptions, Start};
use ringbolt::wal::{Appender, Bounds, Index, Record, Shape, Write, scan};
use std::hint::black_box;

const RECORDS: u64 = 256;
const DATA: [u8; 300] = [0x5a; 300];

fn appender(segment_bytes: u64) -> Appender {
    let shape = Shape {
        stream: 1,
        epoch: 1,
        segment_bytes,
        alignment: 512,
        bounds: Bounds::default(),
    };
    let mut index = Index::default();
    index.open_segment(SegmentSeq(1), Lsn(0), segment_bytes);
    Appender::new(shape, index, Lsn(0), Lsn(0), Lsn(0))
}

fn fill(appender: &mut Appender, next: &mut u64, records: u64) -> Write {
    for _ in 0..records {
        let record = Record::Entry {
            group: GroupId(0),
            index: LogIndex(*next),
            term: Term(1),
            data: black_box(&DATA),
        };
        appender.append(&record).expect("room");
        *next += 1;
    }
    appender.next_write().expect("a batch waits")
}

fn batch(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal");
    group.throughput(Throughput::Elements(RECORDS));
    group.bench_function("batch of 256 x 300 B", |b| {
        let mut log = appender(64 << 20);
        let mut next = 1;
        b.iter(|| {
            let write = fill(&mut log, &mut next, RECORDS);
            log.completed(write.number);
            log.reuse(write.bytes);
            if next.is_multiple_of(1 << 16) {
                log.index.release(GroupId(0), LogIndex(next - 1));
                while log.index.recycle(log.announced()).is_some() {}
            }
        });
    });
    group.bench_function("floor: copy and checksum of 256 x 300 B", |b| {
        let mut bytes = Vec::new();
        b.iter(|| {
            bytes.clear();
            for _ in 0..RECORDS {
                bytes.extend_from_slice(black_box(&DATA));
            }
            crc32fast::hash(&bytes)
        });
    });
    group.finish();
}

fn recovery(c: &mut Criterion) {
    let mut group = c.benchmark_group("wal recovery");
    for records in [1, 16, 256] {
        let mut log = appender(4 << 20);
        let mut bytes = vec![0; 4 << 20];
        let mut next = 1;
        loop {
            let write = fill(&mut log, &mut next, records);
            log.completed(write.number);
            if write.seq != SegmentSeq(1) || write.offset > 1 << 20 {
                break;
            }
            let at = write.offset as usize;
            bytes[at..at + write.bytes.len()].copy_from_slice(&write.bytes);
        }
        bytes.truncate(1 << 20);
        group.throughput(Throughput::Bytes(1 << 20));
        group.bench_function(format!("scan of 1 MiB, {records} records a batch"), |b| {
            b.iter(|| scan(black_box(&bytes), SegmentSeq(1), |_, _, _| {}).expect("whole"));
        });
    }
    group.finish();
}

fn raft(c: &mut Criterion) {
    let mut group = c.benchmark_group("raft");
    for batch in [1u64, 16, 256] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(format!("one voter, rounds of {batch}"), |b| {
            let options = NodeOptions {
                member: MemberId(1),
                election_ticks: 10,
                heartbeat_ticks: 1,
                seed: 1,
            };
            let mut node = Node::new(options, Start::default());
            node.campaign();
            let data = bytes::Bytes::from_static(&DATA);
            let mut rounds = 0u64;
            b.iter(|| {
                for _ in 0..batch {
                    node.propose(data.clone()).expect("leads");
                }
                let mut applied = LogIndex(0);
                while let Some(effects) = node.take_effects() {
                    node.persisted(effects.round);
                    applied = effects
                        .committed
                        .last()
                        .map_or(applied, |entry| entry.index);
                    black_box(&effects);
                }
                node.applied(applied);
                rounds += 1;
                if rounds.is_multiple_of(64) {
                    node.compact(applied);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, batch, recovery, raft);
criterion_main!(benches);
