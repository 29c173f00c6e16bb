//! Driver. From a command line to running cores, and back to an exit code.

use super::core::{Plan, Seat, run as run_core};
use super::identity::{FILE_NAME, Identity};
use crate::api::{Facts, Origin};
use crate::apply::MachineOptions;
use crate::backend::CommitPolicy;
use crate::config::{self, Address, Command, Config, RuntimeChoice, logging};
use crate::group::GroupOptions;
use crate::grpc::GrpcSettings;
use crate::http2;
use crate::ids::{GroupId, MemberId};
use crate::lease::LessorOptions;
use crate::limits::server as limits;
use crate::metrics::Metrics;
use crate::runtime::checks::{self, Verdict};
use crate::runtime::cpus::{self, Choice};
use crate::runtime::{
    Adapter, Bound, DirLock, Event, GlommioEnv, LogAccess, Options, RingEnv, Shutdown,
    end_by_signal, files, mesh, net, start,
};
use crate::wal;
use crate::watch::HubOptions;
use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::mpsc;
use std::time::Duration;

/// Bytes of room around the largest request: etcd's.
const MESSAGE_ROOM_BYTES: usize = 512 << 10;

/// The least that a tree file's map covers, as etcd's initial map does.
const MAP_BYTES_MIN: u64 = 10 << 30;

/// Streams of one connection that are taken at most, whatever the flag says.
const STREAMS_MAX: u32 = crate::limits::http2::STREAMS_MAX;

/// Why the server does not start: one line for the operator.
struct StartFailure(String);

impl<T: Display> From<T> for StartFailure {
    fn from(error: T) -> StartFailure {
        StartFailure(error.to_string())
    }
}

fn failed(what: &str, error: impl Display) -> StartFailure {
    StartFailure(format!("{what}: {error}"))
}

/// The whole program. `arguments` are those behind the program's name.
pub fn run(arguments: &[String], environment: &[(String, String)]) -> i32 {
    let command = Command::parse(arguments, environment, |path| std::fs::read_to_string(path));
    let config = match command {
        Ok(Command::Help) => {
            print!("{}", config::help());
            return 0;
        }
        Ok(Command::Version) => {
            print!("{}", config::version());
            return 0;
        }
        Ok(Command::Run(config)) => config,
        Err(error) => {
            eprintln!("{error}");
            if error.exit_code() == 2 {
                eprint!("{}", config::usage());
            }
            return error.exit_code();
        }
    };
    let log = match logging::start(&logging::LogSettings::of(&config)) {
        Ok(log) => log,
        Err(error) => {
            eprintln!("cannot open the log outputs: {error}");
            return 1;
        }
    };
    logging::notes(&config.notes);
    let ended = serve(&config);
    let code = match &ended {
        Ok(_) => 0,
        Err(StartFailure(text)) => {
            tracing::error!(error = %text, "the server stopped");
            1
        }
    };
    log.flush();
    if let Ok(Some(signal)) = ended
        && std::process::id() != 1
    {
        end_by_signal(signal);
    }
    code
}

/// Serves until a signal, which is the answer, or a failure.
fn serve(config: &Config) -> Result<Option<i32>, StartFailure> {
    refuse_unserved(config)?;
    tracing::info!(
        version = config::VERSION,
        git_sha = config::GIT_SHA,
        etcd_version = config::ETCD_VERSION,
        data_dir = %config.data_dir.display(),
        "starting ringbolt"
    );
    let dir = &config.data_dir;
    files::create_private_dir(dir).map_err(|error| failed(&dir.display().to_string(), error))?;
    let _lock = DirLock::acquire(dir).map_err(|error| failed("data directory", error))?;
    let choice = match config.cores {
        0 => Choice::All,
        count => Choice::Count(usize::try_from(count).unwrap_or(usize::MAX)),
    };
    let cpus = cpus::choose(&choice)?;
    let log_access = if config.unsafe_buffered_log {
        LogAccess::Buffered
    } else {
        LogAccess::Direct
    };
    check_machine(dir, cpus.len(), log_access)?;
    let identity = load_identity(config)?;
    let shutdown = Shutdown::install().map_err(|error| failed("signals", error))?;
    let (listeners, insecure) = listen(config, cpus.len())?;
    let metrics = Metrics::new(
        cpus.len(),
        config.metrics == config::MetricsDetail::Extensive,
    );
    let build = [config::VERSION, config::GIT_SHA, config::RUSTC];
    metrics.set_server(identity.member, config::ETCD_VERSION, build);
    metrics.set_cluster_version(config::CLUSTER_VERSION);
    let (failures, failed_groups) = mpsc::channel();
    let plan = Plan {
        facts: Arc::new(facts(config, &identity)),
        metrics,
        settings: grpc_settings(config),
        group: group_options(config, identity.member),
        wal: wal_options(config),
        shutdown: shutdown.clone(),
        open: Event::new(),
        counts: cpus.iter().map(|_| AtomicUsize::new(0)).collect(),
        failures: failures.clone(),
        insecure,
    };
    let seats = mesh::seats(cpus.len() as u16, limits::MESH_MESSAGES);
    let seats: Vec<Seat> = seats
        .into_iter()
        .zip(listeners)
        .map(|(mesh, listeners)| Seat {
            plan: plan.clone(),
            mesh,
            listeners,
        })
        .collect();
    drop(plan);
    let mut options = Options::new(cpus);
    options.log_access = log_access;
    let running = match choose_runtime(config.runtime)? {
        Adapter::Ring => start(&options, seats, run_core::<RingEnv>)?,
        Adapter::Glommio => start(&options, seats, run_core::<GlommioEnv>)?,
    };
    // Whichever comes first: all cores end after a signal, a core fails, or a group fails.
    std::thread::Builder::new()
        .name("wait".into())
        .spawn(move || {
            let ended = running.wait().map_err(|failure| failure.to_string());
            let _ = failures.send(ended.err().unwrap_or_default());
        })
        .map_err(|error| failed("threads", error))?;
    match failed_groups.recv() {
        Ok(text) if text.is_empty() => Ok(shutdown.signal()),
        Ok(text) => Err(StartFailure(text)),
        Err(mpsc::RecvError) => Err(StartFailure("every core ended without a word".into())),
    }
}

