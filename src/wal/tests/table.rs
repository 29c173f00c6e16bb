//! Pure. The table of tail cases: bytes of a log, made case by case, and what recovery says.

use super::world::{SECTOR, World};
use crate::ids::{GroupId, LogIndex, Lsn, SegmentSeq, Term};
use crate::wal::format::{
    BATCH_HEADER_SIZE, BatchHeader, FLAG_CLOSED, FLAG_OPEN, FLAG_SEAL, HeaderFault, Record,
    round_up,
};
use crate::wal::{FaultKind, SegmentReport, TailCase, scan};

const SEGMENT_SIZE: usize = 32 << 10;
const STREAM: u64 = 0x5eed;

/// A segment that a test writes batch by batch.
struct Segment {
    bytes: Vec<u8>,
    header: BatchHeader,
    at: usize,
}

impl Segment {
    fn new() -> Segment {
        let header = BatchHeader {
            stream: STREAM,
            epoch: 1,
            seq: SegmentSeq(1),
            ..BatchHeader::default()
        };
        Segment {
            bytes: vec![0; SEGMENT_SIZE],
            header,
            at: 0,
        }
    }

    /// A whole batch with one entry; answers its offset. All before it counts as durable.
    fn batch(&mut self, index: u64) -> usize {
        self.batch_with(index, |_| {})
    }

    fn batch_with(&mut self, index: u64, change: impl FnOnce(&mut BatchHeader)) -> usize {
        let mut batch = vec![0; BATCH_HEADER_SIZE];
        let record = Record::Entry {
            group: GroupId(1),
            index: LogIndex(index),
            term: Term(1),
            data: &[index as u8; 700],
        };
        record.encode(&mut batch);
        let offset = self.at;
        let span = round_up(batch.len() as u64, SECTOR as u64) as u32;
        let mut header = BatchHeader {
            size: batch.len() as u32,
            span,
            lsn: Lsn(offset as u64),
            durable: self.header.previous_end,
            ..self.header
        };
        change(&mut header);
        header.body_crc = header.checksum(&batch[BATCH_HEADER_SIZE..]);
        header.encode(&mut batch);
        self.bytes[offset..offset + batch.len()].copy_from_slice(&batch);
        self.at = offset + span as usize;
        self.header.previous_end = Lsn(self.at as u64);
        offset
    }

    fn scan(&self) -> Result<SegmentReport, FaultKind> {
        scan(&self.bytes, SegmentSeq(1), |_, _, _| {}).map_err(|fault| fault.kind)
    }

    /// Batches of the chain and how it ends.
    fn outcome(&self) -> Result<(u64, TailCase), FaultKind> {
        self.scan()
            .map(|report| (report.batches, report.chain.tail_case()))
    }
}

fn open_flag(header: &mut BatchHeader) {
    header.flags = FLAG_OPEN;
}

// Catches: a tail case that recovery takes for another one.
#[test]
fn empty() {
    assert_eq!(Segment::new().outcome(), Ok((0, TailCase::Empty)));
}

#[test]
fn clean_end() {
    let mut segment = Segment::new();
    segment.batch_with(1, open_flag);
    segment.batch(2);
    assert_eq!(segment.outcome(), Ok((2, TailCase::End)));
    segment.batch_with(3, |header| header.flags = FLAG_CLOSED);
    assert_eq!(segment.outcome(), Ok((3, TailCase::Closed)));
}

#[test]
fn torn_last_batch() {
    for lost in 0..2 {
        let mut segment = Segment::new();
        segment.batch(1);
        let torn = segment.batch(2);
        segment.bytes[torn + lost * SECTOR..torn + (lost + 1) * SECTOR].fill(0);
        let case = if lost == 0 {
            TailCase::End
        } else {
            TailCase::Torn
        };
        assert_eq!(segment.outcome(), Ok((1, case)));
    }
}

