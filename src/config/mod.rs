//! Pure. How the server is told what to do: etcd's flags, environment and config file.
//!
//! In: arguments, variables, and the text of the config file. Out: a checked [`Config`] with typed
//! fields, or [`ConfigError`] in etcd's words with the exit code; notes to log once logging runs.
//! Call order: `Command::parse`; for `Run`, `logging::start`, then log the notes; on a fresh data
//! directory `first_members`, `identity::member_id`, `identity::cluster_id`.
//!
//! Invariants
//! 1. Every documented flag of etcd 3.7.1 is in the one table in `flags.rs`, with its default.
//! 2. A flag is obeyed, refused, or noted as ignored: never silently dropped.
//! 3. The command line wins over the environment; both at once is an error; a config file wins over
//!    both.
//! 4. URLs come back byte for byte as they were given.
//!
//! Not here: reading files or variables, name resolution, obeying the flags. `logging` is the one
//! adapter: it writes lines.
//! The grammar is Go's flag package; `docs/testing.md` says how it was compared.

mod error;
mod file;
mod flags;
mod gates;
mod help;
pub mod identity;
pub mod logging;
mod parse;
mod url;
mod value;

pub use self::error::ConfigError;
pub use self::flags::{Effect, FLAGS, Flag, Flags};
pub use self::gates::{FeatureGates, GATES, GateError, Stage};
pub use self::help::{
    CLUSTER_VERSION, ETCD_VERSION, GIT_SHA, RUSTC, TARGET, VERSION, help, usage, version,
};
pub use self::url::{Address, Scheme, Url, UrlError, UrlList};
pub use self::value::{
    ClusterState, LogLevel, MetricsDetail, Millis, RuntimeChoice, TlsVersion, ValueError,
};

use self::parse::{Asked, Gathered};
use self::value::Value;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// The backend's quota when `--quota-backend-bytes` is 0.
const QUOTA_DEFAULT_BYTES: u64 = 2 << 30;
/// Above this quota a warning is logged.
const QUOTA_WARN_BYTES: i64 = 8 << 30;
/// Above this request size a warning is logged.
const REQUEST_WARN_BYTES: u64 = 10 << 20;
/// The shortest timeout of a peer connection.
const PEER_TIMEOUT_LEAST: Duration = Duration::from_secs(5);
const ELECTION_LONGEST: Duration = Duration::from_millis(50_000);
const SEGMENT_BYTES_LEAST: u64 = 1 << 20;
const SEGMENT_BYTES_MOST: u64 = 1 << 30;

/// What a command line asks for.
#[derive(Clone, PartialEq, Debug)]
pub enum Command {
    Run(Box<Config>),
    Help,
    Version,
}

/// Something to log when logging runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Note {
    pub level: NoteLevel,
    pub message: &'static str,
    /// The name of the one field.
    pub field: &'static str,
    pub value: String,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NoteLevel {
    Info,
    Warn,
}

/// What auto compaction keeps.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AutoCompaction {
    Off,
    /// The revisions of this long.
    Periodic(Duration),
    /// This many revisions.
    Revision(i64),
}

/// A checked configuration: the flags (it derefs to them) and what follows from them.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    flags: Flags,
    given: BTreeSet<&'static str>,
    /// `--data-dir`, or `${name}.ringbolt`.
    pub data_dir: PathBuf,
    /// `--wal-dir` when it is given.
    pub wal_dir: Option<PathBuf>,
    pub auto_compaction: AutoCompaction,
    /// Log these once, as soon as logging runs.
    pub notes: Vec<Note>,
}

impl std::ops::Deref for Config {
    type Target = Flags;
    fn deref(&self) -> &Flags {
        &self.flags
    }
}

impl Command {
    /// Parses and checks. `read_file` is asked for the config file's text, if one is named.
    pub fn parse(
        arguments: &[String],
        environment: &[(String, String)],
        read_file: impl FnOnce(&str) -> std::io::Result<String>,
    ) -> Result<Command, ConfigError> {
        let command = Command::read(arguments, environment, read_file)?;
        if let Command::Run(config) = &command {
            check_served(&config.flags)?;
        }
        Ok(command)
    }

