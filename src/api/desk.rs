//! Driver. One core's calls: events of its connections in, answers of groups in.

use super::ask::{Asks, ask_conn};
use super::conn::{Call, CallState, Conn};
use super::errors::EtcdError;
use super::header::Origin;
use crate::env::{Env, Monotonic};
use crate::group::{Answer, Input, Refusal, Stamp, Ticket};
use crate::grpc::{Code, Event, GrpcConnection, GrpcSettings, MethodId, MethodTable, Status};
use crate::http2::ConnectionError;
use crate::ids::{ConnId, StreamId};
use crate::metrics::{CoreMetrics, Metrics};
use crate::mvcc::View;
use crate::pb::{METHODS, Method};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What the services say about this member, and their bounds. Made once, shared by all cores.
#[derive(Clone, Debug)]
pub struct Facts {
    pub origin: Origin,
    pub name: String,
    pub peer_urls: Vec<String>,
    pub client_urls: Vec<String>,
    /// The protocol level, `3.7.1`.
    pub version: &'static str,
    /// `3.7.0`.
    pub cluster_version: String,
    pub txn_ops_max: usize,
    pub request_bytes_max: usize,
    /// How long a call may wait for its group.
    pub request_timeout: Duration,
}

/// The way to the group that owns the keyspace.
pub trait Route {
    fn submit(&self, input: Input) -> Result<(), Refusal>;
    /// A linearizable view at once, when the group lives on this core and can give one.
    fn view_now(&self) -> Option<(View, Stamp)>;
}

/// The services of one core. Cloning shares them.
pub struct Desk<E: Env> {
    pub(super) shared: Rc<Shared<E>>,
}

impl<E: Env> Clone for Desk<E> {
    fn clone(&self) -> Desk<E> {
        Desk {
            shared: Rc::clone(&self.shared),
        }
    }
}

pub(super) struct Shared<E: Env> {
    pub env: E,
    pub facts: Arc<Facts>,
    pub route: Rc<dyn Route>,
    pub metrics: Arc<CoreMetrics>,
    pub all_metrics: Arc<Metrics>,
    pub methods: Arc<MethodTable>,
    pub conns: RefCell<BTreeMap<ConnId, Rc<Conn>>>,
    pub conn_next: Cell<u64>,
    pub asks: Asks,
    /// Encoded answers grow here before their size is known.
    pub scratch: RefCell<Vec<u8>>,
}

impl<E: Env> Desk<E> {
    pub fn new(env: E, facts: Arc<Facts>, route: Rc<dyn Route>, metrics: Arc<Metrics>) -> Desk<E> {
        let paths: Vec<_> = METHODS
            .iter()
            .map(|info| (info.path, MethodId(info.method as u16)))
            .collect();
        let shared = Shared {
            metrics: metrics.core(env.core()),
            all_metrics: metrics,
            env,
            facts,
            route,
            methods: Arc::new(MethodTable::new(&paths)),
            conns: RefCell::default(),
            conn_next: Cell::new(ask_conn().0 + 1),
            asks: Asks::default(),
            scratch: RefCell::default(),
        };
        Desk {
            shared: Rc::new(shared),
        }
    }

    /// Takes a connection in.
    pub fn connect(&self, settings: GrpcSettings) -> Rc<Conn> {
        let shared = &self.shared;
        let id = ConnId(shared.conn_next.get());
        shared.conn_next.set(id.0 + 1);
        let grpc = GrpcConnection::new(settings, shared.methods.clone(), shared.env.now());
        let conn = Rc::new(Conn::new(id, grpc));
        shared.conns.borrow_mut().insert(id, conn.clone());
        conn.flush.notify();
        conn
    }

    /// Lets a connection go: its calls are canceled.
    pub fn disconnect(&self, conn: &Conn) {
        conn.gone.set(true);
        self.shared.conns.borrow_mut().remove(&conn.id);
        for (stream, call) in std::mem::take(&mut *conn.calls.borrow_mut()) {
            self.abandon(conn, stream, call);
        }
        conn.flush.notify();
        conn.resume.notify();
    }

    pub fn conn_count(&self) -> usize {
        self.shared.conns.borrow().len()
    }

    /// Calls that are not answered, streams that wait for events aside.
    pub fn call_count(&self) -> usize {
        let waits = |call: &Call| !matches!(call.state, CallState::Watch { .. });
        let conns = self.shared.conns.borrow();
        conns
            .values()
            .map(|conn| conn.calls.borrow().values().filter(|c| waits(c)).count())
            .sum()
    }

    /// Every connection finishes its calls and closes.
    pub fn drain(&self) {
        let conns: Vec<_> = self.shared.conns.borrow().values().cloned().collect();
        let now = self.shared.env.now();
        conns.iter().for_each(|conn| conn.drain(now));
    }

