//! Pure. Ranges: what a client asks for, and the scan that answers in slices.

use super::Progress;
use super::sort::{Item, Sorter};
use super::view::View;
use crate::backend::{Corrupt, EntryRule, KeyMeta, KvFields, RevisionKey, State, schema};
use crate::codec;
use crate::ids::{LeaseId, Revision};
use bytes::Bytes;
use std::fmt;

/// Where a range that begins at a key ends.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum RangeEnd {
    /// The key alone.
    #[default]
    Single,
    /// All keys below this one.
    Before(Bytes),
    /// All keys from the first one on.
    FromKey,
}

impl RangeEnd {
    /// etcd's `range_end`: empty is the key alone, one zero byte is everything from it on.
    pub fn from_wire(range_end: Bytes) -> RangeEnd {
        match &range_end[..] {
            [] => RangeEnd::Single,
            [0] => RangeEnd::FromKey,
            _ => RangeEnd::Before(range_end),
        }
    }

    /// Whether `key`, which is at or above the range's first key, is in the range.
    #[inline]
    pub fn includes(&self, first: &[u8], key: &[u8]) -> bool {
        match self {
            RangeEnd::Single => key == first,
            RangeEnd::Before(end) => key < &end[..],
            RangeEnd::FromKey => true,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

/// What to read. The default of every field but `key` asks for nothing special.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RangeSpec {
    pub key: Bytes,
    pub end: RangeEnd,
    /// The main revision to read at; 0 or less is the newest.
    pub revision: i64,
    /// How many keys at most; 0 or less is no limit.
    pub limit: i64,
    /// Leave values out, and leases too unless the order is by value: etcd 3.7 answers from its
    /// index, which does not have them.
    pub keys_only: bool,
    pub count_only: bool,
    pub min_mod: i64,
    pub max_mod: i64,
    pub min_create: i64,
    pub max_create: i64,
    pub sort_target: SortTarget,
    pub sort_order: SortOrder,
}

impl RangeSpec {
    /// One key, newest revision.
    pub fn single(key: Bytes) -> RangeSpec {
        RangeSpec {
            key,
            ..RangeSpec::default()
        }
    }

    fn has_filters(&self) -> bool {
        (self.min_mod | self.max_mod | self.min_create | self.max_create) != 0
    }

    fn passes(&self, meta: &KeyMeta) -> bool {
        let (changed, created) = (meta.modified.main, meta.create_revision);
        (self.max_mod == 0 || changed <= self.max_mod)
            && (self.min_mod == 0 || changed >= self.min_mod)
            && (self.max_create == 0 || created <= self.max_create)
            && (self.min_create == 0 || created >= self.min_create)
    }

    /// Whether keys come in another order than the index has.
    fn is_sorted(&self) -> bool {
        !self.count_only
            && (self.sort_target != SortTarget::Key || self.sort_order == SortOrder::Descend)
    }

    fn limit_count(&self) -> u64 {
        u64::try_from(self.limit)
            .ok()
            .filter(|limit| *limit > 0)
            .unwrap_or(u64::MAX)
    }

    /// How many keys are read before they are sorted. etcd reads limit + 1 where no order is asked
    /// for, and then sorts by the target all the same: the first keys by key, not by target.
    fn sort_among(&self) -> u64 {
        if self.sort_order == SortOrder::None && !self.has_filters() {
            self.limit_count().saturating_add(1)
        } else {
            u64::MAX
        }
    }

    fn fields<'a>(&self, key: &'a [u8], meta: &KeyMeta) -> KvFields<'a> {
        let with_lease = self.sort_target == SortTarget::Value;
        KvFields {
            key,
            create_revision: meta.create_revision,
            mod_revision: meta.modified.main,
            version: meta.version,
            value: &[],
            lease: if with_lease { meta.lease } else { LeaseId(0) },
        }
    }

    /// The size of the KeyValue that the answer has for a key.
    fn kv_size(&self, key: &[u8], meta: &KeyMeta) -> usize {
        if self.keys_only {
            self.fields(key, meta).encoded_size()
        } else {
            meta.kv_size as usize
        }
    }
}

