//! Pure. Follows the chain of batches through the bytes of segments and finds its end.
//!
//! A batch continues the chain when it lies where the one before it ended and says so. What else
//! can be found there is the table of tail cases in `docs/format/wal.md`, and [`TailCase`] here.
//! Behind an unreadable place the rest of the segment is searched: a later batch whose `durable`
//! lies above the place proves that acknowledged bytes are damaged; a later batch that opens a
//! process life continues the chain.

use super::format::{
    BATCH_HEADER_SIZE, BATCH_MAGIC, BLOCK_SIZE, BatchHeader, FLAG_CLOSED, FLAG_OPEN, FLAG_SEAL,
    HeaderFault, Record, RecordFault,
};
use crate::codec::Reader;
use crate::ids::{Lsn, SegmentSeq};

/// How the log was found to end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum TailCase {
    /// No batch at all: a new log, or one that crashed before its first batch.
    #[default]
    Empty,
    /// The last batch closes a process life.
    Closed,
    /// Behind the last batch lies nothing of this log, or bytes of a segment's former use.
    End,
    /// Behind the last batch lies one whose write was cut short.
    Torn,
    /// Behind the last batch is a hole, and then batches that were in flight together with it.
    InFlight,
}

/// The log as far as it has been followed.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    stream: Option<u64>,
    /// Of the last batch.
    epoch: u32,
    /// Largest epoch of any batch of this log, part of the chain or not.
    epoch_max: u32,
    /// End of the last batch; `None` before the first.
    end: Option<Lsn>,
    start: Lsn,
    sealed: bool,
    closed: bool,
    /// Ends of batches that no later one has called durable: a process that did not see them may
    /// have opened the log before them.
    unsure: Vec<Lsn>,
    tail_case: TailCase,
}

impl Chain {
    pub fn stream(&self) -> Option<u64> {
        self.stream
    }

    pub fn epoch_max(&self) -> u32 {
        self.epoch_max
    }

    pub fn end(&self) -> Option<Lsn> {
        self.end
    }

    /// No record below was needed when the last batch was written.
    pub fn start(&self) -> Lsn {
        self.start
    }

    /// The last batch says that the log goes on in the next segment.
    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Nothing can have been in flight behind the last batch.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    pub fn tail_case(&self) -> TailCase {
        if self.closed {
            TailCase::Closed
        } else {
            self.tail_case
        }
    }

    /// Where this batch continues the chain, if it does: at the end of the last batch, or, for one
    /// that opens a process life, at the end of any batch not yet called durable.
    /// `begin` is the start of the oldest segment.
    fn link(&self, header: &BatchHeader, offset: u64, begin: Lsn) -> bool {
        let opens = header.has(FLAG_OPEN);
        let Some(end) = self.end else {
            return header.lsn == begin || (opens && header.durable <= begin);
        };
        if opens {
            return header.epoch > self.epoch
                && (header.previous_end == end || self.unsure.contains(&header.previous_end));
        }
        let contiguous = header.lsn == end || (offset == 0 && self.sealed);
        header.epoch == self.epoch && header.previous_end == end && contiguous
    }

    fn accept(&mut self, header: &BatchHeader) {
        self.unsure.push(self.end.unwrap_or(header.previous_end));
        let void = self.void_from(header);
        self.unsure
            .retain(|&end| end >= header.durable && end <= void);
        self.stream = Some(header.stream);
        self.epoch = header.epoch;
        self.epoch_max = self.epoch_max.max(header.epoch);
        self.end = Some(header.end());
        self.start = header.start;
        self.sealed = header.has(FLAG_SEAL);
        self.closed = header.has(FLAG_CLOSED);
        self.tail_case = TailCase::End;
    }

    fn void_from(&self, header: &BatchHeader) -> Lsn {
        if header.has(FLAG_OPEN) {
            header.previous_end
        } else {
            header.lsn
        }
    }
}

/// Something that recovery must not pass over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    pub offset: u64,
    pub kind: FaultKind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    Version {
        found: u16,
    },
    Lost {
        expected: Lsn,
        found: Lsn,
        durable: Lsn,
    },
}

/// What the scanner makes of a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The window began with the chain's next batch: header, records up to `size`. Batches that
    /// begin at or above `void_from` are not part of the log.
    Batch { header: BatchHeader, void_from: Lsn },
    /// The scanner moved: give it the window at `offset()`.
    Moved,
    /// Give it the same window with at least so many bytes.
    More(usize),
    /// Nothing more in this segment.
    End,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Follow,
    /// Behind the unreadable place at `hole`.
    Search {
        hole: u64,
    },
}

