//! Driver. `ringboltctl`: etcdctl's commands, flags, output and exit codes.
//!
//! In: arguments, variables `RINGBOLTCTL_*` and `ETCDCTL_*`, stdin. Out: stdout, stderr, exit code.
//! Call order: `main` is the whole program.
//!
//! Invariants
//! 1. What etcdctl 3.7 prints for the same answer is printed byte for byte; its exit codes too.
//! 2. An error is one line `Error: …` on stderr.
//! 3. Keys and values are bytes: nothing requires UTF-8.
//!
//! Differences: `-w table` and `-w json` work for every command; `lease()` compares in `txn` work,
//! and a malformed one is an error instead of a crash; words that etcdctl drops (a third argument
//! of `get`, a wrong sub-command of `endpoint`) are errors; an endpoint that cannot be reached says
//! why; no TLS, no interactive watch, no `auth`, `user`, `role`, `lock`, `elect`, `check`,
//! `make-mirror`.
//! Not here: the connection (`client`), reading files of a stopped server (`inspect`).

mod args;
mod cluster;
mod json;
mod kv;
mod lease;
mod ops;
mod print;
mod text;
mod watch;

use self::args::{ArgsError, CommandSpec, FlagSpec, Grammar, Kind, Parsed};
use self::print::{Format, Printer};
use crate::client::{Client, ClientError, ConnectOptions};
use crate::config;
use crate::inspect::InspectError;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStringExt;

/// etcdctl's exit codes.
const EXIT_ERROR: i32 = 1;
const EXIT_CONNECTION: i32 = 2;
const EXIT_INPUT: i32 = 3;
const EXIT_FEATURE: i32 = 4;
const EXIT_INTERRUPTED: i32 = 5;
const EXIT_IO: i32 = 6;
const EXIT_ARGS: i32 = 128;
const EXIT_BROKEN_PIPE: i32 = 141;

/// A failed command: the text after `Error: ` and the exit code. An empty text prints nothing.
#[derive(Debug)]
pub(super) struct CtlError {
    text: String,
    code: i32,
}

impl CtlError {
    fn new(text: impl Into<String>, code: i32) -> CtlError {
        CtlError {
            text: text.into(),
            code,
        }
    }
}

impl fmt::Display for CtlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for CtlError {}

impl From<ClientError> for CtlError {
    fn from(error: ClientError) -> CtlError {
        CtlError::new(error.to_string(), EXIT_ERROR)
    }
}

impl From<io::Error> for CtlError {
    fn from(error: io::Error) -> CtlError {
        match error.kind() {
            // The reader has seen enough: end as a program that SIGPIPE ends, without a word.
            io::ErrorKind::BrokenPipe => CtlError::new("", EXIT_BROKEN_PIPE),
            _ => CtlError::new(error.to_string(), EXIT_IO),
        }
    }
}

/// The commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verb {
    Get,
    Put,
    Del,
    Txn,
    Compaction,
    Watch,
    LeaseGrant,
    LeaseRevoke,
    LeaseTimeToLive,
    LeaseList,
    LeaseKeepAlive,
    MemberAdd,
    MemberRemove,
    MemberUpdate,
    MemberPromote,
    MemberList,
    EndpointHealth,
    EndpointStatus,
    EndpointHashKv,
    AlarmDisarm,
    AlarmList,
    Defrag,
    MoveLeader,
    SnapshotSave,
    OfflineCheck,
    OfflineDump,
    Options,
    Version,
}

const fn flag(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    help: &'static str,
) -> FlagSpec {
    FlagSpec {
        name,
        short: None,
        kind,
        default,
        help,
    }
}

