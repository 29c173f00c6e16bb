//! Pure. Counts per gRPC method, with every method and code present from the start.

use super::cell::Counter;
use super::core::CoreMetrics;
use super::text::{TextWriter, put_float};
use crate::pb::{METHODS, Method};
use std::sync::Arc;

/// The names of gRPC's codes, by number.
pub const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// How many client API versions are counted apart; later ones count as "other". The label comes
/// from the client, so an unbounded set would let it fill the memory.
pub const CLIENT_VERSIONS_MAX: usize = 32;

/// A client API version's place in the counters; from `Metrics::client_version`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClientVersion(pub(super) u8);

/// The upper bounds of `grpc_server_handling_seconds` in microseconds, as the Go library has them.
const HANDLING_BOUNDS_US: [u64; 11] = [
    5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000,
];

#[derive(Default, Debug)]
struct MethodCells {
    started: Counter,
    received: Counter,
    sent: Counter,
    handled: [Counter; CODES.len()],
}

#[derive(Default, Debug)]
struct HandlingCells {
    buckets: [Counter; HANDLING_BOUNDS_US.len() + 1],
    sum_ns: Counter,
}

/// What one core counts about gRPC calls.
#[derive(Debug)]
pub struct GrpcMetrics {
    methods: Box<[MethodCells]>,
    /// Empty unless `--metrics=extensive`.
    handling: Box<[HandlingCells]>,
    /// At `2 * version + stream`; the last version is "other".
    requests: Box<[Counter]>,
}

impl GrpcMetrics {
    pub(super) fn new(extensive: bool) -> GrpcMetrics {
        let handling = if extensive { Method::COUNT } else { 0 };
        GrpcMetrics {
            methods: (0..Method::COUNT).map(|_| MethodCells::default()).collect(),
            handling: (0..handling).map(|_| HandlingCells::default()).collect(),
            requests: (0..2 * (CLIENT_VERSIONS_MAX + 1))
                .map(|_| Counter::default())
                .collect(),
        }
    }

    /// A call began.
    #[inline]
    pub fn started(&self, method: Method) {
        self.methods[method as usize].started.inc();
    }

    /// A whole message arrived.
    #[inline]
    pub fn received(&self, method: Method) {
        self.methods[method as usize].received.inc();
    }

    /// A message was handed to the connection.
    #[inline]
    pub fn sent(&self, method: Method) {
        self.methods[method as usize].sent.inc();
    }

    /// A call ended with gRPC's code number `code`, `time_ns` after it began.
    #[inline]
    pub fn handled(&self, method: Method, code: u32, time_ns: u64) {
        // A code that gRPC does not know is counted as Unknown.
        let code = if (code as usize) < CODES.len() {
            code as usize
        } else {
            2
        };
        self.methods[method as usize].handled[code].inc();
        if let Some(cells) = self.handling.get(method as usize) {
            let bucket = HANDLING_BOUNDS_US.partition_point(|bound| bound * 1000 < time_ns);
            cells.buckets[bucket].inc();
            cells.sum_ns.add(time_ns);
        }
    }

    /// A whole unary call in one step: one message each way when it succeeded.
    #[inline]
    pub fn unary(&self, method: Method, code: u32, time_ns: u64) {
        self.started(method);
        self.received(method);
        if code == 0 {
            self.sent(method);
        }
        self.handled(method, code, time_ns);
    }

    /// A request of a client that speaks `version`.
    #[inline]
    pub fn client_request(&self, version: ClientVersion, stream: bool) {
        self.requests[2 * usize::from(version.0) + usize::from(stream)].inc();
    }
}

/// A counter of a method.
type Cell = fn(&MethodCells) -> &Counter;