    /// Takes what the socket brought. After an `Err` the output is to be sent and the connection
    /// closed.
    pub fn receive(&self, conn: &Rc<Conn>, bytes: &[u8]) -> Result<(), ConnectionError> {
        self.shared
            .metrics
            .client_received_bytes
            .add(bytes.len() as u64);
        let now = self.shared.env.now();
        let result = conn.grpc.borrow_mut().receive(bytes, now);
        self.events(conn, now);
        result
    }

    /// Takes the events of a connection: after bytes came, and after output was sent.
    pub fn events(&self, conn: &Rc<Conn>, now: Monotonic) {
        loop {
            let event = conn.grpc.borrow_mut().poll_event();
            let Some(event) = event else { break };
            match event {
                Event::Request {
                    stream,
                    method,
                    metadata,
                    ..
                } => {
                    let method = METHODS[usize::from(method.0)].method;
                    self.shared.metrics.grpc.started(method);
                    if let Some(version) = &metadata.client_api_version
                        && std::str::from_utf8(version).is_err()
                    {
                        self.begin(conn, stream, method, now);
                        self.fail(conn, stream, EtcdError::InvalidClientApiVersion);
                        continue;
                    }
                    self.begin(conn, stream, method, now);
                }
                Event::Message { stream, bytes, end } => {
                    self.message(conn, stream, bytes);
                    if end {
                        self.half_closed(conn, stream);
                    }
                }
                Event::HalfClosed { stream } => self.half_closed(conn, stream),
                Event::Canceled { stream } => self.canceled(conn, stream, Code::Canceled),
                Event::DeadlinePassed { stream } => {
                    self.canceled(conn, stream, Code::DeadlineExceeded);
                }
                Event::Writable { stream } => self.writable(conn, stream),
                Event::PlainRequest { stream, head, body } => {
                    self.plain_over_http2(conn, stream, &head, body);
                }
            }
        }
        conn.flush.notify();
    }

    fn begin(&self, conn: &Conn, stream: StreamId, method: Method, now: Monotonic) {
        let state = match method {
            Method::Watch => CallState::Watch { undrained: 0 },
            Method::LeaseKeepAlive => CallState::KeepAlive {
                waiting: 0,
                half_closed: false,
            },
            _ => CallState::Message,
        };
        conn.calls.borrow_mut().insert(
            stream,
            Call {
                method,
                began: now,
                state,
            },
        );
    }

    /// One whole message of a call.
    fn message(&self, conn: &Rc<Conn>, stream: StreamId, bytes: bytes::Bytes) {
        let call = conn
            .calls
            .borrow()
            .get(&stream)
            .map(|call| (call.method, matches!(call.state, CallState::Message)));
        let Some((method, expected)) = call else {
            return;
        };
        self.shared.metrics.grpc.received(method);
        match method {
            Method::Watch => self.watch_message(conn, stream, bytes),
            Method::LeaseKeepAlive => self.keepalive_message(conn, stream, bytes),
            _ if !expected => {
                let status = Status::new(Code::Internal, "more than one request message");
                self.finish(conn, stream, &status);
            }
            Method::Put => self.put(conn, stream, bytes),
            Method::Range => self.range(conn, stream, bytes),
            Method::RangeStream => self.range_stream(conn, stream, bytes),
            Method::Txn => self.txn(conn, stream, bytes),
            Method::DeleteRange => self.delete_range(conn, stream, bytes),
            _ => self.serve_in_task(conn, stream, method, bytes),
        }
    }

    fn half_closed(&self, conn: &Rc<Conn>, stream: StreamId) {
        let over = match conn
            .calls
            .borrow_mut()
            .get_mut(&stream)
            .map(|call| &mut call.state)
        {
            Some(CallState::Message) => {
                Some(Status::new(Code::Internal, "the request has no message"))
            }
            Some(CallState::KeepAlive {
                waiting,
                half_closed,
            }) => {
                *half_closed = true;
                (*waiting == 0).then_some(Status::OK)
            }
            _ => None,
        };
        if let Some(status) = over {
            self.finish(conn, stream, &status);
        }
    }

    /// The call is over without our doing.
    fn canceled(&self, conn: &Conn, stream: StreamId, code: Code) {
        let call = conn.calls.borrow_mut().remove(&stream);
        if let Some(call) = call {
            self.count_handled(&call, code);
            self.abandon(conn, stream, call);
        }
    }

    /// Tells whoever works for a call that nobody waits any more.
    fn abandon(&self, conn: &Conn, stream: StreamId, call: Call) {
        match call.state {
            CallState::Watch { .. } => self.watch_closed(conn, stream),
            CallState::Task(writable) => writable.notify(),
            _ => {}
        }
    }

