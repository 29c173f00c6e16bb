//! Driver. Checks and dumps of the files of a stopped server.
//!
//! In: a kind (`wal` or `tree`) and a path. Out: text on the given writer; an error for a file that
//! is not sound. Call order: `check` or `dump`.
//!
//! Invariants
//! 1. Nothing is opened for writing.
//! 2. Damage is described with file and offset, never a panic.
//! 3. A tree is read page by page, so that a file larger than the memory can be checked.
//!
//! Not here: repair, and files of a running server, which change under the reader.
//! Bytes: `docs/format/wal.md`, `docs/format/tree.md`.

use crate::btree::{self, Tree};
use crate::env::{PageRef, PageSource};
use crate::ids::{PageId, SegmentSeq};
use crate::wal;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Which files are looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A segment, or a directory of them.
    Wal,
    /// A B+tree file.
    Tree,
}

impl Kind {
    pub fn of(name: &str) -> Option<Kind> {
        match name {
            "wal" => Some(Kind::Wal),
            "tree" => Some(Kind::Tree),
            _ => None,
        }
    }
}

/// Why a file could not be read, or what is wrong with it.
#[derive(Debug)]
pub enum InspectError {
    Io { path: PathBuf, source: io::Error },
    Output(io::Error),
    NoSegments(PathBuf),
    SegmentName(PathBuf),
    Damaged { path: PathBuf, what: String },
}

impl fmt::Display for InspectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InspectError::Io { path, source } => write!(f, "{}: {source}", path.display()),
            InspectError::Output(source) => write!(f, "output: {source}"),
            InspectError::NoSegments(path) => write!(f, "{}: no segments", path.display()),
            InspectError::SegmentName(path) => {
                write!(f, "{}: not the name of a segment", path.display())
            }
            InspectError::Damaged { path, what } => write!(f, "{}: {what}", path.display()),
        }
    }
}

impl std::error::Error for InspectError {}

impl From<io::Error> for InspectError {
    fn from(source: io::Error) -> InspectError {
        InspectError::Output(source)
    }
}

/// Checks files and prints a line per file; an error when one is not sound.
pub fn check(kind: Kind, path: &Path, out: &mut impl Write) -> Result<(), InspectError> {
    match kind {
        Kind::Wal => check_wal(path, out),
        Kind::Tree => {
            let report = open_tree(path)?.check();
            let report = report.map_err(|corrupt| damaged(path, &corrupt))?;
            writeln!(out, "{}: ok", path.display())?;
            writeln!(out, "keys {}", report.keys)?;
            writeln!(out, "leaf pages {}", report.leaf_pages)?;
            writeln!(out, "branch pages {}", report.branch_pages)?;
            writeln!(out, "overflow pages {}", report.overflow_pages)?;
            Ok(writeln!(out, "free pages {}", report.free_pages)?)
        }
    }
}

/// Prints files, a line per field.
pub fn dump(kind: Kind, path: &Path, out: &mut impl Write) -> Result<(), InspectError> {
    match kind {
        Kind::Wal => dump_wal(path, out),
        Kind::Tree => {
            let (pages, _) = open_pages(path)?;
            write!(out, "{}", btree::dump::metas(&*pages))?;
            let tree = open_tree(path)?;
            write!(out, "{}", tree.dump_buckets())?;
            for page in 0..tree.size_bytes() / u64::from(tree.page_size()) {
                writeln!(out, "page {page}")?;
                write!(out, "{}", tree.dump_page(PageId(page)))?;
            }
            Ok(write!(out, "{}", tree.dump_free())?)
        }
    }
}

fn damaged(path: &Path, what: &impl fmt::Display) -> InspectError {
    InspectError::Damaged {
        path: path.to_owned(),
        what: what.to_string(),
    }
}

/// Pages of a file that nobody writes, read as they are asked for.
struct FilePages {
    file: File,
    size: u64,
}

impl PageSource for FilePages {
    fn read(&self, range: Range<u64>) -> Option<PageRef<'_>> {
        if range.end > self.size || range.start > range.end {
            return None;
        }
        let mut bytes = vec![0; usize::try_from(range.end - range.start).ok()?];
        self.file.read_exact_at(&mut bytes, range.start).ok()?;
        Some(PageRef::Shared(bytes.into()))
    }
}

fn open_pages(path: &Path) -> Result<(Arc<dyn PageSource>, u64), InspectError> {
    let io = |source| InspectError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(io)?;
    let size = file.metadata().map_err(io)?.len();
    Ok((Arc::new(FilePages { file, size }), size))
}

fn open_tree(path: &Path) -> Result<Tree, InspectError> {
    let (pages, size) = open_pages(path)?;
    Tree::open(pages, size).map_err(|error| damaged(path, &error))
}

/// The segments of a directory, or the one that is named, with their places in the stream.
fn segments(path: &Path) -> Result<Vec<(PathBuf, SegmentSeq)>, InspectError> {
    let io = |source| InspectError::Io {
        path: path.to_owned(),
        source,
    };
    if !path.is_dir() {
        let seq = segment_seq(path);
        let seq = seq.ok_or_else(|| InspectError::SegmentName(path.to_owned()))?;
        return Ok(vec![(path.to_owned(), seq)]);
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(path).map_err(io)? {
        let file = entry.map_err(io)?.path();
        all.extend(segment_seq(&file).map(|seq| (file, seq)));
    }
    all.sort_by_key(|(_, seq)| *seq);
    match all.is_empty() {
        true => Err(InspectError::NoSegments(path.to_owned())),
        false => Ok(all),
    }
}

fn segment_seq(path: &Path) -> Option<SegmentSeq> {
    let stem = path.file_name()?.to_str()?.strip_suffix(".wal")?;
    u64::from_str_radix(stem, 16).ok().map(SegmentSeq)
}

fn read(path: &Path) -> Result<Vec<u8>, InspectError> {
    fs::read(path).map_err(|source| InspectError::Io {
        path: path.to_owned(),
        source,
    })
}

fn check_wal(path: &Path, out: &mut impl Write) -> Result<(), InspectError> {
    for (file, seq) in segments(path)? {
        let report = wal::scan(&read(&file)?, seq, |_, _, _| {});
        let report = report.map_err(|fault| damaged(&file, &format!("{fault:?}")))?;
        if let Some((offset, fault)) = report.record_fault {
            return Err(damaged(
                &file,
                &format!("batch at offset {offset}: {fault:?}"),
            ));
        }
        let (batches, records, tail) = (report.batches, report.records, report.chain.tail_case());
        let file = file.display();
        writeln!(
            out,
            "{file}: ok, batches {batches}, records {records}, tail {tail:?}"
        )?;
    }
    Ok(())
}

fn dump_wal(path: &Path, out: &mut impl Write) -> Result<(), InspectError> {
    for (file, seq) in segments(path)? {
        let mut text = String::new();
        let result = wal::dump_segment(&read(&file)?, seq, &mut text);
        writeln!(out, "file {}", file.display())?;
        write!(out, "{text}")?;
        result.map_err(|fault| damaged(&file, &format!("{fault:?}")))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
