//! Pure. The table of flags: name, field, type, default, help. Everything else follows from it.

use super::gates::FeatureGates;
use super::url::UrlList;
use super::value::{
    ClusterState, LogLevel, MetricsDetail, Millis, RuntimeChoice, TlsVersion, Value, ValueError,
};
use std::time::Duration;

/// What giving a flag does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Obeyed.
    Used,
    /// Accepted so that etcd's command lines start; another value than the default is logged.
    Ignored,
    /// It promises what this build does not have: another value than the default is refused.
    Unserved,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Flag {
    pub name: &'static str,
    pub section: &'static str,
    pub default: &'static str,
    pub help: &'static str,
    pub effect: Effect,
    /// A bare `--flag` means true.
    pub bare: bool,
    /// A whole number in a config file is nanoseconds.
    pub nanoseconds: bool,
}

macro_rules! flags {
    ($($section:literal {
        $($name:literal $field:ident: $type:ty = $default:literal $effect:ident $help:literal;)*
    })*) => {
        /// The value of every flag. Fields are named after the flags.
        #[derive(Clone, PartialEq, Debug)]
        pub struct Flags {
            $($(#[doc = $help] pub $field: $type,)*)*
        }

        /// All flags, in the order of the help text.
        pub const FLAGS: &[Flag] = &[
            $($(Flag {
                name: $name,
                section: $section,
                default: $default,
                help: $help,
                effect: Effect::$effect,
                bare: <$type as Value>::BARE,
                nanoseconds: <$type as Value>::NANOSECONDS,
            },)*)*
        ];

        impl Default for Flags {
            fn default() -> Flags {
                Flags {
                    $($($field: <$type as Value>::parse($default)
                        .expect("a test parses every default"),)*)*
                }
            }
        }

        impl Flags {
            /// Sets a flag from text. `None` when no flag has this name.
            pub(super) fn set(&mut self, name: &str, text: &str) -> Option<Result<(), ValueError>> {
                match name {
                    $($($name => Some(Value::parse(text).map(|value| self.$field = value)),)*)*
                    _ => None,
                }
            }

            /// Whether a flag has its default value. An unknown name has.
            pub(super) fn is_default(&self, name: &str) -> bool {
                match name {
                    $($($name => <$type as Value>::parse($default).as_ref() == Ok(&self.$field),)*)*
                    _ => true,
                }
            }
        }
    };
}

flags! {
    "Member" {
        "name" name: String = "default" Used "Human-readable name of this member.";
        "data-dir" data_dir: String = "" Used
            "Data directory; ${name}.ringbolt when not given.";
        "wal-dir" wal_dir: String = "" Used "Directory of the log; inside data-dir by default.";
        "snapshot-count" snapshot_count: u64 = "10000" Ignored
            "Entries after which the raft log may be cut.";
        "heartbeat-interval" heartbeat_interval: Millis = "100" Ignored
            "Time between heartbeats, in milliseconds.";
        "election-timeout" election_timeout: Millis = "1000" Used
            "Time without a leader until an election, in milliseconds.";
        "initial-election-tick-advance" initial_election_tick_advance: bool = "true" Ignored
            "Shorten the first election of a starting member.";
        "listen-peer-urls" listen_peer_urls: UrlList = "http://localhost:2380" Ignored
            "URLs to listen on for other members.";
        "listen-client-urls" listen_client_urls: UrlList = "http://localhost:2379" Used
            "URLs to listen on for clients, gRPC and HTTP alike.";
        "listen-client-http-urls" listen_client_http_urls: UrlList = "" Unserved
            "URLs to listen on for HTTP only; takes HTTP off listen-client-urls.";
        "max-snapshots" max_snapshots: u64 = "5" Ignored "Snapshot files to keep.";
        "max-wals" max_wals: u64 = "5" Ignored "Log files to keep.";
        "memory-mlock" memory_mlock: bool = "false" Ignored "Keep the process in memory.";
        "quota-backend-bytes" quota_backend_bytes: i64 = "0" Used
            "Size of the backend from which writes are refused; 0 is 2 GiB, negative is no limit.";
        "backend-bbolt-freelist-type" backend_bbolt_freelist_type: String = "map" Ignored
            "Kind of free list.";
        "backend-batch-interval" backend_batch_interval: Duration = "0" Ignored
            "Longest time between backend commits; 0 is 100ms.";
        "backend-batch-limit" backend_batch_limit: u64 = "0" Ignored
            "Most changes between backend commits; 0 is 10000.";
        "max-txn-ops" max_txn_ops: u64 = "128" Used "Most operations in a transaction.";
        "max-request-bytes" max_request_bytes: u64 = "1572864" Used "Largest request in bytes.";
        "max-concurrent-streams" max_concurrent_streams: u32 = "4294967295" Used
            "Most concurrent streams of a client connection.";
        "grpc-keepalive-min-time" grpc_keepalive_min_time: Duration = "5s" Used
            "Shortest time between a client's pings.";
        "grpc-keepalive-interval" grpc_keepalive_interval: Duration = "2h" Used
            "Time between the server's pings; 0 sends none.";
        "grpc-keepalive-timeout" grpc_keepalive_timeout: Duration = "20s" Used
            "Time to wait for a ping's answer before closing.";
        "socket-reuse-port" socket_reuse_port: bool = "false" Ignored
            "Set SO_REUSEPORT, so that several processes may listen on one port.";
        "socket-reuse-address" socket_reuse_address: bool = "false" Ignored "Set SO_REUSEADDR.";
        "enable-grpc-gateway" enable_grpc_gateway: bool = "true" Ignored "Serve JSON under /v3/.";
        "raft-read-timeout" raft_read_timeout: Duration = "5s" Ignored
            "Time without bytes until a peer's connection is closed.";
        "raft-write-timeout" raft_write_timeout: Duration = "5s" Ignored
            "Time to write to a peer until its connection is closed.";
        "feature-gates" feature_gates: FeatureGates = "" Ignored
            "Feature switches, as Name=true,Name=false.";
    }
    "ringbolt" {
        "cores" cores: u64 = "0" Used
            "Cores to run on, one thread each; 0 is all that are allowed.";
        "runtime" runtime: RuntimeChoice = "auto" Used
            "'ring' (Linux 6.1 or newer), 'glommio', or 'auto' for the best that runs here.";
        "log-segment-bytes" log_segment_bytes: u64 = "33554432" Used
            "Size of a log segment in bytes.";
        "unsafe-buffered-log" unsafe_buffered_log: bool = "false" Used
            "Write the log through the page cache where O_DIRECT is not possible; slower.";
        "enable-v2" enable_v2: bool = "false" Unserved "Serve the v2 API under /v2/.";
    }
    "Clustering" {
        "initial-advertise-peer-urls" initial_advertise_peer_urls: UrlList =
            "http://localhost:2380" Used "Peer URLs of this member that others are told.";
        "initial-cluster" initial_cluster: String = "" Used
            "Members of a new cluster, as name=URL,name=URL.";
        "initial-cluster-state" initial_cluster_state: ClusterState = "new" Used
            "'new' begins a cluster, 'existing' joins one; ignored by a restart.";
        "initial-cluster-token" initial_cluster_token: String = "etcd-cluster" Used
            "Tells clusters apart that begin with the same URLs.";
        "advertise-client-urls" advertise_client_urls: UrlList = "http://localhost:2379" Used
            "Client URLs of this member that others are told.";
        "discovery-token" discovery_token: String = "" Unserved "Discovery: token of the cluster.";
        "discovery-endpoints" discovery_endpoints: Vec<String> = "" Unserved
            "Discovery: endpoints of the service.";
        "discovery-dial-timeout" discovery_dial_timeout: Duration = "2s" Ignored
            "Discovery: time to connect.";
        "discovery-request-timeout" discovery_request_timeout: Duration = "5s" Ignored
            "Discovery: time of a request.";
        "discovery-keepalive-time" discovery_keepalive_time: Duration = "2s" Ignored
            "Discovery: time between pings.";
        "discovery-keepalive-timeout" discovery_keepalive_timeout: Duration = "6s" Ignored
            "Discovery: time to wait for a ping's answer.";
        "discovery-insecure-transport" discovery_insecure_transport: bool = "true" Ignored
            "Discovery: without TLS.";
        "discovery-insecure-skip-tls-verify" discovery_insecure_skip_tls_verify: bool =
            "false" Ignored "Discovery: do not verify the server (for tests only).";
        "discovery-cert" discovery_cert: String = "" Ignored "Discovery: client certificate file.";
        "discovery-key" discovery_key: String = "" Ignored "Discovery: client key file.";
        "discovery-cacert" discovery_cacert: String = "" Ignored "Discovery: trusted CA file.";
        "discovery-user" discovery_user: String = "" Ignored "Discovery: user or user:password.";
        "discovery-password" discovery_password: String = "" Ignored "Discovery: password.";
        "discovery-fallback" discovery_fallback: String = "exit" Ignored
            "What to do when discovery fails: exit.";
        "discovery-srv" discovery_srv: String = "" Unserved
            "Domain of the SRV records of a cluster.";
        "discovery-srv-name" discovery_srv_name: String = "" Ignored "Suffix of the SRV name.";
        "strict-reconfig-check" strict_reconfig_check: bool = "true" Ignored
            "Refuse changes of the membership that would lose the quorum.";
        "pre-vote" pre_vote: bool = "true" Ignored
            "Ask before an election whether it could be won.";
        "auto-compaction-retention" auto_compaction_retention: String = "0" Unserved
            "What auto compaction keeps; 0 is off. A bare number is hours in periodic mode.";
        "auto-compaction-mode" auto_compaction_mode: String = "periodic" Ignored
            "What the retention counts: periodic or revision.";
        "v2-deprecation" v2_deprecation: String = "write-only" Ignored "Phase of the v2 store.";
    }
    "Security" {
        "cert-file" cert_file: String = "" Unserved "Certificate for clients.";
        "key-file" key_file: String = "" Unserved "Key for clients.";
        "client-cert-file" client_cert_file: String = "" Unserved
            "Certificate with which this member is a client of itself.";
        "client-key-file" client_key_file: String = "" Unserved "Key of client-cert-file.";
        "client-cert-auth" client_cert_auth: bool = "false" Unserved
            "Ask clients for certificates.";
        "client-crl-file" client_crl_file: String = "" Unserved "Revoked client certificates.";
        "client-cert-allowed-hostname" client_cert_allowed_hostname: Vec<String> = "" Unserved
            "Host names that client certificates may have.";
        "trusted-ca-file" trusted_ca_file: String = "" Unserved "CA of client certificates.";
        "auto-tls" auto_tls: bool = "false" Unserved "Make a certificate for clients.";
        "peer-cert-file" peer_cert_file: String = "" Unserved "Certificate for peers.";
        "peer-key-file" peer_key_file: String = "" Unserved "Key for peers.";
        "peer-client-cert-file" peer_client_cert_file: String = "" Unserved
            "Certificate with which this member connects to peers.";
        "peer-client-key-file" peer_client_key_file: String = "" Unserved
            "Key of peer-client-cert-file.";
        "peer-client-cert-auth" peer_client_cert_auth: bool = "false" Unserved
            "Ask peers for certificates.";
        "peer-trusted-ca-file" peer_trusted_ca_file: String = "" Unserved
            "CA of peer certificates.";
        "peer-crl-file" peer_crl_file: String = "" Unserved "Revoked peer certificates.";
        "peer-cert-allowed-cn" peer_cert_allowed_cn: Vec<String> = "" Unserved
            "Common names that peer certificates may have.";
        "peer-cert-allowed-hostname" peer_cert_allowed_hostname: Vec<String> = "" Unserved
            "Host names that peer certificates may have.";
        "peer-auto-tls" peer_auto_tls: bool = "false" Unserved "Make a certificate for peers.";
        "peer-skip-client-san-verification" peer_skip_client_san_verification: bool =
            "false" Ignored "Do not compare a peer's address with its certificate.";
        "self-signed-cert-validity" self_signed_cert_validity: u64 = "1" Ignored
            "Years that made certificates are valid.";
        "cipher-suites" cipher_suites: Vec<String> = "" Unserved "TLS cipher suites.";
        "tls-min-version" tls_min_version: TlsVersion = "TLS1.2" Unserved "Lowest TLS version.";
        "tls-max-version" tls_max_version: TlsVersion = "" Unserved "Highest TLS version.";
        "cors" cors: Vec<String> = "*" Ignored "Origins that browsers may call from.";
        "host-whitelist" host_whitelist: Vec<String> = "*" Unserved
            "Host names that plain HTTP requests may ask for.";
    }
    "Auth" {
        "auth-token" auth_token: String = "simple" Ignored "Kind of token: simple, or jwt,options.";
        "bcrypt-cost" bcrypt_cost: u64 = "10" Ignored "Cost of password hashes, 4 to 31.";
        "auth-token-ttl" auth_token_ttl: u64 = "300" Ignored "Life of a simple token in seconds.";
    }
    "Profiling and Monitoring" {
        "enable-pprof" enable_pprof: bool = "false" Ignored "Serve profiles under /debug/pprof/.";
        "metrics" metrics: MetricsDetail = "basic" Used
            "'extensive' adds the times of every gRPC method.";
        "listen-metrics-urls" listen_metrics_urls: UrlList = "" Used
            "URLs to listen on for /metrics and health.";
    }
    "Logging" {
        "logger" logger: String = "zap" Used "Only 'zap': structured lines.";
        "log-outputs" log_outputs: Vec<String> = "default" Used
            "Where lines go: default (stderr), stderr, stdout, or files.";
        "log-level" log_level: LogLevel = "info" Used
            "debug, info, warn, error, panic or fatal.";
        "log-format" log_format: String = "json" Used "json or console.";
        "enable-log-rotation" enable_log_rotation: bool = "false" Used "Rotate a log file.";
        "log-rotation-config-json" log_rotation_config_json: String =
            "{\"maxsize\": 100, \"maxage\": 0, \"maxbackups\": 0, \"localtime\": false, \
             \"compress\": false}" Used "When to rotate; maxsize is in megabytes.";
        "warning-unary-request-duration" warning_unary_request_duration: Duration = "300ms" Ignored
            "Requests that take longer are logged.";
    }
    "Distributed tracing" {
        "enable-distributed-tracing" enable_distributed_tracing: bool = "false" Ignored
            "Send traces.";
        "distributed-tracing-address" distributed_tracing_address: String =
            "localhost:4317" Ignored "Where traces go.";
        "distributed-tracing-service-name" distributed_tracing_service_name: String =
            "etcd" Ignored "Service name of the traces.";
        "distributed-tracing-instance-id" distributed_tracing_instance_id: String = "" Ignored
            "Instance id of the traces.";
        "distributed-tracing-sampling-rate" distributed_tracing_sampling_rate: u64 = "0" Ignored
            "Traces per million requests.";
    }
    "Features" {
        "corrupt-check-time" corrupt_check_time: Duration = "0s" Ignored
            "Time between checks for corruption; 0 is never.";
        "compact-hash-check-time" compact_hash_check_time: Duration = "1m" Ignored
            "Time between the leader's checks of compaction hashes.";
        "compaction-batch-limit" compaction_batch_limit: u64 = "1000" Ignored
            "Most revisions removed in one slice of a compaction.";
        "compaction-sleep-interval" compaction_sleep_interval: Duration = "10ms" Ignored
            "Time between slices of a compaction.";
        "watch-progress-notify-interval" watch_progress_notify_interval: Duration = "10m" Used
            "Time between progress notifications of quiet watches.";
        "warning-apply-duration" warning_apply_duration: Duration = "100ms" Ignored
            "Entries that take longer to apply are logged.";
        "bootstrap-defrag-threshold-megabytes" bootstrap_defrag_threshold_megabytes: u64 =
            "0" Ignored "Defragment at start when it frees this much; 0 is never.";
        "max-learners" max_learners: u64 = "1" Ignored "Most learners in a cluster.";
        "downgrade-check-time" downgrade_check_time: Duration = "5s" Ignored
            "Time between checks of a downgrade.";
        "snapshot-catchup-entries" snapshot_catchup_entries: u64 = "5000" Ignored
            "Entries kept for slow members after the log is cut.";
    }
    "Unsafe" {
        "force-new-cluster" force_new_cluster: bool = "false" Unserved
            "Begin a cluster of one member from this data directory.";
        "unsafe-no-fsync" unsafe_no_fsync: bool = "false" Unserved
            "Do not wait for the disk: a power loss loses acknowledged writes.";
    }
}

/// Names that etcd once had, or had under `experimental-`. `Current` takes the value over, `Gate`
/// switches a feature gate, `Nothing` is accepted and logged as ignored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Former {
    Current(&'static str),
    Gate(&'static str),
    Nothing { bare: bool },
}

const FORMER_GATES: [(&str, &str); 8] = [
    (
        "experimental-compact-hash-check-enabled",
        "CompactHashCheck",
    ),
    ("experimental-enable-lease-checkpoint", "LeaseCheckpoint"),
    (
        "experimental-enable-lease-checkpoint-persist",
        "LeaseCheckpointPersist",
    ),
    ("experimental-initial-corrupt-check", "InitialCorruptCheck"),
    ("experimental-set-member-localaddr", "SetMemberLocalAddr"),
    (
        "experimental-stop-grpc-service-on-defrag",
        "StopGRPCServiceOnDefrag",
    ),
    (
        "experimental-txn-mode-write-with-shared-buffer",
        "TxnModeWriteWithSharedBuffer",
    ),
    ("experimental-fast-lease-keep-alive", "FastLeaseKeepAlive"),
];

/// Flags that were called `experimental-` before their present name.
const FORMER_NAMES: [&str; 18] = [
    "backend-bbolt-freelist-type",
    "bootstrap-defrag-threshold-megabytes",
    "compact-hash-check-time",
    "compaction-batch-limit",
    "compaction-sleep-interval",
    "corrupt-check-time",
    "distributed-tracing-address",
    "distributed-tracing-instance-id",
    "distributed-tracing-service-name",
    "downgrade-check-time",
    "enable-distributed-tracing",
    "max-learners",
    "memory-mlock",
    "peer-skip-client-san-verification",
    "snapshot-catchup-entries",
    "warning-apply-duration",
    "warning-unary-request-duration",
    "watch-progress-notify-interval",
];

/// Very old names, which etcd too accepts and ignores; all may stand without a value.
const FORMER_BARE: [&str; 13] = [
    "cluster-active-size",
    "cluster-remove-delay",
    "cluster-sync-interval",
    "config",
    "force",
    "max-result-buffer",
    "max-retry-attempts",
    "peer-election-timeout",
    "peer-heartbeat-interval",
    "retry-interval",
    "snapshot",
    "v",
    "vv",
];

const FORMER_WITH_VALUE: [&str; 2] = [
    "experimental-wait-cluster-ready-timeout",
    "experimental-enable-v2v3",
];

/// What a name that is not in [`FLAGS`] stands for.
pub(super) fn former(name: &str) -> Option<Former> {
    if let Some((_, gate)) = FORMER_GATES.iter().find(|(former, _)| *former == name) {
        return Some(Former::Gate(gate));
    }
    if FORMER_WITH_VALUE.contains(&name) {
        return Some(Former::Nothing { bare: false });
    }
    if FORMER_BARE.contains(&name) {
        return Some(Former::Nothing { bare: true });
    }
    let rest = name.strip_prefix("experimental-")?;
    if rest == "distributed-tracing-sampling-rate" {
        return Some(Former::Current("distributed-tracing-sampling-rate"));
    }
    FORMER_NAMES
        .iter()
        .find(|current| **current == rest)
        .map(|current| Former::Current(current))
}

/// The row of a flag.
pub(super) fn flag(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}
