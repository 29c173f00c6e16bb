//! Adapter. The buffers that the kernel receives into: one pool per core, given to the kernel
//! through a ring in shared memory.

use super::block::Memory;
use crate::runtime::limits;
use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The group of buffers; a ring has this one alone.
pub(super) const GROUP: u16 = 0;

const COUNT: u16 = limits::RECEIVE_BUFFERS;
const BYTES: usize = limits::RECEIVE_BUFFER_BYTES;

/// All buffers, those in the kernel's hands among them.
pub(super) struct Buffers {
    ring: Memory,
    memory: Memory,
    tail: u16,
}

impl Buffers {
    /// Gives all of them to the kernel.
    pub(super) fn register(submitter: &Submitter<'_>) -> io::Result<Buffers> {
        let ring = Memory::zeroed(usize::from(COUNT) * size_of::<BufRingEntry>());
        let mut buffers = Buffers {
            ring,
            memory: Memory::zeroed(usize::from(COUNT) * BYTES),
            tail: 0,
        };
        // SAFETY: the memory holds `COUNT` entries, begins a page, and is freed with this value,
        // which its owner keeps until the ring is closed.
        unsafe {
            submitter.register_buf_ring_with_flags(buffers.ring.start() as u64, COUNT, GROUP, 0)?;
        }
        (0..COUNT).for_each(|id| buffers.give(id));
        Ok(buffers)
    }

    /// A buffer back to the kernel.
    pub(super) fn give(&mut self, id: u16) {
        assert!(id < COUNT, "a buffer of this pool");
        let place = usize::from(self.tail & (COUNT - 1));
        let entries = self.ring.start().cast::<BufRingEntry>();
        // SAFETY: `place` is below `COUNT`, and the kernel does not read an entry before the tail
        // passes it. The tail lies inside the first entry, in a field that this code never writes.
        unsafe {
            let entry = &mut *entries.add(place);
            entry.set_addr(self.memory.start().add(usize::from(id) * BYTES) as u64);
            entry.set_len(BYTES as u32);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(entries).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }

    /// What the kernel put into a buffer that it gave back.
    pub(super) fn bytes(&self, id: u16, size: usize) -> &[u8] {
        assert!(id < COUNT && size <= BYTES, "a buffer of this pool");
        // SAFETY: inside the memory, by the line above; the kernel wrote `size` bytes of it and
        // does not touch it until `give`, which needs this value alone.
        unsafe {
            let start = self.memory.start().add(usize::from(id) * BYTES);
            std::slice::from_raw_parts(start, size)
        }
    }
}

const _: () = assert!(COUNT.is_power_of_two());
