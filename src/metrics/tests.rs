use super::*;
use crate::pb::{METHODS, Method};
use std::collections::BTreeSet;

/// Parses the text strictly and returns every series with its value.
fn series(text: &str) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    let mut family = String::new();
    let mut families = BTreeSet::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            family = rest.split(' ').next().expect("a name").to_owned();
            assert!(families.insert(family.clone()), "{family} twice");
            continue;
        }
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("name and type");
            assert_eq!(name, family);
            assert!(["counter", "gauge", "histogram"].contains(&kind));
            continue;
        }
        let (name, value) = line.rsplit_once(' ').expect("name and value");
        assert!(name.starts_with(&family), "{name} outside of {family}");
        let value = value.replace("+Inf", "inf").parse().expect("a float");
        assert!(all.insert(name.to_owned(), value).is_none(), "{name} twice");
    }
    assert!(text.ends_with('\n'));
    all
}

// Catches a series that a dashboard reads and that is missing before the first request, and one
// that appears twice, which makes Prometheus drop the whole scrape.
#[test]
fn fresh_member_has_every_series_once() {
    let metrics = Metrics::new(2, true);
    metrics.set_server(
        MemberId(0x8e9e05c52164694d),
        "3.7.1",
        ["0.1.0", "abc", "1.95.0"],
    );
    metrics.set_cluster_version("3.7");
    let all = series(&metrics.encode(&ProcessFacts::default()));
    for info in METHODS {
        let (name, service, kind) = (info.name, info.service, info.kind.label());
        let labels =
            format!("grpc_method=\"{name}\",grpc_service=\"{service}\",grpc_type=\"{kind}\"");
        for family in ["started", "msg_received", "msg_sent"] {
            assert_eq!(all[&format!("grpc_server_{family}_total{{{labels}}}")], 0.0);
        }
        for code in CODES {
            let handled = format!("grpc_server_handled_total{{grpc_code=\"{code}\",{labels}}}");
            assert_eq!(all[&handled], 0.0);
        }
        assert_eq!(
            all[&format!("grpc_server_handling_seconds_bucket{{{labels},le=\"2.5\"}}")],
            0.
        );
    }
    for name in [
        "etcd_server_has_leader",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"0.001\"}",
        "etcd_disk_wal_fsync_duration_seconds_bucket{le=\"8.192\"}",
        "etcd_disk_backend_commit_duration_seconds_count",
        "etcd_server_range_duration_seconds_bucket{success=\"true\",le=\"52.4288\"}",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_network_client_grpc_sent_bytes_total",
        "process_resident_memory_bytes",
        "os_fd_limit",
        "etcd_server_id{server_id=\"8e9e05c52164694d\"}",
        "etcd_server_version{server_version=\"3.7.1\"}",
        "etcd_cluster_version{cluster_version=\"3.7\"}",
    ] {
        assert!(all.contains_key(name), "{name}");
    }
}

// Catches counts of one core that hide those of another, and counts under the wrong method.
#[test]
fn cores_add_up() {
    let metrics = Metrics::new(3, false);
    for core in 0..3 {
        let core = metrics.core(CoreId(core));
        core.puts.add(5);
        core.db_size.set(100);
        core.grpc.unary(Method::Put, 0, 1);
        core.wal_fsync
            .observe_time(std::time::Duration::from_millis(3));
    }
    metrics.core(CoreId(1)).grpc.unary(Method::Put, 8, 1);
    metrics.core(CoreId(1)).grpc.unary(Method::Put, 99, 1);
    metrics
        .core(CoreId(0))
        .apply_duration
        .observe(Op::Put, true, 150_000);
    let all = series(&metrics.encode(&ProcessFacts::default()));
    assert_eq!(all["etcd_mvcc_put_total"], 15.0);
    assert_eq!(all["etcd_mvcc_db_total_size_in_bytes"], 300.0);
    let put = "grpc_method=\"Put\",grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
    assert_eq!(all[&format!("grpc_server_started_total{{{put}}}")], 5.0);
    assert_eq!(all[&format!("grpc_server_msg_sent_total{{{put}}}")], 3.0);
    let handled = |code| all[&format!("grpc_server_handled_total{{grpc_code=\"{code}\",{put}}}")];
    assert_eq!(
        (
            handled("OK"),
            handled("ResourceExhausted"),
            handled("Unknown")
        ),
        (3.0, 1.0, 1.0)
    );
    let fsync = |le| all[&format!("etcd_disk_wal_fsync_duration_seconds_bucket{{le=\"{le}\"}}")];
    assert_eq!(
        (fsync("0.002"), fsync("0.004"), fsync("+Inf")),
        (0.0, 3.0, 3.0)
    );
    assert_eq!(all["etcd_disk_wal_fsync_duration_seconds_sum"], 0.009);
    let apply = "etcd_server_apply_duration_seconds";
    let labels = "op=\"Put\",success=\"true\",version=\"v3\"";
    assert_eq!(
        all[&format!("{apply}_bucket{{{labels},le=\"0.0001\"}}")],
        0.0
    );
    assert_eq!(
        all[&format!("{apply}_bucket{{{labels},le=\"0.0002\"}}")],
        1.0
    );
}

