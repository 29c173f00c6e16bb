//! Pure. One connection: its life, its events, its deadlines. Frames in are `receive.rs`'s and
//! `header_block.rs`'s, frames out are `send.rs`'s.

use super::budget::Budget;
use super::error::{ConnectionError, ErrorCode};
use super::frame;
use super::head::{Head, HeadMemo, Response};
use super::header_block::OpenBlock;
use super::hpack::{Decoder, ShortValue};
use super::keepalive::{Keeper, Tick};
use super::send::Tail;
use super::settings::{PeerSettings, Role, Settings};
use super::stream::Streams;
use crate::env::Monotonic;
use crate::ids::StreamId;
use crate::limits::http2 as limits;
use bytes::Bytes;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

pub use super::stream::Slot;

/// What the ping of a drain carries, so that its answer is told from others.
const DRAIN_PING: [u8; 8] = *b"drain\0\0\0";

/// What happened on a connection.
#[derive(Debug)]
pub enum Event {
    /// A request began. `varying` is the field that `Settings::varying_field` names.
    Headers {
        stream: StreamId,
        slot: Slot,
        head: Arc<Head>,
        varying: Option<ShortValue>,
        end: bool,
    },
    /// A piece of the request's body. Empty only when `end` is true.
    Data {
        stream: StreamId,
        slot: Slot,
        bytes: Bytes,
        end: bool,
    },
    /// The stream is gone: the peer reset it, or broke a rule of streams.
    Reset {
        stream: StreamId,
        slot: Slot,
        code: ErrorCode,
    },
    /// A sender that was told to wait can send again.
    Writable { stream: StreamId },
    /// Client only: the head of an answer, or its trailers.
    Response {
        stream: StreamId,
        slot: Slot,
        response: Arc<Response>,
        end: bool,
    },
    /// Client only: the server takes no streams above `last`; those that are open were reset.
    GoAway {
        last: StreamId,
        code: ErrorCode,
        debug: Bytes,
    },
    /// The answer to a `ping`.
    Pong { payload: [u8; 8] },
}

/// Where the graceful end stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ending {
    /// Not at all.
    Open,
    /// A drain was announced; streams that cross it are still taken until the ping's answer.
    Announced { until: Monotonic },
    /// The final GOAWAY is out: streams above `last` are refused.
    Final { last: u32 },
    /// An error ended the connection: nothing is taken any more.
    Dead(ConnectionError),
}

/// One HTTP/2 connection of a server. Pure; one per client connection, lives on one core.
pub struct Connection {
    pub(super) role: Role,
    pub(super) settings: Settings,
    pub(super) ending: Ending,
    pub(super) peer_goaway: bool,

    // Receiving.
    /// Bytes of the client's preface seen so far.
    pub(super) preface: usize,
    pub(super) peer_settings_seen: bool,
    /// A frame that has not arrived whole; shorter than one frame.
    pub(super) partial: Vec<u8>,
    pub(super) open_block: Option<OpenBlock>,
    pub(super) decoder: Decoder,
    pub(super) memo: HeadMemo<Head>,
    /// A client's.
    pub(super) responses: HeadMemo<Response>,
    /// What the peer may still send on the connection.
    pub(super) receive_window: i64,
    /// Received and not yet given back.
    pub(super) unreturned: u32,
    /// The client's highest stream.
    pub(super) last_stream: u32,
    /// SETTINGS of ours that the peer did not acknowledge.
    pub(super) settings_open: u32,
    pub(super) resets: Budget,
    pub(super) idle_frames: Budget,

    /// The buffers hold nothing since they were given back.
    released: bool,
    pub(super) streams: Streams,
    /// Streams that we ended, newest last: the peer may not know yet.
    pub(super) ended: VecDeque<u32>,
    pub(super) events: VecDeque<Event>,
    pub(super) keeper: Keeper,

    // Sending.
    pub(super) peer: PeerSettings,
    pub(super) out: Vec<u8>,
    /// The DATA frame at the end of `out`, which may still grow.
    pub(super) tail: Option<Tail>,
    pub(super) send_window: i64,
    /// Streams with something queued and room in their window, in turn.
    pub(super) ready: VecDeque<(Slot, StreamId)>,
    /// The sum of all streams' queues.
    pub(super) queued: usize,
    /// `queued` passed its bound: the next receive or tick ends the connection.
    pub(super) queues_full: bool,
}

impl Connection {
    /// A fresh connection; our SETTINGS are in the output.
    pub fn new(settings: Settings, now: Monotonic) -> Connection {
        Connection::with_role(Role::Server, settings, now)
    }

