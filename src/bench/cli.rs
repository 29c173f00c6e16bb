//! Driver. `ringbolt-bench`: its sub-commands and flags.

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::compare::{self, CompareSpec, Workload};
use super::list::{self, ListSpec};
use super::load::{self, Length, LoadResult, LoadSpec};
use super::message::{Message, header_revision, path};
use super::report::{self, Json};
use super::session::Session;
use super::workload::{Keys, Order, Verb};
use super::{BenchError, floor};

const ANSWER_WITHIN: Duration = Duration::from_secs(30);

/// Load generator and comparison harness for etcd-compatible servers.
#[derive(Parser)]
#[command(name = "ringbolt-bench", version)]
struct Cli {
    /// Print only JSON, on one line.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Durable writes; every acknowledged revision is accounted for.
    Put(LoadArgs),
    /// Reads of single keys; run `fill` with the same sizes first.
    Get {
        #[command(flatten)]
        load: LoadArgs,
        /// Read without asking the leader.
        #[arg(long)]
        serializable: bool,
    },
    /// Writes each key once.
    Fill(LoadArgs),
    /// Lists all keys in one call and checks them.
    List {
        #[command(flatten)]
        target: TargetArgs,
        /// RangeStream instead of Range.
        #[arg(long)]
        stream: bool,
        #[arg(long, default_value_t = 5)]
        repeat: u32,
    },
    /// Serves puts with framing and a durable log and nothing else: the bound to be close to.
    Floor {
        #[arg(long, default_value = "127.0.0.1:2399")]
        listen: String,
        /// Where the log goes: the disk to measure.
        #[arg(long, default_value = ".")]
        folder: PathBuf,
        #[arg(long, default_value_t = 1)]
        threads: usize,
    },
    /// Runs workloads on etcd, ringbolt and the floor in turn; medians and ranges over the rounds.
    Compare(CompareArgs),
}

#[derive(Args, Clone)]
struct TargetArgs {
    #[arg(long, default_value = "127.0.0.1:2379")]
    endpoint: String,
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    keys: u64,
    #[arg(long, default_value_t = 32)]
    key_size: usize,
    #[arg(long, default_value_t = 256)]
    value_size: usize,
    /// Report this process's CPU, memory, device bytes and context switches.
    #[arg(long)]
    server_pid: Option<u32>,
}

#[derive(Args, Clone)]
struct LoadArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[arg(long, default_value_t = 10)]
    connections: usize,
    /// Open calls per connection.
    #[arg(long, default_value_t = 100)]
    inflight: usize,
    #[arg(long, value_enum, default_value_t = Order::Uniform)]
    order: Order,
    /// Seconds to measure.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Seconds before the measurement.
    #[arg(long, default_value_t = 1.0)]
    warm_up: f64,
    /// Open loop: operations per second, latency counted from when each was due.
    #[arg(long)]
    rate: Option<f64>,
    #[arg(long, default_value_t = 1)]
    threads: usize,
}

#[derive(Args)]
struct CompareArgs {
    /// The etcd program.
    #[arg(long)]
    etcd: Option<PathBuf>,
    /// The ringbolt program.
    #[arg(long)]
    ringbolt: Option<PathBuf>,
    /// Leave the floor out.
    #[arg(long)]
    no_floor: bool,
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    #[arg(long, value_enum, value_delimiter = ',',
          default_values_t = Workload::ALL)]
    workloads: Vec<Workload>,
    /// Seconds per measurement.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Keys of w8 and w10.
    #[arg(long, default_value_t = 1_000_000)]
    fill_keys: u64,
    /// Keys of w14 and w16.
    #[arg(long, default_value_t = 100_000)]
    list_keys: u64,
    /// Data dirs go below this folder: the disk to measure.
    #[arg(long, default_value = ".")]
    folder: PathBuf,
    /// Writes NAME.md and NAME.json.
    #[arg(long, default_value = "compare")]
    out: PathBuf,
}

impl TargetArgs {
    fn keys(&self, order: Order) -> Keys {
        let (key_size, value_size) = (self.key_size, self.value_size);
        Keys {
            count: self.keys,
            order,
            key_size,
            value_size,
        }
    }
}

