use super::flags::{Former, flag, former};
use super::*;

fn parse_with(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Command, ConfigError> {
    let arguments: Vec<String> = arguments.iter().map(|a| a.to_string()).collect();
    let environment: Vec<(String, String)> = environment
        .iter()
        .map(|(n, v)| (n.to_string(), v.to_string()))
        .collect();
    Command::read(&arguments, &environment, |path| match path {
        "missing" => Err(std::io::Error::from(std::io::ErrorKind::NotFound)),
        text => Ok(text.to_owned()),
    })
}

fn config(arguments: &[&str]) -> Config {
    match parse_with(arguments, &[]) {
        Ok(Command::Run(config)) => *config,
        other => panic!("{arguments:?}: {other:?}"),
    }
}

fn refused(arguments: &[&str]) -> (String, i32) {
    let error = parse_with(arguments, &[]).expect_err("must be refused");
    (error.to_string(), error.exit_code())
}

pub(super) fn flag_default(name: &str) -> &'static str {
    flag(name).expect("a known flag").default
}

/// Every documented flag of etcd 3.7.1, from the contract.
const ETCD_FLAGS: &str = "advertise-client-urls auth-token auth-token-ttl auto-compaction-mode \
    auto-compaction-retention auto-tls backend-batch-interval backend-batch-limit \
    backend-bbolt-freelist-type bcrypt-cost bootstrap-defrag-threshold-megabytes cert-file \
    cipher-suites client-cert-allowed-hostname client-cert-auth client-cert-file client-crl-file \
    client-key-file compact-hash-check-time compaction-batch-limit compaction-sleep-interval \
    corrupt-check-time cors data-dir discovery-cacert discovery-cert discovery-dial-timeout \
    discovery-endpoints discovery-fallback discovery-insecure-skip-tls-verify \
    discovery-insecure-transport discovery-keepalive-time discovery-keepalive-timeout \
    discovery-key discovery-password discovery-request-timeout discovery-srv discovery-srv-name \
    discovery-token discovery-user distributed-tracing-address distributed-tracing-instance-id \
    distributed-tracing-sampling-rate distributed-tracing-service-name downgrade-check-time \
    election-timeout enable-distributed-tracing enable-grpc-gateway enable-log-rotation \
    enable-pprof feature-gates force-new-cluster grpc-keepalive-interval grpc-keepalive-min-time \
    grpc-keepalive-timeout heartbeat-interval host-whitelist initial-advertise-peer-urls \
    initial-cluster initial-cluster-state initial-cluster-token initial-election-tick-advance \
    key-file listen-client-http-urls listen-client-urls listen-metrics-urls listen-peer-urls \
    log-format log-level log-outputs log-rotation-config-json logger max-concurrent-streams \
    max-learners max-request-bytes max-snapshots max-txn-ops max-wals memory-mlock metrics name \
    peer-auto-tls peer-cert-allowed-cn peer-cert-allowed-hostname peer-cert-file \
    peer-client-cert-auth peer-client-cert-file peer-client-key-file peer-crl-file peer-key-file \
    peer-skip-client-san-verification peer-trusted-ca-file pre-vote quota-backend-bytes \
    raft-read-timeout raft-write-timeout self-signed-cert-validity snapshot-catchup-entries \
    snapshot-count socket-reuse-address socket-reuse-port strict-reconfig-check tls-max-version \
    tls-min-version trusted-ca-file unsafe-no-fsync v2-deprecation wal-dir \
    warning-apply-duration warning-unary-request-duration watch-progress-notify-interval";

// Catches a documented flag that is missing, and a default that does not parse.
#[test]
fn every_flag_of_etcd_is_known_with_its_default() {
    let defaults = config(&[]);
    for name in ETCD_FLAGS.split_whitespace() {
        let flag = flag(name).unwrap_or_else(|| panic!("{name} is missing"));
        let argument = format!("--{name}={}", flag.default);
        match parse_with(
            &[
                argument.as_str(),
                "--advertise-client-urls=http://localhost:2379",
            ],
            &[],
        ) {
            Ok(Command::Run(given)) => assert_eq!(*given.flags_ref(), *defaults.flags_ref()),
            other => panic!("{argument}: {other:?}"),
        }
    }
    assert!(help().contains("--unsafe-no-fsync 'false'"));
    let names: BTreeSet<_> = FLAGS.iter().map(|flag| flag.name).collect();
    assert_eq!(names.len(), FLAGS.len());
    assert_eq!(defaults.data_dir, PathBuf::from("default.ringbolt"));
    assert_eq!(defaults.quota_bytes(), Some(2 << 30));
    assert_eq!(defaults.request_timeout(), Duration::from_secs(7));
}

