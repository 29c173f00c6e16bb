//! Pure. Random answers on many streams against a model of what must arrive.

use super::*;

/// A small deterministic random source.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }
}

// Catches: bytes lost, reordered or sent beyond a window, an end sent before its data, a writer
// never woken, whatever the windows, frame sizes and cuts. Both ends are ours; each checks the
// other's windows. The model is the list of what was sent.
#[test]
fn random_streams_arrive_whole() {
    for seed in 1..60 {
        let mut random = Random(seed * 0x9e37_79b9);
        let window = [1, 10, 1000, 65_535, 1 << 20][random.below(5) as usize];
        let client_settings = Settings {
            stream_window: window,
            connection_window: 65_535,
            ..Settings::default()
        };
        let mut client = ClientConnection::new(client_settings, NOW);
        let mut server = Connection::new(Settings::default(), NOW);
        let prepared = client.prepare(&[
            (":method", b"POST"),
            (":scheme", b"http"),
            (":path", b"/random"),
            ("x", b"y"),
        ]);
        let mut streams: Vec<Model> = Vec::new();
        let unit = (window as u64).min(5000);
        for _ in 0..400 {
            match random.below(6) {
                0 if streams.len() < 8 => {
                    let stream = client.open(prepared, &[], false).unwrap();
                    streams.push(Model::new(stream));
                }
                1 | 2 if !streams.is_empty() => {
                    let at = random.below(streams.len() as u64) as usize;
                    let model = &mut streams[at];
                    let size = random.below(3 * unit) as usize;
                    let bytes: Vec<u8> = (0..size).map(|_| random.below(256) as u8).collect();
                    model.server_sends(&mut server, &bytes, &mut random);
                }
                3 if !streams.is_empty() => {
                    let at = random.below(streams.len() as u64) as usize;
                    let model = &mut streams[at];
                    if !model.up_ended {
                        let bytes = vec![7; random.below(40_000) as usize];
                        let end = random.below(8) == 0;
                        model.up_ended = end;
                        model.up_sent += bytes.len();
                        client.send(model.stream, &bytes, end);
                    }
                }
                _ => exchange(&mut client, &mut server, &mut streams, &mut random),
            }
            server.check();
            client.check();
        }
        for model in &mut streams {
            if !model.up_ended {
                model.up_ended = true;
                client.send(model.stream, &[], true);
            }
        }
        for _ in 0..200_000 {
            exchange(&mut client, &mut server, &mut streams, &mut random);
            for model in &mut streams {
                if model.opened && !model.down_ended && model.may_send {
                    model.down_ended = true;
                    let trailers = HeaderBlock::new([("grpc-status", &b"0"[..])]);
                    server.send_trailers(model.stream, &trailers);
                }
            }
            if streams.iter().all(Model::done) {
                break;
            }
        }
        for model in &streams {
            assert!(model.done(), "seed {seed}: {model:?}");
            assert_eq!(model.down_got, model.down_sent, "seed {seed}");
            assert_eq!(model.up_got, model.up_sent, "seed {seed}");
        }
        assert_eq!((server.stream_count(), client.stream_count()), (0, 0));
    }
}

/// What one stream of the model test sent and got.
#[derive(Debug)]
struct Model {
    stream: StreamId,
    opened: bool,
    may_send: bool,
    headers_sent: bool,
    down_sent: Vec<u8>,
    down_got: Vec<u8>,
    down_ended: bool,
    down_end_seen: bool,
    up_sent: usize,
    up_got: usize,
    up_ended: bool,
    up_end_seen: bool,
}

impl Model {
    fn new(stream: StreamId) -> Model {
        Model {
            stream,
            opened: false,
            may_send: true,
            headers_sent: false,
            down_sent: Vec::new(),
            down_got: Vec::new(),
            down_ended: false,
            down_end_seen: false,
            up_sent: 0,
            up_got: 0,
            up_ended: false,
            up_end_seen: false,
        }
    }

    fn server_sends(&mut self, server: &mut Connection, bytes: &[u8], random: &mut Random) {
        if !self.opened || self.down_ended || !self.may_send || !server.is_open(self.stream) {
            return;
        }
        if !self.headers_sent {
            self.headers_sent = true;
            let head = HeaderBlock::new([(":status", &b"200"[..])]);
            server.respond_headers(self.stream, &head, false);
        }
        self.down_sent.extend_from_slice(bytes);
        let slot = server.slot(self.stream).unwrap();
        self.may_send = match random.below(4) {
            0 => server.send_data(self.stream, bytes, false),
            1 => server.send_bytes(self.stream, bytes.to_vec().into(), false),
            2 => server.data_at(slot, bytes.len(), false, |out| out.extend_from_slice(bytes)),
            _ => server.data_unsized_at(slot, |out| out.extend_from_slice(bytes)),
        };
    }

    fn done(&self) -> bool {
        self.down_end_seen && self.up_end_seen
    }
}

/// Carries bytes both ways in random pieces, and checks what they say.
fn exchange(
    client: &mut ClientConnection,
    server: &mut Connection,
    streams: &mut [Model],
    random: &mut Random,
) {
    let up = std::mem::take(client.output());
    let mut rest = &up[..];
    while !rest.is_empty() {
        let size = 1 + random.below(rest.len() as u64) as usize;
        server.receive(&rest[..size], NOW).unwrap();
        rest = &rest[size..];
    }
    while let Some(event) = server.poll_event() {
        match event {
            Event::Headers { stream, .. } => find(streams, stream).opened = true,
            Event::Data {
                stream, bytes, end, ..
            } => {
                let model = find(streams, stream);
                model.up_got += bytes.len();
                model.up_end_seen |= end;
            }
            Event::Writable { stream } => find(streams, stream).may_send = true,
            other => panic!("{other:?}"),
        }
    }
    let down = std::mem::take(server.output());
    let mut rest = &down[..];
    while !rest.is_empty() {
        let size = 1 + random.below(rest.len() as u64) as usize;
        client.receive(&rest[..size], NOW).unwrap();
        rest = &rest[size..];
    }
    while let Some(event) = client.poll_event() {
        match event {
            Event::Response { stream, end, .. } => find(streams, stream).down_end_seen |= end,
            Event::Data { stream, bytes, .. } => {
                find(streams, stream).down_got.extend_from_slice(&bytes);
            }
            // The server ended before the client did.
            Event::Reset {
                stream,
                code: ErrorCode::NO_ERROR,
                ..
            } => {
                find(streams, stream).up_end_seen = true;
            }
            Event::Writable { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn find(streams: &mut [Model], stream: StreamId) -> &mut Model {
    streams
        .iter_mut()
        .find(|model| model.stream == stream)
        .unwrap()
}
