//! Pure. A dirty leaf that is still laid out as its page: a few small changes are made in place,
//! and the seal copies it. Whatever does not fit, or would take more than moving bytes, is left to
//! the unpacked form ([`Leaf`](super::node::Leaf)).

use super::cell::write_record;
use super::error::Corrupt;
use super::page::{
    AT_COUNT, AT_EXTENT, HEADER, SLOT, key_inline_max, seal, u32_at, value_is_inline, varint_size,
    write_place,
};
use super::view::{Body, NodeView};
use crate::ids::{PageId, Txid};

/// In-place changes cost a move of the page's bytes each. After so many, unpacking is cheaper.
const CHANGES_MAX: u8 = 8;
/// The offset in a slot, without the head and the extended bit.
const OFFSET_MASK: u32 = 0x7fff;

#[derive(Debug)]
pub(super) struct Image {
    bytes: Vec<u8>,
    /// Where the bytes came from.
    page: PageId,
    changes: u8,
}

/// Where the parts of the page are; within its bytes.
struct Layout {
    slots: usize,
    count: usize,
    /// Bytes in use.
    extent: usize,
}

impl Image {
    pub fn new(bytes: &[u8], page: PageId) -> Image {
        Image {
            bytes: bytes.to_vec(),
            page,
            changes: 0,
        }
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    pub fn view(&self) -> Result<NodeView<'_>, Corrupt> {
        NodeView::new(&self.bytes, self.page)
    }

    /// Bytes in use.
    pub fn extent(&self) -> usize {
        u32_at(&self.bytes, AT_EXTENT).map_or(usize::MAX, |extent| extent as usize)
    }

    /// Inserts at `index`, or replaces the entry there when `equal`; `false`, and nothing changed,
    /// when the leaf must be unpacked for it.
    pub fn try_put(&mut self, index: usize, equal: bool, key: &[u8], value: &[u8]) -> bool {
        let page_size = self.bytes.len() as u32;
        if self.changes == CHANGES_MAX || !value_is_inline(key.len(), value.len(), page_size) {
            return false;
        }
        let Some(layout) = self.layout() else {
            return false;
        };
        let Ok(view) = self.view() else { return false };
        let prefix = view.prefix().len();
        let Some(suffix) = key.strip_prefix(view.prefix()) else {
            return false;
        };
        if key.len() > key_inline_max(page_size) || (prefix > 0 && suffix.len() < 2) {
            return false;
        }
        let size = varint_size(suffix.len())
            + varint_size(value.len())
            + suffix.len().saturating_sub(2)
            + value.len();
        if equal {
            let Some((start, end, value_at)) = self.plain_record(index) else {
                return false;
            };
            if end - value_at == value.len() {
                self.bytes[value_at..end].copy_from_slice(value);
                self.changes += 1;
                return true;
            }
            if layout.extent - (end - start) + size > self.bytes.len() {
                return false;
            }
            if !self.cut_out(index, start, end) {
                return false;
            }
        } else if layout.extent + SLOT + size > self.bytes.len() {
            return false;
        }
        self.insert(index, &key[prefix..], value);
        self.changes += 1;
        true
    }

    /// Removes the entry at `index`; `false`, and nothing changed, when the leaf must be unpacked.
    pub fn try_remove(&mut self, index: usize) -> bool {
        let Some(layout) = self.layout() else {
            return false;
        };
        if self.changes == CHANGES_MAX || layout.count < 2 {
            return false;
        }
        let Some((start, end, _)) = self.plain_record(index) else {
            return false;
        };
        self.changes += 1;
        self.cut_out(index, start, end)
    }

    /// Writes the page.
    pub fn write(&self, out: &mut [u8], page: PageId, txid: Txid) -> u32 {
        out.copy_from_slice(&self.bytes);
        write_place(out, page, txid);
        seal(out)
    }

    fn layout(&self) -> Option<Layout> {
        let view = self.view().ok()?;
        let slots = HEADER + view.prefix().len();
        let layout = Layout {
            slots,
            count: view.count(),
            extent: self.extent(),
        };
        let records = slots + layout.count * SLOT;
        (layout.extent >= records && layout.extent <= self.bytes.len()).then_some(layout)
    }

    /// Start and end of a record, and where its value begins; `None` for one with a long key or
    /// value.
    fn plain_record(&self, index: usize) -> Option<(usize, usize, usize)> {
        let view = self.view().ok()?;
        let (start, extended) = view.record_start(index)?;
        let Body::Inline { at, len } = view.record(index).ok()?.body else {
            return None;
        };
        let layout = self.layout()?;
        let records = layout.slots + layout.count * SLOT;
        let sound = start >= records && start < at + len && at + len <= layout.extent;
        (!extended && sound).then_some((start, at + len, at))
    }

    fn set(&mut self, count: usize, extent: usize) {
        self.bytes[AT_COUNT..AT_COUNT + 2].copy_from_slice(&(count as u16).to_le_bytes());
        self.bytes[AT_EXTENT..AT_EXTENT + 4].copy_from_slice(&(extent as u32).to_le_bytes());
    }

    /// Takes out a record, then its slot; what follows moves up each time.
    fn cut_out(&mut self, index: usize, start: usize, end: usize) -> bool {
        let Some(Layout {
            slots,
            count,
            extent,
        }) = self.layout()
        else {
            return false;
        };
        let size = end - start;
        self.bytes.copy_within(end..extent, start);
        let slot = slots + index * SLOT;
        self.bytes.copy_within(slot + SLOT..extent - size, slot);
        let left = extent - size - SLOT;
        self.bytes[left..extent].fill(0);
        self.set(count - 1, left);
        let slots = &mut self.bytes[slots..slots + (count - 1) * SLOT];
        for slot in slots.as_chunks_mut::<SLOT>().0 {
            let before = u32::from_le_bytes(*slot);
            let moved = if before & OFFSET_MASK > start as u32 {
                size + SLOT
            } else {
                SLOT
            };
            *slot = before.wrapping_sub(moved as u32).to_le_bytes();
        }
        true
    }

    /// Puts a record behind the last one; there is room.
    fn insert(&mut self, index: usize, suffix: &[u8], value: &[u8]) {
        let Some(Layout {
            slots,
            count,
            extent,
        }) = self.layout()
        else {
            return;
        };
        let slot = slots + index * SLOT;
        self.bytes.copy_within(slot..extent, slot + SLOT);
        for slot in self.bytes[slots..slots + (count + 1) * SLOT]
            .as_chunks_mut::<SLOT>()
            .0
        {
            *slot = u32::from_le_bytes(*slot)
                .wrapping_add(SLOT as u32)
                .to_le_bytes();
        }
        let end = write_record(&mut self.bytes, slot, extent + SLOT, suffix, value);
        self.set(count + 1, end);
    }
}
