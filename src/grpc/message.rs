//! Pure. Length-prefixed messages: a flag, four bytes of size, the message.

use super::status::{Code, Status};
use crate::limits::http2::ASSEMBLY_BYTES_FIRST;
use bytes::{Buf, Bytes};
use std::fmt;

/// Bytes before each message.
pub const MESSAGE_PREFIX_SIZE: usize = 5;

/// Why a message is not taken. The call ends with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageError {
    TooLarge {
        size: usize,
        max: usize,
    },
    Compressed,
    Flag {
        got: u8,
    },
    /// The peer half-closed inside a message, or inside its prefix.
    Truncated {
        in_prefix: bool,
    },
    /// All calls of the connection together hold too much of unfinished messages.
    Assembly {
        max: usize,
    },
}

impl MessageError {
    pub fn code(&self) -> Code {
        match self {
            MessageError::TooLarge { .. } | MessageError::Assembly { .. } => {
                Code::ResourceExhausted
            }
            MessageError::Compressed | MessageError::Flag { .. } => Code::Internal,
            // grpc-go hands out its reader's own error, which has no code.
            MessageError::Truncated { .. } => Code::Unknown,
        }
    }

    pub fn status(&self) -> Status {
        Status::new(self.code(), self.to_string())
    }
}

impl fmt::Display for MessageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MessageError::TooLarge { size, max } => {
                write!(
                    f,
                    "grpc: received message larger than max ({size} vs. {max})"
                )
            }
            MessageError::Compressed => {
                f.write_str("grpc: compressed flag set with identity or empty encoding")
            }
            MessageError::Flag { got } => {
                write!(f, "grpc: received unexpected payload format {got}")
            }
            MessageError::Truncated { in_prefix: true } => f.write_str("EOF"),
            MessageError::Truncated { in_prefix: false } => f.write_str("unexpected EOF"),
            MessageError::Assembly { max } => {
                write!(
                    f,
                    "ringbolt: unfinished messages of the connection exceed {max} bytes"
                )
            }
        }
    }
}

impl std::error::Error for MessageError {}

/// Cuts a stream of DATA into messages. One per direction of a call; empty it costs a pointer.
#[derive(Default, Debug)]
pub struct MessageReader {
    partial: Option<Box<Partial>>,
}

/// A message that has not arrived whole.
#[derive(Default, Debug)]
struct Partial {
    prefix: [u8; MESSAGE_PREFIX_SIZE],
    prefix_size: usize,
    body: Vec<u8>,
    /// What the prefix says; `body.len() < size` once the prefix is whole.
    size: usize,
}

impl MessageReader {
    /// Bytes that the unfinished message takes, also for what is still to come.
    pub fn held_bytes(&self) -> usize {
        self.partial
            .as_ref()
            .map_or(0, |partial| partial.body.capacity())
    }

    /// What an end of the stream would cut off.
    pub fn cut(&self) -> Option<MessageError> {
        let partial = self.partial.as_ref()?;
        let in_prefix = partial.prefix_size < MESSAGE_PREFIX_SIZE;
        Some(MessageError::Truncated { in_prefix })
    }

    /// Takes bytes off `input` up to the end of one message, and gives that message; `None` when
    /// all of `input` was taken and the message is not whole. A message that lies in `input` as a
    /// whole is not copied.
    #[inline]
    pub fn take(&mut self, input: &mut Bytes, max: usize) -> Result<Option<Bytes>, MessageError> {
        if self.partial.is_none()
            && let Some(prefix) = input.first_chunk()
        {
            let size = parse_prefix(prefix, max)?;
            if input.len() - MESSAGE_PREFIX_SIZE >= size {
                input.advance(MESSAGE_PREFIX_SIZE);
                if input.len() == size {
                    return Ok(Some(std::mem::take(input)));
                }
                return Ok(Some(input.split_to(size)));
            }
        }
        self.take_slow(input, max)
    }

    fn take_slow(&mut self, input: &mut Bytes, max: usize) -> Result<Option<Bytes>, MessageError> {
        if input.is_empty() {
            return Ok(None);
        }
        let partial = self.partial.get_or_insert_default();
        if partial.prefix_size < MESSAGE_PREFIX_SIZE {
            let count = input.len().min(MESSAGE_PREFIX_SIZE - partial.prefix_size);
            let place = &mut partial.prefix[partial.prefix_size..][..count];
            place.copy_from_slice(&input[..count]);
            partial.prefix_size += count;
            input.advance(count);
            if partial.prefix_size < MESSAGE_PREFIX_SIZE {
                return Ok(None);
            }
            partial.size = parse_prefix(&partial.prefix, max)?;
            partial.body = Vec::with_capacity(partial.size.min(ASSEMBLY_BYTES_FIRST));
        }
        let count = input.len().min(partial.size - partial.body.len());
        if partial.body.capacity() - partial.body.len() < count {
            // Grow by doubling, but not past the end.
            let room = (partial.body.len() * 2)
                .max(count + partial.body.len())
                .min(partial.size);
            partial.body.reserve_exact(room - partial.body.len());
        }
        partial.body.extend_from_slice(&input[..count]);
        input.advance(count);
        if partial.body.len() < partial.size {
            return Ok(None);
        }
        let body = std::mem::take(&mut partial.body);
        self.partial = None;
        Ok(Some(body.into()))
    }
}

#[inline]
fn parse_prefix(prefix: &[u8; MESSAGE_PREFIX_SIZE], max: usize) -> Result<usize, MessageError> {
    let [flag, size @ ..] = prefix;
    match flag {
        0 => {}
        1 => return Err(MessageError::Compressed),
        _ => return Err(MessageError::Flag { got: *flag }),
    }
    let size = u32::from_be_bytes(*size) as usize;
    if size > max {
        return Err(MessageError::TooLarge { size, max });
    }
    Ok(size)
}

/// The five bytes before a message of `size` bytes. gRPC cannot say more than 32 bits.
#[inline]
pub fn message_prefix(size: usize) -> [u8; MESSAGE_PREFIX_SIZE] {
    let size = u32::try_from(size)
        .expect("a message is smaller than 4 GiB")
        .to_be_bytes();
    [0, size[0], size[1], size[2], size[3]]
}
