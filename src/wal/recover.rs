//! Driver. Reads a log's segments in order and finds where it goes on.

use super::error::WalError;
use super::format::{BATCH_HEADER_SIZE, BLOCK_SIZE, BatchHeader, Record, RecordFault, round_up};
use super::index::Index;
use super::log::Options;
use super::names::FileRole;
use super::rebuild::{Held, Rebuild, RecoveredGroup};
use super::scan::{Chain, Fault, FaultKind, Scanner, Step, TailCase};
use crate::codec::Reader;
use crate::env::{Env, LogFile};
use crate::ids::{GroupId, Lsn, SegmentSeq};
use crate::limits::wal as limits;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// What a restart finds in the log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovered {
    pub groups: BTreeMap<GroupId, RecoveredGroup>,
    pub report: RecoveryReport,
}

/// How the log was found, for the operator's log line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecoveryReport {
    pub tail_case: TailCase,
    /// Process lives of this log, the present one included.
    pub epoch: u32,
    pub segments: usize,
    pub batches: u64,
    pub records: u64,
    pub read_bytes: u64,
    /// Where the last good batch ended.
    pub end: Lsn,
    /// Where this process goes on.
    pub tail: Lsn,
}

/// Everything that `Log::open` goes on with.
pub(super) struct Found<F> {
    pub recovered: Recovered,
    pub index: Index,
    pub stream: u64,
    pub epoch: u32,
    pub seq: SegmentSeq,
    pub path: PathBuf,
    pub file: F,
    /// `file` is the tail's segment. Else the disk has no room for that one, and `file` is the one
    /// before it.
    pub ready: bool,
    pub tail: Lsn,
    pub previous_end: Lsn,
    pub start: Lsn,
    pub spares: Vec<u64>,
    pub file_number_next: u64,
    /// Segment files that had to be filled with zeros before the log could open.
    pub created: u64,
}

/// A segment file on disk.
#[derive(Clone, Copy, Debug)]
struct OnDisk {
    seq: SegmentSeq,
    size: u64,
    base: Option<Lsn>,
}

/// Files of the log's directory by role.
#[derive(Default)]
struct Listing {
    segments: Vec<OnDisk>,
    spares: Vec<u64>,
    unfinished: Vec<u64>,
    file_number_next: u64,
}

pub(super) async fn recover<E: Env>(
    env: &E,
    options: &Options,
) -> Result<Found<E::LogFile>, WalError> {
    let dir = &options.dir;
    let io = |action, file: &Path| {
        let file = file.to_path_buf();
        move |source| WalError::io(action, &file, source)
    };
    env.create_dir_all(dir).await.map_err(io("create", dir))?;
    // A killed process may have renamed a segment without syncing: records that are appended to it
    // now must not lose their file with the next power cut.
    sync_dir(env, dir).await?;
    let mut listing = list(env, options).await?;
    let mut replay = Replay::default();
    for i in 0..listing.segments.len() {
        let expected = SegmentSeq(listing.segments[0].seq.0 + i as u64);
        let found = listing.segments[i].seq;
        if found != expected {
            return Err(WalError::SegmentMissing {
                dir: dir.clone(),
                expected,
                found,
            });
        }
        replay.segment(env, dir, &mut listing.segments, i).await?;
    }
    replay.finish_records(dir, &listing.segments)?;
    let chain = &replay.chain;
    if chain.end().is_none() && listing.segments.len() > 1 {
        // The first batch is durable before a second segment is made.
        let file = FileRole::Segment(listing.segments[0].seq).path(dir);
        let expected = "a batch in the oldest segment";
        return Err(WalError::Malformed {
            file,
            offset: 0,
            expected,
            found: 0,
        });
    }
    let place = resume(chain, &listing.segments, options);
    let oldest = listing
        .segments
        .first()
        .filter(|oldest| oldest.base > Some(chain.start()));
    if let Some(oldest) = oldest.filter(|_| chain.end().is_some()) {
        let (expected, found) = (SegmentSeq(oldest.seq.0 - 1), oldest.seq);
        return Err(WalError::SegmentMissing {
            dir: dir.clone(),
            expected,
            found,
        });
    }

    let created = make_place(env, options, &mut listing, &place).await?;
    let ready = created.is_some();
    let seq = match ready {
        true => place.seq,
        false => SegmentSeq(place.seq.0 - 1),
    };
    let path = FileRole::Segment(seq).path(dir);
    let file = env.open_log(&path).await.map_err(io("open", &path))?;
    let mut index = replay.index;
    let sizes = listing
        .segments
        .iter()
        .map(|segment| (segment.seq, segment.size));
    open_segments(&mut index, sizes, place.seq, place.base);
    if !ready {
        index.open_segment(place.seq, place.base, options.segment_bytes);
    }
    let groups = replay.rebuild.finish()?;
    for (&group, state) in &groups {
        let last = state
            .entries
            .last()
            .map_or(state.released.index, |entry| entry.index);
        index.restore(
            group,
            last,
            state.entries.iter().map(|entry| (entry.index, entry.term)),
        );
    }
    index.check();

    let tail = Lsn(place.base.0 + round_up(place.offset, file.alignment() as u64));
    let epoch = chain.epoch_max() + 1;
    let previous_end = chain.end().unwrap_or(place.base);
    let report = RecoveryReport {
        tail_case: chain.tail_case(),
        epoch,
        segments: listing.segments.len(),
        end: previous_end,
        tail,
        ..replay.report
    };
    Ok(Found {
        recovered: Recovered { groups, report },
        index,
        stream: chain.stream().unwrap_or_else(|| env.random()),
        epoch,
        seq,
        path,
        file,
        ready,
        tail,
        previous_end,
        start: chain.start(),
        spares: listing.spares,
        file_number_next: listing.file_number_next,
        created: created.unwrap_or(0),
    })
}

