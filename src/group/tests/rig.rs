//! Driver. A group on a simulated disk, its lives, and everything that it answered.

use crate::apply::{ApplyError, Kind, MachineOptions, Response, quota};
use crate::backend::CommitPolicy;
use crate::group::{Answer, Group, GroupOptions, Input, Outlet, Query, Refusal, Stamp, Ticket};
use crate::ids::{ClusterId, ConnId, CoreId, GroupId, MemberId, StreamId};
use crate::metrics::Metrics;
use crate::mvcc::{HashScan, KvHash, Progress, RangeEnd, RangeScan, RangeSpec, Store, View};
use crate::pb::etcdserverpb::request_op::Request;
use crate::pb::etcdserverpb::*;
use crate::pb::{etcdserverpb, mvccpb};
use crate::sim::{NodeId, SimEnv, World};
use crate::wal::{self, Log};
use crate::watch::{self, HubOptions, StreamInput};
use bytes::Bytes;
use prost::Message;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

pub(super) const NODE: NodeId = NodeId(0);
const CORE: CoreId = CoreId(0);
const GROUP: GroupId = GroupId(0);
/// Virtual time after which an answer is taken for lost.
const PATIENCE: Duration = Duration::from_secs(60);

/// Takes answers; each ticket's first one is kept, a second one fails the test.
#[derive(Default)]
pub(super) struct Recorder {
    answers: RefCell<BTreeMap<Ticket, Answer>>,
    settled: RefCell<BTreeSet<Ticket>>,
    watched: RefCell<BTreeMap<Ticket, Vec<watch::WatchResponse>>>,
    /// Somebody was told that the group stopped.
    stopped: Cell<bool>,
}

impl Outlet for Recorder {
    fn answer(&self, ticket: Ticket, answer: Answer) {
        let answer = match answer {
            Answer::Watch(responses, _) => {
                let mut watched = self.watched.borrow_mut();
                return watched.entry(ticket).or_default().extend(responses);
            }
            answer => answer,
        };
        assert!(
            self.settled.borrow_mut().insert(ticket),
            "answered twice: {ticket:?}"
        );
        let success = matches!(answer, Answer::Applied(Ok(_), _));
        assert!(
            !(success && self.stopped.get()),
            "a success after the group had stopped"
        );
        if matches!(answer, Answer::Refused(Refusal::Stopped)) {
            self.stopped.set(true);
        }
        self.answers.borrow_mut().insert(ticket, answer);
    }
}

/// One life of the node, from a start to a stop or a crash.
pub(super) struct Life {
    pub group: Group<SimEnv>,
    pub log: Log<SimEnv>,
    pub outlet: Rc<Recorder>,
    /// Entries that the log held behind its release mark.
    pub entries_behind: usize,
    /// Of the tree file alone, before any replay.
    pub tree_compacted: i64,
    pub tree_index: u64,
}

/// A start under way; it lives on in the world's tasks.
pub(super) type Opening = Rc<RefCell<Option<Result<Life, String>>>>;

/// The node and its disk. Without a life between a crash and the next start.
pub(super) struct Rig {
    pub world: World,
    pub options: GroupOptions,
    pub wal: wal::Options,
    pub life: Option<Life>,
    next_ticket: u64,
}

impl Rig {
    /// A fresh node whose group commits its tree often and whose log has small segments.
    pub fn new(seed: u64) -> Rig {
        let options = GroupOptions {
            group: GROUP,
            member: MemberId(0xA1),
            tree_path: PathBuf::from("/data/group/0.tree"),
            map_bytes_max: 1 << 30,
            election_timeout: Duration::from_secs(1),
            machine: MachineOptions::default(),
            hub: HubOptions::default(),
            policy: CommitPolicy {
                buffered_bytes: 12 << 10,
                log_bytes: 16 << 10,
                age: Duration::from_millis(20),
            },
            request_bytes_max: 1 << 20,
            seed,
        };
        let wal = wal::Options {
            segment_bytes: 32 << 10,
            bounds: wal::Bounds {
                record_bytes_max: 8 << 10,
                batch_bytes_max: 8 << 10,
                in_flight_bytes_max: 24 << 10,
                second_write_bytes_min: 4 << 10,
                queue_bytes_max: 64 << 10,
            },
            ..wal::Options::new("/data/wal")
        };
        Rig {
            world: World::single(seed),
            options,
            wal,
            life: None,
            next_ticket: 1,
        }
    }

