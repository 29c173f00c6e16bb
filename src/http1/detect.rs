//! Pure. Which protocol a connection speaks, from its first bytes.

use crate::http2::PREFACE;

/// What the first bytes are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// Too few bytes to tell.
    Unknown,
    Http2,
    /// Everything else; what is no request is answered 400.
    Http1,
}

/// Compares with HTTP/2's preface. No HTTP/1 method begins with `PRI `.
pub fn detect(first: &[u8]) -> Protocol {
    let size = first.len().min(PREFACE.len());
    if first[..size] != PREFACE[..size] {
        Protocol::Http1
    } else if size < PREFACE.len() {
        Protocol::Unknown
    } else {
        Protocol::Http2
    }
}