const GLOBALS: &[FlagSpec] = &[
    flag("endpoints", Kind::List, "127.0.0.1:2379", "gRPC endpoints"),
    FlagSpec {
        name: "write-out",
        short: Some('w'),
        kind: Kind::Text,
        default: "simple",
        help: "set the output format (fields, json, protobuf, simple, table)",
    },
    flag(
        "hex",
        Kind::Bool,
        "false",
        "print byte strings as hex encoded strings",
    ),
    flag(
        "dial-timeout",
        Kind::Time,
        "2s",
        "dial timeout for client connections",
    ),
    flag(
        "command-timeout",
        Kind::Time,
        "5s",
        "timeout of a command without its dial",
    ),
    flag(
        "keepalive-time",
        Kind::Time,
        "2s",
        "keepalive time for client connections",
    ),
    flag(
        "keepalive-timeout",
        Kind::Time,
        "6s",
        "keepalive timeout for client connections",
    ),
    flag(
        "max-request-bytes",
        Kind::Int,
        "0",
        "largest request sent, 0 is 2 MiB",
    ),
    flag(
        "max-recv-bytes",
        Kind::Int,
        "0",
        "largest answer taken, 0 is no limit",
    ),
    flag(
        "user",
        Kind::Text,
        "",
        "username[:password] for authentication",
    ),
    flag("password", Kind::Text, "", "password for authentication"),
    flag("auth-jwt-token", Kind::Text, "", "token for authentication"),
    flag(
        "debug",
        Kind::Bool,
        "false",
        "enable client-side debug logging",
    ),
    flag(
        "insecure-transport",
        Kind::Bool,
        "true",
        "disable transport security",
    ),
    flag(
        "insecure-skip-tls-verify",
        Kind::Bool,
        "false",
        "skip server certificate verification",
    ),
    flag(
        "insecure-discovery",
        Kind::Bool,
        "true",
        "accept insecure SRV records",
    ),
    flag("cert", Kind::Text, "", "TLS certificate file"),
    flag("key", Kind::Text, "", "TLS key file"),
    flag("cacert", Kind::Text, "", "TLS CA file"),
    FlagSpec {
        name: "discovery-srv",
        short: Some('d'),
        kind: Kind::Text,
        default: "",
        help: "domain name to query for SRV records",
    },
    flag(
        "discovery-srv-name",
        Kind::Text,
        "",
        "service name to query",
    ),
];

const PREFIX: FlagSpec = flag("prefix", Kind::Bool, "false", "keys with matching prefix");
const FROM_KEY: FlagSpec = flag(
    "from-key",
    Kind::Bool,
    "false",
    "keys that are greater than or equal to the given key",
);
const PREV_KV: FlagSpec = flag(
    "prev-kv",
    Kind::Bool,
    "false",
    "return the previous key-value pairs",
);
const CLUSTER: FlagSpec = flag(
    "cluster",
    Kind::Bool,
    "false",
    "use all endpoints from the cluster member list",
);

const GET_FLAGS: &[FlagSpec] = &[
    flag(
        "consistency",
        Kind::Text,
        "l",
        "Linearizable(l) or Serializable(s)",
    ),
    flag(
        "order",
        Kind::Text,
        "",
        "order of results; ASCEND or DESCEND",
    ),
    flag(
        "sort-by",
        Kind::Text,
        "",
        "sort target; CREATE, KEY, MODIFY, VALUE, or VERSION",
    ),
    flag("limit", Kind::Int, "0", "maximum number of results"),
    PREFIX,
    FROM_KEY,
    flag("rev", Kind::Int, "0", "specify the kv revision"),
    flag("keys-only", Kind::Bool, "false", "get only the keys"),
    flag("count-only", Kind::Bool, "false", "get only the count"),
    flag(
        "print-value-only",
        Kind::Bool,
        "false",
        "only write values in the simple format",
    ),
    flag("min-create-rev", Kind::Int, "0", "minimum create revision"),
    flag("max-create-rev", Kind::Int, "0", "maximum create revision"),
    flag(
        "min-mod-rev",
        Kind::Int,
        "0",
        "minimum modification revision",
    ),
    flag(
        "max-mod-rev",
        Kind::Int,
        "0",
        "maximum modification revision",
    ),
    flag("stream", Kind::Bool, "false", "use the RangeStream RPC"),
];

const fn command(
    verb: Verb,
    path: &'static [&'static str],
    usage: &'static str,
    help: &'static str,
    flags: &'static [FlagSpec],
) -> CommandSpec<Verb> {
    CommandSpec {
        verb,
        path,
        usage,
        help,
        flags,
    }
}

