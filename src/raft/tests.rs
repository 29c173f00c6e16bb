//! Pure. One voter from start to restart.

use super::*;
use crate::ids::{LogIndex, MemberId, Term};
use bytes::Bytes;

fn options(seed: u64) -> NodeOptions {
    NodeOptions {
        member: MemberId(7),
        election_ticks: 10,
        heartbeat_ticks: 1,
        seed,
    }
}

fn leader() -> Node {
    let mut node = Node::new(options(1), Start::default());
    node.campaign();
    node
}

/// The log as the disk would have it.
#[derive(Default, Clone)]
struct Disk {
    hard_state: HardState,
    entries: Vec<LogEntry>,
}

impl Disk {
    fn write(&mut self, effects: &Effects) {
        if let Some(state) = effects.hard_state {
            self.hard_state = state;
        }
        for entry in &effects.entries {
            self.entries.retain(|old| old.index < entry.index);
            self.entries.push(entry.clone());
        }
    }

    fn start(&self, applied: (LogIndex, Term)) -> Start {
        let entries = self.entries.iter().filter(|entry| entry.index > applied.0);
        Start {
            hard_state: self.hard_state,
            applied,
            entries: entries.cloned().collect(),
        }
    }
}

fn indexes(entries: &[Committed]) -> Vec<u64> {
    entries.iter().map(|entry| entry.index.0).collect()
}

// Catches: a single voter that waits for a timeout or a message, or one that commits its first
// entry before that is durable.
#[test]
fn a_single_voter_leads_at_once() {
    let mut node = leader();
    assert!(node.is_leader());
    assert_eq!(node.leader(), MemberId(7));
    let round = node.take_effects().expect("the first round");
    assert_eq!(round.round, 1);
    assert_eq!(round.elected, Some(Term(1)));
    assert_eq!(round.leader, Some(MemberId(7)));
    let state = HardState {
        term: Term(1),
        vote: MemberId(7),
        commit: LogIndex(0),
    };
    assert_eq!(round.hard_state, Some(state));
    assert_eq!(
        round.entries,
        [LogEntry {
            index: LogIndex(1),
            term: Term(1),
            data: Bytes::new()
        }]
    );
    assert!(round.committed.is_empty());
    assert_eq!(node.take_effects(), None);
    node.persisted(1);
    let round = node.take_effects().expect("the commit");
    assert_eq!(indexes(&round.committed), [1]);
    assert!(round.committed[0].data.is_empty());
    assert_eq!(
        round.hard_state, None,
        "a commit index alone is not worth a write"
    );
    assert_eq!(node.take_effects(), None);
}

