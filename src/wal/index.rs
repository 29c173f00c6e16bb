//! Pure. Which segments still hold something that a restart would need.
//!
//! Per group: the newest hard state, meta and mark with the segment each lies in, and the terms of
//! the entries behind the mark. Per segment: the range of entries of each group in it. A segment is
//! pinned while it holds a newest small record, or an entry above its group's mark.

use super::format::{HardState, Record};
use crate::ids::{GroupId, LogIndex, Lsn, SegmentSeq, Term};
use std::collections::{BTreeMap, VecDeque};

#[derive(Debug, Default)]
pub struct Index {
    groups: BTreeMap<GroupId, Group>,
    /// Oldest first, without holes; the last one is where records are appended.
    segments: VecDeque<Segment>,
    /// Groups whose release is not yet in the log.
    due: Vec<GroupId>,
}

#[derive(Debug, Default)]
struct Group {
    hard_state: Option<(HardState, SegmentSeq)>,
    meta: Option<(Box<[u8]>, SegmentSeq)>,
    /// The mark that the log holds; `mark.index <= released`.
    mark: Option<(Mark, SegmentSeq)>,
    /// What the backend holds.
    released: LogIndex,
    /// The newest entry, or the mark when there is none behind it.
    last: LogIndex,
    /// First index of each term, ascending in both; covers what is behind the mark.
    terms: VecDeque<(LogIndex, Term)>,
    /// This group's place in the tail segment's shares.
    slot: Option<(SegmentSeq, usize)>,
}

/// The last entry that the backend holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Mark {
    pub index: LogIndex,
    pub term: Term,
}

#[derive(Debug)]
pub struct Segment {
    pub seq: SegmentSeq,
    pub base: Lsn,
    pub size: u64,
    shares: Vec<Share>,
    /// Newest hard states, metas and marks that lie here.
    small: u32,
}

/// A group's entries in one segment.
#[derive(Debug)]
struct Share {
    group: GroupId,
    last: LogIndex,
    bytes: u64,
}

impl Segment {
    pub fn end(&self) -> Lsn {
        Lsn(self.base.0 + self.size)
    }
}

impl Group {
    fn marked(&self) -> LogIndex {
        self.mark.map_or(LogIndex(0), |(mark, _)| mark.index)
    }

    fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index > self.last {
            return None;
        }
        let after = self.terms.partition_point(|&(first, _)| first <= index);
        let run = after.checked_sub(1)?;
        self.terms.get(run).map(|&(_, term)| term)
    }

    /// Forgets the terms of `from` and later.
    fn cut_terms(&mut self, from: LogIndex) {
        while self.terms.back().is_some_and(|&(first, _)| first >= from) {
            self.terms.pop_back();
        }
    }
}

/// What would unpin the oldest segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    pub seq: SegmentSeq,
    /// Whether entries must be read back from the segment.
    pub entries: bool,
}

impl Index {
    /// The next segment begins to receive records.
    pub fn open_segment(&mut self, seq: SegmentSeq, base: Lsn, size: u64) {
        if let Some(last) = self.segments.back() {
            assert_eq!(seq.0, last.seq.0 + 1, "segments are numbered without holes");
            assert_eq!(base, last.end(), "segments follow each other in the stream");
        }
        self.segments.push_back(Segment {
            seq,
            base,
            size,
            shares: Vec::new(),
            small: 0,
        });
    }

    pub fn tail(&self) -> &Segment {
        self.segments
            .back()
            .expect("a log always has a tail segment")
    }

    pub fn oldest(&self) -> &Segment {
        self.segments
            .front()
            .expect("a log always has a tail segment")
    }

    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Accounts for a record of the tail segment.
    #[inline]
    pub fn note(&mut self, record: &Record<'_>) {
        match *record {
            Record::Entry {
                group, index, term, ..
            } => {
                self.note_entry(group, index, term, record.size() as u64);
            }
            Record::Copy { group, index, .. } => {
                self.note_share(group, index, record.size() as u64);
                let state = self.groups.entry(group).or_default();
                state.last = state.last.max(index);
            }
            Record::HardState { group, state } => {
                let seq = self.tail().seq;
                let before = self
                    .groups
                    .entry(group)
                    .or_default()
                    .hard_state
                    .replace((state, seq));
                self.move_small(before.map(|(_, seq)| seq));
            }
            Record::Meta { group, bytes } => {
                let seq = self.tail().seq;
                let meta = (Box::from(bytes), seq);
                let before = self.groups.entry(group).or_default().meta.replace(meta);
                self.move_small(before.map(|(_, seq)| seq));
            }
            Record::Mark { group, index, term } => self.note_mark(group, Mark { index, term }),
            Record::Reset { group, index, term } => {
                self.void_entries(group, LogIndex(0));
                let state = self.groups.entry(group).or_default();
                state.terms.clear();
                state.released = index;
                state.last = index;
                self.note_mark(group, Mark { index, term });
            }
            Record::Removed { group } => self.note_removed(group),
        }
    }