// Catches: bytes of the segment's former life, or of another log, read as new ones.
#[test]
fn stale_bytes() {
    let changes: [fn(&mut BatchHeader); 5] = [
        |header| header.seq = SegmentSeq(0),
        |header| header.stream = STREAM + 1,
        |header| header.epoch = 0,
        |header| {
            header.lsn = Lsn(header.lsn.0 + 1024);
            header.previous_end = header.lsn;
        },
        |header| {
            header.lsn = Lsn(header.lsn.0 + (1 << 20));
            header.previous_end = header.lsn;
            header.durable = header.lsn;
        },
    ];
    for change in changes {
        let mut segment = Segment::new();
        segment.batch(1);
        segment.batch_with(2, change);
        assert_eq!(segment.outcome(), Ok((1, TailCase::End)));
    }
}

// Catches: a body under the header of another batch.
#[test]
fn exchanged_bodies() {
    let mut segment = Segment::new();
    let first = segment.batch(1);
    let second = segment.batch(1);
    let body = |at: usize| at + BATCH_HEADER_SIZE..at + 2 * SECTOR;
    assert_eq!(segment.bytes[body(first)], segment.bytes[body(second)]);
    segment.bytes.copy_within(first..first + SECTOR, second);
    assert_eq!(segment.outcome(), Ok((1, TailCase::End)));
}

// Catches: a hole of the write window refused, or one behind it accepted.
#[test]
fn holes() {
    for in_flight in [true, false] {
        let mut segment = Segment::new();
        segment.batch(1);
        let hole = segment.batch(2);
        segment.batch_with(3, |header| {
            if in_flight {
                header.durable = Lsn(hole as u64);
            }
        });
        segment.bytes[hole] ^= 1;
        let expected = match in_flight {
            true => Ok((1, TailCase::InFlight)),
            false => {
                let (lost, end) = (Lsn(hole as u64), Lsn(hole as u64 + 1024));
                Err(FaultKind::Lost {
                    expected: lost,
                    found: end,
                    durable: end,
                })
            }
        };
        assert_eq!(segment.outcome(), expected);
    }
}

// Catches: a flipped bit in acknowledged bytes that passes, wherever it is.
#[test]
fn every_flipped_byte_in_the_middle_is_found() {
    let mut segment = Segment::new();
    segment.batch(1);
    let middle = segment.batch(2);
    segment.batch(3);
    let used = BATCH_HEADER_SIZE + 28 + 700;
    for at in middle..middle + used {
        segment.bytes[at] ^= 0x10;
        let outcome = segment.outcome();
        assert!(
            matches!(outcome, Err(FaultKind::Lost { .. })),
            "{at}: {outcome:?}"
        );
        segment.bytes[at] ^= 0x10;
    }
}

// Catches: what an opening passed over that comes back; an opening behind a jump not found.
#[test]
fn openings() {
    let mut segment = Segment::new();
    segment.batch(1);
    let end = segment.batch(2);
    let late = segment.batch(3);
    segment.at = 8192;
    segment.header.epoch = 2;
    segment.header.gap_blocks = ((8192 - late) / SECTOR) as u32;
    segment.header.previous_end = Lsn(late as u64);
    segment.batch_with(9, open_flag);
    segment.batch(10);
    assert!(end < late);
    // The batch at `late` landed after the opening had passed it over.
    let mut order = Vec::new();
    let report = scan(&segment.bytes, SegmentSeq(1), |offset, _, _| {
        order.push(offset)
    });
    let report = report.expect("whole");
    assert_eq!(report.batches, 5);
    assert_eq!(report.chain.tail_case(), TailCase::End);
    // And the same when it did not land.
    segment.bytes[late..late + 1024].fill(0);
    assert_eq!(segment.outcome(), Ok((4, TailCase::End)));
    // An opening that names an end before what is known to be durable is not followed.
    segment.at = 16384;
    segment.header.epoch = 3;
    segment.header.previous_end = Lsn(end as u64);
    segment.header.gap_blocks = ((16384 - end) / SECTOR) as u32;
    segment.batch_with(11, open_flag);
    assert_eq!(segment.outcome().map(|(batches, _)| batches), Ok(4));
}

