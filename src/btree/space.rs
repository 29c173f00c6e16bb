//! Pure. Which pages are in use: a bitmap per region of the file, its copy in memory, the
//! allocator, and the pages that wait for readers.
//!
//! On disk a set bit means: reached from this meta. In memory there are two bitmaps: `used` is the
//! state of the newest sealed root, `busy` what must not be allocated: used, or freed and not yet
//! released, or allocated by the running transaction. So `used` is a subset of `busy`.

use super::checked::CheckedPages;
use super::error::{Corrupt, Rule};
use super::meta::Meta;
use super::node::Extent;
use super::page::{CHILD_REF, ChildRef, HEADER, Header, Kind, seal, write_extent, write_header};
use super::plan::PlanBuilder;
use crate::ids::{PageId, Txid};
use crate::limits::btree::{PAGE_COUNT_MAX, RELEASE_PAGES_MAX};
use std::collections::VecDeque;

/// The allocator of one file. Owned by its tree.
pub(super) struct Space {
    page_size: u32,
    first_page: u64,
    /// Pages of the file that have ever been in use: its size as far as the tree knows.
    page_count: u64,
    used: Vec<u64>,
    busy: Vec<u64>,
    used_count: u64,
    busy_count: u64,
    regions: Vec<Region>,
    directories: Vec<ChildRef>,
    pending: VecDeque<Pending>,
    /// No page before these words is free. `low_word` serves single pages, lowest first;
    /// `run_word` serves runs and passes over holes that were too small.
    low_word: usize,
    run_word: usize,
}

/// The pages that one bitmap page covers.
#[derive(Clone, Copy, Default)]
struct Region {
    bitmap: ChildRef,
    dirty: bool,
}

/// What a commit asks of the space besides its pages.
#[derive(Clone, Copy, Default)]
pub(super) struct SpaceWish {
    /// Move bitmaps and directories at or behind this page before it.
    pub compact_before: Option<PageId>,
    /// Cut the file behind the last busy page.
    pub shrink: bool,
}

/// Pages freed by a commit; readers of older ones may still see them.
struct Pending {
    txid: Txid,
    extents: Vec<Extent>,
}

/// Pages that one bitmap page covers; a multiple of 64.
pub(super) fn region_pages(page_size: u32) -> u64 {
    (u64::from(page_size) - HEADER as u64) * 8
}

/// Bitmap pages that one directory page names.
pub(super) fn directory_regions(page_size: u32) -> usize {
    (page_size as usize - HEADER) / CHILD_REF
}

fn bit(words: &[u64], page: u64) -> bool {
    words
        .get((page / 64) as usize)
        .is_some_and(|word| word & (1 << (page % 64)) != 0)
}

impl Space {
    /// The space of a new file: only the metas' pages are in use.
    pub fn new(page_size: u32, first_page: u64) -> Space {
        let mut space = Space {
            page_size,
            first_page,
            page_count: first_page,
            used: Vec::new(),
            busy: Vec::new(),
            used_count: 0,
            busy_count: 0,
            regions: Vec::new(),
            directories: Vec::new(),
            pending: VecDeque::new(),
            low_word: 0,
            run_word: 0,
        };
        space.cover(first_page);
        for page in 0..first_page {
            space.set_busy(page);
            space.set_used(page);
        }
        space
    }

