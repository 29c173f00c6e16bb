//! Pure. Pages read from the source: each checked once, on its first touch after it was written.
//! Shared by the readers of all cores; the set of checked pages is a bitmap of atomics.

use super::error::{Corrupt, Rule};
use super::page::{self, ChildRef, HEADER, Header, Kind, RunRef};
use super::view::{NodeView, RunReader};
use crate::env::{PageRef, PageSource};
use crate::ids::PageId;
use crate::limits::btree::{CHECKED_CHUNK_PAGES, CHECKED_CHUNKS_MAX, LEVEL_MAX, PAGE_COUNT_MAX};
use std::cmp::Ordering;
use std::sync::atomic::{AtomicU64, Ordering as Memory};
use std::sync::{Arc, OnceLock};

type Chunk = Box<[AtomicU64]>;

/// The pages of one file and what is known of them. Shared by the tree, its snapshots, its writer.
pub(super) struct CheckedPages {
    source: Arc<dyn PageSource>,
    page_size: u32,
    /// Pages before this one hold the metas.
    first_page: u64,
    /// Off for salvage and fuzzing: then checksums are not compared, everything else is.
    checksums: bool,
    /// A bit is set by the reader that checked the page, and cleared by the writer before it gives
    /// the page a new content. Relaxed is enough: the writer clears only after the last reader of
    /// the old content is gone (its pin's release), and readers of the new content learn of it
    /// through the snapshot that is published afterwards.
    chunks: Box<[OnceLock<Chunk>]>,
}

impl CheckedPages {
    pub fn new(
        source: Arc<dyn PageSource>,
        page_size: u32,
        first_page: u64,
        checksums: bool,
    ) -> CheckedPages {
        let chunks = (0..CHECKED_CHUNKS_MAX).map(|_| OnceLock::new()).collect();
        CheckedPages {
            source,
            page_size,
            first_page,
            checksums,
            chunks,
        }
    }

    pub fn page_size(&self) -> u32 {
        self.page_size
    }

    fn chunk(&self, page: PageId) -> Option<&Chunk> {
        let index = usize::try_from(page.0 / CHECKED_CHUNK_PAGES).ok()?;
        Some(self.chunks.get(index)?.get_or_init(|| {
            (0..CHECKED_CHUNK_PAGES / 64)
                .map(|_| AtomicU64::new(0))
                .collect()
        }))
    }

    #[inline]
    fn is_checked(&self, page: PageId) -> bool {
        let index = (page.0 / CHECKED_CHUNK_PAGES) as usize;
        let Some(chunk) = self.chunks.get(index).and_then(OnceLock::get) else {
            return false;
        };
        let bit = page.0 % CHECKED_CHUNK_PAGES;
        chunk[(bit / 64) as usize].load(Memory::Relaxed) & (1 << (bit % 64)) != 0
    }

    fn set_checked(&self, page: PageId) {
        if let Some(chunk) = self.chunk(page) {
            let bit = page.0 % CHECKED_CHUNK_PAGES;
            chunk[(bit / 64) as usize].fetch_or(1 << (bit % 64), Memory::Relaxed);
        }
    }

    /// The writer is about to give the page a new content.
    pub fn forget(&self, page: PageId) {
        let index = (page.0 / CHECKED_CHUNK_PAGES) as usize;
        if let Some(chunk) = self.chunks.get(index).and_then(OnceLock::get) {
            let bit = page.0 % CHECKED_CHUNK_PAGES;
            chunk[(bit / 64) as usize].fetch_and(!(1 << (bit % 64)), Memory::Relaxed);
        }
    }

    fn corrupt(&self, page: PageId, at: usize, rule: Rule, expected: u64, found: u64) -> Corrupt {
        let offset = page
            .0
            .saturating_mul(u64::from(self.page_size))
            .saturating_add(at as u64);
        Corrupt {
            page,
            offset,
            rule,
            expected,
            found,
        }
    }

