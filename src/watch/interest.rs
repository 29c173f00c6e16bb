//! Pure. What is watched: single keys in a hash table, ranges in a treap that knows the greatest
//! end below each node. Watches of one key or of equal ranges share an interest.
//!
//! Both are seeded by the caller: a client that knows the code cannot choose keys that collide, and
//! the simulator gets the same structure from the same seed.

use super::watcher::NONE;
use std::cmp::Ordering;

/// Where a watched range ends.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum End {
    /// One key.
    Single,
    /// Before this key.
    Before(Box<[u8]>),
    /// Never.
    Open,
}

impl End {
    fn passes(&self, key: &[u8]) -> bool {
        match self {
            End::Single => false,
            End::Before(end) => key < &**end,
            End::Open => true,
        }
    }
}

#[derive(Debug)]
pub(super) struct Interest {
    pub key: Box<[u8]>,
    pub end: End,
    /// First of the watchers that see changes as they are applied.
    pub live: u32,
    /// First of the watchers that are behind; links the free slots.
    pub lagging: u32,
}

const _: () = assert!(size_of::<Interest>() <= 48);

#[derive(Debug)]
pub(super) struct Interests {
    seed: u64,
    slots: Vec<Interest>,
    free: u32,
    keys: KeyTable,
    ranges: Treap,
}

impl Interests {
    pub fn new(seed: u64) -> Interests {
        Interests {
            seed,
            slots: Vec::new(),
            free: NONE,
            keys: KeyTable::default(),
            ranges: Treap::default(),
        }
    }

    /// The interest in `key` up to `end`, made when it is the first.
    pub fn enter(&mut self, key: &[u8], end: End) -> u32 {
        let hash = hash(self.seed, key);
        if end == End::Single {
            if let Some(found) = self.keys.find(hash, key, &self.slots) {
                return found;
            }
            let interest = self.allocate(key, end);
            self.keys.insert(hash, interest);
            return interest;
        }
        if let Some(found) = self.ranges.find(key, &end, &self.slots) {
            return found;
        }
        let interest = self.allocate(key, end);
        self.ranges.insert(interest, hash, &self.slots);
        interest
    }

    /// Drops an interest whose last watcher left.
    pub fn drop_unused(&mut self, interest: u32) {
        let place = &self.slots[interest as usize];
        if place.live != NONE || place.lagging != NONE {
            return;
        }
        match place.end {
            End::Single => self.keys.remove(hash(self.seed, &place.key), interest),
            _ => self.ranges.remove(interest, &self.slots),
        }
        self.slots[interest as usize] = Interest {
            key: Box::default(),
            end: End::Open,
            live: NONE,
            lagging: self.free,
        };
        self.free = interest;
    }

    /// Appends every interest that `key` meets.
    #[inline]
    pub fn matching(&self, key: &[u8], into: &mut Vec<u32>) {
        if self.keys.count > 0
            && let Some(found) = self.keys.find(hash(self.seed, key), key, &self.slots)
        {
            into.push(found);
        }
        self.ranges.stab(self.ranges.root, key, &self.slots, into);
    }

    /// How many table entries and treap nodes were looked at since the last call.
    #[cfg(test)]
    pub fn take_looks(&self) -> usize {
        self.keys.looks.take() + self.ranges.looks.take()
    }

    /// Interests, and bytes of the slots that hold them and of what finds them.
    #[cfg(test)]
    pub fn size(&self) -> (usize, usize) {
        let ranges = self.ranges.nodes.capacity() * size_of::<Node>();
        let keys = self.keys.entries.capacity() * size_of::<Entry>();
        let slots = self.slots.capacity() * size_of::<Interest>();
        (self.slots.len(), slots + keys + ranges)
    }

    fn allocate(&mut self, key: &[u8], end: End) -> u32 {
        let interest = Interest {
            key: key.into(),
            end,
            live: NONE,
            lagging: NONE,
        };
        if self.free != NONE {
            let slot = self.free;
            self.free = self.slots[slot as usize].lagging;
            self.slots[slot as usize] = interest;
            return slot;
        }
        let slot = u32::try_from(self.slots.len()).expect("memory ends before 2^32 interests");
        self.slots.push(interest);
        slot
    }

