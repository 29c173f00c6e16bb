//! Pure. What one core counts. The tables below are the list of metrics: the name that etcd's
//! users know, the field, the help text.

use super::cell::{Buckets, Counter, Gauge, Histogram, HistogramTotal};
use super::grpc::GrpcMetrics;
use super::text::TextWriter;

/// Operations that have latency histograms of their own, named as etcd labels them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Op {
    Range,
    Put,
    DeleteRange,
    Txn,
    Compaction,
    LeaseGrant,
    LeaseRevoke,
    LeaseCheckpoint,
    Alarm,
    ClusterVersionSet,
    ClusterMemberAttrSet,
    DowngradeInfoSet,
    AuthEnable,
    AuthDisable,
    AuthStatus,
    Authenticate,
    AuthUserAdd,
    AuthUserDelete,
    AuthUserGet,
    AuthUserChangePassword,
    AuthUserGrantRole,
    AuthUserRevokeRole,
    AuthUserList,
    AuthRoleAdd,
    AuthRoleGrantPermission,
    AuthRoleGet,
    AuthRoleRevokePermission,
    AuthRoleDelete,
    AuthRoleList,
}

impl Op {
    pub(super) const ALL: [Op; 29] = [
        Op::Range,
        Op::Put,
        Op::DeleteRange,
        Op::Txn,
        Op::Compaction,
        Op::LeaseGrant,
        Op::LeaseRevoke,
        Op::LeaseCheckpoint,
        Op::Alarm,
        Op::ClusterVersionSet,
        Op::ClusterMemberAttrSet,
        Op::DowngradeInfoSet,
        Op::AuthEnable,
        Op::AuthDisable,
        Op::AuthStatus,
        Op::Authenticate,
        Op::AuthUserAdd,
        Op::AuthUserDelete,
        Op::AuthUserGet,
        Op::AuthUserChangePassword,
        Op::AuthUserGrantRole,
        Op::AuthUserRevokeRole,
        Op::AuthUserList,
        Op::AuthRoleAdd,
        Op::AuthRoleGrantPermission,
        Op::AuthRoleGet,
        Op::AuthRoleRevokePermission,
        Op::AuthRoleDelete,
        Op::AuthRoleList,
    ];
}

/// One histogram per operation and outcome.
#[derive(Debug)]
pub struct OpTimes {
    /// At `2 * op + success`.
    cells: Box<[Histogram]>,
}

impl OpTimes {
    fn new(buckets: Buckets) -> OpTimes {
        OpTimes {
            cells: (0..2 * Op::ALL.len())
                .map(|_| Histogram::new(buckets))
                .collect(),
        }
    }

    /// Counts one operation that took `time_ns`.
    #[inline]
    pub fn observe(&self, op: Op, success: bool, time_ns: u64) {
        self.cells[2 * op as usize + usize::from(success)].observe(time_ns);
    }
}

/// Writes the operations that happened; `label` names the operation's label.
fn write_op_times<'a>(
    out: &mut TextWriter,
    buckets: Buckets,
    label: &str,
    version: &str,
    cores: impl Iterator<Item = &'a OpTimes> + Clone,
) {
    for op in Op::ALL {
        for success in [false, true] {
            let mut total = HistogramTotal::default();
            let index = 2 * op as usize + usize::from(success);
            cores
                .clone()
                .for_each(|times| times.cells[index].add_to(&mut total));
            if total.cells.iter().any(|count| *count > 0) {
                let labels = match label {
                    "op" => format!("op=\"{op:?}\",success=\"{success}\"{version}"),
                    _ => format!("success=\"{success}\",{label}=\"{op:?}\""),
                };
                out.histogram(&labels, &buckets, &total);
            }
        }
    }
}

/// Buckets of most latencies in etcd: 1 ms to 8.192 s.
const FROM_1MS: Buckets = Buckets::seconds(0.001, 14);
/// Buckets of apply and range: 100 µs to 52 s.
const FROM_100US: Buckets = Buckets::seconds(0.0001, 20);

