//! Pure. The state of one call, and the heap of deadlines.

use super::message::MessageReader;
use crate::env::Monotonic;
use crate::http2::Head;
use crate::ids::StreamId;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

/// What a stream carries.
#[derive(Debug)]
pub enum Kind {
    /// Nothing that concerns us (any more).
    Closed,
    /// A gRPC call.
    Grpc(MessageReader),
    /// A plain request whose body is being received.
    PlainBody(Box<PlainBody>),
    /// A plain request that was announced. A HEAD request is answered without a body.
    Plain { is_head: bool },
}

/// A plain request on its way in.
#[derive(Debug)]
pub struct PlainBody {
    pub head: Arc<Head>,
    pub bytes: Vec<u8>,
}

/// One call; lies at the number of its stream's slot.
#[derive(Debug)]
pub struct Call {
    pub stream: StreamId,
    pub kind: Kind,
    pub headers_sent: bool,
    /// `u64::MAX`: none.
    pub deadline: Monotonic,
    /// Bytes of the begun message that `message_part` still owes.
    pub message_left: usize,
}

pub const NEVER: Monotonic = Monotonic(u64::MAX);

impl Call {
    pub fn closed() -> Call {
        Call {
            stream: StreamId(0),
            kind: Kind::Closed,
            headers_sent: false,
            deadline: NEVER,
            message_left: 0,
        }
    }

    /// Bytes that wait for the rest of a message or body.
    pub fn held_bytes(&self) -> usize {
        match &self.kind {
            Kind::Grpc(reader) => reader.held_bytes(),
            Kind::PlainBody(body) => body.bytes.len(),
            Kind::Closed | Kind::Plain { .. } => 0,
        }
    }
}

/// Deadlines of calls, soonest first. Calls that end leave theirs behind; the heap is swept when
/// more than half of it is left behind.
#[derive(Default, Debug)]
pub struct Deadlines {
    heap: BinaryHeap<Reverse<(Monotonic, StreamId)>>,
    /// Calls that still wait for theirs.
    pub live: usize,
}

impl Deadlines {
    /// Adds one; `is_live` tells which of the others still count.
    pub fn push(
        &mut self,
        deadline: Monotonic,
        stream: StreamId,
        is_live: impl Fn(Monotonic, StreamId) -> bool,
    ) {
        self.live += 1;
        if self.heap.len() > 2 * self.live + 64 {
            self.heap
                .retain(|Reverse((deadline, stream))| is_live(*deadline, *stream));
        }
        self.heap.push(Reverse((deadline, stream)));
    }

    pub fn first(&self) -> Option<Monotonic> {
        self.heap.peek().map(|Reverse((deadline, _))| *deadline)
    }

    /// One that is due; its call may have ended.
    pub fn pop_due(&mut self, now: Monotonic) -> Option<(Monotonic, StreamId)> {
        let Reverse((deadline, _)) = self.heap.peek()?;
        if *deadline > now {
            return None;
        }
        self.heap.pop().map(|Reverse(due)| due)
    }

    #[cfg(test)]
    pub fn heap_size(&self) -> usize {
        self.heap.len()
    }
}
