//! Adapter. Log files in the making, and what every log file checks: whole blocks inside its size.

use super::limits;
use super::start::LogAccess;
use rustix::fs::{FallocateFlags, OFlags};
use std::fs::{self, File};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Instant;

/// Writes every block of a new file once and syncs it. Runs on a helper thread.
///
/// The blocks go past the page cache: cached pages of a log would have to be thrown out again by
/// each later O_DIRECT write. Between writes the thread rests as long as the write took, so that
/// filling a segment leaves half of the device to the log that is being written.
pub(super) fn create(path: &Path, size: u64, log_access: LogAccess) -> io::Result<()> {
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

pub(super) fn invalid(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, what)
}

/// Whether `size` bytes at `offset` are whole blocks inside a log file of `file_size` bytes.
pub(super) fn check_range(
    file_size: u64,
    alignment: usize,
    offset: u64,
    size: usize,
) -> io::Result<()> {
    let aligned = |n: u64| n.is_multiple_of(alignment as u64);
    let end = offset.checked_add(size as u64);
    if size == 0 || !aligned(offset) || !aligned(size as u64) {
        return Err(invalid(format!(
            "{size} bytes at {offset} of a log file with blocks of {alignment}"
        )));
    }
    if end.is_none_or(|end| end > file_size) {
        return Err(invalid(format!(
            "{size} bytes at {offset} of a log file of {file_size} bytes"
        )));
    }
    Ok(())
}

/// A write of a log file or of a tree file was cut short: its blocks exist, so the device failed.
pub(super) fn check_written(written: usize, size: usize, offset: u64) -> io::Result<()> {
    if written == size {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::WriteZero,
        format!("wrote {written} of {size} bytes at {offset}"),
    ))
}

/// A log file that exists and is not empty: its size.
pub(super) fn existing_size(path: &Path) -> io::Result<u64> {
    match fs::metadata(path)?.len() {
        0 => Err(invalid(format!("log file {}: empty", path.display()))),
        size => Ok(size),
    }
}

/// The error of an open with O_DIRECT, with what may help.
pub(super) fn direct_open_error(path: &Path, error: &io::Error) -> io::Error {
    let advice = "does the file system know O_DIRECT?";
    io::Error::new(
        error.kind(),
        format!("{}: {error}; {advice}", path.display()),
    )
}

/// Blocks of a size that we cope with.
pub(super) fn check_alignment(path: &Path, alignment: usize) -> io::Result<()> {
    let max = limits::ALIGNMENT_BYTES_MAX;
    if alignment <= max {
        return Ok(());
    }
    Err(invalid(format!(
        "{}: blocks of {alignment} bytes, at most {max} expected",
        path.display()
    )))
}
