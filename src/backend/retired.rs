//! Pure. Frees generations that are in the file, a little at a time.
//!
//! A generation of a hundred thousand records takes tens of milliseconds to free: too long for the
//! core that serves. Views may hold it for longer than the owner; it waits here until the last one
//! is gone, so that no reader has to free it at once either.

use super::cowmap::MapNodes;
use super::entry::IndexEntry;
use super::state::Layer;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;

/// Freeing one node of a map takes about as long as this many records.
const NODE_COST: usize = 8;

/// Owned by the backend. As many generations wait as views hold back.
#[derive(Default)]
pub struct Retired {
    waiting: VecDeque<Arc<Layer>>,
    dismantled: Option<Dismantled>,
}

struct Dismantled {
    layer: Layer,
    index: MapNodes<Option<IndexEntry>>,
    small: MapNodes<Option<Bytes>>,
}

impl Retired {
    pub fn push(&mut self, layer: Arc<Layer>) {
        self.waiting.push_back(layer);
    }

    /// Frees about `records` records, or what they cost. `false` when nothing can be freed now.
    pub fn free(&mut self, records: usize) -> bool {
        let mut left = records;
        while left > 0 {
            if self.dismantled.is_none() {
                self.dismantled = self.take_unshared();
            }
            let Some(dismantled) = &mut self.dismantled else {
                return false;
            };
            // Maps first: their keys are parts of the records.
            let cost = if dismantled.index.free_one() || dismantled.small.free_one() {
                NODE_COST
            } else if dismantled.layer.records.free_one() {
                1
            } else {
                self.dismantled = None;
                1
            };
            left = left.saturating_sub(cost);
        }
        true
    }

    /// A generation that no view holds: neither as a whole nor, from when it was active, in parts.
    fn take_unshared(&mut self) -> Option<Dismantled> {
        let at = self.waiting.iter_mut().position(|layer| {
            Arc::get_mut(layer).is_some_and(|layer| layer.records.is_unshared())
        })?;
        let mut layer = Arc::into_inner(self.waiting.remove(at)?)?;
        let index = std::mem::take(&mut layer.index).into_nodes();
        let small = std::mem::take(&mut layer.small).into_nodes();
        Some(Dismantled {
            layer,
            index,
            small,
        })
    }
}
