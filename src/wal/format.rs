//! Pure. The bytes of batches and records; `docs/format/wal.md` draws them.

use crate::codec::Reader;
use crate::ids::{GroupId, LogIndex, Lsn, MemberId, SegmentSeq, Term};

/// The smallest block of any file: batches begin at multiples of it, and a disk writes it whole.
pub const BLOCK_SIZE: usize = 512;
/// Large batches end at multiples of this.
pub const LARGE_BLOCK_SIZE: usize = 4096;

pub const BATCH_MAGIC: [u8; 4] = *b"RBWL";
pub const BATCH_VERSION: u16 = 1;
pub const BATCH_HEADER_SIZE: usize = 80;

const MAGIC_AT: usize = 0;
const VERSION_AT: usize = 4;
const FLAGS_AT: usize = 6;
const STREAM_AT: usize = 8;
const EPOCH_AT: usize = 16;
const SIZE_AT: usize = 20;
const SPAN_AT: usize = 24;
const BODY_CRC_AT: usize = 28;
const SEQ_AT: usize = 32;
const LSN_AT: usize = 40;
const PREVIOUS_END_AT: usize = 48;
const DURABLE_AT: usize = 56;
const START_AT: usize = 64;
const GAP_AT: usize = 72;
const HEADER_CRC_AT: usize = 76;

/// The first batch of a process life.
pub const FLAG_OPEN: u16 = 1;
/// The last batch of its segment: the log goes on in the next one.
pub const FLAG_SEAL: u16 = 2;
/// The last batch of a process life: nothing was in flight behind it.
pub const FLAG_CLOSED: u16 = 4;
const FLAGS_KNOWN: u16 = FLAG_OPEN | FLAG_SEAL | FLAG_CLOSED;

pub const RECORD_HEADER_SIZE: usize = 12;
/// A record header with an index and a term behind it: entries, copies, marks, resets.
pub const ENTRY_HEADER_SIZE: usize = RECORD_HEADER_SIZE + 16;
pub const HARD_STATE_SIZE: usize = RECORD_HEADER_SIZE + 24;

const KIND_ENTRY: u8 = 1;
const KIND_HARD_STATE: u8 = 2;
const KIND_MARK: u8 = 3;
const KIND_META: u8 = 4;
const KIND_COPY: u8 = 5;
const KIND_REMOVED: u8 = 6;
const KIND_RESET: u8 = 7;

/// What a batch says of itself and of the log around it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct BatchHeader {
    pub flags: u16,
    /// Random name of the log; no other log's bytes can pass for this one's.
    pub stream: u64,
    /// Process lives of this log, counted from 1. Never falls along the log.
    pub epoch: u32,
    /// Header and records. `BATCH_HEADER_SIZE <= size <= span`.
    pub size: u32,
    /// `size` and zeros up to the end of the last block: where the next batch may begin.
    pub span: u32,
    pub body_crc: u32,
    pub seq: SegmentSeq,
    /// Where the batch begins.
    pub lsn: Lsn,
    /// Where the batch before this one ended. Differs from `lsn` when blocks or segments were
    /// left out between them: what lies there is void.
    pub previous_end: Lsn,
    /// All below was durable when this batch's write began: `durable <= previous_end`.
    pub durable: Lsn,
    /// No record below is needed any more: segments that end at or below may be gone.
    pub start: Lsn,
    /// Blocks that the opening batch of this process life left out before it. Every batch of the
    /// life says it, because an opening batch is the one that an earlier, killed opening can
    /// overwrite late.
    pub gap_blocks: u32,
}

/// Why bytes at a block boundary are not a batch header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HeaderFault {
    /// No magic, a wrong checksum, or too few bytes.
    Absent,
    /// Whole, but of another layout.
    Version { found: u16, stream: u64 },
    /// Whole, but its fields do not fit each other.
    Fields,
}

