//! Pure. A body in chunks.

use super::parse::RequestError;
use crate::limits::http2::{HTTP1_CHUNK_LINE_BYTES_MAX, PLAIN_BODY_BYTES_MAX};

/// Where the reader stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    /// In the line that says a chunk's size.
    Size,
    /// In a chunk; this many bytes are left.
    Bytes(usize),
    /// At the line end behind a chunk.
    Gap,
    /// In the trailers; they are dropped.
    Trailers,
    Done,
}

/// Reads one body. One per request.
#[derive(Debug)]
pub struct ChunkReader {
    state: State,
    /// The line so far, without its end.
    line: Vec<u8>,
    /// Bytes of all trailers so far.
    trailer_bytes: usize,
    body: Vec<u8>,
}

impl ChunkReader {
    pub fn new() -> ChunkReader {
        ChunkReader {
            state: State::Size,
            line: Vec::new(),
            trailer_bytes: 0,
            body: Vec::new(),
        }
    }

    /// Takes bytes; gives how many. The body is whole when it takes fewer than it was given, or
    /// `is_done`.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<usize, RequestError> {
        let mut rest = bytes;
        while self.state != State::Done && !rest.is_empty() {
            if let State::Bytes(left) = self.state {
                let count = left.min(rest.len());
                self.body.extend_from_slice(&rest[..count]);
                rest = &rest[count..];
                self.state = if count == left {
                    State::Gap
                } else {
                    State::Bytes(left - count)
                };
                continue;
            }
            let end = rest.iter().position(|&b| b == b'\n');
            let (part, tail) = rest.split_at(end.map_or(rest.len(), |end| end + 1));
            rest = tail;
            self.line.extend_from_slice(part);
            if self.line.len() > HTTP1_CHUNK_LINE_BYTES_MAX {
                return Err(RequestError::Chunk);
            }
            if end.is_some() {
                self.line_complete()?;
                self.line.clear();
            }
        }
        Ok(bytes.len() - rest.len())
    }

    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    pub fn into_body(self) -> Vec<u8> {
        self.body
    }

    fn line_complete(&mut self) -> Result<(), RequestError> {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.state {
            State::Size => {
                let size = parse_size(line)?;
                let max = PLAIN_BODY_BYTES_MAX;
                if self.body.len() + size > max {
                    return Err(RequestError::BodyTooLarge { max });
                }
                self.state = if size == 0 {
                    State::Trailers
                } else {
                    State::Bytes(size)
                };
            }
            State::Gap if line.is_empty() => self.state = State::Size,
            State::Gap => return Err(RequestError::Chunk),
            State::Trailers if line.is_empty() => self.state = State::Done,
            State::Trailers => {
                self.trailer_bytes += line.len();
                if self.trailer_bytes > HTTP1_CHUNK_LINE_BYTES_MAX {
                    return Err(RequestError::Chunk);
                }
            }
            State::Bytes(_) | State::Done => unreachable!("no lines are read there"),
        }
        Ok(())
    }
}

/// A hexadecimal size; extensions behind a semicolon are dropped.
fn parse_size(line: &[u8]) -> Result<usize, RequestError> {
    let digits = line
        .split(|&b| b == b';')
        .next()
        .unwrap_or(line)
        .trim_ascii_end();
    if digits.is_empty() || digits.len() > 8 {
        return Err(RequestError::Chunk);
    }
    digits.iter().try_fold(0, |size, &b| {
        let digit = char::from(b).to_digit(16).ok_or(RequestError::Chunk)?;
        Ok(size << 4 | digit as usize)
    })
}
