//! Driver. A blocking gRPC client on one TCP connection, for tests and for the slow parts of the
//! harness: one thread, one call after the other, streams read event by event.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::wire::{Answers, Status, Wire, WireError};

const INBOX_START: usize = 256 << 10;

/// Why a call has no answer. A status of the server is an answer, not an error.
#[derive(Debug)]
pub enum SessionError {
    Io(std::io::Error),
    Wire(WireError),
    /// The server closed the connection.
    Closed,
    Timeout,
}

impl std::fmt::Display for SessionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SessionError::Io(error) => error.fmt(f),
            SessionError::Wire(error) => error.fmt(f),
            SessionError::Closed => f.write_str("the server closed the connection"),
            SessionError::Timeout => f.write_str("no answer in time"),
        }
    }
}

impl std::error::Error for SessionError {}

impl From<std::io::Error> for SessionError {
    fn from(error: std::io::Error) -> SessionError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => SessionError::Timeout,
            _ => SessionError::Io(error),
        }
    }
}

impl From<WireError> for SessionError {
    fn from(error: WireError) -> SessionError {
        SessionError::Wire(error)
    }
}

/// A call that stays open; the stream's id.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Call(u32);

/// One thing that happened on an open call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    Message(Vec<u8>),
    Ended(Status),
}

/// The answer of a unary call: its message (empty unless the status is OK) and its status.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    pub status: Status,
    pub message: Vec<u8>,
}

/// One connection, used by one thread. Each wait ends after `timeout`.
#[derive(Debug)]
pub struct Session {
    socket: TcpStream,
    wire: Wire,
    /// Bytes read so far are `inbox[..filled]`; the rest is room.
    inbox: Vec<u8>,
    filled: usize,
    events: Inbox,
    timeout: Duration,
    next_tag: u64,
    /// Tags of the open calls, by stream id.
    tags: Vec<(u32, u64)>,
}

#[derive(Debug, Default)]
struct Inbox(VecDeque<(u64, Event)>);

impl Answers for Inbox {
    fn message(&mut self, tag: u64, body: &[u8]) {
        self.0.push_back((tag, Event::Message(body.to_vec())));
    }

    fn ended(&mut self, tag: u64, status: &Status) {
        self.0.push_back((tag, Event::Ended(status.clone())));
    }
}

impl Session {
    pub fn connect(endpoint: &str, timeout: Duration) -> Result<Session, SessionError> {
        Session::connect_with(endpoint, timeout, &[])
    }

    /// Connects and waits for the server's settings; `metadata` goes with every call.
    pub fn connect_with(
        endpoint: &str,
        timeout: Duration,
        metadata: &[(&str, &str)],
    ) -> Result<Session, SessionError> {
        let address = endpoint
            .to_socket_addrs()?
            .next()
            .ok_or(SessionError::Closed)?;
        let socket = TcpStream::connect_timeout(&address, timeout)?;
        socket.set_nodelay(true)?;
        let mut session = Session {
            socket,
            wire: Wire::new(endpoint, metadata),
            inbox: vec![0; INBOX_START],
            filled: 0,
            events: Inbox::default(),
            timeout,
            next_tag: 0,
            tags: Vec::new(),
        };
        let deadline = Instant::now() + timeout;
        session.flush()?;
        while !session.wire.settled() {
            session.fill(deadline, None::<&mut Inbox>)?;
        }
        session.flush()?;
        Ok(session)
    }

    pub fn unary(&mut self, path: &'static str, request: &[u8]) -> Result<Reply, SessionError> {
        let call = self.open(path, request, true)?;
        let mut message = Vec::new();
        loop {
            match self.next(call, self.timeout)? {
                Event::Message(body) => message = body,
                Event::Ended(status) => return Ok(Reply { status, message }),
            }
        }
    }

    /// All messages of a server stream, and its status.
    pub fn stream(
        &mut self,
        path: &'static str,
        request: &[u8],
    ) -> Result<(Vec<Vec<u8>>, Status), SessionError> {
        let call = self.open(path, request, true)?;
        let mut messages = Vec::new();
        loop {
            match self.next(call, self.timeout)? {
                Event::Message(body) => messages.push(body),
                Event::Ended(status) => return Ok((messages, status)),
            }
        }
    }

    /// Makes one call whose messages go straight to `answers`, without a copy. No other call may be
    /// open.
    pub fn exchange(
        &mut self,
        path: &'static str,
        request: &[u8],
        answers: &mut impl Answers,
    ) -> Result<(), SessionError> {
        assert_eq!(self.wire.open_calls(), 0, "the only call of the connection");
        let deadline = Instant::now() + self.timeout;
        self.wire.call(path, 0, request, true);
        self.flush()?;
        while self.wire.open_calls() > 0 {
            self.fill(deadline, Some(&mut *answers))?;
            self.flush()?;
        }
        Ok(())
    }

    /// Opens a call and sends its first message; with `end`, its last.
    pub fn open(
        &mut self,
        path: &'static str,
        request: &[u8],
        end: bool,
    ) -> Result<Call, SessionError> {
        self.next_tag += 1;
        let id = self.wire.call(path, self.next_tag, request, end);
        self.tags.push((id, self.next_tag));
        self.flush()?;
        Ok(Call(id))
    }

    /// Sends one more message on an open call.
    pub fn send(&mut self, call: Call, message: &[u8]) -> Result<(), SessionError> {
        self.wire.send(call.0, message, false);
        self.flush()
    }

    /// The next event of `call`, waiting at most `timeout`.
    pub fn next(&mut self, call: Call, timeout: Duration) -> Result<Event, SessionError> {
        let slot = self.tags.iter().position(|(id, _)| *id == call.0);
        let slot = slot.ok_or(SessionError::Closed)?;
        let tag = self.tags[slot].1;
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(i) = self.events.0.iter().position(|(t, _)| *t == tag) {
                let (_, event) = self.events.0.remove(i).expect("position is in the queue");
                if matches!(event, Event::Ended(_)) {
                    self.tags.swap_remove(slot);
                }
                return Ok(event);
            }
            self.fill(deadline, None::<&mut Inbox>)?;
            self.flush()?;
        }
    }

    /// Gives up an open call.
    pub fn cancel(&mut self, call: Call) -> Result<(), SessionError> {
        self.wire.reset(call.0);
        if let Some(slot) = self.tags.iter().position(|(id, _)| *id == call.0) {
            let (_, tag) = self.tags.swap_remove(slot);
            self.events.0.retain(|(t, _)| *t != tag);
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), SessionError> {
        // A server that stops reading must not hold a test for ever.
        self.socket.set_write_timeout(Some(self.timeout))?;
        let output = self.wire.output();
        if !output.is_empty() {
            self.socket.write_all(output)?;
            output.clear();
        }
        Ok(())
    }

    fn fill(
        &mut self,
        deadline: Instant,
        answers: Option<&mut impl Answers>,
    ) -> Result<(), SessionError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(SessionError::Timeout);
        }
        self.socket.set_read_timeout(Some(left))?;
        if self.filled == self.inbox.len() {
            self.inbox.resize(self.filled * 2, 0);
        }
        let got = match self.socket.read(&mut self.inbox[self.filled..]) {
            // With a timeout set a stopped and continued process meets this: callers ask again.
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            read => read?,
        };
        if got == 0 {
            return Err(SessionError::Closed);
        }
        self.filled += got;
        let bytes = &self.inbox[..self.filled];
        let used = match answers {
            Some(answers) => self.wire.receive(bytes, answers)?,
            None => self.wire.receive(bytes, &mut self.events)?,
        };
        self.inbox.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(())
    }
}