async fn list<E: Env>(env: &E, options: &Options) -> Result<Listing, WalError> {
    let files = env.list(&options.dir).await;
    let files = files.map_err(|source| WalError::io("list", &options.dir, source))?;
    let mut listing = Listing::default();
    for file in files {
        match FileRole::parse(&file.name) {
            Some(FileRole::Segment(seq)) => {
                listing.segments.push(OnDisk {
                    seq,
                    size: file.size,
                    base: None,
                });
            }
            Some(FileRole::Spare(number)) => {
                let fits = file.size == options.segment_bytes;
                match fits && listing.spares.len() < options.segments_spare {
                    true => listing.spares.push(number),
                    false => listing.unfinished.push(number | SPARE_BIT),
                }
                listing.file_number_next = listing.file_number_next.max(number + 1);
            }
            Some(FileRole::New(number)) => {
                listing.unfinished.push(number);
                listing.file_number_next = listing.file_number_next.max(number + 1);
            }
            // Not ours: an operator's note, a file system's own directory.
            None => {}
        }
    }
    listing.segments.sort_by_key(|segment| segment.seq);
    Ok(listing)
}

/// Marks a spare among the numbers of files to be removed.
const SPARE_BIT: u64 = 1 << 63;

/// What has been read so far.
#[derive(Default)]
struct Replay {
    chain: Chain,
    held: Held<Body>,
    rebuild: Rebuild,
    index: Index,
    report: RecoveryReport,
}

/// The records of one batch, and where the batch begins.
struct Body {
    seq: SegmentSeq,
    offset: u64,
    records: Bytes,
}

impl Replay {
    async fn segment<E: Env>(
        &mut self,
        env: &E,
        dir: &Path,
        segments: &mut [OnDisk],
        i: usize,
    ) -> Result<(), WalError> {
        let OnDisk { seq, size, .. } = segments[i];
        if !size.is_multiple_of(BLOCK_SIZE as u64) {
            // Segments are made whole before they get their name.
            return Err(WalError::Malformed {
                file: FileRole::Segment(seq).path(dir),
                offset: size,
                expected: "a size of whole blocks",
                found: size % BLOCK_SIZE as u64,
            });
        }
        let scanner = match i.checked_sub(1).map(|before| segments[before]) {
            None => Scanner::oldest(seq, size),
            Some(before) => {
                let base = before.base.map(|base| Lsn(base.0 + before.size));
                let skipped = segments[..i].iter().map(|segment| segment.size).sum();
                Scanner::next(&self.chain, seq, base, size, skipped)
            }
        };
        if size < BLOCK_SIZE as u64 {
            segments[i].base = scanner.base();
            return Ok(());
        }
        let mut reader = SegmentReader::open(env, dir, seq, scanner).await?;
        while let Some((offset, header, void_from, records)) = reader.next(&mut self.chain).await? {
            place_segments(segments, i, reader.scanner.base());
            self.report.batches += 1;
            self.held.push(
                header,
                void_from,
                Body {
                    seq,
                    offset,
                    records,
                },
            );
            while let Some((_, body)) = self.held.pop_sure() {
                self.apply(dir, segments, &body)?;
            }
        }
        place_segments(segments, i, reader.scanner.base());
        self.report.read_bytes += reader.read_bytes;
        reader.close().await
    }

