//! Pure. Leaf and branch pages, read in place.

use super::cell::leaf_cell_size;
use super::error::{Corrupt, Rule};
use super::page::{
    AT_COUNT, AT_EXTENT, AT_KIND, AT_PREFIX, BIG_KEY, BIG_VALUE, CHILD_REF, ChildRef, EXTENDED,
    HEAD, HEADER, Kind, RUN_REF, RunRef, SLOT, key_inline_max, u16_at, u32_at, u64_at, varint_at,
};
use crate::ids::PageId;
use std::cmp::Ordering;

/// A leaf or a branch, read in place. Every access is checked: a page may change under a broken
/// disk even after its first check, and then must not panic.
#[derive(Clone, Copy)]
pub(super) struct NodeView<'b> {
    bytes: &'b [u8],
    page: PageId,
    count: usize,
    prefix: &'b [u8],
    slots: &'b [[u8; SLOT]],
}

/// Where a record's value is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    Inline { at: usize, len: usize },
    Run(RunRef),
    Child(ChildRef),
}

/// One record. `rest` is what follows the slot's two bytes of the key.
pub(super) struct Record<'b> {
    pub suffix_len: usize,
    pub head: [u8; HEAD],
    pub rest: &'b [u8],
    pub key_run: Option<RunRef>,
    pub body: Body,
}

/// Reads a long key when a comparison needs all of it.
pub(super) trait RunReader {
    /// Compares the run's bytes from `skip` on with `with`.
    fn compare(&self, run: RunRef, skip: usize, with: &[u8]) -> Result<Ordering, Corrupt>;
}

impl<'b> NodeView<'b> {
    #[inline]
    pub fn new(bytes: &'b [u8], page: PageId) -> Result<NodeView<'b>, Corrupt> {
        let fields = (|| {
            let count = usize::from(u16_at(bytes, AT_COUNT)?);
            let prefix_len = usize::from(u16_at(bytes, AT_PREFIX)?);
            let prefix = bytes.get(HEADER..HEADER + prefix_len)?;
            let slots_at = HEADER + prefix_len;
            let slots = bytes.get(slots_at..slots_at + count * SLOT)?.as_chunks().0;
            Some((count, prefix, slots))
        })();
        match fields {
            Some((count, prefix, slots)) => Ok(NodeView {
                bytes,
                page,
                count,
                prefix,
                slots,
            }),
            None => Err(Corrupt {
                page,
                offset: page.0 * bytes.len() as u64,
                rule: Rule::Count,
                expected: bytes.len() as u64,
                found: u64::from(u16_at(bytes, AT_COUNT).unwrap_or(0)),
            }),
        }
    }

    #[inline]
    pub fn count(&self) -> usize {
        self.count
    }

    pub fn prefix(&self) -> &'b [u8] {
        self.prefix
    }

    pub fn is_leaf(&self) -> bool {
        self.bytes.get(AT_KIND) == Some(&(Kind::Leaf as u8))
    }

    pub fn corrupt(&self, rule: Rule, at: usize, expected: u64, found: u64) -> Corrupt {
        let offset = self.page.0 * self.bytes.len() as u64 + at as u64;
        Corrupt {
            page: self.page,
            offset,
            rule,
            expected,
            found,
        }
    }

    #[inline]
    fn slot(&self, index: usize) -> Option<(u16, u16)> {
        let slot = u32::from_le_bytes(*self.slots.get(index)?);
        Some((slot as u16, (slot >> 16) as u16))
    }

    /// Where an entry's record starts, and whether it is extended.
    pub fn record_start(&self, index: usize) -> Option<(usize, bool)> {
        let (offset, _) = self.slot(index)?;
        Some((usize::from(offset & !EXTENDED), offset & EXTENDED != 0))
    }

