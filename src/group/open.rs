//! Driver. A group comes to life: tree file, what the log holds behind it, raft, tasks.

use super::core::Core;
use super::task::{Group, Shared};
use super::ticket::Outlet;
use super::watching::Watching;
use crate::apply::{Fault, MachineOptions, StateMachine};
use crate::backend::{Backend, CommitPolicy};
use crate::btree;
use crate::env::{Env, Notify, TreeFile};
use crate::ids::{GroupId, LogIndex, Lsn, MemberId, Term};
use crate::metrics::CoreMetrics;
use crate::mvcc::Store;
use crate::raft::{HardState, LogEntry, Node, NodeOptions, Start};
use crate::wal::{Log, RecoveredGroup};
use crate::watch::{Hub, HubOptions};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use std::{fmt, io};

/// What a group is told when it opens.
#[derive(Clone, Debug)]
pub struct GroupOptions {
    pub group: GroupId,
    pub member: MemberId,
    pub tree_path: PathBuf,
    /// The most that the tree file may grow to.
    pub map_bytes_max: u64,
    pub election_timeout: Duration,
    pub machine: MachineOptions,
    pub hub: HubOptions,
    pub policy: CommitPolicy,
    /// Bytes of the largest request (`max-request-bytes`).
    pub request_bytes_max: usize,
    /// Seeds what must differ between groups and nothing else.
    pub seed: u64,
}

/// Why a group cannot open. Nothing on disk was changed.
#[derive(Debug)]
pub enum OpenError {
    Io {
        path: PathBuf,
        error: io::Error,
    },
    /// The tree file is damaged.
    Tree {
        path: PathBuf,
        error: btree::OpenError,
    },
    /// The tree file opened and what it holds is damaged.
    State {
        path: PathBuf,
        error: Fault,
    },
    /// The tree file belongs to another group or member.
    Foreign {
        path: PathBuf,
        expected: u64,
        found: u64,
    },
    /// The log let entries go that the tree file does not have: the file is older than the log.
    TreeBehind {
        path: PathBuf,
        log_begins_behind: LogIndex,
        tree_ends_at: LogIndex,
    },
    /// The log ends before what the tree file has: the log is older than the file, or not its own.
    LogBehind {
        path: PathBuf,
        log_ends_at: LogIndex,
        tree_ends_at: LogIndex,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Io { path, error } => write!(f, "{}: {error}", path.display()),
            OpenError::Tree { path, error } => write!(f, "{}: {error}", path.display()),
            OpenError::State { path, error } => write!(f, "{}: {error}", path.display()),
            OpenError::Foreign {
                path,
                expected,
                found,
            } => write!(
                f,
                "{}: belongs to {found:016x}, expected {expected:016x}",
                path.display()
            ),
            OpenError::TreeBehind {
                path,
                log_begins_behind,
                tree_ends_at,
            } => write!(
                f,
                "{}: holds the log up to entry {tree_ends_at}, but the log begins behind entry \
                 {log_begins_behind}; restore the newer file",
                path.display()
            ),
            OpenError::LogBehind {
                path,
                log_ends_at,
                tree_ends_at,
            } => write!(
                f,
                "{}: holds the log up to entry {tree_ends_at}, but the log ends at entry \
                 {log_ends_at}; restore the log that belongs to it",
                path.display()
            ),
        }
    }
}

impl std::error::Error for OpenError {}

impl<E: Env> Group<E> {
    /// Recovers the group from its tree file and `found`, stands for leader and starts the tasks.
    pub async fn open(
        env: &E,
        options: GroupOptions,
        log: Log<E>,
        found: RecoveredGroup,
        outlet: Rc<dyn Outlet>,
        metrics: Arc<CoreMetrics>,
    ) -> Result<Group<E>, OpenError> {
        let (file, tree) = open_tree(env, &options, found.released.index).await?;
        let path = options.tree_path.clone();
        let damaged = |error: Fault| OpenError::State {
            path: path.clone(),
            error,
        };
        let backend = Backend::open(tree).map_err(|error| damaged(error.into()))?;
        let store = Store::open(backend).map_err(|error| damaged(error.into()))?;
        let machine = StateMachine::open(store, options.machine).map_err(damaged)?;
        let applied = machine.consistent();
        let start = start_of(&path, applied, found)?;
        let found = start.hard_state.commit.max(applied.0);
        let node = Node::new(node_options(&options), start);
        let wake = Notify::new();
        log.on_durable(&wake);
        // A crash may have come between a tree commit and the mark that lets the log go.
        log.release(options.group, applied.0);
        metrics
            .quota_backend_bytes
            .set(machine.quota().bytes() as i64);
        let core = Core {
            node,
            log,
            machine,
            watching: Watching::new(Hub::new(options.hub)),
            metrics,
            pending: VecDeque::new(),
            in_log: VecDeque::new(),
            unwritten: VecDeque::new(),
            last_lsn: Lsn(0),
            committed: VecDeque::new(),
            undurable_bytes: 0,
            early: Vec::new(),
            renewals: BTreeMap::new(),
            renewals_waiting: 0,
            revoking: BTreeSet::new(),
            compactions: Vec::new(),
            compactions_in_commit: Vec::new(),
            found,
            hashes: VecDeque::new(),
            quota_alarm_proposed: false,
            log_bytes_since_commit: 0,
            failure: None,
            tree_full: false,
            became_leader: false,
            dirty_since: None,
            policy: options.policy,
            commit_asked: false,
            options,
        };
        let shared = Rc::new(Shared {
            env: env.clone(),
            core: RefCell::new(core),
            inputs: RefCell::default(),
            input_bytes: Cell::new(0),
            outlet,
            wake,
            commit_wake: Notify::new(),
            compact_wake: Notify::new(),
            hash_wanted: RefCell::default(),
            catch_up_wake: Notify::new(),
            failed: Notify::new(),
            defragment: RefCell::default(),
            stopping: Cell::new(false),
            settled: Cell::new(false),
            tasks: Cell::new(0),
            task_ended: Notify::new(),
        });
        shared.core.borrow_mut().node.campaign();
        shared.wake.notify();
        shared.spawn(Rc::clone(&shared).run());
        shared.spawn(Rc::clone(&shared).commit(file));
        shared.spawn(Rc::clone(&shared).compact());
        shared.spawn(Rc::clone(&shared).catch_up());
        shared.spawn(Rc::clone(&shared).clock());
        Ok(Group { shared })
    }
}