    /// Parses and checks, whether this build serves it or not.
    fn read(
        arguments: &[String],
        environment: &[(String, String)],
        read_file: impl FnOnce(&str) -> std::io::Result<String>,
    ) -> Result<Command, ConfigError> {
        let mut gathered = Gathered::new();
        gathered.arguments(arguments)?;
        match gathered.asked {
            Asked::Help => return Ok(Command::Help),
            Asked::Version => return Ok(Command::Version),
            Asked::Run => {}
        }
        let from_environment = || {
            let file = environment
                .iter()
                .find(|(name, _)| name == "ETCD_CONFIG_FILE");
            file.map(|(_, path)| path.clone())
                .filter(|path| !path.is_empty())
        };
        if let Some(path) = gathered.config_file.clone().or_else(from_environment) {
            let text = read_file(&path).map_err(|error| ConfigError::FileUnreadable {
                path: path.clone(),
                error: error.to_string(),
            })?;
            gathered = Gathered::new();
            file::read(&path, &text, &mut gathered)?;
            gathered.notes.push(Note {
                level: NoteLevel::Info,
                message: "loaded server configuration, other configuration command line flags and \
                          environment variables will be ignored if provided",
                field: "path",
                value: path,
            });
        } else {
            gathered.environment(environment)?;
        }
        gathered.finish_gates();
        Config::check(gathered).map(|config| Command::Run(Box::new(config)))
    }
}

impl Config {
    fn check(gathered: Gathered) -> Result<Config, ConfigError> {
        let Gathered {
            mut flags,
            given,
            mut notes,
            ..
        } = gathered;
        check_urls(&flags, &given)?;
        check_times(&flags)?;
        check_bootstrap(&flags, &given)?;
        if !["json", "console"].contains(&flags.log_format.as_str()) {
            return Err(ConfigError::LogFormat(flags.log_format));
        }
        if flags.logger != "zap" {
            return Err(ConfigError::Logger(flags.logger));
        }
        if flags.enable_log_rotation {
            logging::Rotation::parse(&flags.log_rotation_config_json)
                .map_err(ConfigError::LogRotation)?;
        }
        let gates = &flags.feature_gates;
        if gates.enabled("LeaseCheckpointPersist") && !gates.enabled("LeaseCheckpoint") {
            return Err(ConfigError::CheckpointPersist);
        }
        let segment = flags.log_segment_bytes;
        if !(SEGMENT_BYTES_LEAST..=SEGMENT_BYTES_MOST).contains(&segment) || segment % 4096 != 0 {
            return Err(ConfigError::SegmentBytes {
                got: segment,
                lowest: SEGMENT_BYTES_LEAST,
                highest: SEGMENT_BYTES_MOST,
            });
        }
        let auto_compaction = auto_compaction(&flags)?;
        adjust(&mut flags, &mut notes);
        let data_dir = match flags.data_dir.as_str() {
            "" => PathBuf::from(format!("{}.ringbolt", flags.name)),
            dir => PathBuf::from(dir),
        };
        let wal_dir = (!flags.wal_dir.is_empty()).then(|| PathBuf::from(&flags.wal_dir));
        Ok(Config {
            flags,
            given,
            data_dir,
            wal_dir,
            auto_compaction,
            notes,
        })
    }

    /// Whether a flag was given, by whatever way and with whatever value.
    pub fn given(&self, name: &str) -> bool {
        self.given.contains(name)
    }

    /// The flags' values without what follows from them.
    #[cfg(test)]
    fn flags_ref(&self) -> &Flags {
        &self.flags
    }