    /// Each interest is found by its own key; the treap is ordered and knows its greatest ends.
    pub fn check(&self) {
        let mut free = 0;
        let mut slot = self.free;
        while slot != NONE {
            free += 1;
            slot = self.slots[slot as usize].lagging;
        }
        let ranges = self.ranges.check(self.ranges.root, &self.slots);
        assert_eq!(
            self.slots.len(),
            free + self.keys.count + ranges,
            "interests by kind"
        );
        for entry in self.keys.entries.iter().filter(|e| e.interest != NONE) {
            let key = &self.slots[entry.interest as usize].key;
            let found = self.keys.find(hash(self.seed, key), key, &self.slots);
            assert_eq!(
                found,
                Some(entry.interest),
                "a single key is found by itself"
            );
        }
    }
}

impl std::ops::Index<u32> for Interests {
    type Output = Interest;
    #[inline]
    fn index(&self, interest: u32) -> &Interest {
        &self.slots[interest as usize]
    }
}

impl std::ops::IndexMut<u32> for Interests {
    #[inline]
    fn index_mut(&mut self, interest: u32) -> &mut Interest {
        &mut self.slots[interest as usize]
    }
}

/// A seeded hash by folded multiplication, eight bytes at a time.
#[inline]
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const A: u64 = 0x9e37_79b9_7f4a_7c15;
    const B: u64 = 0xd1b5_4a32_d192_ed03;
    let fold = |a: u64, b: u64| {
        let wide = u128::from(a) * u128::from(b);
        wide as u64 ^ (wide >> 64) as u64
    };
    let mut state = fold(seed ^ A, bytes.len() as u64 ^ B);
    let (words, tail) = bytes.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), A);
    }
    let mut last = [0; 8];
    last[..tail.len()].copy_from_slice(tail);
    fold(state ^ u64::from_le_bytes(last), B)
}

/// Open addressing with linear probing; the size is a power of two and a quarter stays empty.
#[derive(Default, Debug)]
struct KeyTable {
    entries: Vec<Entry>,
    count: usize,
    #[cfg(test)]
    looks: std::cell::Cell<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The hash's low half: it places the entry and spares comparing most other keys.
    hash: u32,
    interest: u32,
}

const EMPTY: Entry = Entry {
    hash: 0,
    interest: NONE,
};

impl KeyTable {
    #[inline]
    fn find(&self, hash: u64, key: &[u8], slots: &[Interest]) -> Option<u32> {
        if self.entries.is_empty() {
            return None;
        }
        let mask = self.entries.len() - 1;
        let mut at = hash as u32 as usize & mask;
        loop {
            #[cfg(test)]
            self.looks.update(|looks| looks + 1);
            let entry = self.entries[at];
            if entry.interest == NONE {
                return None;
            }
            if entry.hash == hash as u32 && &*slots[entry.interest as usize].key == key {
                return Some(entry.interest);
            }
            at = (at + 1) & mask;
        }
    }

    fn insert(&mut self, hash: u64, interest: u32) {
        if (self.count + 1) * 4 > self.entries.len() * 3 {
            self.resize((self.entries.len() * 2).max(8));
        }
        self.place(Entry {
            hash: hash as u32,
            interest,
        });
        self.count += 1;
    }

    fn place(&mut self, entry: Entry) {
        let mask = self.entries.len() - 1;
        let mut at = entry.hash as usize & mask;
        while self.entries[at].interest != NONE {
            at = (at + 1) & mask;
        }
        self.entries[at] = entry;
    }

    fn remove(&mut self, hash: u64, interest: u32) {
        let mask = self.entries.len() - 1;
        let mut at = hash as u32 as usize & mask;
        while self.entries[at].interest != interest {
            assert_ne!(
                self.entries[at].interest, NONE,
                "the interest is in the table"
            );
            at = (at + 1) & mask;
        }
        // Close the gap: an entry whose own place is not between the gap and it moves into the gap,
        // or a search that begins before the gap would end there.
        let mut gap = at;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry.interest == NONE {
                break;
            }
            let home = entry.hash as usize & mask;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.entries[gap] = entry;
                gap = at;
            }
        }
        self.entries[gap] = EMPTY;
        self.count -= 1;
        if self.entries.len() > 64 && self.count * 8 < self.entries.len() {
            self.resize(self.entries.len() / 2);
        }
    }

    fn resize(&mut self, size: usize) {
        let old = std::mem::replace(&mut self.entries, vec![EMPTY; size]);
        for entry in old.into_iter().filter(|entry| entry.interest != NONE) {
            self.place(entry);
        }
    }
}

