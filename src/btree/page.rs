//! Pure. The bytes of a page: its header, references, sizes. Nodes are read in `view.rs` and
//! written in `cell.rs`. The layout is in `docs/format/btree.md`.

use crate::ids::{PageId, Txid};

pub(super) const HEADER: usize = 32;
const AT_CRC: usize = 0;
pub(super) const AT_KIND: usize = 4;
const AT_LEVEL: usize = 5;
const AT_FLAGS: usize = 6;
const AT_PAGE: usize = 8;
const AT_TXID: usize = 16;
pub(super) const AT_COUNT: usize = 24;
pub(super) const AT_PREFIX: usize = 26;
pub(super) const AT_EXTENT: usize = 28;

pub(super) const SLOT: usize = 4;
/// Bytes of a key that stand in its slot.
pub(super) const HEAD: usize = 2;
/// A slot's offset with this bit: the record begins with a flags byte.
pub(super) const EXTENDED: u16 = 1 << 15;
pub(super) const BIG_KEY: u8 = 1;
pub(super) const BIG_VALUE: u8 = 2;
/// Bytes of a reference to an overflow run.
pub(super) const RUN_REF: usize = 16;
/// Bytes of a reference to a child page.
pub(super) const CHILD_REF: usize = 12;

/// What a page is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(super) enum Kind {
    Leaf = 1,
    Branch = 2,
    Overflow = 3,
    Bitmap = 4,
    Directory = 5,
}

/// A child page and the checksum that it must have.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct ChildRef {
    pub page: PageId,
    pub crc: u32,
}

/// A run of pages that holds one long key or value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct RunRef {
    pub page: PageId,
    pub crc: u32,
    pub len: u32,
}

impl RunRef {
    pub fn pages(self, page_size: u32) -> u64 {
        run_pages(self.len as usize, page_size)
    }
}

/// Pages of a run that holds `len` bytes.
pub(super) fn run_pages(len: usize, page_size: u32) -> u64 {
    ((HEADER + len) as u64).div_ceil(u64::from(page_size))
}

/// Keys longer than this keep only so many bytes in their record; the whole key has a run of its
/// own. Four records with such keys fit into a page, so a branch always has four children.
pub(super) fn key_inline_max(page_size: u32) -> usize {
    (page_size as usize - HEADER) / 4 - 40
}

/// A value is kept in its record when the record fits into a page of its own.
pub(super) fn value_is_inline(key_len: usize, value_len: usize, page_size: u32) -> bool {
    let key_len = key_len.min(key_inline_max(page_size));
    HEADER + SLOT + 1 + 3 + RUN_REF + 3 + key_len + value_len <= page_size as usize
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(super) fn varint_at(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let first = *bytes.get(at)?;
    if first < 0x80 {
        return Some((first as usize, at + 1));
    }
    let second = *bytes.get(at + 1)?;
    let low = (first & 0x7f) as usize | ((second & 0x7f) as usize) << 7;
    if second < 0x80 {
        return Some((low, at + 2));
    }
    let third = *bytes.get(at + 2)?;
    (third < 0x80).then_some((low | (third as usize) << 14, at + 3))
}

pub(super) fn varint_size(n: usize) -> usize {
    match n {
        0..0x80 => 1,
        0x80..0x4000 => 2,
        _ => 3,
    }
}

/// The checksum of a page or of a whole overflow run: of everything behind the field itself.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes.get(AT_KIND..).unwrap_or(&[]))
}

/// A page's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub crc: u32,
    pub kind: u8,
    pub level: u8,
    pub flags: u16,
    pub page: PageId,
    pub txid: Txid,
    pub count: u16,
    pub prefix: u16,
    /// Leaf, branch: bytes in use. Overflow: bytes of the key or value. Bitmap: its region.
    pub extent: u32,
}

impl Header {
    pub fn read(bytes: &[u8]) -> Option<Header> {
        Some(Header {
            crc: u32_at(bytes, AT_CRC)?,
            kind: *bytes.get(AT_KIND)?,
            level: *bytes.get(AT_LEVEL)?,
            flags: u16_at(bytes, AT_FLAGS)?,
            page: PageId(u64_at(bytes, AT_PAGE)?),
            txid: Txid(u64_at(bytes, AT_TXID)?),
            count: u16_at(bytes, AT_COUNT)?,
            prefix: u16_at(bytes, AT_PREFIX)?,
            extent: u32_at(bytes, AT_EXTENT)?,
        })
    }
}

/// Writes a header; the checksum follows with [`seal`].
pub(super) fn write_header(out: &mut [u8], kind: Kind, level: u8, page: PageId, txid: Txid) {
    out[AT_KIND] = kind as u8;
    out[AT_LEVEL] = level;
    write_place(out, page, txid);
}

/// Writes where and when the page is written.
pub(super) fn write_place(out: &mut [u8], page: PageId, txid: Txid) {
    out[AT_PAGE..AT_PAGE + 8].copy_from_slice(&page.0.to_le_bytes());
    out[AT_TXID..AT_TXID + 8].copy_from_slice(&txid.0.to_le_bytes());
}

pub(super) fn write_extent(out: &mut [u8], extent: u32) {
    out[AT_EXTENT..AT_EXTENT + 4].copy_from_slice(&extent.to_le_bytes());
}

/// Puts the checksum over the finished bytes and returns it.
pub(super) fn seal(out: &mut [u8]) -> u32 {
    let crc = checksum(out);
    out[AT_CRC..AT_CRC + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}