// Catches a command line that etcd's operators may write and that means something else here.
#[test]
fn grammar_of_the_command_line() {
    let all = config(&[
        "--name=a",
        "-name",
        "b",
        "--max-txn-ops",
        "0x10",
        "-pre-vote=F",
        "--unsafe-no-fsync",
        "--grpc-keepalive-interval=1h0m1.5s",
        "--name",
        "c",
        "--",
    ]);
    assert_eq!(
        (all.name.as_str(), all.max_txn_ops, all.pre_vote),
        ("c", 16, false)
    );
    assert!(all.unsafe_no_fsync && all.given("unsafe-no-fsync") && !all.given("cors"));
    assert_eq!(
        all.grpc_keepalive_interval,
        Duration::from_millis(3_601_500)
    );
    assert_eq!(all.data_dir, PathBuf::from("c.ringbolt"));
    assert_eq!(parse_with(&["-h"], &[]), Ok(Command::Help));
    assert_eq!(
        parse_with(&["--name", "x", "--version"], &[]),
        Ok(Command::Version)
    );
    assert!(matches!(
        parse_with(&["--version=false"], &[]),
        Ok(Command::Run(_))
    ));
    assert_eq!(version().lines().next(), Some("etcd Version: 3.7.1"));
    assert_eq!(version().matches("Version").count(), 1);
}

// Catches a refusal in other words, or with another exit code, than etcd 3.7.1 was seen to give.
#[test]
fn refusals_are_etcds() {
    let cases: &[(&[&str], &str, i32)] = &[
        (&["--foo"], "flag provided but not defined: -foo", 2),
        (
            &["--experimental-foo"],
            "flag provided but not defined: -experimental-foo",
            2,
        ),
        (&["--name"], "flag needs an argument: -name", 2),
        (&["---x"], "bad flag syntax: ---x", 2),
        (&["--name=a", "b"], "\"b\" is not a valid flag", 1),
        (
            &["--election-timeout=abc"],
            "invalid value \"abc\" for flag -election-timeout: parse error",
            2,
        ),
        (
            &["--snapshot-count=-1"],
            "invalid value \"-1\" for flag -snapshot-count: parse error",
            2,
        ),
        (
            &["--enable-pprof=zz"],
            "invalid boolean value \"zz\" for -enable-pprof: parse error",
            2,
        ),
        (
            &["--grpc-keepalive-min-time=5"],
            "invalid value \"5\" for flag -grpc-keepalive-min-time: parse error",
            2,
        ),
        (
            &["--initial-cluster-state=foo"],
            "invalid value \"foo\" for flag -initial-cluster-state: invalid value",
            2,
        ),
        (
            &["--feature-gates=Foo=true"],
            "invalid value \"Foo=true\" for flag -feature-gates: unrecognized feature gate: Foo",
            2,
        ),
        (
            &["--listen-client-urls=foo"],
            "invalid value \"foo\" for flag -listen-client-urls: URL scheme must be http, https, \
             unix, or unixs: foo",
            2,
        ),
        (
            &["--listen-client-urls=http://1.2.3.4"],
            "invalid value \"http://1.2.3.4\" for flag -listen-client-urls: URL address does not \
             have the form \"host:port\": http://1.2.3.4",
            2,
        ),
        (
            &["--listen-client-urls=http://1.2.3.4:5/abc"],
            "invalid value \"http://1.2.3.4:5/abc\" for flag -listen-client-urls: URL must not \
             contain a path: http://1.2.3.4:5/abc",
            2,
        ),
        (
            &["--listen-client-urls=http://example.com:2379"],
            "expected IP in URL for binding (http://example.com:2379)",
            1,
        ),
        (
            &["--listen-client-urls=http://127.0.0.1:45555"],
            "--advertise-client-urls is required when --listen-client-urls is set explicitly",
            1,
        ),
        (
            &["--election-timeout=100"],
            "--election-timeout[100ms] should be at least as 5 times as \
             --heartbeat-interval[100ms]",
            1,
        ),
        (
            &["--election-timeout=60000"],
            "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
            1,
        ),
        (
            &["--heartbeat-interval=0"],
            "--heartbeat-interval must be >0 (set to 0ms)",
            1,
        ),
        (
            &[
                "--initial-cluster=a=http://127.0.0.1:1",
                "--discovery-srv=x",
            ],
            "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \
             \"discovery-endpoints\" or \"discovery-srv\"",
            1,
        ),
        (
            &["--discovery-endpoints=foo"],
            "both --discovery-token and --discovery-endpoints must be set",
            1,
        ),
        (
            &["--log-format=foo"],
            "unknown log format: foo, supported values json, console",
            1,
        ),
        (
            &["--auto-compaction-mode=foo"],
            "unknown auto-compaction-mode \"foo\"",
            1,
        ),
        (
            &["--logger=capnslog"],
            "--logger=capnslog is removed in v3.5",
            1,
        ),
    ];
    for (arguments, text, code) in cases {
        assert_eq!(refused(arguments), (text.to_string(), *code));
    }
    assert_eq!(refused(&["--auto-compaction-retention=foo"]).1, 1);
    assert_eq!(refused(&["--log-level=foo"]).1, 2);
    assert_eq!(refused(&["--log-segment-bytes=5"]).1, 1);
    assert_eq!(
        refused(&["--feature-gates=LeaseCheckpointPersist=true"]).1,
        1
    );
    assert_eq!(refused(&["--config-file=missing"]).1, 1);
}