    /// Reads the directory and the bitmaps: one page for each 32,512 pages of the file, and what
    /// they mark is not touched.
    pub fn load(meta: &Meta, pages: &CheckedPages) -> Result<Space, Corrupt> {
        let mut space = Space::new(meta.page_size, meta.first_page());
        if meta.directories.is_empty() {
            return Ok(space);
        }
        space.page_count = meta.page_count;
        space.used.clear();
        space.regions.clear();
        space.cover(meta.page_count);
        let words_per_region = (region_pages(meta.page_size) / 64) as usize;
        let per_directory = directory_regions(meta.page_size);
        let region_count = space.regions.len();
        for (index, directory) in meta.directories.iter().enumerate() {
            let bytes = pages.space_page(*directory, Kind::Directory)?;
            let first = index * per_directory;
            let refs = bytes[HEADER..].chunks_exact(CHILD_REF);
            for (region, at) in (first..region_count.min(first + per_directory)).zip(refs) {
                let bitmap = read_child(at);
                let words = pages.space_page(bitmap, Kind::Bitmap)?;
                let header = Header::read(&words).map_or(0, |header| header.extent);
                if header as usize != region {
                    let offset = bitmap.page.0 * u64::from(meta.page_size) + 28;
                    let (expected, found) = (region as u64, u64::from(header));
                    let rule = Rule::Bitmap;
                    return Err(Corrupt {
                        page: bitmap.page,
                        offset,
                        rule,
                        expected,
                        found,
                    });
                }
                space.regions[region].bitmap = bitmap;
                let words = words[HEADER..].as_chunks::<8>().0;
                for (word, bytes) in words.iter().take(words_per_region).enumerate() {
                    space.used[region * words_per_region + word] = u64::from_le_bytes(*bytes);
                }
            }
        }
        space.busy.clone_from(&space.used);
        space.directories.clone_from(&meta.directories);
        for child in space.directories.iter().copied().chain(space.bitmaps()) {
            if !space.is_used(child.page) {
                let (page, rule) = (child.page, Rule::Bitmap);
                let offset = page.0 * u64::from(meta.page_size);
                return Err(Corrupt {
                    page,
                    offset,
                    rule,
                    expected: 1,
                    found: 0,
                });
            }
        }
        let count = space
            .used
            .iter()
            .map(|word| u64::from(word.count_ones()))
            .sum();
        (space.used_count, space.busy_count) = (count, count);
        let words = space.used.len() as u64 * 64;
        if let Some(page) = (meta.page_count..words).find(|page| bit(&space.used, *page)) {
            let offset = page * u64::from(meta.page_size);
            let (page, rule) = (PageId(page), Rule::Bitmap);
            return Err(Corrupt {
                page,
                offset,
                rule,
                expected: 0,
                found: 1,
            });
        }
        if count != meta.used_count || !bit(&space.used, 0) {
            let page = PageId(0);
            let (expected, found) = (meta.used_count, count);
            return Err(Corrupt {
                page,
                offset: 0,
                rule: Rule::Bitmap,
                expected,
                found,
            });
        }
        Ok(space)
    }

    pub fn page_count(&self) -> u64 {
        self.page_count
    }

    pub fn first_page(&self) -> u64 {
        self.first_page
    }

    pub fn used_count(&self) -> u64 {
        self.used_count
    }

    pub fn directories(&self) -> &[ChildRef] {
        &self.directories
    }

    pub fn bitmaps(&self) -> impl Iterator<Item = ChildRef> {
        self.regions
            .iter()
            .map(|region| region.bitmap)
            .filter(|bitmap| bitmap.page.0 != 0)
    }

    pub fn is_used(&self, page: PageId) -> bool {
        bit(&self.used, page.0)
    }

    /// Pages that wait for readers of older commits.
    pub fn pending_count(&self) -> u64 {
        self.pending
            .iter()
            .flat_map(|p| &p.extents)
            .map(|extent| u64::from(extent.pages))
            .sum()
    }

    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Pages before `page` that can be allocated.
    pub fn free_before(&self, page: PageId) -> u64 {
        let words = (page.0.min(self.page_count) / 64) as usize;
        self.busy[..words]
            .iter()
            .map(|word| u64::from(word.count_zeros()))
            .sum()
    }

