//! Adapter. Aligned memory for O_DIRECT, used again.

use crate::runtime::limits;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::rc::Rc;

/// Bytes at an address that every O_DIRECT file takes. Goes back to its pool when dropped.
pub struct Block {
    memory: Option<Memory>,
    /// Bytes in use, from the front; at most what the memory holds.
    size: usize,
    pool: Pool,
}

impl Deref for Block {
    type Target = [u8];
    #[inline]
    fn deref(&self) -> &[u8] {
        &self.memory.as_ref().expect("until it is dropped").bytes()[..self.size]
    }
}

impl DerefMut for Block {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self
            .memory
            .as_mut()
            .expect("until it is dropped")
            .bytes_mut()[..self.size]
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        let Some(memory) = self.memory.take() else {
            return;
        };
        let mut kept = self.pool.kept.borrow_mut();
        if memory.size <= limits::BLOCK_BYTES_KEPT && kept.len() < limits::BLOCKS_KEPT {
            kept.push(memory);
        }
    }
}

/// The blocks of one core that wait for their next use. Cloning shares it.
#[derive(Clone, Default)]
pub(super) struct Pool {
    kept: Rc<RefCell<Vec<Memory>>>,
}

impl Pool {
    /// Zeroed bytes.
    pub(super) fn take(&self, size: usize) -> Block {
        let mut kept = self.kept.borrow_mut();
        let found = kept.iter().rposition(|memory| memory.size >= size);
        let used = found.map(|place| kept.swap_remove(place));
        let memory = match used {
            Some(mut memory) => {
                memory.bytes_mut()[..size].fill(0);
                memory
            }
            None => Memory::zeroed(size.next_power_of_two().max(limits::ALIGNMENT_BYTES_MAX)),
        };
        Block {
            memory: Some(memory),
            size,
            pool: self.clone(),
        }
    }
}

/// Owned bytes, aligned for O_DIRECT and for a ring of buffers.
pub(super) struct Memory {
    start: NonNull<u8>,
    size: usize,
}

impl Memory {
    pub(super) fn zeroed(size: usize) -> Memory {
        let layout = Memory::layout(size);
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => Memory { start, size },
            None => handle_alloc_error(layout),
        }
    }

    fn layout(size: usize) -> Layout {
        Layout::from_size_align(size.max(1), limits::ALIGNMENT_BYTES_MAX)
            .expect("far below the address space")
    }

    pub(super) fn start(&self) -> *mut u8 {
        self.start.as_ptr()
    }

    fn bytes(&self) -> &[u8] {
        // SAFETY: `start` is the start of `size` initialised bytes that this value owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.size) }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `self` is borrowed alone.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.size) }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with this layout, and not freed before.
        unsafe { dealloc(self.start.as_ptr(), Memory::layout(self.size)) }
    }
}
