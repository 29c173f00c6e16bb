//! Reads any bytes as a WAL segment. Checksums are made right where a header stands, or nothing
//! behind them would ever be reached. Nothing may panic, and what is read must say the same when
//! it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringbolt::codec::Reader;
use ringbolt::ids::{Lsn, SegmentSeq};
use ringbolt::wal::{BATCH_HEADER_SIZE, BatchHeader, Record, dump_segment, scan};

const BLOCK_SIZE: usize = 512;

/// Gives every block that begins like a batch the checksums that its fields ask for.
fn repair(bytes: &mut [u8]) {
    for at in (0..bytes.len()).step_by(BLOCK_SIZE) {
        let batch = &mut bytes[at..];
        if batch.len() < BATCH_HEADER_SIZE || batch[0] != b'R' {
            continue;
        }
        let mut header = fields(&batch[6..]).expect("a header's bytes are there");
        if let Some(body) = batch.get(BATCH_HEADER_SIZE..header.size as usize) {
            header.body_crc = header.checksum(body);
        }
        header.encode(batch);
    }
}

/// The fields of a header, right or wrong, from its flags on.
fn fields(bytes: &[u8]) -> Option<BatchHeader> {
    let mut from = Reader::new(bytes);
    Some(BatchHeader {
        flags: from.u16()? & 7,
        stream: from.u64()?,
        epoch: from.u32()?,
        size: from.u32()?,
        span: from.u32()?,
        body_crc: from.u32()?,
        seq: SegmentSeq(from.u64()?),
        lsn: Lsn(from.u64()?),
        previous_end: Lsn(from.u64()?),
        durable: Lsn(from.u64()?),
        start: Lsn(from.u64()?),
        gap_blocks: from.u32()?,
    })
}

fuzz_target!(|bytes: &[u8]| {
    let mut bytes = bytes.to_vec();
    for pass in 0..2 {
        let mut records = 0;
        let report = scan(&bytes, SegmentSeq(1), |_, header, body| {
            assert!(header.is_ordered());
            let mut reader = Reader::new(body);
            while let Some(Ok(record)) = Record::decode(&mut reader) {
                let mut again = Vec::new();
                record.encode(&mut again);
                assert_eq!(again.len(), record.size());
                let decoded = Record::decode(&mut Reader::new(&again));
                assert_eq!(decoded, Some(Ok(record)));
                records += 1;
            }
        });
        if let Ok(report) = &report {
            assert_eq!(report.records, records);
            assert!(report.batches <= (bytes.len() / BLOCK_SIZE) as u64);
        }
        let mut text = String::new();
        assert_eq!(
            dump_segment(&bytes, SegmentSeq(1), &mut text).is_ok(),
            report.is_ok()
        );
        if pass == 0 {
            repair(&mut bytes);
        }
    }
});