impl BatchHeader {
    pub fn has(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Bytes between the end of the life before and the opening batch.
    pub fn gap(&self) -> u64 {
        u64::from(self.gap_blocks) * BLOCK_SIZE as u64
    }

    pub fn end(&self) -> Lsn {
        Lsn(self.lsn.0 + u64::from(self.span))
    }

    /// Writes the header over the first bytes of `batch`.
    pub fn encode(&self, batch: &mut [u8]) {
        let out = &mut batch[..BATCH_HEADER_SIZE];
        out[MAGIC_AT..VERSION_AT].copy_from_slice(&BATCH_MAGIC);
        out[VERSION_AT..FLAGS_AT].copy_from_slice(&BATCH_VERSION.to_le_bytes());
        out[FLAGS_AT..STREAM_AT].copy_from_slice(&self.flags.to_le_bytes());
        out[STREAM_AT..EPOCH_AT].copy_from_slice(&self.stream.to_le_bytes());
        out[EPOCH_AT..SIZE_AT].copy_from_slice(&self.epoch.to_le_bytes());
        out[SIZE_AT..SPAN_AT].copy_from_slice(&self.size.to_le_bytes());
        out[SPAN_AT..BODY_CRC_AT].copy_from_slice(&self.span.to_le_bytes());
        out[BODY_CRC_AT..SEQ_AT].copy_from_slice(&self.body_crc.to_le_bytes());
        out[SEQ_AT..LSN_AT].copy_from_slice(&self.seq.0.to_le_bytes());
        out[LSN_AT..PREVIOUS_END_AT].copy_from_slice(&self.lsn.0.to_le_bytes());
        out[PREVIOUS_END_AT..DURABLE_AT].copy_from_slice(&self.previous_end.0.to_le_bytes());
        out[DURABLE_AT..START_AT].copy_from_slice(&self.durable.0.to_le_bytes());
        out[START_AT..GAP_AT].copy_from_slice(&self.start.0.to_le_bytes());
        out[GAP_AT..HEADER_CRC_AT].copy_from_slice(&self.gap_blocks.to_le_bytes());
        let crc = crc32fast::hash(&out[..HEADER_CRC_AT]);
        out[HEADER_CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads a header from the first bytes of a block. Magic, version, stream and checksum
    /// have the same place in every version, so an unknown version is told from damage.
    pub fn decode(block: &[u8]) -> Result<BatchHeader, HeaderFault> {
        let head = block
            .first_chunk::<BATCH_HEADER_SIZE>()
            .ok_or(HeaderFault::Absent)?;
        if head[MAGIC_AT..VERSION_AT] != BATCH_MAGIC {
            return Err(HeaderFault::Absent);
        }
        let mut crc = Reader::new(&head[HEADER_CRC_AT..]);
        if crc.u32() != Some(crc32fast::hash(&head[..HEADER_CRC_AT])) {
            return Err(HeaderFault::Absent);
        }
        let mut fields = Reader::new(&head[VERSION_AT..]);
        let (version, header) = Self::decode_fields(&mut fields).ok_or(HeaderFault::Absent)?;
        if version != BATCH_VERSION {
            return Err(HeaderFault::Version {
                found: version,
                stream: header.stream,
            });
        }
        if header.flags & !FLAGS_KNOWN == 0 && header.is_ordered() {
            Ok(header)
        } else {
            Err(HeaderFault::Fields)
        }
    }

    fn decode_fields(fields: &mut Reader<'_>) -> Option<(u16, BatchHeader)> {
        let version = fields.u16()?;
        let flags = fields.u16()?;
        let stream = fields.u64()?;
        let epoch = fields.u32()?;
        let size = fields.u32()?;
        let span = fields.u32()?;
        let body_crc = fields.u32()?;
        let seq = SegmentSeq(fields.u64()?);
        let lsn = Lsn(fields.u64()?);
        let previous_end = Lsn(fields.u64()?);
        let durable = Lsn(fields.u64()?);
        let start = Lsn(fields.u64()?);
        let gap_blocks = fields.u32()?;
        let header = BatchHeader {
            flags,
            stream,
            epoch,
            size,
            span,
            body_crc,
            seq,
            lsn,
            previous_end,
            durable,
            start,
            gap_blocks,
        };
        Some((version, header))
    }

    /// The relations that every written header keeps.
    pub fn is_ordered(&self) -> bool {
        let size = self.size as usize;
        let span = self.span as usize;
        size >= BATCH_HEADER_SIZE
            && size <= span
            && span.is_multiple_of(BLOCK_SIZE)
            && self.durable <= self.previous_end
            && self.previous_end <= self.lsn
            && self.start <= self.lsn
            && (!self.has(FLAG_OPEN) || self.lsn.0 - self.previous_end.0 == self.gap())
            && self.lsn.0.checked_add(u64::from(self.span)).is_some()
    }

    /// The checksum of a body: seeded with who wrote the batch, when and where, so that a body
    /// never passes under another batch's header.
    pub fn checksum(&self, body: &[u8]) -> u32 {
        let mut seed = [0u8; 28];
        seed[..8].copy_from_slice(&self.stream.to_le_bytes());
        seed[8..12].copy_from_slice(&self.epoch.to_le_bytes());
        seed[12..20].copy_from_slice(&self.seq.0.to_le_bytes());
        seed[20..].copy_from_slice(&self.lsn.0.to_le_bytes());
        let mut hasher = crc32fast::Hasher::new_with_initial(crc32fast::hash(&seed));
        hasher.update(body);
        hasher.finalize()
    }
}

/// What raft must find again after a restart, beside its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    pub term: Term,
    /// 0: no vote in this term.
    pub vote: MemberId,
    pub commit: LogIndex,
}

/// One record of the log. The log never looks into `data` and `bytes`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Record<'a> {
    /// A raft entry. Replaces the group's entries from `index` on.
    Entry {
        group: GroupId,
        index: LogIndex,
        term: Term,
        data: &'a [u8],
    },
    /// Replaces the group's hard state.
    HardState { group: GroupId, state: HardState },
    /// Entries up to `index` are in the backend. Written by `release`.
    Mark {
        group: GroupId,
        index: LogIndex,
        term: Term,
    },
    /// Replaces the group's opaque description: its name, its members.
    Meta { group: GroupId, bytes: &'a [u8] },
    /// An entry of a segment that will be recycled, written again. Replaces nothing. Written by
    /// the log itself.
    Copy {
        group: GroupId,
        index: LogIndex,
        term: Term,
        data: &'a [u8],
    },
    /// The group is gone: all earlier records of it are void.
    Removed { group: GroupId },
    /// A snapshot replaced the group's state: all its entries are void, the next is `index` + 1.
    Reset {
        group: GroupId,
        index: LogIndex,
        term: Term,
    },
}

/// Why a record inside a whole batch cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecordFault {
    Kind(u8),
    Size(u64),
}

impl<'a> Record<'a> {
    pub fn group(&self) -> GroupId {
        match *self {
            Record::Entry { group, .. }
            | Record::HardState { group, .. }
            | Record::Mark { group, .. }
            | Record::Meta { group, .. }
            | Record::Copy { group, .. }
            | Record::Removed { group }
            | Record::Reset { group, .. } => group,
        }
    }

