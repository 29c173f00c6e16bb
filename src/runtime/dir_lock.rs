//! Adapter. One process per data directory.

use std::fs::{File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Holds the data directory until it is dropped or the process ends.
pub struct DirLock {
    path: PathBuf,
    _file: File,
}

impl DirLock {
    /// Locks `dir/lock`, creating it when needed. `WouldBlock` when another process holds it.
    pub fn acquire(dir: &Path) -> io::Result<DirLock> {
        let path = dir.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("{} is held by another process", path.display()),
                ));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
        // For the operator's eyes; the lock is the kernel's, not the text, which a full disk may
        // have no room for.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Ok(DirLock { path, _file: file })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch: two servers on one data directory; a lock that outlives its holder.
    #[test]
    fn one_holder() {
        let dir = tempfile::tempdir().unwrap();
        let lock = DirLock::acquire(dir.path()).unwrap();
        let second = DirLock::acquire(dir.path()).err().expect("held");
        assert_eq!(second.kind(), io::ErrorKind::WouldBlock);
        drop(lock);
        DirLock::acquire(dir.path()).unwrap();
    }
}