    /// The same with the tree committed only when a test asks for it, and room in the log.
    pub fn quiet(seed: u64) -> Rig {
        let mut rig = Rig::new(seed);
        rig.options.policy = CommitPolicy {
            buffered_bytes: 1 << 40,
            log_bytes: 1 << 40,
            age: Duration::from_secs(1 << 30),
        };
        rig.wal = wal::Options {
            segment_bytes: 4 << 20,
            bounds: wal::Bounds {
                in_flight_bytes_max: 4 << 20,
                record_bytes_max: 1 << 20,
                ..wal::Bounds::default()
            },
            ..rig.wal
        };
        rig
    }

    pub fn opened(mut self) -> Rig {
        self.open().expect("a sound disk");
        self
    }

    // Lives.

    pub fn open(&mut self) -> Result<(), String> {
        let opening = self.begin_open();
        let done = self.world.run_until(|| opening.borrow().is_some());
        assert!(done, "the start stands still");
        self.finish_open(&opening)
    }

    /// Starts the node and returns at once.
    pub fn begin_open(&mut self) -> Opening {
        assert!(self.life.is_none(), "one life at a time");
        let opening: Opening = Rc::default();
        let slot = Rc::clone(&opening);
        let env = self.world.env(NODE, CORE);
        let (options, wal) = (self.options.clone(), self.wal.clone());
        self.world.spawn(NODE, CORE, async move {
            let opened = open(env, options, wal).await;
            *slot.borrow_mut() = Some(opened);
        });
        opening
    }

    pub fn finish_open(&mut self, opening: &Opening) -> Result<(), String> {
        let opened = opening.borrow_mut().take().expect("the start has ended");
        self.life = Some(opened?);
        Ok(())
    }

    pub fn crash(&mut self) {
        self.life = None;
        self.world.crash(NODE);
    }

    /// As the server stops.
    pub fn stop(&mut self) {
        let life = self.life.take().expect("it runs");
        let (group, log) = (life.group.clone(), life.log.clone());
        self.world.run(move |_| async move {
            group.stop().await;
            log.close().await.expect("a sound log closes");
        });
    }

    pub fn restart(&mut self) {
        self.crash();
        self.open().expect("a crash leaves what can be opened");
    }

    pub fn life(&self) -> &Life {
        self.life.as_ref().expect("it runs")
    }

    pub fn run_for(&self, time: Duration) {
        self.world.run_for(time);
    }

    /// Looks at the store of the running group.
    pub fn with_store<T>(&self, look: impl FnOnce(&Store) -> T) -> T {
        look(self.life().group.shared.core.borrow().machine.store())
    }

    /// Why the group stopped, if it did.
    pub fn failure(&self) -> Option<String> {
        let core = self.life().group.shared.core.borrow();
        core.failure.as_ref().map(|failure| failure.to_string())
    }

    /// Asks for a tree commit and waits for its end.
    pub fn commit(&self) {
        let shared = &self.life().group.shared;
        // The first entry of this life comes behind what a start already serves.
        self.wait_until(|rig| {
            let core = rig.life().group.shared.core.borrow();
            core.failure.is_some() || core.machine.consistent().1 == core.node.term()
        });
        shared.core.borrow_mut().commit_asked = true;
        shared.commit_wake.notify();
        let done = self.wait_until(|rig| {
            rig.failure().is_some()
                || rig.with_store(|store| !store.is_changed() && !store.is_committing())
        });
        assert!(done, "the commit does not end");
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        let tree_dir = self.options.tree_path.parent().expect("a directory");
        self.world.faults(NODE, |disk| {
            let dirs = [tree_dir, &self.wal.dir];
            let files = dirs.map(|dir| disk.list(dir).expect("it exists"));
            files.iter().flatten().map(|(_, size)| size).sum()
        })
    }

