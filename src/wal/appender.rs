//! Pure. Records become batches, batches become writes, completed writes become a durable prefix.
//!
//! ```text
//!   append ──► filling ──close──► ready ──next_write──► in flight ──completed──► durable
//!              one batch          oldest first          one, two when a lot waits
//! ```
//!
//! A batch's place is fixed when it begins, so a record's `Lsn` is known at once. `start` is fixed
//! when the batch closes, the durable prefix and the checksum when its write is made.

use super::format::{
    BATCH_HEADER_SIZE, BLOCK_SIZE, BatchHeader, ENTRY_HEADER_SIZE, FLAG_CLOSED, FLAG_OPEN,
    FLAG_SEAL, LARGE_BLOCK_SIZE, Record, round_up,
};
use super::index::Index;
use crate::ids::{Lsn, SegmentSeq};
use crate::limits::wal as limits;
use std::collections::VecDeque;

/// The fixed facts of a log while one process has it open.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub stream: u64,
    pub epoch: u32,
    /// Size of the segments that are opened from now on.
    pub segment_bytes: u64,
    /// Block size of the files: batches begin and end at multiples of it.
    pub alignment: u64,
    pub bounds: Bounds,
}

/// Sizes that bound memory and delay; the defaults are those of `limits::wal`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// Largest record; a larger one is refused.
    pub record_bytes_max: usize,
    /// A batch of this size is closed.
    pub batch_bytes_max: usize,
    /// Writes in flight, and how far an unclean restart jumps.
    pub in_flight_bytes_max: u64,
    /// What must wait before a second write is sent.
    pub second_write_bytes_min: usize,
    /// What may wait before `append` answers `Full`.
    pub queue_bytes_max: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds {
            record_bytes_max: limits::RECORD_BYTES_MAX,
            batch_bytes_max: limits::BATCH_BYTES_MAX,
            in_flight_bytes_max: limits::IN_FLIGHT_BYTES_MAX,
            second_write_bytes_min: limits::SECOND_WRITE_BYTES_MIN,
            queue_bytes_max: limits::QUEUE_BYTES_MAX,
        }
    }
}

impl Bounds {
    /// What the largest batch takes of a file, padding included.
    pub fn batch_span_max(&self) -> u64 {
        let size = self
            .batch_bytes_max
            .max(BATCH_HEADER_SIZE + self.record_bytes_max) as u64;
        round_up(size, LARGE_BLOCK_SIZE as u64) + LARGE_BLOCK_SIZE as u64
    }
}

/// Why a record was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refused {
    TooLarge { size: usize, max: usize },
    Full { queued: usize, max: usize },
}

#[derive(Debug)]
pub struct Appender {
    shape: Shape,
    pub index: Index,
    filling: Option<Batch>,
    ready: VecDeque<Batch>,
    in_flight: VecDeque<Flight>,
    /// Where the next batch begins; in the tail segment of the index.
    tail: Lsn,
    /// Where the batch before it ends: `previous_end <= tail`.
    previous_end: Lsn,
    durable: Lsn,
    /// The `start` of the newest closed batch.
    start: Lsn,
    /// The `start` of the newest durable batch: `announced <= start`.
    announced: Lsn,
    /// Records appended and not yet durable.
    queued_bytes: usize,
    /// Of this process life.
    gap_blocks: u32,
    spare_buffers: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Batch {
    seq: SegmentSeq,
    /// Where in its file the batch begins.
    offset: u64,
    lsn: Lsn,
    previous_end: Lsn,
    flags: u16,
    /// Set when the batch closes.
    start: Lsn,
    span: u32,
    /// Nothing else is in flight with it.
    alone: bool,
    records: u32,
    /// Room for the header, then records.
    bytes: Vec<u8>,
}

#[derive(Debug)]
struct Flight {
    number: u64,
    end: Lsn,
    start: Lsn,
    bytes: usize,
    alone: bool,
    done: bool,
}

/// A batch that is to be written now.
#[derive(Debug)]
pub struct Write {
    /// To be given back to `completed`.
    pub number: u64,
    pub seq: SegmentSeq,
    pub offset: u64,
    /// Bytes of the write: `bytes`, then zeros.
    pub span: usize,
    pub records: u32,
    /// Header and records.
    pub bytes: Vec<u8>,
}

impl Appender {
    /// Goes on at `tail`, in the index's tail segment. All before `tail` is durable.
    pub fn new(shape: Shape, index: Index, tail: Lsn, previous_end: Lsn, start: Lsn) -> Appender {
        assert!(shape.alignment.is_power_of_two());
        assert!(shape.segment_bytes.is_multiple_of(shape.alignment));
        let gap = tail
            .0
            .checked_sub(previous_end.0)
            .expect("the log goes on behind its end");
        assert!(gap.is_multiple_of(BLOCK_SIZE as u64));
        assert!(index.tail().base <= tail);
        assert!((tail.0 - index.tail().base.0).is_multiple_of(shape.alignment));
        Appender {
            shape,
            index,
            filling: None,
            ready: VecDeque::new(),
            in_flight: VecDeque::new(),
            tail,
            previous_end,
            durable: previous_end,
            start,
            announced: start,
            queued_bytes: 0,
            gap_blocks: u32::try_from(gap / BLOCK_SIZE as u64).expect("at most two segments"),
            spare_buffers: Vec::new(),
        }
    }