// Catches: a segment's end taken for the log's.
#[test]
fn sealed() {
    let mut segment = Segment::new();
    segment.batch_with(1, |header| header.flags = FLAG_SEAL);
    let report = segment.scan().expect("whole");
    assert!(report.chain.is_sealed());
    assert_eq!(report.batches, 1);
}

// Catches: a log of a later program read, or cut off, by this one; a client's bytes that look like
// one and stop the start.
#[test]
fn foreign_versions() {
    let mut segment = Segment::new();
    segment.batch(1);
    let at = segment.batch(2);
    let header = &mut segment.bytes[at..at + BATCH_HEADER_SIZE];
    header[4] = 9;
    let crc = crc32fast::hash(&header[..76]);
    header[76..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(segment.outcome(), Err(FaultKind::Version { found: 9 }));
    let header = &mut segment.bytes[at..at + BATCH_HEADER_SIZE];
    header[8] ^= 1;
    let crc = crc32fast::hash(&header[..76]);
    header[76..].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(segment.outcome(), Ok((1, TailCase::End)));
}

// Catches: a header whose fields contradict each other, taken because its checksum is right.
#[test]
fn contradicting_headers() {
    let good = BatchHeader {
        size: 100,
        span: 512,
        lsn: Lsn(4096),
        previous_end: Lsn(4096),
        durable: Lsn(2048),
        start: Lsn(0),
        ..BatchHeader::default()
    };
    let changes: [fn(&mut BatchHeader); 8] = [
        |h| h.size = 79,
        |h| h.size = 513,
        |h| h.span = 511,
        |h| h.durable = Lsn(4097),
        |h| h.previous_end = Lsn(4097),
        |h| h.start = Lsn(4097),
        |h| h.flags = 8,
        |h| h.lsn = Lsn(u64::MAX),
    ];
    let mut block = [0; SECTOR];
    good.encode(&mut block);
    assert_eq!(BatchHeader::decode(&block), Ok(good));
    for change in changes {
        let mut bad = good;
        change(&mut bad);
        bad.encode(&mut block);
        assert_eq!(
            BatchHeader::decode(&block),
            Err(HeaderFault::Fields),
            "{bad:?}"
        );
    }
    assert_eq!(BatchHeader::decode(&block[..79]), Err(HeaderFault::Absent));
}

// Catches: a released layout that changes unnoticed.
#[test]
fn golden_header() {
    let header = BatchHeader {
        flags: FLAG_SEAL,
        stream: 0x1122_3344_5566_7788,
        epoch: 3,
        size: 400,
        span: 512,
        body_crc: 0xaabb_ccdd,
        seq: SegmentSeq(5),
        lsn: Lsn(0x10_000),
        previous_end: Lsn(0xf_000),
        durable: Lsn(0xe_000),
        start: Lsn(0x8_000),
        gap_blocks: 7,
    };
    let mut block = [0; BATCH_HEADER_SIZE];
    header.encode(&mut block);
    let text: Vec<String> = block.chunks(16).map(hex).collect();
    let golden = [
        "5242574c010002008877665544332211",
        "030000009001000000020000ddccbbaa",
        "05000000000000000000010000000000",
        "00f000000000000000e0000000000000",
        "008000000000000007000000",
    ];
    let fields = text.join("");
    assert_eq!(fields[..152], golden.concat());
    assert_eq!(BatchHeader::decode(&block), Ok(header));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

// Catches: a missing, shortened or foreign segment file taken for an end of the log.
#[test]
fn missing_segments() {
    use crate::wal::{Bounds, Log, Options, WalError};
    let bounds = Bounds {
        record_bytes_max: 2048,
        batch_bytes_max: 4096,
        in_flight_bytes_max: 64 << 10,
        ..Bounds::default()
    };
    let options = Options {
        segment_bytes: 16 << 10,
        bounds,
        ..Options::new("/wal")
    };
    for (missing, cut_to) in [1, 2, 3, 4]
        .into_iter()
        .flat_map(|n: u64| [None, Some(0), Some(4096), Some(8192), Some(500)].map(|to| (n, to)))
    {
        let world = World::new(missing);
        let (env, with) = (world.clone(), options.clone());
        let opened = world.block_on(async move { Log::open(&env, with).await }, 1000);
        let (log, _) = opened.expect("ends").expect("opens");
        for index in 1..60 {
            let record = Record::Entry {
                group: GroupId(1),
                index: LogIndex(index),
                term: Term(1),
                data: &[1; 1000],
            };
            log.append(&record).expect("fits");
            while world.step() {
                world.run_tasks();
            }
            world.run_tasks();
        }
        world.power_cut();
        let name = format!("/wal/{missing:016x}.wal");
        let path = std::path::Path::new(&name);
        match cut_to {
            Some(size) => world.cut(path, size),
            None => world.forget(path),
        }
        let (env, with) = (world.clone(), options.clone());
        let opened = world.block_on(async move { Log::open(&env, with).await }, 1000);
        let error = opened.expect("ends").map(|_| ()).expect_err("refuses");
        let missing_segment = matches!(error, WalError::SegmentMissing { .. });
        let damaged = matches!(error, WalError::Lost { .. } | WalError::Malformed { .. });
        let named = missing_segment || (damaged && cut_to.is_some());
        assert!(named, "{missing} cut to {cut_to:?}: {error}");
    }
}

// Catches: rot in a live log that passes as a short log.
#[test]
fn rot_in_a_real_log_is_located() {
    use crate::wal::{Log, Options, WalError};
    let world = World::new(1);
    let options = Options {
        segment_bytes: 1 << 20,
        ..Options::new("/wal")
    };
    let (env, with) = (world.clone(), options.clone());
    let opened = world.block_on(async move { Log::open(&env, with).await }, 1000);
    let (log, _) = opened.expect("ends").expect("opens");
    for index in 1..20 {
        let record = Record::Entry {
            group: GroupId(1),
            index: LogIndex(index),
            term: Term(1),
            data: &[1; 400],
        };
        log.append(&record).expect("fits");
        world.run_tasks();
        while world.step() {
            world.run_tasks();
        }
    }
    world.power_cut();
    let path = world.paths()[0].clone();
    world.rot(&path, 5 * 512 + 200);
    let env = world.clone();
    let opened = world.block_on(async move { Log::open(&env, options).await }, 1000);
    match opened.expect("ends").map(|_| ()) {
        Err(WalError::Lost { file, offset, .. }) => {
            assert_eq!((file, offset), (path, 5 * 512));
        }
        other => panic!("{other:?}"),
    }
}

// Catches: records that an opening had returned, void after a restart because an earlier, killed
// opening landed late on the same block.
#[test]
fn a_late_opening_over_the_real_one() {
    let mut segment = Segment::new();
    segment.batch(1);
    let seen = segment.batch(2);
    let end = segment.at;
    segment.header.epoch = 2;
    // The killed opening saw the log end before the second batch, the real one behind it.
    for ends_at in [seen, end] {
        segment.at = 8192;
        segment.header.previous_end = Lsn(ends_at as u64);
        segment.header.gap_blocks = ((8192 - ends_at) / SECTOR) as u32;
        segment.batch_with(9, |header| {
            header.flags = FLAG_OPEN;
            header.durable = Lsn(seen as u64);
        });
    }
    let real = segment.bytes[8192..8192 + 1024].to_vec();
    segment.batch(10);
    for late in [false, true] {
        segment.bytes[8192..8192 + 1024].copy_from_slice(&real);
        if late {
            segment.at = 8192;
            let header = segment.header;
            segment.header.previous_end = Lsn(seen as u64);
            segment.header.gap_blocks = ((8192 - seen) / SECTOR) as u32;
            segment.batch_with(9, |header| {
                header.flags = FLAG_OPEN;
                header.durable = Lsn(seen as u64);
            });
            segment.header = header;
        }
        let mut openings = Vec::new();
        let report = scan(&segment.bytes, SegmentSeq(1), |_, header, _| {
            if header.has(FLAG_OPEN) {
                openings.push(header.previous_end);
            }
        });
        assert_eq!(report.expect("whole").batches, 4);
        assert_eq!(openings, [Lsn(end as u64)], "late: {late}");
    }
}
