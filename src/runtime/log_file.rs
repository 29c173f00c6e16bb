//! Adapter. Log files: fixed size, overwritten in place, durable when a write returns.

use super::env::io_error;
use super::limits;
use super::start::LogAccess;
use crate::env::LogFile;
use glommio::io::{BufferedFile, DmaBuffer, DmaFile, OpenOptions};
use rustix::fs::{FallocateFlags, OFlags};
use std::fs::{self, File};
use std::future::Future;
use std::io::{self, Seek, SeekFrom, Write};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::Instant;

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
        let size = fs::metadata(path)?.len();
        if size == 0 {
            return Err(invalid(format!("log file {}: empty", path.display())));
        }
        let mut options = OpenOptions::new();
        options
            .read(true)
            .write(true)
            .custom_flags(OFlags::DSYNC.bits() as i32);
        let (file, alignment) = match log_access {
            LogAccess::Direct => {
                let file = options.dma_open(path).await.map_err(|error| {
                    let error = io_error(error);
                    let advice = "does the file system know O_DIRECT?";
                    io::Error::new(
                        error.kind(),
                        format!("{}: {error}; {advice}", path.display()),
                    )
                })?;
                let alignment = usize::try_from(file.align_up(1)).expect("a block size");
                (Access::Direct(file), alignment)
            }
            LogAccess::Buffered => {
                let file = options.buffered_open(path).await.map_err(io_error)?;
                (Access::Buffered(file), limits::ALIGNMENT_BYTES_MAX)
            }
        };
        if alignment > limits::ALIGNMENT_BYTES_MAX {
            let max = limits::ALIGNMENT_BYTES_MAX;
            return Err(invalid(format!(
                "{}: blocks of {alignment} bytes, at most {max} expected",
                path.display()
            )));
        }
        Ok(GlommioLogFile {
            file: Rc::new(file),
            size,
            alignment,
        })
    }

    fn check_range(&self, offset: u64, size: usize) -> io::Result<()> {
        let aligned = |n: u64| n.is_multiple_of(self.alignment as u64);
        let end = offset.checked_add(size as u64);
        if size == 0 || !aligned(offset) || !aligned(size as u64) {
            return Err(invalid(format!(
                "{size} bytes at {offset} of a log file with blocks of {}",
                self.alignment
            )));
        }
        if end.is_none_or(|end| end > self.size) {
            return Err(invalid(format!(
                "{size} bytes at {offset} of a log file of {} bytes",
                self.size
            )));
        }
        Ok(())
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
        let range = self.check_range(offset, buffer.len());
        let file = Rc::clone(&self.file);
        async move {
            range?;
            let size = buffer.len();
            let written = match (&*file, buffer.bytes) {
                (Access::Direct(file), Bytes::Dma(bytes)) => file.write_at(bytes, offset).await,
                (Access::Buffered(file), Bytes::Plain(bytes)) => file.write_at(bytes, offset).await,
                _ => return Err(invalid("a buffer of another file's kind".to_owned())),
            }
            .map_err(io_error)?;
            // The file has its size and its blocks already, so a short write is a failing device.
            if written != size {
                return Err(io::Error::new(
                    io::ErrorKind::WriteZero,
                    format!("wrote {written} of {size} bytes at {offset}"),
                ));
            }
            Ok(())
        }
    }

    async fn read_at(&self, offset: u64, size: usize) -> io::Result<Vec<u8>> {
        self.check_range(offset, size)?;
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

/// Writes every block of a new file once and syncs it. Runs on a helper thread.
///
/// The blocks go past the page cache: cached pages of a log would have to be thrown out again by
/// each later O_DIRECT write. Between writes the thread rests as long as the write took, so that
/// filling a segment leaves half of the device to the log that is being written.
pub(super) fn create_zeroed(path: &Path, size: u64, log_access: LogAccess) -> io::Result<()> {
    let alignment = limits::ALIGNMENT_BYTES_MAX as u64;
    if size == 0 || !size.is_multiple_of(alignment) {
        return Err(invalid(format!(
            "a log file of {size} bytes: not whole blocks of {alignment}"
        )));
    }
    let flags = match log_access {
        LogAccess::Direct => OFlags::DIRECT.bits() as i32,
        LogAccess::Buffered => 0,
    };
    let mut options = File::options();
    let mut file = options
        .write(true)
        .create_new(true)
        .custom_flags(flags)
        .open(path)?;
    let filled = fill_with_zeros(&mut file, size);
    if filled.is_err() {
        // Nothing refers to it yet; a leftover of the wrong size would puzzle the next start.
        let _ = fs::remove_file(path);
    }
    filled
}

fn fill_with_zeros(file: &mut File, size: u64) -> io::Result<()> {
    // One extent if there is room for one; file systems without fallocate do without.
    match rustix::fs::fallocate(&*file, FallocateFlags::empty(), 0, size) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let room = vec![0u8; limits::ZERO_FILL_BYTES + limits::ALIGNMENT_BYTES_MAX];
    let start = room.as_ptr().align_offset(limits::ALIGNMENT_BYTES_MAX);
    let zeros = &room[start..start + limits::ZERO_FILL_BYTES];
    file.seek(SeekFrom::Start(0))?;
    let mut left = size;
    while left > 0 {
        let part = usize::try_from(left).unwrap_or(usize::MAX).min(zeros.len());
        let began = Instant::now();
        file.write_all(&zeros[..part])?;
        left -= part as u64;
        if left > 0 {
            std::thread::sleep(began.elapsed());
        }
    }
    file.sync_all()
}

fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}