// Catches: input that waits for the disk, rounds confused with each other, commits out of order or
// ahead of durability when many rounds are in flight and durability is reported in jumps.
#[test]
fn many_rounds_in_flight() {
    let mut node = leader();
    let mut rounds = Vec::new();
    let mut committed: Vec<u64> = Vec::new();
    let mut expected = 1;
    for i in 0..200u64 {
        let (index, term) = node.propose(vec![i as u8; 8]).expect("leads");
        expected += 1;
        assert_eq!((index, term), (LogIndex(expected), Term(1)));
        if i % 3 == 0 {
            while let Some(effects) = node.take_effects() {
                let last = effects.entries.last().map(|entry| entry.index);
                committed.extend(indexes(&effects.committed));
                rounds.push((effects.round, last));
            }
        }
        if i % 17 == 0 {
            let through = rounds.len() / 2;
            let Some(&(round, _)) = rounds.get(through) else {
                continue;
            };
            node.persisted(round);
            let durable = rounds[..=through]
                .iter()
                .filter_map(|&(_, last)| last)
                .max();
            if let Some(durable) = durable {
                assert_eq!(node.committed(), durable);
            }
        }
    }
    while let Some(effects) = node.take_effects() {
        committed.extend(indexes(&effects.committed));
        node.persisted(effects.round);
    }
    assert_eq!(committed, (1..=expected).collect::<Vec<_>>());
    assert!(rounds.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
}

// Catches: a restart that hands out applied entries again, skips one, or needs a commit index that
// was never written.
#[test]
fn restart_goes_on_behind_the_backend() {
    let mut node = leader();
    let mut disk = Disk::default();
    let mut datas = Vec::new();
    for i in 0..20u8 {
        node.propose(vec![i; 4]).expect("leads");
        while let Some(effects) = node.take_effects() {
            disk.write(&effects);
            node.persisted(effects.round);
            datas.extend(effects.committed);
        }
    }
    assert_eq!(datas.len(), 21);
    for backend in [0usize, 1, 9, 20, 21] {
        let applied = match backend.checked_sub(1) {
            None => (LogIndex(0), Term(0)),
            Some(last) => (datas[last].index, datas[last].term),
        };
        let mut node = Node::new(options(1), disk.start(applied));
        assert!(!node.is_leader());
        node.campaign();
        assert!(node.is_leader());
        assert_eq!(node.term(), Term(2));
        let (index, term) = node.propose(&b"after"[..]).expect("leads");
        assert_eq!((index, term), (LogIndex(23), Term(2)));
        let mut disk = disk.clone();
        let mut again = Vec::new();
        while let Some(effects) = node.take_effects() {
            disk.write(&effects);
            node.persisted(effects.round);
            again.extend(effects.committed);
        }
        assert_eq!(&again[..21 - backend], &datas[backend..]);
        assert_eq!(indexes(&again[21 - backend..]), [22, 23]);
        assert_eq!(disk.entries.len(), 23);
    }
}

// Catches: a restart from a tree file alone, behind a log that was released to its end.
#[test]
fn restart_from_a_released_log() {
    let state = HardState {
        term: Term(4),
        vote: MemberId(7),
        commit: LogIndex(90),
    };
    let start = Start {
        hard_state: state,
        applied: (LogIndex(100), Term(4)),
        entries: Vec::new(),
    };
    let mut node = Node::new(options(1), start);
    node.campaign();
    let round = node.take_effects().expect("the first round");
    assert_eq!(round.entries[0].index, LogIndex(101));
    assert_eq!(round.entries[0].term, Term(5));
    assert!(round.committed.is_empty());
    node.persisted(round.round);
    assert_eq!(
        indexes(&node.take_effects().expect("the commit").committed),
        [101]
    );
}

// Catches: entries that stay in memory after the backend has them, or that leave while raft still
// needs them.
#[test]
fn compaction_keeps_what_is_not_applied() {
    let mut node = leader();
    for i in 0..1000u32 {
        node.propose(i.to_le_bytes().to_vec()).expect("leads");
        if i % 10 != 0 {
            continue;
        }
        let mut last = LogIndex(0);
        while let Some(effects) = node.take_effects() {
            node.persisted(effects.round);
            last = effects.committed.last().map_or(last, |entry| entry.index);
        }
        node.applied(last);
        node.compact(LogIndex(last.0.saturating_sub(5)));
        assert!(node.entry_count() <= 16, "{}", node.entry_count());
    }
    node.tick();
    assert!(node.is_leader());
}

// Catches: a hard state written for each commit (a second write per put), or never.
#[test]
fn commit_index_travels_with_entries() {
    let mut node = leader();
    let mut writes = 0;
    let mut commit = LogIndex(0);
    for i in 0..50u8 {
        node.propose(vec![i]).expect("leads");
        while let Some(effects) = node.take_effects() {
            if effects.hard_state.is_some() || !effects.entries.is_empty() {
                writes += 1;
            }
            commit = effects.hard_state.map_or(commit, |state| state.commit);
            node.persisted(effects.round);
        }
    }
    assert_eq!(
        writes, 50,
        "the term's first entry rides with the first proposal"
    );
    assert_eq!(commit, LogIndex(50));
}

// Catches: two runs from one seed that differ, because raft-rs drew a timeout itself; and members
// that all draw the same one.
#[test]
fn timeouts_come_from_the_seed() {
    let timeouts = |seed| {
        let mut node = Node::new(options(seed), Start::default());
        let mut seen = Vec::new();
        for i in 0..60 {
            node.tick();
            seen.push((node.election_timeout(), node.is_leader(), node.term()));
            if i == 40 {
                node.campaign();
            }
        }
        seen
    };
    assert_eq!(timeouts(3), timeouts(3));
    let first: Vec<usize> = (0..20).map(|seed| timeouts(seed)[0].0).collect();
    assert!(first.iter().all(|ticks| (10..20).contains(ticks)));
    assert!(first.iter().any(|&ticks| ticks != first[0]));
    assert!(
        timeouts(3).last().is_some_and(|&(_, leads, _)| leads),
        "elected by its own clock"
    );
}

// Catches: a proposal that a follower swallows.
#[test]
fn a_follower_refuses() {
    let mut node = Node::new(options(1), Start::default());
    assert_eq!(
        node.propose(&b"x"[..]),
        Err(NotLeader {
            leader: MemberId(0)
        })
    );
}