/// Why a range cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RangeError {
    /// The revision is not written yet.
    Future {
        asked: i64,
        current: i64,
    },
    /// The revision is below the compacted one.
    Compacted {
        asked: i64,
        compacted: i64,
    },
    Corrupt(Corrupt),
}

impl fmt::Display for RangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RangeError::Future { asked, current } => {
                write!(f, "revision {asked} asked, the newest is {current}")
            }
            RangeError::Compacted { asked, compacted } => {
                write!(f, "revision {asked} asked, compacted at {compacted}")
            }
            RangeError::Corrupt(corrupt) => corrupt.fmt(f),
        }
    }
}

impl std::error::Error for RangeError {}

impl From<Corrupt> for RangeError {
    fn from(corrupt: Corrupt) -> RangeError {
        RangeError::Corrupt(corrupt)
    }
}

/// Takes the keys of a range as encoded KeyValue messages, in the order of the answer.
pub trait Sink {
    fn kv(&mut self, kv: &[u8]);
}

impl Sink for Vec<Bytes> {
    fn kv(&mut self, kv: &[u8]) {
        self.push(Bytes::copy_from_slice(kv));
    }
}

/// Appends `kvs` fields of a RangeResponse: exactly [`RangeTotals::kvs_bytes`] in the end.
pub struct RangeResponseSink<'a>(pub &'a mut Vec<u8>);

impl Sink for RangeResponseSink<'_> {
    #[inline]
    fn kv(&mut self, kv: &[u8]) {
        codec::put_message_header(self.0, KVS_FIELD, kv.len());
        self.0.extend_from_slice(kv);
    }
}

/// The number of `RangeResponse.kvs`.
const KVS_FIELD: u32 = 2;

/// The rest of the answer.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RangeTotals {
    /// Keys in the range before limit and filters.
    pub count: i64,
    /// Whether the limit left keys out.
    pub more: bool,
    /// Keys handed to the sink.
    pub kvs: u64,
    /// Bytes of all `kvs` fields of the RangeResponse, with their headers.
    pub kvs_bytes: u64,
}

/// A range that was read at once.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct RangeKvs {
    pub kvs: Vec<Bytes>,
    pub count: i64,
    pub more: bool,
}

/// Reads one range of a view, in slices, from any core.
///
/// In key order nothing is collected: memory stays flat however long the answer. In another order
/// each key in the range costs 48 bytes until the scan is dropped.
pub struct RangeScan {
    view: View,
    spec: RangeSpec,
    /// The main revision that is read.
    at: i64,
    /// The key to go on from; `None` before the first slice of a pass.
    resume: Option<Vec<u8>>,
    /// The sums of the pass so far, `more` aside.
    tally: RangeTotals,
    /// Keys that pass the filters, so far.
    matched: u64,
    totals: Option<RangeTotals>,
    measuring: bool,
    emitted: u64,
    finished: bool,
    sorter: Option<Sorter>,
    scratch: Vec<u8>,
}

impl RangeScan {
    pub fn new(view: View, spec: RangeSpec) -> Result<RangeScan, RangeError> {
        let (asked, current, compacted) = (spec.revision, view.revision(), view.compacted());
        if asked > current {
            return Err(RangeError::Future { asked, current });
        }
        let at = if asked <= 0 { current } else { asked };
        if at < compacted {
            return Err(RangeError::Compacted { asked, compacted });
        }
        let sorter = spec.is_sorted().then(|| {
            let descend = spec.sort_order == SortOrder::Descend;
            Sorter::new(spec.sort_target, descend, spec.limit_count())
        });
        Ok(RangeScan {
            view,
            spec,
            at,
            resume: None,
            tally: RangeTotals::default(),
            matched: 0,
            totals: None,
            measuring: false,
            emitted: 0,
            finished: false,
            sorter,
            scratch: Vec::new(),
        })
    }

    /// The view that is read.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// The main revision that is read.
    pub fn revision(&self) -> i64 {
        self.at
    }

