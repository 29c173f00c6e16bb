//! Pure. Entries on their way to a page: their sizes, the fill of a page, its writer.

use super::page::{
    AT_COUNT, AT_PREFIX, BIG_KEY, BIG_VALUE, CHILD_REF, ChildRef, EXTENDED, HEAD, HEADER, Kind,
    RUN_REF, RunRef, SLOT, seal, varint_size, write_extent, write_header,
};
use crate::ids::{PageId, Txid};

/// One entry to be written. The key is its inline part when `key_run` is set.
#[derive(Clone, Copy)]
pub(super) struct Cell<'c> {
    pub key: &'c [u8],
    pub key_run: Option<RunRef>,
    pub body: CellBody<'c>,
}

#[derive(Clone, Copy)]
pub(super) enum CellBody<'c> {
    Inline(&'c [u8]),
    Run(RunRef),
    Child(ChildRef),
}

/// What a cell takes from a page: see [`Fill`].
#[derive(Clone, Copy)]
pub(super) struct CellSize {
    /// All but the key's bytes.
    pub fixed: usize,
    pub key_len: usize,
}

/// The size of a leaf's cell. `value_len` is `None` for one in a run.
pub(super) fn leaf_cell_size(key_len: usize, big_key: bool, value_len: Option<usize>) -> CellSize {
    let extended = big_key || value_len.is_none();
    let value = value_len.map_or(RUN_REF, |len| varint_size(len) + len);
    let fixed = SLOT + usize::from(extended) + varint_size(key_len) + value;
    CellSize {
        fixed: fixed + if big_key { RUN_REF } else { 0 },
        key_len,
    }
}

/// The size of a branch's cell.
pub(super) fn branch_cell_size(key_len: usize, big_key: bool) -> CellSize {
    let fixed = SLOT + varint_size(key_len) + CHILD_REF;
    CellSize {
        fixed: fixed + if big_key { RUN_REF + 1 } else { 0 },
        key_len,
    }
}

/// How full a page is while cells are counted into it; the exact size, with the common prefix of
/// its keys stored once. `key_sum` counts every key as two bytes or more, because its head stands
/// in the slot; the prefix leaves two bytes of every key for the same reason.
#[derive(Clone, Copy, Default)]
pub(super) struct Fill {
    pub count: usize,
    keys: usize,
    fixed: usize,
    key_sum: usize,
    key_len_min: usize,
    prefix: usize,
}

impl Fill {
    /// This page with one more cell. `common` is the length of the prefix that the cell's key
    /// shares with the page's first one; `None` for the first cell of a branch, which has no key.
    pub fn with(mut self, size: CellSize, common: Option<usize>) -> Fill {
        self.count += 1;
        self.fixed += size.fixed;
        if let Some(common) = common {
            let key_len = size.key_len.max(HEAD);
            self.key_len_min = if self.keys == 0 {
                key_len
            } else {
                self.key_len_min.min(key_len)
            };
            self.prefix = if self.keys == 0 {
                common
            } else {
                self.prefix.min(common)
            };
            self.keys += 1;
            self.key_sum += key_len;
        }
        self
    }

    pub fn prefix(&self) -> usize {
        self.prefix.min(self.key_len_min.saturating_sub(HEAD))
    }

    pub fn bytes(&self) -> usize {
        let prefix = self.prefix();
        HEADER + prefix + self.fixed + self.key_sum - self.keys * (prefix + HEAD)
    }
}

/// Length of the common prefix of two keys.
#[inline]
pub(super) fn common_len(a: &[u8], b: &[u8]) -> usize {
    let mut len = 0;
    for (x, y) in a.chunks_exact(8).zip(b.chunks_exact(8)) {
        if x != y {
            break;
        }
        len += 8;
    }
    len + a[len..]
        .iter()
        .zip(&b[len..])
        .take_while(|(x, y)| x == y)
        .count()
}

/// Writes a node page from front to back: header, prefix, slots, records.
pub(super) struct NodeWriter<'o> {
    out: &'o mut [u8],
    leaf: bool,
    prefix: usize,
    slot_at: usize,
    record_at: usize,
}

