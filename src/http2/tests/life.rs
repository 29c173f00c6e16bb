//! Pure. Drains, pings, frames that share or are shared out, and what an idle connection keeps.

use super::*;

// Catches: a drain that cuts off streams which crossed it, never ends, or takes new streams.
#[test]
fn a_drain_finishes_what_crossed_it() {
    let mut server = server();
    server
        .receive(&frame(HEADERS, BOTH, 1, &get()), NOW)
        .unwrap();
    server.drain(NOW);
    let out = frames(&std::mem::take(server.output()));
    assert_eq!((out[0].0.kind, out[1].0.kind), (GOAWAY, PING));
    assert_eq!(number(&out[0].1[..4]), Some(U31_MAX));
    assert!(!server.is_closing());
    // This one crossed the announcement.
    server
        .receive(&frame(HEADERS, BOTH, 3, &get()), NOW)
        .unwrap();
    server
        .receive(&frame(PING, FLAG_ACK, 0, &out[1].1), NOW)
        .unwrap();
    let out = frames(&std::mem::take(server.output()));
    assert_eq!((out[0].0.kind, number(&out[0].1[..4])), (GOAWAY, Some(3)));
    let late = outcome(&mut server, &frame(HEADERS, BOTH, 5, &get()));
    assert_eq!(late, Outcome::Stream(5, ErrorCode::REFUSED_STREAM));
    for id in [1, 3] {
        let head = HeaderBlock::new([(":status", &b"204"[..])]);
        server.respond_headers(StreamId(id), &head, true);
    }
    assert!(server.is_closing() && !server.is_idle());
    server.output().clear();
    assert!(server.is_idle());
    // A peer that does not answer the ping is told the end by time.
    let mut server = super::tests::server();
    server.drain(NOW);
    server.tick(server.next_deadline().unwrap()).unwrap();
    let deadline = server.next_deadline().unwrap();
    assert_eq!(deadline, NOW + Duration::from_secs(limits::DRAIN_SECONDS));
    server.tick(deadline).unwrap();
    assert!(server.is_closing());
}

// Catches: an answer to a ping that waits for a later turn (grpc-go measures bandwidth with it).
#[test]
fn pings_are_answered_in_the_same_turn() {
    let mut server = server();
    server
        .receive(&frame(PING, 0, 0, b"bdp-ping"), NOW)
        .unwrap();
    assert_eq!(*server.output(), frame(PING, FLAG_ACK, 0, b"bdp-ping"));
}

// Catches: a stream whose small pieces each become a frame, or that grow a frame that was sent.
#[test]
fn small_pieces_share_a_frame_within_a_turn() {
    let mut server = server();
    server
        .receive(&frame(HEADERS, FLAG_END_HEADERS, 1, &get()), NOW)
        .unwrap();
    for turn in 0..2 {
        for piece in [&b"ab"[..], b"", b"cde"] {
            assert!(server.send_data(StreamId(1), piece, false), "turn {turn}");
        }
        assert_eq!(std::mem::take(server.output()), frame(DATA, 0, 1, b"abcde"));
    }
    server.send_data(StreamId(1), b"x", false);
    server.send_data(StreamId(1), b"y", true);
    let reset = frame(RST_STREAM, 0, 1, &[0; 4]);
    let expected = [frame(DATA, FLAG_END_STREAM, 1, b"xy"), reset].concat();
    assert_eq!(*server.output(), expected);
}

// Catches: a header block beyond the peer's frame size sent as one frame.
#[test]
fn long_header_blocks_continue() {
    let mut server = server();
    server
        .receive(&frame(HEADERS, FLAG_END_HEADERS, 1, &get()), NOW)
        .unwrap();
    let long = "v".repeat(40_000);
    let head = HeaderBlock::new([(":status", &b"200"[..]), ("long", long.as_bytes())]);
    server.respond_headers(StreamId(1), &head, false);
    let out = frames(server.output());
    let kinds: Vec<_> = out.iter().map(|(h, _)| (h.kind, h.flags)).collect();
    assert_eq!(
        kinds,
        [
            (HEADERS, 0),
            (CONTINUATION, 0),
            (CONTINUATION, FLAG_END_HEADERS)
        ]
    );
    let joined: Vec<u8> = out.into_iter().flat_map(|(_, payload)| payload).collect();
    assert_eq!(joined, head.as_bytes());
}

// Catches: buffers that grew with one large request and its answer, kept by a connection that says
// nothing any more; and a tick that is asked for again and again.
#[test]
fn a_quiet_connection_gives_its_buffers_back() {
    let mut server = server();
    let long = "v".repeat(30_000);
    let large = frame(
        HEADERS,
        FLAG_END_HEADERS,
        1,
        &get_with(&[("x", &long[..9000])]),
    );
    let body = frame(DATA, 0, 1, &[b'x'; 16_000]);
    for piece in [&large, &body] {
        for half in piece.chunks(piece.len() / 2 + 1) {
            server.receive(half, NOW).unwrap();
        }
    }
    while server.poll_event().is_some() {}
    server.send_data(StreamId(1), long.as_bytes(), false);
    let mut other = Vec::new();
    // As a driver takes output: by swapping.
    for _ in 0..2 {
        std::mem::swap(server.output(), &mut other);
        other.clear();
    }
    assert!(server.held_bytes() > 50_000, "{}", server.held_bytes());
    let quiet = NOW + limits::QUIET;
    assert_eq!(server.next_deadline(), Some(quiet));
    server.tick(quiet).unwrap();
    assert_eq!(server.held_bytes(), 0);
    assert!(
        server
            .next_deadline()
            .is_some_and(|at| at > quiet + limits::QUIET)
    );
    // What follows is understood as before.
    assert_eq!(
        outcome(&mut server, &frame(DATA, FLAG_END_STREAM, 1, b"y")),
        Outcome::Fine(1)
    );
    assert_eq!(server.next_deadline(), Some(quiet));
}

// Catches: an idle connection or stream that keeps more memory than planned (W13).
#[test]
fn idle_connections_are_small() {
    assert!(
        size_of::<Connection>() <= 1024,
        "{}",
        size_of::<Connection>()
    );
    assert!(
        size_of::<super::stream::Stream>() <= 64,
        "{}",
        size_of::<super::stream::Stream>()
    );
    assert!(size_of::<Event>() <= 56, "{}", size_of::<Event>());
}
