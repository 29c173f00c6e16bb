//! Pure. The client's side of one HTTP/2 connection that speaks gRPC: calls and bytes in, bytes and
//! answers out.
//!
//! Call order: `new`; then at any time `call`/`send` (bytes gather in the outbox), `take_output`
//! for what must go to the socket, `receive` with what came from it.
//!
//! Invariants:
//! 1. No DATA is sent past the stream's or the connection's window; what does not fit waits, in
//!    order of its stream.
//! 2. `Answers::ended` is called exactly once for each call, after all its messages.
//! 3. The outbox never holds half a frame.
//!
//! Deliberately absent: priorities, push, trailers of requests, compression of messages.

use std::collections::VecDeque;

use super::hpack::{BadBlock, Decoder, Encoder};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
const WINDOW_DEFAULT: i64 = 65_535;
const WINDOW_MAX: i64 = (1 << 31) - 1;
/// What the server may put into one frame towards us.
const RECEIVE_FRAME_MAX: usize = 1 << 20;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

/// How a call ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Status {
    pub code: u32,
    pub message: String,
}

impl Status {
    pub fn is_ok(&self) -> bool {
        self.code == 0
    }
}

/// What the server did wrong; the connection is of no more use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WireError {
    FrameTooLarge { size: usize },
    BadFrame { kind: u8 },
    BadBlock,
    BadMessage { compressed: bool },
    UnknownStream { id: u32 },
    GoAway { code: u32, text: String },
}

impl std::fmt::Display for WireError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WireError::FrameTooLarge { size } => write!(f, "a frame of {size} bytes"),
            WireError::BadFrame { kind } => write!(f, "a malformed frame of type {kind}"),
            WireError::BadBlock => write!(f, "a malformed header block"),
            WireError::BadMessage { compressed: true } => write!(f, "a compressed message"),
            WireError::BadMessage { compressed: false } => write!(f, "a stream ended in a message"),
            WireError::UnknownStream { id } => write!(f, "a frame for stream {id}, never opened"),
            WireError::GoAway { code, text } => write!(f, "GOAWAY {code} {text:?}"),
        }
    }
}

impl std::error::Error for WireError {}

impl From<BadBlock> for WireError {
    fn from(_: BadBlock) -> WireError {
        WireError::BadBlock
    }
}

/// The one who waits for answers. `tag` is what `call` was given.
pub trait Answers {
    fn message(&mut self, tag: u64, body: &[u8]);
    fn ended(&mut self, tag: u64, status: &Status);
}

#[derive(Debug)]
struct Stream {
    tag: u64,
    send_window: i64,
    /// DATA that waits for a window, and whether the stream ends after it.
    waiting: Vec<u8>,
    waiting_end: bool,
    /// The start of a message whose end has not come yet, gRPC prefix included.
    partial: Vec<u8>,
    received: i64,
}

/// One connection. Owned by one thread.
#[derive(Debug)]
pub struct Wire {
    outbox: Vec<u8>,
    encoder: Encoder,
    decoder: Decoder,
    /// Streams `first_id`, `first_id + 2`, …; `None` is an ended one. The front is never `None`.
    streams: VecDeque<Option<Stream>>,
    first_id: u32,
    open: usize,
    send_window: i64,
    stream_window: i64,
    frame_max: usize,
    concurrent_max: u32,
    received: i64,
    /// A header block whose END_HEADERS has not come: stream, flags, bytes.
    block: Option<(u32, u8, Vec<u8>)>,
    settled: bool,
    ok: Status,
    /// An ended stream's buffer, used again by the next.
    spare: Vec<Vec<u8>>,
}

impl Wire {
    /// A connection to `authority`; `metadata` goes with every call.
    pub fn new(authority: &str, metadata: &[(&str, &str)]) -> Wire {
        let mut outbox = PREFACE.to_vec();
        // ENABLE_PUSH 0, INITIAL_WINDOW_SIZE and MAX_FRAME_SIZE as large as they go.
        let settings = [
            (2u16, 0u32),
            (4, WINDOW_MAX as u32),
            (5, RECEIVE_FRAME_MAX as u32),
        ];
        put_frame(&mut outbox, settings.len() * 6, SETTINGS, 0, 0);
        for (name, value) in settings {
            outbox.extend_from_slice(&name.to_be_bytes());
            outbox.extend_from_slice(&value.to_be_bytes());
        }
        put_frame(&mut outbox, 4, WINDOW_UPDATE, 0, 0);
        outbox.extend_from_slice(&((WINDOW_MAX - WINDOW_DEFAULT) as u32).to_be_bytes());
        Wire {
            outbox,
            encoder: Encoder::new(authority, metadata),
            decoder: Decoder::default(),
            streams: VecDeque::new(),
            first_id: 1,
            open: 0,
            send_window: WINDOW_DEFAULT,
            stream_window: WINDOW_DEFAULT,
            frame_max: 16_384,
            concurrent_max: u32::MAX,
            received: 0,
            block: None,
            settled: false,
            ok: Status::default(),
            spare: Vec::new(),
        }
    }