    pub(super) fn with_role(role: Role, settings: Settings, now: Monotonic) -> Connection {
        let mut out = Vec::new();
        let mut preface = 0;
        if role == Role::Client {
            out.extend_from_slice(frame::PREFACE);
            // A server sends none.
            preface = frame::PREFACE.len();
        }
        settings.put(role, &mut out);
        Connection {
            role,
            settings,
            ending: Ending::Open,
            peer_goaway: false,
            preface,
            peer_settings_seen: false,
            partial: Vec::new(),
            open_block: None,
            decoder: Decoder::new(
                limits::HPACK_TABLE_BYTES_MAX,
                settings.header_list_bytes_max,
                settings.varying_field,
            ),
            memo: HeadMemo::default(),
            responses: HeadMemo::default(),
            receive_window: i64::from(settings.connection_window.max(frame::WINDOW_DEFAULT)),
            unreturned: 0,
            last_stream: 0,
            settings_open: 1,
            resets: Budget::new(limits::RESET_BURST, limits::RESETS_PER_SECOND, now),
            idle_frames: Budget::new(
                limits::IDLE_FRAME_BURST,
                limits::IDLE_FRAMES_PER_SECOND,
                now,
            ),
            released: true,
            streams: Streams::default(),
            ended: VecDeque::new(),
            events: VecDeque::new(),
            keeper: Keeper::new(settings.keepalive, now),
            peer: PeerSettings::default(),
            out,
            tail: None,
            send_window: i64::from(frame::WINDOW_DEFAULT),
            ready: VecDeque::new(),
            queued: 0,
            queues_full: false,
        }
    }

    /// Takes bytes from the socket, all of them. On `Err` a GOAWAY is in the output: send it and
    /// close.
    pub fn receive(&mut self, bytes: &[u8], now: Monotonic) -> Result<(), ConnectionError> {
        if let Ending::Dead(error) = self.ending {
            return Err(error);
        }
        self.keeper.received(now);
        self.released = false;
        let result = self
            .receive_frames(bytes, now)
            .and_then(|()| self.check_bounds());
        self.pump();
        result.map_err(|error| self.die(error))
    }

    /// The next event, in the order of the wire.
    #[inline]
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Bytes for the socket. The caller takes or drains them; each call moves queued DATA in.
    pub fn output(&mut self) -> &mut Vec<u8> {
        self.pump();
        // The caller may take bytes: the last frame can no longer grow.
        self.tail = None;
        self.released &= self.out.is_empty();
        &mut self.out
    }

    /// Whether the driver should go on receiving. No: send first.
    pub fn wants_read(&self) -> bool {
        self.out.len() < limits::OUTPUT_BYTES_MAX
    }

    /// Ends the connection for a reason of ours. Streams still open may finish.
    pub fn goaway(&mut self, code: ErrorCode, debug: &str) {
        if matches!(self.ending, Ending::Final { .. } | Ending::Dead(_)) {
            return;
        }
        let last = self.last_stream;
        self.ending = Ending::Final { last };
        self.put_goaway(last, code, debug);
    }

    /// Ends gracefully: announces it, takes the streams that cross the announcement, refuses later
    /// ones. Close when `is_idle`.
    pub fn drain(&mut self, now: Monotonic) {
        if self.ending != Ending::Open {
            return;
        }
        let until = now + Duration::from_secs(limits::DRAIN_SECONDS);
        self.ending = Ending::Announced { until };
        self.put_goaway(frame::U31_MAX, ErrorCode::NO_ERROR, "");
        self.ping(DRAIN_PING);
    }

    /// Sends a PING; its answer is `Event::Pong`.
    pub fn ping(&mut self, payload: [u8; 8]) {
        self.tail = None;
        frame::put_frame(&mut self.out, frame::PING, 0, 0, &payload);
    }

