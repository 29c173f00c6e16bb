//! Adapter. Bounded messages between cores: one ring per pair of cores, one doorbell per core.
//!
//! ```text
//!   core 0 ──ring──► core 1      Each ring has one writer and one reader and no lock.
//!   core 0 ◄──ring── core 1      A parked core's doorbell is rung by whoever sends next; while it
//!     └─► own ring               is awake, sending costs a store, a fence and a load.
//! ```
//!
//! Not glommio's shared channel: waiting on several of those leaves a waker behind in each one that
//! stays quiet, until the task's 16-bit waker count overflows and the core panics (trap d). Here a
//! core has one doorbell that holds one waker.

use super::limits;
use crate::env::{Env, Mesh};
use crate::ids::CoreId;
use rtrb::{Consumer, Producer, PushError, RingBuffer};
use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// One core's place in the mesh, on its way to that core.
pub struct MeshSeat<M> {
    core: CoreId,
    outgoing: Vec<Outgoing<M>>,
    incoming: Vec<Incoming<M>>,
    door: Arc<Door>,
}

/// The seats of a mesh over `cores` cores; each ring holds `capacity` messages. A core may also
/// send to itself.
pub fn seats<M: Send + 'static>(cores: u16, capacity: usize) -> Vec<MeshSeat<M>> {
    assert!(cores > 0, "a mesh has a core");
    assert!(capacity > 0, "a ring has room");
    let doors: Vec<_> = (0..cores).map(|_| Arc::new(Door::default())).collect();
    let mut seats: Vec<_> = (0..cores)
        .map(|core| MeshSeat {
            core: CoreId(core),
            outgoing: Vec::new(),
            incoming: Vec::new(),
            door: Arc::clone(&doors[usize::from(core)]),
        })
        .collect();
    for from in 0..usize::from(cores) {
        for to in 0..usize::from(cores) {
            let (producer, consumer) = RingBuffer::new(capacity);
            let room = Arc::new(Room::default());
            seats[from].outgoing.push(Outgoing {
                producer: RefCell::new(producer),
                room: Arc::clone(&room),
                door: Arc::clone(&doors[to]),
            });
            seats[to].incoming.push(Incoming {
                consumer: RefCell::new(consumer),
                room,
            });
        }
    }
    seats
}

impl<M: Send + 'static> MeshSeat<M> {
    pub fn core(&self) -> CoreId {
        self.core
    }

    /// Takes the seat; on the core it belongs to.
    pub fn bind<E: Env>(self, env: &E) -> CoreMesh<E, M> {
        let MeshSeat {
            core,
            outgoing,
            incoming,
            door,
        } = self;
        let shared = Shared {
            env: env.clone(),
            core,
            outgoing,
            incoming,
            door,
            place: Cell::new(0),
            turn: Cell::new(0),
            since_pass: Cell::new(0),
        };
        CoreMesh {
            shared: Rc::new(shared),
        }
    }
}

/// One core's end of the mesh. One per core; a clone is one reference count.
pub struct CoreMesh<E, M> {
    shared: Rc<Shared<E, M>>,
}

impl<E, M> Clone for CoreMesh<E, M> {
    fn clone(&self) -> Self {
        CoreMesh {
            shared: Rc::clone(&self.shared),
        }
    }
}

struct Shared<E, M> {
    env: E,
    core: CoreId,
    /// By receiving core.
    outgoing: Vec<Outgoing<M>>,
    /// By sending core.
    incoming: Vec<Incoming<M>>,
    door: Arc<Door>,
    /// The incoming ring whose turn it is, and how many messages of its turn are taken.
    place: Cell<usize>,
    turn: Cell<u32>,
    /// Messages taken since the receiver last waited.
    since_pass: Cell<u32>,
}

struct Outgoing<M> {
    producer: RefCell<Producer<M>>,
    room: Arc<Room>,
    door: Arc<Door>,
}

struct Incoming<M> {
    consumer: RefCell<Consumer<M>>,
    room: Arc<Room>,
}