    /// The first of `names` that was given another value than its default: for features that this
    /// build cannot serve.
    pub fn first_given(&self, names: &[&'static str]) -> Option<&'static str> {
        let asks = |name: &&'static str| self.given(name) && !self.flags.is_default(name);
        names.iter().copied().find(asks)
    }

    /// The backend's quota in bytes; `None` is no limit.
    pub fn quota_bytes(&self) -> Option<u64> {
        match self.flags.quota_backend_bytes {
            0 => Some(QUOTA_DEFAULT_BYTES),
            bytes => u64::try_from(bytes).ok(),
        }
    }

    /// The longest time between backend commits.
    pub fn batch_interval(&self) -> Duration {
        match self.flags.backend_batch_interval {
            Duration::ZERO => Duration::from_millis(100),
            interval => interval,
        }
    }

    /// The most changes between backend commits.
    pub fn batch_limit(&self) -> u64 {
        match self.flags.backend_batch_limit {
            0 => 10_000,
            limit => limit,
        }
    }

    /// How long a client's request may wait for the group: 5 s and two elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.flags.election_timeout.0
    }

    /// The members of the first configuration, by name. Only for a fresh data directory: a restart
    /// ignores what bootstrap flags say.
    pub fn first_members(&self) -> Result<Vec<(String, UrlList)>, ConfigError> {
        if self.flags.initial_cluster_state == ClusterState::Existing {
            return Err(ConfigError::JoinUnserved);
        }
        let advertise = &self.flags.initial_advertise_peer_urls;
        if !self.given("initial-cluster") {
            return Ok(vec![(self.flags.name.clone(), advertise.clone())]);
        }
        let mut members: Vec<(String, Vec<Url>)> = Vec::new();
        for pair in self
            .flags
            .initial_cluster
            .split(',')
            .filter(|pair| !pair.trim().is_empty())
        {
            let (name, url) = pair
                .trim()
                .split_once('=')
                .ok_or_else(|| ConfigError::InitialCluster(format!("no URL in {pair:?}")))?;
            let url =
                Url::parse(url).map_err(|error| ConfigError::InitialCluster(error.to_string()))?;
            match members.iter_mut().find(|member| member.0 == name) {
                Some(member) => member.1.push(url),
                None => members.push((name.to_owned(), vec![url])),
            }
        }
        let members: Vec<(String, UrlList)> = members
            .into_iter()
            .map(|(name, urls)| (name, UrlList::new(urls)))
            .collect();
        let own = members.iter().find(|member| member.0 == self.flags.name);
        let own = &own
            .ok_or_else(|| ConfigError::NameMissing {
                name: self.flags.name.clone(),
            })?
            .1;
        // Names may resolve to the advertised addresses; only plain addresses can be compared here.
        let plain = |urls: &UrlList| urls.iter().all(Url::is_bindable);
        if own != advertise && plain(own) && plain(advertise) && !same_hosts(own, advertise) {
            return Err(ConfigError::AdvertiseDiffers {
                cluster: format!("{}={own}", self.flags.name),
                advertise: advertise.to_string(),
            });
        }
        Ok(members)
    }
}

/// Whether two lists are equal when `localhost` is an address like another.
fn same_hosts(a: &UrlList, b: &UrlList) -> bool {
    let plain = |urls: &UrlList| {
        let text = |url: &Url| url.as_str().replace("//localhost:", "//127.0.0.1:");
        let mut texts: Vec<String> = urls.iter().map(text).collect();
        texts.sort();
        texts
    };
    plain(a) == plain(b)
}

/// Reads a duration of Go's grammar, such as `1m30s`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    Duration::parse(text).ok()
}

fn check_urls(flags: &Flags, given: &BTreeSet<&'static str>) -> Result<(), ConfigError> {
    let listen = [
        &flags.listen_peer_urls,
        &flags.listen_client_urls,
        &flags.listen_client_http_urls,
        &flags.listen_metrics_urls,
    ];
    if let Some(url) = listen
        .into_iter()
        .flat_map(|urls| urls.iter())
        .find(|u| !u.is_bindable())
    {
        return Err(ConfigError::NotBindable(url.to_string()));
    }
    let advertise = [
        &flags.initial_advertise_peer_urls,
        &flags.advertise_client_urls,
    ];
    for url in advertise.into_iter().flat_map(|urls| urls.iter()) {
        if matches!(&url.address, Address::Tcp { host, .. } if host.is_empty()) {
            return Err(ConfigError::EmptyHost(url.to_string()));
        }
    }
    if given.contains("listen-client-urls") && !given.contains("advertise-client-urls") {
        return Err(ConfigError::AdvertiseMissing);
    }
    Ok(())
}

/// A flag that promises what is not there must not be passed over: clients and operators would
/// trust a server that is less than it was told.
fn check_served(flags: &Flags) -> Result<(), ConfigError> {
    let unserved = FLAGS
        .iter()
        .find(|flag| flag.effect == Effect::Unserved && !flags.is_default(flag.name));
    unserved.map_or(Ok(()), |flag| {
        Err(ConfigError::Unserved { flag: flag.name })
    })
}

