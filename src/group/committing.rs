//! Driver. Beside the turn: tree commits, compaction, giving space back. Each in slices, each
//! woken through the reactor, so that the core serves others in between.

use super::core::{Core, Failure};
use super::task::Shared;
use super::ticket::Answer;
use crate::backend::CommitProgress;
use crate::btree::{self, Plan, Step};
use crate::env::{Env, TreeFile};
use crate::limits::group as limits;
use crate::mvcc::{CompactProgress, Corrupt, DefragmentProgress, HashScan, KvHash, Progress};
use std::io;
use std::rc::Rc;

/// How work on the tree file ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Done {
    Whole,
    /// The group stops, and the disk is full. Nothing of it was written.
    GivenUp,
}

impl<E: Env> Shared<E> {
    /// Moves what is applied into the tree file, and lets the log go. Owns the file's writing.
    pub(super) async fn commit(self: Rc<Self>, file: E::TreeFile) {
        if let Err(failure) = self.commit_all(&file).await {
            self.stop_with(failure);
        }
    }

    async fn commit_all(&self, file: &E::TreeFile) -> Result<(), Failure> {
        loop {
            self.commit_wake.wait().await;
            loop {
                if self.core.borrow().failure.is_some() {
                    return Ok(());
                }
                let settled = self.settled.get();
                let began = self.commit_begin();
                if began && self.commit_once(file).await? == Done::GivenUp {
                    return Ok(());
                }
                self.answer_compactions();
                if began {
                    self.release().await;
                }
                if !began && settled {
                    // Everything applied is in the file: the next start replays nothing.
                    return Ok(());
                }
                let defragments = !self.stopping.get() && !self.defragment.borrow().is_empty();
                if !began && !defragments {
                    break;
                }
                if defragments && self.defragment_once(file).await? == Done::GivenUp {
                    return Ok(());
                }
            }
        }
    }

    fn commit_begin(&self) -> bool {
        let now = self.env.now();
        let core = &mut *self.core.borrow_mut();
        // Not `is_changed`: a defragmentation that waits for readers is a change for ever.
        let behind = core.machine.store().durable() < core.applied();
        if !(core.wants_commit(now) || self.stopping.get() && behind) {
            return false;
        }
        core.commit_begin()
    }

    async fn commit_once(&self, file: &E::TreeFile) -> Result<Done, Failure> {
        let began = self.env.now();
        let plan = loop {
            let slice = {
                let core = &mut *self.core.borrow_mut();
                core.machine.store_mut().commit_slice(limits::COMMIT_SLICE)
            };
            match slice {
                Ok(CommitProgress::Plan(plan)) => break plan,
                Ok(CommitProgress::More) => self.env.next_pass().await,
                Err(corrupt) => return Err(Failure::Damaged(corrupt.to_string())),
            }
        };
        let Some(receipt) = self.execute(plan, file).await? else {
            return Ok(Done::GivenUp);
        };
        let core = &mut *self.core.borrow_mut();
        let index = core.machine.store_mut().committed(receipt);
        core.log.release(core.options.group, index);
        core.node.compact(index);
        if core.machine.store().compact_pending() {
            self.compact_wake.notify();
        }
        // Proposals may wait for the room that this made.
        self.wake.notify();
        core.metrics
            .backend_commit
            .observe((self.env.now() - began).as_nanos() as u64);
        Ok(Done::Whole)
    }

    /// Writes a plan. Room is taken first, and only that step may fail for want of space and be
    /// tried again: nothing of the plan is written yet, and the log holds everything. Nothing, when
    /// the group stops before there is room.
    async fn execute(
        &self,
        mut plan: Plan,
        file: &E::TreeFile,
    ) -> Result<Option<btree::Receipt>, Failure> {
        let grows = match plan.steps.first() {
            Some(Step::SetSize(size)) if *size > file.size() => Some(*size),
            _ => None,
        };
        if let Some(size) = grows {
            plan.steps.remove(0);
            if self.grow(file, size).await? == Done::GivenUp {
                return Ok(None);
            }
        }
        let failed = |error: io::Error| Failure::TreeFile(error.to_string());
        btree::execute(plan, file).await.map(Some).map_err(failed)
    }

