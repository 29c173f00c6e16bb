//! Frames behind a finished handshake, in pieces whose sizes the input chooses; and HTTP/1.1.
#![no_main]

use libfuzzer_sys::fuzz_target;
use ringbolt::env::Monotonic;
use ringbolt::{http1, http2};

fuzz_target!(|data: &[u8]| {
    let Some((&size, frames)) = data.split_first() else {
        return;
    };
    let mut server = http2::Connection::new(http2::Settings::default(), Monotonic(0));
    server
        .receive(http2::PREFACE, Monotonic(0))
        .expect("the preface is right");
    server
        .receive(&[0, 0, 0, 4, 0, 0, 0, 0, 0], Monotonic(0))
        .expect("SETTINGS are right");
    let mut plain = http1::Connection::new();
    for piece in frames.chunks(usize::from(size) + 1) {
        let alive = server.receive(piece, Monotonic(0)).is_ok();
        while let Some(event) = server.poll_event() {
            if let http2::Event::Data { stream, bytes, .. } = event {
                server.send_data(stream, &bytes, false);
            }
        }
        plain.receive(piece);
        while plain.poll_request().is_some() {
            plain.respond(200, &[], b"ok");
        }
        if !alive {
            break;
        }
    }
});