fn check_times(flags: &Flags) -> Result<(), ConfigError> {
    let (heartbeat, election) = (flags.heartbeat_interval.0, flags.election_timeout.0);
    if heartbeat.is_zero() {
        return Err(ConfigError::HeartbeatZero);
    }
    if election.is_zero() {
        return Err(ConfigError::ElectionZero);
    }
    let (heartbeat_ms, election_ms) = (heartbeat.as_millis(), election.as_millis());
    if 5 * heartbeat_ms > election_ms {
        return Err(ConfigError::ElectionTooShort {
            election_ms,
            heartbeat_ms,
        });
    }
    if election > ELECTION_LONGEST {
        return Err(ConfigError::ElectionTooLong { election_ms });
    }
    Ok(())
}

fn check_bootstrap(flags: &Flags, given: &BTreeSet<&'static str>) -> Result<(), ConfigError> {
    let discovery = !flags.discovery_endpoints.is_empty();
    if discovery == flags.discovery_token.is_empty() {
        return Err(ConfigError::DiscoveryIncomplete);
    }
    let ways = [
        given.contains("initial-cluster") && !flags.initial_cluster.is_empty(),
        discovery,
        !flags.discovery_srv.is_empty(),
    ];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        return Err(ConfigError::ManyBootstraps);
    }
    Ok(())
}

fn auto_compaction(flags: &Flags) -> Result<AutoCompaction, ConfigError> {
    let text = flags.auto_compaction_retention.as_str();
    let number = i64::parse(text).ok();
    let wrong = || ConfigError::CompactionRetention(text.to_owned());
    match flags.auto_compaction_mode.as_str() {
        "" | "periodic" => {
            let hours = number.and_then(|hours| u64::try_from(hours).ok());
            let time = match hours {
                Some(hours) => Duration::from_secs(hours.checked_mul(3600).ok_or_else(wrong)?),
                None => Duration::parse(text).map_err(|_| wrong())?,
            };
            Ok(match time {
                Duration::ZERO => AutoCompaction::Off,
                time => AutoCompaction::Periodic(time),
            })
        }
        "revision" => match number {
            Some(0) => Ok(AutoCompaction::Off),
            Some(count) if count > 0 => Ok(AutoCompaction::Revision(count)),
            _ => Err(wrong()),
        },
        mode => Err(ConfigError::CompactionMode(mode.to_owned())),
    }
}

/// Raises what is too low, and notes what an operator should hear.
fn adjust(flags: &mut Flags, notes: &mut Vec<Note>) {
    let mut note = |level, message, field, value: String| {
        notes.push(Note {
            level,
            message,
            field,
            value,
        });
    };
    if flags.name == "default" {
        let message = "it isn't recommended to use default name, please set a value for --name. \
                       Note that etcd might run into issue when multiple members have the same \
                       default name";
        note(NoteLevel::Warn, message, "name", flags.name.clone());
    }
    for (name, timeout) in [
        ("raft-read-timeout", &mut flags.raft_read_timeout),
        ("raft-write-timeout", &mut flags.raft_write_timeout),
    ] {
        if *timeout < PEER_TIMEOUT_LEAST {
            *timeout = PEER_TIMEOUT_LEAST;
            note(
                NoteLevel::Info,
                "timeout increased to minimum value: 5s",
                "flag",
                name.to_owned(),
            );
        }
    }
    if !(4..=31).contains(&flags.bcrypt_cost) {
        let cost = std::mem::replace(&mut flags.bcrypt_cost, 10);
        note(
            NoteLevel::Warn,
            "invalid bcrypt cost, took 10",
            "given-cost",
            cost.to_string(),
        );
    }
    if flags.max_concurrent_streams == 0 {
        // As grpc-go takes it: no limit.
        flags.max_concurrent_streams = u32::MAX;
    }
    if flags.quota_backend_bytes > QUOTA_WARN_BYTES {
        let bytes = flags.quota_backend_bytes.to_string();
        note(
            NoteLevel::Warn,
            "quota exceeds the maximum value",
            "quota-size-bytes",
            bytes,
        );
    }
    if flags.max_request_bytes > REQUEST_WARN_BYTES {
        let bytes = flags.max_request_bytes.to_string();
        let message = "exceeded recommended request limit";
        note(NoteLevel::Warn, message, "max-request-bytes", bytes);
    }
}

#[cfg(test)]
use self::tests::flag_default;

#[cfg(test)]
mod tests;
