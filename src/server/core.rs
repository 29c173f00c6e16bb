//! Driver. One core of the server, from its first task to its last.

use super::connection;
use super::place::place;
use super::switchboard::{Letter, Switchboard};
use crate::api::{Desk, Facts};

use crate::group::{Group, GroupOptions};
use crate::grpc::GrpcSettings;
use crate::ids::CoreId;
use crate::limits::server as limits;
use crate::metrics::{CoreMetrics, Metrics};
use crate::runtime::{Accepted, Bound, Listener, MeshSeat, Shutdown, World};
use crate::wal::{self, Log};
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

/// What every core is given alike.
#[derive(Clone)]
pub struct Plan {
    pub facts: Arc<Facts>,
    pub metrics: Arc<Metrics>,
    pub settings: GrpcSettings,
    pub group: GroupOptions,
    pub wal: wal::Options,
    pub shutdown: Shutdown,
    /// The group is open: every core may accept. Raised by the owner.
    pub open: crate::runtime::Event,
    pub counts: Arc<[AtomicUsize]>,
    pub failures: Sender<String>,
    /// Whether and how clients are served, for the line that tools wait for.
    pub insecure: bool,
}

/// What one core is given.
pub struct Seat {
    pub plan: Plan,
    pub mesh: MeshSeat<Letter>,
    pub listeners: Vec<Bound>,
}

/// What the connections of a core share.
pub struct CoreState<W: World> {
    pub env: W,
    pub desk: Desk<W>,
    pub settings: GrpcSettings,
    pub metrics: Arc<CoreMetrics>,
    counts: Arc<[AtomicUsize]>,
    stopping: Cell<bool>,
}

impl<W: World> CoreState<W> {
    pub fn is_stopping(&self) -> bool {
        self.stopping.get()
    }
}

/// The core that owns the keyspace `default`.
const OWNER: CoreId = CoreId(0);

/// Runs a core until the process is asked to stop.
pub async fn run<W: World>(env: W, seat: Seat) {
    let Seat {
        plan,
        mesh,
        listeners,
    } = seat;
    let board = Switchboard::new(env.clone(), mesh.bind(&env), OWNER);
    let route = Rc::clone(&board);
    let desk = Desk::new(env.clone(), plan.facts.clone(), route, plan.metrics.clone());
    board.set_desk(desk.clone());
    let core = Rc::new(CoreState {
        env: env.clone(),
        desk: desk.clone(),
        settings: plan.settings,
        metrics: plan.metrics.core(env.core()),
        counts: plan.counts.clone(),
        stopping: Cell::new(false),
    });
    env.spawn(take_connections(Rc::clone(&core), Rc::clone(&board)));
    let mut owned = None;
    if board.is_owner() {
        match open_group(&env, &plan, Rc::clone(&board)).await {
            Ok((group, log)) => {
                board.set_group(group.clone());
                let failures = plan.failures.clone();
                let watched = group.clone();
                env.spawn(async move {
                    // The receiver is gone only when main ends already.
                    let _ = failures.send(watched.failed().await);
                });
                owned = Some((group, log));
                plan.open.raise();
            }
            Err(error) => {
                let _ = plan.failures.send(error);
                return;
            }
        }
    }
    plan.open.wait().await;
    for bound in listeners {
        let listener = bound.listen(&env);
        if env.core() == OWNER {
            announce(&listener, plan.insecure);
        }
        env.spawn(accept(Rc::clone(&core), Rc::clone(&board), listener));
    }
    let ticking = Rc::clone(&core);
    env.spawn(async move {
        while !ticking.stopping.get() {
            ticking.env.sleep(limits::DESK_TICK).await;
            ticking.desk.tick();
        }
    });
    plan.shutdown.requested().await;
    stop(&env, &core, owned).await;
}