    fn finish_records(&mut self, dir: &Path, segments: &[OnDisk]) -> Result<(), WalError> {
        while let Some((_, body)) = self.held.pop() {
            self.apply(dir, segments, &body)?;
        }
        Ok(())
    }

    fn apply(&mut self, dir: &Path, segments: &[OnDisk], body: &Body) -> Result<(), WalError> {
        let base = segments[0]
            .base
            .expect("a batch was found, so the oldest base is known");
        let sizes = segments.iter().map(|segment| (segment.seq, segment.size));
        open_segments(&mut self.index, sizes, body.seq, base);
        let mut reader = Reader::new(&body.records);
        while let Some(record) = Record::decode(&mut reader) {
            let record = record.map_err(|fault| record_error(fault, dir, body))?;
            self.report.records += 1;
            self.index.note(&record);
            self.rebuild.apply(&record, &body.records);
        }
        Ok(())
    }
}

/// The place of segment `i` is known, and with it that of empty ones before it.
fn place_segments(segments: &mut [OnDisk], i: usize, base: Option<Lsn>) {
    segments[i].base = base;
    for i in (0..i).rev() {
        let next = segments[i + 1].base;
        let size = segments[i].size;
        segments[i].base = segments[i]
            .base
            .or(next.map(|next| Lsn(next.0.saturating_sub(size))));
    }
}

/// Opens the index's segments up to `through`. `base` is the oldest one's, and `through`'s own
/// when the index is empty and nothing is on disk.
fn open_segments(
    index: &mut Index,
    sizes: impl Iterator<Item = (SegmentSeq, u64)>,
    through: SegmentSeq,
    base: Lsn,
) {
    for (seq, size) in sizes {
        if seq > through {
            return;
        }
        if index.segment_count() == 0 {
            index.open_segment(seq, base, size);
        } else if seq > index.tail().seq {
            let base = index.tail().end();
            index.open_segment(seq, base, size);
        }
    }
}

fn record_error(fault: RecordFault, dir: &Path, body: &Body) -> WalError {
    let file = FileRole::Segment(body.seq).path(dir);
    let offset = body.offset;
    match fault {
        RecordFault::Kind(kind) => WalError::KindUnknown { file, offset, kind },
        RecordFault::Size(found) => WalError::Malformed {
            file,
            offset,
            expected: "whole records",
            found,
        },
    }
}

/// Where the log goes on.
struct Place {
    seq: SegmentSeq,
    base: Lsn,
    offset: u64,
}

/// Behind the last good batch when the last life closed the log; else so far behind it that no
/// late write of that life can land on new bytes.
/// At most this one segment is to be made.
fn resume(chain: &Chain, segments: &[OnDisk], options: &Options) -> Place {
    let Some(end) = chain.end() else {
        let seq = segments
            .first()
            .map_or(SegmentSeq(1), |segment| segment.seq);
        return Place {
            seq,
            base: Lsn(0),
            offset: 0,
        };
    };
    let based = segments
        .iter()
        .filter_map(|segment| Some((segment, segment.base?)));
    let holder = based.rev().find(|(_, base)| *base < end);
    let (segment, base) = holder.expect("the last batch lies in a segment");
    let (mut seq, mut base, mut size) = (segment.seq, base, segment.size);
    let mut offset = end.0 - base.0;
    if chain.is_sealed() {
        (base, offset) = (Lsn(base.0 + size), 0);
        seq = SegmentSeq(seq.0 + 1);
        let Some(next) = segments.iter().find(|segment| segment.seq == seq) else {
            // No life had the file, so no late write can be on its way to it.
            return Place { seq, base, offset };
        };
        size = next.size;
    }
    if !chain.is_closed() {
        offset += options.bounds.in_flight_bytes_max;
    }
    // Room for the opening batch, something behind it, and a seal.
    let room = 4 * super::format::LARGE_BLOCK_SIZE as u64;
    if offset + room > size {
        return Place {
            seq: SegmentSeq(seq.0 + 1),
            base: Lsn(base.0 + size),
            offset: 0,
        };
    }
    Place { seq, base, offset }
}

