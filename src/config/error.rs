//! Pure. Why a command line is refused, in the words of etcd where it has words.

use super::value::ValueError;
use std::fmt;

/// A refused configuration. [`ConfigError::exit_code`] says how the process ends.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ConfigError {
    NotDefined(String),
    NeedsArgument(String),
    BadSyntax(String),
    BadValue {
        value: String,
        flag: String,
        error: ValueError,
    },
    BadBoolean {
        value: String,
        flag: String,
    },
    NotAFlag(String),
    /// It promises what this build does not have.
    Unserved {
        flag: &'static str,
    },
    /// A sub-command of etcd's server program.
    Program(String),
    /// A fresh data directory, and a cluster to join.
    JoinUnserved,
    BadEnvironment {
        value: String,
        variable: String,
        error: ValueError,
    },
    Conflict {
        variable: String,
    },
    FileUnreadable {
        path: String,
        error: String,
    },
    FileSyntax {
        path: String,
        error: String,
    },
    FileValue {
        key: String,
        value: String,
        error: ValueError,
    },
    NotBindable(String),
    EmptyHost(String),
    HeartbeatZero,
    ElectionZero,
    ElectionTooShort {
        election_ms: u128,
        heartbeat_ms: u128,
    },
    ElectionTooLong {
        election_ms: u128,
    },
    AdvertiseMissing,
    ManyBootstraps,
    DiscoveryIncomplete,
    CompactionMode(String),
    CompactionRetention(String),
    LogFormat(String),
    Logger(String),
    LogRotation(String),
    CheckpointPersist,
    SegmentBytes {
        got: u64,
        lowest: u64,
        highest: u64,
    },
    InitialCluster(String),
    NameMissing {
        name: String,
    },
    AdvertiseDiffers {
        cluster: String,
        advertise: String,
    },
}

impl ConfigError {
    /// 2 when the command line itself is wrong (the usage is shown with it), otherwise 1.
    pub fn exit_code(&self) -> i32 {
        match self {
            ConfigError::NotDefined(_)
            | ConfigError::NeedsArgument(_)
            | ConfigError::BadSyntax(_)
            | ConfigError::BadValue { .. }
            | ConfigError::BadBoolean { .. } => 2,
            _ => 1,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::NotDefined(flag) => {
                write!(f, "flag provided but not defined: -{flag}")
            }
            ConfigError::NeedsArgument(flag) => write!(f, "flag needs an argument: -{flag}"),
            ConfigError::BadSyntax(text) => write!(f, "bad flag syntax: {text}"),
            ConfigError::BadValue { value, flag, error } => {
                write!(f, "invalid value {value:?} for flag -{flag}: {error}")
            }
            ConfigError::BadBoolean { value, flag } => {
                write!(
                    f,
                    "invalid boolean value {value:?} for -{flag}: parse error"
                )
            }
            ConfigError::NotAFlag(text) => write!(f, "{text:?} is not a valid flag"),
            ConfigError::Unserved { flag } => {
                write!(f, "--{flag} is not served by this build; start without it")
            }
            ConfigError::Program(name) => {
                write!(
                    f,
                    "\"{name}\" is not served by this build, only the server itself is"
                )
            }
            ConfigError::JoinUnserved => f.write_str(
                "--initial-cluster-state=existing is not served by this build: the data \
                 directory is empty, and there is no joining of other members",
            ),
            ConfigError::BadEnvironment {
                value,
                variable,
                error,
            } => {
                write!(f, "invalid value {value:?} for {variable}: {error}")
            }
            ConfigError::Conflict { variable } => write!(
                f,
                "conflicting environment variable is shadowed by corresponding command-line \
                 flag (either unset environment variable or disable flag): {variable}"
            ),
            ConfigError::FileUnreadable { path, error } => write!(f, "open {path}: {error}"),
            ConfigError::FileSyntax { path, error } => {
                write!(f, "error parsing config file {path}: {error}")
            }
            ConfigError::FileValue { key, value, error } => {
                write!(
                    f,
                    "invalid value {value:?} for {key} in the config file: {error}"
                )
            }
            ConfigError::NotBindable(url) => write!(f, "expected IP in URL for binding ({url})"),
            ConfigError::EmptyHost(url) => write!(f, "unexpected empty host ({url})"),
            ConfigError::HeartbeatZero => {
                f.write_str("--heartbeat-interval must be >0 (set to 0ms)")
            }
            ConfigError::ElectionZero => f.write_str("--election-timeout must be >0 (set to 0ms)"),
            ConfigError::ElectionTooShort {
                election_ms,
                heartbeat_ms,
            } => write!(
                f,
                "--election-timeout[{election_ms}ms] should be at least as 5 times as \
                 --heartbeat-interval[{heartbeat_ms}ms]"
            ),
            ConfigError::ElectionTooLong { election_ms } => write!(
                f,
                "--election-timeout[{election_ms}ms] is too long, and should be set less than \
                 50000ms"
            ),
            ConfigError::AdvertiseMissing => f.write_str(
                "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            ),
            ConfigError::ManyBootstraps => f.write_str(
                "multiple discovery or bootstrap flags are set. Choose one of \
                 \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"",
            ),
            ConfigError::DiscoveryIncomplete => {
                f.write_str("both --discovery-token and --discovery-endpoints must be set")
            }
            ConfigError::CompactionMode(mode) => write!(f, "unknown auto-compaction-mode {mode:?}"),
            ConfigError::CompactionRetention(text) => {
                write!(f, "invalid auto-compaction-retention {text:?}")
            }
            ConfigError::LogFormat(format) => {
                write!(
                    f,
                    "unknown log format: {format}, supported values json, console"
                )
            }
            ConfigError::Logger(logger) if logger == "capnslog" => {
                f.write_str("--logger=capnslog is removed in v3.5")
            }
            ConfigError::Logger(logger) => write!(f, "unknown logger option {logger:?}"),
            ConfigError::LogRotation(error) => {
                write!(f, "invalid log rotation config: {error}")
            }
            ConfigError::CheckpointPersist => f.write_str(
                "enabling feature gate LeaseCheckpointPersist requires enabling feature gate \
                 LeaseCheckpoint",
            ),
            ConfigError::SegmentBytes {
                got,
                lowest,
                highest,
            } => write!(
                f,
                "--log-segment-bytes[{got}] must be a multiple of 4096 from {lowest} to {highest}"
            ),
            ConfigError::InitialCluster(error) => {
                write!(f, "error setting up initial cluster: {error}")
            }
            ConfigError::NameMissing { name } => write!(
                f,
                "couldn't find local name {name:?} in the initial cluster configuration"
            ),
            ConfigError::AdvertiseDiffers { cluster, advertise } => write!(
                f,
                "--initial-cluster has {cluster} but missing from \
                 --initial-advertise-peer-urls={advertise}"
            ),
        }
    }
}

impl std::error::Error for ConfigError {}
