//! Pure. The bucket buffer of `key`: records since the last commit, shared by length.
//!
//! Revisions only grow, so the buffer is a sequence. The owner appends; a view keeps a handle and
//! the length it may see. Nothing is copied and nobody waits: a slot is written once, before the
//! owner hands out a length that includes it.

use super::record::Record;
use crate::ids::Revision;
use crate::limits::mvcc::{BUFFER_CHUNK_RECORDS, BUFFER_DIRECTORIES, BUFFER_DIRECTORY_CHUNKS};
use std::sync::{Arc, OnceLock};

type Chunk = Box<[OnceLock<Record>]>;
type Directory = Box<[OnceLock<Chunk>]>;

fn slots<T>(count: usize) -> Box<[OnceLock<T>]> {
    std::iter::repeat_with(OnceLock::new).take(count).collect()
}

/// The first `len` records of a shared sequence. The clone of the owner's buffer in a view sees
/// what was there when it was taken. Only the owner pushes.
#[derive(Clone, Debug)]
pub struct Buffer {
    directories: Arc<[OnceLock<Directory>]>,
    len: usize,
    first: Revision,
    last: Revision,
    /// Whether every main revision from first to last has a record, which bounds the search.
    dense: bool,
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer::new()
    }
}

impl Buffer {
    pub fn new() -> Buffer {
        Buffer {
            directories: slots(BUFFER_DIRECTORIES).into(),
            len: 0,
            first: Revision::new(i64::MAX, 0),
            last: Revision::default(),
            dense: true,
        }
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether `revision` is here if it is anywhere.
    #[inline]
    pub fn covers(&self, revision: Revision) -> bool {
        self.first <= revision
    }

    /// Appends. `record.revision` is above all earlier ones.
    pub fn push(&mut self, record: Record) {
        assert!(record.revision > self.last);
        if self.len == 0 {
            self.first = record.revision;
        } else if record.revision.main > self.last.main + 1 {
            self.dense = false;
        }
        self.last = record.revision;
        let (directory, chunk, slot) = place(self.len);
        let directory = self.directories[directory].get_or_init(|| slots(BUFFER_DIRECTORY_CHUNKS));
        let chunk = directory[chunk].get_or_init(|| slots(BUFFER_CHUNK_RECORDS));
        let set = chunk[slot].set(record);
        assert!(set.is_ok(), "two owners push to one buffer");
        self.len += 1;
    }

    #[inline]
    pub fn get(&self, index: usize) -> Option<&Record> {
        if index >= self.len {
            return None;
        }
        let (directory, chunk, slot) = place(index);
        self.directories[directory].get()?[chunk].get()?[slot].get()
    }

    /// Whether no clone is left anywhere.
    pub fn is_unshared(&self) -> bool {
        Arc::strong_count(&self.directories) == 1
    }

    /// Frees the last record, and its chunk with the first of it. `false` when none is left. Does
    /// nothing to records that a clone shares.
    pub fn free_one(&mut self) -> bool {
        let Some(index) = self.len.checked_sub(1) else {
            return false;
        };
        let Some(directories) = Arc::get_mut(&mut self.directories) else {
            return false;
        };
        self.len = index;
        let (directory, chunk, slot) = place(index);
        let Some(directory) = directories[directory].get_mut() else {
            return false;
        };
        if slot == 0 {
            directory[chunk].take();
        } else if let Some(chunk) = directory[chunk].get_mut() {
            chunk[slot].take();
        }
        true
    }

    /// The record of `revision`.
    #[inline]
    pub fn find(&self, revision: Revision) -> Option<&Record> {
        let index = self.lower_bound(revision);
        self.get(index).filter(|record| record.revision == revision)
    }

    /// The index of the first record at or above `revision`.
    ///
    /// Each main revision has at least one record, so distances from both ends bound the place: if
    /// transactions write one key each, the bounds meet at once.
    pub fn lower_bound(&self, revision: Revision) -> usize {
        if self.len == 0 || revision <= self.first {
            return 0;
        }
        if revision > self.last {
            return self.len;
        }
        let (mut low, mut high) = (0, self.len);
        if self.dense {
            low = (revision.main - self.first.main) as usize;
            high -= (self.last.main - revision.main) as usize;
        }
        while low < high {
            let middle = (low + high) / 2;
            match self.get(middle) {
                Some(record) if record.revision < revision => low = middle + 1,
                _ => high = middle,
            }
        }
        low
    }
}

fn place(index: usize) -> (usize, usize, usize) {
    let chunk = index / BUFFER_CHUNK_RECORDS;
    (
        chunk / BUFFER_DIRECTORY_CHUNKS,
        chunk % BUFFER_DIRECTORY_CHUNKS,
        index % BUFFER_CHUNK_RECORDS,
    )
}

#[cfg(test)]
mod tests {
    use super::super::record::Link;
    use super::*;
    use bytes::Bytes;

    // Catches: a search window that excludes the record, with gaps and with many subs per main.
    #[test]
    fn finds_every_revision_and_no_other() {
        let mut buffer = Buffer::new();
        let mut revisions = Vec::new();
        let mut main = 10;
        for step in 0..3000i64 {
            main += if step == 1500 { 40 } else { 1 };
            for sub in 0..=(step * 7 % 5) {
                revisions.push(Revision::new(main, sub));
                let (link, kv) = (Link::default(), Bytes::new());
                let revision = Revision::new(main, sub);
                buffer.push(Record {
                    revision,
                    tombstone: false,
                    link,
                    kv,
                });
            }
        }
        let early = {
            let mut b = buffer.clone();
            b.len = 3;
            b.last = revisions[2];
            b
        };
        assert_eq!(early.find(revisions[3]).map(|r| r.revision), None);
        for (index, revision) in revisions.iter().enumerate() {
            assert_eq!(buffer.lower_bound(*revision), index);
            assert_eq!(buffer.find(*revision).map(|r| r.revision), Some(*revision));
            let behind = Revision::new(revision.main, 9);
            assert!(buffer.find(behind).is_none());
            let next = revisions.partition_point(|have| *have < behind);
            assert_eq!(buffer.lower_bound(behind), next);
        }
        assert_eq!(
            buffer.lower_bound(Revision::new(main + 1, 0)),
            revisions.len()
        );
    }
}
