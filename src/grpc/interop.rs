//! Pure. A foreign HTTP/2 client (the `h2` crate) against our server, and ours against its server,
//! over an in-memory pipe. Tests only.

use super::*;
use crate::env::Monotonic;
use crate::http2::{self, ClientConnection};
use bytes::Bytes;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

const NOW: Monotonic = Monotonic(1);

fn message(body: &[u8]) -> Vec<u8> {
    [&message::message_prefix(body.len())[..], body].concat()
}

/// Serves a pipe: `/s/Echo` answers each message with itself, `/s/Unary` with its size as decimal
/// digits, `/s/Count` with that many messages of 1000 bytes, `/s/Fail` with a status.
async fn serve(pipe: DuplexStream) {
    let (mut reader, mut writer) = tokio::io::split(pipe);
    let mut out = Vec::new();
    let paths = ["/s/Echo", "/s/Unary", "/s/Count", "/s/Fail"];
    let methods: Vec<_> = (0..4).map(|i| (paths[i], MethodId(i as u16))).collect();
    let methods = Arc::new(MethodTable::new(&methods));
    let mut server = GrpcConnection::new(GrpcSettings::default(), methods, NOW);
    let mut calls = std::collections::BTreeMap::new();
    let mut buffer = vec![0; 65_536];
    loop {
        loop {
            while let Some(event) = server.poll_event() {
                match event {
                    Event::Request { stream, method, .. } => {
                        calls.insert(stream, method.0);
                    }
                    Event::Message { stream, bytes, end } => match calls[&stream] {
                        0 => {
                            server.reply(stream, |out| out.extend_from_slice(&bytes));
                            if end {
                                server.finish(stream, &Status::OK);
                            }
                        }
                        1 => {
                            let digits = bytes.len().to_string();
                            server.reply_unary(stream, digits.len(), |out| {
                                out.extend_from_slice(digits.as_bytes());
                            });
                        }
                        2 => {
                            let count: usize = str::from_utf8(&bytes).unwrap().parse().unwrap();
                            for i in 0..count {
                                server.reply_sized(stream, 1000, |out| {
                                    out.resize(out.len() + 1000, i as u8);
                                });
                            }
                            server.finish(stream, &Status::OK);
                        }
                        _ => server.finish(stream, &Status::new(Code::NotFound, "no: 100%")),
                    },
                    Event::HalfClosed { stream } => server.finish(stream, &Status::OK),
                    _ => {}
                }
            }
            server.check();
            let more = std::mem::take(server.output());
            if more.is_empty() {
                break;
            }
            out.extend_from_slice(&more);
        }
        // A server that only writes while it has something to say, and a client that does the
        // same, wait for each other.
        tokio::select! {
            size = reader.read(&mut buffer) => match size {
                Ok(0) | Err(_) => return,
                Ok(size) => server.receive(&buffer[..size], NOW).unwrap(),
            },
            size = writer.write(&out), if !out.is_empty() => match size {
                Ok(size) => drop(out.drain(..size)),
                Err(_) => return,
            },
        }
    }
}

fn request(path: &str) -> http::Request<()> {
    http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap()
}

/// A call of the foreign client: what it sends, then messages, `grpc-status` and message.
async fn call(
    client: &mut h2::client::SendRequest<Bytes>,
    path: &str,
    pieces: &[Vec<u8>],
) -> (Vec<Bytes>, String, String) {
    let mut ready = client.clone().ready().await.unwrap();
    let (answer, mut body) = ready.send_request(request(path), false).unwrap();
    for (i, piece) in pieces.iter().enumerate() {
        body.send_data(piece.clone().into(), i + 1 == pieces.len())
            .unwrap();
    }
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "application/grpc");
    let field = |map: &http::HeaderMap, name: &str| {
        map.get(name)
            .map_or(String::new(), |value| value.to_str().unwrap().to_string())
    };
    let mut fields = answer.headers().clone();
    let mut body = answer.into_body();
    let mut reader = MessageReader::default();
    let mut messages = Vec::new();
    while let Some(bytes) = body.data().await {
        let mut bytes = bytes.unwrap();
        body.flow_control().release_capacity(bytes.len()).unwrap();
        while let Some(message) = reader.take(&mut bytes, 1 << 30).unwrap() {
            messages.push(message);
        }
    }
    if let Some(trailers) = body.trailers().await.unwrap() {
        fields = trailers;
    }
    (
        messages,
        field(&fields, "grpc-status"),
        field(&fields, "grpc-message"),
    )
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(test);
}