// Catches a flag that is obeyed by nobody and refused by nobody; a default, said aloud, that is
// taken for a wish; a refusal that does not name its flag.
#[test]
fn what_is_not_served_is_refused_and_its_default_is_not() {
    let parse = |arguments: &[&str]| {
        let arguments: Vec<String> = arguments.iter().map(|text| text.to_string()).collect();
        Command::parse(&arguments, &[], |_| unreachable!("no file is named"))
    };
    for (argument, flag) in [
        ("--cert-file=x", "cert-file"),
        ("--client-cert-auth", "client-cert-auth"),
        (
            "--auto-compaction-retention=1h",
            "auto-compaction-retention",
        ),
        (
            "--listen-client-http-urls=http://127.0.0.1:1",
            "listen-client-http-urls",
        ),
        ("--host-whitelist=a.example", "host-whitelist"),
        ("--tls-min-version=TLS1.3", "tls-min-version"),
        ("--enable-v2", "enable-v2"),
    ] {
        let error = parse(&[argument]).expect_err(argument);
        let text = format!("--{flag} is not served by this build; start without it");
        assert_eq!((error.to_string(), error.exit_code()), (text, 1));
    }
    for flag in FLAGS.iter().filter(|flag| flag.effect != Effect::Used) {
        let argument = format!("--{}={}", flag.name, flag.default);
        match parse(&[&argument]) {
            Ok(Command::Run(config)) => {
                let ignored = |note: &&Note| note.message.contains("ignored");
                assert_eq!(config.notes.iter().find(ignored), None, "{argument}");
            }
            other => panic!("{argument}: {other:?}"),
        }
    }
    let Ok(Command::Run(config)) = parse(&["--snapshot-count=7", "--memory-mlock"]) else {
        panic!("harmless flags are taken")
    };
    let ignored: Vec<_> = config
        .notes
        .iter()
        .filter(|note| note.message.contains("ignored"))
        .map(|note| note.value.as_str())
        .collect();
    assert_eq!(ignored, ["snapshot-count", "memory-mlock"]);
    let text = "\"gateway\" is not served by this build, only the server itself is";
    assert_eq!(refused(&["gateway", "start"]), (text.to_string(), 1));
}

// Catches a stream limit of 0 that refuses every call: to etcd's library it is no limit.
#[test]
fn no_streams_are_no_limit() {
    let streams = |argument| config(&[argument]).max_concurrent_streams;
    assert_eq!(streams("--max-concurrent-streams=0"), u32::MAX);
    assert_eq!(streams("--max-concurrent-streams=1"), 1);
}

// Catches a member that begins a cluster of its own where it was told to join one; and a restart
// that asks again.
#[test]
fn joining_is_refused_where_a_member_would_be_made() {
    let config = config(&["--initial-cluster-state=existing"]);
    assert_eq!(config.first_members(), Err(ConfigError::JoinUnserved));
}

