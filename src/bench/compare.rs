//! Driver. etcd, ringbolt and the floor on the same disk, in turn (A B C A B C …), each on a
//! fresh data dir; medians and ranges over the rounds, as Markdown and JSON.

use std::fmt::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cli::{current_revision, measure, put};
use super::list::{self, ListSpec};
use super::load::{Length, LoadSpec};
use super::process::Usage;
use super::report::{Json, median_and_range};
use super::server::{ScratchFolder, Server, ServerSpec};
use super::workload::{Keys, Order, Verb};
use super::{BenchError, session::Session};

const READY_WITHIN: Duration = Duration::from_secs(60);
/// Both systems get the same.
const FLAGS: [&str; 1] = ["--quota-backend-bytes=8589934592"];
const LIST_REPEAT: u32 = 5;

/// The rows of docs/performance.md that this harness measures.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Workload {
    W1,
    W2,
    W3,
    W8,
    W10,
    W14,
    W16,
}

impl Workload {
    pub const ALL: [Workload; 7] = [
        Workload::W1,
        Workload::W2,
        Workload::W3,
        Workload::W8,
        Workload::W10,
        Workload::W14,
        Workload::W16,
    ];

    fn title(self) -> &'static str {
        match self {
            Workload::W1 => "W1 put, 1 connection × 1",
            Workload::W2 => "W2 put, 100 × 10",
            Workload::W3 => "W3 put, 10 × 100",
            Workload::W8 => "W8 memory per key",
            Workload::W10 => "W10 kill -9 to first linearizable read",
            Workload::W14 => "W14 list of all keys",
            Workload::W16 => "W16 get, 10 × 100",
        }
    }

    /// What a row of the report shows: (label, path in the measurement).
    fn columns(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Workload::W1 | Workload::W2 | Workload::W3 => &[
                ("ops/s", "per_second"),
                ("p50 µs", "latency.p50_us"),
                ("p99 µs", "latency.p99_us"),
                ("p99.9 µs", "latency.p99_9_us"),
                ("server CPU µs/op", "server.cpu_us_per_op"),
                ("device bytes/op", "server.device_bytes_per_op"),
                ("switches/op", "server.context_switches_per_op"),
                ("generator CPU µs/op", "generator_cpu_us_per_op"),
            ],
            Workload::W8 => &[
                ("anonymous bytes/key", "anonymous_bytes_per_key"),
                ("resident bytes/key", "resident_bytes_per_key"),
                ("fill ops/s", "fill_per_second"),
            ],
            Workload::W10 => &[("ms", "ms")],
            Workload::W14 => &[
                ("unary ms", "unary.median_ms"),
                ("unary MB/s", "unary.mb_per_s"),
                ("unary CPU ms", "unary.server_cpu_ms"),
                ("unary peak MiB", "unary.server_resident_peak_mib"),
                ("stream ms", "stream.median_ms"),
                ("stream CPU ms", "stream.server_cpu_ms"),
            ],
            Workload::W16 => &[
                ("linearizable ops/s", "linearizable.per_second"),
                ("CPU µs/op", "linearizable.server.cpu_us_per_op"),
                ("p99 µs", "linearizable.latency.p99_us"),
                ("serializable ops/s", "serializable.per_second"),
                ("CPU µs/op", "serializable.server.cpu_us_per_op"),
                ("p99 µs", "serializable.latency.p99_us"),
            ],
        }
    }

    fn on_floor(self) -> bool {
        matches!(self, Workload::W1 | Workload::W2 | Workload::W3)
    }
}

#[derive(Clone, Debug)]
pub struct CompareSpec {
    pub etcd: Option<PathBuf>,
    pub ringbolt: Option<PathBuf>,
    pub floor: bool,
    pub rounds: u32,
    pub workloads: Vec<Workload>,
    pub seconds: f64,
    pub fill_keys: u64,
    pub list_keys: u64,
    pub folder: PathBuf,
    pub out: PathBuf,
}

#[derive(Clone, Debug)]
enum System {
    Etcd(PathBuf),
    Ringbolt(PathBuf),
    Floor,
}

impl System {
    fn name(&self) -> &'static str {
        match self {
            System::Etcd(_) => "etcd",
            System::Ringbolt(_) => "ringbolt",
            System::Floor => "floor",
        }
    }
}