    /// Whether the server's SETTINGS have come. No call before that.
    pub fn settled(&self) -> bool {
        self.settled
    }

    /// How many calls the server admits at a time.
    pub fn concurrent_max(&self) -> u32 {
        self.concurrent_max
    }

    /// Calls that have not ended.
    pub fn open_calls(&self) -> usize {
        self.open
    }

    /// Opens a call and sends `message` (the protobuf bytes) as its first message. With `end` that
    /// was its last. Returns the stream's id.
    pub fn call(&mut self, path: &'static str, tag: u64, message: &[u8], end: bool) -> u32 {
        let id = self.open_stream(path, tag);
        self.send(id, message, end);
        id
    }

    /// The same for a message that already carries gRPC's five-byte prefix.
    #[inline]
    pub fn call_framed(&mut self, path: &'static str, tag: u64, framed: &[u8]) -> u32 {
        let id = self.open_stream(path, tag);
        self.send_data(id, framed, true);
        id
    }

    /// Sends one more message on an open call.
    pub fn send(&mut self, id: u32, message: &[u8], end: bool) {
        let mut framed = Vec::with_capacity(message.len() + 5);
        framed.push(0);
        framed.extend_from_slice(&(message.len() as u32).to_be_bytes());
        framed.extend_from_slice(message);
        self.send_data(id, &framed, end);
    }

    /// Tells the server that nobody waits for this call any more.
    pub fn reset(&mut self, id: u32) {
        if self.stream(id).is_some() {
            put_frame(&mut self.outbox, 4, RST_STREAM, 0, id);
            self.outbox.extend_from_slice(&8u32.to_be_bytes());
            self.close(id);
        }
    }

