//! Adapter. Byte pipes between two simulated cores, as unkind as a socket: bytes come late and in
//! pieces, the way is bounded, and a crash at either end resets it.

use super::env::SimEnv;
use crate::env::{Notify, ReadHalf, WriteHalf};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;

/// Bytes that one direction holds before its writer waits.
const PIPE_BYTES_MAX: usize = 64 << 10;

/// Nanoseconds until bytes arrive, drawn between these.
const HOP_NS: (u64, u64) = (1_000, 100_000);

/// A connection between two cores, of the same node or of two: each side's reader and writer.
#[allow(clippy::type_complexity)] // Two pairs of halves; a name for it would say less.
pub fn duplex(a: &SimEnv, b: &SimEnv) -> ((SimReader, SimWriter), (SimReader, SimWriter)) {
    let (there, back) = (Rc::new(Way::default()), Rc::new(Way::default()));
    let side = |env: &SimEnv, other: &SimEnv, reads: &Rc<Way>, writes: &Rc<Way>| {
        let reader = SimReader {
            env: env.clone(),
            other: other.clone(),
            way: Rc::clone(reads),
        };
        let writer = SimWriter {
            env: env.clone(),
            other: other.clone(),
            way: Rc::clone(writes),
        };
        (reader, writer)
    };
    (side(a, b, &back, &there), side(b, a, &there, &back))
}

/// One direction.
#[derive(Default)]
struct Way {
    state: RefCell<State>,
    arrived: Notify,
    room: Notify,
}

#[derive(Default)]
struct State {
    /// Pieces and the times from which they can be read.
    pieces: VecDeque<(u64, VecDeque<u8>)>,
    held_bytes: usize,
    /// The writer shut down in order.
    ended: bool,
    /// A half was dropped without an orderly end, or its node crashed.
    reset: bool,
}

/// The reading half of one side.
pub struct SimReader {
    env: SimEnv,
    other: SimEnv,
    way: Rc<Way>,
}

/// The writing half of one side.
pub struct SimWriter {
    env: SimEnv,
    other: SimEnv,
    way: Rc<Way>,
}

fn reset() -> io::Error {
    io::ErrorKind::ConnectionReset.into()
}

impl ReadHalf for SimReader {
    async fn receive(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if into.is_empty() {
            return Ok(0);
        }
        loop {
            let now = self.env.world().now_ns();
            let next = {
                let mut guard = self.way.state.borrow_mut();
                let state = &mut *guard;
                match state.pieces.front_mut() {
                    Some((time, bytes)) if *time <= now => {
                        let most = bytes.len().min(into.len());
                        // Mostly all that is there; sometimes a piece, down to one byte.
                        let take = self.env.world().draw(|rng| match rng.chance(70) {
                            true => most,
                            false => rng.between(1, most as u64) as usize,
                        });
                        for (place, byte) in into.iter_mut().zip(bytes.drain(..take)) {
                            *place = byte;
                        }
                        if bytes.is_empty() {
                            state.pieces.pop_front();
                        }
                        state.held_bytes -= take;
                        drop(guard);
                        self.way.room.notify();
                        return Ok(take);
                    }
                    Some((time, _)) => Some(*time),
                    None if state.reset || !self.other.is_alive() => return Err(reset()),
                    None if state.ended => return Ok(0),
                    None => None,
                }
            };
            match next {
                Some(time) => self.env.sleep_until(time).await,
                None => self.way.arrived.wait().await,
            }
        }
    }
}

impl WriteHalf for SimWriter {
    async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut left = bytes;
        while !left.is_empty() {
            let room = {
                let mut state = self.way.state.borrow_mut();
                if state.reset || state.ended || !self.other.is_alive() {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                let room = PIPE_BYTES_MAX - state.held_bytes;
                let (now, take) = left.split_at(room.min(left.len()));
                if !now.is_empty() {
                    let (low, high) = HOP_NS;
                    let hop = self.env.world().draw(|rng| rng.between(low, high));
                    let time = self.env.world().now_ns() + hop;
                    let time = state
                        .pieces
                        .back()
                        .map_or(time, |(last, _)| time.max(*last));
                    state
                        .pieces
                        .push_back((time, now.iter().copied().collect()));
                    state.held_bytes += now.len();
                }
                left = take;
                room
            };
            self.way.arrived.notify();
            if !left.is_empty() || room == 0 {
                self.way.room.wait().await;
            }
        }
        Ok(())
    }

    async fn shutdown(&mut self) -> io::Result<()> {
        self.way.state.borrow_mut().ended = true;
        self.way.arrived.notify();
        Ok(())
    }
}

impl Drop for SimReader {
    fn drop(&mut self) {
        // Nobody will read any more: a writer that waits for room learns it.
        self.way.state.borrow_mut().reset = true;
        self.way.room.notify();
        self.way.arrived.notify();
    }
}

impl Drop for SimWriter {
    fn drop(&mut self) {
        let mut state = self.way.state.borrow_mut();
        // As a socket: dropping it ends the stream in order, a crash of the node does not.
        if self.env.is_alive() {
            state.ended = true;
        } else {
            state.reset = true;
        }
        drop(state);
        self.way.arrived.notify();
        self.way.room.notify();
    }
}
