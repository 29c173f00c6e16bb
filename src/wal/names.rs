//! Pure. Names of the files in a log's directory.

use crate::ids::SegmentSeq;
use std::path::{Path, PathBuf};

/// What a file is for, as its name says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum FileRole {
    /// A segment of the log.
    Segment(SegmentSeq),
    /// A whole segment file that waits for use; its bytes mean nothing.
    Spare(u64),
    /// A file that is being filled with zeros; left behind by a crash, it is deleted.
    New(u64),
}

impl FileRole {
    pub fn parse(name: &str) -> Option<FileRole> {
        let (stem, suffix) = name.split_once('.')?;
        let plain =
            stem.len() == 16 && stem.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let number = u64::from_str_radix(stem, 16).ok().filter(|_| plain)?;
        match suffix {
            "wal" => Some(FileRole::Segment(SegmentSeq(number))),
            "spare" => Some(FileRole::Spare(number)),
            "new" => Some(FileRole::New(number)),
            _ => None,
        }
    }

    pub fn name(&self) -> String {
        match self {
            FileRole::Segment(seq) => format!("{:016x}.wal", seq.0),
            FileRole::Spare(number) => format!("{number:016x}.spare"),
            FileRole::New(number) => format!("{number:016x}.new"),
        }
    }

    pub fn path(&self, dir: &Path) -> PathBuf {
        dir.join(self.name())
    }
}
