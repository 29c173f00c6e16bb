//! Driver. The group's turn: only the order of things.

use super::core::{Core, Failure};
use super::ticket::{Answer, Input, Outlet, Refusal, Stamp, Ticket};
use crate::env::{Env, Notify};
use crate::limits::group as limits;
use crate::mvcc::View;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

/// A group as its own core sees it. Cloning shares it; it never leaves its core.
pub struct Group<E: Env> {
    pub(super) shared: Rc<Shared<E>>,
}

impl<E: Env> Clone for Group<E> {
    fn clone(&self) -> Group<E> {
        Group {
            shared: Rc::clone(&self.shared),
        }
    }
}

pub(super) struct Shared<E: Env> {
    pub env: E,
    pub core: RefCell<Core<E>>,
    pub inputs: RefCell<VecDeque<Input>>,
    pub input_bytes: Cell<usize>,
    pub outlet: Rc<dyn Outlet>,
    /// Inputs came, the log advanced, or a task beside the turn wants one.
    pub wake: Notify,
    /// The tree commit has something to decide.
    pub commit_wake: Notify,
    /// Compaction has work.
    pub compact_wake: Notify,
    /// Compactions to be hashed: the store before each, and the revision.
    pub hash_wanted: RefCell<VecDeque<(View, i64)>>,
    /// Watchers are behind.
    pub catch_up_wake: Notify,
    /// The group failed: `Group::failed` returns.
    pub failed: Notify,
    /// A defragmentation was asked for.
    pub defragment: RefCell<Vec<Ticket>>,
    pub stopping: Cell<bool>,
    /// Stopping, and no entry will be applied any more.
    pub settled: Cell<bool>,
    /// Tasks that have not returned.
    pub tasks: Cell<usize>,
    pub task_ended: Notify,
}

impl<E: Env> Group<E> {
    /// Queues an input for the next turn. Refused at the bound: the caller answers at once.
    pub fn submit(&self, input: Input) -> Result<(), Refusal> {
        let shared = &self.shared;
        // Orders of watch streams are bounded by their streams, and a lost Close would leak one.
        let bounded = !matches!(input, Input::Watch(..));
        if bounded && shared.stopping.get() {
            return Err(Refusal::Stopped);
        }
        let size = match &input {
            Input::Propose { body, .. } => body.len(),
            Input::Query(..) | Input::Watch(..) => 0,
        };
        let mut inputs = shared.inputs.borrow_mut();
        let bytes = shared.input_bytes.get() + size;
        if bounded && (inputs.len() >= limits::INPUTS_MAX || bytes > limits::INPUT_BYTES_MAX) {
            return Err(Refusal::TooManyRequests);
        }
        shared.input_bytes.set(bytes);
        inputs.push_back(input);
        shared.wake.notify();
        Ok(())
    }

    /// A linearizable view right now, if this member may give one. Every write that was answered
    /// is in it: answers leave after their entry is applied.
    pub fn view_now(&self) -> Option<(View, Stamp)> {
        let core = self.shared.core.borrow();
        (core.failure.is_none() && core.may_read())
            .then(|| (core.machine.store().view(), core.stamp()))
    }

    /// Takes no more requests, ends the tasks once everything that was proposed is durable, applied
    /// and in the tree file, and answers the rest. Returns when they have ended.
    pub async fn stop(&self) {
        let shared = &self.shared;
        shared.stopping.set(true);
        for notify in [
            &shared.wake,
            &shared.commit_wake,
            &shared.compact_wake,
            &shared.catch_up_wake,
        ] {
            notify.notify();
        }
        while shared.tasks.get() > 0 {
            shared.task_ended.wait().await;
        }
        let core = &mut *shared.core.borrow_mut();
        shared.refuse_all(core, core.refusal().unwrap_or(Refusal::Stopped));
    }

    /// Waits until the group has failed, and says why.
    pub async fn failed(&self) -> String {
        loop {
            if let Some(failure) = &self.shared.core.borrow().failure {
                return failure.to_string();
            }
            self.shared.failed.wait().await;
        }
    }
}

