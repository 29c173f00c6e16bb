//! Driver. One client connection: which protocol it speaks, then bytes in and bytes out.

use super::core::CoreState;
use crate::api::{Conn, PlainRequest};
use crate::env::{ReadHalf, WriteHalf};
use crate::http1::{self, Protocol, detect};
use crate::limits::server as limits;
use crate::runtime::{Abort, Accepted, World};
use std::rc::Rc;

/// The receive buffer of a new connection; it grows to `RECEIVE_BYTES` while it is filled.
const RECEIVE_BYTES_FIRST: usize = 4 << 10;

/// Serves a connection until it ends.
pub async fn serve<W: World>(core: Rc<CoreState<W>>, accepted: Accepted) {
    let peer = accepted.peer().clone();
    let (mut reader, writer) = accepted.into_halves(&core.env);
    let patience = core.env.sleep(limits::FIRST_BYTES_PATIENCE);
    let first = futures_lite::future::or(async { first_bytes(&mut reader).await }, async {
        patience.await;
        None
    })
    .await;
    match first {
        Some((Protocol::Http2, bytes)) => http2(core, reader, writer, bytes).await,
        Some((_, bytes)) => http1(&core, reader, writer, &bytes).await,
        // Closed or silent before it said anything: port scans and health checks of the network.
        None => {
            tracing::debug!(remote_addr = %peer, "connection ended before its first request");
            writer.abort();
        }
    }
}

/// Reads until the protocol is known.
async fn first_bytes(reader: &mut impl ReadHalf) -> Option<(Protocol, Vec<u8>)> {
    let mut bytes = Vec::new();
    let mut buffer = vec![0; RECEIVE_BYTES_FIRST];
    loop {
        let count = reader
            .receive(&mut buffer)
            .await
            .ok()
            .filter(|count| *count > 0)?;
        bytes.extend_from_slice(&buffer[..count]);
        match detect(&bytes) {
            Protocol::Unknown => {}
            protocol => return Some((protocol, bytes)),
        }
    }
}

async fn http2<W: World>(
    core: Rc<CoreState<W>>,
    mut reader: W::Reader,
    writer: W::Writer,
    first: Vec<u8>,
) {
    let conn = core.desk.connect(core.settings);
    core.env
        .spawn(send(Rc::clone(&core), Rc::clone(&conn), writer));
    if core.desk.receive(&conn, &first).is_ok() {
        receive(&core, &conn, &mut reader).await;
    }
    core.desk.disconnect(&conn);
    // The last output has a moment to leave; a peer that does not read it is not waited for.
    let patience = core.env.sleep(limits::LAST_WORDS_PATIENCE);
    futures_lite::future::or(conn.sent.wait(), patience).await;
    reader.abort();
}

async fn receive<W: World>(core: &CoreState<W>, conn: &Rc<Conn>, reader: &mut W::Reader) {
    let mut buffer = vec![0; RECEIVE_BYTES_FIRST];
    let mut small = 0;
    loop {
        while !conn.wants_read() {
            if conn.is_over() {
                return;
            }
            conn.resume.wait().await;
        }
        let count = match reader.receive(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => count,
        };
        if core.desk.receive(conn, &buffer[..count]).is_err() {
            return;
        }
        if count == buffer.len() && count < limits::RECEIVE_BYTES {
            buffer = vec![0; count * 4];
        } else if count * 16 < buffer.len() {
            // Quiet for long: an idle connection holds little.
            small += 1;
            if small == 64 {
                buffer = vec![0; RECEIVE_BYTES_FIRST.max(buffer.len() / 4)];
                small = 0;
            }
        } else {
            small = 0;
        }
    }
}

/// Sends what a connection's calls produced, all of it at once.
async fn send<W: World>(core: Rc<CoreState<W>>, conn: Rc<Conn>, mut writer: W::Writer) {
    let mut output = Vec::new();
    loop {
        conn.flush.wait().await;
        loop {
            output.clear();
            conn.take_output(&mut output);
            if output.is_empty() {
                break;
            }
            if writer.send_all(&output).await.is_err() {
                writer.abort();
                conn.sent.notify();
                return;
            }
            core.metrics.client_sent_bytes.add(output.len() as u64);
            core.desk.events(&conn, core.env.now());
            conn.resume.notify();
        }
        output.shrink_to(limits::RECEIVE_BYTES);
        if conn.is_over() {
            // The peer reads what was sent before the end, then sees the end.
            let _ = writer.shutdown().await;
            writer.abort();
            conn.resume.notify();
            conn.sent.notify();
            return;
        }
    }
}

async fn http1<W: World>(
    core: &Rc<CoreState<W>>,
    mut reader: W::Reader,
    mut writer: W::Writer,
    first: &[u8],
) {
    let mut conn = http1::Connection::new();
    conn.receive(first);
    let mut buffer = vec![0; RECEIVE_BYTES_FIRST];
    loop {
        while let Some(request) = conn.poll_request() {
            let plain = PlainRequest {
                query: http1::query_pairs(&request.query),
                method: request.method,
                path: request.path,
            };
            let answer = core.desk.plain(&plain).await;
            conn.respond(answer.status, &answer.fields(), answer.body.as_bytes());
        }
        let output = std::mem::take(conn.output());
        if !output.is_empty() && writer.send_all(&output).await.is_err() {
            return writer.abort();
        }
        if conn.is_closing() || core.is_stopping() {
            let _ = writer.shutdown().await;
            return writer.abort();
        }
        match reader.receive(&mut buffer).await {
            Ok(0) | Err(_) => return writer.abort(),
            Ok(count) => conn.receive(&buffer[..count]),
        }
    }
}