impl<'o> NodeWriter<'o> {
    /// `out` is a zeroed page. `prefix` is shared by all keys, of which there will be `count`.
    pub fn new(
        out: &'o mut [u8],
        level: u8,
        page: PageId,
        txid: Txid,
        prefix: &[u8],
        count: usize,
    ) -> NodeWriter<'o> {
        let kind = if level == 0 { Kind::Leaf } else { Kind::Branch };
        write_header(out, kind, level, page, txid);
        out[AT_COUNT..AT_COUNT + 2].copy_from_slice(&(count as u16).to_le_bytes());
        out[AT_PREFIX..AT_PREFIX + 2].copy_from_slice(&(prefix.len() as u16).to_le_bytes());
        out[HEADER..HEADER + prefix.len()].copy_from_slice(prefix);
        let slot_at = HEADER + prefix.len();
        let record_at = slot_at + count * SLOT;
        NodeWriter {
            out,
            leaf: level == 0,
            prefix: prefix.len(),
            slot_at,
            record_at,
        }
    }

    /// Writes the next cell; the first one of a branch comes with an empty key.
    pub fn push(&mut self, cell: &Cell<'_>, first_of_branch: bool) {
        let suffix = if first_of_branch {
            &[][..]
        } else {
            &cell.key[self.prefix..]
        };
        let run_value = matches!(cell.body, CellBody::Run(_));
        let extended = cell.key_run.is_some() || run_value;
        let offset = self.record_at as u16 | if extended { EXTENDED } else { 0 };
        let head = u16::from_be_bytes([
            suffix.first().copied().unwrap_or(0),
            suffix.get(1).copied().unwrap_or(0),
        ]);
        let slot = u32::from(head) << 16 | u32::from(offset);
        self.out[self.slot_at..self.slot_at + SLOT].copy_from_slice(&slot.to_le_bytes());
        self.slot_at += SLOT;
        if extended {
            let big_key = if cell.key_run.is_some() { BIG_KEY } else { 0 };
            self.bytes(&[big_key | if run_value { BIG_VALUE } else { 0 }]);
        }
        self.varint(suffix.len());
        if let Some(run) = cell.key_run {
            self.run_ref(run);
        }
        match cell.body {
            CellBody::Run(run) => self.run_ref(run),
            CellBody::Inline(value) => self.varint(value.len()),
            CellBody::Child(child) => {
                debug_assert!(!self.leaf);
                self.bytes(&child.page.0.to_le_bytes());
                self.bytes(&child.crc.to_le_bytes());
            }
        }
        self.bytes(suffix.get(HEAD..).unwrap_or(&[]));
        if let CellBody::Inline(value) = cell.body {
            self.bytes(value);
        }
    }

    /// Ends the page; returns its checksum.
    pub fn finish(self) -> u32 {
        write_extent(self.out, self.record_at as u32);
        seal(self.out)
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.out[self.record_at..self.record_at + bytes.len()].copy_from_slice(bytes);
        self.record_at += bytes.len();
    }

    fn varint(&mut self, mut n: usize) {
        while n >= 0x80 {
            self.bytes(&[n as u8 | 0x80]);
            n >>= 7;
        }
        self.bytes(&[n as u8]);
    }

    fn run_ref(&mut self, run: RunRef) {
        self.bytes(&run.len.to_le_bytes());
        self.bytes(&run.page.0.to_le_bytes());
        self.bytes(&run.crc.to_le_bytes());
    }
}

/// Writes a plain leaf record at `at`, and its slot; returns where the record ends.
pub(super) fn write_record(
    out: &mut [u8],
    slot: usize,
    at: usize,
    suffix: &[u8],
    value: &[u8],
) -> usize {
    let mut writer = NodeWriter {
        out,
        leaf: true,
        prefix: 0,
        slot_at: slot,
        record_at: at,
    };
    writer.push(
        &Cell {
            key: suffix,
            key_run: None,
            body: CellBody::Inline(value),
        },
        false,
    );
    writer.record_at
}
