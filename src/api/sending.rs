//! Driver. Large answers: a task reads the view in slices and sends what the client takes.

use super::conn::{CallState, Conn};
use super::desk::Desk;
use super::errors::EtcdError;
use super::range::{ChunkSize, Tail};
use crate::apply::range_spec;
use crate::env::{Env, Notify};
use crate::group::Stamp;
use crate::grpc::Status;
use crate::ids::StreamId;
use crate::limits::server as limits;
use crate::mvcc::{Corrupt, Progress, RangeError, RangeResponseSink, RangeScan, RangeSpec, View};
use crate::pb::etcdserverpb::RangeRequest;
use std::rc::Rc;

/// Why a task stops before its answer is whole.
enum Stop {
    /// The client is gone.
    Gone,
    Failed(EtcdError),
}

impl From<Corrupt> for Stop {
    fn from(corrupt: Corrupt) -> Stop {
        tracing::error!(error = %corrupt, "a read met damaged data");
        Stop::Failed(EtcdError::Corrupt)
    }
}

impl From<RangeError> for Stop {
    fn from(error: RangeError) -> Stop {
        Stop::Failed(error.into())
    }
}

impl<E: Env> Desk<E> {
    /// A unary range whose answer is large: sized first, then sent in parts, so that memory stays
    /// flat however long it is.
    pub(super) fn send_range(
        &self,
        conn: &Rc<Conn>,
        stream: StreamId,
        request: RangeRequest,
        view: View,
        stamp: Stamp,
    ) {
        let (desk, conn) = (self.clone(), conn.clone());
        let room = Notify::new();
        self.wait_for(&conn, stream, CallState::Task(room.clone()));
        self.shared.env.spawn(async move {
            let sent = desk
                .send_parts(&conn, stream, request, view, stamp, &room)
                .await;
            desk.end_sending(&conn, stream, sent);
        });
    }

    fn end_sending(&self, conn: &Conn, stream: StreamId, sent: Result<(), Stop>) {
        match sent {
            Ok(()) => self.finish(conn, stream, &Status::OK),
            Err(Stop::Gone) => {}
            Err(Stop::Failed(error)) => self.fail(conn, stream, error),
        }
    }

    async fn send_parts(
        &self,
        conn: &Rc<Conn>,
        stream: StreamId,
        request: RangeRequest,
        view: View,
        stamp: Stamp,
        room: &Notify,
    ) -> Result<(), Stop> {
        let env = &self.shared.env;
        let mut scan = RangeScan::new(view, range_spec(&request))?;
        while scan.measure(limits::RANGE_MEASURE_ENTRIES)? == Progress::More {
            env.next_pass().await;
        }
        let totals = scan.totals().expect("the scan is measured");
        let tail = Tail::of(&totals);
        let header = self.shared.facts.origin.header(stamp);
        let size = header.field_size(stamp.revision) + totals.kvs_bytes as usize + tail.size();
        let mut part = Vec::with_capacity(limits::RANGE_FIRST_BYTES * 4);
        header.put(stamp.revision, &mut part);
        conn.grpc.borrow_mut().message_start(stream, size);
        loop {
            let mut sink = RangeResponseSink(&mut part);
            let progress = scan.slice(limits::RANGE_SLICE_ENTRIES, &mut sink)?;
            if progress == Progress::Done {
                tail.put(&mut part);
            }
            self.send_part(conn, stream, &part, room).await?;
            part.clear();
            if progress == Progress::Done {
                return Ok(());
            }
            env.next_pass().await;
        }
    }

    async fn send_part(
        &self,
        conn: &Conn,
        stream: StreamId,
        part: &[u8],
        room: &Notify,
    ) -> Result<(), Stop> {
        if !conn.grpc.borrow().is_open(stream) || conn.gone.get() {
            return Err(Stop::Gone);
        }
        let more = conn.grpc.borrow_mut().message_part(stream, part);
        conn.flush.notify();
        self.wait_for_room(conn, stream, more, room).await
    }

    async fn wait_for_room(
        &self,
        conn: &Conn,
        stream: StreamId,
        more: bool,
        room: &Notify,
    ) -> Result<(), Stop> {
        if !more {
            if !conn.grpc.borrow().is_open(stream) {
                return Err(Stop::Gone);
            }
            room.wait().await;
        }
        let open = conn.grpc.borrow().is_open(stream) && !conn.gone.get();
        if open { Ok(()) } else { Err(Stop::Gone) }
    }

    /// A `RangeStream`: chunks at one revision; the last has header, more and count.
    pub(super) fn send_chunks(
        &self,
        conn: &Rc<Conn>,
        stream: StreamId,
        request: RangeRequest,
        view: View,
        stamp: Stamp,
    ) {
        let (desk, conn) = (self.clone(), conn.clone());
        let room = Notify::new();
        self.wait_for(&conn, stream, CallState::Task(room.clone()));
        self.shared.env.spawn(async move {
            let spec = range_spec(&request);
            let sent = desk
                .send_stream(&conn, stream, spec, view, stamp, &room)
                .await;
            desk.end_sending(&conn, stream, sent);
        });
    }

    async fn send_stream(
        &self,
        conn: &Rc<Conn>,
        stream: StreamId,
        spec: RangeSpec,
        view: View,
        stamp: Stamp,
        room: &Notify,
    ) -> Result<(), Stop> {
        let env = &self.shared.env;
        let mut scan = RangeScan::new(view, spec)?;
        let mut size = ChunkSize::new(self.shared.facts.request_bytes_max);
        let header = self.shared.facts.origin.header(stamp);
        let mut kvs = Vec::new();
        loop {
            kvs.clear();
            // A chunk of very many small keys is made in several slices.
            let mut left = size.keys();
            let mut progress = Progress::More;
            while left > 0 && progress == Progress::More {
                let entries = left.min(limits::RANGE_SLICE_ENTRIES);
                progress = scan.slice(entries, &mut RangeResponseSink(&mut kvs))?;
                left -= entries;
                if left > 0 && progress == Progress::More {
                    env.next_pass().await;
                }
            }
            let last = progress == Progress::Done;
            if kvs.is_empty() && !last {
                env.next_pass().await;
                continue;
            }
            size.sent(kvs.len());
            let tail = last.then(|| Tail::of(&scan.totals().expect("the scan is done")));
            let header_size = if last {
                header.field_size(stamp.revision)
            } else {
                0
            };
            let inner = header_size + kvs.len() + tail.map_or(0, |tail| tail.size());
            let more = conn.grpc.borrow_mut().reply(stream, |out| {
                crate::codec::put_message_header(out, 1, inner);
                if last {
                    header.put(stamp.revision, out);
                }
                out.extend_from_slice(&kvs);
                if let Some(tail) = tail {
                    tail.put(out);
                }
            });
            self.shared
                .metrics
                .grpc
                .sent(crate::pb::Method::RangeStream);
            conn.flush.notify();
            self.wait_for_room(conn, stream, more, room).await?;
            if last {
                return Ok(());
            }
            env.next_pass().await;
        }
    }
}