// Catches a former flag that stops a server that used to start, and one that is dropped in
// silence.
#[test]
fn former_names_are_taken_over_or_noted() {
    let taken = config(&[
        "--experimental-watch-progress-notify-interval=5s",
        "--experimental-initial-corrupt-check",
        "--experimental-enable-lease-checkpoint=true",
        "--experimental-distributed-tracing-sampling-rate=7",
        "--feature-gates=LeaseCheckpoint=false",
        "--max-wals=7",
        "--max-wals=8",
        "--snapshot",
        "--experimental-wait-cluster-ready-timeout=5s",
    ]);
    assert_eq!(taken.watch_progress_notify_interval, Duration::from_secs(5));
    assert_eq!(taken.distributed_tracing_sampling_rate, 7);
    assert!(taken.feature_gates.enabled("InitialCorruptCheck"));
    assert!(!taken.feature_gates.enabled("LeaseCheckpoint"));
    let about = |name: &str| taken.notes.iter().filter(|note| note.value == name).count();
    for name in [
        "max-wals",
        "snapshot",
        "experimental-wait-cluster-ready-timeout",
        "experimental-initial-corrupt-check",
        "experimental-watch-progress-notify-interval",
    ] {
        assert_eq!(about(name), 1, "{name}");
    }
    for flag in FLAGS {
        match former(&format!("experimental-{}", flag.name)) {
            Some(Former::Current(current)) => assert_eq!(current, flag.name),
            other => assert_eq!(other, None),
        }
    }
    assert!(matches!(
        former("experimental-max-learners"),
        Some(Former::Current("max-learners"))
    ));
}

// Catches an environment that loses to defaults, or wins over the command line.
#[test]
fn environment_below_the_command_line() {
    let parsed = parse_with(
        &["--name=a"],
        &[
            ("ETCD_MAX_TXN_OPS", "9"),
            ("ETCD_CORS", ""),
            ("ETCD_NONSENSE", "1"),
            ("ETCD_UNSUPPORTED_ARCH", "arm64"),
            ("HOME", "/"),
            ("ETCD_EXPERIMENTAL_MAX_LEARNERS", "3"),
        ],
    );
    let Ok(Command::Run(config)) = parsed else {
        panic!("{parsed:?}")
    };
    assert_eq!((config.max_txn_ops, config.max_learners), (9, 3));
    assert_eq!(config.cors, ["*"]);
    let unknown: Vec<_> = config
        .notes
        .iter()
        .filter(|note| note.message.starts_with("unrecognized"))
        .collect();
    assert_eq!(unknown.len(), 1);
    assert_eq!(unknown[0].value, "ETCD_NONSENSE=1");

    let conflict = parse_with(&["--name=a"], &[("ETCD_NAME", "b")]).expect_err("a conflict");
    assert_eq!(
        conflict,
        ConfigError::Conflict {
            variable: "ETCD_NAME".into()
        }
    );
    let wrong = parse_with(&[], &[("ETCD_ELECTION_TIMEOUT", "x")]).expect_err("no number");
    assert_eq!(
        (wrong.to_string().as_str(), wrong.exit_code()),
        (
            "invalid value \"x\" for ETCD_ELECTION_TIMEOUT: parse error",
            1
        )
    );
}