/// Follows the chain through one segment.
#[derive(Clone, Debug)]
pub struct Scanner {
    seq: SegmentSeq,
    size: u64,
    /// `None` only in the oldest segment, until its first batch tells.
    base: Option<Lsn>,
    offset: u64,
    mode: Mode,
    /// Only the first block is looked at: the segment before did not end, so that nothing should
    /// be here but the first batch of a process life.
    peek: bool,
    /// Bytes of older segments, as long as the chain has not begun.
    skipped: u64,
}

impl Scanner {
    /// Begins with the oldest segment, whose place in the stream is not known.
    pub fn oldest(seq: SegmentSeq, size: u64) -> Scanner {
        Scanner {
            seq,
            size,
            base: None,
            offset: 0,
            mode: Mode::Follow,
            peek: false,
            skipped: 0,
        }
    }

    /// Goes on with a later segment; `skipped` bytes of older ones are on disk.
    pub fn next(
        chain: &Chain,
        seq: SegmentSeq,
        base: Option<Lsn>,
        size: u64,
        skipped: u64,
    ) -> Scanner {
        let peek = !chain.is_sealed();
        Scanner {
            seq,
            size,
            base,
            offset: 0,
            mode: Mode::Follow,
            peek,
            skipped,
        }
    }

    /// Where the next window must begin: a multiple of the block size.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    pub fn base(&self) -> Option<Lsn> {
        self.base
    }

    /// Looks at the bytes that begin at `offset()`.
    pub fn step(&mut self, chain: &mut Chain, window: &[u8]) -> Result<Step, Fault> {
        if self.offset + BLOCK_SIZE as u64 > self.size {
            return Ok(Step::End);
        }
        if window.len() < BLOCK_SIZE {
            return Ok(Step::More(BLOCK_SIZE));
        }
        match self.mode {
            Mode::Follow => self.follow(chain, window),
            Mode::Search { hole } => self.search(chain, window, hole),
        }
    }

    fn follow(&mut self, chain: &mut Chain, window: &[u8]) -> Result<Step, Fault> {
        let Some(mut header) = self.own_header(chain, window, self.offset)? else {
            return Ok(self.leave(TailCase::End, chain));
        };
        if header.has(FLAG_OPEN) {
            let behind = header.span as usize;
            let in_segment = self.offset + (behind + BLOCK_SIZE) as u64 <= self.size;
            match window.get(behind..behind + BLOCK_SIZE) {
                Some(block) => confirm(&mut header, block),
                None if in_segment => return Ok(Step::More(behind + BLOCK_SIZE)),
                None => {}
            }
        }
        let base = self.base_of(&header);
        let begin = Lsn(base.0.saturating_sub(self.skipped));
        if !chain.link(&header, self.offset, begin) {
            refuse_if_durable(chain, &header, self.offset, begin)?;
            return Ok(self.leave(TailCase::InFlight, chain));
        }
        let Some(body) = window.get(BATCH_HEADER_SIZE..header.size as usize) else {
            return Ok(Step::More(header.size as usize));
        };
        if header.checksum(body) != header.body_crc {
            return Ok(self.leave(TailCase::Torn, chain));
        }
        let void_from = chain.void_from(&header);
        chain.accept(&header);
        self.base = Some(base);
        self.peek = false;
        self.offset += u64::from(header.span);
        // Behind a seal nothing follows, except that a process which did not see the seal may have
        // opened the log there.
        self.mode = match chain.sealed {
            true => Mode::Search { hole: self.offset },
            false => Mode::Follow,
        };
        Ok(Step::Batch { header, void_from })
    }

    /// The chain does not go on here.
    fn leave(&mut self, case: TailCase, chain: &mut Chain) -> Step {
        if self.peek {
            self.offset = self.size;
            return Step::End;
        }
        if chain.end.is_some() {
            chain.tail_case = case;
        }
        self.mode = Mode::Search { hole: self.offset };
        self.offset += BLOCK_SIZE as u64;
        Step::Moved
    }

    fn search(&mut self, chain: &mut Chain, window: &[u8], hole: u64) -> Result<Step, Fault> {
        for block in window.chunks_exact(BLOCK_SIZE) {
            if block[..BATCH_MAGIC.len()] == BATCH_MAGIC
                && let Some(header) = self.own_header(chain, block, self.offset)?
            {
                let begin = Lsn(self.base_of(&header).0.saturating_sub(self.skipped));
                if header.has(FLAG_OPEN) && header.epoch > chain.epoch {
                    // Its link is checked there, with the block behind it.
                    self.mode = Mode::Follow;
                    return Ok(Step::Moved);
                }
                refuse_if_durable(chain, &header, hole, begin)?;
                if chain.end.is_some() {
                    chain.tail_case = TailCase::InFlight;
                }
            }
            self.offset += BLOCK_SIZE as u64;
        }
        Ok(Step::Moved)
    }

    /// The header in this block, if this log wrote it for this place and not in a life that the
    /// chain has left behind.
    fn own_header(
        &self,
        chain: &mut Chain,
        block: &[u8],
        offset: u64,
    ) -> Result<Option<BatchHeader>, Fault> {
        let header = match BatchHeader::decode(block) {
            Ok(header) => header,
            // Only the log's own random name makes the bytes worth a refusal: a client's value may
            // look like a header of any version.
            Err(HeaderFault::Version { found, stream })
                if chain.stream.is_none_or(|own| own == stream) =>
            {
                return Err(Fault {
                    offset,
                    kind: FaultKind::Version { found },
                });
            }
            Err(_) => return Ok(None),
        };
        let place = match self.base {
            Some(base) => header.lsn.0 == base.0 + offset,
            None => header.lsn.0 >= offset,
        };
        let ours = header.seq == self.seq
            && chain.stream.is_none_or(|stream| stream == header.stream)
            && header.epoch >= chain.epoch;
        if ours && !place && offset == 0 && chain.end.is_some() {
            // The first batch of this segment, but of another place in the log: a segment before
            // it is shorter than it was. What was durable then must be here, or it is lost.
            refuse_if_durable(chain, &header, offset, header.lsn)?;
        }
        let own = ours && place && u64::from(header.span) <= self.size - offset;
        if !own {
            return Ok(None);
        }
        if chain.stream.is_some() {
            chain.epoch_max = chain.epoch_max.max(header.epoch);
        }
        Ok(Some(header))
    }

    fn base_of(&self, header: &BatchHeader) -> Lsn {
        self.base.unwrap_or(Lsn(header.lsn.0 - self.offset))
    }
}

