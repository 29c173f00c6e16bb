//! What the wire layer costs per request, without sockets: HPACK, the frame loop of a unary call,
//! and large answers. Run with `cargo bench --bench http2`.

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ringbolt::env::Monotonic;
use ringbolt::grpc::{Event, GrpcConnection, GrpcSettings, MethodId, MethodTable, Status};
use ringbolt::http2::{self, ClientConnection, Connection, Decoder, put_field};
use std::hint::black_box;
use std::sync::Arc;

const NOW: Monotonic = Monotonic(1_000_000_000);

/// The fields of a Go client's request.
const FIELDS: [(&str, &[u8]); 8] = [
    (":method", b"POST"),
    (":scheme", b"http"),
    (":path", b"/etcdserverpb.KV/Put"),
    (":authority", b"127.0.0.1:2379"),
    ("content-type", b"application/grpc"),
    ("user-agent", b"grpc-go/1.71.1"),
    ("te", b"trailers"),
    ("client-api-version", b"3.7.1"),
];

/// A client that has a connection's table warm, and the server's decoder beside it.
fn blocks() -> (Vec<u8>, Vec<u8>) {
    let fields: Vec<_> = FIELDS
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_vec()))
        .collect();
    let mut encoder = http2::Encoder::new(4096);
    let (mut first, mut warm) = (Vec::new(), Vec::new());
    encoder.encode(&fields, &mut first);
    encoder.encode(&fields, &mut warm);
    (first, warm)
}

fn hpack(c: &mut Criterion) {
    let (first, warm) = blocks();
    let mut decoder = Decoder::new(4096, 65_536, b"grpc-timeout");
    decoder.decode(&first).unwrap();
    c.bench_function("hpack/warm", |b| {
        b.iter(|| {
            decoder.decode(black_box(&warm)).unwrap();
            black_box(decoder.fields().numbers().len())
        })
    });
    c.bench_function("hpack/first", |b| {
        b.iter(|| {
            let mut decoder = Decoder::new(4096, 65_536, b"grpc-timeout");
            decoder.decode(black_box(&first)).unwrap();
            black_box(decoder.list().count())
        })
    });
    // A new timeout each time, inserted into the table under the name inserted first.
    let mut decoder = Decoder::new(4096, 65_536, b"grpc-timeout");
    let mut count = 0u32;
    let mut insert = vec![0x40];
    insert.push(12);
    insert.extend(b"grpc-timeout");
    insert.extend(b"\x084999999u");
    decoder.decode(&first).unwrap();
    decoder.decode(&insert).unwrap();
    c.bench_function("hpack/new_timeout", |b| {
        b.iter(|| {
            // The timeout, by the name of the newest entry, and seven static or dynamic fields.
            count = (count + 1) % 1_000_000;
            let mut block = [
                0x83, 0x86, 0x7e, 8, 0, 0, 0, 0, 0, 0, 0, b'u', 0x84, 0x87, 0x88,
            ];
            let digits = 4_000_000 + count;
            for (i, place) in block[4..11].iter_mut().enumerate() {
                *place = b'0' + (digits / 10u32.pow(6 - i as u32) % 10) as u8;
            }
            decoder.decode(black_box(&block)).unwrap();
            black_box(decoder.fields().varying())
        })
    });
}

fn server() -> GrpcConnection {
    let paths = [
        ("/etcdserverpb.KV/Range", MethodId(0)),
        ("/etcdserverpb.KV/Put", MethodId(1)),
    ];
    GrpcConnection::new(
        GrpcSettings::default(),
        Arc::new(MethodTable::new(&paths)),
        NOW,
    )
}

/// Carries everything both ways, and drops the events of the client.
fn settle(client: &mut ClientConnection, server: &mut GrpcConnection) {
    for _ in 0..3 {
        let up = std::mem::take(client.output());
        server.receive(&up, NOW).unwrap();
        let down = std::mem::take(server.output());
        client.receive(&down, NOW).unwrap();
        while client.poll_event().is_some() {}
    }
}

fn message(body: &[u8]) -> Vec<u8> {
    let mut message = vec![0];
    message.extend((body.len() as u32).to_be_bytes());
    message.extend_from_slice(body);
    message
}

/// Answers every call with `size` bytes; gives how many there were.
fn answer(server: &mut GrpcConnection, size: usize) -> usize {
    let mut count = 0;
    while let Some(event) = server.poll_event() {
        if let Event::Message { stream, bytes, .. } = event {
            black_box(bytes);
            server.reply_unary(stream, size, |out| out.resize(out.len() + size, 7));
            count += 1;
        }
    }
    count
}