    #[inline]
    fn bytes(&self, page: PageId, pages: u64) -> Result<PageRef<'_>, Corrupt> {
        let size = u64::from(self.page_size);
        if page.0 >= self.first_page && page.0 < PAGE_COUNT_MAX {
            let start = page.0 * size;
            if let Some(bytes) = self.source.read(start..start + pages * size)
                && bytes.len() as u64 == pages * size
            {
                return Ok(bytes);
            }
        }
        Err(self.corrupt(page, 0, Rule::PageInFile, self.first_page, page.0))
    }

    /// The leaf (level 0) or branch page that a parent names.
    #[inline]
    pub fn node(&self, child: ChildRef, level: u8) -> Result<PageRef<'_>, Corrupt> {
        let bytes = self.bytes(child.page, 1)?;
        let kind = if level == 0 { Kind::Leaf } else { Kind::Branch };
        // These fields share the page's first cache line: compared on each touch, because a damaged
        // parent could name a page that was checked for another one.
        let known = bytes.first_chunk::<6>().is_some_and(|header| {
            let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            (crc == child.crc || !self.checksums) && header[4] == kind as u8 && header[5] == level
        });
        if known && self.is_checked(child.page) {
            return Ok(bytes);
        }
        self.check_node(child, kind, level, &bytes)?;
        Ok(bytes)
    }

    #[cold]
    fn check_node(
        &self,
        child: ChildRef,
        kind: Kind,
        level: u8,
        bytes: &[u8],
    ) -> Result<(), Corrupt> {
        let header = self.check_header(child.page, child.crc, kind, bytes)?;
        if header.level != level || level > LEVEL_MAX {
            let found = u64::from(header.level);
            return Err(self.corrupt(child.page, 5, Rule::Level, u64::from(level), found));
        }
        NodeView::new(bytes, child.page)?.validate()?;
        self.set_checked(child.page);
        Ok(())
    }

    fn check_header(
        &self,
        page: PageId,
        crc: u32,
        kind: Kind,
        bytes: &[u8],
    ) -> Result<Header, Corrupt> {
        let Some(header) = Header::read(bytes) else {
            return Err(self.corrupt(page, 0, Rule::PageInFile, HEADER as u64, bytes.len() as u64));
        };
        if self.checksums {
            if header.crc != crc {
                let (crc, found) = (u64::from(crc), u64::from(header.crc));
                return Err(self.corrupt(page, 0, Rule::ParentChecksum, crc, found));
            }
            let found = page::checksum(bytes);
            if found != header.crc {
                let (crc, found) = (u64::from(header.crc), u64::from(found));
                return Err(self.corrupt(page, 0, Rule::Checksum, crc, found));
            }
        }
        if header.kind != kind as u8 {
            let (kind, found) = (kind as u64, u64::from(header.kind));
            return Err(self.corrupt(page, 4, Rule::Kind, kind, found));
        }
        if header.flags != 0 {
            return Err(self.corrupt(page, 6, Rule::Reserved, 0, u64::from(header.flags)));
        }
        if header.page != page {
            return Err(self.corrupt(page, 8, Rule::PageNumber, page.0, header.page.0));
        }
        Ok(header)
    }

    /// The pages of an overflow run; the bytes of its key or value are
    /// `HEADER..HEADER + run.len` of them.
    pub fn run(&self, run: RunRef) -> Result<PageRef<'_>, Corrupt> {
        let bytes = self.bytes(run.page, run.pages(self.page_size))?;
        let known = bytes.first_chunk::<5>().is_some_and(|header| {
            let crc = u32::from_le_bytes([header[0], header[1], header[2], header[3]]);
            (crc == run.crc || !self.checksums) && header[4] == Kind::Overflow as u8
        });
        if known && self.is_checked(run.page) {
            return Ok(bytes);
        }
        let header = self.check_header(run.page, run.crc, Kind::Overflow, &bytes)?;
        if header.extent != run.len {
            let (len, found) = (u64::from(run.len), u64::from(header.extent));
            return Err(self.corrupt(run.page, 28, Rule::OverflowSize, len, found));
        }
        self.set_checked(run.page);
        Ok(bytes)
    }

    /// A page's bytes, unchecked.
    pub fn raw(&self, page: PageId) -> Option<PageRef<'_>> {
        self.bytes(page, 1).ok()
    }

    /// A bitmap or directory page; read at open only, so not remembered as checked.
    pub fn space_page(&self, child: ChildRef, kind: Kind) -> Result<PageRef<'_>, Corrupt> {
        let bytes = self.bytes(child.page, 1)?;
        self.check_header(child.page, child.crc, kind, &bytes)?;
        Ok(bytes)
    }
}

impl RunReader for CheckedPages {
    fn compare(&self, run: RunRef, skip: usize, with: &[u8]) -> Result<Ordering, Corrupt> {
        let bytes = self.run(run)?;
        let len = run.len as usize;
        match bytes.get(HEADER + skip.min(len)..HEADER + len) {
            Some(key) => Ok(key.cmp(with)),
            None => Err(self.corrupt(run.page, 0, Rule::OverflowSize, len as u64, skip as u64)),
        }
    }
}