    /// The record of an entry.
    #[inline]
    pub fn record(&self, index: usize) -> Result<Record<'b>, Corrupt> {
        let found = if self.is_leaf() {
            self.leaf_record(index)
        } else {
            self.branch_record(index)
        };
        found.ok_or_else(|| self.corrupt(Rule::Record, 0, self.count as u64, index as u64))
    }

    #[inline]
    fn leaf_record(&self, index: usize) -> Option<Record<'b>> {
        let (offset, head) = self.slot(index)?;
        let mut at = usize::from(offset & !EXTENDED);
        let mut flags = 0;
        if offset & EXTENDED != 0 {
            flags = *self.bytes.get(at)?;
            at += 1;
        }
        let (suffix_len, mut at) = varint_at(self.bytes, at)?;
        let mut key_run = None;
        if flags & BIG_KEY != 0 {
            key_run = Some(self.run_ref(at)?);
            at += RUN_REF;
        }
        let value_run = if flags & BIG_VALUE != 0 {
            let run = self.run_ref(at)?;
            at += RUN_REF;
            Err(run)
        } else {
            let (len, next) = varint_at(self.bytes, at)?;
            at = next;
            Ok(len)
        };
        let rest_len = suffix_len.saturating_sub(HEAD);
        let rest = self.bytes.get(at..at + rest_len)?;
        at += rest_len;
        let body = match value_run {
            Err(run) => Body::Run(run),
            Ok(len) => {
                self.bytes.get(at..at + len)?;
                Body::Inline { at, len }
            }
        };
        Some(Record {
            suffix_len,
            head: head.to_be_bytes(),
            rest,
            key_run,
            body,
        })
    }

    #[inline]
    fn branch_record(&self, index: usize) -> Option<Record<'b>> {
        let (offset, head) = self.slot(index)?;
        let mut at = usize::from(offset & !EXTENDED);
        let mut flags = 0;
        if offset & EXTENDED != 0 {
            flags = *self.bytes.get(at)?;
            at += 1;
        }
        let (suffix_len, mut at) = varint_at(self.bytes, at)?;
        let mut key_run = None;
        if flags & BIG_KEY != 0 {
            key_run = Some(self.run_ref(at)?);
            at += RUN_REF;
        }
        let child = ChildRef {
            page: PageId(u64_at(self.bytes, at)?),
            crc: u32_at(self.bytes, at + 8)?,
        };
        at += CHILD_REF;
        let rest = self.bytes.get(at..at + suffix_len.saturating_sub(HEAD))?;
        let body = Body::Child(child);
        Some(Record {
            suffix_len,
            head: head.to_be_bytes(),
            rest,
            key_run,
            body,
        })
    }

    fn run_ref(&self, at: usize) -> Option<RunRef> {
        Some(RunRef {
            len: u32_at(self.bytes, at)?,
            page: PageId(u64_at(self.bytes, at + 4)?),
            crc: u32_at(self.bytes, at + 12)?,
        })
    }

    /// The child at `index` of a branch.
    #[inline]
    pub fn child(&self, index: usize) -> Result<ChildRef, Corrupt> {
        let plain = (|| {
            let (offset, _) = self.slot(index)?;
            let (_, at) = varint_at(self.bytes, usize::from(offset))?;
            let bytes: &[u8; CHILD_REF] = self.bytes.get(at..)?.first_chunk()?;
            let (page, crc) = bytes.split_first_chunk::<8>()?;
            let crc = u32::from_le_bytes(*crc.first_chunk()?);
            let child = ChildRef {
                page: PageId(u64::from_le_bytes(*page)),
                crc,
            };
            (offset & EXTENDED == 0 && !self.is_leaf()).then_some(child)
        })();
        if let Some(child) = plain {
            return Ok(child);
        }
        match self.record(index)?.body {
            Body::Child(child) => Ok(child),
            _ => Err(self.corrupt(Rule::Kind, AT_KIND, Kind::Branch as u64, Kind::Leaf as u64)),
        }
    }

    /// Appends the part of an entry's key that its record holds; returns the run with the whole key
    /// if that is longer.
    pub fn key_into(&self, index: usize, out: &mut Vec<u8>) -> Result<Option<RunRef>, Corrupt> {
        if index == 0 && !self.is_leaf() {
            return Ok(None);
        }
        let record = self.record(index)?;
        out.extend_from_slice(self.prefix);
        out.extend_from_slice(&record.head[..record.suffix_len.min(HEAD)]);
        out.extend_from_slice(record.rest);
        Ok(record.key_run)
    }

    /// In a leaf: the first entry whose key is not below `key`, and whether it is equal.
    #[inline]
    pub fn search_leaf(&self, key: &[u8], runs: &impl RunReader) -> Result<(usize, bool), Corrupt> {
        self.search(0, key, runs)
    }

    /// In a branch: the child whose keys may include `key`.
    #[inline]
    pub fn search_branch(&self, key: &[u8], runs: &impl RunReader) -> Result<usize, Corrupt> {
        if self.count == 0 {
            return Err(self.corrupt(Rule::Count, AT_COUNT, 1, 0));
        }
        let (index, equal) = self.search(1, key, runs)?;
        Ok(if equal { index } else { index - 1 })
    }

    #[inline]
    fn search(
        &self,
        from: usize,
        key: &[u8],
        runs: &impl RunReader,
    ) -> Result<(usize, bool), Corrupt> {
        if !self.prefix.is_empty() && !key.starts_with(self.prefix) {
            let below = key < self.prefix;
            return Ok((if below { from } else { self.count }, false));
        }
        let suffix = &key[self.prefix.len()..];
        let wanted = match *suffix {
            [] => 0,
            [a] => u16::from_be_bytes([a, 0]),
            [a, b, ..] => u16::from_be_bytes([a, b]),
        };
        let mut low = self.count_below(u32::from(wanted) << 16).max(from);
        let mut high = low;
        // Entries with the same head: mostly none or one, so hardly a record is read in vain.
        let last_equal = u32::from(wanted) << 16 | 0xffff;
        if self
            .slots
            .get(low)
            .is_some_and(|slot| u32::from_le_bytes(*slot) <= last_equal)
        {
            high = match last_equal.checked_add(1) {
                Some(above) => self.count_below(above),
                None => self.count,
            };
        }
        while low < high {
            let mid = usize::midpoint(low, high);
            match self.compare_tie(mid, suffix, key, runs)? {
                Ordering::Less => low = mid + 1,
                Ordering::Greater => high = mid,
                Ordering::Equal => return Ok((mid, true)),
            }
        }
        Ok((low, false))
    }

    /// Slots below a limit. A slot is compared as one number, its head above its offset. First one
    /// of every sixteen slots, a cache line, then those of one line: the loads of each half do not
    /// wait for each other, which on a cold page matters more than comparing fewer slots would.
    #[inline]
    fn count_below(&self, limit: u32) -> usize {
        const LINE: usize = 16;
        let below = |slot: &[u8; SLOT]| usize::from(u32::from_le_bytes(*slot) < limit);
        let line: usize = self.slots.iter().skip(LINE).step_by(LINE).map(below).sum();
        let start = line * LINE;
        let end = self.count.min(start + LINE);
        start + self.slots[start..end].iter().map(below).sum::<usize>()
    }

    /// Compares an entry with a key that has the same prefix and head.
    fn compare_tie(
        &self,
        index: usize,
        suffix: &[u8],
        key: &[u8],
        runs: &impl RunReader,
    ) -> Result<Ordering, Corrupt> {
        let record = self.record(index)?;
        let rest = suffix.get(HEAD..).unwrap_or(&[]);
        let Some(run) = record.key_run else {
            let order = record
                .rest
                .cmp(rest)
                .then(record.suffix_len.cmp(&suffix.len()));
            return Ok(order);
        };
        if suffix.len() <= record.suffix_len {
            // The entry's key goes on behind its inline part, so equal bytes mean: it is longer.
            return Ok(record.rest.cmp(rest).then(Ordering::Greater));
        }
        let inline_len = self.prefix.len() + record.suffix_len;
        match record.rest.cmp(&rest[..record.rest.len()]) {
            Ordering::Equal => runs.compare(run, inline_len, &key[inline_len..]),
            order => Ok(order),
        }
    }

    /// Checks every slot and record once, so that a page is either sound or an error at its first
    /// touch, before any of its entries is shown.
    pub fn validate(&self) -> Result<(), Corrupt> {
        let leaf = self.is_leaf();
        let extent = u32_at(self.bytes, AT_EXTENT).unwrap_or(0) as usize;
        let records = HEADER + self.prefix.len() + self.count * SLOT;
        if extent < records || extent > self.bytes.len() {
            return Err(self.corrupt(Rule::Count, AT_EXTENT, records as u64, extent as u64));
        }
        for index in 0..self.count {
            let record = self.record(index)?;
            let first_of_branch = index == 0 && !leaf;
            if first_of_branch && (record.suffix_len != 0 || record.key_run.is_some()) {
                return Err(self.corrupt(Rule::Record, 0, 0, record.suffix_len as u64));
            }
            // What fits here together with the prefix must fit into a page of its own: a later
            // split relies on it, and overlapping records of a forged page would break it.
            let key_len = self.prefix.len() + record.suffix_len;
            let big_key = record.key_run.is_some();
            let (size, most) = match record.body {
                Body::Inline { len, .. } => {
                    let size = leaf_cell_size(key_len, big_key, Some(len));
                    (HEADER + size.fixed + key_len, self.bytes.len())
                }
                Body::Run(_) => {
                    let size = leaf_cell_size(key_len, big_key, None);
                    (HEADER + size.fixed + key_len, self.bytes.len())
                }
                Body::Child(_) if first_of_branch => (0, 0),
                Body::Child(_) => (key_len, key_inline_max(self.bytes.len() as u32)),
            };
            if size > most {
                return Err(self.corrupt(Rule::Record, 0, most as u64, size as u64));
            }
        }
        if self.count == 0 {
            return Err(self.corrupt(Rule::Count, AT_COUNT, 1, 0));
        }
        Ok(())
    }
}