    pub fn durable(&self) -> Lsn {
        self.durable
    }

    /// No record below is needed, and a durable batch says so.
    pub fn announced(&self) -> Lsn {
        self.announced
    }

    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Nothing is filling, waiting or in flight.
    pub fn is_idle(&self) -> bool {
        self.filling.is_none() && self.ready.is_empty() && self.in_flight.is_empty()
    }

    /// The largest record that fits into a segment and a batch.
    pub fn record_bytes_max(&self) -> usize {
        let room = self.shape.segment_bytes - 2 * self.shape.alignment;
        self.shape
            .bounds
            .record_bytes_max
            .min(room as usize - BATCH_HEADER_SIZE)
    }

    /// Encodes `record` behind the last one. It is durable once `durable()` reaches the answer.
    pub fn append(&mut self, record: &Record<'_>) -> Result<Lsn, Refused> {
        let size = record.size();
        if size > self.record_bytes_max() {
            return Err(Refused::TooLarge {
                size,
                max: self.record_bytes_max(),
            });
        }
        let max = self.shape.bounds.queue_bytes_max;
        if self.queued_bytes + size > max && self.queued_bytes > 0 {
            return Err(Refused::Full {
                queued: self.queued_bytes,
                max,
            });
        }
        self.make_room(size);
        let batch = self
            .filling
            .as_mut()
            .expect("make_room leaves a filling batch");
        record.encode(&mut batch.bytes);
        batch.records += 1;
        let end = Lsn(batch.lsn.0 + batch.bytes.len() as u64);
        self.queued_bytes += size;
        self.index.note(record);
        Ok(end)
    }

    /// Leaves a filling batch that has room for `size` more bytes.
    #[inline]
    fn make_room(&mut self, size: usize) {
        if let Some(batch) = &self.filling {
            let full =
                batch.records > 0 && batch.bytes.len() + size > self.shape.bounds.batch_bytes_max;
            if full {
                self.close_filling(0);
            } else if batch.offset + (batch.bytes.len() + size) as u64 <= self.segment_limit() {
                return;
            }
        }
        let offset = self.tail.0 - self.index.tail().base.0;
        if self.filling.is_some() {
            self.close_filling(FLAG_SEAL);
            self.next_segment();
        } else if offset + (BATCH_HEADER_SIZE + size) as u64 > self.segment_limit() {
            self.begin();
            self.close_filling(FLAG_SEAL);
            self.next_segment();
        }
        self.begin();
    }

    /// The end of the tail segment without the last block, which is kept for a sealing batch.
    fn segment_limit(&self) -> u64 {
        self.index.tail().size - self.shape.alignment
    }