// Catches a config file whose durations, maps or lists are read otherwise than etcd reads them.
#[test]
fn config_files_silence_everything_else() {
    let text = "\
name: n1
election-timeout: 2000
grpc-keepalive-min-time: 7000000000
grpc-keepalive-timeout: 9s
listen-client-urls: http://127.0.0.1:1,http://127.0.0.1:2
advertise-client-urls: http://localhost:1
log-outputs: [stderr, stdout]
strict-reconfig-check: false
wal-dir:
feature-gates: CompactHashCheck=true
client-transport-security:
  cert-file: c.pem
  client-cert-auth: true
  allowed-hostnames: [a, b]
peer-transport-security:
  cert-file: p.pem
  allowed-cns: [cn]
socket-options:
  reuse-port: true
some-unknown-key: 1
";
    let parsed = parse_with(
        &["--config-file", text, "--max-txn-ops=5"],
        &[("ETCD_NAME", "env")],
    );
    let Ok(Command::Run(config)) = parsed else {
        panic!("{parsed:?}")
    };
    assert_eq!((config.name.as_str(), config.max_txn_ops), ("n1", 128));
    assert_eq!(config.election_timeout.0, Duration::from_secs(2));
    assert_eq!(config.grpc_keepalive_min_time, Duration::from_secs(7));
    assert_eq!(config.grpc_keepalive_timeout, Duration::from_secs(9));
    assert_eq!(config.listen_client_urls.len(), 2);
    assert_eq!(config.log_outputs, ["stderr", "stdout"]);
    assert!(!config.strict_reconfig_check && config.client_cert_auth && config.socket_reuse_port);
    assert_eq!(
        (config.cert_file.as_str(), config.peer_cert_file.as_str()),
        ("c.pem", "p.pem")
    );
    assert_eq!(config.client_cert_allowed_hostname, ["a", "b"]);
    assert_eq!(config.peer_cert_allowed_cn, ["cn"]);
    assert!(config.feature_gates.enabled("CompactHashCheck"));
    assert!(
        config
            .notes
            .iter()
            .any(|note| note.value == "some-unknown-key")
    );

    let json = "{\"name\": \"j\", \"corrupt-check-time\": 6e10}";
    let Ok(Command::Run(config)) = parse_with(&[], &[("ETCD_CONFIG_FILE", json)]) else {
        panic!("JSON is refused")
    };
    assert_eq!(
        (config.name.as_str(), config.corrupt_check_time.as_secs()),
        ("j", 60)
    );
    assert!(matches!(
        parse_with(&["--config-file=[1]"], &[]),
        Err(ConfigError::FileSyntax { .. })
    ));
    assert!(matches!(
        parse_with(&["--config-file=max-txn-ops: x"], &[]),
        Err(ConfigError::FileValue { .. })
    ));
}

// Catches a duration that Go reads otherwise; a wrong one changes timeouts by orders.
#[test]
fn durations_are_gos() {
    for (text, ns) in [
        ("0", 0u64),
        ("0s", 0),
        ("100ms", 100_000_000),
        ("1m0s", 60_000_000_000),
        ("1.5h", 5_400_000_000_000),
        (".5s", 500_000_000),
        ("1us2ns", 1_002),
        ("3\u{b5}s", 3_000),
        ("+2h", 7_200_000_000_000),
        ("2540400h", 9_145_440_000_000_000_000),
    ] {
        assert_eq!(
            Duration::parse(text),
            Ok(Duration::from_nanos(ns)),
            "{text}"
        );
    }
    for text in [
        "",
        "5",
        "s",
        "1x",
        "-1s",
        ".s",
        "1s ",
        "2562048h",
        "99999999999999999999s",
    ] {
        assert_eq!(Duration::parse(text), Err(ValueError::Syntax), "{text}");
    }
}

// Catches an advertised URL that comes back changed, and addresses read wrongly.
#[test]
fn urls_keep_their_text() {
    let tcp = |host: &str, port| Address::Tcp {
        host: host.into(),
        port,
    };
    for (text, scheme, address) in [
        (
            "http://localhost:2379",
            Scheme::Http,
            tcp("localhost", 2379),
        ),
        ("https://[::1]:0", Scheme::Https, tcp("::1", 0)),
        (
            "HTTP://10.0.0.1:65535",
            Scheme::Http,
            tcp("10.0.0.1", 65535),
        ),
        (
            "unix://name:7",
            Scheme::Unix,
            Address::Unix {
                path: "name:7".into(),
            },
        ),
        (
            "unixs:///run/r.sock",
            Scheme::Unixs,
            Address::Unix {
                path: "/run/r.sock".into(),
            },
        ),
    ] {
        let url = Url::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(
            (url.as_str(), url.scheme, url.address.clone()),
            (text, scheme, address)
        );
    }
    for text in [
        "http://::1:5",
        "http://a:65536",
        "http://a:",
        "http://",
        "unix://",
        "a:1",
        "",
    ] {
        assert!(Url::parse(text).is_err(), "{text}");
    }
    let list = UrlList::parse(" http://b:1,http://a:1,http://b:1").expect("two URLs");
    assert_eq!(list.texts(), ["http://a:1", "http://b:1"]);
    assert!(!list[0].is_bindable() && UrlList::parse("").is_ok_and(|list| list.is_empty()));
}