/// Removes what a crash left unfinished, turns unused segments behind the place into spares, and
/// makes sure that the place's segment file exists. Answers how many files had to be made, and
/// nothing when the disk has no room for the one that is needed.
async fn make_place<E: Env>(
    env: &E,
    options: &Options,
    listing: &mut Listing,
    place: &Place,
) -> Result<Option<u64>, WalError> {
    let dir = &options.dir;
    for &number in &listing.unfinished {
        let role = match number & SPARE_BIT {
            0 => FileRole::New(number),
            _ => FileRole::Spare(number & !SPARE_BIT),
        };
        remove(env, &role.path(dir)).await?;
    }
    // Newest first: a crash in between must not leave a hole in the numbers.
    while let Some(last) = listing.segments.last().copied()
        && last.seq > place.seq
    {
        let path = FileRole::Segment(last.seq).path(dir);
        if last.size == options.segment_bytes && listing.spares.len() < options.segments_spare {
            let number = listing.file_number_next;
            listing.file_number_next += 1;
            rename(env, dir, &path, &FileRole::Spare(number).path(dir)).await?;
            listing.spares.push(number);
        } else {
            remove(env, &path).await?;
            sync_dir(env, dir).await?;
        }
        listing.segments.pop();
    }
    let last = listing.segments.last().map(|last| last.seq);
    if last == Some(place.seq) {
        return Ok(Some(0));
    }
    assert!(
        last.is_none_or(|last| last.0 + 1 == place.seq.0),
        "the log goes on in its last segment or in the next"
    );
    let made = make_segment(env, options, listing, place.seq).await;
    match made {
        Err(error) if error.is_no_room() && last.is_some() => {
            tracing::error!(
                dir = %dir.display(),
                wanted_bytes = options.segment_bytes,
                error = %error,
                "disk full: no room for the segment in which the log would go on; reads are \
                 served, writes are refused until there is room"
            );
            // What was read will be served, although no batch says where this life goes on. The
            // directory was just changed, so that this flushes the device: nothing that was read
            // can be gone after a power cut.
            sync_dir(env, dir).await?;
            Ok(None)
        }
        // There is nothing that could be served.
        Err(error) if error.is_no_room() => Err(WalError::NoRoom {
            dir: dir.clone(),
            wanted_bytes: options.segment_bytes,
        }),
        made => made.map(Some),
    }
}

/// Makes segment `seq` of a spare, or of a new file. Answers how many files were made.
async fn make_segment<E: Env>(
    env: &E,
    options: &Options,
    listing: &mut Listing,
    seq: SegmentSeq,
) -> Result<u64, WalError> {
    let dir = &options.dir;
    let spare = listing.spares.last().copied();
    let number = spare.unwrap_or(listing.file_number_next);
    if spare.is_none() {
        listing.file_number_next += 1;
        create_spare(env, options, number).await?;
    }
    let path = FileRole::Segment(seq).path(dir);
    let named = rename(env, dir, &FileRole::Spare(number).path(dir), &path).await;
    if named.is_err() && spare.is_none() {
        listing.spares.push(number);
    }
    named?;
    if spare.is_some() {
        listing.spares.pop();
    }
    listing.segments.push(OnDisk {
        seq,
        size: options.segment_bytes,
        base: None,
    });
    Ok(u64::from(spare.is_none()))
}

/// Makes a file of zeros under a name that recovery deletes, then names it a spare: a spare is
/// always whole. On a full disk nothing of it stays.
pub(super) async fn create_spare<E: Env>(
    env: &E,
    options: &Options,
    number: u64,
) -> Result<(), WalError> {
    let dir = &options.dir;
    let new = FileRole::New(number).path(dir);
    let created = env.create_zeroed(&new, options.segment_bytes).await;
    let mut made = created.map_err(|source| WalError::io("create", &new, source));
    if made.is_ok() {
        made = rename(env, dir, &new, &FileRole::Spare(number).path(dir)).await;
    }
    if made.as_ref().is_err_and(WalError::is_no_room) {
        match env.remove(&new).await {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(WalError::io("remove", &new, source));
            }
            _ => {}
        }
    }
    made
}