    fn note_entry(&mut self, group: GroupId, index: LogIndex, term: Term, size: u64) {
        let state = self.groups.entry(group).or_default();
        if index <= state.last {
            state.cut_terms(index);
            let kept = LogIndex(index.0.saturating_sub(1));
            self.void_entries(group, kept);
        }
        let state = self.groups.entry(group).or_default();
        state.last = index;
        if state.terms.back().is_none_or(|&(_, last)| last != term) {
            state.terms.push_back((index, term));
        }
        self.note_share(group, index, size);
    }

    /// Caps the group's entries in every segment at `kept`.
    fn void_entries(&mut self, group: GroupId, kept: LogIndex) {
        for segment in &mut self.segments {
            for share in segment
                .shares
                .iter_mut()
                .filter(|share| share.group == group)
            {
                share.last = share.last.min(kept);
            }
        }
    }

    fn note_share(&mut self, group: GroupId, index: LogIndex, size: u64) {
        let state = self.groups.entry(group).or_default();
        let tail = self
            .segments
            .back_mut()
            .expect("a log always has a tail segment");
        if let Some((seq, slot)) = state.slot
            && seq == tail.seq
        {
            let share = &mut tail.shares[slot];
            debug_assert_eq!(share.group, group);
            share.last = share.last.max(index);
            share.bytes += size;
        } else {
            state.slot = Some((tail.seq, tail.shares.len()));
            tail.shares.push(Share {
                group,
                last: index,
                bytes: size,
            });
        }
    }

    fn note_mark(&mut self, group: GroupId, mark: Mark) {
        let seq = self.tail().seq;
        let state = self.groups.entry(group).or_default();
        let before = state.mark.replace((mark, seq)).map(|(_, seq)| seq);
        state.released = state.released.max(mark.index);
        state.last = state.last.max(mark.index);
        // The run that holds the mark stays: it knows the term of the entry behind it.
        while state
            .terms
            .get(1)
            .is_some_and(|&(first, _)| first <= mark.index)
        {
            state.terms.pop_front();
        }
        self.move_small(before);
    }

    fn note_removed(&mut self, group: GroupId) {
        self.void_entries(group, LogIndex(0));
        let Some(state) = self.groups.remove(&group) else {
            return;
        };
        // The slot must not be found again by a group of the same number, whose share would start
        // with the removed one's: the share is void and stays void.
        let small = [
            state.hard_state.map(|(_, seq)| seq),
            state.meta.map(|(_, seq)| seq),
            state.mark.map(|(_, seq)| seq),
        ];
        for seq in small.into_iter().flatten() {
            self.drop_small(seq);
        }
    }

    fn move_small(&mut self, before: Option<SegmentSeq>) {
        if let Some(seq) = before {
            self.drop_small(seq);
        }
        self.segments
            .back_mut()
            .expect("a log always has a tail segment")
            .small += 1;
    }

    fn drop_small(&mut self, seq: SegmentSeq) {
        let first = self
            .segments
            .front()
            .expect("a log always has a tail segment")
            .seq;
        let slot = seq
            .0
            .checked_sub(first.0)
            .expect("a pinned segment is not recycled");
        let segment = &mut self.segments[slot as usize];
        debug_assert_eq!(segment.seq, seq);
        segment.small -= 1;
    }

    /// The backend holds the group's entries up to `through`.
    pub fn release(&mut self, group: GroupId, through: LogIndex) {
        let Some(state) = self.groups.get_mut(&group) else {
            return;
        };
        if through <= state.released {
            return;
        }
        state.released = through;
        if !self.due.contains(&group) {
            self.due.push(group);
        }
    }

    /// The next mark to be written, if a release is not yet in the log.
    pub fn due_mark(&mut self) -> Option<(GroupId, Mark)> {
        while let Some(&group) = self.due.last() {
            if let Some(state) = self.groups.get(&group)
                && state.released > state.marked()
            {
                let index = state.released;
                let term = state
                    .term_at(index)
                    .or(state.terms.back().map(|&(_, term)| term));
                return Some((
                    group,
                    Mark {
                        index,
                        term: term.unwrap_or_default(),
                    },
                ));
            }
            self.due.pop();
        }
        None
    }

    /// The start of the oldest segment that a restart needs.
    pub fn start(&mut self) -> Lsn {
        let tail = self.tail().seq;
        for segment in &mut self.segments {
            if segment.seq == tail || segment.small > 0 {
                return segment.base;
            }
            while let Some(share) = segment.shares.last() {
                let marked = self
                    .groups
                    .get(&share.group)
                    .map_or(LogIndex(0), Group::marked);
                if share.last > marked {
                    return segment.base;
                }
                segment.shares.pop();
            }
        }
        self.tail().base
    }

    /// Drops the oldest segment when it ends at or below `start` and is not the tail.
    pub fn recycle(&mut self, start: Lsn) -> Option<Segment> {
        if self.segments.len() < 2 || self.segments.front()?.end() > start {
            return None;
        }
        self.segments.pop_front()
    }