// Catches a first configuration in which the member does not find itself, or finds another.
#[test]
fn first_members_follow_the_flags() {
    let named = config(&[
        "--name=n",
        "--initial-advertise-peer-urls=http://10.0.0.1:1",
    ]);
    let members = named.first_members().expect("derived from the name");
    assert_eq!(members.len(), 1);
    assert_eq!(
        (members[0].0.as_str(), members[0].1.texts()),
        ("n", vec!["http://10.0.0.1:1".into()])
    );

    let three = config(&[
        "--name=b",
        "--initial-advertise-peer-urls=http://127.0.0.1:2",
        "--initial-cluster=a=http://127.0.0.1:1,b=http://localhost:2,c=http://127.0.0.1:3,\
         a=http://127.0.0.1:4",
    ]);
    let members = three.first_members().expect("b is there");
    assert_eq!(members.len(), 3);
    assert_eq!(members[0].1.len(), 2);

    let missing = config(&["--initial-cluster=b=http://127.0.0.1:1"]).first_members();
    assert_eq!(
        missing,
        Err(ConfigError::NameMissing {
            name: "default".into()
        })
    );
    let differs = config(&[
        "--name=b",
        "--initial-advertise-peer-urls=http://127.0.0.1:2",
        "--initial-cluster=b=http://127.0.0.1:3",
    ]);
    assert!(matches!(
        differs.first_members(),
        Err(ConfigError::AdvertiseDiffers { .. })
    ));
    let broken = config(&["--initial-cluster=foo"]).first_members();
    assert!(matches!(broken, Err(ConfigError::InitialCluster(_))));
}

// Catches a retention that keeps hours where revisions were meant.
#[test]
fn auto_compaction_reads_mode_and_retention() {
    let of = |arguments: &[&str]| config(arguments).auto_compaction;
    assert_eq!(of(&[]), AutoCompaction::Off);
    let hours = AutoCompaction::Periodic(Duration::from_secs(7200));
    assert_eq!(of(&["--auto-compaction-retention=2"]), hours);
    let minutes = AutoCompaction::Periodic(Duration::from_secs(300));
    assert_eq!(of(&["--auto-compaction-retention=5m"]), minutes);
    let revisions = [
        "--auto-compaction-mode=revision",
        "--auto-compaction-retention=1000",
    ];
    assert_eq!(of(&revisions), AutoCompaction::Revision(1000));
}

// Catches an AllAlpha that overrides a gate's own name, and a metric that shows something else.
#[test]
fn gates_by_name_win_over_stages() {
    let gates =
        config(&["--feature-gates=AllAlpha=true,LeaseCheckpoint=true,PriorityRequest=false"])
            .feature_gates
            .clone();
    assert!(gates.enabled("InitialCorruptCheck") && !gates.enabled("PriorityRequest"));
    assert!(gates.enabled("FastLeaseKeepAlive"));
    let all = gates.all();
    assert_eq!(all.len(), GATES.len() + 2);
    assert!(all.contains(&("AllAlpha".into(), "ALPHA".into(), true)));
    assert!(all.contains(&("PriorityRequest".into(), "ALPHA".into(), false)));
}

// Catches a panic on a command line that nobody wrote by hand: every piece of grammar, shuffled.
#[test]
fn nothing_panics() {
    let pieces = [
        "-",
        "--",
        "=",
        "name",
        "--name",
        "--cores",
        "-cores=",
        "0",
        "1.5h",
        "http://",
        "http://:1",
        "--listen-client-urls=",
        "--initial-cluster",
        "a=http://b:1",
        "\u{b5}",
        "--cors",
        "--v",
        "--feature-gates",
        "A=1",
        "--config-file",
        "{",
        ",",
        "[::1]:0",
        "--version=maybe",
        "é=ü",
    ];
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for _ in 0..20_000 {
        let mut arguments = Vec::new();
        let mut argument = String::new();
        for _ in 0..6 {
            state = state
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            argument.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            if (state >> 60) & 1 == 0 {
                arguments.push(std::mem::take(&mut argument));
            }
        }
        let environment = [("ETCD_MAX_TXN_OPS".to_owned(), argument)];
        let parsed = Command::parse(&arguments, &environment, |path| Ok(path.to_owned()));
        if let Ok(Command::Run(config)) = parsed {
            let _ = config.first_members();
        }
    }
}
