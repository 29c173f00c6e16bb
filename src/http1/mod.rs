//! Pure. HTTP/1.1 on the client port: the JSON gateway, /health, /metrics and friends.
//!
//! In: bytes from the socket, answers. Out: whole [`Request`]s, one at a time, and bytes to send.
//!
//! Call order: [`detect`] on the first bytes of a connection; if they are HTTP/1, a [`Connection`]:
//! `receive`, `poll_request`, then either `respond` or `start`, `part`*, `end`; send `output`; poll
//! again (the next request may already be here). Close when `is_closing` and the output is sent.
//!
//! Invariants
//! 1. A request is handed out when its body is whole, and the next one only after its answer.
//! 2. Heads, bodies, what is read ahead and answers in a row are bounded; the bounds answer 431,
//!    413, `wants_read` and the end of the connection.
//! 3. Whatever is not a request is answered 400 (or 501, 505) and ends the connection; nothing
//!    after it is looked at.
//! 4. Two ways to say where a body ends are refused: nobody in front of us may read it otherwise.
//!
//! Not here: upgrades, TLS, compression, request bodies as streams, `Date` (the caller's field).
//! Bytes: `docs/format/wire.md`.

mod chunked;
mod connection;
mod detect;
mod parse;
mod request;

#[cfg(test)]
mod tests;

pub use connection::Connection;
pub use detect::{Protocol, detect};
pub use parse::RequestError;
pub use request::{Request, percent_decode, query_pairs, reason};
