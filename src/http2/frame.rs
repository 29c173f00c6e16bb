//! Pure. The bytes of HTTP/2 frames: nine bytes of header, then the payload.

/// What a client sends before its first frame.
pub const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Bytes before each payload.
pub const FRAME_HEADER_SIZE: usize = 9;

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

pub const FLAG_ACK: u8 = 0x1;
pub const FLAG_END_STREAM: u8 = 0x1;
pub const FLAG_END_HEADERS: u8 = 0x4;
pub const FLAG_PADDED: u8 = 0x8;
pub const FLAG_PRIORITY: u8 = 0x20;

/// The largest window and the largest stream id.
pub const U31_MAX: u32 = 0x7fff_ffff;

/// The payload size that every peer takes before SETTINGS say otherwise.
pub const PAYLOAD_SIZE_DEFAULT: usize = 16_384;

/// The window that every stream and connection begins with before SETTINGS say otherwise.
pub const WINDOW_DEFAULT: u32 = 65_535;

/// A frame's first nine bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    pub size: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl FrameHeader {
    #[inline]
    pub fn parse(bytes: &[u8; FRAME_HEADER_SIZE]) -> FrameHeader {
        FrameHeader {
            size: usize::from(bytes[0]) << 16 | usize::from(bytes[1]) << 8 | usize::from(bytes[2]),
            kind: bytes[3],
            flags: bytes[4],
            stream: u32::from_be_bytes([bytes[5], bytes[6], bytes[7], bytes[8]]) & U31_MAX,
        }
    }

    #[inline]
    pub fn encode(&self) -> [u8; FRAME_HEADER_SIZE] {
        debug_assert!(self.size < 1 << 24);
        let size = (self.size as u32).to_be_bytes();
        let stream = self.stream.to_be_bytes();
        [
            size[1], size[2], size[3], self.kind, self.flags, stream[0], stream[1], stream[2],
            stream[3],
        ]
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends a frame header.
#[inline]
pub fn put_header(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, size: usize) {
    out.extend_from_slice(
        &FrameHeader {
            size,
            kind,
            flags,
            stream,
        }
        .encode(),
    );
}

/// Appends a whole frame.
#[inline]
pub fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    put_header(out, kind, flags, stream, payload.len());
    out.extend_from_slice(payload);
}

pub fn put_window_update(out: &mut Vec<u8>, stream: u32, increment: u32) {
    put_frame(out, WINDOW_UPDATE, 0, stream, &increment.to_be_bytes());
}

pub fn put_reset(out: &mut Vec<u8>, stream: u32, code: u32) {
    put_frame(out, RST_STREAM, 0, stream, &code.to_be_bytes());
}

pub fn put_goaway(out: &mut Vec<u8>, last_stream: u32, code: u32, debug: &[u8]) {
    put_header(out, GOAWAY, 0, 0, 8 + debug.len());
    out.extend_from_slice(&last_stream.to_be_bytes());
    out.extend_from_slice(&code.to_be_bytes());
    out.extend_from_slice(debug);
}

/// Appends a header block as HEADERS and as many CONTINUATIONs as `payload_max` asks for.
#[inline]
pub fn put_header_block(
    out: &mut Vec<u8>,
    stream: u32,
    block: &[u8],
    end_stream: bool,
    payload_max: usize,
) {
    let end = if end_stream { FLAG_END_STREAM } else { 0 };
    if block.len() <= payload_max {
        put_frame(out, HEADERS, end | FLAG_END_HEADERS, stream, block);
        return;
    }
    let (first, rest) = block.split_at(payload_max);
    put_frame(out, HEADERS, end, stream, first);
    let mut parts = rest.chunks(payload_max).peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_none() {
            FLAG_END_HEADERS
        } else {
            0
        };
        put_frame(out, CONTINUATION, flags, stream, part);
    }
}

/// The 32-bit number that a payload of exactly four bytes is.
pub fn number(payload: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(payload.try_into().ok()?))
}

/// Why a payload's padding or priority part cannot be taken off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PayloadError {
    /// The frame is shorter than the parts that its flags announce.
    TooShort,
    /// The padding is as long as the payload or longer.
    Padding { got: usize, size: usize },
}

/// The payload without padding and, for HEADERS, without the priority part.
pub fn inner<'a>(header: &FrameHeader, payload: &'a [u8]) -> Result<&'a [u8], PayloadError> {
    let mut rest = payload;
    let mut padding = 0;
    if header.has(FLAG_PADDED) {
        let (&size, tail) = rest.split_first().ok_or(PayloadError::TooShort)?;
        padding = usize::from(size);
        rest = tail;
    }
    if header.kind == HEADERS && header.has(FLAG_PRIORITY) {
        rest = rest.get(5..).ok_or(PayloadError::TooShort)?;
    }
    let size = rest
        .len()
        .checked_sub(padding)
        .ok_or(PayloadError::Padding {
            got: padding,
            size: payload.len(),
        })?;
    Ok(&rest[..size])
}