    /// Goes through the range without its records, so that [`totals`](RangeScan::totals) is known
    /// before the first byte of an answer is sent. Optional; call until `Done`, then `slice`.
    pub fn measure(&mut self, entries_max: usize) -> Result<Progress, Corrupt> {
        if self.totals.is_some() {
            return Ok(Progress::Done);
        }
        self.measuring = true;
        if self.sorter.is_some() {
            self.sort(entries_max)
        } else {
            self.tally(entries_max)
        }
    }

    /// Hands up to about `entries_max` keys to `sink`; large values count as several.
    pub fn slice(&mut self, entries_max: usize, sink: &mut impl Sink) -> Result<Progress, Corrupt> {
        if self.finished {
            return Ok(Progress::Done);
        }
        if self.sorter.is_some() {
            if self.totals.is_none() && self.sort(entries_max)? == Progress::More {
                return Ok(Progress::More);
            }
            return self.emit_sorted(entries_max, sink);
        }
        if self.measuring {
            // A pass that was not finished begins again; a finished one has left these clear.
            self.measuring = false;
            self.begin_pass();
        }
        self.emit(entries_max, sink)
    }

    /// All but the keys; known when `measure` or `slice` is done.
    pub fn totals(&self) -> Option<RangeTotals> {
        self.totals
    }

    fn begin_pass(&mut self) {
        self.resume = None;
        self.tally = RangeTotals::default();
        self.matched = 0;
    }

    fn end_pass(&mut self) {
        let more = !self.spec.count_only && self.matched > self.spec.limit_count();
        let totals = RangeTotals { more, ..self.tally };
        self.begin_pass();
        self.totals = Some(totals);
    }

    /// One slice of a pass in key order that only sums up.
    fn tally(&mut self, entries_max: usize) -> Result<Progress, Corrupt> {
        let RangeScan {
            view,
            spec,
            tally,
            matched,
            resume,
            at,
            ..
        } = &mut *self;
        let limit = spec.limit_count();
        let first = resume.as_deref();
        let end = walk_from(
            view.state(),
            spec,
            first,
            *at,
            entries_max,
            &mut |key, meta| {
                tally.count += 1;
                if !spec.count_only && spec.passes(&meta) {
                    *matched += 1;
                    if *matched <= limit {
                        tally.add(spec.kv_size(key, &meta));
                    }
                }
                Ok(Flow::Next(0))
            },
        )?;
        Ok(self.pass_on(end))
    }

    /// One slice of the pass in key order that emits; it sums up as well unless that was done.
    fn emit(&mut self, entries_max: usize, sink: &mut impl Sink) -> Result<Progress, Corrupt> {
        let known = self.totals;
        if known.is_some_and(|totals| self.emitted == totals.kvs) {
            self.finished = true;
            return Ok(Progress::Done);
        }
        let RangeScan {
            view,
            spec,
            tally,
            matched,
            emitted,
            scratch,
            resume,
            at,
            ..
        } = &mut *self;
        let limit = spec.limit_count();
        let state = view.state();
        let mut records = state.record_cursor();
        let first = resume.as_deref();
        let end = walk_from(state, spec, first, *at, entries_max, &mut |key, meta| {
            tally.count += 1;
            if spec.count_only || !spec.passes(&meta) {
                return Ok(Flow::Next(0));
            }
            *matched += 1;
            if *matched > limit {
                return Ok(Flow::Next(0));
            }
            let size = if spec.keys_only {
                scratch.clear();
                spec.fields(key, &meta).encode(scratch);
                sink.kv(scratch);
                scratch.len()
            } else {
                let revision = meta.modified;
                let record = state.record_near(&mut records, revision, false)?;
                let record = record.ok_or(Corrupt::Missing { revision })?;
                check_size(key, meta.kv_size, record.kv.len())?;
                sink.kv(&record.kv);
                record.kv.len()
            };
            tally.add(size);
            *emitted += 1;
            let last = known.is_some_and(|totals| *emitted == totals.kvs);
            Ok(if last {
                Flow::Stop
            } else {
                Flow::Next(size / 4096)
            })
        })?;
        let progress = match known {
            None => self.pass_on(end),
            Some(_) => match end {
                WalkEnd::At(key) => {
                    self.resume = Some(key);
                    Progress::More
                }
                WalkEnd::Done => Progress::Done,
            },
        };
        self.finished = progress == Progress::Done;
        Ok(progress)
    }