/// Renames durably.
pub(super) async fn rename<E: Env>(
    env: &E,
    dir: &Path,
    from: &Path,
    to: &Path,
) -> Result<(), WalError> {
    env.rename(from, to)
        .await
        .map_err(|source| WalError::io("rename", from, source))?;
    sync_dir(env, dir).await
}

pub(super) async fn remove<E: Env>(env: &E, path: &Path) -> Result<(), WalError> {
    env.remove(path)
        .await
        .map_err(|source| WalError::io("remove", path, source))
}

pub(super) async fn sync_dir<E: Env>(env: &E, dir: &Path) -> Result<(), WalError> {
    env.sync_dir(dir)
        .await
        .map_err(|source| WalError::io("sync", dir, source))
}

/// Reads one segment's batches in chain order.
pub(super) struct SegmentReader<F> {
    path: PathBuf,
    file: F,
    pub scanner: Scanner,
    chunk: Bytes,
    chunk_offset: u64,
    pub read_bytes: u64,
}

/// A batch's offset, header, the place from which earlier batches are void, and its records.
pub(super) type ReadBatch = (u64, BatchHeader, Lsn, Bytes);

impl<F: LogFile> SegmentReader<F> {
    pub async fn open<E: Env<LogFile = F>>(
        env: &E,
        dir: &Path,
        seq: SegmentSeq,
        scanner: Scanner,
    ) -> Result<SegmentReader<F>, WalError> {
        let path = FileRole::Segment(seq).path(dir);
        let file = env.open_log(&path).await;
        let file = file.map_err(|source| WalError::io("open", &path, source))?;
        let (chunk, chunk_offset, read_bytes) = (Bytes::new(), 0, 0);
        Ok(SegmentReader {
            path,
            file,
            scanner,
            chunk,
            chunk_offset,
            read_bytes,
        })
    }

    /// The chain's next batch in this segment.
    pub async fn next(&mut self, chain: &mut Chain) -> Result<Option<ReadBatch>, WalError> {
        let mut size = BLOCK_SIZE;
        loop {
            let offset = self.scanner.offset();
            let window = self.window(offset, size).await?;
            let step = self.scanner.step(chain, &window);
            match step.map_err(|fault| self.fault(fault))? {
                Step::Batch { header, void_from } => {
                    let records = window.slice(BATCH_HEADER_SIZE..header.size as usize);
                    return Ok(Some((offset, header, void_from, records)));
                }
                Step::Moved => size = BLOCK_SIZE,
                Step::More(more) if more > window.len() && offset < self.file.size() => {
                    size = more;
                }
                Step::More(_) | Step::End => return Ok(None),
            }
        }
    }

    /// At least `size` bytes from `offset` on, fewer only at the end of the file.
    async fn window(&mut self, offset: u64, size: usize) -> Result<Bytes, WalError> {
        let have = self.chunk_offset + self.chunk.len() as u64;
        let end = self.file.size().min(offset + size as u64);
        if offset < self.chunk_offset || end > have {
            let unit = self.file.alignment() as u64;
            let from = offset & !(unit - 1);
            let most = (self.file.size() & !(unit - 1)).saturating_sub(from);
            let want = round_up((end - from.min(end)).max(limits::READ_BYTES as u64), unit);
            let size = want.min(most) as usize;
            let bytes = match size {
                0 => Vec::new(),
                _ => {
                    let read = self.file.read_at(from, size).await;
                    read.map_err(|source| WalError::io("read", &self.path, source))?
                }
            };
            self.read_bytes += bytes.len() as u64;
            self.chunk = Bytes::from(bytes);
            self.chunk_offset = from;
        }
        let from = ((offset - self.chunk_offset) as usize).min(self.chunk.len());
        Ok(self.chunk.slice(from..))
    }

    fn fault(&self, fault: Fault) -> WalError {
        let file = self.path.clone();
        let offset = fault.offset;
        match fault.kind {
            FaultKind::Version { found } => {
                let expected = super::format::BATCH_VERSION;
                WalError::Version {
                    file,
                    offset,
                    found,
                    expected,
                }
            }
            FaultKind::Lost {
                expected,
                found,
                durable,
            } => WalError::Lost {
                file,
                offset,
                expected,
                found,
                durable,
            },
        }
    }

    pub async fn close(self) -> Result<(), WalError> {
        let closed = self.file.close().await;
        closed.map_err(|source| WalError::io("close", &self.path, source))
    }
}
