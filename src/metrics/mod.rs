//! Pure. What a member counts about itself, under the names that etcd's dashboards read.
//!
//! In: counts and times from every layer. Out: the Prometheus text of `/metrics`.
//! Call order: `Metrics::new` at start-up; each core takes its `core(i)` once and writes to it;
//! any thread calls `encode`.
//!
//! Invariants
//! 1. A `CoreMetrics` has one writing core. Its cells are relaxed atomics written without a locked
//!    instruction; a reader may see one cell newer than another, never a torn one.
//! 2. Every gRPC method has all its series from the start, with every code.
//! 3. The set of series is bounded: labels from clients are interned up to a limit.
//! 4. Some names end in `_total` and are gauges, as in etcd.
//!
//! Not here: clocks (callers measure), HTTP, metrics of Go's runtime. `process` alone is an
//! adapter: it reads `/proc`.
//! The Prometheus crate was refused: its encoder builds a tree of strings first, some twenty
//! thousand allocations per scrape, on a core that serves requests.

mod cell;
mod core;
mod grpc;
mod process;
mod text;

pub use self::cell::{Buckets, Counter, Gauge, Histogram};
pub use self::core::{CoreMetrics, Op, OpTimes};
pub use self::grpc::{CLIENT_VERSIONS_MAX, CODES, ClientVersion, GrpcMetrics};
pub use self::process::ProcessFacts;