// Catches a value that falls into the bucket beside its own: bounds are inclusive.
#[test]
fn bucket_bounds_are_inclusive() {
    let buckets = Buckets::seconds(0.001, 14);
    for index in 0..14 {
        let bound = 1_000_000u64 << index;
        for (raw, expected) in [(bound, index), (bound + 1, index + 1)] {
            let histogram = Histogram::new(buckets);
            histogram.observe(raw);
            let mut total = cell::HistogramTotal::default();
            histogram.add_to(&mut total);
            assert_eq!(
                total.cells.iter().position(|count| *count == 1),
                Some(expected)
            );
        }
    }
    let histogram = Histogram::new(buckets);
    histogram.observe(0);
    histogram.observe(u64::MAX);
    let mut total = cell::HistogramTotal::default();
    histogram.add_to(&mut total);
    assert_eq!((total.cells[0], total.cells[14]), (1, 1));
}

// Catches an operation whose number is not its place in the list: times under a wrong name.
#[test]
fn operations_are_listed_by_number() {
    for (index, op) in Op::ALL.into_iter().enumerate() {
        assert_eq!(op as usize, index);
    }
}

// Catches a client that fills the memory by sending ever new versions.
#[test]
fn client_versions_are_bounded() {
    let metrics = Metrics::new(1, false);
    assert_eq!(
        metrics.client_version(""),
        metrics.client_version("unknown")
    );
    let first = metrics.client_version("3.7");
    for n in 0..1000 {
        let version = metrics.client_version(&format!("9.{n}\n\"\\"));
        metrics
            .core(CoreId(0))
            .grpc
            .client_request(version, n % 2 == 0);
    }
    metrics
        .core(CoreId(0))
        .grpc
        .client_request(metrics.client_version("3.7"), false);
    assert_eq!(metrics.client_version("3.7"), first);
    let all = series(&metrics.encode(&ProcessFacts::default()));
    let name = "etcd_server_client_requests_total";
    assert_eq!(
        all[&format!("{name}{{client_api_version=\"3.7\",type=\"unary\"}}")],
        1.0
    );
    assert!(all[&format!("{name}{{client_api_version=\"other\",type=\"unary\"}}")] > 400.0);
    assert!(all.keys().filter(|key| key.starts_with(name)).count() < 70);
}

// Catches numbers that a script written against etcd would not recognize.
#[test]
fn floats_print_as_go_prints_them() {
    let cases: &[(f64, &str)] = &[
        (0.0, "0"),
        (1.0, "1"),
        (-3.5, "-3.5"),
        (0.0001, "0.0001"),
        (0.0002, "0.0002"),
        (6.823e-06, "6.823e-06"),
        (0.00004, "4e-05"),
        (0.4096, "0.4096"),
        (999_999.0, "999999"),
        (1_000_000.0, "1e+06"),
        (2_147_483_648.0, "2.147483648e+09"),
        (1.8446744073709552e19, "1.8446744073709552e+19"),
        (1e100, "1e+100"),
        (f64::INFINITY, "+Inf"),
        (f64::NAN, "NaN"),
    ];
    for (value, text) in cases {
        let mut out = String::new();
        super::text::put_float(&mut out, *value);
        assert_eq!(&out, text);
    }
}

// Catches peers and alarms that disappear from the text, or stay after they left.
#[test]
fn members_facts_appear_and_vanish() {
    let metrics = Metrics::new(1, false);
    metrics.set_server(MemberId(1), "3.7.1", ["0.1.0", "abc", "1.95.0"]);
    metrics.set_alarm(MemberId(0xab), "NOSPACE", true);
    metrics.count_check("readyz", "serializable_read", true);
    metrics.count_check("readyz", "serializable_read", false);
    metrics.set_features([("LeaseCheckpoint".into(), "ALPHA".into(), false)]);
    metrics.peer(MemberId(0xcd)).round_trip.observe(150_000);
    let all = series(&metrics.encode(&ProcessFacts::default()));
    for (name, value) in [
        (
            "etcd_debugging_server_alarms{alarm_type=\"NOSPACE\",server_id=\"ab\"}",
            1.0,
        ),
        (
            "etcd_server_healthcheck{name=\"serializable_read\",type=\"readyz\"}",
            0.0,
        ),
        ("etcd_network_known_peers{Local=\"1\",Remote=\"cd\"}", 1.0),
        (
            "etcd_network_peer_round_trip_time_seconds_bucket{To=\"cd\",le=\"0.0002\"}",
            1.0,
        ),
        (
            "etcd_server_feature_enabled{name=\"LeaseCheckpoint\",stage=\"ALPHA\"}",
            0.0,
        ),
    ] {
        assert_eq!(all.get(name), Some(&value), "{name}");
    }
    metrics.remove_peer(MemberId(0xcd));
    let all = series(&metrics.encode(&ProcessFacts::default()));
    assert!(!all.keys().any(|name| name.contains("\"cd\"")));
}
