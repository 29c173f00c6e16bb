//! Pure. Giving space back while serving: each commit moves some pages from the file's end, the
//! last ones cut the file.

use crate::btree::{Relocation, Tree};
use crate::limits::mvcc::DEFRAGMENT_BYTES_MIN;

/// How far giving space back is. Owned by the backend.
pub enum Defragment {
    /// Pages are moved with every commit.
    Moving {
        relocation: Relocation,
        waiting: bool,
    },
    /// So many more commits cut the file: the first may still find old pages pinned behind the cut.
    Cutting(u8),
}

/// What the driver of commits should know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DefragmentProgress {
    /// No space is being given back.
    Idle,
    /// Begin the next commit when convenient.
    Moving,
    /// Nothing can move until older views are gone: begin the next commit after a while.
    Waiting,
}

const CUTS: u8 = 2;

impl Defragment {
    /// `None` when there is nothing worth giving back.
    pub fn begin(tree: &Tree) -> Option<Defragment> {
        let relocation = tree.relocation(DEFRAGMENT_BYTES_MIN)?;
        Some(Defragment::Moving {
            relocation,
            waiting: false,
        })
    }

    pub fn cut() -> Defragment {
        Defragment::Cutting(CUTS)
    }

    pub fn progress(&self) -> DefragmentProgress {
        match self {
            Defragment::Moving { waiting: true, .. } => DefragmentProgress::Waiting,
            _ => DefragmentProgress::Moving,
        }
    }
}