const COMMANDS: &[CommandSpec<Verb>] = &[
    command(
        Verb::Get,
        &["get"],
        "get [options] <key> [range_end]",
        "Gets the key or a range of keys",
        GET_FLAGS,
    ),
    command(
        Verb::Put,
        &["put"],
        "put [options] <key> <value> (<value> can also be given from stdin)",
        "Puts the given key into the store",
        &[
            flag(
                "lease",
                Kind::Text,
                "0",
                "lease ID (in hexadecimal) to attach to the key",
            ),
            PREV_KV,
            flag(
                "ignore-value",
                Kind::Bool,
                "false",
                "updates the key using its current value",
            ),
            flag(
                "ignore-lease",
                Kind::Bool,
                "false",
                "updates the key using its current lease",
            ),
        ],
    ),
    command(
        Verb::Del,
        &["del"],
        "del [options] <key> [range_end]",
        "Removes the specified key or range of keys [key, range_end)",
        &[
            PREFIX,
            PREV_KV,
            FROM_KEY,
            flag(
                "range",
                Kind::Bool,
                "false",
                "delete range of keys without a delay",
            ),
        ],
    ),
    command(
        Verb::Txn,
        &["txn"],
        "txn [options]",
        "Processes all the requests in one transaction",
        &[FlagSpec {
            name: "interactive",
            short: Some('i'),
            kind: Kind::Bool,
            default: "false",
            help: "input transaction in interactive mode",
        }],
    ),
    command(
        Verb::Compaction,
        &["compaction"],
        "compaction [options] <revision>",
        "Compacts the event history",
        &[flag(
            "physical",
            Kind::Bool,
            "false",
            "wait until old revisions are removed",
        )],
    ),
    command(
        Verb::Watch,
        &["watch"],
        "watch [options] [key or prefix] [range_end] [--] [exec-command arg1 arg2 ...]",
        "Watches events stream on keys or prefixes",
        &[
            PREFIX,
            flag("rev", Kind::Int, "0", "revision to start watching"),
            PREV_KV,
            flag(
                "progress-notify",
                Kind::Bool,
                "false",
                "get periodic progress notifications",
            ),
        ],
    ),
    command(
        Verb::LeaseGrant,
        &["lease", "grant"],
        "lease grant <ttl>",
        "Creates leases",
        &[],
    ),
    command(
        Verb::LeaseRevoke,
        &["lease", "revoke"],
        "lease revoke <leaseID>",
        "Revokes leases",
        &[],
    ),
    command(
        Verb::LeaseTimeToLive,
        &["lease", "timetolive"],
        "lease timetolive <leaseID> [options]",
        "Get lease information",
        &[flag(
            "keys",
            Kind::Bool,
            "false",
            "get keys attached to this lease",
        )],
    ),
    command(
        Verb::LeaseList,
        &["lease", "list"],
        "lease list",
        "List all active leases",
        &[],
    ),
    command(
        Verb::LeaseKeepAlive,
        &["lease", "keep-alive"],
        "lease keep-alive [options] <leaseID>",
        "Keeps leases alive (renew)",
        &[flag("once", Kind::Bool, "false", "renew once and exit")],
    ),
    command(
        Verb::MemberAdd,
        &["member", "add"],
        "member add <memberName> [options]",
        "Adds a member into the cluster",
        &[
            flag(
                "peer-urls",
                Kind::Text,
                "",
                "comma separated peer URLs for the new member",
            ),
            flag(
                "learner",
                Kind::Bool,
                "false",
                "the new member is a learner",
            ),
        ],
    ),
    command(
        Verb::MemberRemove,
        &["member", "remove"],
        "member remove <memberID>",
        "Removes a member from the cluster",
        &[],
    ),
    command(
        Verb::MemberUpdate,
        &["member", "update"],
        "member update <memberID> [options]",
        "Updates a member in the cluster",
        &[flag(
            "peer-urls",
            Kind::Text,
            "",
            "comma separated peer URLs for the updated member",
        )],
    ),
    command(
        Verb::MemberPromote,
        &["member", "promote"],
        "member promote <memberID>",
        "Promotes a non-voting member in the cluster",
        &[],
    ),
    command(
        Verb::MemberList,
        &["member", "list"],
        "member list",
        "Lists all members in the cluster",
        &[flag(
            "consistency",
            Kind::Text,
            "l",
            "Linearizable(l) or Serializable(s)",
        )],
    ),
    command(
        Verb::EndpointHealth,
        &["endpoint", "health"],
        "endpoint health",
        "Checks the healthiness of endpoints specified in `--endpoints` flag",
        &[CLUSTER],
    ),
    command(
        Verb::EndpointStatus,
        &["endpoint", "status"],
        "endpoint status",
        "Prints out the status of endpoints specified in `--endpoints` flag",
        &[CLUSTER],
    ),
    command(
        Verb::EndpointHashKv,
        &["endpoint", "hashkv"],
        "endpoint hashkv",
        "Prints the KV history hash for each endpoint in --endpoints",
        &[
            CLUSTER,
            flag("rev", Kind::Int, "0", "maximum revision to hash"),
        ],
    ),
    command(
        Verb::AlarmDisarm,
        &["alarm", "disarm"],
        "alarm disarm",
        "Disarms all alarms",
        &[],
    ),
    command(
        Verb::AlarmList,
        &["alarm", "list"],
        "alarm list",
        "Lists all alarms",
        &[],
    ),
    command(
        Verb::Defrag,
        &["defrag"],
        "defrag",
        "Defragments the storage of the members with given endpoints",
        &[CLUSTER],
    ),
    command(
        Verb::MoveLeader,
        &["move-leader"],
        "move-leader <transferee-member-id>",
        "Transfers leadership to another cluster member",
        &[],
    ),
    command(
        Verb::SnapshotSave,
        &["snapshot", "save"],
        "snapshot save <filename>",
        "Stores a node backend snapshot to a given file",
        &[],
    ),
    command(
        Verb::OfflineCheck,
        &["offline", "check"],
        "offline check wal|tree <path>",
        "Checks the files of a stopped server",
        &[],
    ),
    command(
        Verb::OfflineDump,
        &["offline", "dump"],
        "offline dump wal|tree <path>",
        "Prints the files of a stopped server, a line per field",
        &[],
    ),
    command(
        Verb::Options,
        &["options"],
        "options",
        "Shows the global command-line flags",
        &[],
    ),
    command(
        Verb::Version,
        &["version"],
        "version",
        "Prints the version of ringboltctl",
        &[],
    ),
];

