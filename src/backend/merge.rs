//! Pure. One ordered cursor over a tree bucket and the two overlays above it.

use super::cowmap::{CowMap, MapCursor};
use super::entry::IndexEntry;
use super::error::{Corrupt, EntryRule};
use super::schema;
use crate::btree::{Cursor, Value};
use std::cmp::Ordering;

/// Walks keys in ascending order; the newest source of a key wins, deletions are passed over.
pub struct MergeCursor<'a, T> {
    tree: Cursor<'a>,
    upper: [MapCursor<'a, Option<T>>; 2],
    /// The first byte of overlay keys that belong to this bucket; it is not part of the key.
    bucket: Option<u8>,
    at: At,
    /// Which sources stand on the current key and must move with it: tree, active, committing.
    same: [bool; 3],
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    End,
    Tree,
    Upper(usize),
}

impl<'a, T: Clone> MergeCursor<'a, T> {
    pub fn new(
        tree: Cursor<'a>,
        bucket: Option<u8>,
        active: &'a CowMap<Option<T>>,
        committing: Option<&'a CowMap<Option<T>>>,
    ) -> MergeCursor<'a, T> {
        let lower = committing.map_or(MapCursor::empty(), CowMap::cursor);
        let upper = [active.cursor(), lower];
        MergeCursor {
            tree,
            upper,
            bucket,
            at: At::End,
            same: [false; 3],
        }
    }

    /// Moves to the first entry at or after `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<(), Corrupt> {
        self.tree.seek(key)?;
        match self.bucket {
            None => self.upper.iter_mut().for_each(|cursor| cursor.seek(key)),
            Some(bucket) => {
                let placed = [&[bucket], key].concat();
                self.upper
                    .iter_mut()
                    .for_each(|cursor| cursor.seek(&placed));
            }
        }
        self.settle()
    }

    /// Moves to the next entry.
    pub fn advance(&mut self) -> Result<(), Corrupt> {
        self.step()?;
        self.settle()
    }

    #[inline]
    pub fn key(&self) -> Option<&[u8]> {
        match self.at {
            At::End => None,
            At::Tree => self.tree.key(),
            At::Upper(source) => self.upper_key(source),
        }
    }

    /// The current value: from an overlay, or from the tree.
    pub fn value(&self) -> Result<(Option<&'a T>, Option<Value<'a>>), Corrupt> {
        match self.at {
            At::End => Ok((None, None)),
            At::Tree => Ok((None, self.tree.value()?)),
            At::Upper(source) => Ok((self.upper[source].value().and_then(Option::as_ref), None)),
        }
    }

    #[inline]
    fn upper_key(&self, source: usize) -> Option<&'a [u8]> {
        let key: &'a [u8] = self.upper[source].key()?;
        match self.bucket {
            None => Some(key),
            Some(bucket) => key
                .split_first()
                .filter(|(first, _)| **first == bucket)
                .map(|s| s.1),
        }
    }

    fn step(&mut self) -> Result<(), Corrupt> {
        if self.same[0] {
            self.tree.next()?;
        }
        for source in 0..2 {
            if self.same[source + 1] {
                self.upper[source].advance();
            }
        }
        Ok(())
    }

    /// Finds the smallest key among the sources, and passes over those that are deleted.
    fn settle(&mut self) -> Result<(), Corrupt> {
        loop {
            let tree = self.tree.key();
            self.at = if tree.is_some() { At::Tree } else { At::End };
            self.same = [tree.is_some(), false, false];
            let mut least = tree;
            // From the oldest source to the newest, so that the newest of equal keys is chosen.
            for source in [1, 0] {
                let Some(key) = self.upper_key(source) else {
                    continue;
                };
                let order = least.map_or(Ordering::Less, |least| key.cmp(least));
                if order == Ordering::Greater {
                    continue;
                }
                if order == Ordering::Less {
                    self.same = [false; 3];
                }
                self.same[source + 1] = true;
                self.at = At::Upper(source);
                least = Some(key);
            }
            match self.at {
                At::Upper(source) if matches!(self.upper[source].value(), Some(None)) => {
                    self.step()?;
                }
                _ => return Ok(()),
            }
        }
    }
}

impl MergeCursor<'_, IndexEntry> {
    /// The current index entry. Asked only while there is a key.
    #[inline]
    pub fn entry(&self) -> Result<IndexEntry, Corrupt> {
        let (upper, stored) = self.value()?;
        if let Some(entry) = upper {
            return Ok(*entry);
        }
        stored
            .and_then(|value| IndexEntry::parse(&value))
            .ok_or_else(|| {
                Corrupt::entry(
                    schema::INDEX,
                    self.key().unwrap_or(b""),
                    EntryRule::IndexValue,
                )
            })
    }
}
