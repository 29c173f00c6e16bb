//! Pure. What a peer may send without use, and how much of everything it may have.

use super::*;

/// Sends `input` again and again; gives how often it was taken and what ended it.
fn flood(server: &mut Connection, mut input: impl FnMut(u32) -> Vec<u8>) -> (u32, ConnectionError) {
    for round in 0..1_000_000 {
        let result = server.receive(&input(round), NOW);
        while server.poll_event().is_some() {}
        // A peer that floods does not read either; but the budgets must end it before the output.
        assert!(server.output().len() < 4 << 20, "round {round}");
        if let Err(error) = result {
            return (round, error);
        }
    }
    panic!("nothing ends the flood");
}

// Catches: a flood of one kind that costs us memory or time without end.
#[test]
fn floods_end_the_connection() {
    let request = |id: u32| frame(HEADERS, FLAG_END_HEADERS, id, &get());
    let reset = |id: u32| frame(RST_STREAM, 0, id, &[0, 0, 0, 8]);
    let idle = ConnectionError::Flood(Flood::IdleFrames);
    let resets = ConnectionError::Flood(Flood::Resets);

    let (rounds, error) = flood(&mut server(), |round| {
        let id = 2 * round + 1;
        [request(id), reset(id)].concat()
    });
    assert_eq!(
        (rounds, error),
        (limits::RESET_BURST, resets),
        "rapid reset"
    );

    let (rounds, error) = flood(&mut server(), |round| {
        let id = 2 * round + 1;
        [request(id), frame(WINDOW_UPDATE, 0, id, &[0; 4])].concat()
    });
    assert_eq!(
        (rounds, error),
        (limits::RESET_BURST, resets),
        "we are made to reset"
    );

    let (_, error) = flood(&mut server(), |_| frame(PING, FLAG_ACK, 0, &[1; 8]));
    assert_eq!(error, idle, "ping answers");
    let (rounds, error) = flood(&mut server(), |_| frame(PING, 0, 0, &[1; 8]));
    assert_eq!(
        (rounds, error),
        (3, ConnectionError::Flood(Flood::Pings)),
        "pings"
    );
    let (_, error) = flood(&mut server(), |_| frame(SETTINGS, 0, 0, &[]));
    assert_eq!(error, idle, "settings");
    let (_, error) = flood(&mut server(), |_| frame(PRIORITY, 0, 1, &[0; 5]));
    assert_eq!(error, idle, "priority");
    let (_, error) = flood(&mut server(), |_| frame(99, 0, 0, &[]));
    assert_eq!(error, idle, "unknown kinds");
    let (_, error) = flood(&mut server(), |_| frame(GOAWAY, 0, 0, &[0; 8]));
    assert_eq!(error, idle, "goaways");
    let (_, error) = flood(&mut server(), |round| match round {
        0 => request(1),
        _ => frame(DATA, 0, 1, &[]),
    });
    assert_eq!(error, idle, "empty data");
    let (_, error) = flood(&mut server(), |round| match round {
        0 => [request(1), reset(1)].concat(),
        _ => frame(DATA, 0, 1, b"x"),
    });
    assert_eq!(error, idle, "data for a stream that is gone");
    let (_, error) = flood(&mut server(), |round| match round {
        0 => request(1),
        _ => frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 1]),
    });
    assert_eq!(error, idle, "window updates");

    let (rounds, error) = flood(&mut server(), |round| match round {
        0 => frame(HEADERS, 0, 1, &get()),
        _ => frame(CONTINUATION, 0, 1, &[]),
    });
    let expected = ConnectionError::Flood(Flood::Continuations);
    assert_eq!((rounds, error), (limits::CONTINUATIONS_MAX + 1, expected));
    let (_, error) = flood(&mut server(), |round| match round {
        0 => frame(HEADERS, 0, 1, &get()),
        _ => frame(CONTINUATION, 0, 1, &[0; 16_000]),
    });
    assert_eq!(error, ConnectionError::Flood(Flood::HeaderBlock));
    // SETTINGS that move the windows of many streams cost by the stream.
    let mut busy = server();
    for id in 0..20_000 {
        busy.receive(&request(2 * id + 1), NOW).unwrap();
        while busy.poll_event().is_some() {}
    }
    let (rounds, error) = flood(&mut busy, |round| {
        frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, (round % 2) as u8])
    });
    assert_eq!(error, idle);
    assert!(rounds < 20, "{rounds}");
}

// Catches: more streams than announced, or a header list beyond the bound taken.
#[test]
fn streams_and_header_lists_are_bounded() {
    let mut server = server_with(Settings {
        streams_max: 2,
        header_list_bytes_max: 1000,
        ..Settings::default()
    });
    let open = |id| frame(HEADERS, FLAG_END_HEADERS, id, &get());
    assert_eq!(
        outcome(&mut server, &[open(1), open(3)].concat()),
        Outcome::Fine(2)
    );
    let refused = Outcome::Stream(5, ErrorCode::REFUSED_STREAM);
    assert_eq!(outcome(&mut server, &open(5)), refused);
    assert_eq!(
        outcome(&mut server, &frame(RST_STREAM, 0, 1, &[0; 4])),
        Outcome::Fine(1)
    );
    let large = get_with(&[("a", &"b".repeat(1000))]);
    let refused = Outcome::Stream(7, ErrorCode::FRAME_SIZE_ERROR);
    assert_eq!(
        outcome(&mut server, &frame(HEADERS, BOTH, 7, &large)),
        refused
    );
    assert_eq!(
        outcome(&mut server, &frame(HEADERS, BOTH, 9, &get())),
        Outcome::Fine(1)
    );
    assert_eq!(
        outcome(&mut server, &frame(RST_STREAM, 0, 9, &[0; 4])),
        Outcome::Fine(1)
    );
    // A bomb: one large entry, meant a thousand times.
    let mut bomb = get();
    bomb.extend([
        0x40,
        1,
        b'a',
        0x7f,
        0x80 | (3000 - 127) as u8 & 0x7f,
        ((3000 - 127) >> 7) as u8,
    ]);
    bomb.extend([b'x'; 3000]);
    bomb.extend([0xbe; 10_000]);
    let refused = Outcome::Stream(11, ErrorCode::FRAME_SIZE_ERROR);
    assert_eq!(
        outcome(&mut server, &frame(HEADERS, BOTH, 11, &bomb)),
        refused
    );
}