use self::text::{TextWriter, put_label};
use crate::ids::{CoreId, MemberId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// Room for a scrape of a fresh member, so that the text does not grow by copies.
const TEXT_BYTES: usize = 256 << 10;

/// All metrics of one process. Shared by all cores; the part behind the lock changes rarely.
#[derive(Debug)]
pub struct Metrics {
    cores: Box<[Arc<CoreMetrics>]>,
    member: Mutex<Member>,
}

/// Facts that change with the membership or an operator's doing, not with the load.
#[derive(Default, Debug)]
struct Member {
    id: Option<MemberId>,
    cluster_version: String,
    server_version: String,
    /// name, git SHA, compiler.
    build: [String; 3],
    /// name, stage, enabled.
    features: Vec<(String, String, bool)>,
    alarms: BTreeMap<(u64, &'static str), bool>,
    /// (kind, check) to (ok now, successes, failures).
    checks: BTreeMap<(&'static str, String), (bool, u64, u64)>,
    client_versions: Vec<String>,
    peers: BTreeMap<MemberId, Arc<PeerMetrics>>,
}

/// What is counted per peer. One core writes it: the one that owns the connection.
#[derive(Debug)]
pub struct PeerMetrics {
    pub active: Gauge,
    pub sent_bytes: Counter,
    pub received_bytes: Counter,
    pub sent_failures: Counter,
    pub received_failures: Counter,
    pub disconnected: Counter,
    pub round_trip: Histogram,
}

const ROUND_TRIP: Buckets = Buckets::seconds(0.0001, 16);

impl Metrics {
    /// Metrics of a process with `cores` cores. `extensive` adds the times of every gRPC method.
    pub fn new(cores: usize, extensive: bool) -> Arc<Metrics> {
        let cores = (0..cores)
            .map(|_| Arc::new(CoreMetrics::new(extensive)))
            .collect();
        Arc::new(Metrics {
            cores,
            member: Mutex::default(),
        })
    }

    /// The metrics that `core` writes; panics for a core that does not exist.
    pub fn core(&self, core: CoreId) -> Arc<CoreMetrics> {
        self.cores[usize::from(core.0)].clone()
    }

    /// States who this member is: the version it speaks, and the build that it is.
    pub fn set_server(&self, id: MemberId, version: &str, build: [&str; 3]) {
        let mut member = self.member();
        member.id = Some(id);
        member.server_version = version.to_owned();
        member.build = build.map(str::to_owned);
    }

    /// States the version that the cluster agreed on, as `3.7`.
    pub fn set_cluster_version(&self, version: &str) {
        self.member().cluster_version = version.to_owned();
    }

    /// States every feature gate: name, stage (`ALPHA`), and whether it is on.
    pub fn set_features(&self, features: impl IntoIterator<Item = (String, String, bool)>) {
        self.member().features = features.into_iter().collect();
    }

    /// States an alarm of a member: `NOSPACE` or `CORRUPT`, raised or not.
    pub fn set_alarm(&self, member: MemberId, alarm: &'static str, raised: bool) {
        self.member().alarms.insert((member.0, alarm), raised);
    }

    /// Counts a health check: kind `livez` or `readyz`, and its name.
    pub fn count_check(&self, kind: &'static str, check: &str, ok: bool) {
        let mut member = self.member();
        let entry = member.checks.entry((kind, check.to_owned())).or_default();
        entry.0 = ok;
        *if ok { &mut entry.1 } else { &mut entry.2 } += 1;
    }

    /// The place where requests of clients with this API version are counted. Ask once per
    /// connection or header block, not once per request: this locks.
    pub fn client_version(&self, version: &str) -> ClientVersion {
        let version = if version.is_empty() {
            "unknown"
        } else {
            version
        };
        let versions = &mut self.member().client_versions;
        let place = versions
            .iter()
            .position(|known| known == version)
            .unwrap_or_else(|| {
                if versions.len() == CLIENT_VERSIONS_MAX {
                    return CLIENT_VERSIONS_MAX;
                }
                versions.push(version.to_owned());
                versions.len() - 1
            });
        ClientVersion(place as u8)
    }

    /// The metrics of a peer, made on first use.
    pub fn peer(&self, peer: MemberId) -> Arc<PeerMetrics> {
        let mut member = self.member();
        let new = || {
            Arc::new(PeerMetrics {
                active: Gauge::default(),
                sent_bytes: Counter::default(),
                received_bytes: Counter::default(),
                sent_failures: Counter::default(),
                received_failures: Counter::default(),
                disconnected: Counter::default(),
                round_trip: Histogram::new(ROUND_TRIP),
            })
        };
        member.peers.entry(peer).or_insert_with(new).clone()
    }

    /// Forgets a peer that left the cluster.
    pub fn remove_peer(&self, peer: MemberId) {
        self.member().peers.remove(&peer);
    }

    /// The text of `/metrics`, format 0.0.4.
    pub fn encode(&self, process: &ProcessFacts) -> String {
        let mut out = TextWriter::new(TEXT_BYTES);
        core::write_cores(&mut out, &self.cores);
        {
            let member = self.member();
            write_member(&mut out, &member);
            grpc::write_client_requests(&mut out, &self.cores, &member.client_versions);
        }
        grpc::write_grpc(&mut out, &self.cores);
        write_process(&mut out, process);
        out.finish()
    }

    fn member(&self) -> MutexGuard<'_, Member> {
        // A panic while holding the lock leaves counts, which are good enough to go on with.
        self.member
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn labels(pairs: &[(&str, &str)]) -> String {
    let mut out = String::from("{");
    for (index, (name, value)) in pairs.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        put_label(&mut out, name, value);
    }
    out.push('}');
    out
}

fn write_member(out: &mut TextWriter, member: &Member) {
    let versions = [
        (
            "etcd_cluster_version",
            "cluster_version",
            &member.cluster_version,
        ),
        (
            "etcd_server_version",
            "server_version",
            &member.server_version,
        ),
    ];
    for (family, label, version) in versions {
        out.family(family, "gauge", "1 for the version in the label.");
        if !version.is_empty() {
            out.count(&labels(&[(label, version)]), 1);
        }
    }
    let [version, git, compiler] = &member.build;
    out.family(
        "ringbolt_build_info",
        "gauge",
        "1 for the build in the labels.",
    );
    if !version.is_empty() {
        let pairs = [
            ("git_sha", git.as_str()),
            ("rustc", compiler),
            ("version", version),
        ];
        out.count(&labels(&pairs), 1);
    }
    if let Some(id) = member.id {
        out.family(
            "etcd_server_id",
            "gauge",
            "1 for the member's id in the label.",
        );
        out.count(&labels(&[("server_id", &format!("{:x}", id.0))]), 1);
    }
    out.family(
        "etcd_server_feature_enabled",
        "gauge",
        "1 when the feature is on, otherwise 0.",
    );
    for (name, stage, enabled) in &member.features {
        out.count(
            &labels(&[("name", name), ("stage", stage)]),
            u64::from(*enabled),
        );
    }
    out.family(
        "etcd_debugging_server_alarms",
        "gauge",
        "1 when the alarm is raised.",
    );
    for ((id, alarm), raised) in &member.alarms {
        let id = format!("{id:x}");
        out.count(
            &labels(&[("alarm_type", alarm), ("server_id", &id)]),
            u64::from(*raised),
        );
    }
    out.family(
        "etcd_server_healthcheck",
        "gauge",
        "1 when the check last succeeded.",
    );
    for ((kind, name), (ok, ..)) in &member.checks {
        out.count(&labels(&[("name", name), ("type", kind)]), u64::from(*ok));
    }
    out.family(
        "etcd_server_healthchecks_total",
        "counter",
        "Checks by outcome.",
    );
    for ((kind, name), (_, successes, failures)) in &member.checks {
        for (status, count) in [("error", *failures), ("success", *successes)] {
            if count > 0 {
                out.count(
                    &labels(&[("name", name), ("status", status), ("type", kind)]),
                    count,
                );
            }
        }
    }
    write_peers(out, member);
}

/// A counter of a peer.
type PeerCell = fn(&PeerMetrics) -> &Counter;

fn write_peers(out: &mut TextWriter, member: &Member) {
    let local = member
        .id
        .map(|id| format!("{:x}", id.0))
        .unwrap_or_default();
    let pair = |remote: &str| labels(&[("Local", &local), ("Remote", remote)]);
    out.family(
        "etcd_network_known_peers",
        "gauge",
        "1 for each known member.",
    );
    if member.id.is_some() {
        out.count(&pair(&local), 1);
    }
    for id in member.peers.keys() {
        out.count(&pair(&format!("{:x}", id.0)), 1);
    }
    if member.peers.is_empty() {
        return;
    }
    let peers = || {
        member
            .peers
            .iter()
            .map(|(id, peer)| (format!("{:x}", id.0), peer))
    };
    out.family(
        "etcd_network_active_peers",
        "gauge",
        "1 for each connected peer.",
    );
    for (id, peer) in peers() {
        out.sample(&pair(&id), peer.active.value() as f64);
    }
    out.family(
        "etcd_network_disconnected_peers_total",
        "counter",
        "Connections lost.",
    );
    for (id, peer) in peers() {
        out.count(&pair(&id), peer.disconnected.value());
    }
    let counters: [(&str, &str, PeerCell); 4] = [
        ("etcd_network_peer_received_bytes_total", "From", |peer| {
            &peer.received_bytes
        }),
        (
            "etcd_network_peer_received_failures_total",
            "From",
            |peer| &peer.received_failures,
        ),
        ("etcd_network_peer_sent_bytes_total", "To", |peer| {
            &peer.sent_bytes
        }),
        ("etcd_network_peer_sent_failures_total", "To", |peer| {
            &peer.sent_failures
        }),
    ];
    for (name, label, cell) in counters {
        out.family(name, "counter", "Traffic with a peer.");
        for (id, peer) in peers() {
            out.count(&labels(&[(label, &id)]), cell(peer).value());
        }
    }
    let name = "etcd_network_peer_round_trip_time_seconds";
    out.family(name, "histogram", "Round trip to a peer.");
    for (id, peer) in peers() {
        let mut total = cell::HistogramTotal::default();
        peer.round_trip.add_to(&mut total);
        out.histogram(&format!("To=\"{id}\""), &ROUND_TRIP, &total);
    }
}

fn write_process(out: &mut TextWriter, facts: &ProcessFacts) {
    let rows: [(&str, &str, &str, f64); 11] = [
        (
            "os_fd_limit",
            "gauge",
            "Open files allowed.",
            facts.max_fds as f64,
        ),
        ("os_fd_used", "gauge", "Open files.", facts.open_fds as f64),
        (
            "process_cpu_seconds_total",
            "counter",
            "CPU time used.",
            facts.cpu_seconds,
        ),
        (
            "process_max_fds",
            "gauge",
            "Open files allowed.",
            facts.max_fds as f64,
        ),
        (
            "process_network_receive_bytes_total",
            "counter",
            "Bytes received in the process's network namespace.",
            facts.network_received_bytes as f64,
        ),
        (
            "process_network_transmit_bytes_total",
            "counter",
            "Bytes sent in the process's network namespace.",
            facts.network_sent_bytes as f64,
        ),
        (
            "process_open_fds",
            "gauge",
            "Open files.",
            facts.open_fds as f64,
        ),
        (
            "process_resident_memory_bytes",
            "gauge",
            "Resident memory.",
            facts.resident_bytes as f64,
        ),
        (
            "process_start_time_seconds",
            "gauge",
            "Start, since 1970.",
            facts.start_seconds,
        ),
        (
            "process_virtual_memory_bytes",
            "gauge",
            "Address space.",
            facts.virtual_bytes as f64,
        ),
        (
            "process_virtual_memory_max_bytes",
            "gauge",
            "Address space allowed.",
            // Unlimited, as the library that etcd uses shows it.
            u64::MAX as f64,
        ),
    ];
    for (name, kind, help, value) in rows {
        out.family(name, kind, help);
        out.sample("", value);
    }
}

#[cfg(test)]
mod tests;