    fn pass_on(&mut self, end: WalkEnd) -> Progress {
        match end {
            WalkEnd::At(key) => {
                self.resume = Some(key);
                Progress::More
            }
            WalkEnd::Done => {
                self.end_pass();
                Progress::Done
            }
        }
    }

    /// One slice of collecting and sorting.
    fn sort(&mut self, entries_max: usize) -> Result<Progress, Corrupt> {
        let RangeScan {
            view,
            spec,
            tally,
            matched,
            sorter,
            resume,
            at,
            ..
        } = &mut *self;
        let sorter = sorter.as_mut().expect("asked for a sorted range only");
        let state = view.state();
        if sorter.is_collected() {
            if sorter.merge(state, entries_max)? == Progress::More {
                return Ok(Progress::More);
            }
            for item in sorter.picked() {
                tally.add(item.size as usize);
            }
            self.end_pass();
            return Ok(Progress::Done);
        }
        let among = spec.sort_among();
        let by_value = spec.sort_target == SortTarget::Value;
        let mut records = state.record_cursor();
        let first = resume.as_deref();
        let end = walk_from(state, spec, first, *at, entries_max, &mut |key, meta| {
            tally.count += 1;
            if *matched >= among || !spec.passes(&meta) {
                return Ok(Flow::Next(0));
            }
            *matched += 1;
            let mut item = Item {
                rank: 0,
                revision: meta.modified,
                size: spec.kv_size(key, &meta) as u32,
                place: *matched,
            };
            item.rank = match spec.sort_target {
                SortTarget::Key => u128::from(*matched),
                SortTarget::Version => meta.version as u128,
                SortTarget::Create => meta.create_revision as u128,
                SortTarget::Mod => meta.modified.main as u128,
                SortTarget::Value => {
                    let revision = meta.modified;
                    let record = state.record_near(&mut records, revision, false)?;
                    let record = record.ok_or(Corrupt::Missing { revision })?;
                    let fields = KvFields::parse(&record.kv);
                    Item::value_rank(fields.ok_or_else(|| bad_record(revision))?.value)
                }
            };
            sorter.push(item);
            Ok(Flow::Next(usize::from(by_value)))
        })?;
        sorter.end_run(state)?;
        match end {
            WalkEnd::At(key) => self.resume = Some(key),
            WalkEnd::Done => sorter.end_collection(state)?,
        }
        Ok(Progress::More)
    }

    fn emit_sorted(
        &mut self,
        entries_max: usize,
        sink: &mut impl Sink,
    ) -> Result<Progress, Corrupt> {
        let RangeScan {
            view,
            spec,
            sorter,
            scratch,
            emitted,
            ..
        } = &mut *self;
        let picked = sorter
            .as_ref()
            .expect("asked for a sorted range only")
            .picked();
        let state = view.state();
        let mut records = state.record_cursor();
        let mut left = entries_max.max(1);
        while let Some(item) = picked.get(*emitted as usize) {
            if left == 0 {
                return Ok(Progress::More);
            }
            let revision = item.revision;
            let record = state.record_near(&mut records, revision, false)?;
            let record = record.ok_or(Corrupt::Missing { revision })?;
            if spec.keys_only {
                let fields = KvFields::parse(&record.kv).ok_or_else(|| bad_record(revision))?;
                let with_lease = spec.sort_target == SortTarget::Value;
                let lease = if with_lease { fields.lease } else { LeaseId(0) };
                scratch.clear();
                KvFields {
                    value: &[],
                    lease,
                    ..fields
                }
                .encode(scratch);
                sink.kv(scratch);
            } else {
                check_size(b"", item.size, record.kv.len())?;
                sink.kv(&record.kv);
            }
            *emitted += 1;
            left = left.saturating_sub(1 + record.kv.len() / 4096);
        }
        self.finished = true;
        Ok(Progress::Done)
    }
}

impl RangeTotals {
    fn add(&mut self, kv_size: usize) {
        self.kvs += 1;
        self.kvs_bytes += codec::message_size(KVS_FIELD, kv_size) as u64;
    }
}

