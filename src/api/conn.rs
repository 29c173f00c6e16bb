//! Driver. One client connection: its gRPC state, and what each of its calls waits for.

use crate::env::{Monotonic, Notify};
use crate::grpc::GrpcConnection;
use crate::ids::{ConnId, StreamId};
use crate::pb::Method;
use crate::pb::etcdserverpb::{RangeRequest, TxnRequest};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

/// A connection as the services see it. One per client connection, on one core, shared by its
/// reader, its writer and the desk.
pub struct Conn {
    pub(super) id: ConnId,
    pub(super) grpc: RefCell<GrpcConnection>,
    pub(super) calls: RefCell<BTreeMap<StreamId, Call>>,
    /// There is output, or the connection is to be closed.
    pub flush: Notify,
    /// The reader may go on.
    pub resume: Notify,
    /// The writer has ended: nothing more leaves.
    pub sent: Notify,
    pub(super) gone: Cell<bool>,
}

/// A call that is not answered yet.
pub(super) struct Call {
    pub method: Method,
    pub began: Monotonic,
    pub state: CallState,
}

/// What a call waits for.
pub(super) enum CallState {
    /// Its request message.
    Message,
    /// The applied result of its entry.
    Applied,
    /// A read view, to answer this.
    View(Box<Read>),
    /// A task of its own that answers it; wakes it when it may send more.
    Task(Notify),
    /// Renewals that are under way. Ends with the peer's half-close once all are answered.
    KeepAlive { waiting: usize, half_closed: bool },
    /// Watch responses, until either side ends it. `undrained`: cost of what the connection holds.
    Watch { undrained: usize },
}

/// A request that is answered from a view.
pub(super) enum Read {
    Range(RangeRequest),
    RangeStream(RangeRequest),
    Txn(TxnRequest),
}

impl Conn {
    pub(super) fn new(id: ConnId, grpc: GrpcConnection) -> Conn {
        Conn {
            id,
            grpc: RefCell::new(grpc),
            calls: RefCell::default(),
            flush: Notify::new(),
            resume: Notify::new(),
            sent: Notify::new(),
            gone: Cell::new(false),
        }
    }

    /// Whether the reader should go on: not while the peer does not take what it asked for.
    pub fn wants_read(&self) -> bool {
        self.grpc.borrow().wants_read()
    }

    /// Moves what is to be sent into `into`, which is empty.
    pub fn take_output(&self, into: &mut Vec<u8>) {
        std::mem::swap(self.grpc.borrow_mut().output(), into);
    }

    /// Nothing more will come of this connection once its output is sent.
    pub fn is_over(&self) -> bool {
        let grpc = self.grpc.borrow();
        self.gone.get() || (grpc.is_closing() && grpc.is_idle())
    }

    /// Takes no new calls; those under way are finished.
    pub fn drain(&self, now: Monotonic) {
        self.grpc.borrow_mut().drain(now);
        self.flush.notify();
    }
}