    /// When `tick` has something to do.
    pub fn next_deadline(&self) -> Option<Monotonic> {
        let drain = match self.ending {
            Ending::Announced { until } => Some(until),
            _ => None,
        };
        let release = (!self.released).then(|| self.quiet_at());
        [drain, release, self.keeper.deadline()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether the connection has been silent for long and holds buffers: `tick` gives them back.
    pub fn is_quiet(&self, now: Monotonic) -> bool {
        !self.released && now >= self.quiet_at()
    }

    fn quiet_at(&self) -> Monotonic {
        self.keeper.last_received() + limits::QUIET
    }

    /// Does what is due. On `Err` send the output and close.
    pub fn tick(&mut self, now: Monotonic) -> Result<(), ConnectionError> {
        if let Ending::Dead(error) = self.ending {
            return Err(error);
        }
        self.check_bounds().map_err(|error| self.die(error))?;
        if self.is_quiet(now) {
            self.release_memory();
        }
        if let Ending::Announced { until } = self.ending
            && now >= until
        {
            self.goaway(ErrorCode::NO_ERROR, "");
        }
        match self.keeper.tick(now) {
            Tick::Nothing => Ok(()),
            Tick::Ping => {
                self.ping([0; 8]);
                Ok(())
            }
            Tick::Close => Err(self.die(ConnectionError::KeepaliveTimeout)),
        }
    }

    /// Streams that have not ended.
    pub fn stream_count(&self) -> usize {
        self.streams.count()
    }

    /// No stream is open, and nothing waits to be sent.
    pub fn is_idle(&self) -> bool {
        self.streams.count() == 0 && self.out.is_empty()
    }

    /// One side said GOAWAY: close once idle.
    pub fn is_closing(&self) -> bool {
        self.peer_goaway || matches!(self.ending, Ending::Final { .. } | Ending::Dead(_))
    }

    /// Whether a stream can still be answered.
    pub fn is_open(&self, stream: StreamId) -> bool {
        self.streams.slot(stream.0).is_some()
    }

    /// Gives back buffers that hold nothing. They grow with the largest request and answer, and a
    /// connection may wait for ever behind them.
    fn release_memory(&mut self) {
        self.released = true;
        if self.out.is_empty() {
            self.out = Vec::new();
        }
        if self.partial.is_empty() {
            self.partial = Vec::new();
        }
        if self.events.is_empty() {
            self.events = VecDeque::new();
        }
        if self.ready.is_empty() {
            self.ready = VecDeque::new();
        }
        self.decoder.release_memory();
    }

    /// What `release_memory` can give back.
    #[cfg(test)]
    pub fn held_bytes(&self) -> usize {
        self.out.capacity()
            + self.partial.capacity()
            + self.events.capacity() * size_of::<Event>()
            + self.ready.capacity() * size_of::<(Slot, StreamId)>()
            + self.decoder.held_bytes()
    }

    pub(super) fn pong(&mut self, payload: [u8; 8]) {
        match self.ending {
            Ending::Announced { .. } if payload == DRAIN_PING => {
                self.goaway(ErrorCode::NO_ERROR, "");
            }
            _ if payload == DRAIN_PING || payload == [0; 8] => {}
            _ => self.events.push_back(Event::Pong { payload }),
        }
    }

    fn put_goaway(&mut self, last: u32, code: ErrorCode, debug: &str) {
        self.tail = None;
        frame::put_goaway(&mut self.out, last, code.0, debug.as_bytes());
    }

    fn check_bounds(&self) -> Result<(), ConnectionError> {
        use super::error::Flood;
        if self.queues_full {
            return Err(ConnectionError::Flood(Flood::Queues));
        }
        if self.out.len() > limits::OUTPUT_BYTES_HARD {
            return Err(ConnectionError::Flood(Flood::Output));
        }
        Ok(())
    }

    /// Latches the error; the GOAWAY tells it.
    fn die(&mut self, error: ConnectionError) -> ConnectionError {
        self.put_goaway(self.last_stream, error.code(), &error.to_string());
        self.ending = Ending::Dead(error);
        error
    }

    /// The relations between the fields; tests call it after every step.
    #[cfg(test)]
    pub fn check(&mut self) {
        let mut queued = 0;
        let send_window = self.send_window;
        for (_, stream) in self.streams.iter_mut() {
            if let Some(queue) = &stream.queue {
                assert_eq!(
                    queue.size,
                    queue.chunks.iter().map(Bytes::len).sum::<usize>()
                );
                queued += queue.size;
                let could_send = queue.size == 0 || stream.send_window > 0;
                assert!(
                    !could_send || stream.ready,
                    "stream {} forgotten",
                    stream.id
                );
            }
            assert!(stream.receive_window >= 0);
            assert!(!(stream.local_ended && stream.remote_ended && stream.queue.is_none()));
        }
        assert_eq!(queued, self.queued);
        assert!(send_window <= i64::from(frame::U31_MAX));
        assert!(self.receive_window >= 0);
        assert!(self.partial.len() < limits::FRAME_BYTES_MAX + frame::FRAME_HEADER_SIZE);
        assert!(self.ended.len() <= limits::ENDED_STREAMS_REMEMBERED);
        self.decoder.check();
    }
}