    /// Bytes of the record in a batch, its header included.
    #[inline]
    pub fn size(&self) -> usize {
        match self {
            Record::Entry { data, .. } | Record::Copy { data, .. } => {
                ENTRY_HEADER_SIZE + data.len()
            }
            Record::HardState { .. } => HARD_STATE_SIZE,
            Record::Mark { .. } | Record::Reset { .. } => ENTRY_HEADER_SIZE,
            Record::Meta { bytes, .. } => RECORD_HEADER_SIZE + bytes.len(),
            Record::Removed { .. } => RECORD_HEADER_SIZE,
        }
    }

    /// Appends the record. Its size fits in 32 bits: the caller has compared it with a bound.
    #[inline]
    pub fn encode(&self, out: &mut Vec<u8>) {
        let size = self.size();
        debug_assert!(u32::try_from(size).is_ok());
        match *self {
            Record::Entry {
                group,
                index,
                term,
                data,
            } => {
                put_entry(out, size, KIND_ENTRY, group, index, term);
                out.extend_from_slice(data);
            }
            Record::Copy {
                group,
                index,
                term,
                data,
            } => {
                put_entry(out, size, KIND_COPY, group, index, term);
                out.extend_from_slice(data);
            }
            Record::HardState { group, state } => {
                let mut bytes = [0u8; HARD_STATE_SIZE];
                bytes[..12].copy_from_slice(&record_header(size, KIND_HARD_STATE, group));
                bytes[12..20].copy_from_slice(&state.term.0.to_le_bytes());
                bytes[20..28].copy_from_slice(&state.vote.0.to_le_bytes());
                bytes[28..].copy_from_slice(&state.commit.0.to_le_bytes());
                out.extend_from_slice(&bytes);
            }
            Record::Mark { group, index, term } => {
                put_entry(out, size, KIND_MARK, group, index, term);
            }
            Record::Reset { group, index, term } => {
                put_entry(out, size, KIND_RESET, group, index, term);
            }
            Record::Meta { group, bytes } => {
                out.extend_from_slice(&record_header(size, KIND_META, group));
                out.extend_from_slice(bytes);
            }
            Record::Removed { group } => {
                out.extend_from_slice(&record_header(size, KIND_REMOVED, group));
            }
        }
    }

