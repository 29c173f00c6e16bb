//! Drives a running server with the Rust client etcd-client (tonic) and checks every answer.
//!
//! usage: rustpeer HOST:PORT. Exit 0: all answers right; a wrong one panics with its name.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, ConnectOptions, DeleteOptions, Error, EventType,
    GetOptions, LeaseTimeToLiveOptions, LockOptions, PutOptions, SortOrder, SortTarget, Txn, TxnOp,
    WatchOptions,
};

static CHECKS: AtomicU32 = AtomicU32::new(0);

#[track_caller]
fn equal<T: PartialEq + std::fmt::Debug>(what: &str, got: T, want: T) {
    CHECKS.fetch_add(1, Ordering::Relaxed);
    assert_eq!(got, want, "{what}");
}

#[track_caller]
fn refused<T: std::fmt::Debug>(what: &str, got: Result<T, Error>, code: i32, text: &str) {
    match got {
        Err(Error::GRpcStatus(status)) => {
            equal(what, (status.code() as i32, status.message()), (code, text));
        }
        other => panic!("{what}: {other:?}, expected code {code} {text:?}"),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let endpoint = std::env::args().nth(1).expect("usage: rustpeer HOST:PORT");
    let options = ConnectOptions::new()
        .with_require_leader(true)
        .with_timeout(Duration::from_secs(20))
        .with_keep_alive(Duration::from_secs(6), Duration::from_secs(5));
    let mut client = Client::connect([endpoint], Some(options)).await?;
    let prefix = format!("/rustpeer-{}/", std::process::id());
    put_get_delete(&mut client, &prefix).await?;
    txns(&mut client, &prefix).await?;
    watches(&mut client, &prefix).await?;
    leases(&mut client, &prefix).await?;
    if served("locks") {
        locks_and_elections(&mut client, &prefix).await?;
    }
    maintenance(&mut client, &prefix).await?;
    client
        .delete(prefix.as_str(), Some(DeleteOptions::new().with_prefix()))
        .await?;
    println!(
        "rust etcd-client 0.21: {} answers right",
        CHECKS.load(Ordering::Relaxed)
    );
    Ok(())
}

async fn put_get_delete(client: &mut Client, prefix: &str) -> Result<(), Error> {
    let key = |name: &str| format!("{prefix}kv/{name}");
    let put = client.put(key("a"), "1", None).await?;
    let first = put.header().expect("a put has a header").revision();
    let put = client
        .put(key("a"), "2", Some(PutOptions::new().with_prev_key()))
        .await?;
    equal(
        "prev value",
        put.prev_key().map(|kv| kv.value().to_vec()),
        Some(b"1".to_vec()),
    );
    client.put(key("b"), [0x00, 0xff], None).await?;
    let got = client
        .get(key(""), Some(GetOptions::new().with_prefix()))
        .await?;
    equal("count", got.count(), 2);
    let kv = &got.kvs()[0];
    equal(
        "a",
        (kv.create_revision(), kv.mod_revision(), kv.version()),
        (first, first + 1, 2),
    );
    equal("binary", got.kvs()[1].value(), &[0x00, 0xff]);
    let options = GetOptions::new()
        .with_prefix()
        .with_sort(SortTarget::Mod, SortOrder::Descend)
        .with_limit(1);
    let got = client.get(key(""), Some(options)).await?;
    equal(
        "newest",
        (got.kvs()[0].key(), got.more()),
        (key("b").as_bytes(), true),
    );
    let got = client
        .get(key("a"), Some(GetOptions::new().with_revision(first)))
        .await?;
    equal("historic", got.kvs()[0].value(), b"1");
    let got = client
        .get(
            key(""),
            Some(GetOptions::new().with_prefix().with_count_only()),
        )
        .await?;
    equal("count only", (got.count(), got.kvs().len()), (2, 0));
    let deleted = client
        .delete(
            key(""),
            Some(DeleteOptions::new().with_prefix().with_prev_key()),
        )
        .await?;
    equal(
        "deleted",
        (deleted.deleted(), deleted.prev_kvs().len()),
        (2, 2),
    );
    refused(
        "empty key",
        client.put("", "x", None).await,
        3,
        "etcdserver: key is not provided",
    );
    let future = GetOptions::new().with_revision(first + 1_000_000);
    refused(
        "future",
        client.get(key("a"), Some(future)).await,
        11,
        "etcdserver: mvcc: required revision is a future revision",
    );
    Ok(())
}

async fn txns(client: &mut Client, prefix: &str) -> Result<(), Error> {
    let key = |name: &str| format!("{prefix}txn/{name}");
    let create = Txn::new()
        .when([Compare::create_revision(key("a"), CompareOp::Equal, 0)])
        .and_then([TxnOp::put(key("a"), "1", None), TxnOp::get(key("a"), None)])
        .or_else([TxnOp::get(key("a"), None)]);
    equal("first", client.txn(create.clone()).await?.succeeded(), true);
    equal("second", client.txn(create).await?.succeeded(), false);
    let nested = Txn::new()
        .when([Compare::value(key("a"), CompareOp::Equal, "1")])
        .and_then([TxnOp::txn(
            Txn::new()
                .when([Compare::version(key("a"), CompareOp::Greater, 5)])
                .and_then([TxnOp::delete(key("a"), None)])
                .or_else([TxnOp::put(key("b"), "nested", None)]),
        )]);
    equal("nested", client.txn(nested).await?.succeeded(), true);
    equal(
        "nested put",
        client.get(key("b"), None).await?.kvs()[0].value(),
        b"nested",
    );
    let twice = Txn::new().and_then([
        TxnOp::put(key("c"), "1", None),
        TxnOp::put(key("c"), "2", None),
    ]);
    let text = "etcdserver: duplicate key given in txn request";
    refused("duplicate", client.txn(twice).await, 3, text);
    Ok(())
}

async fn watches(client: &mut Client, prefix: &str) -> Result<(), Error> {
    let key = format!("{prefix}watch/a");
    let put = client.put(key.as_str(), "1", None).await?;
    let first = put.header().expect("a put has a header").revision();
    client.delete(key.as_str(), None).await?;
    let options = WatchOptions::new()
        .with_start_revision(first)
        .with_prev_key();
    let mut stream = client.watch(key.as_str(), Some(options)).await?;
    client.put(key.as_str(), "2", None).await?;
    let mut seen = Vec::new();
    while seen.len() < 3 {
        let answer = stream.message().await?.expect("the stream stays open");
        for event in answer.events() {
            let kv = event.kv().expect("an event has a kv");
            seen.push((
                event.event_type() == EventType::Put,
                kv.value().to_vec(),
                event.prev_kv().map(|kv| kv.value().to_vec()),
                kv.mod_revision() - first,
            ));
        }
    }
    let expected = vec![
        (true, b"1".to_vec(), None, 0),
        (false, Vec::new(), Some(b"1".to_vec()), 1),
        (true, b"2".to_vec(), None, 2),
    ];
    equal("events", seen, expected);
    stream.request_progress().await?;
    let progress = stream.message().await?.expect("the stream stays open");
    equal(
        "progress",
        (progress.events().len(), progress.watch_id()),
        (0, -1),
    );
    stream.cancel(0).await?;
    let cancelled = stream
        .message()
        .await?
        .expect("the stream answers a cancel");
    equal("cancelled", cancelled.canceled(), true);
    Ok(())
}

async fn leases(client: &mut Client, prefix: &str) -> Result<(), Error> {
    let key = format!("{prefix}lease");
    let grant = client.lease_grant(100, None).await?;
    let id = grant.id();
    equal("ttl", grant.ttl(), 100);
    client
        .put(key.as_str(), "x", Some(PutOptions::new().with_lease(id)))
        .await?;
    let (mut keeper, mut beats) = client.lease_keep_alive(id).await?;
    keeper.keep_alive().await?;
    let beat = beats.message().await?.expect("a beat is answered");
    equal("beat", (beat.id(), beat.ttl()), (id, 100));
    let left = client
        .lease_time_to_live(id, Some(LeaseTimeToLiveOptions::new().with_keys()))
        .await?;
    equal("keys", left.keys().to_vec(), vec![key.clone().into_bytes()]);
    equal("granted ttl", left.granted_ttl(), 100);
    let listed = client
        .leases()
        .await?
        .leases()
        .iter()
        .any(|lease| lease.id() == id);
    equal("listed", listed, true);
    client.lease_revoke(id).await?;
    equal(
        "key is gone",
        client.get(key.as_str(), None).await?.count(),
        0,
    );
    let text = "etcdserver: requested lease not found";
    refused("revoke again", client.lease_revoke(id).await, 5, text);
    Ok(())
}

// The server's own lock and election services, which other clients do not use.
async fn locks_and_elections(client: &mut Client, prefix: &str) -> Result<(), Error> {
    let lease = client.lease_grant(60, None).await?.id();
    let name = format!("{prefix}lock");
    let held = client
        .lock(name.as_str(), Some(LockOptions::new().with_lease(lease)))
        .await?;
    equal(
        "lock key",
        held.key(),
        format!("{name}/{lease:x}").as_bytes(),
    );
    equal(
        "lock key exists",
        client.get(held.key(), None).await?.count(),
        1,
    );
    client.unlock(held.key()).await?;
    equal(
        "lock key is gone",
        client.get(held.key(), None).await?.count(),
        0,
    );
    let election = format!("{prefix}election");
    let won = client.campaign(election.as_str(), "me", lease).await?;
    let leader = won.leader().expect("a campaign names the leader key");
    equal(
        "leader key",
        leader.key(),
        format!("{election}/{lease:x}").as_bytes(),
    );
    let seen = client.leader(election.as_str()).await?;
    equal(
        "leader",
        seen.kv().map(|kv| kv.value().to_vec()),
        Some(b"me".to_vec()),
    );
    let resign = etcd_client::ResignOptions::new().with_leader(leader.clone());
    client.resign(Some(resign)).await?;
    refused(
        "no leader",
        client.leader(election.as_str()).await,
        2,
        "election: no leader",
    );
    client.lease_revoke(lease).await?;
    Ok(())
}

async fn maintenance(client: &mut Client, prefix: &str) -> Result<(), Error> {
    let key = format!("{prefix}compact");
    let status = client.status().await?;
    equal("version", status.version().starts_with("3."), true);
    equal("leader", status.leader() != 0, true);
    let members = client.member_list().await?;
    equal("members", members.members().is_empty(), false);
    let mut revisions = Vec::new();
    for value in ["1", "2", "3"] {
        let put = client.put(key.as_str(), value, None).await?;
        revisions.push(put.header().expect("a put has a header").revision());
    }
    let physical = CompactionOptions::new().with_physical();
    client.compact(revisions[1], Some(physical)).await?;
    let old = GetOptions::new().with_revision(revisions[0]);
    refused(
        "compacted",
        client.get(key.as_str(), Some(old)).await,
        11,
        "etcdserver: mvcc: required revision has been compacted",
    );
    let hash = client.hash_kv(0).await?.hash();
    equal("hash", client.hash_kv(0).await?.hash(), hash);
    client.defragment().await?;
    if !served("snapshot") {
        return Ok(());
    }
    let mut snapshot = client.snapshot().await?;
    let mut size = 0;
    while let Some(part) = snapshot.message().await? {
        size += part.blob().len();
    }
    equal("snapshot", size % 512, 32);
    Ok(())
}

/// Whether the server under test serves a step: WITHOUT=snapshot,locks names those that it does not.
fn served(step: &str) -> bool {
    !std::env::var("WITHOUT").is_ok_and(|steps| steps.split(',').any(|name| name == step))
}