    /// The group and index whose release would help the oldest segment most.
    pub fn pinned_by(&self) -> Option<(GroupId, LogIndex)> {
        let oldest = self.segments.front()?;
        let live = oldest.shares.iter().filter(|share| self.is_pinning(share));
        live.max_by_key(|share| share.bytes)
            .map(|share| (share.group, share.last))
    }

    fn is_pinning(&self, share: &Share) -> bool {
        self.groups
            .get(&share.group)
            .is_some_and(|state| share.last > state.released)
    }

    /// What to write again so that the oldest segment can go; `None` when it may go already, or
    /// when more than `bytes_max` of entries in it wait for a release.
    pub fn copy_plan(&mut self, bytes_max: u64) -> Option<CopyPlan> {
        let oldest = self.segments.front()?;
        if oldest.seq == self.tail().seq || self.start() > self.segments.front()?.base {
            return None;
        }
        let oldest = self.segments.front()?;
        let live = oldest.shares.iter().filter(|share| self.is_pinning(share));
        let bytes: u64 = live.map(|share| share.bytes).sum();
        (bytes <= bytes_max).then_some(CopyPlan {
            seq: oldest.seq,
            entries: bytes > 0,
        })
    }

    /// A newest small record that lies in `seq`, to be written again.
    pub fn small_record_in(&self, seq: SegmentSeq) -> Option<SmallRecord> {
        for (&group, state) in &self.groups {
            if let Some((hard_state, at)) = state.hard_state
                && at == seq
            {
                return Some(SmallRecord::HardState(group, hard_state));
            }
            if let Some((mark, at)) = state.mark
                && at == seq
            {
                return Some(SmallRecord::Mark(group, mark));
            }
            if let Some((meta, at)) = &state.meta
                && *at == seq
            {
                return Some(SmallRecord::Meta(group, meta.clone()));
            }
        }
        None
    }

    /// Whether a restart needs this entry of the oldest segment: also one that is released, as
    /// long as the log does not say so. The term alone does not tell: a group may have been
    /// removed and made again since, with the same terms and indexes.
    pub fn is_live(&self, group: GroupId, index: LogIndex, term: Term) -> bool {
        let counts = |share: &Share| share.group == group && index <= share.last;
        self.oldest().shares.iter().any(counts)
            && self
                .groups
                .get(&group)
                .is_some_and(|state| index > state.marked() && state.term_at(index) == Some(term))
    }

    /// The entries of `seq` were written again: it no longer holds any that count.
    pub fn forget_entries(&mut self, seq: SegmentSeq) {
        if let Some(segment) = self.segments.iter_mut().find(|segment| segment.seq == seq) {
            segment.shares.clear();
        }
    }

    /// Sets what replaying copies out of order cannot know: the terms of the group's entries.
    pub fn restore(
        &mut self,
        group: GroupId,
        last: LogIndex,
        entries: impl Iterator<Item = (LogIndex, Term)>,
    ) {
        let state = self.groups.entry(group).or_default();
        state.last = last;
        state.terms.clear();
        if let Some((mark, _)) = state.mark {
            state.released = mark.index;
            state.terms.push_back((mark.index, mark.term));
        }
        for (index, term) in entries {
            if state.terms.back().is_none_or(|&(_, last)| last != term) {
                state.terms.push_back((index, term));
            }
        }
    }

    /// Compares every counter with what it counts.
    pub fn check(&self) {
        for (i, segment) in self.segments.iter().enumerate() {
            let here = |seq: Option<SegmentSeq>| u32::from(seq == Some(segment.seq));
            let small: u32 = self
                .groups
                .values()
                .map(|state| {
                    here(state.hard_state.map(|(_, seq)| seq))
                        + here(state.meta.as_ref().map(|(_, seq)| *seq))
                        + here(state.mark.map(|(_, seq)| seq))
                })
                .sum();
            assert_eq!(
                small, segment.small,
                "small records of segment {}",
                segment.seq
            );
            if i > 0 {
                assert_eq!(segment.base, self.segments[i - 1].end());
            }
        }
        for state in self.groups.values() {
            assert!(state.marked() <= state.released);
            assert!(state.released <= state.last || state.last == LogIndex(0));
            assert!(
                state
                    .terms
                    .iter()
                    .zip(state.terms.iter().skip(1))
                    .all(|(a, b)| a < b)
            );
        }
    }
}

/// A record that the index keeps whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SmallRecord {
    HardState(GroupId, HardState),
    Mark(GroupId, Mark),
    Meta(GroupId, Box<[u8]>),
}

impl SmallRecord {
    pub fn record(&self) -> Record<'_> {
        match self {
            SmallRecord::HardState(group, state) => Record::HardState {
                group: *group,
                state: *state,
            },
            SmallRecord::Mark(group, mark) => Record::Mark {
                group: *group,
                index: mark.index,
                term: mark.term,
            },
            SmallRecord::Meta(group, bytes) => Record::Meta {
                group: *group,
                bytes,
            },
        }
    }
}
