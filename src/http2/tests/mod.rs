//! Pure. Tests of the state machine, by what they look at; what they share is here.

mod floods;
mod life;
mod rules;
mod splits;
mod streams;
mod windows;

use super::frame::*;
use super::hpack::put_field;
use super::*;
use crate::env::Monotonic;
use crate::ids::StreamId;
use crate::limits::http2 as limits;
use std::time::Duration;

const NOW: Monotonic = Monotonic(1_000_000_000);

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, kind, flags, stream, payload);
    out
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    fields
        .iter()
        .for_each(|(name, value)| put_field(&mut out, name, value.as_bytes()));
    out
}

const GET: [(&str, &str); 3] = [(":method", "GET"), (":scheme", "http"), (":path", "/")];

fn get() -> Vec<u8> {
    block(&GET)
}

fn get_with(more: &[(&str, &str)]) -> Vec<u8> {
    block(&[&GET, more].concat())
}

const BOTH: u8 = FLAG_END_HEADERS | FLAG_END_STREAM;

/// A connection that has seen the preface and the peer's empty SETTINGS.
fn server() -> Connection {
    server_with(Settings::default())
}

fn server_with(settings: Settings) -> Connection {
    let mut server = Connection::new(settings, NOW);
    server.receive(PREFACE, NOW).unwrap();
    server.receive(&frame(SETTINGS, 0, 0, &[]), NOW).unwrap();
    server.output().clear();
    server
}

/// The frames in some output.
fn frames(mut bytes: &[u8]) -> Vec<(FrameHeader, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((first, rest)) = bytes.split_first_chunk() {
        let header = FrameHeader::parse(first);
        let (payload, rest) = rest.split_at(header.size);
        frames.push((header, payload.to_vec()));
        bytes = rest;
    }
    frames
}

fn code_of(payload: &[u8], at: usize) -> ErrorCode {
    ErrorCode(number(&payload[at..at + 4]).unwrap())
}

/// What became of some input.
#[derive(PartialEq, Debug)]
enum Outcome {
    /// Taken; this many events.
    Fine(usize),
    /// The stream was reset.
    Stream(u32, ErrorCode),
    /// The connection ended, with a GOAWAY.
    Connection(ErrorCode),
}

fn outcome(server: &mut Connection, input: &[u8]) -> Outcome {
    let result = server.receive(input, NOW);
    let out = frames(&std::mem::take(server.output()));
    if let Err(error) = result {
        let (header, payload) = out.last().expect("an error says GOAWAY");
        assert_eq!(header.kind, GOAWAY);
        assert_eq!(code_of(payload, 4), error.code());
        assert_eq!(payload[8..], *error.to_string().as_bytes());
        assert!(server.is_closing());
        assert_eq!(server.receive(b"x", NOW), Err(error));
        return Outcome::Connection(error.code());
    }
    server.check();
    if let Some((header, payload)) = out.iter().find(|(header, _)| header.kind == RST_STREAM) {
        return Outcome::Stream(header.stream, code_of(payload, 0));
    }
    Outcome::Fine(std::iter::from_fn(|| server.poll_event()).count())
}
