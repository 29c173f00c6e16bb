//! Driver. Watch streams: orders to the hub, responses to their tickets, catch-up in slices.

use super::core::{Core, Failure};
use super::task::Shared;
use super::ticket::{Answer, Ticket};
use crate::env::{Env, Monotonic};
use crate::limits::group as limits;
use crate::mvcc::RangeError;
use crate::watch::{Hub, StreamInput, StreamKey};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The hub, and which ticket each of its streams belongs to. The two maps mirror each other.
pub(super) struct Watching {
    pub hub: Hub,
    streams: BTreeMap<Ticket, StreamKey>,
    tickets: BTreeMap<StreamKey, Ticket>,
}

impl Watching {
    pub fn new(hub: Hub) -> Watching {
        Watching {
            hub,
            streams: BTreeMap::new(),
            tickets: BTreeMap::new(),
        }
    }
}

impl<E: Env> Shared<E> {
    /// Carries out an order of a watch stream.
    pub(super) fn watch(
        &self,
        core: &mut Core<E>,
        order: StreamInput,
        ticket: Ticket,
        now: Monotonic,
    ) {
        let revision = core.machine.store().current();
        let watching = &mut core.watching;
        let known = watching.streams.get(&ticket).copied();
        let key = match (known, &order) {
            (Some(key), _) => key,
            (None, StreamInput::Create(_) | StreamInput::Rejected(_)) => {
                let key = watching.hub.open_stream(self.env.random());
                watching.streams.insert(ticket, key);
                watching.tickets.insert(key, ticket);
                key
            }
            // Nothing was created on this stream: there is nothing to cancel, report or close.
            (None, _) => return,
        };
        if order == StreamInput::Closed {
            watching.streams.remove(&ticket);
            watching.tickets.remove(&key);
        }
        watching.hub.input(key, order, revision, now);
    }

    /// Hands every queued response to its stream's connection.
    pub(super) fn deliver(&self, core: &mut Core<E>) {
        if !core.watching.hub.has_responses() {
            return;
        }
        let stamp = core.stamp();
        let watching = &mut core.watching;
        let mut responses = Vec::new();
        while let Some(key) = watching.hub.take_responses(&mut responses) {
            let taken = std::mem::take(&mut responses);
            let Some(ticket) = watching.tickets.get(&key) else {
                continue;
            };
            self.outlet.answer(*ticket, Answer::Watch(taken, stamp));
        }
    }

    /// Reads the revision log for watchers that are behind, slice by slice.
    pub(super) async fn catch_up(self: Rc<Self>) {
        if let Err(error) = self.catch_up_all().await {
            self.stop_with(Failure::of_read(&error));
        }
    }

    async fn catch_up_all(&self) -> Result<(), RangeError> {
        loop {
            self.catch_up_wake.wait().await;
            loop {
                if self.stopping.get() {
                    return Ok(());
                }
                {
                    let core = &mut *self.core.borrow_mut();
                    if core.failure.is_some() || !core.watching.hub.is_behind() {
                        break;
                    }
                    let view = core.machine.store().view();
                    let slice = limits::CATCH_UP_SLICE_ENTRIES;
                    core.watching.hub.catch_up(&view, slice)?;
                    self.deliver(core);
                }
                self.env.next_pass().await;
            }
        }
    }
}