/// One unary call through the server: frames in, events, frames out. `batch` calls per receive.
fn unary(c: &mut Criterion) {
    let mut group = c.benchmark_group("unary");
    for (name, batch, timeout) in [("1", 1, false), ("16", 16, false), ("16_timeout", 16, true)] {
        let mut client = ClientConnection::new(http2::Settings::default(), NOW);
        let mut server = server();
        let prepared = client.prepare(&FIELDS);
        let body = message(&[1; 300]);
        // Warm the tables.
        for _ in 0..3 {
            let stream = client.open(prepared, &[], false).unwrap();
            client.send(stream, &body, true);
            settle(&mut client, &mut server);
            answer(&mut server, 28);
            settle(&mut client, &mut server);
        }
        // The same frames again and again, with fresh stream ids.
        let mut extra = Vec::new();
        if timeout {
            put_field(&mut extra, "grpc-timeout", b"4999999u");
        }
        let stream = client.open(prepared, &extra, false).unwrap();
        client.send(stream, &body, true);
        let call = std::mem::take(client.output());
        let head_size = 9 + usize::from(call[2]);
        let mut turn = call.repeat(batch);
        let mut id = stream.0;
        let mut credit = 0;
        let mut update = vec![0, 0, 4, 8, 0, 0, 0, 0, 0];
        update.extend((1u32 << 24).to_be_bytes());
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                for call in turn.chunks_mut(call.len()) {
                    call[5..9].copy_from_slice(&id.to_be_bytes());
                    call[head_size + 5..head_size + 9].copy_from_slice(&id.to_be_bytes());
                    id += 2;
                }
                server.receive(black_box(&turn), NOW).unwrap();
                assert_eq!(answer(&mut server, 28), batch);
                credit += 33 * batch;
                if credit > 1 << 15 {
                    credit = 0;
                    server.receive(&update[..9], NOW).unwrap();
                    let increment = (1u32 << 16).to_be_bytes();
                    server.receive(&increment, NOW).unwrap();
                }
                let out = server.output();
                black_box(out.len());
                out.clear();
            })
        });
    }
    group.finish();
}

/// The answering half alone.
fn reply(c: &mut Criterion) {
    // A fresh server per sample of a thousand calls: ids and windows stay small.
    c.bench_function("reply_unary", |b| {
        b.iter_custom(|rounds| {
            let mut spent = std::time::Duration::ZERO;
            let mut left = rounds;
            while left > 0 {
                let count = left.min(1000);
                left -= count;
                let mut client = ClientConnection::new(http2::Settings::default(), NOW);
                let mut server = server();
                let prepared = client.prepare(&FIELDS);
                let body = message(&[1; 32]);
                for _ in 0..count {
                    let stream = client.open(prepared, &[], false).unwrap();
                    client.send(stream, &body, true);
                }
                settle(&mut client, &mut server);
                let mut streams = Vec::new();
                while let Some(event) = server.poll_event() {
                    if let Event::Message { stream, .. } = event {
                        streams.push(stream);
                    }
                }
                server.output().reserve(1 << 20);
                let start = std::time::Instant::now();
                for stream in streams {
                    server.reply_unary(stream, 28, |out| out.extend_from_slice(&[7; 28]));
                }
                spent += start.elapsed();
                black_box(server.output().len());
            }
            spent
        })
    });
}

/// Bytes per second of large answers and large requests.
fn large(c: &mut Criterion) {
    const SIZE: usize = 8 << 20;
    let mut group = c.benchmark_group("large");
    group.throughput(Throughput::Bytes(SIZE as u64));
    group.sample_size(20);
    for (name, part) in [("answer_64k_parts", 65_536), ("answer_4k_parts", 4096)] {
        let bytes = vec![3; part];
        group.bench_function(name, |b| {
            b.iter(|| {
                let settings = http2::Settings {
                    stream_window: 1 << 30,
                    connection_window: 1 << 30,
                    ..Default::default()
                };
                let mut client = ClientConnection::new(settings, NOW);
                let mut server = server();
                let prepared = client.prepare(&FIELDS);
                let stream = client.open(prepared, &[], false).unwrap();
                client.send(stream, &message(b"x"), true);
                settle(&mut client, &mut server);
                while server.poll_event().is_some() {}
                server.message_start(stream, SIZE);
                let mut sent = 0;
                while sent < SIZE {
                    server.message_part(stream, &bytes);
                    sent += part;
                    let out = server.output();
                    if out.len() > 200_000 {
                        black_box(out.len());
                        out.clear();
                    }
                }
                server.finish(stream, &Status::OK);
                server.output().clear();
            })
        });
    }
    group.bench_function("request_data", |b| {
        let data: Bytes = vec![0; 16_384].into();
        b.iter(|| {
            let mut server = Connection::new(http2::Settings::default(), NOW);
            let mut client = ClientConnection::new(http2::Settings::default(), NOW);
            let prepared = client.prepare(&FIELDS);
            let stream = client.open(prepared, &[], false).unwrap();
            for _ in 0..SIZE / data.len() {
                client.send_bytes(stream, data.clone(), false);
                let up = client.output();
                server.receive(up, NOW).unwrap();
                up.clear();
                while let Some(event) = server.poll_event() {
                    black_box(&event);
                }
                let down = server.output();
                client.receive(down, NOW).unwrap();
                down.clear();
            }
        })
    });
    group.finish();
}

criterion_group!(benches, hpack, reply, unary, large);
criterion_main!(benches);
