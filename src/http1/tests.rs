//! Pure. HTTP/1.1: a table of requests and what becomes of them, cuts, bounds, answers.

use super::*;
use crate::http2::PREFACE;
use crate::limits::http2 as limits;

/// What a connection makes of some bytes: requests answered with `ok`, then the output.
fn run(pieces: &[&[u8]]) -> (Vec<Request>, String, bool) {
    let mut connection = Connection::new();
    let mut requests = Vec::new();
    for piece in pieces {
        connection.receive(piece);
        while let Some(request) = connection.poll_request() {
            requests.push(request);
            connection.respond(200, &[], b"ok");
        }
    }
    let out = String::from_utf8(std::mem::take(connection.output())).unwrap();
    (requests, out, connection.is_closing())
}

// Catches: a peer of another protocol that is left waiting for an answer, because its first bytes
// hold no line end: a TLS client on a port without TLS, for one.
#[test]
fn what_cannot_become_a_request_is_refused_at_once() {
    let hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";
    let (long, short) = ([b'G'; 33], [b'G'; 32]);
    let whole = [&long, &b" / HTTP/1.1\r\nHost: a\r\n\r\n"[..]].concat();
    let refused: &[&[u8]] = &[
        hello,
        b"\0",
        b"g\xc3",
        b" GET",
        b"garbage\r\n",
        &long,
        &whole,
    ];
    for bytes in refused {
        let (_, out, closing) = run(&[bytes]);
        let text = bytes.escape_ascii();
        assert!(out.starts_with("HTTP/1.1 400 "), "{text}: {out:?}");
        assert!(closing, "{text}");
    }
    let begun: &[&[u8]] = &[b"", b"\r\n", b"G", b"GET ", b"GET /\xff", b"PRI * ", &short];
    for bytes in begun {
        assert_eq!(run(&[bytes]), (vec![], String::new(), false));
    }
}

// Catches: a request read wrongly, or garbage read as one. `Ok` lists method, path, query, body and
// whether the connection stays; `Err` is the status.
#[test]
fn requests_are_told_from_garbage() {
    type Seen = (&'static str, &'static str, &'static str, &'static str, bool);
    let cases: &[(&str, Result<Seen, u16>)] = &[
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            Ok(("GET", "/", "", "", true)),
        ),
        (
            "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
            Ok(("GET", "/", "", "", true)),
        ),
        (
            "GET /health?x=1&y HTTP/1.1\nHost: a\n\n",
            Ok(("GET", "/health", "x=1&y", "", true)),
        ),
        ("GET / HTTP/1.0\r\n\r\n", Ok(("GET", "/", "", "", false))),
        (
            "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
            Ok(("GET", "/", "", "", true)),
        ),
        (
            "GET / HTTP/1.1\r\nHost: a\r\nConnection: foo, Close\r\n\r\n",
            Ok(("GET", "/", "", "", false)),
        ),
        (
            "GET http://a:1/metrics?z HTTP/1.1\r\nHost: a\r\n\r\n",
            Ok(("GET", "/metrics", "z", "", true)),
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
            Ok(("OPTIONS", "*", "", "", true)),
        ),
        (
            "POST /v3/kv/put HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody",
            Ok(("POST", "/v3/kv/put", "", "body", true)),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
             3\r\nabc\r\nA;ext=1\r\n0123456789\r\n0\r\nTrailer: x\r\n\r\n",
            Ok(("POST", "/", "", "abc0123456789", true)),
        ),
        ("garbage\r\n\r\n", Err(400)),
        ("GET /\r\n\r\n", Err(400)),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Err(400)),
        ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Err(505)),
        ("G@T / HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        ("GET nowhere HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        ("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: a\r\nnocolon\r\n\r\n", Err(400)),
        ("GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n", Err(400)),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
            Err(400),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            Err(400),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n",
            Err(413),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(400),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
            Err(501),
        ),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
            Err(501),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            Err(400),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
            Err(400),
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n",
            Err(413),
        ),
    ];
    for (text, expected) in cases {
        let (requests, out, closing) = run(&[text.as_bytes()]);
        match *expected {
            Ok((method, path, query, body, stays)) => {
                let [request] = &requests[..] else {
                    panic!("{text:?}: {out}")
                };
                let got = (
                    &*request.method,
                    &*request.path,
                    &*request.query,
                    &request.body[..],
                );
                assert_eq!(got, (method, path, query, body.as_bytes()), "{text:?}");
                assert_eq!(closing, !stays, "{text:?}");
                assert!(out.starts_with("HTTP/1.1 200 OK\r\n"), "{out}");
                assert!(
                    out.ends_with("Content-Length: 2\r\n\r\nok") || !stays,
                    "{out}"
                );
            }
            Err(status) => {
                assert!(requests.is_empty(), "{text:?}");
                assert!(
                    out.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{text:?}: {out}"
                );
                assert!(out.contains("Connection: close\r\n") && closing, "{text:?}");
            }
        }
        // Cut anywhere, the same comes of it.
        for at in 1..text.len() {
            let (cut_requests, cut_out, _) = run(&[&text.as_bytes()[..at], &text.as_bytes()[at..]]);
            assert_eq!(
                (&cut_requests, &cut_out),
                (&requests, &out),
                "{text:?} cut at {at}"
            );
        }
    }
}