/// Opens the tree file, or makes it. A file whose making a crash cut short is made again: as long
/// as the log has let nothing go, the log alone holds everything.
async fn open_tree<E: Env>(
    env: &E,
    options: &GroupOptions,
    released: LogIndex,
) -> Result<(E::TreeFile, btree::Tree), OpenError> {
    let path = &options.tree_path;
    let io = |error| OpenError::Io {
        path: path.clone(),
        error,
    };
    let dir = path.parent().unwrap_or(Path::new("."));
    env.create_dir_all(dir).await.map_err(io)?;
    let file = env
        .open_tree(path, options.map_bytes_max)
        .await
        .map_err(io)?;
    let identity = options.member.0 ^ u64::from(options.group.0).rotate_left(32);
    let unmade = released == LogIndex(0);
    if file.size() > 0 {
        match btree::Tree::open(file.pages(), file.size()) {
            Ok(tree) if tree.identity() == identity => return Ok((file, tree)),
            Ok(tree) => {
                let (expected, found) = (identity, tree.identity());
                return Err(OpenError::Foreign {
                    path: path.clone(),
                    expected,
                    found,
                });
            }
            Err(error) if !unmade => {
                return Err(OpenError::Tree {
                    path: path.clone(),
                    error,
                });
            }
            Err(_) => file.set_size(0).await.map_err(io)?,
        }
    } else if !unmade {
        let tree_ends_at = LogIndex(0);
        let path = path.clone();
        return Err(OpenError::TreeBehind {
            path,
            log_begins_behind: released,
            tree_ends_at,
        });
    }
    let plan = btree::format(&btree::Options::default(), identity);
    btree::execute(plan, &file).await.map_err(io)?;
    env.sync_dir(dir).await.map_err(io)?;
    let tree = btree::Tree::open(file.pages(), file.size()).map_err(|error| OpenError::Tree {
        path: path.clone(),
        error,
    })?;
    Ok((file, tree))
}

fn node_options(options: &GroupOptions) -> NodeOptions {
    let tick = crate::limits::group::TICK.as_millis();
    let ticks = (options.election_timeout.as_millis() / tick).max(2) as usize;
    NodeOptions {
        member: options.member,
        election_ticks: ticks,
        heartbeat_ticks: 1,
        seed: options.seed ^ u64::from(options.group.0),
    }
}

/// What raft continues from: the log behind what the tree file holds.
fn start_of(
    path: &Path,
    applied: (LogIndex, Term),
    found: RecoveredGroup,
) -> Result<Start, OpenError> {
    let path = || path.to_path_buf();
    if found.released.index > applied.0 {
        return Err(OpenError::TreeBehind {
            path: path(),
            log_begins_behind: found.released.index,
            tree_ends_at: applied.0,
        });
    }
    let log_ends_at = found
        .entries
        .last()
        .map_or(found.released.index, |entry| entry.index);
    if log_ends_at < applied.0 {
        return Err(OpenError::LogBehind {
            path: path(),
            log_ends_at,
            tree_ends_at: applied.0,
        });
    }
    let entries = found
        .entries
        .into_iter()
        .filter(|entry| entry.index > applied.0);
    let entries = entries.map(|entry| LogEntry {
        index: entry.index,
        term: entry.term,
        data: entry.data,
    });
    let state = found.hard_state.unwrap_or_default();
    let hard_state = HardState {
        term: state.term,
        vote: state.vote,
        // Of the only voter: what its log holds is committed. To know that, it need not wait for
        // an entry of its own term, for which a full disk may have no room.
        commit: log_ends_at,
    };
    Ok(Start {
        hard_state,
        applied,
        entries: entries.collect(),
    })
}
