//! Driver. A connection that writes whatever it is told and reads frames.

use std::collections::{BTreeMap, VecDeque};
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use httlib_hpack::Decoder;
use libtest_mimic::Failed;

/// How long a server may take for anything at all before the test gives up. Decides nothing else.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const PRIORITY: u8 = 2;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const ACK: u8 = 1;
pub const END_HEADERS: u8 = 4;

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What a ping carries whose answer is waited for.
const SIGN: &[u8] = b"settled?";

/// RFC 9113, section 7.
pub const PROTOCOL_ERROR: u32 = 1;
pub const FLOW_CONTROL_ERROR: u32 = 3;
pub const STREAM_CLOSED: u32 = 5;
pub const FRAME_SIZE_ERROR: u32 = 6;
pub const REFUSED_STREAM: u32 = 7;
pub const CANCEL: u32 = 8;
pub const COMPRESSION_ERROR: u32 = 9;
pub const ENHANCE_YOUR_CALM: u32 = 11;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    let stream = stream.to_be_bytes();
    [&size[1..], &[kind, flags], &stream, payload].concat()
}

/// A SETTINGS frame.
pub fn settings(entries: &[(u16, u32)]) -> Vec<u8> {
    let mut payload = Vec::new();
    for (id, value) in entries {
        payload.extend_from_slice(&id.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    frame(SETTINGS, 0, 0, &payload)
}

/// A field as a literal that no table keeps.
pub fn field(block: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    block.push(0);
    string(block, name);
    string(block, value);
}

/// A plain string of HPACK.
pub fn string(block: &mut Vec<u8>, text: &[u8]) {
    if text.len() < 127 {
        block.push(text.len() as u8);
    } else {
        block.push(127);
        let mut left = text.len() - 127;
        while left >= 128 {
            block.push(left as u8 | 0x80);
            left >>= 7;
        }
        block.push(left as u8);
    }
    block.extend_from_slice(text);
}

/// The fields of a call, each beginning a request right away; `more` come behind.
pub fn call_block(path: &[u8], more: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in [
        (&b":method"[..], &b"POST"[..]),
        (b":scheme", b"http"),
        (b":path", path),
        (b":authority", b"localhost"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    ] {
        // What comes behind replaces what a call has.
        if !more.iter().any(|(other, _)| *other == name) {
            field(&mut block, name, value);
        }
    }
    // Pseudo-fields stay in front.
    let (pseudo, rest): (Vec<_>, Vec<_>) = more.iter().partition(|(name, _)| name[0] == b':');
    let mut whole = Vec::new();
    for (name, value) in pseudo {
        field(&mut whole, name, value);
    }
    whole.extend_from_slice(&block);
    for (name, value) in rest {
        field(&mut whole, name, value);
    }
    whole
}

/// A gRPC message with its prefix.
pub fn grpc(body: &[u8]) -> Vec<u8> {
    [&[0][..], &(body.len() as u32).to_be_bytes(), body].concat()
}

#[derive(Clone, Debug)]
pub struct Frame {
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

impl Frame {
    /// The number that begins the payload.
    pub fn number(&self) -> u32 {
        let first = self.payload.first_chunk();
        first.map_or(0, |bytes| u32::from_be_bytes(*bytes))
    }
}

/// What a connection said, and how it ended: the code of its GOAWAY and the debug data behind it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    pub goaway: Option<(u32, String)>,
    /// Streams that were reset, by code.
    pub resets: BTreeMap<u32, usize>,
    /// Streams that ended by a header block.
    pub answers: usize,
    /// Answers to pings.
    pub pongs: usize,
    pub frames: usize,
}

/// How a call was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    pub http_status: String,
    pub grpc_status: String,
    pub grpc_message: String,
    pub content_type: String,
    pub data: Vec<u8>,
    pub reset: Option<u32>,
    pub goaway: Option<u32>,
}

/// A client that keeps no rules.
pub struct Raw {
    socket: TcpStream,
    inbox: Vec<u8>,
    /// Frames that were read and not asked for yet.
    kept: VecDeque<Frame>,
    decoder: Decoder<'static>,
}

impl Raw {
    pub fn connect(endpoint: &str) -> Result<Raw, Failed> {
        let socket = TcpStream::connect(endpoint)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Raw {
            socket,
            inbox: Vec::new(),
            kept: VecDeque::new(),
            decoder: Decoder::default(),
        })
    }

    /// A connection that has said what an HTTP/2 client says first.
    pub fn http2(endpoint: &str, entries: &[(u16, u32)]) -> Result<Raw, Failed> {
        let mut raw = Raw::connect(endpoint)?;
        raw.send(&[PREFACE, &settings(entries)].concat());
        Ok(raw)
    }

    /// Another hold on the same socket.
    pub fn again(&self) -> Result<Raw, Failed> {
        Ok(Raw {
            socket: self.socket.try_clone()?,
            inbox: Vec::new(),
            kept: VecDeque::new(),
            decoder: Decoder::default(),
        })
    }

    /// Whether all of it was taken; not, when the server has ended the connection.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        self.socket.write_all(bytes).is_ok()
    }

    /// How long a send may wait for the server to read.
    pub fn write_patience(&self, patience: Duration) -> Result<(), Failed> {
        Ok(self.socket.set_write_timeout(Some(patience))?)
    }

    pub fn half_close(&self) {
        // An error means that there is no connection, which is as good.
        let _ = self.socket.shutdown(Shutdown::Write);
    }

    /// More bytes from the server: how many, 0 at its end however it came.
    fn fill(&mut self) -> Result<usize, Failed> {
        let mut buffer = [0; 16 << 10];
        let count = match self.socket.read(&mut buffer) {
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return Err("the server neither answers nor ends the connection".into());
            }
            Err(_) => 0,
        };
        self.inbox.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// Sends the body of stream 1 as the server's windows admit it; stops at a reset.
    pub fn send_body(&mut self, body: &[u8], end: bool) -> Result<(), Failed> {
        let (mut connection, mut stream, mut initial) = (65_535i64, 65_535i64, 65_535i64);
        let mut kept = Vec::new();
        let mut parts = body.chunks(16_000).peekable();
        while let Some(part) = parts.next() {
            while connection.min(stream) < part.len() as i64 {
                let Some(frame) = self.frame()? else { break };
                match frame.kind {
                    WINDOW_UPDATE if frame.stream == 0 => connection += i64::from(frame.number()),
                    WINDOW_UPDATE => stream += i64::from(frame.number()),
                    SETTINGS => {
                        let found = frame.payload.chunks(6).find(|entry| entry[..2] == [0, 4]);
                        if let Some([_, _, value @ ..]) = found {
                            let value = value.iter().fold(0, |v, b| v << 8 | i64::from(*b));
                            stream += value - initial;
                            initial = value;
                        }
                    }
                    _ => kept.push(frame),
                }
                if kept.last().is_some_and(|frame| frame.kind == RST_STREAM) {
                    self.kept.extend(kept);
                    return Ok(());
                }
            }
            connection -= part.len() as i64;
            stream -= part.len() as i64;
            let last = end && parts.peek().is_none();
            let flags = if last { END_STREAM } else { 0 };
            self.send(&frame(DATA, flags, 1, part));
        }
        if body.is_empty() && end {
            self.send(&frame(DATA, END_STREAM, 1, b""));
        }
        self.kept.extend(kept);
        Ok(())
    }

    /// Waits for the first bytes of an answer.
    pub fn first_byte(&mut self) -> Result<(), Failed> {
        match self.fill()? {
            0 => Err("the connection ended without an answer".into()),
            _ => Ok(()),
        }
    }

    /// All that comes until the server ends the connection.
    pub fn until_end(&mut self) -> Result<Vec<u8>, Failed> {
        while self.fill()? > 0 {}
        Ok(std::mem::take(&mut self.inbox))
    }

    /// The next frame; `None` at the end of the connection.
    pub fn frame(&mut self) -> Result<Option<Frame>, Failed> {
        if let Some(frame) = self.kept.pop_front() {
            return Ok(Some(frame));
        }
        loop {
            if let Some((first, rest)) = self.inbox.split_first_chunk::<9>() {
                let [a, b, c, kind, flags, stream @ ..] = *first;
                let size = u32::from_be_bytes([0, a, b, c]) as usize;
                if rest.len() >= size {
                    let frame = Frame {
                        kind,
                        flags,
                        stream: u32::from_be_bytes(stream),
                        payload: rest[..size].to_vec(),
                    };
                    self.inbox.drain(..9 + size);
                    return Ok(Some(frame));
                }
            }
            if self.fill()? == 0 {
                return Ok(None);
            }
        }
    }

    /// The next frame of a kind; what comes before it is dropped.
    pub fn frame_of(&mut self, kind: u8) -> Result<Frame, Failed> {
        loop {
            match self.frame()? {
                Some(frame) if frame.kind == kind => return Ok(frame),
                Some(_) => {}
                None => return Err(format!("the connection ended before frame {kind}").into()),
            }
        }
    }

    /// Asks for a sign that the server has taken all that was sent so far.
    pub fn ask(&mut self) -> bool {
        self.send(&frame(PING, 0, 0, SIGN))
    }

    /// Reads until that sign.
    pub fn settled(&mut self) -> Result<Ended, Failed> {
        let seen = self.read_on(|frame| frame.kind == PING && frame.payload == SIGN)?;
        match seen.pongs {
            0 => Err(format!("the connection ended: {seen:?}").into()),
            _ => Ok(seen),
        }
    }

    /// Reads until the connection ends.
    pub fn ended(&mut self) -> Result<Ended, Failed> {
        self.read_on(|_| false)
    }

    fn read_on(&mut self, last: impl Fn(&Frame) -> bool) -> Result<Ended, Failed> {
        let mut ended = Ended::default();
        while let Some(frame) = self.frame()? {
            ended.frames += 1;
            match frame.kind {
                GOAWAY => {
                    let code = frame.payload.get(4..8).and_then(<[u8]>::first_chunk);
                    let code = code.map_or(u32::MAX, |code| u32::from_be_bytes(*code));
                    let debug = frame.payload.get(8..).unwrap_or_default();
                    ended.goaway = Some((code, String::from_utf8_lossy(debug).into_owned()));
                }
                PING => ended.pongs += 1,
                RST_STREAM => *ended.resets.entry(frame.number()).or_default() += 1,
                HEADERS if frame.flags & END_STREAM != 0 => ended.answers += 1,
                _ => {}
            }
            if last(&frame) {
                break;
            }
        }
        Ok(ended)
    }

    /// Reads until a stream is over.
    pub fn answer(&mut self, stream: u32) -> Result<Answered, Failed> {
        let mut answered = Answered::default();
        loop {
            let Some(frame) = self.frame()? else {
                return Ok(answered);
            };
            match frame.kind {
                GOAWAY => {
                    let code = frame.payload.get(4..8).and_then(<[u8]>::first_chunk);
                    answered.goaway = code.map(|code| u32::from_be_bytes(*code));
                }
                HEADERS => {
                    let mut list = Vec::new();
                    self.decoder
                        .decode(&mut frame.payload.clone(), &mut list)
                        .map_err(|error| format!("a header block of the server: {error:?}"))?;
                    for (name, value, _) in list.into_iter().filter(|_| frame.stream == stream) {
                        let value = String::from_utf8_lossy(&value).into_owned();
                        match &name[..] {
                            b":status" => answered.http_status = value,
                            b"grpc-status" => answered.grpc_status = value,
                            b"grpc-message" => answered.grpc_message = value,
                            b"content-type" => answered.content_type = value,
                            _ => {}
                        }
                    }
                }
                DATA if frame.stream == stream => answered.data.extend(&frame.payload),
                RST_STREAM if frame.stream == stream => {
                    answered.reset = Some(frame.number());
                    return Ok(answered);
                }
                _ => {}
            }
            let ends = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
            if ends && frame.stream == stream {
                return Ok(answered);
            }
        }
    }
}