/// How a core is woken that waits for messages. Shared by all who send to it.
#[derive(Default)]
struct Door {
    /// The receiver is about to park, or parked, and nobody has rung since.
    waiting: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl Door {
    /// After a push. The fence orders the push before the look at `waiting`, as the receiver's
    /// fence orders its store of `waiting` before its last look at the rings: one of the two sees
    /// the other.
    fn ring(&self) {
        fence(Ordering::SeqCst);
        if self.waiting.load(Ordering::Relaxed) && self.waiting.swap(false, Ordering::AcqRel) {
            let waker = self
                .waker
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    fn leave(&self, waker: &Waker) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
        self.waiting.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }

    fn forget(&self) {
        self.waiting.store(false, Ordering::Relaxed);
        self.waker
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

/// How the senders of one ring are woken that wait for room.
#[derive(Default)]
struct Room {
    wanted: AtomicBool,
    wakers: Mutex<Vec<Waker>>,
}

impl Room {
    fn give(&self) {
        if self.wanted.load(Ordering::Relaxed) && self.wanted.swap(false, Ordering::AcqRel) {
            let wakers = {
                let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
                std::mem::take(&mut *wakers)
            };
            for waker in wakers {
                waker.wake();
            }
        }
    }

    fn want(&self, waker: &Waker) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        if !wakers.iter().any(|w| w.will_wake(waker)) {
            wakers.push(waker.clone());
        }
        drop(wakers);
        self.wanted.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
    }
}

impl<E: Env, M: Send + 'static> Shared<E, M> {
    fn way(&self, to: CoreId) -> &Outgoing<M> {
        self.outgoing
            .get(usize::from(to.0))
            .expect("a core of this mesh")
    }

    fn try_send(&self, to: CoreId, message: M) -> Result<(), M> {
        let way = self.way(to);
        let mut producer = way.producer.borrow_mut();
        if producer.is_abandoned() {
            return Err(message);
        }
        match producer.push(message) {
            Ok(()) => {
                drop(producer);
                way.door.ring();
                Ok(())
            }
            Err(PushError::Full(message)) => Err(message),
        }
    }

    fn poll_room(&self, to: CoreId, context: &Context<'_>) -> Poll<()> {
        let way = self.way(to);
        let open = || {
            let producer = way.producer.borrow();
            producer.is_abandoned() || producer.slots() > 0
        };
        if open() {
            return Poll::Ready(());
        }
        way.room.want(context.waker());
        // Again: the receiver may have made room and looked for a wish before it was there.
        if open() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Takes a message, ring after ring, a bounded turn each.
    fn try_receive(&self) -> Option<(CoreId, M)> {
        let rings = self.incoming.len();
        for _ in 0..rings {
            let place = self.place.get();
            let ring = &self.incoming[place];
            let message = ring.consumer.borrow_mut().pop().ok();
            let turn = if message.is_some() {
                self.turn.get() + 1
            } else {
                0
            };
            if message.is_none() || turn >= limits::MESSAGES_PER_TURN {
                // Once per turn, so that popping needs no fence: a sender that waits is woken when
                // this ring's turn ends, or before the receiver parks.
                ring.room.give();
                self.place
                    .set(if place + 1 == rings { 0 } else { place + 1 });
                self.turn.set(0);
            } else {
                self.turn.set(turn);
            }
            if let Some(message) = message {
                return Some((CoreId(place as u16), message));
            }
        }
        None
    }

    /// Every other core has dropped its end and left nothing behind. A mesh of one never ends.
    fn others_are_gone(&self) -> bool {
        self.incoming.len() > 1
            && self.incoming.iter().enumerate().all(|(from, ring)| {
                let consumer = ring.consumer.borrow();
                from == usize::from(self.core.0) || (consumer.is_abandoned() && consumer.is_empty())
            })
    }

    fn poll_receive(&self, context: &Context<'_>) -> Poll<Option<(CoreId, M)>> {
        if let Some(message) = self.try_receive() {
            return Poll::Ready(Some(message));
        }
        self.since_pass.set(0);
        self.door.leave(context.waker());
        // A sender that saw `wanted` unset before this look has its room noticed here.
        for ring in &self.incoming {
            ring.room.give();
        }
        // The last look: who pushed before the doorbell was out has not rung it.
        if let Some(message) = self.try_receive() {
            self.door.forget();
            return Poll::Ready(Some(message));
        }
        if self.others_are_gone() {
            self.door.forget();
            return Poll::Ready(None);
        }
        Poll::Pending
    }
}

impl<E: Env, M: Send + 'static> Mesh<M> for CoreMesh<E, M> {
    fn core(&self) -> CoreId {
        self.shared.core
    }

    fn core_count(&self) -> u16 {
        u16::try_from(self.shared.outgoing.len()).expect("made from a u16")
    }

    fn try_send(&self, to: CoreId, message: M) -> Result<(), M> {
        self.shared.try_send(to, message)
    }

    async fn send(&self, to: CoreId, message: M) -> Result<(), M> {
        let mut message = message;
        loop {
            match self.shared.try_send(to, message) {
                Ok(()) => return Ok(()),
                Err(back) => message = back,
            }
            if self.shared.way(to).producer.borrow().is_abandoned() {
                return Err(message);
            }
            poll_fn(|context| self.shared.poll_room(to, context)).await;
        }
    }

    async fn receive(&self) -> Option<(CoreId, M)> {
        if self.shared.since_pass.get() >= limits::MESSAGES_PER_PASS {
            self.shared.since_pass.set(0);
            self.shared.env.next_pass().await;
        }
        let message = poll_fn(|context| self.shared.poll_receive(context)).await;
        self.shared.since_pass.set(self.shared.since_pass.get() + 1);
        message
    }

    fn try_receive(&self) -> Option<(CoreId, M)> {
        self.shared.try_receive()
    }
}

impl<E, M> Drop for Shared<E, M> {
    fn drop(&mut self) {
        self.door.forget();
        // The rings first, then the bells: who wakes up must find them abandoned.
        let doors: Vec<_> = self.outgoing.drain(..).map(|way| way.door).collect();
        let rooms: Vec<_> = self.incoming.drain(..).map(|ring| ring.room).collect();
        for door in doors {
            door.ring();
        }
        for room in rooms {
            fence(Ordering::SeqCst);
            room.give();
        }
    }
}
