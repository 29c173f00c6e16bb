//! Pure. gRPC on one HTTP/2 connection: bytes in, calls and messages out, answers in place.
//!
//! In: what the socket received, the time, and answers. Out: [`Event`]s and bytes to send.
//!
//! Call order, one turn of a connection's driver:
//! ```text
//! receive(bytes, now)          Err: send output(), close
//! while poll_event()           start work; answer with reply*, message_*, finish, plain_*
//! tick(now)                    whenever next_deadline() <= now; Err: send output(), close
//! send(take(output()))         then poll_event() again: sending makes room (Event::Writable)
//! receive only while wants_read(), also while a send waits for the socket;
//! close when is_closing() && is_idle()
//! ```
//! A unary call: `Request`, `Message`, then `reply_unary` or `finish(status)`.
//! A stream: `Request`, `Message`*, `HalfClosed`, with `reply`* and one `finish` at any time.
//! A large unary answer: `message_start(total)`, `message_part`* until the total is reached,
//! `finish(OK)`; after a `false` wait for `Writable`.
//!
//! Invariants
//! 1. After `Request` a stream ends exactly once: by `finish`/`reply_unary` of the driver, by
//!    `Canceled`, or by `DeadlinePassed` (already answered). Answers to an ended stream do nothing.
//! 2. `Message.end` or one `HalfClosed` tells the peer's half-close, never both.
//! 3. Unknown methods, malformed requests, oversized and compressed messages are answered here, in
//!    grpc-go's words; a stream that was already announced then ends with `Canceled`.
//! 4. Messages being assembled hold at most `ASSEMBLY_BYTES_MAX` per connection.
//!
//! Not here: compression, retries, codecs (the driver encodes and decodes messages).
//! Bytes: `docs/format/wire.md`.

mod call;
mod connection;
mod message;
mod metadata;
mod method;
mod plain;
mod reply;
mod request;
mod status;
mod timeout;

#[cfg(test)]
mod interop;
#[cfg(test)]
mod tests;

pub use connection::{Event, GrpcConnection, GrpcSettings};
pub use message::{MESSAGE_PREFIX_SIZE, MessageError, MessageReader};
pub use metadata::Metadata;
pub use method::{MethodId, MethodTable, Unknown};
pub use status::{Code, Status, percent_decode, percent_encode};
pub use timeout::{TimeoutError, format_timeout, parse_timeout};