/// Flags that ask for what this build does not have must not be passed over in silence: a client
/// would talk to a server that is less than it was told.
fn refuse_unserved(config: &Config) -> Result<(), StartFailure> {
    const UNSERVED: &[&str] = &[
        "cert-file",
        "key-file",
        "client-cert-auth",
        "trusted-ca-file",
        "auto-tls",
        "peer-cert-file",
        "peer-key-file",
        "peer-client-cert-auth",
        "peer-trusted-ca-file",
        "peer-auto-tls",
        "discovery-token",
        "discovery-endpoints",
        "discovery-srv",
        "force-new-cluster",
        "unsafe-no-fsync",
        "auto-compaction-retention",
    ];
    if let Some(name) = config.first_given(UNSERVED) {
        return Err(StartFailure(format!(
            "--{name} is not served by this build yet"
        )));
    }
    let tls = |urls: &config::UrlList| urls.iter().any(|url| url.scheme.is_tls());
    if tls(&config.listen_client_urls) || tls(&config.listen_metrics_urls) {
        return Err(StartFailure(
            "https listeners are not served by this build yet".into(),
        ));
    }
    Ok(())
}

fn check_machine(dir: &Path, cores: usize, access: LogAccess) -> Result<(), StartFailure> {
    let found = checks::run(dir, cores, access);
    for check in &found {
        match check.verdict {
            Verdict::Fine => tracing::debug!(check = %check, "start-up check"),
            Verdict::Warning => tracing::warn!(check = %check, "start-up check"),
            Verdict::Fatal => tracing::error!(check = %check, "start-up check"),
        }
    }
    match found.iter().find(|check| check.verdict == Verdict::Fatal) {
        Some(check) => Err(StartFailure(check.to_string())),
        None => Ok(()),
    }
}

/// The world that the cores run in.
fn choose_runtime(choice: RuntimeChoice) -> Result<Adapter, StartFailure> {
    let wanted = match choice {
        RuntimeChoice::Auto => None,
        RuntimeChoice::Ring => Some(Adapter::Ring),
        RuntimeChoice::Glommio => Some(Adapter::Glommio),
    };
    match Adapter::choose(wanted) {
        (Adapter::Ring, Some(error)) => Err(failed(
            "--runtime ring needs Linux 6.1 or newer and io_uring allowed; try glommio",
            error,
        )),
        (adapter, None) => {
            tracing::info!(runtime = %adapter, "runtime");
            Ok(adapter)
        }
        (adapter, Some(error)) => {
            tracing::warn!(
                runtime = %adapter,
                error = %error,
                "this kernel lacks what the faster runtime needs (Linux 6.1 or newer)"
            );
            Ok(adapter)
        }
    }
}

