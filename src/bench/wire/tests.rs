//! Pure. Frames by hand against the client's side.

use super::*;

#[derive(Default)]
struct Log(Vec<String>);

impl Answers for Log {
    fn message(&mut self, tag: u64, body: &[u8]) {
        self.0
            .push(format!("{tag}: {}", String::from_utf8_lossy(body)));
    }
    fn ended(&mut self, tag: u64, status: &Status) {
        self.0
            .push(format!("{tag} ended {} {}", status.code, status.message));
    }
}

fn frame(kind: u8, flags: u8, id: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, payload.len(), kind, flags, id);
    out.extend_from_slice(payload);
    out
}

fn connected(settings: &[u8]) -> Wire {
    let mut wire = Wire::new("host", &[]);
    wire.output().clear();
    wire.receive(&frame(SETTINGS, 0, 0, settings), &mut Log::default())
        .expect("settings");
    assert_eq!(*wire.output(), frame(SETTINGS, ACK, 0, &[]));
    wire.output().clear();
    wire
}

fn frames(mut bytes: &[u8]) -> Vec<(u8, u8, u32, usize)> {
    let mut list = Vec::new();
    while let Some((h, rest)) = bytes.split_first_chunk::<9>() {
        let size = u32::from_be_bytes([0, h[0], h[1], h[2]]) as usize;
        list.push((
            h[3],
            h[4],
            u32::from_be_bytes([h[5], h[6], h[7], h[8]]),
            size,
        ));
        bytes = &rest[size..];
    }
    list
}

const TRAILERS_OK: &[u8] = b"\x00\x0bgrpc-status\x010";

// Catches: messages cut at any byte, or several in one frame, read wrongly.
#[test]
fn answers_survive_any_cut() {
    let mut bytes = frame(HEADERS, END_HEADERS, 1, &[0x88]);
    bytes.extend(frame(DATA, 0, 1, b"\x00\x00\x00\x00\x02ab\x00\x00"));
    bytes.extend(frame(DATA, 0, 1, b"\x00\x00\x03cd"));
    bytes.extend(frame(DATA, 0, 1, b"e\x00\x00\x00\x00\x00"));
    bytes.extend(frame(HEADERS, END_HEADERS | END_STREAM, 1, TRAILERS_OK));
    for cut in 0..bytes.len() {
        let mut wire = connected(&[]);
        wire.call("/s/M", 7, b"", true);
        let mut log = Log::default();
        let used = wire.receive(&bytes[..cut], &mut log).expect("valid");
        wire.receive(&bytes[used..], &mut log).expect("valid");
        assert_eq!(log.0, ["7: ab", "7: cde", "7: ", "7 ended 0 "]);
        assert_eq!(wire.open_calls(), 0);
    }
}

// Catches: data sent past a window, or never sent after the window opens again.
#[test]
fn windows_hold_data_back() {
    let mut wire = connected(&[0, 4, 0, 0, 0, 10, 0, 5, 0, 0, 64, 0]);
    wire.call("/s/M", 1, b"0123456789", true);
    let sent = frames(wire.output());
    assert_eq!(sent[1], (DATA, 0, 1, 10));
    wire.output().clear();
    wire.receive(
        &frame(WINDOW_UPDATE, 0, 1, &3u32.to_be_bytes()),
        &mut Log::default(),
    )
    .expect("valid");
    assert_eq!(frames(wire.output()), [(DATA, 0, 1, 3)]);
    wire.output().clear();
    wire.receive(
        &frame(WINDOW_UPDATE, 0, 1, &100u32.to_be_bytes()),
        &mut Log::default(),
    )
    .expect("valid");
    assert_eq!(frames(wire.output()), [(DATA, END_STREAM, 1, 2)]);
}

// Catches: answers in another order than the calls mixed up, or a call that ends twice.
#[test]
fn calls_end_in_any_order() {
    let mut wire = connected(&[]);
    for tag in 0..5 {
        wire.call("/s/M", tag, b"x", true);
    }
    let mut log = Log::default();
    for id in [5, 1, 9, 3, 7] {
        let bytes = frame(HEADERS, END_HEADERS | END_STREAM, id, TRAILERS_OK);
        wire.receive(&bytes, &mut log).expect("valid");
    }
    let order: Vec<_> = log.0.iter().map(|text| &text[..1]).collect();
    assert_eq!(order, ["2", "0", "4", "1", "3"]);
    assert_eq!((wire.open_calls(), wire.first_id), (0, 11));
}

// Catches: a ping without its echo, a refusal without its text, a lost GOAWAY.
#[test]
fn control_frames_are_answered() {
    let mut wire = connected(&[]);
    let mut log = Log::default();
    wire.receive(&frame(PING, 0, 0, b"12345678"), &mut log)
        .expect("valid");
    assert_eq!(*wire.output(), frame(PING, ACK, 0, b"12345678"));
    wire.call("/s/M", 3, b"", true);
    let block = b"\x00\x0bgrpc-status\x015\x00\x0cgrpc-message\x05a%20b";
    wire.receive(
        &frame(HEADERS, END_HEADERS | END_STREAM, 1, block),
        &mut log,
    )
    .expect("valid");
    assert_eq!(log.0, ["3 ended 5 a b"]);
    let goaway = frame(GOAWAY, 0, 0, b"\0\0\0\0\0\0\0\x0bcalm");
    let error = WireError::GoAway {
        code: 11,
        text: "calm".to_string(),
    };
    assert_eq!(wire.receive(&goaway, &mut log), Err(error));
}
