//! Pure. One HTTP/1 connection: requests in turn, answers in turn.

use super::chunked::ChunkReader;
use super::parse::{BodySize, RequestError, RequestHead, head_size, parse_head};
use super::request::{Request, reason};
use crate::limits::http2::{HTTP1_HEAD_BYTES_MAX, OUTPUT_BYTES_MAX, PLAIN_BODY_BYTES_MAX};
use bytes::Bytes;
use std::io::Write;

/// Where the connection stands.
enum State {
    /// Waiting for a whole head.
    Head,
    /// Waiting for a body.
    Body {
        head: Box<RequestHead>,
        chunks: Option<Box<ChunkReader>>,
    },
    /// A request was handed out: its answer is due.
    Answer,
    /// An answer of unknown size has begun.
    Stream { chunked: bool },
    /// Nothing is read any more.
    Closed,
}

/// One per client connection; lives on one core.
pub struct Connection {
    state: State,
    /// Received and not yet used.
    input: Vec<u8>,
    /// Bytes of `input` known to hold no end of a head.
    searched: usize,
    out: Vec<u8>,
    /// Of the request under way.
    keep_alive: bool,
    http11: bool,
    is_head: bool,
}

impl Default for Connection {
    fn default() -> Connection {
        Connection::new()
    }
}

impl Connection {
    pub fn new() -> Connection {
        Connection {
            state: State::Head,
            input: Vec::new(),
            searched: 0,
            out: Vec::new(),
            keep_alive: true,
            http11: true,
            is_head: false,
        }
    }

