//! Adapter. The shared map of a tree file: readable from any core while the file is written.
//!
//! The map is reserved once, past the end of the file, and never moved: growing the file makes more
//! of it valid. Touching a page past the end would kill the process (SIGBUS), so each read is held
//! against the file's size first.

use crate::env::{PageRef, PageSource};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// The pages of one tree file. Shared by all cores through an `Arc`.
pub(super) struct MappedPages {
    map: MmapRaw,
    /// Bytes of the file: grows after the file grew, shrinks before the file shrinks.
    size: AtomicU64,
}

impl MappedPages {
    pub(super) fn new(file: &File, size: u64, map_bytes_max: u64) -> io::Result<MappedPages> {
        let length = usize::try_from(map_bytes_max).map_err(io::Error::other)?;
        if size > map_bytes_max {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("a tree file of {size} bytes, at most {map_bytes_max} mapped"),
            ));
        }
        let map = MmapOptions::new().len(length).map_raw_read_only(file)?;
        Ok(MappedPages {
            map,
            size: AtomicU64::new(size),
        })
    }

    pub(super) fn size(&self) -> u64 {
        self.size.load(Ordering::Acquire)
    }

    /// The file has at least this many bytes now.
    pub(super) fn grown_to(&self, size: u64) {
        self.size.fetch_max(size, Ordering::AcqRel);
    }

    /// The file is about to have, or has, exactly this many bytes.
    pub(super) fn set_size(&self, size: u64) {
        self.size.store(size, Ordering::Release);
    }

    pub(super) fn map_bytes_max(&self) -> u64 {
        self.map.len() as u64
    }
}

impl PageSource for MappedPages {
    #[inline]
    fn read(&self, range: Range<u64>) -> Option<PageRef<'_>> {
        let end = self.size().min(self.map.len() as u64);
        if range.start > range.end || range.end > end {
            return None;
        }
        // Both fit: `end` is at most the map's length, which is a usize.
        let (offset, length) = (range.start as usize, (range.end - range.start) as usize);
        // SAFETY: `offset + length <= map.len()`, checked above, and the map lives as long as
        // `self`, which the slice borrows. The bytes are inside the file (size checked above), so
        // the kernel can page them in; the owner truncates only pages that no reader can reach
        // (contract of `TreeFile::set_size`). They are initialised: a file's holes read as zeros.
        // The kernel may change bytes under the slice only when the owner overwrites the page, and
        // copy-on-write never overwrites a page that a reader can reach (contract of `btree`); a
        // page read during recovery races with nobody. Until: the `MappedPages` is dropped.
        let bytes = unsafe { std::slice::from_raw_parts(self.map.as_ptr().add(offset), length) };
        Some(PageRef::Mapped(bytes))
    }
}