    /// Free extents, ascending.
    pub fn free_extents(&self) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        for page in (0..self.page_count).filter(|page| !bit(&self.used, *page)) {
            match extents.last_mut() {
                Some(last) if last.page.0 + u64::from(last.pages) == page => last.pages += 1,
                _ => extents.push(Extent {
                    page: PageId(page),
                    pages: 1,
                }),
            }
        }
        extents
    }

    fn cover(&mut self, page_count: u64) {
        let per_region = region_pages(self.page_size);
        let regions = page_count.div_ceil(per_region) as usize;
        let words = regions * (per_region / 64) as usize;
        self.used.resize(words.max(self.used.len()), 0);
        self.busy.resize(words.max(self.busy.len()), 0);
        self.regions
            .resize(regions.max(self.regions.len()), Region::default());
    }

    fn set_used(&mut self, page: u64) {
        debug_assert!(!bit(&self.used, page), "page {page} is allocated once");
        self.used[(page / 64) as usize] |= 1 << (page % 64);
        self.used_count += 1;
        self.regions[(page / region_pages(self.page_size)) as usize].dirty = true;
    }

    fn clear_used(&mut self, page: u64) {
        self.used[(page / 64) as usize] &= !(1 << (page % 64));
        self.used_count -= 1;
        self.regions[(page / region_pages(self.page_size)) as usize].dirty = true;
    }

    fn set_busy(&mut self, page: u64) {
        debug_assert!(!bit(&self.busy, page), "page {page} is free");
        self.busy[(page / 64) as usize] |= 1 << (page % 64);
        self.busy_count += 1;
    }

    fn clear_busy(&mut self, page: u64) {
        debug_assert!(bit(&self.busy, page), "page {page} is busy");
        self.busy[(page / 64) as usize] &= !(1 << (page % 64));
        self.busy_count -= 1;
        self.low_word = self.low_word.min((page / 64) as usize);
    }

    /// Starts an allocation pass at the front of the file.
    pub fn rewind(&mut self) {
        self.run_word = self.low_word;
    }

    /// Takes a page: the lowest free one, else a new one at the end of the file.
    pub fn allocate(&mut self) -> PageId {
        if self.busy_count < self.page_count {
            for word in self.low_word..self.busy.len() {
                let free = self.busy[word].trailing_ones();
                if free < 64 {
                    self.low_word = word;
                    let page = word as u64 * 64 + u64::from(free);
                    if page >= self.page_count {
                        break;
                    }
                    self.set_busy(page);
                    return PageId(page);
                }
            }
        }
        self.extend(1)
    }

    /// Takes adjacent pages: the first hole from where the last run was found, else the file's end.
    pub fn allocate_run(&mut self, pages: u64) -> PageId {
        if pages == 1 {
            return self.allocate();
        }
        if self.page_count - self.busy_count < pages {
            return self.extend(pages);
        }
        let mut word = self.run_word.max(self.low_word);
        let mut start = word as u64 * 64;
        let mut length = 0;
        while word < self.busy.len() {
            let bits = self.busy[word];
            if bits == u64::MAX {
                length = 0;
            } else if bits == 0 {
                if length == 0 {
                    start = word as u64 * 64;
                }
                length += 64;
            } else {
                for at in 0..64 {
                    if bits & (1 << at) != 0 {
                        length = 0;
                        continue;
                    }
                    if length == 0 {
                        start = word as u64 * 64 + at;
                    }
                    length += 1;
                    if length >= pages {
                        break;
                    }
                }
            }
            if length >= pages {
                break;
            }
            word += 1;
        }
        if length >= pages && start + pages <= self.page_count {
            self.run_word = (start / 64) as usize;
            (start..start + pages).for_each(|page| self.set_busy(page));
            return PageId(start);
        }
        self.run_word = self.busy.len();
        self.extend(pages)
    }

    fn extend(&mut self, pages: u64) -> PageId {
        let start = self.page_count;
        assert!(
            start + pages <= PAGE_COUNT_MAX,
            "a tree file below its page limit"
        );
        self.page_count += pages;
        self.cover(self.page_count);
        (start..start + pages).for_each(|page| self.set_busy(page));
        PageId(start)
    }

    /// Takes a free page of a region, for its own bitmap: then rewriting a bitmap never makes
    /// another region's bitmap dirty.
    fn allocate_in(&mut self, region: usize) -> PageId {
        let words = (region_pages(self.page_size) / 64) as usize;
        for word in region * words..(region + 1) * words {
            let free = self.busy[word].trailing_ones();
            let page = word as u64 * 64 + u64::from(free);
            if free < 64 && page < self.page_count {
                self.set_busy(page);
                return PageId(page);
            }
        }
        self.allocate()
    }

    /// An abandoned transaction gives back what it took.
    pub fn untake(&mut self, extents: &[Extent]) {
        for extent in extents {
            let start = extent.page.0;
            (start..start + u64::from(extent.pages)).for_each(|page| self.clear_busy(page));
        }
    }

    /// Every page that a transaction wants to free is in use, and named once. Damaged files break
    /// this; nothing may be changed before it is known.
    pub fn check_freed(&mut self, freed: &[Extent]) -> Result<(), Corrupt> {
        // Bits are cleared to find repetitions, and set again in the end.
        let mut cleared = Vec::with_capacity(freed.len());
        // Nor may a transaction free the pages of the bitmaps.
        let space_pages: Vec<PageId> = self
            .bitmaps()
            .chain(self.directories.iter().copied())
            .map(|c| c.page)
            .collect();
        for PageId(page) in space_pages {
            self.used[(page / 64) as usize] &= !(1 << (page % 64));
            cleared.push(page..page + 1);
        }
        let mut wrong = None;
        for extent in freed {
            let (start, pages) = (extent.page.0, u64::from(extent.pages));
            if start < self.first_page || start >= self.page_count {
                wrong = Some(start);
                break;
            }
            let end = (start + pages).min(self.page_count);
            let first_wrong = (start..end).find(|page| {
                let used = bit(&self.used, *page);
                self.used[(page / 64) as usize] &= !(1 << (page % 64));
                !used
            });
            cleared.push(start..first_wrong.unwrap_or(end));
            wrong = first_wrong.or((end - start < pages).then_some(end));
            if wrong.is_some() {
                break;
            }
        }
        for page in cleared.into_iter().flatten() {
            self.mark(page);
        }
        let Some(page) = wrong else { return Ok(()) };
        let offset = page.saturating_mul(u64::from(self.page_size));
        let (page, rule) = (PageId(page), Rule::Bitmap);
        Err(Corrupt {
            page,
            offset,
            rule,
            expected: 1,
            found: 0,
        })
    }

    fn mark(&mut self, page: u64) {
        self.used[(page / 64) as usize] |= 1 << (page % 64);
    }

    /// Ends a transaction: marks and unmarks its pages, and writes the bitmaps and directories that
    /// changed. Cannot be undone: from here on the plan is executed, or the file is given up.
    pub fn seal(
        &mut self,
        txid: Txid,
        taken: &[Extent],
        mut freed: Vec<Extent>,
        wish: SpaceWish,
        pages: &CheckedPages,
        plan: &mut PlanBuilder,
    ) {
        for extent in &freed {
            let start = extent.page.0;
            (start..start + u64::from(extent.pages)).for_each(|page| self.clear_used(page));
        }
        for extent in taken {
            let start = extent.page.0;
            (start..start + u64::from(extent.pages)).for_each(|page| self.set_used(page));
        }
        if wish.shrink {
            self.shrink(&mut freed);
        }
        if let Some(target) = wish.compact_before {
            for region in &mut self.regions {
                region.dirty |= region.bitmap.page >= target;
            }
        }
        let changed = self.place_bitmaps(wish.compact_before, &mut freed);
        for region in &changed {
            self.write_bitmap(*region, txid, pages, plan);
        }
        self.write_directories(&changed, txid, pages, plan);
        self.pending.push_back(Pending {
            txid,
            extents: freed,
        });
    }

    /// Gives every dirty region's bitmap, and every directory above one, a new page, until that
    /// itself makes no other region dirty. Each is placed once, so this ends.
    fn place_bitmaps(
        &mut self,
        compact_before: Option<PageId>,
        freed: &mut Vec<Extent>,
    ) -> Vec<usize> {
        let per_directory = directory_regions(self.page_size);
        let mut changed = Vec::new();
        let mut placed = vec![false; self.regions.len()];
        let mut placed_directories = vec![false; self.directories.len()];
        let mut region = 0;
        let mut quiet = 0;
        // Goes round until a whole round found nothing: new dirty regions are rare.
        while quiet < self.regions.len() {
            region = (region + 1) % self.regions.len();
            quiet += 1;
            placed.resize(self.regions.len(), false);
            if placed[region] || !self.regions[region].dirty {
                continue;
            }
            quiet = 0;
            placed[region] = true;
            changed.push(region);
            let old = self.regions[region].bitmap.page;
            self.free_space_page(old, freed);
            let first = region as u64 * region_pages(self.page_size);
            let page = match compact_before {
                Some(target) if first >= target.0 => self.allocate(),
                _ => self.allocate_in(region),
            };
            self.set_used(page.0);
            self.regions[region].bitmap.page = page;
            let directory = region / per_directory;
            if self.directories.len() <= directory {
                self.directories.resize(directory + 1, ChildRef::default());
            }
            placed_directories.resize(self.directories.len(), false);
            if !placed_directories[directory] {
                placed_directories[directory] = true;
                let old = self.directories[directory].page;
                self.free_space_page(old, freed);
                let page = self.allocate();
                self.set_used(page.0);
                self.directories[directory].page = page;
            }
        }
        changed.sort_unstable();
        changed
    }

    /// Gives up the pages behind the last busy one, with the bitmaps and directories that covered
    /// nothing else. Those lie before the cut, or nothing would be cut.
    fn shrink(&mut self, freed: &mut Vec<Extent>) {
        let Some(word) = self.busy.iter().rposition(|word| *word != 0) else {
            return;
        };
        let last = word as u64 * 64 + 63 - u64::from(self.busy[word].leading_zeros());
        self.page_count = self.page_count.min(last + 1);
        let regions = self.page_count.div_ceil(region_pages(self.page_size)) as usize;
        for region in regions..self.regions.len() {
            self.free_space_page(self.regions[region].bitmap.page, freed);
        }
        let directories = regions.div_ceil(directory_regions(self.page_size));
        for directory in directories..self.directories.len() {
            self.free_space_page(self.directories[directory].page, freed);
        }
        let dropped_entry = regions < self.regions.len();
        self.regions.truncate(regions);
        self.directories.truncate(directories);
        let words = regions * (region_pages(self.page_size) / 64) as usize;
        self.used.truncate(words);
        self.busy.truncate(words);
        self.run_word = self.run_word.min(words);
        if let Some(last) = self.regions.last_mut() {
            // Its directory no longer names what was dropped.
            last.dirty |= dropped_entry;
        }
    }

    fn free_space_page(&mut self, page: PageId, freed: &mut Vec<Extent>) {
        if page.0 != 0 {
            self.clear_used(page.0);
            freed.push(Extent { page, pages: 1 });
        }
    }

    fn write_bitmap(
        &mut self,
        region: usize,
        txid: Txid,
        pages: &CheckedPages,
        plan: &mut PlanBuilder,
    ) {
        let words = (region_pages(self.page_size) / 64) as usize;
        let page = self.regions[region].bitmap.page;
        pages.forget(page);
        let out = plan.page(page);
        write_header(out, Kind::Bitmap, 0, page, txid);
        write_extent(out, region as u32);
        let bits = &self.used[region * words..(region + 1) * words];
        for (to, word) in out[HEADER..].chunks_exact_mut(8).zip(bits) {
            to.copy_from_slice(&word.to_le_bytes());
        }
        self.regions[region].bitmap.crc = seal(out);
        self.regions[region].dirty = false;
    }

    fn write_directories(
        &mut self,
        changed: &[usize],
        txid: Txid,
        pages: &CheckedPages,
        plan: &mut PlanBuilder,
    ) {
        let per_directory = directory_regions(self.page_size);
        let mut written = None;
        for directory in changed.iter().map(|region| region / per_directory) {
            if written == Some(directory) {
                continue;
            }
            written = Some(directory);
            let page = self.directories[directory].page;
            pages.forget(page);
            let out = plan.page(page);
            write_header(out, Kind::Directory, 0, page, txid);
            write_extent(out, directory as u32);
            let regions = self
                .regions
                .iter()
                .skip(directory * per_directory)
                .take(per_directory);
            for (to, region) in out[HEADER..].chunks_exact_mut(CHILD_REF).zip(regions) {
                write_child(to, region.bitmap);
            }
            self.directories[directory].crc = seal(out);
        }
    }

    /// Makes the pages freed up to `oldest`, the oldest pinned commit, allocatable; a bounded
    /// number of them, the rest with the next call.
    pub fn release(&mut self, oldest: Txid) {
        let mut budget = RELEASE_PAGES_MAX;
        while budget > 0 {
            let Some(front) = self.pending.front_mut() else {
                return;
            };
            if front.txid > oldest {
                return;
            }
            let Some(extent) = front.extents.pop() else {
                self.pending.pop_front();
                continue;
            };
            budget = budget.saturating_sub(extent.pages as usize);
            let start = extent.page.0;
            (start..start + u64::from(extent.pages)).for_each(|page| self.clear_busy(page));
        }
    }
}

pub(super) fn read_child(bytes: &[u8]) -> ChildRef {
    let page = bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes));
    let crc = bytes.get(8..12).and_then(|bytes| bytes.first_chunk());
    ChildRef {
        page: PageId(page),
        crc: crc.map_or(0, |bytes| u32::from_le_bytes(*bytes)),
    }
}

pub(super) fn write_child(out: &mut [u8], child: ChildRef) {
    out[..8].copy_from_slice(&child.page.0.to_le_bytes());
    out[8..12].copy_from_slice(&child.crc.to_le_bytes());
}