    /// Takes the next record of a batch body. `None` when the body is empty.
    #[inline]
    pub fn decode(body: &mut Reader<'a>) -> Option<Result<Record<'a>, RecordFault>> {
        if body.is_empty() {
            return None;
        }
        let left = body.rest().len() as u64;
        Some(Self::decode_one(body).unwrap_or(Err(RecordFault::Size(left))))
    }

    fn decode_one(body: &mut Reader<'a>) -> Option<Result<Record<'a>, RecordFault>> {
        let size = body.u32()? as usize;
        let kind = body.u8()?;
        let zeros = body.take(3)?;
        let group = GroupId(body.u32()?);
        let mut rest = Reader::new(body.take(size.checked_sub(RECORD_HEADER_SIZE)?)?);
        if zeros != [0; 3] {
            return None;
        }
        let record = match kind {
            KIND_ENTRY | KIND_COPY | KIND_MARK | KIND_RESET => {
                let index = LogIndex(rest.u64()?);
                let term = Term(rest.u64()?);
                let data = rest.rest();
                match kind {
                    KIND_ENTRY => {
                        return Some(Ok(Record::Entry {
                            group,
                            index,
                            term,
                            data,
                        }));
                    }
                    KIND_COPY => {
                        return Some(Ok(Record::Copy {
                            group,
                            index,
                            term,
                            data,
                        }));
                    }
                    KIND_MARK => Record::Mark { group, index, term },
                    _ => Record::Reset { group, index, term },
                }
            }
            KIND_HARD_STATE => {
                let term = Term(rest.u64()?);
                let vote = MemberId(rest.u64()?);
                let commit = LogIndex(rest.u64()?);
                Record::HardState {
                    group,
                    state: HardState { term, vote, commit },
                }
            }
            KIND_META => {
                return Some(Ok(Record::Meta {
                    group,
                    bytes: rest.rest(),
                }));
            }
            KIND_REMOVED => Record::Removed { group },
            other => return Some(Err(RecordFault::Kind(other))),
        };
        rest.is_empty().then_some(Ok(record))
    }
}

#[inline]
fn record_header(size: usize, kind: u8, group: GroupId) -> [u8; RECORD_HEADER_SIZE] {
    let mut bytes = [0u8; RECORD_HEADER_SIZE];
    bytes[..4].copy_from_slice(&(size as u32).to_le_bytes());
    bytes[4] = kind;
    bytes[8..].copy_from_slice(&group.0.to_le_bytes());
    bytes
}

#[inline]
fn put_entry(
    out: &mut Vec<u8>,
    size: usize,
    kind: u8,
    group: GroupId,
    index: LogIndex,
    term: Term,
) {
    let mut bytes = [0u8; ENTRY_HEADER_SIZE];
    bytes[..12].copy_from_slice(&record_header(size, kind, group));
    bytes[12..20].copy_from_slice(&index.0.to_le_bytes());
    bytes[20..].copy_from_slice(&term.0.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// `offset` rounded up to a multiple of `unit`, a power of two.
pub fn round_up(offset: u64, unit: u64) -> u64 {
    debug_assert!(unit.is_power_of_two());
    (offset + (unit - 1)) & !(unit - 1)
}