/// Corrects an opening batch by the one behind it. An earlier opening that was killed may have
/// been written over it late: at the same place and with the same epoch, but before it saw as much
/// of the log. What was written since knows how much the life that went on had seen.
fn confirm(header: &mut BatchHeader, block: &[u8]) {
    if let Ok(next) = BatchHeader::decode(block)
        && next.stream == header.stream
        && next.epoch == header.epoch
        && next.lsn == header.end()
        && next.previous_end == next.lsn
        && !next.has(FLAG_OPEN)
    {
        let seen = Lsn(header.lsn.0.saturating_sub(next.gap()));
        header.previous_end = seen.max(header.durable);
    }
}

/// A batch that does not continue the chain is harmless only if all before it that is missing was
/// not yet durable when it was written.
fn refuse_if_durable(
    chain: &Chain,
    header: &BatchHeader,
    hole: u64,
    begin: Lsn,
) -> Result<(), Fault> {
    let expected = chain.end.unwrap_or(begin);
    if header.durable > expected {
        let kind = FaultKind::Lost {
            expected,
            found: header.lsn,
            durable: header.durable,
        };
        return Err(Fault { offset: hole, kind });
    }
    Ok(())
}

/// What a segment holds, read alone.
#[derive(Clone, Debug, Default)]
pub struct SegmentReport {
    pub batches: u64,
    pub records: u64,
    /// Why the records of a whole batch could not be read to the end, and where it begins.
    pub record_fault: Option<(u64, RecordFault)>,
    pub chain: Chain,
}

/// Follows one whole segment and hands every batch of it to `sink`: for dumps and tests. Batches
/// that a later one declares void are not taken back.
pub fn scan(
    bytes: &[u8],
    seq: SegmentSeq,
    mut sink: impl FnMut(u64, &BatchHeader, &[u8]),
) -> Result<SegmentReport, Fault> {
    let mut report = SegmentReport::default();
    let mut scanner = Scanner::oldest(seq, bytes.len() as u64);
    loop {
        let offset = scanner.offset();
        let window = bytes.get(offset as usize..).unwrap_or_default();
        match scanner.step(&mut report.chain, window)? {
            Step::Batch { header, .. } => {
                let body = &window[BATCH_HEADER_SIZE..header.size as usize];
                report.batches += 1;
                let mut records = Reader::new(body);
                while let Some(record) = Record::decode(&mut records) {
                    match record {
                        Ok(_) => report.records += 1,
                        Err(fault) => {
                            report.record_fault.get_or_insert((offset, fault));
                            break;
                        }
                    }
                }
                sink(offset, &header, body);
            }
            Step::Moved => {}
            // The header promises no more than the segment's size, so the window was cut short.
            Step::More(_) | Step::End => return Ok(report),
        }
    }
}
