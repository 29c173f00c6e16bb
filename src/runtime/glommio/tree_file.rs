//! Adapter. Tree files on glommio: buffered writes and one sync through the ring.

use super::env::{blocking, io_error};
use crate::env::{PageSource, TreeFile};
use crate::runtime::tree::TreePages;
use crate::runtime::zeroed;
use glommio::io::{BufferedFile, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// An open tree file. One per group, on the core that owns the group.
pub struct GlommioTreeFile {
    file: BufferedFile,
    /// The same file, for what io_uring cannot do.
    pages: TreePages,
}

impl GlommioTreeFile {
    pub(super) async fn open(path: &Path, map_bytes_max: u64) -> io::Result<GlommioTreeFile> {
        let owned = path.to_owned();
        let pages = blocking(move || TreePages::open(&owned, map_bytes_max)).await?;
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options.buffered_open(path).await.map_err(io_error)?;
        Ok(GlommioTreeFile { file, pages })
    }
}

impl TreeFile for GlommioTreeFile {
    fn size(&self) -> u64 {
        self.pages.size()
    }

    fn pages(&self) -> Arc<dyn PageSource> {
        self.pages.source()
    }

    async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        let size = bytes.len();
        let end = self.pages.check_end(offset.checked_add(size as u64))?;
        let written = self.file.write_at(bytes, offset).await.map_err(io_error)?;
        // The kernel cuts a buffered write of a regular file short only when the disk is full, or
        // at 2 GiB, which no caller reaches. The owner latches the error; nothing is retried.
        zeroed::check_written(written, size, offset)?;
        self.pages.grown_to(end);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.fdatasync().await.map_err(io_error)
    }

    async fn set_size(&self, size: u64) -> io::Result<()> {
        let pages = self.pages.clone();
        blocking(move || pages.set_size(size)).await
    }
}