    pub fn wait_until(&self, mut done: impl FnMut(&Rig) -> bool) -> bool {
        let end = self.world.elapsed() + PATIENCE;
        let mut met = false;
        self.world.run_until(|| {
            met = done(self);
            met || self.world.elapsed() > end
        });
        met
    }

    // Requests.

    fn ticket(&mut self) -> Ticket {
        let stream = StreamId(self.next_ticket as u32);
        self.next_ticket += 1;
        Ticket {
            core: CORE,
            conn: ConnId(1),
            stream,
        }
    }

    pub fn submit(&mut self, input: impl FnOnce(Ticket) -> Input) -> Ticket {
        let ticket = self.ticket();
        let submitted = self.life().group.submit(input(ticket));
        submitted.expect("a short queue");
        ticket
    }

    pub fn propose(&mut self, kind: Kind, message: &impl Message, cost: u64) -> Ticket {
        let body = Bytes::from(message.encode_to_vec());
        self.submit(|ticket| Input::Propose {
            kind,
            body,
            cost,
            ticket,
        })
    }

    pub fn propose_put(&mut self, key: &str, value: &[u8], lease: i64) -> Ticket {
        let request = put_request(key, value, lease);
        let cost = quota::put_cost(&request.key, &request.value);
        self.propose(Kind::Put, &request, cost)
    }

    pub fn ask(&mut self, query: Query) -> Ticket {
        self.submit(|ticket| Input::Query(query, ticket))
    }

    /// The answer, if it came.
    pub fn take(&self, ticket: Ticket) -> Option<Answer> {
        self.life().outlet.answers.borrow_mut().remove(&ticket)
    }

    pub fn is_answered(&self, ticket: Ticket) -> bool {
        self.life().outlet.settled.borrow().contains(&ticket)
    }

    pub fn wait(&self, ticket: Ticket) -> Answer {
        self.wait_until(|rig| rig.is_answered(ticket));
        self.take(ticket).expect("an answer comes in time")
    }

    pub fn applied(&self, ticket: Ticket) -> (Result<Response, ApplyError>, Stamp) {
        match self.wait(ticket) {
            Answer::Applied(result, stamp) => (result, stamp),
            other => panic!("{other:?} instead of an applied entry"),
        }
    }

    /// A put that succeeds; its revision.
    pub fn put(&mut self, key: &str, value: &[u8]) -> i64 {
        let ticket = self.propose_put(key, value, 0);
        self.applied(ticket).0.expect("an allowed put").revision()
    }

    pub fn delete(&mut self, key: &str, end: &str) -> i64 {
        let request = delete_request(key, end);
        let ticket = self.propose(Kind::DeleteRange, &request, 0);
        self.applied(ticket)
            .0
            .expect("an allowed delete")
            .revision()
    }

    pub fn grant(&mut self, id: i64, ttl: i64) {
        let request = LeaseGrantRequest { id, ttl };
        let ticket = self.propose(Kind::LeaseGrant, &request, quota::lease_cost());
        self.applied(ticket).0.expect("a new lease");
    }

    pub fn propose_compaction(&mut self, revision: i64, physical: bool) -> Ticket {
        self.propose(Kind::Compact, &CompactionRequest { revision, physical }, 0)
    }

    pub fn view(&mut self) -> (View, Stamp) {
        let ticket = self.ask(Query::View { linearizable: true });
        match self.wait(ticket) {
            Answer::View(view, stamp) => (view, stamp),
            other => panic!("{other:?} instead of a view"),
        }
    }

    /// The value of a key in a new linearizable view.
    pub fn value(&mut self, key: &str) -> Option<Vec<u8>> {
        let (view, _) = self.view();
        let kv = view.kv(key.as_bytes()).expect("a whole tree")?;
        let kv = mvccpb::KeyValue::decode(kv).expect("a stored record");
        Some(kv.value.to_vec())
    }

    // Watches.