/// The lines that scripts and test frameworks wait for.
fn announce<W: World>(listener: &Listener<W>, insecure: bool) {
    let address = listener.address().to_string();
    tracing::info!("ready to serve client requests");
    if insecure {
        tracing::info!(
            traffic = "grpc+http",
            address,
            "serving client traffic insecurely; this is strongly discouraged!"
        );
    }
}

async fn open_group<W: World>(
    env: &W,
    plan: &Plan,
    board: Rc<Switchboard<W>>,
) -> Result<(Group<W>, Log<W>), String> {
    let began = env.now();
    let opened = Log::open(env, plan.wal.clone()).await;
    let (log, mut recovered) = opened.map_err(|error| error.to_string())?;
    let report = recovered.report;
    tracing::info!(
        tail = ?report.tail_case,
        epoch = report.epoch,
        segments = report.segments,
        records = report.records,
        read_bytes = report.read_bytes,
        took_us = (env.now() - began).as_micros() as u64,
        "recovered the log"
    );
    let metrics = plan.metrics.core(env.core());
    let hook = metrics.clone();
    log.on_batch(move |batch| {
        hook.wal_fsync.observe_time(batch.duration);
        hook.wal_write_bytes.add(batch.written_bytes as i64);
    });
    let found = recovered
        .groups
        .remove(&plan.group.group)
        .unwrap_or_default();
    let entries = found.entries.len();
    let opened = Group::open(env, plan.group.clone(), log.clone(), found, board, metrics).await;
    let group = opened.map_err(|error| error.to_string())?;
    tracing::info!(
        group = plan.group.group.0,
        entries_behind_tree = entries,
        took_us = (env.now() - began).as_micros() as u64,
        "opened the keyspace"
    );
    Ok((group, log))
}

async fn accept<W: World>(
    core: Rc<CoreState<W>>,
    board: Rc<Switchboard<W>>,
    listener: Listener<W>,
) {
    while !core.stopping.get() {
        let accepted = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::error!(error = %error, "a listener failed; it takes no more connections");
                return;
            }
        };
        let counts: Vec<usize> = core
            .counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .collect();
        let to = place(&counts, board.owner());
        // Counted here, so that a burst of connections does not all see the same counts.
        core.counts[usize::from(to.0)].fetch_add(1, Ordering::Relaxed);
        if to == core.env.core() {
            begin(Rc::clone(&core), accepted);
        } else {
            board.send(to, Letter::Connection(accepted));
        }
    }
}

async fn take_connections<W: World>(core: Rc<CoreState<W>>, board: Rc<Switchboard<W>>) {
    while let Some(accepted) = board.next_connection().await {
        begin(Rc::clone(&core), accepted);
    }
}

/// Starts the task of a connection that was counted.
fn begin<W: World>(core: Rc<CoreState<W>>, accepted: Accepted) {
    let count = core.counts[usize::from(core.env.core().0)].load(Ordering::Relaxed);
    let env = core.env.clone();
    env.spawn(async move {
        if count <= limits::CONNECTIONS_MAX && !core.stopping.get() {
            connection::serve(Rc::clone(&core), accepted).await;
        } else {
            drop(accepted);
        }
        core.counts[usize::from(core.env.core().0)].fetch_sub(1, Ordering::Relaxed);
    });
}

/// Finishes what is under way, then brings the keyspace to rest.
async fn stop<W: World>(env: &W, core: &Rc<CoreState<W>>, owned: Option<(Group<W>, Log<W>)>) {
    core.stopping.set(true);
    core.desk.drain();
    let patience = env.now() + limits::STOP_PATIENCE;
    while core.desk.call_count() > 0 && env.now() < patience {
        env.sleep(limits::DESK_TICK / 10).await;
    }
    let Some((group, log)) = owned else { return };
    group.stop().await;
    if let Err(error) = log.close().await {
        tracing::error!(error = %error, "the log did not close; the next start recovers it");
    }
    tracing::info!("the keyspace is at rest");
}
