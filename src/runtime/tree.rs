//! Adapter. What the tree files of both adapters share: the map, its bounds, and the changes of
//! size, which the helper threads make.

use super::map::MappedPages;
use crate::env::PageSource;
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// An open tree file and its shared map. Clones share it.
#[derive(Clone)]
pub(super) struct TreePages {
    file: Arc<File>,
    pages: Arc<MappedPages>,
}

impl TreePages {
    /// Opens, or creates empty. Blocks: for a helper thread.
    pub(super) fn open(path: &Path, map_bytes_max: u64) -> io::Result<TreePages> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let size = file.metadata()?.len();
        let pages = Arc::new(MappedPages::new(&file, size, map_bytes_max)?);
        Ok(TreePages {
            file: Arc::new(file),
            pages,
        })
    }

    pub(super) fn file(&self) -> &File {
        &self.file
    }

    pub(super) fn size(&self) -> u64 {
        self.pages.size()
    }

    pub(super) fn source(&self) -> Arc<dyn PageSource> {
        Arc::<MappedPages>::clone(&self.pages)
    }

    /// Whether the map covers `end`, which it returns.
    pub(super) fn check_end(&self, end: Option<u64>) -> io::Result<u64> {
        let max = self.pages.map_bytes_max();
        match end {
            Some(end) if end <= max => Ok(end),
            _ => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("the tree file would grow past its map of {max} bytes"),
            )),
        }
    }

    /// Bytes up to `end` were written.
    pub(super) fn grown_to(&self, end: u64) {
        self.pages.grown_to(end);
    }

    /// Grows with zeros or truncates. Blocks: for a helper thread.
    pub(super) fn set_size(&self, size: u64) -> io::Result<()> {
        self.check_end(Some(size))?;
        let before = self.pages.size();
        if size > before {
            // Takes the room now: a full disk is noticed here, before anything is written, and not
            // by a write in the middle of a commit.
            let flags = FallocateFlags::empty();
            if let Err(error) = rustix::fs::fallocate(&*self.file, flags, before, size - before) {
                // What it got before it failed would be missing elsewhere: the log needs room, too.
                let _ = self.file.set_len(before);
                return Err(error.into());
            }
        } else {
            // The map first: a reader that came in between would be killed by a page past the end.
            self.pages.set_size(size);
            self.file.set_len(size)?;
        }
        self.pages.set_size(size);
        Ok(())
    }
}