    /// Takes bytes from the socket, all of them.
    pub fn receive(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Closed) {
            self.input.extend_from_slice(bytes);
        }
    }

    /// The next whole request. What is no request is answered here and closes the connection.
    pub fn poll_request(&mut self) -> Option<Request> {
        loop {
            let result = match &self.state {
                State::Head => self.read_head(),
                State::Body { .. } => self.read_body(),
                State::Answer | State::Stream { .. } | State::Closed => return None,
            };
            match result {
                Ok(Progress::Request(request)) => return Some(request),
                Ok(Progress::More) => {}
                Ok(Progress::Wait) => return None,
                Err(error) => self.refuse(error),
            }
        }
    }

    /// Answers the request whole. A HEAD request is told the body's size only.
    pub fn respond(&mut self, status: u16, fields: &[(&str, &str)], body: &[u8]) {
        if !matches!(self.state, State::Answer) {
            return;
        }
        // Requests in a row are answered before the first answer is sent: a few bytes each, while
        // their answers may be large. The client asks again for what follows the last one.
        let waiting = self.out.len();
        self.keep_alive &= waiting == 0 || waiting + body.len() < OUTPUT_BYTES_MAX;
        self.put_head(status, fields);
        if status != 204 && status != 304 {
            self.put_line(format_args!("Content-Length: {}", body.len()));
        }
        self.out.extend_from_slice(b"\r\n");
        if !self.is_head && status != 204 && status != 304 {
            self.out.extend_from_slice(body);
        }
        self.next_request();
    }

    /// Begins an answer of unknown size.
    pub fn start(&mut self, status: u16, fields: &[(&str, &str)]) {
        if !matches!(self.state, State::Answer) {
            return;
        }
        // Without chunks only the connection's end can end the body.
        let chunked = self.http11;
        self.keep_alive &= chunked;
        self.put_head(status, fields);
        if chunked {
            self.out
                .extend_from_slice(b"Transfer-Encoding: chunked\r\n");
        }
        self.out.extend_from_slice(b"\r\n");
        self.state = State::Stream { chunked };
    }

    /// A piece of the begun answer. `false`: send the output first, or the answer is over.
    pub fn part(&mut self, bytes: &[u8]) -> bool {
        let State::Stream { chunked } = self.state else {
            return false;
        };
        // An empty chunk would end the body.
        if !bytes.is_empty() && !self.is_head {
            if chunked {
                self.put_line(format_args!("{:x}", bytes.len()));
            }
            self.out.extend_from_slice(bytes);
            if chunked {
                self.out.extend_from_slice(b"\r\n");
            }
        }
        self.out.len() < OUTPUT_BYTES_MAX
    }

    /// Ends the begun answer.
    pub fn end(&mut self) {
        let State::Stream { chunked } = self.state else {
            return;
        };
        if chunked && !self.is_head {
            self.out.extend_from_slice(b"0\r\n\r\n");
        }
        self.next_request();
    }

    /// Gives up on the begun answer: the peer must see that it is not whole.
    pub fn abort(&mut self) {
        self.close();
    }

    /// Bytes for the socket; the caller takes or drains them.
    pub fn output(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Whether the driver should go on receiving: not while requests wait behind an answer.
    pub fn wants_read(&self) -> bool {
        match self.state {
            State::Head | State::Body { .. } => self.out.len() < OUTPUT_BYTES_MAX,
            State::Answer | State::Stream { .. } => self.input.len() <= HTTP1_HEAD_BYTES_MAX,
            State::Closed => false,
        }
    }

    /// Close once the output is sent.
    pub fn is_closing(&self) -> bool {
        matches!(self.state, State::Closed)
    }

    /// No request is under way and none has begun.
    pub fn is_idle(&self) -> bool {
        matches!(self.state, State::Head) && self.input.is_empty() && self.out.is_empty()
    }

    /// After the answer under way no further request is taken.
    pub fn drain(&mut self) {
        self.keep_alive = false;
        if matches!(self.state, State::Head) && self.input.is_empty() {
            self.close();
        }
    }

    fn read_head(&mut self) -> Result<Progress, RequestError> {
        // Empty lines before a request are skipped (RFC 9112, 2.2).
        let blank = self
            .input
            .iter()
            .take_while(|b| matches!(b, b'\r' | b'\n'))
            .count();
        if blank > 0 {
            self.input.drain(..blank);
            self.searched = 0;
        }
        let Some(size) = head_size(&self.input, self.searched)? else {
            self.searched = self.input.len();
            return Ok(Progress::Wait);
        };
        let head = parse_head(&self.input[..size])?;
        self.input.drain(..size);
        self.searched = 0;
        self.keep_alive &= head.keep_alive;
        self.http11 = head.http11;
        self.is_head = head.method == "HEAD";
        if head.expects_continue && head.http11 && self.input.is_empty() {
            self.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        let chunks = (head.body == BodySize::Chunked).then(|| Box::new(ChunkReader::new()));
        self.state = State::Body {
            head: Box::new(head),
            chunks,
        };
        Ok(Progress::More)
    }

    fn read_body(&mut self) -> Result<Progress, RequestError> {
        let State::Body { head, chunks } = &mut self.state else {
            return Ok(Progress::Wait);
        };
        let body = match chunks {
            Some(reader) => {
                let count = reader.receive(&self.input)?;
                self.input.drain(..count);
                if !reader.is_done() {
                    return Ok(Progress::Wait);
                }
                let reader = std::mem::replace(&mut **reader, ChunkReader::new());
                Bytes::from(reader.into_body())
            }
            None => {
                let BodySize::Known(size) = head.body else {
                    return Ok(Progress::Wait);
                };
                debug_assert!(size <= PLAIN_BODY_BYTES_MAX);
                if self.input.len() < size {
                    return Ok(Progress::Wait);
                }
                let rest = self.input.split_off(size);
                Bytes::from(std::mem::replace(&mut self.input, rest))
            }
        };
        let headers = std::mem::take(&mut head.headers);
        let request = Request::new(&head.method, &head.target, headers, body);
        self.state = State::Answer;
        Ok(Progress::Request(request))
    }

    fn refuse(&mut self, error: RequestError) {
        self.state = State::Answer;
        self.keep_alive = false;
        self.is_head = false;
        let status = error.status();
        let body = format!("{} {}: {error}\n", status, reason(status));
        self.respond(
            status,
            &[("Content-Type", "text/plain; charset=utf-8")],
            body.as_bytes(),
        );
    }

    fn put_head(&mut self, status: u16, fields: &[(&str, &str)]) {
        self.put_line(format_args!("HTTP/1.1 {status} {}", reason(status)));
        for (name, value) in fields {
            // A line end would let a value write headers of its own.
            assert!(!value.contains(['\r', '\n']) && !name.contains(['\r', '\n', ':']));
            self.put_line(format_args!("{name}: {value}"));
        }
        if !self.keep_alive {
            self.out.extend_from_slice(b"Connection: close\r\n");
        } else if !self.http11 {
            self.out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
    }

    fn put_line(&mut self, line: std::fmt::Arguments<'_>) {
        self.out
            .write_fmt(line)
            .expect("writing to a Vec does not fail");
        self.out.extend_from_slice(b"\r\n");
    }

    fn next_request(&mut self) {
        if self.keep_alive {
            self.state = State::Head;
        } else {
            self.close();
        }
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.input = Vec::new();
    }
}

/// What a step of reading gave.
enum Progress {
    Request(Request),
    More,
    Wait,
}