/// Ranges ordered by (key, end), balanced by priorities drawn from the hash of the key.
#[derive(Debug)]
struct Treap {
    nodes: Vec<Node>,
    root: u32,
    free: u32,
    #[cfg(test)]
    looks: std::cell::Cell<usize>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    interest: u32,
    priority: u32,
    left: u32,
    right: u32,
    /// The interest with the greatest end here and below.
    greatest: u32,
}

impl Default for Treap {
    fn default() -> Treap {
        Treap {
            nodes: Vec::new(),
            root: NONE,
            free: NONE,
            #[cfg(test)]
            looks: Default::default(),
        }
    }
}

fn order(slots: &[Interest], interest: u32, key: &[u8], end: &End) -> Ordering {
    let other = &slots[interest as usize];
    key.cmp(&other.key).then_with(|| end.cmp(&other.end))
}

impl Treap {
    fn find(&self, key: &[u8], end: &End, slots: &[Interest]) -> Option<u32> {
        let mut at = self.root;
        while at != NONE {
            let node = &self.nodes[at as usize];
            match order(slots, node.interest, key, end) {
                Ordering::Equal => return Some(node.interest),
                Ordering::Less => at = node.left,
                Ordering::Greater => at = node.right,
            }
        }
        None
    }

    fn insert(&mut self, interest: u32, hash: u64, slots: &[Interest]) {
        // Ranges of one key and several ends share the hash: the slot tells them apart.
        let mixed = (hash ^ u64::from(interest)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let priority = (mixed >> 32) as u32;
        let node = Node {
            interest,
            priority,
            left: NONE,
            right: NONE,
            greatest: interest,
        };
        let new = if self.free != NONE {
            let at = self.free;
            self.free = self.nodes[at as usize].left;
            self.nodes[at as usize] = node;
            at
        } else {
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        };
        self.root = self.insert_below(self.root, new, slots);
    }

    fn insert_below(&mut self, at: u32, new: u32, slots: &[Interest]) -> u32 {
        if at == NONE {
            return new;
        }
        let added = self.nodes[new as usize];
        let place = &slots[added.interest as usize];
        let node = self.nodes[at as usize];
        if added.priority > node.priority {
            let (left, right) = self.split(at, &place.key, &place.end, slots);
            self.nodes[new as usize].left = left;
            self.nodes[new as usize].right = right;
            self.update(new, slots);
            return new;
        }
        if order(slots, node.interest, &place.key, &place.end) == Ordering::Less {
            self.nodes[at as usize].left = self.insert_below(node.left, new, slots);
        } else {
            self.nodes[at as usize].right = self.insert_below(node.right, new, slots);
        }
        self.update(at, slots);
        at
    }

    /// Cuts a subtree into what sorts before (key, end) and the rest.
    fn split(&mut self, at: u32, key: &[u8], end: &End, slots: &[Interest]) -> (u32, u32) {
        if at == NONE {
            return (NONE, NONE);
        }
        let node = self.nodes[at as usize];
        if order(slots, node.interest, key, end) == Ordering::Greater {
            let (left, right) = self.split(node.right, key, end, slots);
            self.nodes[at as usize].right = left;
            self.update(at, slots);
            (at, right)
        } else {
            let (left, right) = self.split(node.left, key, end, slots);
            self.nodes[at as usize].left = right;
            self.update(at, slots);
            (left, at)
        }
    }

    fn remove(&mut self, interest: u32, slots: &[Interest]) {
        self.root = self.remove_below(self.root, interest, slots);
    }

    fn remove_below(&mut self, at: u32, interest: u32, slots: &[Interest]) -> u32 {
        assert_ne!(at, NONE, "the interest is in the treap");
        let node = self.nodes[at as usize];
        if node.interest == interest {
            let rest = self.merge(node.left, node.right, slots);
            self.nodes[at as usize].left = self.free;
            self.free = at;
            return rest;
        }
        let place = &slots[interest as usize];
        if order(slots, node.interest, &place.key, &place.end) == Ordering::Less {
            self.nodes[at as usize].left = self.remove_below(node.left, interest, slots);
        } else {
            self.nodes[at as usize].right = self.remove_below(node.right, interest, slots);
        }
        self.update(at, slots);
        at
    }

    /// Joins two subtrees, all of `left` sorting before all of `right`.
    fn merge(&mut self, left: u32, right: u32, slots: &[Interest]) -> u32 {
        if left == NONE {
            return right;
        }
        if right == NONE {
            return left;
        }
        if self.nodes[left as usize].priority > self.nodes[right as usize].priority {
            let joined = self.merge(self.nodes[left as usize].right, right, slots);
            self.nodes[left as usize].right = joined;
            self.update(left, slots);
            left
        } else {
            let joined = self.merge(left, self.nodes[right as usize].left, slots);
            self.nodes[right as usize].left = joined;
            self.update(right, slots);
            right
        }
    }

    fn update(&mut self, at: u32, slots: &[Interest]) {
        self.nodes[at as usize].greatest = self.greatest(at, slots);
    }

    fn greatest(&self, at: u32, slots: &[Interest]) -> u32 {
        let node = &self.nodes[at as usize];
        let mut greatest = node.interest;
        for child in [node.left, node.right] {
            if child != NONE {
                let other = self.nodes[child as usize].greatest;
                if slots[other as usize].end > slots[greatest as usize].end {
                    greatest = other;
                }
            }
        }
        greatest
    }

    fn stab(&self, at: u32, key: &[u8], slots: &[Interest], into: &mut Vec<u32>) {
        if at == NONE {
            return;
        }
        #[cfg(test)]
        self.looks.update(|looks| looks + 1);
        let node = &self.nodes[at as usize];
        if !slots[node.greatest as usize].end.passes(key) {
            return;
        }
        self.stab(node.left, key, slots, into);
        let interest = &slots[node.interest as usize];
        if &*interest.key <= key {
            if interest.end.passes(key) {
                into.push(node.interest);
            }
            self.stab(node.right, key, slots, into);
        }
    }

    /// Returns how many ranges there are.
    fn check(&self, at: u32, slots: &[Interest]) -> usize {
        if at == NONE {
            return 0;
        }
        let node = &self.nodes[at as usize];
        let greatest = &slots[self.greatest(at, slots) as usize].end;
        assert_eq!(
            &slots[node.greatest as usize].end, greatest,
            "greatest end below a node"
        );
        let place = &slots[node.interest as usize];
        for (child, expected) in [(node.left, Ordering::Greater), (node.right, Ordering::Less)] {
            if child != NONE {
                let child = &self.nodes[child as usize];
                let got = order(slots, child.interest, &place.key, &place.end);
                assert_eq!(got, expected, "the treap is ordered");
                assert!(child.priority <= node.priority, "the treap is a heap");
            }
        }
        1 + self.check(node.left, slots) + self.check(node.right, slots)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Catches: a range that is missed or met twice, at random inserts and removals, against a list.
    #[test]
    fn matches_are_those_of_a_plain_list() {
        let mut seed = 77u64;
        let mut random = move |below: u64| {
            seed = seed
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            (seed >> 33) % below
        };
        let mut interests = Interests::new(5);
        let mut list: Vec<(u32, Vec<u8>, End)> = Vec::new();
        for round in 0..4000 {
            let key = vec![b'a' + random(20) as u8, b'a' + random(4) as u8];
            if random(3) > 0 && list.len() < 150 {
                let end = match random(3) {
                    0 => End::Single,
                    1 => End::Open,
                    _ => {
                        let mut end = key.clone();
                        end[random(2) as usize] += 1 + random(5) as u8;
                        End::Before(end.into())
                    }
                };
                let at = interests.enter(&key, end.clone());
                match list.iter().find(|(_, k, e)| (k, e) == (&key, &end)) {
                    Some((found, ..)) => assert_eq!(*found, at, "equal ranges share an interest"),
                    None => list.push((at, key.clone(), end)),
                }
            } else if !list.is_empty() {
                let (at, ..) = list.swap_remove(random(list.len() as u64) as usize);
                interests.drop_unused(at);
            }
            let probe = [b'a' + random(26) as u8, b'a' + random(10) as u8];
            let mut got = Vec::new();
            interests.matching(&probe, &mut got);
            got.sort_unstable();
            let mut expected: Vec<u32> = list
                .iter()
                .filter(|(_, key, end)| match end {
                    End::Single => key[..] == probe,
                    end => key[..] <= probe[..] && end.passes(&probe),
                })
                .map(|(at, ..)| *at)
                .collect();
            expected.sort_unstable();
            assert_eq!(got, expected, "round {round}");
            if round % 16 == 0 {
                interests.check();
            }
        }
    }
}