    /// Opens a stream with one watch of every key.
    pub fn watch_all(&mut self, start_revision: i64) -> Ticket {
        let request = WatchCreateRequest {
            key: Bytes::from_static(&[0]),
            range_end: Bytes::from_static(&[0]),
            start_revision,
            ..WatchCreateRequest::default()
        };
        self.submit(|ticket| Input::Watch(StreamInput::Create(Box::new(request)), ticket))
    }

    /// What the stream was given since the last call, as its client decodes it.
    pub fn take_watched(&self, ticket: Ticket) -> Vec<etcdserverpb::WatchResponse> {
        let life = self.life();
        let responses = life.outlet.watched.borrow_mut().remove(&ticket);
        let responses = responses.unwrap_or_default();
        let cost = responses.iter().map(watch::WatchResponse::cost).sum();
        if cost > 0 {
            let order = Input::Watch(StreamInput::Drained { cost }, ticket);
            life.group
                .submit(order)
                .expect("orders of watches are always taken");
        }
        responses.iter().map(decoded).collect()
    }
}

fn decoded(response: &watch::WatchResponse) -> etcdserverpb::WatchResponse {
    let header = watch::Header {
        cluster: ClusterId(1),
        member: MemberId(1),
        term: crate::ids::Term(1),
    };
    let mut bytes = Vec::new();
    response.encode(&header, &mut bytes);
    etcdserverpb::WatchResponse::decode(&bytes[..]).expect("a client can read it")
}

async fn open(env: SimEnv, options: GroupOptions, wal: wal::Options) -> Result<Life, String> {
    let opened = Log::open(&env, wal).await;
    let (log, mut recovered) = opened.map_err(|error| error.to_string())?;
    let found = recovered.groups.remove(&options.group).unwrap_or_default();
    let entries_behind = found.entries.len();
    let outlet = Rc::new(Recorder::default());
    let metrics = Metrics::new(1, false).core(CORE);
    let recorder = Rc::clone(&outlet);
    let opened = Group::open(&env, options, log.clone(), found, recorder, metrics).await;
    let group = opened.map_err(|error| error.to_string())?;
    let (tree_compacted, tree_index) = {
        let core = group.shared.core.borrow();
        let store = core.machine.store();
        (store.compact_finished(), store.durable().0)
    };
    Ok(Life {
        group,
        log,
        outlet,
        entries_behind,
        tree_compacted,
        tree_index,
    })
}

// Messages.

pub(super) fn text(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

pub(super) fn put_request(key: &str, value: &[u8], lease: i64) -> PutRequest {
    PutRequest {
        key: text(key),
        value: Bytes::copy_from_slice(value),
        lease,
        ..PutRequest::default()
    }
}

pub(super) fn delete_request(key: &str, end: &str) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: text(key),
        range_end: text(end),
        prev_kv: false,
    }
}

pub(super) fn op(request: Request) -> RequestOp {
    RequestOp {
        request: Some(request),
    }
}

// Reading.

/// HashKV of a view at a revision; 0 is its own.
pub(super) fn hash(view: &View, revision: i64) -> KvHash {
    let mut scan = HashScan::new(view.clone(), revision).expect("a readable revision");
    while scan.slice(64).expect("a whole tree") == Progress::More {}
    scan.hash()
}

/// Every live key-value.
pub(super) fn all(view: &View) -> Vec<mvccpb::KeyValue> {
    let spec = RangeSpec {
        key: Bytes::from_static(&[0]),
        end: RangeEnd::FromKey,
        ..RangeSpec::default()
    };
    let mut scan = RangeScan::new(view.clone(), spec).expect("a readable revision");
    let mut kvs: Vec<Bytes> = Vec::new();
    while scan.measure(64).expect("a whole tree") == Progress::More {}
    while scan.slice(64, &mut kvs).expect("a whole tree") == Progress::More {}
    let decode = |kv| mvccpb::KeyValue::decode(kv).expect("a stored record");
    kvs.into_iter().map(decode).collect()
}

impl Recorder {
    pub fn is_settled(&self, ticket: Ticket) -> bool {
        self.settled.borrow().contains(&ticket)
    }
}
