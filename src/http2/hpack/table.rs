//! Pure. HPACK's dynamic table: a queue of fields whose numbers never change while they live.

use std::collections::VecDeque;

/// The protocol's overhead per entry, in bytes.
pub const ENTRY_OVERHEAD: usize = 32;

/// One field: its name and value in one allocation.
pub struct Entry {
    text: Box<[u8]>,
    name_size: u32,
    /// The name is the one whose value varies from request to request.
    pub varying: bool,
}

impl Entry {
    pub fn new(name: &[u8], value: &[u8], varying: bool) -> Entry {
        let mut text = Vec::with_capacity(name.len() + value.len());
        text.extend_from_slice(name);
        text.extend_from_slice(value);
        Entry {
            text: text.into_boxed_slice(),
            name_size: name.len() as u32,
            varying,
        }
    }

    pub fn name(&self) -> &[u8] {
        &self.text[..self.name_size as usize]
    }

    pub fn value(&self) -> &[u8] {
        &self.text[self.name_size as usize..]
    }

    pub fn size(&self) -> usize {
        self.text.len() + ENTRY_OVERHEAD
    }
}

/// One per connection. Entry `first + i` is `live[i]`; the newest is `first + live.len() - 1`.
pub struct Table {
    live: VecDeque<Entry>,
    /// Evicted since the block began, oldest first; their numbers end at `first`. A field of the
    /// block may still mean them.
    evicted: Vec<Entry>,
    first: u64,
    /// The sum of the live entries' sizes; `size <= size_max`.
    size: usize,
    /// What the peer's encoder chose; `size_max <= allowed`.
    size_max: usize,
    allowed: usize,
    /// Grows with every insertion and eviction: equal versions mean equal tables.
    version: u64,
}

impl Table {
    pub fn new(allowed: usize) -> Table {
        Table {
            live: VecDeque::new(),
            evicted: Vec::new(),
            first: 0,
            size: 0,
            size_max: allowed,
            allowed,
            version: 0,
        }
    }

    /// Forgets what the previous block evicted.
    pub fn begin_block(&mut self) {
        self.evicted.clear();
    }

    pub fn version(&self) -> u64 {
        self.version
    }

    pub fn allowed(&self) -> usize {
        self.allowed
    }

    /// The number and entry at HPACK's dynamic index, 0 being the newest.
    pub fn at_index(&self, index: usize) -> Option<(u64, &Entry)> {
        let at = self.live.len().checked_sub(index)?.checked_sub(1)?;
        Some((self.first + at as u64, &self.live[at]))
    }

    /// An entry by number: live, or evicted since the block began.
    pub fn by_number(&self, number: u64) -> Option<&Entry> {
        if let Some(at) = number.checked_sub(self.first) {
            return self.live.get(usize::try_from(at).ok()?);
        }
        let back = usize::try_from(self.first - number).ok()?;
        self.evicted.get(self.evicted.len().checked_sub(back)?)
    }

    /// Inserts and gives the entry's number; gives it back when it is larger than the table, which
    /// is empty then.
    pub fn insert(&mut self, entry: Entry) -> Result<u64, Entry> {
        self.version += 1;
        let size = entry.size();
        if size > self.size_max {
            self.evict_to(0);
            return Err(entry);
        }
        self.evict_to(self.size_max - size);
        self.size += size;
        self.live.push_back(entry);
        Ok(self.first + self.live.len() as u64 - 1)
    }

    /// The peer's encoder announces its table size. `None` when it is above what we allowed.
    pub fn resize(&mut self, size_max: usize) -> Option<()> {
        if size_max > self.allowed {
            return None;
        }
        self.version += 1;
        self.size_max = size_max;
        self.evict_to(size_max);
        Some(())
    }

    fn evict_to(&mut self, size: usize) {
        while self.size > size {
            let entry = self
                .live
                .pop_front()
                .expect("a size above 0 means a live entry");
            self.size -= entry.size();
            self.first += 1;
            self.evicted.push(entry);
        }
    }

    /// The relations between the fields; tests call it after every block.
    #[cfg(test)]
    pub fn check(&self) {
        assert_eq!(self.size, self.live.iter().map(Entry::size).sum::<usize>());
        assert!(self.size <= self.size_max);
        assert!(self.size_max <= self.allowed);
    }
}
