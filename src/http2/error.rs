//! Pure. The protocol's error codes, and the rules whose breach ends a connection.

use super::hpack::HpackError;
use std::fmt;

/// RFC 9113, section 7.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct ErrorCode(pub u32);

impl ErrorCode {
    pub const NO_ERROR: ErrorCode = ErrorCode(0);
    pub const PROTOCOL_ERROR: ErrorCode = ErrorCode(1);
    pub const INTERNAL_ERROR: ErrorCode = ErrorCode(2);
    pub const FLOW_CONTROL_ERROR: ErrorCode = ErrorCode(3);
    pub const SETTINGS_TIMEOUT: ErrorCode = ErrorCode(4);
    pub const STREAM_CLOSED: ErrorCode = ErrorCode(5);
    pub const FRAME_SIZE_ERROR: ErrorCode = ErrorCode(6);
    pub const REFUSED_STREAM: ErrorCode = ErrorCode(7);
    pub const CANCEL: ErrorCode = ErrorCode(8);
    pub const COMPRESSION_ERROR: ErrorCode = ErrorCode(9);
    pub const ENHANCE_YOUR_CALM: ErrorCode = ErrorCode(11);
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [&str; 14] = [
            "NO_ERROR",
            "PROTOCOL_ERROR",
            "INTERNAL_ERROR",
            "FLOW_CONTROL_ERROR",
            "SETTINGS_TIMEOUT",
            "STREAM_CLOSED",
            "FRAME_SIZE_ERROR",
            "REFUSED_STREAM",
            "CANCEL",
            "COMPRESSION_ERROR",
            "CONNECT_ERROR",
            "ENHANCE_YOUR_CALM",
            "INADEQUATE_SECURITY",
            "HTTP_1_1_REQUIRED",
        ];
        match NAMES.get(self.0 as usize) {
            Some(name) => f.write_str(name),
            None => write!(f, "error code {}", self.0),
        }
    }
}

/// A budget of `limits/http2.rs` that a peer used up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flood {
    /// Streams opened and reset.
    Resets,
    /// Frames that carry nothing.
    IdleFrames,
    /// CONTINUATION frames of one block.
    Continuations,
    /// Bytes of one header block.
    HeaderBlock,
    /// Keepalive pings (grpc-go's rule).
    Pings,
    /// Answers that the peer asks for and does not take.
    Output,
    /// DATA that the peer's windows do not admit.
    Queues,
}

/// The rule that a peer broke. The connection ends; a GOAWAY with `code()` is in the output.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConnectionError {
    /// The first bytes are not the client's preface.
    Preface,
    /// The first frame is not SETTINGS.
    FirstFrame {
        got: u8,
    },
    /// A payload above our MAX_FRAME_SIZE.
    FrameTooLarge {
        got: usize,
        max: usize,
    },
    /// A fixed-size frame of another size.
    FrameSize {
        kind: u8,
        got: usize,
        expected: usize,
    },
    /// A frame of this kind belongs to a stream.
    StreamZero {
        kind: u8,
    },
    /// A frame of this kind belongs to the connection.
    StreamNotZero {
        kind: u8,
        got: u32,
    },
    /// A client's streams are odd, a server's even.
    StreamParity {
        got: u32,
    },
    /// New streams only count up.
    StreamNotNew {
        got: u32,
        last: u32,
    },
    /// The stream was never opened.
    StreamIdle {
        kind: u8,
        got: u32,
    },
    /// Between the frames of a header block nothing else may come.
    ContinuationExpected {
        got: u8,
        stream: u32,
    },
    /// A CONTINUATION without a block.
    ContinuationUnexpected {
        stream: u32,
    },
    /// Padding as long as the payload or longer.
    Padding {
        got: usize,
        size: usize,
    },
    /// A client cannot push, and we did not ask a server to.
    PushPromise,
    /// A setting out of its range.
    SettingValue {
        id: u16,
        got: u32,
    },
    /// An acknowledgement of SETTINGS that we did not send.
    SettingsAck,
    /// A window above 2^31 - 1.
    WindowOverflow {
        window: i64,
        increment: u32,
    },
    /// A WINDOW_UPDATE of 0 for the connection.
    ZeroIncrement,
    /// DATA beyond the connection's window.
    WindowExceeded {
        got: usize,
        window: i64,
    },
    Hpack(HpackError),
    Flood(Flood),
    /// The peer did not answer our ping in time.
    KeepaliveTimeout,
}