    fn writable(&self, conn: &Conn, stream: StreamId) {
        let mut drained = 0;
        match conn
            .calls
            .borrow_mut()
            .get_mut(&stream)
            .map(|call| &mut call.state)
        {
            Some(CallState::Task(writable)) => writable.notify(),
            Some(CallState::Watch { undrained }) => drained = std::mem::take(undrained),
            _ => {}
        }
        if drained > 0 {
            self.watch_drained(conn, stream, drained);
        }
    }

    /// An answer of a group for a call of this core.
    pub fn deliver(&self, ticket: Ticket, answer: Answer) {
        if ticket.conn == ask_conn() {
            return self.shared.asks.answer(ticket.stream, answer);
        }
        let conn = self.shared.conns.borrow().get(&ticket.conn).cloned();
        let Some(conn) = conn else { return };
        let stream = ticket.stream;
        match answer {
            Answer::Applied(Ok(response), stamp) => {
                let header = self.shared.facts.origin.header(stamp);
                let size = response.encoded_size(&header);
                self.reply(&conn, stream, size, |out| response.encode(&header, out));
            }
            Answer::Applied(Err(error), _) => self.fail(&conn, stream, error.into()),
            Answer::View(view, stamp) => self.read(&conn, stream, view, stamp),
            Answer::Renewed { id, ttl, stamp } => self.renewed(&conn, stream, id, ttl, stamp),
            Answer::Watch(responses, stamp) => self.watched(&conn, stream, responses, stamp),
            Answer::Refused(refusal) => self.fail(&conn, stream, refusal.into()),
            other => unreachable!("only tasks ask for {other:?}"),
        }
        conn.flush.notify();
    }

    /// Deadlines, keep-alives, and calls that waited too long.
    pub fn tick(&self) {
        let now = self.shared.env.now();
        let conns: Vec<_> = self.shared.conns.borrow().values().cloned().collect();
        for conn in conns {
            let due = conn
                .grpc
                .borrow()
                .next_deadline()
                .is_some_and(|at| at <= now);
            if due {
                let result = conn.grpc.borrow_mut().tick(now);
                self.events(&conn, now);
                if result.is_err() {
                    conn.gone.set(true);
                    conn.resume.notify();
                }
            }
            self.time_out(&conn, now);
        }
    }

    fn time_out(&self, conn: &Conn, now: Monotonic) {
        let patience = self.shared.facts.request_timeout;
        let waits = |state: &CallState| matches!(state, CallState::Applied | CallState::View(_));
        let late: Vec<_> = conn
            .calls
            .borrow()
            .iter()
            .filter(|(_, call)| waits(&call.state) && now - call.began > patience)
            .map(|(stream, _)| *stream)
            .collect();
        for stream in late {
            self.fail(conn, stream, EtcdError::Timeout);
        }
    }

    /// Hands an input to the group for a call, or fails the call.
    pub(super) fn submit(
        &self,
        conn: &Conn,
        stream: StreamId,
        input: impl FnOnce(Ticket) -> Input,
    ) {
        let ticket = Ticket {
            core: self.shared.env.core(),
            conn: conn.id,
            stream,
        };
        if let Err(refusal) = self.shared.route.submit(input(ticket)) {
            self.fail(conn, stream, refusal.into());
        }
    }

    /// What a call waits for next.
    pub(super) fn wait_for(&self, conn: &Conn, stream: StreamId, state: CallState) {
        if let Some(call) = conn.calls.borrow_mut().get_mut(&stream) {
            call.state = state;
        }
    }

    /// The whole answer of a unary call.
    pub(super) fn reply(
        &self,
        conn: &Conn,
        stream: StreamId,
        size: usize,
        encode: impl FnOnce(&mut Vec<u8>),
    ) {
        let Some(call) = conn.calls.borrow_mut().remove(&stream) else {
            return;
        };
        conn.grpc.borrow_mut().reply_unary(stream, size, encode);
        self.shared.metrics.grpc.sent(call.method);
        self.count_handled(&call, Code::Ok);
        conn.flush.notify();
    }

    /// Ends a call with one of etcd's errors.
    pub(super) fn fail(&self, conn: &Conn, stream: StreamId, error: EtcdError) {
        let code = Code::from_number(error.code() as u32).expect("the same table of codes");
        self.finish(conn, stream, &Status::new(code, error.text()));
    }

    /// Ends a call.
    pub(super) fn finish(&self, conn: &Conn, stream: StreamId, status: &Status) {
        let Some(call) = conn.calls.borrow_mut().remove(&stream) else {
            return;
        };
        conn.grpc.borrow_mut().finish(stream, status);
        self.count_handled(&call, status.code);
        self.abandon(conn, stream, call);
        conn.flush.notify();
    }

    fn count_handled(&self, call: &Call, code: Code) {
        let time = self.shared.env.now() - call.began;
        let time_ns = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.shared
            .metrics
            .grpc
            .handled(call.method, u32::from(code.number()), time_ns);
    }
}
