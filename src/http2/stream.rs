//! Pure. The streams of one connection: a slab, and an index by stream id.

use crate::ids::StreamId;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};

/// A stream's place in the slab; used again once the stream has ended. Layers above keep their
/// own state of a stream under the same number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slot(pub u32);

impl Slot {
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// DATA that the windows did not admit yet, and what follows it.
#[derive(Default)]
pub struct SendQueue {
    pub chunks: VecDeque<Bytes>,
    /// The sum of the chunks' sizes.
    pub size: usize,
    /// A header block that ends the stream.
    pub trailers: Option<Bytes>,
    /// The last chunk ends the stream.
    pub end: bool,
}

impl SendQueue {
    /// Nothing more may be queued behind an end.
    pub fn ended(&self) -> bool {
        self.end || self.trailers.is_some()
    }
}

/// One open stream.
pub struct Stream {
    /// 0 in a free slot.
    pub id: u32,
    pub remote_ended: bool,
    /// We sent our end, or queued it. A server's stream is gone then.
    pub local_ended: bool,
    /// In the connection's queue of streams that can send.
    pub ready: bool,
    /// A sender was told to wait.
    pub wants_writable: bool,
    /// What the peer lets us send; negative after it shrank its windows.
    pub send_window: i64,
    /// What we still let the peer send.
    pub receive_window: i64,
    /// Received and not yet given back to the window.
    pub unreturned: u32,
    /// What `content-length` says is still to come; `u64::MAX` when it says nothing.
    pub content_left: u64,
    pub queue: Option<Box<SendQueue>>,
}

/// Stream ids are chosen by the peer but only grow, so multiplying spreads them well enough.
#[derive(Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u32(u32::from(byte));
        }
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        let product = u128::from(self.0 ^ u64::from(value)) * 0x9e37_79b9_7f4a_7c15_f39c;
        self.0 = product as u64 ^ (product >> 64) as u64;
    }
}

/// All streams of a connection.
#[derive(Default)]
pub struct Streams {
    slab: Vec<Stream>,
    free: Vec<u32>,
    index: HashMap<u32, u32, BuildHasherDefault<IdHasher>>,
}

impl Streams {
    pub fn count(&self) -> usize {
        self.index.len()
    }

    #[inline]
    pub fn slot(&self, id: u32) -> Option<Slot> {
        self.index.get(&id).map(|&slot| Slot(slot))
    }

    #[inline]
    pub fn at(&self, slot: Slot) -> &Stream {
        &self.slab[slot.index()]
    }

    #[inline]
    pub fn at_mut(&mut self, slot: Slot) -> &mut Stream {
        &mut self.slab[slot.index()]
    }

    /// Whether `slot` still holds the stream that had `id`.
    #[inline]
    pub fn holds(&self, slot: Slot, id: StreamId) -> bool {
        self.slab
            .get(slot.index())
            .is_some_and(|stream| stream.id == id.0 && id.0 != 0)
    }

    pub fn insert(&mut self, stream: Stream) -> Slot {
        debug_assert!(stream.id != 0);
        let id = stream.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slab[slot as usize] = stream;
                slot
            }
            None => {
                self.slab.push(stream);
                self.slab.len() as u32 - 1
            }
        };
        let before = self.index.insert(id, slot);
        debug_assert!(before.is_none());
        Slot(slot)
    }

    /// Removes a stream and gives what it had queued.
    pub fn remove(&mut self, slot: Slot) -> Option<Box<SendQueue>> {
        let stream = &mut self.slab[slot.index()];
        let removed = self.index.remove(&stream.id);
        debug_assert_eq!(removed, Some(slot.0));
        stream.id = 0;
        let queue = stream.queue.take();
        self.free.push(slot.0);
        if self.index.is_empty() && self.slab.len() > 256 {
            // A burst of streams is over: an idle connection keeps little.
            *self = Streams::default();
        }
        queue
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Slot, &mut Stream)> {
        let live = |(_, stream): &(usize, &mut Stream)| stream.id != 0;
        let slots = self.slab.iter_mut().enumerate().filter(live);
        slots.map(|(slot, stream)| (Slot(slot as u32), stream))
    }
}
