//! Pure. The slab of watchers, and the lists by which an interest reaches them.

/// No watcher, no interest, no node.
pub(super) const NONE: u32 = u32::MAX;

/// A watcher's place in the slab, valid while its generation is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct WatcherKey {
    pub slot: u32,
    pub generation: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum State {
    Free,
    /// Sees changes as they are applied.
    Live,
    /// Waits in `arrivals` for a cohort.
    Arrived,
    /// Reads the log with this cohort.
    Reading(u8),
    /// Its stream is full.
    Stalled,
}

#[derive(Debug)]
pub(super) struct Watcher {
    pub id: i64,
    /// The least revision whose events it has not been given. While `Reading`, the cohort's
    /// position counts when it is greater.
    pub next_revision: i64,
    pub stream: u32,
    pub interest: u32,
    /// Neighbours in the interest's list; `after` links the free slots.
    pub before: u32,
    pub after: u32,
    /// The sequence number, cut to 32 bits, of its latest events in the stream's queue.
    pub open: u32,
    pub generation: u32,
    pub flags: u8,
    pub state: State,
}

const _: () = assert!(size_of::<Watcher>() <= 48);

/// Wants the previous value.
pub(super) const PREV_KV: u8 = 1;
pub(super) const NO_PUT: u8 = 1 << 1;
pub(super) const NO_DELETE: u8 = 1 << 2;
pub(super) const FRAGMENT: u8 = 1 << 3;
/// Wants periodic progress.
pub(super) const PROGRESS: u8 = 1 << 4;
/// Was given no event since the last tick.
pub(super) const QUIET: u8 = 1 << 5;
/// Started at a revision that was not reached then; cleared once it is.
pub(super) const FUTURE: u8 = 1 << 6;
/// Was given events of the revision that is being handed out.
pub(super) const TOUCHED: u8 = 1 << 7;

#[derive(Default, Debug)]
pub(super) struct Watchers {
    slots: Vec<Watcher>,
    free: Option<u32>,
    count: usize,
}

impl Watchers {
    pub fn insert(&mut self, watcher: Watcher) -> u32 {
        self.count += 1;
        match self.free {
            Some(slot) => {
                let place = &mut self.slots[slot as usize];
                assert_eq!(place.state, State::Free);
                self.free = (place.after != NONE).then_some(place.after);
                let generation = place.generation;
                *place = Watcher {
                    generation,
                    ..watcher
                };
                slot
            }
            None => {
                let slot = u32::try_from(self.slots.len()).expect("memory ends before 2^32 slots");
                assert!(slot < NONE);
                self.slots.push(watcher);
                slot
            }
        }
    }

    pub fn remove(&mut self, slot: u32) {
        let place = &mut self.slots[slot as usize];
        assert_ne!(place.state, State::Free);
        place.state = State::Free;
        place.generation = place.generation.wrapping_add(1);
        place.after = self.free.unwrap_or(NONE);
        self.free = Some(slot);
        self.count -= 1;
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn key(&self, slot: u32) -> WatcherKey {
        WatcherKey {
            slot,
            generation: self[slot].generation,
        }
    }

    /// The state of a watcher that may be gone.
    pub fn state(&self, key: WatcherKey) -> State {
        let place = &self.slots[key.slot as usize];
        if place.generation == key.generation {
            place.state
        } else {
            State::Free
        }
    }

    /// Puts a watcher in front of the list that begins at `head`.
    pub fn link(&mut self, head: &mut u32, slot: u32) {
        self[slot].before = NONE;
        self[slot].after = *head;
        if *head != NONE {
            let next = *head;
            self[next].before = slot;
        }
        *head = slot;
    }

    /// Takes a watcher out of the list that begins at `head`.
    pub fn unlink(&mut self, head: &mut u32, slot: u32) {
        let (before, after) = (self[slot].before, self[slot].after);
        match before {
            NONE => {
                assert_eq!(*head, slot, "a list begins with its first watcher");
                *head = after;
            }
            before => self[before].after = after,
        }
        if after != NONE {
            self[after].before = before;
        }
    }

    /// Bytes of the slab.
    #[cfg(test)]
    pub fn size(&self) -> usize {
        self.slots.capacity() * size_of::<Watcher>()
    }

    pub fn living(&self) -> impl Iterator<Item = (u32, &Watcher)> {
        (0..)
            .zip(&self.slots)
            .filter(|(_, w)| w.state != State::Free)
    }
}

impl std::ops::Index<u32> for Watchers {
    type Output = Watcher;
    #[inline]
    fn index(&self, slot: u32) -> &Watcher {
        &self.slots[slot as usize]
    }
}

impl std::ops::IndexMut<u32> for Watchers {
    #[inline]
    fn index_mut(&mut self, slot: u32) -> &mut Watcher {
        &mut self.slots[slot as usize]
    }
}