    fn begin(&mut self) {
        debug_assert!(self.filling.is_none());
        let mut bytes = self.spare_buffers.pop().unwrap_or_default();
        bytes.resize(BATCH_HEADER_SIZE, 0);
        let tail = self.index.tail();
        self.filling = Some(Batch {
            seq: tail.seq,
            offset: self.tail.0 - tail.base.0,
            lsn: self.tail,
            previous_end: self.previous_end,
            flags: 0,
            start: Lsn(0),
            span: 0,
            alone: false,
            records: 0,
            bytes,
        });
    }

    fn close_filling(&mut self, flags: u16) {
        self.add_marks();
        let Some(mut batch) = self.filling.take() else {
            return;
        };
        // Computed before the next record can arrive: a durable batch then proves that all its
        // `start` relies on is durable too.
        // Never lower than before: a restart reads the entries of a segment whose live ones were
        // copied as if they still counted, but the segment may be gone already.
        self.start = self.start.max(self.index.start());
        batch.start = self.start;
        batch.flags |= flags;
        let size = batch.bytes.len();
        let end = batch.offset + size as u64;
        let mut padded = round_up(end, self.shape.alignment);
        if size >= limits::LARGE_BATCH_BYTES_MIN {
            let large = round_up(end, self.shape.alignment.max(LARGE_BLOCK_SIZE as u64));
            padded = large.min(self.segment_limit().max(padded));
        }
        batch.span = u32::try_from(padded - batch.offset).expect("a batch is bounded");
        self.tail = Lsn(batch.lsn.0 + u64::from(batch.span));
        self.previous_end = self.tail;
        self.ready.push_back(batch);
    }

    /// Releases ride in batches that are written anyway.
    fn add_marks(&mut self) {
        let limit = self.segment_limit();
        let Some(batch) = self.filling.as_mut() else {
            return;
        };
        // The span of the largest batch leaves one large block for padding.
        let room = self.shape.bounds.batch_span_max() - LARGE_BLOCK_SIZE as u64;
        let limit = limit.min(batch.offset + room);
        while batch.offset + (batch.bytes.len() + ENTRY_HEADER_SIZE) as u64 <= limit {
            let Some((group, mark)) = self.index.due_mark() else {
                return;
            };
            let record = Record::Mark {
                group,
                index: mark.index,
                term: mark.term,
            };
            record.encode(&mut batch.bytes);
            batch.records += 1;
            self.queued_bytes += record.size();
            self.index.note(&record);
        }
    }

    fn next_segment(&mut self) {
        let tail = self.index.tail();
        let (seq, base) = (SegmentSeq(tail.seq.0 + 1), tail.end());
        self.index.open_segment(seq, base, self.shape.segment_bytes);
        self.tail = base;
    }

    /// Adds an empty batch that begins a process life, and one that confirms it. They are written
    /// one after the other.
    pub fn open(&mut self) {
        assert!(self.is_idle());
        for flags in [FLAG_OPEN, 0] {
            self.begin();
            let batch = self.filling.as_mut().expect("just begun");
            batch.alone = true;
            self.close_filling(flags);
        }
    }

    /// Adds a batch that ends a process life. Only when idle: nothing may be in flight behind it.
    pub fn close(&mut self) {
        assert!(self.is_idle());
        // The segment's last block is free for it when no other block is.
        self.begin();
        self.close_filling(FLAG_CLOSED);
    }

    /// Whether the tail segment takes `size` more bytes of records, with `kept` of it left over.
    pub fn fits(&self, size: usize, kept: u64) -> bool {
        let begin = match &self.filling {
            Some(batch) => {
                let end = batch.offset + batch.bytes.len() as u64;
                let full = batch.records > 0
                    && batch.bytes.len() + size > self.shape.bounds.batch_bytes_max;
                match full {
                    // It is closed first, and padded.
                    true => {
                        let unit = self.shape.alignment.max(LARGE_BLOCK_SIZE as u64);
                        round_up(end, unit) + BATCH_HEADER_SIZE as u64
                    }
                    false => end,
                }
            }
            None => self.tail.0 - self.index.tail().base.0 + BATCH_HEADER_SIZE as u64,
        };
        begin + size as u64 + kept <= self.segment_limit()
    }

    /// Bytes of the tail segment that marks keep for themselves while the disk is full.
    pub fn kept_for_marks(&self) -> u64 {
        limits::MARK_BLOCKS_KEPT * self.shape.alignment
    }

