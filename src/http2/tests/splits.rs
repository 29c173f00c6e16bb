//! Pure. The same bytes, cut anywhere.

use super::*;

fn run(pieces: &[&[u8]]) -> (String, Vec<u8>) {
    let mut server = Connection::new(Settings::default(), NOW);
    let mut story = String::new();
    for piece in pieces {
        let result = server.receive(piece, NOW);
        while let Some(event) = server.poll_event() {
            story.push_str(&format!("{event:?}\n"));
        }
        if let Err(error) = result {
            story.push_str(&format!("{error}\n"));
            break;
        }
        server.check();
    }
    (story, std::mem::take(server.output()))
}

// Catches: a frame, preface or header that is understood differently when the socket cuts it.
#[test]
fn every_split_gives_the_same_events() {
    let mut script = PREFACE.to_vec();
    let fields = get_with(&[("user-agent", "split"), ("x", "y")]);
    script.extend(frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 1, 0]));
    script.extend(frame(HEADERS, FLAG_END_HEADERS, 1, &fields));
    script.extend(frame(DATA, FLAG_PADDED, 1, b"\x01hello\0"));
    script.extend(frame(HEADERS, 0, 3, &fields[..3]));
    script.extend(frame(CONTINUATION, FLAG_END_HEADERS, 3, &fields[3..]));
    script.extend(frame(PING, 0, 0, b"12345678"));
    script.extend(frame(DATA, FLAG_END_STREAM, 1, b"world"));
    script.extend(frame(RST_STREAM, 0, 3, &[0, 0, 0, 8]));
    script.extend(frame(HEADERS, BOTH, 5, &fields));
    script.extend(frame(GOAWAY, 0, 0, &[0; 8]));
    script.extend(frame(DATA, 0, 9, b"idle"));
    let whole = run(&[&script]);
    assert!(
        whole.0.contains("world") && whole.0.contains("never opened"),
        "{}",
        whole.0
    );
    for at in 0..script.len() {
        assert_eq!(run(&[&script[..at], &script[at..]]), whole, "split at {at}");
    }
    let bytes: Vec<&[u8]> = script.chunks(1).collect();
    assert_eq!(run(&bytes), whole);
}