/// Writes `grpc_server_*`.
pub(super) fn write_grpc(out: &mut TextWriter, cores: &[Arc<CoreMetrics>]) {
    let labels: Vec<String> = METHODS
        .iter()
        .map(|m| {
            let (name, service, kind) = (m.name, m.service, m.kind.label());
            format!("grpc_method=\"{name}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"")
        })
        .collect();
    let mut line = String::with_capacity(256);
    out.family(
        "grpc_server_handled_total",
        "counter",
        "Calls that ended, by code.",
    );
    for (method, labels) in labels.iter().enumerate() {
        for (code, name) in CODES.iter().enumerate() {
            line.clear();
            line.extend(["{grpc_code=\"", name, "\",", labels, "}"]);
            let cells = cores
                .iter()
                .map(|core| &core.grpc.methods[method].handled[code]);
            out.count(&line, cells.map(Counter::value).sum());
        }
    }
    let families: [(&str, &str, Cell); 3] = [
        (
            "grpc_server_msg_received_total",
            "Messages received.",
            |cells| &cells.received,
        ),
        ("grpc_server_msg_sent_total", "Messages sent.", |cells| {
            &cells.sent
        }),
        ("grpc_server_started_total", "Calls that began.", |cells| {
            &cells.started
        }),
    ];
    for (name, help, cell) in families {
        out.family(name, "counter", help);
        for (method, labels) in labels.iter().enumerate() {
            line.clear();
            line.extend(["{", labels, "}"]);
            let cells = cores.iter().map(|core| cell(&core.grpc.methods[method]));
            out.count(&line, cells.map(Counter::value).sum());
        }
    }
    if cores.iter().any(|core| !core.grpc.handling.is_empty()) {
        write_handling(out, cores, &labels);
    }
}

fn write_handling(out: &mut TextWriter, cores: &[Arc<CoreMetrics>], labels: &[String]) {
    let mut line = String::with_capacity(256);
    out.family(
        "grpc_server_handling_seconds",
        "histogram",
        "Time from a call's begin to its end.",
    );
    for (method, labels) in labels.iter().enumerate() {
        let cells = || {
            cores
                .iter()
                .filter_map(|core| core.grpc.handling.get(method))
        };
        let mut count = 0;
        for bucket in 0..=HANDLING_BOUNDS_US.len() {
            count += cells()
                .map(|cells| cells.buckets[bucket].value())
                .sum::<u64>();
            line.clear();
            line.extend(["_bucket{", labels, ",le=\""]);
            match HANDLING_BOUNDS_US.get(bucket) {
                Some(bound) => put_float(&mut line, *bound as f64 / 1e6),
                None => line.push_str("+Inf"),
            }
            line.push_str("\"}");
            out.count(&line, count);
        }
        let sum = cells().map(|cells| cells.sum_ns.value()).sum::<u64>() as f64 / 1e9;
        out.sample(&format!("_sum{{{labels}}}"), sum);
        out.count(&format!("_count{{{labels}}}"), count);
    }
}

/// Writes `etcd_server_client_requests_total`; `versions` are the names of the counters' places.
pub(super) fn write_client_requests(
    out: &mut TextWriter,
    cores: &[Arc<CoreMetrics>],
    versions: &[String],
) {
    let name = "etcd_server_client_requests_total";
    out.family(
        name,
        "counter",
        "Requests by the API version of the client.",
    );
    for (place, version) in versions.iter().map(String::as_str).enumerate() {
        write_version(out, cores, place, version);
    }
    write_version(out, cores, CLIENT_VERSIONS_MAX, "other");
}

fn write_version(out: &mut TextWriter, cores: &[Arc<CoreMetrics>], place: usize, version: &str) {
    for (stream, kind) in ["unary", "stream"].into_iter().enumerate() {
        let cells = cores
            .iter()
            .map(|core| &core.grpc.requests[2 * place + stream]);
        let count: u64 = cells.map(Counter::value).sum();
        if count > 0 {
            let mut labels = String::from("{");
            super::text::put_label(&mut labels, "client_api_version", version);
            labels.extend([",type=\"", kind, "\"}"]);
            out.count(&labels, count);
        }
    }
}