impl<E: Env> Shared<E> {
    /// Starts one of the group's tasks.
    pub(super) fn spawn(self: &Rc<Self>, task: impl Future<Output = ()> + 'static) {
        self.tasks.set(self.tasks.get() + 1);
        let shared = Rc::clone(self);
        self.env.spawn(async move {
            task.await;
            shared.tasks.set(shared.tasks.get() - 1);
            shared.task_ended.notify();
        });
    }

    /// The group's main task.
    pub(super) async fn run(self: Rc<Self>) {
        loop {
            self.wake.wait().await;
            while self.turn() {
                // More is ready than one slice holds: others on this core go first.
                self.env.next_pass().await;
            }
            let settled = self.inputs.borrow().is_empty() && self.core.borrow().is_settled();
            if self.stopping.get() && settled {
                break;
            }
        }
        // The last commit comes behind the last applied entry.
        self.settled.set(true);
        self.commit_wake.notify();
    }

    /// One turn; `true` when another should follow soon.
    fn turn(&self) -> bool {
        let now = self.env.now();
        let core = &mut *self.core.borrow_mut();
        let more_inputs = self.take_inputs(core, now);
        let mut budget = limits::APPLY_SLICE_ENTRIES;
        loop {
            let taken = core.take_rounds();
            let durable = core.note_durable();
            let applied = self.apply_slice(core, &mut budget, now);
            if !(taken || durable || applied) || budget == 0 {
                break;
            }
        }
        self.answer_early(core, now);
        self.deliver(core);
        if let Some(refusal) = core.refusal() {
            self.refuse_all(core, refusal);
            self.failed.notify();
            return false;
        }
        if core.watching.hub.is_behind() {
            self.catch_up_wake.notify();
        }
        if core.machine.store().compact_pending() {
            self.compact_wake.notify();
        }
        if core.wants_commit(now) {
            self.commit_wake.notify();
        }
        budget == 0 || (more_inputs && core.takes_proposals())
    }

    /// Takes inputs, in order, as long as the log has room; `true` when some are left.
    fn take_inputs(&self, core: &mut Core<E>, now: crate::env::Monotonic) -> bool {
        for _ in 0..limits::TURN_INPUTS_MAX {
            let mut inputs = self.inputs.borrow_mut();
            let waits = matches!(inputs.front(), Some(Input::Propose { .. }));
            if waits && core.failure.is_none() && !core.takes_proposals() {
                return true;
            }
            let Some(input) = inputs.pop_front() else {
                return false;
            };
            drop(inputs);
            match input {
                Input::Propose {
                    kind,
                    body,
                    cost,
                    ticket,
                } => {
                    self.input_bytes.set(self.input_bytes.get() - body.len());
                    self.propose_for(core, kind, &body, cost, ticket);
                }
                Input::Query(query, ticket) => self.query(core, query, ticket, now),
                Input::Watch(order, ticket) => self.watch(core, order, ticket, now),
            }
        }
        true
    }

    /// Everybody who waits is told that the group stopped.
    fn refuse_all(&self, core: &mut Core<E>, refusal: Refusal) {
        let pending = std::mem::take(&mut core.pending).into_iter();
        let clients = pending.filter_map(|pending| pending.waiter.ticket());
        let early = std::mem::take(&mut core.early).into_iter();
        let compactions = std::mem::take(&mut core.compactions).into_iter();
        let committing = std::mem::take(&mut core.compactions_in_commit).into_iter();
        let renewals = std::mem::take(&mut core.renewals).into_values();
        core.renewals_waiting = 0;
        let tickets = clients
            .chain(early.map(|(_, ticket)| ticket))
            .chain(compactions.chain(committing).map(|(ticket, _)| ticket))
            .chain(renewals.flatten())
            .chain(self.defragment.take());
        for ticket in tickets {
            self.outlet.answer(ticket, Answer::Refused(refusal));
        }
    }

    /// Latches a failure found beside the turn; the turn tells everybody who waits.
    pub(super) fn stop_with(&self, failure: Failure) {
        self.core.borrow_mut().fail(failure);
        self.wake.notify();
    }
}