static GRAMMAR: Grammar<Verb> = Grammar {
    program: "ringboltctl",
    about: "A command line client for ringbolt and etcd.",
    globals: GLOBALS,
    commands: COMMANDS,
    variable_prefix: "ETCDCTL_",
};

/// Runs the program and answers its exit code.
pub fn main() -> i32 {
    let arguments: Vec<Vec<u8>> = std::env::args_os()
        .skip(1)
        .map(|argument| argument.into_vec())
        .collect();
    let environment: Vec<(String, String)> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    let parsed = match GRAMMAR.parse(&arguments, &environment) {
        Ok(parsed) => parsed,
        Err(ArgsError::Help(text)) => {
            println!("{}", text.trim_end());
            return 0;
        }
        Err(ArgsError::Wrong { text, code }) => {
            eprintln!("Error: {}", text.trim_end());
            return code;
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: {error}");
            return EXIT_ERROR;
        }
    };
    match runtime.block_on(run(&parsed, &environment)) {
        Ok(()) => 0,
        Err(error) => {
            if !error.text.is_empty() {
                eprintln!("Error: {error}");
            }
            error.code
        }
    }
}

async fn run(parsed: &Parsed<Verb>, environment: &[(String, String)]) -> Result<(), CtlError> {
    let format = Format::of(parsed.text("write-out"))
        .ok_or_else(|| CtlError::new("unsupported output format", EXIT_FEATURE))?;
    let mut printer = Printer {
        format,
        hex: parsed.bool("hex"),
        values_only: false,
        out: io::BufWriter::new(io::stdout()),
    };
    let printer = &mut printer;
    match parsed.command.verb {
        Verb::Get => kv::get(parsed, printer).await,
        Verb::Put => kv::put(parsed, printer).await,
        Verb::Del => kv::del(parsed, printer).await,
        Verb::Txn => kv::txn(parsed, printer).await,
        Verb::Compaction => kv::compaction(parsed, printer).await,
        Verb::Watch => watch::watch(parsed, environment, printer).await,
        Verb::LeaseGrant => lease::grant(parsed, printer).await,
        Verb::LeaseRevoke => lease::revoke(parsed, printer).await,
        Verb::LeaseTimeToLive => lease::time_to_live(parsed, printer).await,
        Verb::LeaseList => lease::list(parsed, printer).await,
        Verb::LeaseKeepAlive => lease::keep_alive(parsed, printer).await,
        Verb::MemberAdd => cluster::member_add(parsed, printer).await,
        Verb::MemberRemove => cluster::member_remove(parsed, printer).await,
        Verb::MemberUpdate => cluster::member_update(parsed, printer).await,
        Verb::MemberPromote => cluster::member_promote(parsed, printer).await,
        Verb::MemberList => cluster::member_list(parsed, printer).await,
        Verb::EndpointHealth => cluster::endpoint_health(parsed, printer).await,
        Verb::EndpointStatus => cluster::endpoint_status(parsed, printer).await,
        Verb::EndpointHashKv => cluster::endpoint_hash_kv(parsed, printer).await,
        Verb::AlarmDisarm => cluster::alarm(parsed, printer, true).await,
        Verb::AlarmList => cluster::alarm(parsed, printer, false).await,
        Verb::Defrag => cluster::defrag(parsed, printer).await,
        Verb::MoveLeader => cluster::move_leader(parsed, printer).await,
        Verb::SnapshotSave => cluster::snapshot_save(parsed, printer).await,
        Verb::OfflineCheck | Verb::OfflineDump => offline(parsed),
        Verb::Options => {
            let mut text = GRAMMAR.group_help(&[]);
            let flags = text.find("Flags:").unwrap_or(0);
            print!("{}", text.split_off(flags));
            Ok(())
        }
        Verb::Version => {
            println!("ringboltctl version: {}", config::VERSION);
            println!("API version: {}", config::CLUSTER_VERSION);
            Ok(())
        }
    }
}

