//! Driver. A question to a group from a task: waits for the answer.

use super::desk::Desk;
use super::errors::EtcdError;
use crate::env::{Env, Notify};
use crate::group::{Answer, Input, Query, Refusal, Stamp, Ticket};
use crate::ids::{ConnId, StreamId};
use crate::mvcc::View;
use bytes::Bytes;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

/// The connection id of tickets that belong to a task of the core and to no client.
pub const fn ask_conn() -> ConnId {
    ConnId(0)
}

/// Questions that are not answered yet, by the stream number of their tickets.
#[derive(Default)]
pub(super) struct Asks {
    next: Cell<u32>,
    waiting: RefCell<BTreeMap<u32, Rc<Ask>>>,
}

#[derive(Default)]
struct Ask {
    answer: RefCell<Option<Answer>>,
    answered: Notify,
}

impl Asks {
    pub(super) fn answer(&self, stream: StreamId, answer: Answer) {
        if let Some(ask) = self.waiting.borrow_mut().remove(&stream.0) {
            *ask.answer.borrow_mut() = Some(answer);
            ask.answered.notify();
        }
    }
}

impl<E: Env> Desk<E> {
    /// Asks the group and waits.
    pub(super) async fn ask(&self, query: Query) -> Answer {
        self.submit_and_wait(|ticket| Input::Query(query, ticket))
            .await
    }

    /// Proposes and waits until it is applied.
    pub(super) async fn propose(&self, kind: crate::apply::Kind, body: Bytes, cost: u64) -> Answer {
        self.submit_and_wait(|ticket| Input::Propose {
            kind,
            body,
            cost,
            ticket,
        })
        .await
    }

    async fn submit_and_wait(&self, input: impl FnOnce(Ticket) -> Input) -> Answer {
        let asks = &self.shared.asks;
        let mut number = asks.next.get().wrapping_add(1);
        while asks.waiting.borrow().contains_key(&number) {
            number = number.wrapping_add(1);
        }
        asks.next.set(number);
        let ask = Rc::new(Ask::default());
        asks.waiting.borrow_mut().insert(number, Rc::clone(&ask));
        let stream = StreamId(number);
        let ticket = Ticket {
            core: self.shared.env.core(),
            conn: ask_conn(),
            stream,
        };
        if let Err(refusal) = self.shared.route.submit(input(ticket)) {
            asks.waiting.borrow_mut().remove(&number);
            return Answer::Refused(refusal);
        }
        loop {
            ask.answered.wait().await;
            if let Some(answer) = ask.answer.borrow_mut().take() {
                return answer;
            }
        }
    }

    /// A read view.
    pub(super) async fn view(&self, linearizable: bool) -> Result<(View, Stamp), EtcdError> {
        match self.ask(Query::View { linearizable }).await {
            Answer::View(view, stamp) => Ok((view, stamp)),
            Answer::Refused(refusal) => Err(refusal.into()),
            other => unreachable!("a view was asked for, not {other:?}"),
        }
    }
}

impl From<Refusal> for EtcdError {
    fn from(refusal: Refusal) -> EtcdError {
        match refusal {
            Refusal::NoLeader => EtcdError::NoLeader,
            Refusal::LeaderChanged => EtcdError::LeaderChanged,
            Refusal::Stopped => EtcdError::Stopped,
            Refusal::TooManyRequests => EtcdError::TooManyRequests,
            Refusal::NoSpace => EtcdError::NoSpace,
            Refusal::TooLarge => EtcdError::RequestTooLarge,
            Refusal::TimedOut => EtcdError::Timeout,
            Refusal::Corrupt => EtcdError::Corrupt,
        }
    }
}