/// A running system of either kind.
enum Running {
    Server(Server),
    Floor { child: Child, endpoint: String },
}

impl Running {
    fn start(system: &System, folder: &Path) -> Result<Running, BenchError> {
        match system {
            System::Etcd(program) | System::Ringbolt(program) => {
                Ok(Running::Server(Server::start(ServerSpec {
                    program: program.clone(),
                    folder: folder.to_path_buf(),
                    flags: FLAGS.map(str::to_string).to_vec(),
                    ready_within: READY_WITHIN,
                })?))
            }
            System::Floor => {
                let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
                let endpoint = format!("127.0.0.1:{port}");
                let child = Command::new(std::env::current_exe()?)
                    .args(["floor", "--listen", &endpoint, "--folder"])
                    .arg(folder)
                    .stdin(Stdio::null())
                    .spawn()?;
                let running = Running::Floor {
                    child,
                    endpoint: endpoint.clone(),
                };
                let begin = Instant::now();
                while let Err(error) = Session::connect(&endpoint, READY_WITHIN) {
                    if begin.elapsed() > READY_WITHIN {
                        return Err(error.into());
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
                Ok(running)
            }
        }
    }

    fn endpoint(&self) -> String {
        match self {
            Running::Server(server) => server.endpoint(),
            Running::Floor { endpoint, .. } => endpoint.clone(),
        }
    }

    fn pid(&self) -> u32 {
        match self {
            Running::Server(server) => server.pid(),
            Running::Floor { child, .. } => child.id(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Running::Floor { child, .. } = self {
            // An error means that it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

pub fn run(spec: &CompareSpec) -> Result<Json, BenchError> {
    let mut systems = Vec::new();
    systems.extend(spec.etcd.clone().map(System::Etcd));
    systems.extend(spec.ringbolt.clone().map(System::Ringbolt));
    if spec.floor {
        systems.push(System::Floor);
    }
    let mut all = Vec::new();
    for &workload in &spec.workloads {
        let mut results: Vec<Vec<Json>> = vec![Vec::new(); systems.len()];
        for round in 0..spec.rounds {
            for (system, results) in systems.iter().zip(&mut results) {
                if matches!(system, System::Floor) && !workload.on_floor() {
                    continue;
                }
                eprintln!(
                    "{}: round {}, {}",
                    workload.title(),
                    round + 1,
                    system.name()
                );
                results.push(one(spec, workload, system)?);
            }
        }
        all.push((workload, results));
    }
    let json = as_json(&systems, &all);
    std::fs::write(
        spec.out.with_extension("md"),
        markdown(spec, &systems, &all),
    )?;
    std::fs::write(spec.out.with_extension("json"), format!("{json}\n"))?;
    Ok(json)
}

/// One measurement on a fresh data dir.
fn one(spec: &CompareSpec, workload: Workload, system: &System) -> Result<Json, BenchError> {
    let folder = ScratchFolder::new(&spec.folder, "compare")?;
    let mut running = Running::start(system, folder.path())?;
    let load = |verb, connections, in_flight, keys| LoadSpec {
        endpoint: running.endpoint(),
        verb,
        keys: Keys {
            count: keys,
            order: Order::Uniform,
            key_size: 32,
            value_size: 256,
        },
        connections,
        in_flight,
        threads: 1,
        warm_up: Duration::from_secs_f64(spec.seconds / 5.0),
        length: Length::For(Duration::from_secs_f64(spec.seconds)),
        rate: None,
        server_pid: Some(running.pid()),
    };
    let fill = |keys| {
        let mut fill = load(Verb::Put, 10, 100, keys);
        fill.keys.order = Order::Sequential;
        fill.length = Length::Operations(keys);
        put(&fill)
    };
    match workload {
        Workload::W1 => put(&load(Verb::Put, 1, 1, spec.list_keys)),
        Workload::W2 => put(&load(Verb::Put, 100, 10, spec.list_keys)),
        Workload::W3 => put(&load(Verb::Put, 10, 100, spec.list_keys)),
        Workload::W8 => {
            let usage = || Usage::of(running.pid()).unwrap_or_default();
            let before = usage();
            let filled = fill(spec.fill_keys)?;
            let after = usage();
            let keys = spec.fill_keys as f64;
            let each = |after: u64, before: u64| (after as f64 - before as f64) / keys;
            let anonymous = each(after.anonymous_bytes, before.anonymous_bytes);
            let resident = each(after.resident_bytes, before.resident_bytes);
            Ok(Json::object([
                ("anonymous_bytes_per_key", Json::number(anonymous)),
                ("resident_bytes_per_key", Json::number(resident)),
                (
                    "fill_per_second",
                    filled.at("per_second").cloned().unwrap_or(Json::Null),
                ),
            ]))
        }
        Workload::W10 => {
            fill(spec.fill_keys)?;
            let revision = current_revision(&running.endpoint())?;
            let Running::Server(server) = &mut running else {
                return Ok(Json::Null);
            };
            server.kill();
            server.spawn_again()?;
            let (took, seen) = server.wait_ready()?;
            if seen != revision {
                return Err(BenchError::LostRevision {
                    before: revision,
                    after: seen,
                });
            }
            Ok(Json::object([(
                "ms",
                Json::number(took.as_secs_f64() * 1e3),
            )]))
        }
        Workload::W14 => {
            fill(spec.list_keys)?;
            let mut result = Json::Object(Vec::new());
            for (name, stream) in [("unary", false), ("stream", true)] {
                let listed = list::run(&ListSpec {
                    endpoint: running.endpoint(),
                    keys: load(Verb::Put, 1, 1, spec.list_keys).keys,
                    stream,
                    repeat: LIST_REPEAT,
                    server_pid: Some(running.pid()),
                })?;
                result.push(name, listed);
            }
            Ok(result)
        }
        Workload::W16 => {
            fill(spec.list_keys)?;
            let mut result = Json::Object(Vec::new());
            for (name, serializable) in [("linearizable", false), ("serializable", true)] {
                let verb = Verb::Get { serializable };
                let (_, measured) = measure(&load(verb, 10, 100, spec.list_keys))?;
                result.push(name, measured);
            }
            Ok(result)
        }
    }
}

type Results = [(Workload, Vec<Vec<Json>>)];

fn as_json(systems: &[System], all: &Results) -> Json {
    let mut json = Json::Object(Vec::new());
    for (workload, results) in all {
        let mut by_system = Json::Object(Vec::new());
        for (system, rounds) in systems.iter().zip(results) {
            let mut medians = Json::Object(Vec::new());
            for (_, path) in workload.columns() {
                let values: Vec<f64> = rounds.iter().filter_map(|r| r.number_at(path)).collect();
                if let Some((median, smallest, largest)) = median_and_range(&values) {
                    let numbers = [median, smallest, largest].map(Json::number).to_vec();
                    medians.push(path, Json::List(numbers));
                }
            }
            let fields = [
                ("median_smallest_largest", medians),
                ("rounds", Json::List(rounds.clone())),
            ];
            by_system.push(system.name(), Json::object(fields));
        }
        json.push(&format!("{workload:?}").to_lowercase(), by_system);
    }
    json
}

fn markdown(spec: &CompareSpec, systems: &[System], all: &Results) -> String {
    let mut text = format!(
        "# Comparison\n\n{} interleaved rounds of {} s, load generator on the same machine, \
         32-byte keys, 256-byte values, fresh data dir each time; median (smallest – largest).\n",
        spec.rounds, spec.seconds
    );
    for (workload, results) in all {
        let _ = write!(text, "\n## {}\n\n| |", workload.title());
        for (label, _) in workload.columns() {
            let _ = write!(text, " {label} |");
        }
        let _ = writeln!(text, "\n|---|{}", "---|".repeat(workload.columns().len()));
        for (system, rounds) in systems.iter().zip(results) {
            if rounds.is_empty() {
                continue;
            }
            let _ = write!(text, "| {} |", system.name());
            for (_, path) in workload.columns() {
                let values: Vec<f64> = rounds.iter().filter_map(|r| r.number_at(path)).collect();
                match median_and_range(&values) {
                    Some((median, smallest, largest)) => {
                        let [m, s, l] = [median, smallest, largest].map(short);
                        let _ = write!(text, " {m} ({s} – {l}) |");
                    }
                    None => text.push_str(" – |"),
                }
            }
            text.push('\n');
        }
    }
    text
}

/// Three digits that matter.
fn short(value: f64) -> String {
    match value.abs() {
        v if v >= 100_000.0 => format!("{:.0} k", value / 1e3),
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}
