//! Pure. Windows that we announced, and what comes back of them.

use super::*;

// Catches: a peer's DATA beyond the windows that we announced.
#[test]
fn windows_that_we_announced_are_enforced() {
    let small = Settings {
        stream_window: 10,
        ..Settings::default()
    };
    let open = frame(HEADERS, FLAG_END_HEADERS, 1, &get());
    let mut server = server_with(small);
    let fits = frame(DATA, FLAG_END_STREAM, 1, &[0; 10]);
    assert_eq!(
        outcome(&mut server, &[&open[..], &fits].concat()),
        Outcome::Fine(2)
    );
    let mut server = server_with(small);
    let beyond = frame(DATA, 0, 1, &[0; 11]);
    let expected = Outcome::Stream(1, ErrorCode::FLOW_CONTROL_ERROR);
    assert_eq!(
        outcome(&mut server, &[&open[..], &beyond].concat()),
        expected
    );

    // The connection's window, over several streams, none of which breaks its own.
    let settings = Settings {
        connection_window: 65_535,
        ..Settings::default()
    };
    let mut server = server_with(settings);
    server.unreturned = 0;
    server.receive_window = 20_000;
    let mut input = Vec::new();
    for id in [1, 3] {
        input.extend(frame(HEADERS, FLAG_END_HEADERS, id, &get()));
        input.extend(frame(DATA, 0, id, &[0; 10_001]));
    }
    let expected = Outcome::Connection(ErrorCode::FLOW_CONTROL_ERROR);
    assert_eq!(outcome(&mut server, &input), expected);
}

// Catches: windows given back too early (a frame per DATA) or never.
#[test]
fn window_updates_come_at_half_a_window() {
    let settings = Settings {
        stream_window: 65_536,
        connection_window: 131_072,
        ..Settings::default()
    };
    let mut server = server_with(settings);
    server
        .receive(&frame(HEADERS, FLAG_END_HEADERS, 1, &get()), NOW)
        .unwrap();
    let mut updates = Vec::new();
    for _ in 0..16 {
        server.receive(&frame(DATA, 0, 1, &[0; 8192]), NOW).unwrap();
        for (header, payload) in frames(&std::mem::take(server.output())) {
            assert_eq!(header.kind, WINDOW_UPDATE);
            updates.push((header.stream, number(&payload).unwrap()));
        }
        server.check();
    }
    let stream = (1, 32_768);
    assert_eq!(
        updates,
        [stream, (0, 65_536), stream, stream, (0, 65_536), stream]
    );
}

/// What a script of frames does, told as text.

// Catches: a busy reader, which gives windows back in small pieces, taken for a flood.
#[test]
fn busy_readers_are_no_flood() {
    let mut server = server();
    server
        .receive(&frame(HEADERS, FLAG_END_HEADERS, 1, &get()), NOW)
        .unwrap();
    let piece = [0; 16_384];
    let update = |id| frame(WINDOW_UPDATE, 0, id, &16_384u32.to_be_bytes());
    for _ in 0..100_000 {
        server.send_data(StreamId(1), &piece, false);
        server.output().clear();
        server
            .receive(&[update(0), update(1)].concat(), NOW)
            .unwrap();
    }
}