/// Reads the identity, or makes it from the bootstrap flags in a fresh directory.
fn load_identity(config: &Config) -> Result<Identity, StartFailure> {
    let path = config.data_dir.join(FILE_NAME);
    if let Some(bytes) = files::read_small(&path)? {
        let identity =
            Identity::decode(&bytes).map_err(|error| failed(&path.display().to_string(), error))?;
        tracing::info!(
            cluster_id = %format_args!("{:x}", identity.cluster.0),
            member_id = %format_args!("{:x}", identity.member.0),
            "restarting member; bootstrap flags are ignored"
        );
        return Ok(identity);
    }
    let wal = wal_options(config).dir;
    if wal.exists() {
        return Err(StartFailure(format!(
            "{}: there is a log but no identity file; restore {}",
            wal.display(),
            path.display()
        )));
    }
    let members = config.first_members()?;
    if members.len() > 1 {
        return Err(StartFailure(format!(
            "--initial-cluster has {} members; this build serves a single member",
            members.len()
        )));
    }
    let token = &config.initial_cluster_token;
    let urls = members[0].1.texts();
    let member = config::identity::member_id(&urls, token, None);
    let cluster = config::identity::cluster_id(&[member]);
    let identity = Identity {
        cluster,
        member,
        peer_urls: urls,
    };
    files::write_durable(&path, &identity.encode())
        .map_err(|error| failed(&path.display().to_string(), error))?;
    tracing::info!(
        cluster_id = %format_args!("{:x}", cluster.0),
        member_id = %format_args!("{:x}", member.0),
        "made a new member"
    );
    Ok(identity)
}

/// Listeners per core, and whether clients are served without TLS.
fn listen(config: &Config, cores: usize) -> Result<(Vec<Vec<Bound>>, bool), StartFailure> {
    let mut per_core: Vec<Vec<Bound>> = (0..cores).map(|_| Vec::new()).collect();
    let urls = config
        .listen_client_urls
        .iter()
        .chain(config.listen_metrics_urls.iter());
    for url in urls {
        let bound = match &url.address {
            Address::Tcp { host, port } => net::bind_host(host, *port, cores),
            // One core accepts for all: a Unix socket cannot be bound twice.
            Address::Unix { path } => {
                net::bind_unix(Path::new(path)).map(|bound| vec![vec![bound]])
            }
        };
        let bound = bound.map_err(|error| failed(url.as_str(), error))?;
        for (mine, new) in per_core.iter_mut().zip(bound) {
            mine.extend(new);
        }
    }
    Ok((per_core, true))
}

fn facts(config: &Config, identity: &Identity) -> Facts {
    Facts {
        origin: Origin {
            cluster: identity.cluster,
            member: identity.member,
        },
        name: config.name.clone(),
        peer_urls: identity.peer_urls.clone(),
        client_urls: config.advertise_client_urls.texts(),
        version: config::ETCD_VERSION,
        cluster_version: format!("{}.0", config::CLUSTER_VERSION),
        txn_ops_max: usize::try_from(config.max_txn_ops).unwrap_or(usize::MAX),
        request_bytes_max: request_bytes_max(config),
        request_timeout: config.request_timeout(),
    }
}

fn request_bytes_max(config: &Config) -> usize {
    usize::try_from(config.max_request_bytes).unwrap_or(usize::MAX)
}

fn grpc_settings(config: &Config) -> GrpcSettings {
    let keepalive = http2::Keepalive {
        interval: config.grpc_keepalive_interval,
        timeout: config.grpc_keepalive_timeout,
        ping_time_min: config.grpc_keepalive_min_time,
        permit_without_stream: false,
    };
    let streams_max = config.max_concurrent_streams.min(STREAMS_MAX);
    GrpcSettings {
        http2: http2::Settings {
            streams_max,
            keepalive,
            ..http2::Settings::default()
        },
        message_bytes_max: request_bytes_max(config).saturating_add(MESSAGE_ROOM_BYTES),
        plain_http: true,
    }
}

fn group_options(config: &Config, member: MemberId) -> GroupOptions {
    let election = config.election_timeout.0;
    let lessor = LessorOptions {
        ttl_min: LessorOptions::ttl_min_for(election),
        ..LessorOptions::default()
    };
    let quota = config.quota_bytes().unwrap_or(0);
    GroupOptions {
        group: GroupId(0),
        member,
        tree_path: config.data_dir.join("groups").join("0").join("tree"),
        map_bytes_max: quota.saturating_mul(2).max(MAP_BYTES_MIN),
        election_timeout: election,
        machine: MachineOptions {
            lessor,
            quota_bytes: config.quota_backend_bytes,
        },
        hub: HubOptions {
            progress_interval: config.watch_progress_notify_interval.max(PROGRESS_MIN),
            fragment_bytes: request_bytes_max(config).saturating_add(MESSAGE_ROOM_BYTES),
            seed: member.0,
        },
        policy: CommitPolicy::default(),
        request_bytes_max: request_bytes_max(config),
        seed: member.0,
    }
}

/// The shortest interval of watch progress that etcd takes.
const PROGRESS_MIN: Duration = Duration::from_millis(100);

fn wal_options(config: &Config) -> wal::Options {
    let dir = config
        .wal_dir
        .clone()
        .unwrap_or_else(|| config.data_dir.join("wal"));
    let mut options = wal::Options::new(dir.join("core-0"));
    options.segment_bytes = config.log_segment_bytes;
    options
}