/// A family of samples that all cores have without labels.
pub(super) enum Family {
    Counter(&'static str, &'static str, fn(&CoreMetrics) -> &Counter),
    Gauge(&'static str, &'static str, fn(&CoreMetrics) -> &Gauge),
    Histogram(
        &'static str,
        &'static str,
        Buckets,
        fn(&CoreMetrics) -> &Histogram,
    ),
}

macro_rules! core_metrics {
    (
        counters { $($cname:literal $counter:ident $chelp:literal;)* }
        gauges { $($gname:literal $gauge:ident $ghelp:literal;)* }
        histograms { $($hname:literal $histogram:ident $buckets:expr, $hhelp:literal;)* }
    ) => {
        /// What one core counts. That core alone writes; the scrape reads and adds up.
        ///
        /// Gauges are summed too: a gauge of the member, or of the keyspace `default`, is set by
        /// the core that owns group 0 and stays 0 elsewhere; sizes are each core's own.
        // A cache line of its own, and its neighbour for the prefetcher.
        #[repr(align(128))]
        #[derive(Debug)]
        pub struct CoreMetrics {
            pub grpc: GrpcMetrics,
            /// Time from taking an entry to its applied result, by kind of entry.
            pub apply_duration: OpTimes,
            /// Time from receiving a request to its answer, by kind of request.
            pub request_duration: OpTimes,
            /// Time of one range read, at `success as usize`.
            pub range_duration: [Histogram; 2],
            $(#[doc = $chelp] pub $counter: Counter,)*
            $(#[doc = $ghelp] pub $gauge: Gauge,)*
            $(#[doc = $hhelp] pub $histogram: Histogram,)*
        }

        impl CoreMetrics {
            pub(super) fn new(extensive: bool) -> CoreMetrics {
                CoreMetrics {
                    grpc: GrpcMetrics::new(extensive),
                    apply_duration: OpTimes::new(FROM_100US),
                    request_duration: OpTimes::new(FROM_1MS),
                    range_duration: [Histogram::new(FROM_100US), Histogram::new(FROM_100US)],
                    $($counter: Counter::default(),)*
                    $($gauge: Gauge::default(),)*
                    $($histogram: Histogram::new($buckets),)*
                }
            }
        }

        pub(super) const FAMILIES: &[Family] = &[
            $(Family::Counter($cname, $chelp, |core| &core.$counter),)*
            $(Family::Gauge($gname, $ghelp, |core| &core.$gauge),)*
            $(Family::Histogram($hname, $hhelp, $buckets, |core| &core.$histogram),)*
        ];
    };
}

core_metrics! {
    counters {
        "etcd_server_leader_changes_seen_total" leader_changes_seen "Changes of the leader seen.";
        "etcd_server_proposals_failed_total" proposals_failed "Proposals that failed.";
        "etcd_server_heartbeat_send_failures_total" heartbeat_send_failures
            "Heartbeats that the leader sent too late.";
        "etcd_server_read_indexes_failed_total" read_indexes_failed "Read indexes that failed.";
        "etcd_server_slow_read_indexes_total" slow_read_indexes
            "Read indexes that timed out or answered another round.";
        "etcd_server_slow_apply_total" slow_apply "Entries whose apply was slow.";
        "etcd_server_health_success" health_success "Health checks that succeeded.";
        "etcd_server_health_failures" health_failures "Health checks that failed.";
        "etcd_server_learner_promote_successes" learner_promote_successes
            "Learners that this member promoted as leader.";
        "etcd_debugging_server_lease_expired_total" lease_expired "Leases that expired.";
        "etcd_debugging_lease_granted_total" lease_granted "Leases granted.";
        "etcd_debugging_lease_renewed_total" lease_renewed "Leases renewed, as the leader saw it.";
        "etcd_debugging_lease_revoked_total" lease_revoked "Leases revoked.";
        "etcd_mvcc_put_total" puts "Puts that this member applied.";
        "etcd_mvcc_delete_total" deletes "Deletions that this member applied.";
        "etcd_mvcc_range_total" ranges "Ranges that this member read.";
        "etcd_mvcc_txn_total" txns "Transactions that this member applied.";
        "etcd_debugging_mvcc_events_total" events "Events sent to watchers.";
        "etcd_debugging_mvcc_db_compaction_keys_total" compaction_keys
            "Keys removed by compactions.";
        "etcd_network_client_grpc_received_bytes_total" client_received_bytes
            "Bytes received from gRPC clients.";
        "etcd_network_client_grpc_sent_bytes_total" client_sent_bytes
            "Bytes sent to gRPC clients.";
    }
    gauges {
        "etcd_server_has_leader" has_leader "1 when a leader is known, otherwise 0.";
        "etcd_server_is_leader" is_leader "1 when this member leads, otherwise 0.";
        "etcd_server_is_learner" is_learner "1 when this member is a learner, otherwise 0.";
        "etcd_server_proposals_committed_total" proposals_committed "The committed index.";
        "etcd_server_proposals_applied_total" proposals_applied "The applied index.";
        "etcd_server_proposals_pending" proposals_pending "Proposals that wait for commit.";
        "etcd_server_quota_backend_bytes" quota_backend_bytes "Quota of the backend in bytes.";
        "etcd_server_snapshot_apply_in_progress_total" snapshot_apply_in_progress
            "1 while a received snapshot is applied, otherwise 0.";
        "etcd_disk_wal_write_bytes_total" wal_write_bytes "Bytes written to the log.";
        "etcd_disk_defrag_inflight" defrag_inflight "1 while defragmenting, otherwise 0.";
        "etcd_mvcc_db_total_size_in_bytes" db_size "Size of the tree files in bytes.";
        "etcd_mvcc_db_total_size_in_use_in_bytes" db_size_in_use
            "Bytes of the tree files that hold data.";
        "etcd_mvcc_db_open_read_transactions" db_open_reads "Read views that are open.";
        "etcd_debugging_auth_revision" auth_revision "The revision of the auth store.";
        "etcd_debugging_mvcc_keys_total" keys "Keys in the store.";
        "etcd_debugging_mvcc_watch_stream_total" watch_streams "Watch streams that are open.";
        "etcd_debugging_mvcc_watcher_total" watchers "Watchers that exist.";
        "etcd_debugging_mvcc_slow_watcher_total" slow_watchers "Watchers that are behind.";
        "etcd_debugging_mvcc_pending_events_total" pending_events "Events that wait to be sent.";
        "etcd_debugging_mvcc_total_put_size_in_bytes" put_size
            "Bytes of all keys and values put by this member.";
        "etcd_debugging_mvcc_compact_revision" compact_revision "The compacted revision.";
        "etcd_debugging_mvcc_current_revision" current_revision "The current revision.";
        "etcd_debugging_mvcc_db_compaction_last" compaction_last
            "When the last compaction ended, in seconds since 1970; 0 after a start.";
    }
    histograms {
        "etcd_disk_wal_fsync_duration_seconds" wal_fsync FROM_1MS,
            "Time until a batch of the log was durable.";
        "etcd_disk_wal_write_duration_seconds" wal_write FROM_1MS,
            "Time to hand a batch of the log to the disk.";
        "etcd_disk_backend_commit_duration_seconds" backend_commit FROM_1MS,
            "Time of a backend commit.";
        "etcd_debugging_disk_backend_commit_rebalance_duration_seconds" backend_rebalance
            FROM_1MS, "Time to rebalance pages in a backend commit.";
        "etcd_debugging_disk_backend_commit_spill_duration_seconds" backend_spill FROM_1MS,
            "Time to spill nodes to pages in a backend commit.";
        "etcd_debugging_disk_backend_commit_write_duration_seconds" backend_write FROM_1MS,
            "Time to write the pages of a backend commit.";
        "etcd_disk_backend_defrag_duration_seconds" backend_defrag Buckets::seconds(0.1, 13),
            "Time of a defragmentation.";
        "etcd_disk_backend_snapshot_duration_seconds" backend_snapshot
            Buckets::seconds(0.01, 17), "Time of a snapshot of the backend.";
        "etcd_mvcc_hash_duration_seconds" hash Buckets::seconds(0.01, 15),
            "Time to hash the backend.";
        "etcd_mvcc_hash_rev_duration_seconds" hash_rev Buckets::seconds(0.01, 15),
            "Time to hash up to a revision.";
        "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds" compaction_pause
            Buckets::millis(1.0, 13), "Time of one slice of a compaction.";
        "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds" compaction_total
            Buckets::millis(100.0, 14), "Time of a whole compaction.";
        "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds"
            index_compaction_pause Buckets::millis(0.5, 14),
            "Time of one slice of an index compaction.";
        "etcd_debugging_lease_ttl_total" lease_ttl Buckets::plain(1.0, 24),
            "TTL of granted leases in seconds.";
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_seconds" watch_send
            FROM_1MS, "Time to send one answer with events.";
        "etcd_debugging_server_watch_send_loop_watch_stream_duration_per_event_seconds"
            watch_send_per_event FROM_1MS, "Time to send one answer, divided by its events.";
        "etcd_debugging_server_watch_send_loop_control_stream_duration_seconds"
            watch_send_control FROM_1MS, "Time to send one control answer of a watch stream.";
        "etcd_debugging_server_watch_send_loop_progress_duration_seconds" watch_send_progress
            FROM_1MS, "Time to send one progress answer.";
        "etcd_snap_fsync_duration_seconds" snap_fsync FROM_1MS, "Time to sync a snapshot file.";
        "etcd_snap_db_fsync_duration_seconds" snap_db_fsync FROM_1MS,
            "Time to sync a received database.";
        "etcd_snap_db_save_total_duration_seconds" snap_db_save Buckets::seconds(0.1, 10),
            "Time to save a received database.";
        "etcd_debugging_snap_save_total_duration_seconds" snap_save FROM_1MS,
            "Time to save a snapshot.";
        "etcd_debugging_snap_save_marshalling_duration_seconds" snap_marshal FROM_1MS,
            "Time to encode a snapshot.";
    }
}

/// Writes everything that has no labels, and the histograms by operation.
pub(super) fn write_cores(out: &mut TextWriter, cores: &[std::sync::Arc<CoreMetrics>]) {
    for family in FAMILIES {
        match family {
            Family::Counter(name, help, cell) => {
                out.family(name, "counter", help);
                out.count("", cores.iter().map(|core| cell(core).value()).sum());
            }
            Family::Gauge(name, help, cell) => {
                out.family(name, "gauge", help);
                out.sample(
                    "",
                    cores.iter().map(|core| cell(core).value()).sum::<i64>() as f64,
                );
            }
            Family::Histogram(name, help, buckets, cell) => {
                out.family(name, "histogram", help);
                let mut total = HistogramTotal::default();
                cores.iter().for_each(|core| cell(core).add_to(&mut total));
                out.histogram("", buckets, &total);
            }
        }
    }
    let times = cores.iter().map(|core| &core.apply_duration);
    out.family(
        "etcd_server_apply_duration_seconds",
        "histogram",
        "Time to apply an entry.",
    );
    write_op_times(out, FROM_100US, "op", ",version=\"v3\"", times);
    let times = cores.iter().map(|core| &core.request_duration);
    out.family(
        "etcd_server_request_duration_seconds",
        "histogram",
        "Time to answer a request.",
    );
    write_op_times(out, FROM_1MS, "type", "", times);
    out.family(
        "etcd_server_range_duration_seconds",
        "histogram",
        "Time to read a range.",
    );
    for success in [false, true] {
        let mut total = HistogramTotal::default();
        let index = usize::from(success);
        cores
            .iter()
            .for_each(|core| core.range_duration[index].add_to(&mut total));
        if success || total.cells.iter().any(|count| *count > 0) {
            out.histogram(&format!("success=\"{success}\""), &FROM_100US, &total);
        }
    }
}