/// What a visitor of a walk wants next; `Next` carries the cost of its own work in entries.
pub(super) enum Flow {
    Next(usize),
    Stop,
}

/// Where a walk ended.
pub(super) enum WalkEnd {
    /// The budget is spent; go on from this key.
    At(Vec<u8>),
    Done,
}

/// Visits live keys of a range in their newest state, from `resume` on, about `entries_max`.
pub(super) fn walk_newest(
    state: &State,
    (first, end): (&[u8], &RangeEnd),
    resume: Option<&[u8]>,
    entries_max: usize,
    visit: &mut impl FnMut(&[u8], KeyMeta),
) -> Result<WalkEnd, Corrupt> {
    let visit = &mut |key: &[u8], meta| {
        visit(key, meta);
        Ok(Flow::Next(0))
    };
    walk_range(state, first, end, resume, i64::MAX, entries_max, visit)
}

/// Visits the live keys of a range at main revision `at`, all in one go or `entries_max` entries.
pub(super) fn walk(
    state: &State,
    first: &[u8],
    end: &RangeEnd,
    at: i64,
    entries_max: usize,
    visit: &mut impl FnMut(&[u8], KeyMeta) -> Result<bool, Corrupt>,
) -> Result<WalkEnd, Corrupt> {
    walk_range(
        state,
        first,
        end,
        None,
        at,
        entries_max,
        &mut |key, meta| {
            Ok(if visit(key, meta)? {
                Flow::Next(0)
            } else {
                Flow::Stop
            })
        },
    )
}

fn walk_from(
    state: &State,
    spec: &RangeSpec,
    resume: Option<&[u8]>,
    at: i64,
    entries_max: usize,
    visit: &mut impl FnMut(&[u8], KeyMeta) -> Result<Flow, Corrupt>,
) -> Result<WalkEnd, Corrupt> {
    walk_range(state, &spec.key, &spec.end, resume, at, entries_max, visit)
}

/// A walk down a key's links, in entries.
const HISTORIC_COST: usize = 4;

#[inline]
fn walk_range(
    state: &State,
    first: &[u8],
    end: &RangeEnd,
    resume: Option<&[u8]>,
    at: i64,
    entries_max: usize,
    visit: &mut impl FnMut(&[u8], KeyMeta) -> Result<Flow, Corrupt>,
) -> Result<WalkEnd, Corrupt> {
    if *end == RangeEnd::Single {
        if let Some(entry) = state.index(first)?
            && let Some(meta) = state.entry_at(first, entry, at)?
        {
            visit(first, meta)?;
        }
        return Ok(WalkEnd::Done);
    }
    let mut left = entries_max.max(1);
    let mut cursor = state.index_cursor();
    cursor.seek(resume.unwrap_or(first))?;
    while let Some(key) = cursor.key() {
        if !end.includes(first, key) {
            break;
        }
        if left == 0 {
            return Ok(WalkEnd::At(key.to_vec()));
        }
        let entry = cursor.entry()?;
        let mut cost = 1;
        if entry.meta.modified.main > at {
            cost += HISTORIC_COST;
        }
        if let Some(meta) = state.entry_at(key, entry, at)? {
            match visit(key, meta)? {
                Flow::Next(more) => cost += more,
                Flow::Stop => return Ok(WalkEnd::Done),
            }
        }
        left = left.saturating_sub(cost);
        cursor.advance()?;
    }
    Ok(WalkEnd::Done)
}

/// An answer's frame may already name the size that the index gave: the record must have it.
#[inline]
fn check_size(key: &[u8], expected: u32, found: usize) -> Result<(), Corrupt> {
    if expected as usize == found {
        return Ok(());
    }
    Err(Corrupt::entry(schema::INDEX, key, EntryRule::RecordSize))
}

/// The record of `revision` is not a KeyValue message.
#[cold]
pub(super) fn bad_record(revision: Revision) -> Corrupt {
    let key = RevisionKey::new(revision, false);
    Corrupt::entry(schema::KEY, key.as_bytes(), EntryRule::Record)
}