    /// Nothing is in flight, and what waits, if anything, belongs into another segment than `seq`.
    pub fn stands_at(&self, seq: SegmentSeq) -> bool {
        self.in_flight.is_empty() && self.next_seq() != Some(seq)
    }

    /// The segment of the next write, once there is one.
    pub fn next_seq(&self) -> Option<SegmentSeq> {
        let waiting = self.ready.front().or(self.filling.as_ref());
        waiting.map(|batch| batch.seq)
    }

    /// The write to send now, if any: the first as soon as there is something, a second one only
    /// when much waits, and none into another segment before all earlier ones have completed.
    pub fn next_write(&mut self) -> Option<Write> {
        let first = self.in_flight.is_empty();
        if self.in_flight.front().is_some_and(|flight| flight.alone) {
            return None;
        }
        if !first {
            let waiting: usize = self
                .ready
                .iter()
                .map(|batch| batch.bytes.len())
                .sum::<usize>()
                + self.filling.as_ref().map_or(0, |batch| batch.bytes.len());
            if self.in_flight.len() >= limits::WRITES_IN_FLIGHT_MAX
                || waiting < self.shape.bounds.second_write_bytes_min
            {
                return None;
            }
        }
        if self.ready.is_empty() {
            self.close_filling(0);
        }
        let batch = self.ready.front()?;
        if !first {
            let end = batch.lsn.0 + u64::from(batch.span);
            // A segment begins only when the one before it is durable, seal included: else a crash
            // could leave two segments without an end.
            let crosses = batch.offset == 0 || batch.lsn != batch.previous_end;
            if crosses || end - self.durable.0 > self.shape.bounds.in_flight_bytes_max {
                return None;
            }
        }
        let batch = self.ready.pop_front()?;
        Some(self.send(batch))
    }

    fn send(&mut self, mut batch: Batch) -> Write {
        let mut header = BatchHeader {
            flags: batch.flags,
            stream: self.shape.stream,
            epoch: self.shape.epoch,
            size: u32::try_from(batch.bytes.len()).expect("a batch is bounded"),
            span: batch.span,
            body_crc: 0,
            seq: batch.seq,
            lsn: batch.lsn,
            previous_end: batch.previous_end,
            durable: self.durable,
            start: batch.start,
            gap_blocks: self.gap_blocks,
        };
        header.body_crc = header.checksum(&batch.bytes[BATCH_HEADER_SIZE..]);
        assert!(header.is_ordered(), "{header:?}");
        header.encode(&mut batch.bytes);
        self.in_flight.push_back(Flight {
            number: batch.lsn.0,
            end: header.end(),
            start: batch.start,
            bytes: batch.bytes.len() - BATCH_HEADER_SIZE,
            alone: batch.alone,
            done: false,
        });
        Write {
            number: batch.lsn.0,
            seq: batch.seq,
            offset: batch.offset,
            span: batch.span as usize,
            records: batch.records,
            bytes: batch.bytes,
        }
    }

    /// Takes a sent batch's memory back.
    pub fn reuse(&mut self, mut buffer: Vec<u8>) {
        let keep = buffer.capacity() <= limits::BUFFER_KEPT_BYTES_MAX
            && self.spare_buffers.len() < limits::BUFFERS_KEPT_MAX;
        if keep {
            buffer.clear();
            self.spare_buffers.push(buffer);
        }
    }

    /// The write is on stable storage. Answers whether `durable` advanced: a second write that is
    /// done before the first counts only with it.
    pub fn completed(&mut self, number: u64) -> bool {
        let flight = self
            .in_flight
            .iter_mut()
            .find(|flight| flight.number == number);
        flight.expect("only sent writes complete").done = true;
        let before = self.durable;
        while let Some(flight) = self.in_flight.front()
            && flight.done
        {
            assert!(self.durable < flight.end);
            self.durable = flight.end;
            self.announced = self.announced.max(flight.start);
            self.queued_bytes -= flight.bytes;
            self.in_flight.pop_front();
        }
        self.durable > before
    }
}
