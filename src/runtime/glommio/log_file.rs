//! Adapter. Log files: fixed size, overwritten in place, durable when a write returns.

use super::env::io_error;
use crate::env::LogFile;
use crate::runtime::start::LogAccess;
use crate::runtime::{limits, zeroed};
use glommio::io::{BufferedFile, DmaBuffer, DmaFile, OpenOptions};
use rustix::fs::OFlags;
use std::future::Future;
use std::io;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::rc::Rc;

/// An open log file. One per core; writes in flight keep it open.
pub struct GlommioLogFile {
    file: Rc<Access>,
    size: u64,
    alignment: usize,
}

enum Access {
    Direct(DmaFile),
    Buffered(BufferedFile),
}

/// Zeroed bytes that a log file takes for writing.
pub struct LogBuffer {
    bytes: Bytes,
}

enum Bytes {
    /// Aligned, and registered with the ring while the pool lasts.
    Dma(DmaBuffer),
    Plain(Vec<u8>),
}

impl Deref for LogBuffer {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Dma(bytes) => bytes.as_bytes(),
            Bytes::Plain(bytes) => bytes,
        }
    }
}

impl DerefMut for LogBuffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        match &mut self.bytes {
            Bytes::Dma(bytes) => bytes.as_bytes_mut(),
            Bytes::Plain(bytes) => bytes,
        }
    }
}

impl GlommioLogFile {
    /// Opens an existing file. An empty one is refused: glommio probes the device with a read of
    /// the first file it opens, and an empty one makes every later read fail (trap c).
    pub(super) async fn open(path: &Path, log_access: LogAccess) -> io::Result<GlommioLogFile> {
        let size = zeroed::existing_size(path)?;
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(OFlags::DSYNC.bits() as i32);
        let (file, alignment) = match log_access {
            LogAccess::Direct => {
                let file = options
                    .dma_open(path)
                    .await
                    .map_err(|error| zeroed::direct_open_error(path, &io_error(error)))?;
                let alignment = usize::try_from(file.align_up(1)).expect("a block size");
                (Access::Direct(file), alignment)
            }
            LogAccess::Buffered => {
                let file = options.buffered_open(path).await.map_err(io_error)?;
                (Access::Buffered(file), limits::ALIGNMENT_BYTES_MAX)
            }
        };
        zeroed::check_alignment(path, alignment)?;
        Ok(GlommioLogFile {
            file: Rc::new(file),
            size,
            alignment,
        })
    }
}

impl LogFile for GlommioLogFile {
    type Buffer = LogBuffer;

    fn size(&self) -> u64 {
        self.size
    }

    fn alignment(&self) -> usize {
        self.alignment
    }

    fn alloc(&self, size: usize) -> LogBuffer {
        assert!(size > 0, "a log buffer is never empty");
        assert!(
            size.is_multiple_of(self.alignment),
            "a log buffer is whole blocks"
        );
        let bytes = match &*self.file {
            Access::Direct(file) => {
                let mut buffer = file.alloc_dma_buffer(size);
                assert_eq!(buffer.len(), size, "the pool gives what was asked for");
                // The pool hands out used memory.
                buffer.as_bytes_mut().fill(0);
                Bytes::Dma(buffer)
            }
            Access::Buffered(_) => Bytes::Plain(vec![0; size]),
        };
        LogBuffer { bytes }
    }

    fn write_at(
        &self,
        buffer: LogBuffer,
        offset: u64,
    ) -> impl Future<Output = io::Result<()>> + 'static {
        let range = zeroed::check_range(self.size, self.alignment, offset, buffer.len());
        let file = Rc::clone(&self.file);
        async move {
            range?;
            let size = buffer.len();
            let written = match (&*file, buffer.bytes) {
                (Access::Direct(file), Bytes::Dma(bytes)) => file.write_at(bytes, offset).await,
                (Access::Buffered(file), Bytes::Plain(bytes)) => file.write_at(bytes, offset).await,
                _ => {
                    return Err(zeroed::invalid(
                        "a buffer of another file's kind".to_owned(),
                    ));
                }
            }
            .map_err(io_error)?;
            zeroed::check_written(written, size, offset)
        }
    }

    async fn read_at(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        zeroed::check_range(self.size, self.alignment, offset, size)?;
        let bytes = match &*self.file {
            Access::Direct(file) => file.read_at_aligned(offset, size).await,
            Access::Buffered(file) => file.read_at(offset, size).await,
        }
        .map_err(io_error)?;
        if bytes.len() != size {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                format!("read {} of {size} bytes at {offset}", bytes.len()),
            ));
        }
        Ok(bytes.to_vec())
    }

    async fn close(self) -> io::Result<()> {
        match Rc::try_unwrap(self.file) {
            Ok(Access::Direct(file)) => file.close().await.map_err(io_error),
            Ok(Access::Buffered(file)) => file.close().await.map_err(io_error),
            // A write in flight holds it; glommio closes it with the last reference.
            Err(_) => Ok(()),
        }
    }
}