// Catches: bytes that only our own two ends understand; windows of one byte or frames of any size
// that stall or break a call.
#[test]
fn a_foreign_client_is_served() {
    for (window, pipe_size) in [
        (1, 64),
        (17, 99),
        (1000, 1000),
        (65_535, 65_536),
        (1 << 24, 1 << 20),
    ] {
        block_on(async {
            let (ours, theirs) = duplex(pipe_size);
            let mut builder = h2::client::Builder::new();
            builder
                .initial_window_size(window)
                .max_frame_size(16_384 + window.min(1 << 20));
            let (mut client, connection) = builder.handshake::<_, Bytes>(theirs).await.unwrap();
            let driver = async { connection.await.unwrap() };
            let calls = async move {
                for _ in 0..3 {
                    let body = vec![9; 12_345];
                    let pieces = [message(&body)];
                    let (messages, status, _) = call(&mut client, "/s/Unary", &pieces).await;
                    assert_eq!(
                        (&messages[..], &*status),
                        (&[Bytes::from("12345")][..], "0")
                    );
                }
                let pieces = [message(b"one"), message(b""), message(&[3; 3000])];
                let (messages, status, _) = call(&mut client, "/s/Echo", &pieces).await;
                assert_eq!(
                    messages[..],
                    [b"one"[..].into(), Bytes::new(), vec![3; 3000].into()]
                );
                assert_eq!(status, "0");
                let count = if window < 1000 { 3 } else { 400 };
                let pieces = [message(count.to_string().as_bytes())];
                let (messages, status, _) = call(&mut client, "/s/Count", &pieces).await;
                assert_eq!((messages.len(), &*status), (count, "0"));
                for (i, message) in messages.iter().enumerate() {
                    assert!(message.len() == 1000 && message.iter().all(|b| *b == i as u8));
                }
                let failed = call(&mut client, "/s/Fail", &[message(b"x")]).await;
                assert_eq!(failed, (vec![], "5".into(), "no: 100%25".into()));
                let unknown = call(&mut client, "/s/What", &[message(b"x")]).await;
                assert_eq!(
                    (&*unknown.1, &*unknown.2),
                    ("12", "unknown method What for service s")
                );
            };
            tokio::select! {
                () = async { tokio::join!(serve(ours), driver); } => panic!("closed too early"),
                () = calls => {}
            }
        });
    }
}

// Catches: requests of our raw client that a foreign server refuses, and answers that it
// misreads.
#[test]
fn our_client_is_served_by_a_foreign_server() {
    block_on(async {
        let (mut ours, theirs) = duplex(10_000);
        let server = async move {
            let mut connection = h2::server::handshake(theirs).await.unwrap();
            while let Some(accepted) = connection.accept().await {
                let (request, mut respond) = accepted.unwrap();
                assert_eq!(request.uri().path(), "/s/Large");
                assert_eq!(request.headers()["x-extra"], "y");
                let head = http::Response::builder().status(200).body(()).unwrap();
                let mut body = respond.send_response(head, false).unwrap();
                body.send_data(message(&vec![8; 300_000]).into(), false)
                    .unwrap();
                let mut trailers = http::HeaderMap::new();
                trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                body.send_trailers(trailers).unwrap();
            }
        };
        let client = async move {
            let mut client = ClientConnection::new(http2::Settings::default(), NOW);
            let prepared = client.prepare(&[
                (":method", b"POST"),
                (":scheme", b"http"),
                (":authority", b"localhost"),
                (":path", b"/s/Large"),
                ("content-type", b"application/grpc"),
            ]);
            let mut extra = Vec::new();
            http2::put_field(&mut extra, "x-extra", b"y");
            let mut buffer = vec![0; 8192];
            for _ in 0..3 {
                let stream = client.open(prepared, &extra, false).unwrap();
                let body = message(&[1; 100]);
                client.send(stream, &body, true);
                let (mut size, mut done) = (0, false);
                while !done {
                    let out = std::mem::take(client.output());
                    ours.write_all(&out).await.unwrap();
                    let count = ours.read(&mut buffer).await.unwrap();
                    client.receive(&buffer[..count], NOW).unwrap();
                    client.check();
                    while let Some(event) = client.poll_event() {
                        match event {
                            http2::Event::Response { response, end, .. } => {
                                done = end;
                                let status = if end { Some(&b"0"[..]) } else { None };
                                assert_eq!(response.field("grpc-status"), status);
                            }
                            http2::Event::Data { bytes, .. } => size += bytes.len(),
                            other => panic!("{other:?}"),
                        }
                    }
                }
                assert_eq!(size, 300_005);
            }
        };
        tokio::select! {
            () = server => panic!("closed too early"),
            () = client => {}
        }
    });
}
