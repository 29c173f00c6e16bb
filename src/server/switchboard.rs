//! Driver. Letters between the cores: inputs to the group's owner, answers back, connections to
//! the core that serves them.

use crate::api::{Desk, Route};
use crate::env::{Mesh, Notify};
use crate::group::{Answer, Group, Input, Outlet, Refusal, Stamp, Ticket};
use crate::ids::CoreId;
use crate::limits::server as limits;
use crate::mvcc::View;
use crate::runtime::{Accepted, CoreMesh, World};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// What one core sends to another.
#[derive(Debug)]
pub enum Letter {
    Input(Input),
    Answer(Ticket, Answer),
    Connection(Accepted),
}

/// One core's place among the others.
pub struct Switchboard<W: World> {
    env: W,
    /// The core that owns the group.
    owner: CoreId,
    mesh: CoreMesh<W, Letter>,
    group: RefCell<Option<Group<W>>>,
    desk: RefCell<Option<Desk<W>>>,
    /// Letters that found the way to their core full, in order, by core.
    waiting: Vec<Waiting>,
    /// The group is open.
    ready: Notify,
}

#[derive(Default)]
struct Waiting {
    letters: RefCell<VecDeque<Letter>>,
    came: Notify,
}

impl<W: World> Switchboard<W> {
    pub fn new(env: W, mesh: CoreMesh<W, Letter>, owner: CoreId) -> Rc<Switchboard<W>> {
        let waiting = (0..mesh.core_count()).map(|_| Waiting::default()).collect();
        let board = Rc::new(Switchboard {
            env: env.clone(),
            owner,
            mesh,
            group: RefCell::default(),
            desk: RefCell::default(),
            waiting,
            ready: Notify::new(),
        });
        for core in 0..board.mesh.core_count() {
            let board = Rc::clone(&board);
            env.spawn(async move { board.send_waiting(CoreId(core)).await });
        }
        board
    }

    pub fn owner(&self) -> CoreId {
        self.owner
    }

    pub fn is_owner(&self) -> bool {
        self.mesh.core() == self.owner
    }

    pub fn set_desk(&self, desk: Desk<W>) {
        *self.desk.borrow_mut() = Some(desk);
    }

    pub fn set_group(&self, group: Group<W>) {
        *self.group.borrow_mut() = Some(group);
        self.ready.notify();
    }

    /// Sends, in order. A full way keeps the letter: answers are bounded by the calls they answer.
    pub fn send(&self, to: CoreId, letter: Letter) {
        let waiting = &self.waiting[usize::from(to.0)];
        let mut letters = waiting.letters.borrow_mut();
        if letters.is_empty() {
            let Err(letter) = self.mesh.try_send(to, letter) else {
                return;
            };
            letters.push_back(letter);
        } else {
            letters.push_back(letter);
        }
        waiting.came.notify();
    }

    async fn send_waiting(self: Rc<Self>, to: CoreId) {
        let waiting = &self.waiting[usize::from(to.0)];
        loop {
            waiting.came.wait().await;
            loop {
                // It stays in front while it is sent, so that none overtakes it.
                let letter = match waiting.letters.borrow_mut().front_mut() {
                    Some(letter) => std::mem::replace(letter, Letter::taken()),
                    None => break,
                };
                if self.mesh.send(to, letter).await.is_err() {
                    return;
                }
                waiting.letters.borrow_mut().pop_front();
            }
        }
    }

    /// The next connection that another core accepted for this one; inputs and answers among the
    /// letters are delivered on the way.
    pub async fn next_connection(&self) -> Option<Accepted> {
        loop {
            let (_, letter) = self.mesh.receive().await?;
            match letter {
                Letter::Connection(accepted) => return Some(accepted),
                Letter::Answer(ticket, answer) => self.deliver(ticket, answer),
                Letter::Input(input) => self.take_input(input),
            }
        }
    }

    fn deliver(&self, ticket: Ticket, answer: Answer) {
        let desk = self.desk.borrow().clone();
        if let Some(desk) = desk {
            desk.deliver(ticket, answer);
        }
    }

    /// An input from another core.
    fn take_input(&self, input: Input) {
        let ticket = match &input {
            Input::Propose { ticket, .. } | Input::Query(_, ticket) | Input::Watch(_, ticket) => {
                *ticket
            }
        };
        let refusal = match &*self.group.borrow() {
            Some(group) => group.submit(input).err(),
            None => Some(Refusal::NoLeader),
        };
        if let Some(refusal) = refusal {
            self.send(
                ticket.core,
                Letter::Answer(ticket, Answer::Refused(refusal)),
            );
        }
    }
}

impl Letter {
    /// Stands in a queue where a letter was taken out to be sent; never sent itself.
    fn taken() -> Letter {
        let nobody = Ticket {
            core: CoreId(0),
            conn: crate::api::ask_conn(),
            stream: crate::ids::StreamId(0),
        };
        Letter::Answer(nobody, Answer::Defragmented)
    }
}

/// Inputs of this core's calls.
impl<W: World> Route for Switchboard<W> {
    fn submit(&self, input: Input) -> Result<(), Refusal> {
        if self.is_owner() {
            return match &*self.group.borrow() {
                Some(group) => group.submit(input),
                None => Err(Refusal::NoLeader),
            };
        }
        let crowded = self.waiting[usize::from(self.owner.0)]
            .letters
            .borrow()
            .len()
            >= limits::MESH_MESSAGES;
        if crowded && !matches!(input, Input::Watch(..)) {
            return Err(Refusal::TooManyRequests);
        }
        self.send(self.owner, Letter::Input(input));
        Ok(())
    }

    fn view_now(&self) -> Option<(View, Stamp)> {
        self.group.borrow().as_ref().and_then(Group::view_now)
    }
}

/// Answers of this core's group.
impl<W: World> Outlet for Switchboard<W> {
    fn answer(&self, ticket: Ticket, answer: Answer) {
        if ticket.core == self.env.core() {
            self.deliver(ticket, answer);
        } else {
            self.send(ticket.core, Letter::Answer(ticket, answer));
        }
    }
}
