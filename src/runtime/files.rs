//! Adapter. Directories, and the small files of start-up: read whole, written whole and durably.

use crate::env::FileFact;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// A small file is not larger than this; a larger one is not ours.
const SMALL_BYTES_MAX: u64 = 1 << 20;

/// Makes a directory and its parents, for the owner alone, as etcd does.
pub fn create_private_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// The files of a directory and their sizes, by name.
pub(super) fn list(dir: &Path) -> io::Result<Vec<FileFact>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        if metadata.is_file() {
            let name = entry.file_name().into_string().map_err(|name| {
                io::Error::new(io::ErrorKind::InvalidData, format!("file name {name:?}"))
            })?;
            files.push(FileFact {
                name,
                size: metadata.len(),
            });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Makes the names of a directory durable.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// The bytes of a file; `None` when there is none.
pub fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::metadata(path) {
        Ok(facts) if facts.len() > SMALL_BYTES_MAX => Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!(
                "{}: {} bytes, at most {SMALL_BYTES_MAX}",
                path.display(),
                facts.len()
            ),
        )),
        Ok(_) => fs::read(path).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file so that after a crash it is there whole or not at all: a temporary file is synced,
/// then takes the name, then the directory is synced.
pub fn write_durable(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path
        .parent()
        .filter(|dir| !dir.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let new = path.with_extension("new");
    let mut file = File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    // Would catch: a lost or half-written file taken for one, a missing one for an error.
    #[test]
    fn what_is_written_is_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a").join("file");
        create_private_dir(path.parent().expect("has one")).expect("made");
        assert_eq!(read_small(&path).expect("no error"), None);
        write_durable(&path, b"one").expect("written");
        write_durable(&path, b"two").expect("written again");
        assert_eq!(
            read_small(&path).expect("read").as_deref(),
            Some(&b"two"[..])
        );
    }
}