impl ConnectionError {
    pub fn code(&self) -> ErrorCode {
        match self {
            ConnectionError::FrameTooLarge { .. } | ConnectionError::FrameSize { .. } => {
                ErrorCode::FRAME_SIZE_ERROR
            }
            ConnectionError::SettingValue {
                id: super::settings::INITIAL_WINDOW_SIZE,
                ..
            }
            | ConnectionError::WindowOverflow { .. }
            | ConnectionError::WindowExceeded { .. } => ErrorCode::FLOW_CONTROL_ERROR,
            ConnectionError::Hpack(_) => ErrorCode::COMPRESSION_ERROR,
            ConnectionError::Flood(_) => ErrorCode::ENHANCE_YOUR_CALM,
            ConnectionError::KeepaliveTimeout => ErrorCode::NO_ERROR,
            _ => ErrorCode::PROTOCOL_ERROR,
        }
    }
}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ConnectionError::Preface => f.write_str("not an HTTP/2 client preface"),
            ConnectionError::FirstFrame { got } => {
                write!(f, "first frame has kind {got}, expected SETTINGS")
            }
            ConnectionError::FrameTooLarge { got, max } => {
                write!(f, "frame of {got} bytes, at most {max} allowed")
            }
            ConnectionError::FrameSize {
                kind,
                got,
                expected,
            } => {
                write!(
                    f,
                    "frame of kind {kind} has {got} bytes, expected {expected}"
                )
            }
            ConnectionError::StreamZero { kind } => {
                write!(f, "frame of kind {kind} on stream 0")
            }
            ConnectionError::StreamNotZero { kind, got } => {
                write!(f, "frame of kind {kind} on stream {got}, expected 0")
            }
            ConnectionError::StreamParity { got } => {
                write!(f, "stream {got} is not the peer's to open")
            }
            ConnectionError::StreamNotNew { got, last } => {
                write!(f, "stream {got} opened after stream {last}")
            }
            ConnectionError::StreamIdle { kind, got } => {
                write!(
                    f,
                    "frame of kind {kind} on stream {got}, which was never opened"
                )
            }
            ConnectionError::ContinuationExpected { got, stream } => {
                write!(
                    f,
                    "frame of kind {got} inside the header block of stream {stream}"
                )
            }
            ConnectionError::ContinuationUnexpected { stream } => {
                write!(f, "CONTINUATION of stream {stream} without a header block")
            }
            ConnectionError::Padding { got, size } => {
                write!(f, "padding of {got} bytes in a frame of {size}")
            }
            ConnectionError::PushPromise => f.write_str("PUSH_PROMISE is not allowed"),
            ConnectionError::SettingValue { id, got } => {
                write!(f, "setting {id} has the value {got}")
            }
            ConnectionError::SettingsAck => f.write_str("acknowledgement of no SETTINGS"),
            ConnectionError::WindowOverflow { window, increment } => {
                write!(f, "window {window} grown by {increment}")
            }
            ConnectionError::ZeroIncrement => f.write_str("window update of 0"),
            ConnectionError::WindowExceeded { got, window } => {
                write!(f, "{got} bytes of DATA in a window of {window}")
            }
            ConnectionError::Hpack(error) => error.fmt(f),
            ConnectionError::Flood(Flood::Pings) => f.write_str("too_many_pings"),
            ConnectionError::Flood(Flood::Resets) => f.write_str("too_many_resets"),
            ConnectionError::Flood(Flood::IdleFrames) => f.write_str("too_many_idle_frames"),
            ConnectionError::Flood(Flood::Continuations) => f.write_str("too_many_continuations"),
            ConnectionError::Flood(Flood::HeaderBlock) => f.write_str("header_block_too_large"),
            ConnectionError::Flood(Flood::Output) => f.write_str("answers_not_read"),
            ConnectionError::Flood(Flood::Queues) => f.write_str("streams_not_read"),
            ConnectionError::KeepaliveTimeout => f.write_str("keepalive ping not answered"),
        }
    }
}

impl std::error::Error for ConnectionError {}

impl From<HpackError> for ConnectionError {
    fn from(error: HpackError) -> ConnectionError {
        ConnectionError::Hpack(error)
    }
}