impl LoadArgs {
    fn spec(&self, verb: Verb) -> LoadSpec {
        LoadSpec {
            endpoint: self.target.endpoint.clone(),
            verb,
            keys: self.target.keys(self.order),
            connections: self.connections.max(1),
            in_flight: self.inflight.max(1),
            threads: self.threads.clamp(1, self.connections.max(1)),
            warm_up: Duration::from_secs_f64(self.warm_up.max(0.0)),
            length: Length::For(Duration::from_secs_f64(self.seconds.max(0.01))),
            rate: self.rate,
            server_pid: self.target.server_pid,
        }
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Put(args) => put(&args.spec(Verb::Put)),
        Command::Get { load, serializable } => {
            measure(&load.spec(Verb::Get { serializable })).map(|result| result.1)
        }
        Command::Fill(args) => {
            let mut spec = args.spec(Verb::Put);
            spec.keys.order = Order::Sequential;
            spec.length = Length::Operations(spec.keys.count);
            put(&spec)
        }
        Command::List {
            target,
            stream,
            repeat,
        } => {
            let keys = target.keys(Order::Sequential);
            let TargetArgs {
                endpoint,
                server_pid,
                ..
            } = target;
            list::run(&ListSpec {
                endpoint,
                keys,
                stream,
                repeat,
                server_pid,
            })
            .map_err(BenchError::from)
        }
        Command::Floor {
            listen,
            folder,
            threads,
        } => floor::serve(&listen, &folder, threads)
            .map(|()| Json::Null)
            .map_err(BenchError::from),
        Command::Compare(args) => compare::run(&CompareSpec {
            etcd: args.etcd,
            ringbolt: args.ringbolt,
            floor: !args.no_floor,
            rounds: args.rounds.max(1),
            workloads: args.workloads,
            seconds: args.seconds,
            fill_keys: args.fill_keys,
            list_keys: args.list_keys,
            folder: args.folder,
            out: args.out,
        }),
    };
    match result {
        Ok(report) if cli.json => println!("{report}"),
        Ok(report) => print!("{}\n{report}\n", report.as_text()),
        Err(error) => {
            eprintln!("ringbolt-bench: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// A put load, with the proof that its acknowledged revisions are all there and nothing else.
pub fn put(spec: &LoadSpec) -> Result<Json, BenchError> {
    let before = current_revision(&spec.endpoint)?;
    let (result, mut report) = measure(spec)?;
    let last = current_revision(&spec.endpoint)?;
    if !result.acknowledged.are_all_between(before, last) {
        let acknowledged = result.acknowledged.count;
        return Err(BenchError::Revisions {
            before,
            last,
            acknowledged,
        });
    }
    report.push(
        "revisions_verified",
        Json::number(result.acknowledged.count as f64),
    );
    Ok(report)
}

/// Any load whose answers check themselves.
pub fn measure(spec: &LoadSpec) -> Result<(LoadResult, Json), BenchError> {
    let bar = progress_bar();
    let result = load::run(spec, |share, done| {
        if let Some(bar) = &bar {
            bar.set_position((share * 1000.0) as u64);
            bar.set_message(format!("{done} answers"));
        }
    })?;
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
    if !result.failures.is_empty() {
        return Err(BenchError::Failures(result.failures));
    }
    let ops = result.operations.max(1) as f64;
    let mut report = Json::object([
        ("verb", Json::text(format!("{:?}", spec.verb))),
        ("connections", Json::number(spec.connections as f64)),
        ("in_flight", Json::number(spec.in_flight as f64)),
        ("operations", Json::number(result.operations as f64)),
        ("seconds", Json::number(result.elapsed.as_secs_f64())),
        (
            "per_second",
            Json::number(result.operations as f64 / result.elapsed.as_secs_f64()),
        ),
        ("latency", report::latency(&result.latency)),
        (
            "generator_cpu_us_per_op",
            Json::number(result.generator_cpu.as_secs_f64() * 1e6 / ops),
        ),
    ]);
    if let Some(rate) = spec.rate {
        report.push("rate", Json::number(rate));
    }
    if let Some(server) = &result.server {
        report.push("server", server.per_op(result.operations));
    }
    Ok((result, report))
}

/// The revision of a linearizable read.
pub fn current_revision(endpoint: &str) -> Result<i64, BenchError> {
    let mut session = Session::connect(endpoint, ANSWER_WITHIN)?;
    let reply = session.unary(path::RANGE, Message::new().bytes(1, b"revision").as_bytes())?;
    if !reply.status.is_ok() {
        return Err(BenchError::Status(reply.status));
    }
    Ok(header_revision(&reply.message))
}

/// Only where a person watches.
fn progress_bar() -> Option<ProgressBar> {
    if !std::io::stderr().is_terminal() {
        return None;
    }
    let bar = ProgressBar::new(1000);
    let style = ProgressStyle::with_template("{bar:40} {elapsed} {msg}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    Some(bar)
}