    async fn grow(&self, file: &E::TreeFile, size: u64) -> Result<Done, Failure> {
        loop {
            let error = match file.set_size(size).await {
                Ok(()) => {
                    let core = &mut *self.core.borrow_mut();
                    if std::mem::take(&mut core.tree_full) {
                        tracing::info!(
                            group = core.options.group.0,
                            "room again: the tree file grows"
                        );
                    }
                    return Ok(Done::Whole);
                }
                Err(error) => error,
            };
            let full = matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            );
            if !full {
                return Err(Failure::TreeFile(error.to_string()));
            }
            if self.stopping.get() {
                tracing::warn!(
                    group = self.core.borrow().options.group.0,
                    wanted_bytes = size,
                    "stopping on a full disk: the log keeps what the tree file has no room for"
                );
                return Ok(Done::GivenUp);
            }
            {
                let core = &mut *self.core.borrow_mut();
                if !std::mem::replace(&mut core.tree_full, true) {
                    tracing::error!(
                        group = core.options.group.0,
                        wanted_bytes = size,
                        error = %error,
                        "disk full: the tree file cannot grow; writes go on until memory for \
                         them is used up, reads go on"
                    );
                }
            }
            self.env.sleep(limits::FULL_DISK_RETRY).await;
        }
    }

    /// Frees what a commit left behind, a little at a time.
    async fn release(&self) {
        loop {
            let more = {
                let core = &mut *self.core.borrow_mut();
                core.machine
                    .store_mut()
                    .release_slice(limits::RELEASE_SLICE_ENTRIES)
            };
            if !more {
                return;
            }
            self.env.next_pass().await;
        }
    }

    /// Compacts slice by slice.
    pub(super) async fn compact(self: Rc<Self>) {
        if let Err(corrupt) = self.compact_all().await {
            self.stop_with(Failure::Damaged(corrupt.to_string()));
        }
    }

    async fn compact_all(&self) -> Result<(), Corrupt> {
        loop {
            self.compact_wake.wait().await;
            self.hash_compactions().await?;
            loop {
                if self.stopping.get() || self.core.borrow().failure.is_some() {
                    return Ok(());
                }
                {
                    let core = &mut *self.core.borrow_mut();
                    let store = core.machine.store_mut();
                    if !store.compact_pending() {
                        break;
                    }
                    match store.compact_slice(limits::COMPACT_SLICE_ENTRIES)? {
                        CompactProgress::More => {}
                        CompactProgress::WaitsForCommit => {
                            // `commit_once` wakes this task again.
                            core.commit_asked = true;
                            self.commit_wake.notify();
                            break;
                        }
                        CompactProgress::Done => {
                            let revision = store.compact_finished();
                            tracing::info!(
                                group = core.options.group.0,
                                compact_revision = revision,
                                "finished scheduled compaction"
                            );
                            core.commit_asked |= !core.compactions.is_empty();
                            self.commit_wake.notify();
                        }
                    }
                }
                self.env.next_pass().await;
            }
        }
    }

    /// Hashes the store as each compaction found it, before the compaction removes what it holds:
    /// the views keep it meanwhile.
    async fn hash_compactions(&self) -> Result<(), Corrupt> {
        loop {
            let wanted = self.hash_wanted.borrow_mut().pop_front();
            let Some((view, revision)) = wanted else {
                return Ok(());
            };
            let compacted = view.compacted();
            let Ok(scan) = HashScan::of_compaction(view, compacted, revision) else {
                continue;
            };
            let Some(hash) = run_hash(&self.env, scan, || self.stopping.get()).await? else {
                return Ok(());
            };
            let hashes = &mut self.core.borrow_mut().hashes;
            hashes.push_back(hash);
            if hashes.len() > limits::COMPACTION_HASHES_MAX {
                hashes.pop_front();
            }
        }
    }

    /// Physical compactions are answered once their work is in the tree file.
    fn answer_compactions(&self) {
        let done = std::mem::take(&mut self.core.borrow_mut().compactions_in_commit);
        for (ticket, answer) in done {
            self.outlet.answer(ticket, answer);
        }
    }

    /// Gives free pages back to the file system, then answers who asked.
    async fn defragment_once(&self, file: &E::TreeFile) -> Result<Done, Failure> {
        let tickets = self.defragment.take();
        let group = self.core.borrow().options.group.0;
        let before = self.core.borrow().machine.store().size_bytes();
        let patience = self.env.now() + limits::DEFRAGMENT_PATIENCE;
        let mut going = self
            .core
            .borrow_mut()
            .machine
            .store_mut()
            .defragment_begin();
        while going {
            if self.stopping.get() {
                // `stop` tells them.
                self.defragment.borrow_mut().extend(tickets);
                return Ok(Done::Whole);
            }
            let began = self.core.borrow_mut().commit_begin();
            if began && self.commit_once(file).await? == Done::GivenUp {
                self.defragment.borrow_mut().extend(tickets);
                return Ok(Done::GivenUp);
            }
            self.answer_compactions();
            let progress = self.core.borrow().machine.store().defragment_progress();
            match progress {
                DefragmentProgress::Idle => going = false,
                DefragmentProgress::Moving => self.env.next_pass().await,
                // Views of readers hold the pages; what is left goes with later commits.
                DefragmentProgress::Waiting if self.env.now() >= patience => going = false,
                DefragmentProgress::Waiting => self.env.sleep(limits::TICK).await,
            }
        }
        let after = self.core.borrow().machine.store().size_bytes();
        tracing::info!(
            group,
            before_bytes = before,
            after_bytes = after,
            "defragmented"
        );
        for ticket in tickets {
            self.outlet.answer(ticket, Answer::Defragmented);
        }
        Ok(Done::Whole)
    }
}

/// Hashes in slices, so that the core serves others in between; nothing once it is not wanted.
pub async fn run_hash<E: Env>(
    env: &E,
    mut scan: HashScan,
    unwanted: impl Fn() -> bool,
) -> Result<Option<KvHash>, Corrupt> {
    while scan.slice(limits::HASH_SLICE_ENTRIES)? == Progress::More {
        env.next_pass().await;
        if unwanted() {
            return Ok(None);
        }
    }
    Ok(Some(scan.hash()))
}

impl<E: Env> Core<E> {
    /// Begins a tree commit; `false` when there is nothing to write.
    fn commit_begin(&mut self) -> bool {
        self.commit_asked = false;
        self.dirty_since = None;
        self.log_bytes_since_commit = 0;
        let store = self.machine.store_mut();
        let began = store.commit_begin();
        // Finished compactions go into the file with this commit, or have done so before. Writes
        // that come meanwhile are of no concern to them: a busy store is never without.
        if !store.compact_pending() {
            let finished = std::mem::take(&mut self.compactions);
            self.compactions_in_commit.extend(finished);
        }
        began
    }
}
