//! Pure. Bounds of `http2/`, `grpc/` and `http1/`.

use std::time::Duration;

/// Bytes of the largest frame payload that we take: the protocol's default. A larger one is a
/// connection error, so a partial frame never holds more than this.
pub const FRAME_BYTES_MAX: usize = 16_384;

/// Bytes of the largest frame payload that we send, whatever the peer would take: one stream's
/// frame must not delay the others for long.
pub const SEND_FRAME_BYTES_MAX: usize = 262_144;

/// Bytes that a peer may have under way on one stream: large enough that a 1.5 MiB message needs
/// one update.
pub const STREAM_WINDOW: u32 = 1 << 20;

/// Bytes that a peer may have under way on one connection.
pub const CONNECTION_WINDOW: u32 = 4 << 20;

/// Bytes of a header list (names, values, 32 per field) that we take. A longer one resets its
/// stream.
pub const HEADER_LIST_BYTES_MAX: usize = 65_536;

/// Encoded bytes of one header block, over all its frames. More is a connection error.
pub const HEADER_BLOCK_BYTES_MAX: usize = 65_536;

/// CONTINUATION frames of one header block. More is a connection error.
pub const CONTINUATIONS_MAX: u32 = 32;

/// Bytes of the HPACK dynamic table that the peer's encoder may use: the protocol's default.
pub const HPACK_TABLE_BYTES_MAX: usize = 4096;

/// Header lists remembered per connection, so that the next identical one costs nothing.
pub const HEAD_MEMO_COUNT_MAX: usize = 8;

/// Header lists above this many bytes are not remembered.
pub const HEAD_MEMO_BYTES_MAX: usize = 2048;

/// Streams that one connection may have open, whatever the flag says. More are refused.
pub const STREAMS_MAX: u32 = 100_000;

/// Bytes waiting for the socket above which queued DATA stays in its stream.
pub const OUTPUT_BYTES_TARGET: usize = 262_144;

/// Bytes waiting for the socket above which `wants_read` says no and fresh DATA queues.
pub const OUTPUT_BYTES_MAX: usize = 1 << 20;

/// Bytes waiting for the socket at which the connection is closed: the driver should have stopped
/// reading at [`OUTPUT_BYTES_MAX`]; what is left are answers to one last receive.
pub const OUTPUT_BYTES_HARD: usize = 64 << 20;

/// Silence of the peer after which a connection gives back the buffers that it filled.
pub const QUIET: Duration = Duration::from_secs(2);

/// Bytes queued on one stream above which a sender is told to wait for `Writable`.
pub const STREAM_QUEUE_BYTES_HIGH: usize = 262_144;

/// Bytes queued on one stream below which `Writable` is told.
pub const STREAM_QUEUE_BYTES_LOW: usize = 65_536;

/// Bytes queued on all streams of a connection above which a new call is answered
/// RESOURCE_EXHAUSTED and a new plain request 503: two hundred answers that fill their queues.
pub const UNREAD_BYTES_MAX: usize = 64 << 20;

/// Bytes queued on all streams of a connection, beyond any window. More closes the connection:
/// the calls that were taken before [`UNREAD_BYTES_MAX`] ask for this much, and the peer is not
/// reading.
pub const CONNECTION_QUEUE_BYTES_MAX: usize = 256 << 20;

/// Bytes of gRPC messages and plain bodies under assembly per connection. The call that would
/// exceed it is answered RESOURCE_EXHAUSTED.
pub const ASSEMBLY_BYTES_MAX: usize = 64 << 20;

/// Bytes first reserved for a message that does not arrive in one frame: a length alone must not
/// cost the memory that it announces, and a connection may have very many begun.
pub const ASSEMBLY_BYTES_FIRST: usize = 1024;

/// A deadline nearer than this has passed before an answer could reach the client: the call is not
/// begun. Later ones are looked at by the driver's tick.
pub const DEADLINE_MIN: Duration = Duration::from_micros(10);

/// Bytes of the body of a plain HTTP request over HTTP/2 or HTTP/1.1. More is answered 413.
pub const PLAIN_BODY_BYTES_MAX: usize = 4 << 20;

/// Burst of stream resets by the peer; the connection is closed when it is used up.
pub const RESET_BURST: u32 = 2000;
/// Resets given back per second.
pub const RESETS_PER_SECOND: u32 = 100;

/// Burst of frames that carry nothing (PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty DATA, unknown
/// kinds, frames for ended streams); the connection is closed when it is used up.
pub const IDLE_FRAME_BURST: u32 = 20_000;
/// Such frames given back per second.
pub const IDLE_FRAMES_PER_SECOND: u32 = 1000;
/// Idle frames given back when a request begins.
pub const IDLE_FRAMES_PER_REQUEST: u32 = 16;
/// Idle frames given back per DATA frame that we send: a window of 64 KiB comes back in quarters,
/// on the stream and on the connection, so each 16 KiB may cost two updates.
pub const IDLE_FRAMES_PER_DATA: u32 = 4;
/// Bytes of DATA sent for which one more is given back: large frames are answered by many updates.
pub const IDLE_FRAME_DATA_BYTES: usize = 2048;

/// A SETTINGS frame that moves the initial window touches every stream: it costs one idle frame
/// per this many streams.
pub const SETTINGS_STREAMS_PER_COST: u32 = 8;

/// Client pings that come too early before the connection is closed (as grpc-go).
pub const PING_STRIKES_MAX: u32 = 2;

/// Streams that we ended ourselves and remember, so that frames still under way to them are
/// ignored instead of being errors.
pub const ENDED_STREAMS_REMEMBERED: usize = 64;

/// Seconds between the announcement of a drain and the final GOAWAY when the peer does not answer.
pub const DRAIN_SECONDS: u64 = 5;

/// Bytes of an HTTP/1.1 request line and headers. More is answered 431.
pub const HTTP1_HEAD_BYTES_MAX: usize = 16_384;
/// Bytes of an HTTP/1.1 method. More is answered 400.
pub const HTTP1_METHOD_BYTES_MAX: usize = 32;
/// Headers of an HTTP/1.1 request. More is answered 431.
pub const HTTP1_HEADERS_MAX: usize = 100;
/// Bytes of one HTTP/1.1 chunk-size line or of all trailers. More is answered 400.
pub const HTTP1_CHUNK_LINE_BYTES_MAX: usize = 4096;

const _: () = assert!(STREAM_WINDOW <= CONNECTION_WINDOW);
const _: () = assert!(UNREAD_BYTES_MAX < CONNECTION_QUEUE_BYTES_MAX);
const _: () = assert!(STREAM_QUEUE_BYTES_LOW < STREAM_QUEUE_BYTES_HIGH);
const _: () = assert!(OUTPUT_BYTES_TARGET < OUTPUT_BYTES_MAX);
const _: () = assert!(OUTPUT_BYTES_MAX < OUTPUT_BYTES_HARD);
const _: () = assert!(FRAME_BYTES_MAX <= CONNECTION_WINDOW as usize / 2);
