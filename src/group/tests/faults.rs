//! Driver. Disks that fail.

use super::rig::{NODE, Rig, text};
use crate::group::{Answer, Input, Query, Refusal, Ticket};
use crate::pb::etcdserverpb::WatchCreateRequest;
use crate::watch::StreamInput;
use std::io::ErrorKind;
use std::time::Duration;

/// Keys whose put was answered with success; each value is its key.
pub(super) fn succeeded(rig: &Rig, puts: &[(String, Ticket)]) -> Vec<String> {
    let mut keys = Vec::new();
    for (key, ticket) in puts {
        let answered = rig.wait_until(|rig| rig.is_answered(*ticket));
        assert!(answered, "{key} is never answered");
        match rig.take(*ticket).expect("it was answered") {
            Answer::Applied(Ok(_), _) => keys.push(key.clone()),
            Answer::Refused(Refusal::Stopped) => {}
            other => panic!("{other:?}"),
        }
    }
    keys
}

pub(super) fn puts(rig: &mut Rig, name: &str, count: usize, size: usize) -> Vec<(String, Ticket)> {
    let mut puts = Vec::new();
    for n in 0..count {
        let key = format!("{name}/{n}");
        let mut value = key.clone().into_bytes();
        value.resize(size.max(value.len()), b' ');
        let ticket = rig.propose_put(&key, &value, 0);
        puts.push((key, ticket));
        rig.run_for(Duration::from_micros(30));
    }
    puts
}

fn assert_stopped(rig: &mut Rig) {
    for _ in 0..3 {
        let ticket = rig.propose_put("after", b"", 0);
        assert!(matches!(
            rig.wait(ticket),
            Answer::Refused(Refusal::Stopped)
        ));
    }
    for query in [
        Query::View {
            linearizable: false,
        },
        Query::Leases,
        Query::Defragment,
    ] {
        let ticket = rig.ask(query);
        assert!(matches!(
            rig.wait(ticket),
            Answer::Refused(Refusal::Stopped)
        ));
    }
    assert!(rig.life().group.view_now().is_none());
    let ticket = rig.ask(Query::Status);
    assert!(
        matches!(rig.wait(ticket), Answer::Status(_)),
        "operators may still look"
    );
    let group = rig.life().group.clone();
    let why = rig.world.run(move |_| async move { group.failed().await });
    assert_eq!(Some(why), rig.failure());
    // It still ends, as a process does that was asked to.
    let group = rig.life().group.clone();
    rig.world.run(move |_| async move { group.stop().await });
}

pub(super) fn assert_present(rig: &mut Rig, keys: &[String]) {
    for key in keys {
        let value = rig.value(key).unwrap_or_else(|| panic!("{key} is lost"));
        assert!(value.starts_with(key.as_bytes()));
    }
}

// Would catch: a group that writes on behind a failed log write, answers with success what may not
// be there, forgets a ticket, or cannot start afterwards.
#[test]
fn a_failed_log_write_stops_the_group() {
    for nth in 1..=12 {
        let mut rig = Rig::quiet(nth).opened();
        let mut kept = vec!["before".to_string()];
        rig.put("before", b"before");
        rig.run_for(Duration::from_millis(50));
        rig.world
            .faults(NODE, |disk| disk.fail_at(nth, ErrorKind::Other));
        let puts = puts(&mut rig, "k", 500, 10);
        let succeeded = succeeded(&rig, &puts);
        assert!(succeeded.len() < puts.len(), "write {nth} failed");
        kept.extend(succeeded);
        let failure = rig.failure().expect("latched");
        assert!(failure.starts_with("wal: write"), "{failure}");
        assert_stopped(&mut rig);
        rig.restart();
        assert_present(&mut rig, &kept);
        rig.put("after", b"after");
    }
}

// Would catch: the same for each other step on the log's directory: a segment made, renamed,
// synced, removed.
#[test]
fn any_failed_step_stops_the_group() {
    let mut kinds = std::collections::BTreeSet::new();
    for nth in 1..=80 {
        let mut rig = Rig::new(nth).opened();
        rig.world
            .faults(NODE, |disk| disk.fail_at(nth, ErrorKind::Other));
        let puts = puts(&mut rig, "k", 400, 500);
        let kept = succeeded(&rig, &puts);
        rig.run_for(Duration::from_millis(100));
        let failure = rig.failure().expect("latched");
        let end = failure.find('/').unwrap_or(failure.len());
        kinds.insert(failure[..end].to_string());
        assert_stopped(&mut rig);
        rig.restart();
        assert_present(&mut rig, &kept);
        rig.put("after", b"after");
        rig.with_store(|store| store.backend().tree().check())
            .expect("a whole tree");
    }
    assert!(kinds.len() >= 4, "{kinds:?}");
}

// Would catch: a tree commit that is tried again after a failed write or sync, a log that is
// released for a commit that failed, writes answered with success behind it.
#[test]
fn a_failed_tree_commit_stops_the_group() {
    let mut failed = 0;
    for nth in 1.. {
        let mut rig = Rig::quiet(nth).opened();
        let puts = puts(&mut rig, "k", 50, 400);
        let kept = succeeded(&rig, &puts);
        assert_eq!(kept.len(), 50);
        rig.run_for(Duration::from_millis(20));
        rig.world
            .faults(NODE, |disk| disk.fail_at(nth, ErrorKind::Other));
        rig.commit();
        rig.run_for(Duration::from_millis(20));
        match rig.failure() {
            None => break,
            Some(failure) => assert!(failure.starts_with("tree file: "), "{failure}"),
        }
        failed += 1;
        assert_stopped(&mut rig);
        rig.restart();
        assert!(rig.life().entries_behind >= 50, "the log lets nothing go");
        assert_present(&mut rig, &kept);
        rig.commit();
        assert_eq!(rig.failure(), None);
    }
    assert!(failed >= 4, "pages, sync, meta, sync: {failed}");
}

// Would catch: a put whose entry is applied and whose event then cannot be made, because the value
// that it replaces is damaged in the file: its ticket must not be forgotten.
#[test]
fn damage_found_for_a_watcher_forgets_no_ticket() {
    let mut refused = 0;
    for page in 0..12 {
        let mut rig = Rig::quiet(page).opened();
        let kept = puts(&mut rig, "k", 20, 1_500);
        assert_eq!(succeeded(&rig, &kept).len(), 20);
        rig.commit();
        rig.stop();
        let tree = rig.options.tree_path.clone();
        for sector in 0..8 {
            let offset = page * 4096 + sector * 512 + 300;
            rig.world.faults(NODE, |disk| disk.rot(&tree, offset, 3));
        }
        if rig.open().is_err() {
            continue;
        }
        let request = WatchCreateRequest {
            key: text("k/"),
            range_end: text("k0"),
            prev_kv: true,
            ..WatchCreateRequest::default()
        };
        rig.submit(|ticket| Input::Watch(StreamInput::Create(Box::new(request)), ticket));
        for n in 0..20 {
            let ticket = rig.propose_put(&format!("k/{n}"), b"new", 0);
            rig.run_for(Duration::from_millis(10));
            match rig.take(ticket).expect("every ticket is answered") {
                Answer::Applied(Ok(_), _) => {}
                Answer::Refused(Refusal::Corrupt) => refused += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert!(refused > 0, "no damage was met");
}
