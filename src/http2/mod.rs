//! Pure. HTTP/2 (RFC 9113) for gRPC, the server's side and a raw client's side, as state machines.
//!
//! In: bytes from the socket, answers, the time. Out: [`Event`]s, and bytes for the socket.
//!
//! Call order, one turn: `receive(bytes)`, `poll_event` until `None` (answering with `respond_*`
//! and `send_*`), `tick` when `next_deadline` has passed, then send what `output` holds. Calling
//! `output` moves queued DATA into the buffer, so poll events once more after it. `receive` only
//! while `wants_read`; while sending waits for the socket, go on receiving, or two ends that both
//! only send would wait for each other. After an `Err` send `output` and close.
//!
//! Invariants
//! 1. `receive` takes every byte it is given; at most one partial frame is kept.
//! 2. Each event's stream was announced by `Headers`; after `Reset` no event names it. Events that
//!    were queued before the driver ended a stream are still told.
//! 3. DATA never passes the peer's windows; what does not fit waits in its stream, in order,
//!    and trailers wait behind it.
//! 4. Whatever the peer sends, memory is bounded by `limits/http2.rs`; a spent budget ends the
//!    connection with ENHANCE_YOUR_CALM.
//! 5. A block of header bytes that came before, with no table change since, is not decoded again.
//! 6. Answers to a stream that has ended do nothing.
//!
//! Not here: TLS, priorities (ignored), server push, upgrade from HTTP/1.1, extended CONNECT.
//! Bytes: `docs/format/wire.md`.

mod budget;
mod client;
mod connection;
mod error;
mod frame;
mod head;
mod header_block;
mod hpack;
mod keepalive;
mod receive;
mod send;
mod settings;
mod stream;

#[cfg(test)]
mod tests;

pub use client::{ClientConnection, Prepared};
pub use connection::{Connection, Event, Slot};
pub use error::{ConnectionError, ErrorCode, Flood};
pub use frame::{FRAME_HEADER_SIZE, PREFACE};
pub use head::{Head, Response};
pub use hpack::{Decoder, Encoder, Fields, HeaderBlock, HpackError, ShortValue, put_field};
pub use keepalive::Keepalive;
pub use settings::Settings;