// Catches: pipelined requests lost, mixed, or answered out of turn.
#[test]
fn pipelined_requests_come_in_turn() {
    let post = "POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none";
    let get = "GET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let mut connection = Connection::new();
    connection.receive([post, get, get].concat().as_bytes());
    let first = connection.poll_request().unwrap();
    assert_eq!((&*first.path, &first.body[..]), ("/1", &b"one"[..]));
    assert_eq!(connection.poll_request(), None, "before the answer");
    connection.respond(204, &[], b"");
    assert_eq!(connection.poll_request().unwrap().path, "/2");
    connection.respond(200, &[("Content-Type", "text/plain")], b"two");
    assert_eq!(connection.poll_request(), None, "after close");
    let out = String::from_utf8(connection.output().clone()).unwrap();
    let expected = "HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\
                    Connection: close\r\nContent-Length: 3\r\n\r\ntwo";
    assert_eq!(out, expected);
    assert!(connection.is_closing());
}

// Catches: an answer of unknown size that a client cannot tell the end of, and bodies sent to HEAD.
#[test]
fn streamed_answers_have_an_end() {
    for (request, body) in [
        (
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
        ),
        ("GET / HTTP/1.0\r\n\r\n", "Connection: close\r\n\r\nabc"),
        (
            "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n",
            "Transfer-Encoding: chunked\r\n\r\n",
        ),
    ] {
        let mut connection = Connection::new();
        connection.receive(request.as_bytes());
        connection.poll_request().unwrap();
        connection.start(200, &[]);
        assert!(connection.part(b"ab") && connection.part(b"") && connection.part(b"c"));
        connection.end();
        let out = String::from_utf8(connection.output().clone()).unwrap();
        assert_eq!(out, format!("HTTP/1.1 200 OK\r\n{body}"));
    }
    let (_, out, _) = run(&[b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"]);
    assert!(out.ends_with("Content-Length: 2\r\n\r\n"));
}

// Catches: a head without end, or too many headers, kept.
#[test]
fn heads_are_bounded() {
    let mut connection = Connection::new();
    connection.receive(b"GET / HTTP/1.1\r\nHost: a\r\n");
    for _ in 0..10_000 {
        connection.receive(b"x: yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\r\n");
        assert_eq!(connection.poll_request(), None);
    }
    assert!(connection.is_closing());
    assert!(connection.output().starts_with(b"HTTP/1.1 431 "));
    assert!(connection.output().len() < 1000);
    let many = "x: y\r\n".repeat(limits::HTTP1_HEADERS_MAX);
    let (requests, out, _) = run(&[format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n").as_bytes()]);
    assert!(requests.is_empty() && out.starts_with("HTTP/1.1 431 "));
    // Requests that wait behind an answer stop the reading.
    let mut connection = Connection::new();
    let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    connection.receive(request);
    connection.poll_request().unwrap();
    while connection.wants_read() {
        connection.receive(request);
    }
    connection.respond(200, &[], b"");
    assert!(connection.poll_request().is_some());
}

// Catches: a client that waits for `100 Continue` for ever, or is sent it for nothing.
#[test]
fn continue_is_sent_when_it_is_waited_for() {
    let head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n";
    let mut connection = Connection::new();
    connection.receive(head.as_bytes());
    assert_eq!(connection.poll_request(), None);
    assert_eq!(connection.output(), b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.output().clear();
    connection.receive(b"x");
    assert!(connection.poll_request().is_some());
    let (_, out, _) = run(&[format!("{head}x").as_bytes()]);
    assert!(out.starts_with("HTTP/1.1 200 "));
}

// Catches: an HTTP/2 client taken for HTTP/1 because its preface came in pieces, or the reverse.
#[test]
fn the_first_bytes_tell_the_protocol() {
    for size in 0..PREFACE.len() {
        assert_eq!(detect(&PREFACE[..size]), Protocol::Unknown);
    }
    assert_eq!(detect(PREFACE), Protocol::Http2);
    assert_eq!(detect(&[PREFACE, &b"more"[..]].concat()), Protocol::Http2);
    for first in [
        "G",
        "POST /",
        "PRI x",
        "PUT",
        "\0",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\rX",
    ] {
        assert_eq!(detect(first.as_bytes()), Protocol::Http1, "{first}");
    }
}

// Catches: queries that lose repeated keys or their decoding.
#[test]
fn queries_are_decoded() {
    let request = Request::new(
        "GET",
        "/health?exclude=NOSPACE&exclude=COR%52UPT&verbose&a+b=%zz%",
        Vec::new(),
        Default::default(),
    );
    assert_eq!(request.query_values("exclude"), ["NOSPACE", "CORRUPT"]);
    assert!(request.has_query("verbose") && !request.has_query("x"));
    assert_eq!(request.query_values("a b"), ["%zz%"]);
}

// Catches: many small requests in a row whose large answers are all made before the first is sent.
#[test]
fn answers_in_a_row_are_bounded() {
    let mut connection = Connection::new();
    let body = vec![b'x'; 300 << 10];
    for _ in 0..100 {
        connection.receive(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    }
    let mut answered = 0;
    while connection.poll_request().is_some() {
        connection.respond(200, &[], &body);
        answered += 1;
    }
    let size = connection.output().len();
    assert!(
        size <= limits::OUTPUT_BYTES_MAX + body.len() + 1000,
        "{size}"
    );
    // The last that fits says so; its client asks again for the others.
    assert_eq!(answered, 4);
    assert!(connection.is_closing());
    let out = String::from_utf8(std::mem::take(connection.output())).unwrap();
    assert_eq!(out.matches("Connection: close").count(), 1);
    assert_eq!(out.matches("HTTP/1.1 200 OK").count(), 4);
}
