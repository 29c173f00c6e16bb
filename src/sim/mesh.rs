//! Adapter. Bounded messages between the cores of a simulated node.

use super::env::SimEnv;
use crate::env::{Env, Mesh, Notify};
use crate::ids::CoreId;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

/// Nanoseconds until a message can be received, drawn between these.
const HOP_NS: (u64, u64) = (100, 40_000);

/// One core's end of the mesh.
pub struct SimMesh<M> {
    shared: Rc<Shared<M>>,
    end: Rc<End<M>>,
}

impl<M> Clone for SimMesh<M> {
    fn clone(&self) -> Self {
        SimMesh {
            shared: Rc::clone(&self.shared),
            end: Rc::clone(&self.end),
        }
    }
}

/// Tells the others when the last clone of an end is gone.
struct End<M> {
    env: SimEnv,
    shared: Rc<Shared<M>>,
}

struct Shared<M> {
    state: RefCell<State<M>>,
    /// By core: something may have come for it.
    arrived: Vec<Notify>,
    /// By receiving core, then by sending core: there may be room on that way.
    room: Vec<Vec<Notify>>,
}

struct State<M> {
    /// By receiving core, then by sending core; each with the time from which it can be received.
    queues: Vec<Vec<VecDeque<(u64, M)>>>,
    gone: Vec<bool>,
    capacity: usize,
}

/// The ends of a mesh between these cores of one node, in their order; each way holds `capacity`.
pub fn mesh<M: Send + 'static>(envs: &[SimEnv], capacity: usize) -> Vec<SimMesh<M>> {
    assert!(capacity > 0, "a way has room");
    let count = envs.len();
    assert!(count > 0, "a mesh has a core");
    for (place, env) in envs.iter().enumerate() {
        assert_eq!(usize::from(env.core().0), place, "cores in their order");
        assert_eq!(env.node(), envs[0].node(), "cores of one node");
    }
    let queue = || (0..count).map(|_| VecDeque::new()).collect();
    let state = State {
        queues: (0..count).map(|_| queue()).collect(),
        gone: vec![false; count],
        capacity,
    };
    let shared = Rc::new(Shared {
        state: RefCell::new(state),
        arrived: (0..count).map(|_| Notify::new()).collect(),
        room: (0..count)
            .map(|_| (0..count).map(|_| Notify::new()).collect())
            .collect(),
    });
    envs.iter()
        .map(|env| SimMesh {
            shared: Rc::clone(&shared),
            end: Rc::new(End {
                env: env.clone(),
                shared: Rc::clone(&shared),
            }),
        })
        .collect()
}

impl<M: Send + 'static> SimMesh<M> {
    fn place(&self) -> usize {
        usize::from(self.end.env.core().0)
    }

    fn is_gone(&self, core: CoreId) -> bool {
        self.shared.state.borrow().gone[usize::from(core.0)]
    }

    fn has_room(&self, to: CoreId) -> bool {
        let state = self.shared.state.borrow();
        state.queues[usize::from(to.0)][self.place()].len() < state.capacity
    }

    /// When the next message can be received, if one is on its way.
    fn next_arrival_ns(&self) -> Option<u64> {
        let state = self.shared.state.borrow();
        let fronts = state.queues[self.place()]
            .iter()
            .filter_map(|queue| queue.front());
        fronts.map(|(time, _)| *time).min()
    }

    fn others_are_gone(&self) -> bool {
        let gone = &self.shared.state.borrow().gone;
        gone.len() > 1
            && gone
                .iter()
                .enumerate()
                .all(|(n, gone)| *gone || n == self.place())
    }
}

impl<M: Send + 'static> Mesh<M> for SimMesh<M> {
    fn core(&self) -> CoreId {
        self.end.env.core()
    }

    fn core_count(&self) -> u16 {
        self.shared.arrived.len() as u16
    }

    fn try_send(&self, to: CoreId, message: M) -> Result<(), M> {
        let (from, to) = (self.place(), usize::from(to.0));
        {
            let mut state = self.shared.state.borrow_mut();
            let capacity = state.capacity;
            let gone = state.gone[to];
            let queue = &mut state.queues[to][from];
            if gone || queue.len() >= capacity {
                return Err(message);
            }
            let env = &self.end.env;
            let (low, high) = HOP_NS;
            let hop = env.world().draw(|rng| rng.between(low, high));
            let time = env.world().now_ns() + hop;
            // Order is kept per way: nobody overtakes the one before.
            let time = queue.back().map_or(time, |(last, _)| time.max(*last));
            queue.push_back((time, message));
        }
        self.shared.arrived[to].notify();
        Ok(())
    }

    async fn send(&self, to: CoreId, message: M) -> Result<(), M> {
        let room = &self.shared.room[usize::from(to.0)][self.place()];
        let mut message = message;
        loop {
            match self.try_send(to, message) {
                Ok(()) => {
                    // Signals merge: another task of this core may wait for room that is there.
                    if self.has_room(to) {
                        room.notify();
                    }
                    return Ok(());
                }
                Err(back) => message = back,
            }
            if self.is_gone(to) {
                // The others who wait for it have to learn it, too.
                room.notify();
                return Err(message);
            }
            room.wait().await;
        }
    }

    async fn receive(&self) -> Option<(CoreId, M)> {
        loop {
            if let Some(message) = self.try_receive() {
                return Some(message);
            }
            match self.next_arrival_ns() {
                Some(time) => self.end.env.sleep_until(time).await,
                None if self.others_are_gone() => return None,
                None => self.shared.arrived[self.place()].wait().await,
            }
        }
    }

    fn try_receive(&self) -> Option<(CoreId, M)> {
        let now = self.end.env.world().now_ns();
        let mut state = self.shared.state.borrow_mut();
        let queues = &mut state.queues[self.place()];
        let arrived: Vec<usize> = (0..queues.len())
            .filter(|from| queues[*from].front().is_some_and(|(time, _)| *time <= now))
            .collect();
        if arrived.is_empty() {
            return None;
        }
        let from = arrived[self.end.env.world().draw(|rng| rng.index(arrived.len()))];
        let (_, message) = queues[from].pop_front()?;
        drop(state);
        self.shared.room[self.place()][from].notify();
        Some((CoreId(from as u16), message))
    }
}

impl<M> Drop for End<M> {
    fn drop(&mut self) {
        self.shared.state.borrow_mut().gone[usize::from(self.env.core().0)] = true;
        for notify in self
            .shared
            .arrived
            .iter()
            .chain(self.shared.room.iter().flatten())
        {
            notify.notify();
        }
    }
}
