//! Adapter. Tree files: buffered writes and one sync through the ring, reads through the shared
//! map.

use super::env::{blocking, io_error};
use super::map::MappedPages;
use crate::env::{PageSource, TreeFile};
use glommio::io::{BufferedFile, OpenOptions};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// An open tree file. One per group, on the core that owns the group.
pub struct GlommioTreeFile {
    file: BufferedFile,
    /// The same file, for what io_uring cannot do.
    helper: Arc<File>,
    pages: Arc<MappedPages>,
}

impl GlommioTreeFile {
    pub(super) async fn open(path: &Path, map_bytes_max: u64) -> io::Result<GlommioTreeFile> {
        let owned = path.to_owned();
        let helper = blocking(move || {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(owned)
        })
        .await?;
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        let file = options.buffered_open(path).await.map_err(io_error)?;
        let size = helper.metadata()?.len();
        let pages = Arc::new(MappedPages::new(&helper, size, map_bytes_max)?);
        Ok(GlommioTreeFile {
            file,
            helper: Arc::new(helper),
            pages,
        })
    }

    /// Bytes that the map covers; a write past them is refused.
    pub fn map_bytes_max(&self) -> u64 {
        self.pages.map_bytes_max()
    }

    fn check_end(&self, end: Option<u64>) -> io::Result<u64> {
        let max = self.pages.map_bytes_max();
        match end {
            Some(end) if end <= max => Ok(end),
            _ => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the tree file would grow past its map of {max} bytes"),
            )),
        }
    }
}

impl TreeFile for GlommioTreeFile {
    fn size(&self) -> u64 {
        self.pages.size()
    }

    fn pages(&self) -> Arc<dyn PageSource> {
        Arc::<MappedPages>::clone(&self.pages)
    }

    async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        let end = self.check_end(offset.checked_add(bytes.len() as u64))?;
        let size = bytes.len();
        let written = self.file.write_at(bytes, offset).await.map_err(io_error)?;
        // The kernel cuts a buffered write of a regular file short only when the disk is full, or
        // at 2 GiB, which no caller reaches. The owner latches the error; nothing is retried.
        if written != size {
            return Err(io::Error::new(
                io::ErrorKind::WriteZero,
                format!("wrote {written} of {size} bytes at {offset}"),
            ));
        }
        self.pages.grown_to(end);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.file.fdatasync().await.map_err(io_error)
    }

    async fn set_size(&self, size: u64) -> io::Result<()> {
        self.check_end(Some(size))?;
        let before = self.pages.size();
        if size < before {
            // First: a reader that came in between would be killed by a page past the end.
            self.pages.set_size(size);
        }
        let helper = Arc::clone(&self.helper);
        let resize = move || {
            if size > before {
                // Takes the room now: a full disk is noticed here, before anything is written, and
                // not by a write in the middle of a commit.
                rustix::fs::fallocate(
                    &*helper,
                    rustix::fs::FallocateFlags::empty(),
                    before,
                    size - before,
                )?;
                return Ok(());
            }
            helper.set_len(size)
        };
        blocking(resize).await?;
        self.pages.set_size(size);
        Ok(())
    }
}