    /// Bytes for the socket; the caller takes from the front what the socket took.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.outbox
    }

    /// Reads the whole frames at the start of `bytes` and returns how many bytes they were.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        answers: &mut impl Answers,
    ) -> Result<usize, WireError> {
        let mut rest = bytes;
        while let Some((head, tail)) = rest.split_first_chunk::<FRAME_HEADER>() {
            let size = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
            if size > RECEIVE_FRAME_MAX {
                return Err(WireError::FrameTooLarge { size });
            }
            let Some((payload, next)) = tail.split_at_checked(size) else {
                break;
            };
            let id = u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]);
            self.frame(head[3], head[4], id, payload, answers)?;
            rest = next;
        }
        Ok(bytes.len() - rest.len())
    }

    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        id: u32,
        payload: &[u8],
        answers: &mut impl Answers,
    ) -> Result<(), WireError> {
        let bad = WireError::BadFrame { kind };
        match kind {
            DATA => self.on_data(flags, id, unpadded(payload, flags).ok_or(bad)?, answers),
            HEADERS => {
                let mut block = unpadded(payload, flags).ok_or(bad.clone())?;
                if flags & PRIORITY != 0 {
                    block = block.get(5..).ok_or(bad)?;
                }
                if flags & END_HEADERS != 0 {
                    return self.on_head(flags, id, block, answers);
                }
                self.block = Some((id, flags, block.to_vec()));
                Ok(())
            }
            CONTINUATION => {
                let Some((stream, head_flags, mut block)) = self.block.take() else {
                    return Err(bad);
                };
                if stream != id || block.len() + payload.len() > RECEIVE_FRAME_MAX {
                    return Err(bad);
                }
                block.extend_from_slice(payload);
                if flags & END_HEADERS != 0 {
                    return self.on_head(head_flags, id, &block, answers);
                }
                self.block = Some((id, head_flags, block));
                Ok(())
            }
            RST_STREAM => {
                let code = number(payload).ok_or(bad)?;
                if let Some(tag) = self.close(id) {
                    let message = format!("stream reset by the server, code {code}");
                    answers.ended(tag, &Status { code: 13, message });
                }
                Ok(())
            }
            SETTINGS if flags & ACK == 0 => self.on_settings(payload).ok_or(bad),
            PING if flags & ACK == 0 => {
                put_frame(&mut self.outbox, payload.len(), PING, ACK, 0);
                self.outbox.extend_from_slice(payload);
                Ok(())
            }
            GOAWAY => {
                let code = payload.get(4..).and_then(number).ok_or(bad)?;
                let text = String::from_utf8_lossy(&payload[8..]).into_owned();
                Err(WireError::GoAway { code, text })
            }
            WINDOW_UPDATE => {
                let step = i64::from(number(payload).ok_or(bad)? & 0x7fff_ffff);
                if id == 0 {
                    self.send_window += step;
                    self.flush_waiting();
                } else if let Some(stream) = self.stream(id) {
                    stream.send_window += step;
                    if !stream.waiting.is_empty() {
                        self.flush_waiting();
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_settings(&mut self, payload: &[u8]) -> Option<()> {
        if !payload.len().is_multiple_of(6) {
            return None;
        }
        for setting in payload.chunks_exact(6) {
            let value = number(&setting[2..])?;
            match u16::from_be_bytes([setting[0], setting[1]]) {
                1 if !self.settled => self.encoder.set_table_max(value as usize),
                3 => self.concurrent_max = value,
                4 => {
                    let step = i64::from(value) - self.stream_window;
                    self.stream_window += step;
                    for stream in self.streams.iter_mut().flatten() {
                        stream.send_window += step;
                    }
                }
                5 => self.frame_max = value as usize,
                _ => {}
            }
        }
        self.settled = true;
        put_frame(&mut self.outbox, 0, SETTINGS, ACK, 0);
        self.flush_waiting();
        Some(())
    }

    #[inline]
    fn on_head(
        &mut self,
        flags: u8,
        id: u32,
        block: &[u8],
        answers: &mut impl Answers,
    ) -> Result<(), WireError> {
        let head = self.decoder.read(block)?;
        let end = flags & END_STREAM != 0;
        if !end {
            return Ok(());
        }
        let failed = match head.grpc_status {
            Some(0) => None,
            Some(code) => Some(Status {
                code,
                message: head.grpc_message.clone(),
            }),
            None => {
                let http = head.http_status.unwrap_or(0);
                Some(Status {
                    code: 2,
                    message: format!("no grpc-status, http status {http}"),
                })
            }
        };
        let Some(stream) = self.stream(id) else {
            return Ok(());
        };
        if !stream.partial.is_empty() && failed.is_none() {
            return Err(WireError::BadMessage { compressed: false });
        }
        if let Some(tag) = self.close(id) {
            answers.ended(tag, failed.as_ref().unwrap_or(&self.ok));
        }
        Ok(())
    }

    #[inline]
    fn on_data(
        &mut self,
        flags: u8,
        id: u32,
        data: &[u8],
        answers: &mut impl Answers,
    ) -> Result<(), WireError> {
        self.received += data.len() as i64;
        if self.received > WINDOW_MAX / 4 {
            put_frame(&mut self.outbox, 4, WINDOW_UPDATE, 0, 0);
            self.outbox
                .extend_from_slice(&(self.received as u32).to_be_bytes());
            self.received = 0;
        }
        let first_id = self.first_id;
        let slot = (id.wrapping_sub(first_id) / 2) as usize;
        let Some(Some(stream)) = self.streams.get_mut(slot) else {
            // Data of a call that we reset meanwhile.
            return if id < first_id || slot < self.streams.len() {
                Ok(())
            } else {
                Err(WireError::UnknownStream { id })
            };
        };
        stream.received += data.len() as i64;
        if stream.received > WINDOW_MAX / 4 {
            put_frame(&mut self.outbox, 4, WINDOW_UPDATE, 0, id);
            self.outbox
                .extend_from_slice(&(stream.received as u32).to_be_bytes());
            stream.received = 0;
        }
        let mut rest = data;
        loop {
            if stream.partial.is_empty() {
                // The usual case: the frame holds whole messages.
                let Some((prefix, tail)) = rest.split_first_chunk::<5>() else {
                    stream.partial.extend_from_slice(rest);
                    break;
                };
                let size = message_size(prefix)?;
                if let Some((message, next)) = tail.split_at_checked(size) {
                    answers.message(stream.tag, message);
                    rest = next;
                    continue;
                }
                stream.partial.reserve(size + 5);
                stream.partial.extend_from_slice(rest);
                break;
            }
            if rest.is_empty() {
                break;
            }
            if stream.partial.len() < 5 {
                let (head, tail) = rest.split_at(rest.len().min(5 - stream.partial.len()));
                stream.partial.extend_from_slice(head);
                rest = tail;
            }
            let Some(prefix) = stream.partial.first_chunk::<5>() else {
                break;
            };
            let missing = message_size(prefix)? + 5 - stream.partial.len();
            let (head, tail) = rest.split_at(rest.len().min(missing));
            stream.partial.extend_from_slice(head);
            rest = tail;
            if head.len() == missing {
                answers.message(stream.tag, &stream.partial[5..]);
                stream.partial.clear();
            }
        }
        if flags & END_STREAM != 0
            && let Some(tag) = self.close(id)
        {
            let message = "the stream ended without a status".to_string();
            answers.ended(tag, &Status { code: 2, message });
        }
        Ok(())
    }

    #[inline]
    fn open_stream(&mut self, path: &'static str, tag: u64) -> u32 {
        debug_assert!(self.settled, "no call before the server's settings");
        let id = self.first_id + 2 * self.streams.len() as u32;
        assert!(id < 1 << 31, "a connection's stream numbers are used up");
        self.streams.push_back(Some(Stream {
            tag,
            send_window: self.stream_window,
            waiting: Vec::new(),
            waiting_end: false,
            partial: self.spare.pop().unwrap_or_default(),
            received: 0,
        }));
        self.open += 1;
        let start = self.outbox.len();
        put_frame(&mut self.outbox, 0, HEADERS, END_HEADERS, id);
        self.encoder.append(path, &mut self.outbox);
        let size = self.outbox.len() - start - FRAME_HEADER;
        self.outbox[start..start + 3].copy_from_slice(&(size as u32).to_be_bytes()[1..]);
        id
    }

    #[inline]
    fn send_data(&mut self, id: u32, data: &[u8], end: bool) {
        let (frame_max, connection_window) = (self.frame_max, self.send_window);
        let Some(stream) = self.stream(id) else {
            return;
        };
        let size = data.len() as i64;
        if stream.waiting.is_empty()
            && size <= stream.send_window
            && size <= connection_window
            && data.len() <= frame_max
        {
            stream.send_window -= size;
            self.send_window -= size;
            put_frame(&mut self.outbox, data.len(), DATA, u8::from(end), id);
            self.outbox.extend_from_slice(data);
            return;
        }
        stream.waiting.extend_from_slice(data);
        stream.waiting_end = end;
        self.flush_waiting();
    }

    fn flush_waiting(&mut self) {
        for (i, stream) in self.streams.iter_mut().enumerate() {
            let Some(stream) = stream else { continue };
            let mut sent = 0;
            while sent < stream.waiting.len() {
                let window = stream.send_window.min(self.send_window).max(0) as usize;
                let size = (stream.waiting.len() - sent)
                    .min(window)
                    .min(self.frame_max);
                if size == 0 {
                    break;
                }
                let last = sent + size == stream.waiting.len() && stream.waiting_end;
                let id = self.first_id + 2 * i as u32;
                put_frame(&mut self.outbox, size, DATA, u8::from(last), id);
                self.outbox
                    .extend_from_slice(&stream.waiting[sent..sent + size]);
                stream.send_window -= size as i64;
                self.send_window -= size as i64;
                sent += size;
            }
            if sent > 0 {
                stream.waiting.drain(..sent);
            }
        }
    }

    #[inline]
    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let slot = id.checked_sub(self.first_id)? / 2;
        self.streams.get_mut(slot as usize)?.as_mut()
    }

    #[inline]
    fn close(&mut self, id: u32) -> Option<u64> {
        let slot = id.checked_sub(self.first_id)? / 2;
        let stream = self.streams.get_mut(slot as usize)?.take()?;
        self.open -= 1;
        if stream.partial.capacity() > 0 && self.spare.len() < 16 {
            let mut partial = stream.partial;
            partial.clear();
            self.spare.push(partial);
        }
        while let Some(None) = self.streams.front() {
            self.streams.pop_front();
            self.first_id += 2;
        }
        Some(stream.tag)
    }
}

#[inline]
fn put_frame(out: &mut Vec<u8>, size: usize, kind: u8, flags: u8, id: u32) {
    let size = (size as u32).to_be_bytes();
    let id = id.to_be_bytes();
    out.extend_from_slice(&[
        size[1], size[2], size[3], kind, flags, id[0], id[1], id[2], id[3],
    ]);
}

fn number(bytes: &[u8]) -> Option<u32> {
    bytes.first_chunk::<4>().map(|b| u32::from_be_bytes(*b))
}

fn message_size(prefix: &[u8; 5]) -> Result<usize, WireError> {
    if prefix[0] != 0 {
        return Err(WireError::BadMessage { compressed: true });
    }
    Ok(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize)
}

#[inline]
fn unpadded(payload: &[u8], flags: u8) -> Option<&[u8]> {
    if flags & PADDED == 0 {
        return Some(payload);
    }
    let (&padding, rest) = payload.split_first()?;
    rest.get(..rest.len().checked_sub(usize::from(padding))?)
}

#[cfg(test)]
mod tests;