/// `offline check|dump wal|tree PATH`.
fn offline(parsed: &Parsed<Verb>) -> Result<(), CtlError> {
    let wrong = || CtlError::new(format!("usage: {}", parsed.command.usage), EXIT_ARGS);
    let [kind, path] = parsed.args.as_slice() else {
        return Err(wrong());
    };
    let kind = crate::inspect::Kind::of(&String::from_utf8_lossy(kind)).ok_or_else(wrong)?;
    let path = std::path::PathBuf::from(std::ffi::OsString::from_vec(path.clone()));
    let stdout = &mut io::stdout().lock();
    let result = match parsed.command.verb {
        Verb::OfflineCheck => crate::inspect::check(kind, &path, stdout),
        _ => crate::inspect::dump(kind, &path, stdout),
    };
    result.map_err(|error| match error {
        InspectError::Output(error) => error.into(),
        error => CtlError::new(error.to_string(), EXIT_ERROR),
    })
}

/// How the flags say to connect.
fn connect_options(parsed: &Parsed<Verb>) -> Result<ConnectOptions, CtlError> {
    let tls = ["cert", "key", "cacert"]
        .into_iter()
        .find(|name| parsed.given(name));
    if let Some(name) = tls {
        let text = format!("--{name} needs TLS, which this client does not speak");
        return Err(CtlError::new(text, EXIT_FEATURE));
    }
    let (user, password) = (parsed.text("user"), parsed.text("password"));
    let user = match (user, password) {
        ("", _) => None,
        (user, "") => match user.split_once(':') {
            Some((name, password)) => Some((name.to_owned(), password.to_owned())),
            None => Some((user.to_owned(), ask_password()?)),
        },
        (user, password) => Some((user.to_owned(), password.to_owned())),
    };
    let token = parsed.text("auth-jwt-token");
    Ok(ConnectOptions {
        endpoints: named(parsed.list("endpoints")),
        dial_timeout: parsed.time("dial-timeout"),
        command_timeout: Some(parsed.time("command-timeout")),
        keepalive_time: parsed.time("keepalive-time"),
        keepalive_timeout: parsed.time("keepalive-timeout"),
        user,
        token: (!token.is_empty()).then(|| token.to_owned()),
        request_bytes_max: usize::try_from(parsed.int("max-request-bytes")).unwrap_or(0),
        answer_bytes_max: usize::try_from(parsed.int("max-recv-bytes")).unwrap_or(0),
    })
}

/// Without empty words: `--endpoints=` names none.
fn named(mut endpoints: Vec<String>) -> Vec<String> {
    endpoints.retain(|endpoint| !endpoint.trim().is_empty());
    endpoints
}

fn ask_password() -> Result<String, CtlError> {
    eprint!("Password: ");
    let mut line = String::new();
    io::stdin().read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

async fn connect(parsed: &Parsed<Verb>) -> Result<Client, CtlError> {
    let options = connect_options(parsed)?;
    let with_user = options.user.is_some();
    Client::connect(&options).await.map_err(|error| {
        // etcdctl connects while it calls; only what it does before a call has this code.
        let before = with_user || matches!(error, ClientError::NoEndpoints);
        let code = if before { EXIT_CONNECTION } else { EXIT_ERROR };
        CtlError::new(error.to_string(), code)
    })
}

#[cfg(test)]
mod tests;
