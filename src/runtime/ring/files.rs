//! Adapter. Log files and tree files on the ring.

use super::block::{Block, Pool};
use super::env::RingEnv;
use super::ops::Ops;
use crate::env::{LogFile, PageSource, TreeFile};
use crate::runtime::start::LogAccess;
use crate::runtime::tree::TreePages;
use crate::runtime::{World, limits, zeroed};
use rustix::fs::{AtFlags, OFlags, StatxFlags};
use std::fs::File;
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

/// An open log file. One per core; writes in flight keep it open.
pub struct RingLogFile {
    ops: Ops,
    pool: Pool,
    file: Rc<OwnedFd>,
    size: u64,
    alignment: usize,
}

impl RingLogFile {
    pub(super) async fn open(env: &RingEnv, path: &Path) -> io::Result<RingLogFile> {
        let (path, log_access) = (path.to_owned(), env.log_access());
        let (file, size, alignment) = env.blocking(move || open(&path, log_access)).await?;
        Ok(RingLogFile {
            ops: env.ops().clone(),
            pool: env.pool().clone(),
            file: Rc::new(file),
            size,
            alignment,
        })
    }
}

/// Opens an existing file: its descriptor, size and blocks. Each write names its durability.
fn open(path: &Path, log_access: LogAccess) -> io::Result<(OwnedFd, u64, usize)> {
    let size = zeroed::existing_size(path)?;
    let mut options = File::options();
    options.read(true).write(true);
    if log_access == LogAccess::Direct {
        options.custom_flags(OFlags::DIRECT.bits() as i32);
    }
    let file = options.open(path).map_err(|error| match log_access {
        LogAccess::Direct => zeroed::direct_open_error(path, &error),
        LogAccess::Buffered => error,
    })?;
    let alignment = match log_access {
        LogAccess::Direct => alignment(&file)?,
        LogAccess::Buffered => limits::ALIGNMENT_BYTES_MAX,
    };
    zeroed::check_alignment(path, alignment)?;
    Ok((OwnedFd::from(file), size, alignment))
}

/// What the file system asks of direct writes; its own blocks when it does not say.
fn alignment(file: &File) -> io::Result<usize> {
    let facts = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::DIOALIGN)?;
    let told = facts.stx_mask & StatxFlags::DIOALIGN.bits() != 0;
    let alignment = facts.stx_dio_offset_align.max(512) as usize;
    if told && alignment.is_power_of_two() {
        Ok(alignment)
    } else {
        Ok(limits::ALIGNMENT_BYTES_MAX)
    }
}

impl LogFile for RingLogFile {
    type Buffer = Block;

    fn size(&self) -> u64 {
        self.size
    }

    fn alignment(&self) -> usize {
        self.alignment
    }

    fn alloc(&self, size: usize) -> Block {
        assert!(size > 0, "a log buffer is never empty");
        assert!(
            size.is_multiple_of(self.alignment),
            "a log buffer is whole blocks"
        );
        self.pool.take(size)
    }

    fn write_at(
        &self,
        buffer: Block,
        offset: u64,
    ) -> impl Future<Output = io::Result<()>> + 'static {
        let range = zeroed::check_range(self.size, self.alignment, offset, buffer.len());
        let (ops, file) = (self.ops.clone(), Rc::clone(&self.file));
        async move {
            range?;
            let size = buffer.len();
            let written = ops.write_durable(&file, buffer, offset).await?;
            zeroed::check_written(written, size, offset)
        }
    }

    async fn read_at(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        zeroed::check_range(self.size, self.alignment, offset, size)?;
        let block = self.pool.take(size);
        let (read, block) = self.ops.read(&self.file, block, offset).await?;
        if read != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("read {read} of {size} bytes at {offset}"),
            ));
        }
        Ok(block.to_vec())
    }

    /// A write in flight holds the file; it is closed with the last one.
    async fn close(self) -> io::Result<()> {
        Ok(())
    }
}

/// An open tree file. One per group, on the core that owns the group.
pub struct RingTreeFile {
    env: RingEnv,
    file: Rc<OwnedFd>,
    pages: TreePages,
}

impl RingTreeFile {
    pub(super) async fn open(
        env: &RingEnv,
        path: &Path,
        map_bytes_max: u64,
    ) -> io::Result<RingTreeFile> {
        let path = path.to_owned();
        let open = move || {
            let pages = TreePages::open(&path, map_bytes_max)?;
            let file = pages.file().try_clone()?;
            Ok((pages, OwnedFd::from(file)))
        };
        let (pages, file) = env.blocking(open).await?;
        Ok(RingTreeFile {
            env: env.clone(),
            file: Rc::new(file),
            pages,
        })
    }
}

impl TreeFile for RingTreeFile {
    fn size(&self) -> u64 {
        self.pages.size()
    }

    fn pages(&self) -> Arc<dyn PageSource> {
        self.pages.source()
    }

    async fn write_at(&self, bytes: Vec<u8>, offset: u64) -> io::Result<()> {
        let size = bytes.len();
        let end = self.pages.check_end(offset.checked_add(size as u64))?;
        let written = self.env.ops().write(&self.file, bytes, offset).await?;
        // The kernel cuts a buffered write of a regular file short only when the disk is full, or
        // at 2 GiB, which no caller reaches. The owner latches the error; nothing is retried.
        zeroed::check_written(written, size, offset)?;
        self.pages.grown_to(end);
        Ok(())
    }

    async fn sync(&self) -> io::Result<()> {
        self.env.ops().sync(&self.file).await
    }

    async fn set_size(&self, size: u64) -> io::Result<()> {
        let pages = self.pages.clone();
        self.env.blocking(move || pages.set_size(size)).await
    }
}
