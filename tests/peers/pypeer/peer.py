"""Drives a running server with the Python client etcd3 and checks every answer.

usage: peer.py HOST:PORT
Exit 0: all answers right. 1: one was wrong. Keys live under a prefix of this run.
"""

import os
import queue
import sys
import threading
import time

import etcd3
from etcd3 import exceptions

CHECKS = 0


def equal(what, got, want):
    global CHECKS
    CHECKS += 1
    if got != want:
        sys.exit(f"FAILED: {what}: got {got!r}, expected {want!r}")


def raises(what, kind, call):
    global CHECKS
    CHECKS += 1
    try:
        call()
    except kind as error:
        return error
    sys.exit(f"FAILED: {what}: no {kind.__name__}")


def put_and_get(client, p):
    client.put(p + "a", "1")
    value, meta = client.get(p + "a")
    equal("value", value, b"1")
    equal("version", meta.version, 1)
    equal("key", meta.key, (p + "a").encode())
    first = meta.mod_revision
    answer = client.put(p + "a", "2", prev_kv=True)
    equal("prev value", answer.prev_kv.value, b"1")
    equal("revision", answer.header.revision, first + 1)
    equal("missing", client.get(p + "none"), (None, None))
    equal("serializable", client.get(p + "a", serializable=True)[0], b"2")
    for name in "bcd":
        client.put(p + name, name * 2)
    listed = [(m.key.decode()[len(p):], v) for v, m in client.get_prefix(p)]
    equal("prefix", listed, [("a", b"2"), ("b", b"bb"), ("c", b"cc"), ("d", b"dd")])
    down = [v for v, _ in client.get_prefix(p, sort_order="descend", sort_target="key")]
    equal("descend", down, [b"dd", b"cc", b"bb", b"2"])
    keys = [(m.key.decode()[len(p):], v) for v, m in client.get_prefix(p, keys_only=True)]
    equal("keys only", keys, [("a", b""), ("b", b""), ("c", b""), ("d", b"")])
    half = [v for v, _ in client.get_range(p + "b", p + "d")]
    equal("range", half, [b"bb", b"cc"])
    equal("delete", client.delete(p + "d"), True)
    equal("delete again", client.delete(p + "d"), False)
    gone = client.delete(p + "c", prev_kv=True, return_response=True)
    equal("prev of a delete", gone.prev_kvs[0].value, b"cc")
    equal("delete prefix", client.delete_prefix(p).deleted, 2)
    client.put(p + "\x00\u00ff", b"\x00\xff\xfe")
    equal("binary", client.get(p + "\x00\u00ff")[0], b"\x00\xff\xfe")


def txns(client, p):
    equal("create", client.put_if_not_exists(p + "t", "1"), True)
    equal("create again", client.put_if_not_exists(p + "t", "2"), False)
    equal("replace", client.replace(p + "t", "1", "3"), True)
    equal("replace of another value", client.replace(p + "t", "1", "4"), False)
    t = client.transactions
    done, answers = client.transaction(
        compare=[t.value(p + "t") == "3", t.version(p + "t") > 1],
        success=[t.put(p + "u", "5"), t.get(p + "t")],
        failure=[t.delete(p + "t")],
    )
    equal("branch", done, True)
    equal("range in a txn", answers[1][0][0], b"3")
    done, answers = client.transaction(
        compare=[t.version(p + "t") == 0],
        success=[],
        failure=[
            t.txn(
                compare=[t.version(p + "u") == 1],
                success=[t.put(p + "w", "nested")],
                failure=[],
            )
        ],
    )
    equal("else branch", done, False)
    equal("nested put", client.get(p + "w")[0], b"nested")


def watches(client, p):
    client.put(p + "w/1", "one")
    revision = client.get(p + "w/1")[1].mod_revision
    client.delete(p + "w/1")
    events, cancel = client.watch_prefix(p + "w/", start_revision=revision, prev_kv=True)
    first, second = next(events), next(events)
    equal("put event", (type(first).__name__, first.value), ("PutEvent", b"one"))
    equal("delete event", (type(second).__name__, second.prev_value), ("DeleteEvent", b"one"))
    client.put(p + "w/2", "two")
    equal("live event", next(events).value, b"two")
    cancel()
    seen = queue.Queue()
    watch = client.add_watch_callback(
        p + "cb", lambda answer: [seen.put(event) for event in answer.events]
    )
    client.put(p + "cb", "called")
    equal("callback", seen.get(timeout=10).value, b"called")
    client.cancel_watch(watch)


def leases(client, p):
    lease = client.lease(120)
    client.put(p + "l", "x", lease=lease)
    equal("granted ttl", lease.granted_ttl, 120)
    equal("remaining ttl", 110 < lease.remaining_ttl <= 120, True)
    equal("attached keys", list(lease.keys), [(p + "l").encode()])
    equal("keepalive", lease.refresh()[0].TTL, 120)
    equal("lease id of a key", client.get(p + "l")[1].lease_id, lease.id)
    lease.revoke()
    equal("key of a revoked lease", client.get(p + "l"), (None, None))


def locks(client, p):
    # A lock by hand: the library's own needs a retry package that current Pythons cannot load.
    inside = []

    def worker(name):
        own = connect()
        lease = own.lease(20)
        while not own.put_if_not_exists(p + "lock", str(name), lease=lease):
            try:
                own.watch_once(p + "lock", timeout=1)
            except exceptions.WatchTimedOut:
                pass
        inside.append(name)
        time.sleep(0.05)
        inside.append(name)
        lease.revoke()

    threads = [threading.Thread(target=worker, args=(n,)) for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    equal("entries and exits pair", inside[0::2], inside[1::2])
    equal("every worker had its turn", sorted(inside), [0, 0, 1, 1, 2, 2])


def maintenance(client, p):
    members = list(client.members)
    equal("a member", len(members) >= 1 and members[0].id != 0, True)
    status = client.status()
    equal("version", status.version.startswith("3."), True)
    equal("sizes", status.db_size > 0, True)
    equal("leader", status.leader.id, members[0].id)
    equal("alarms", list(client.list_alarms()), [])
    equal("hash", client.hash() > 0, True)
    client.defragment()
    if "snapshot" not in os.environ.get("WITHOUT", ""):
        with open(os.devnull, "wb") as sink:
            client.snapshot(sink)
    client.put(p + "c", "1")
    revision = client.get(p + "c")[1].mod_revision
    client.put(p + "c", "2")
    client.compact(revision + 1, physical=True)
    raises("watch of the past", exceptions.RevisionCompactedError,
           lambda: next(client.watch(p + "c", start_revision=revision)[0]))


def connect():
    host, port = sys.argv[1].rsplit(":", 1)
    return etcd3.client(host=host, port=int(port), timeout=15)


def main():
    client = connect()
    p = f"/pypeer-{os.getpid()}-{time.time_ns()}/"
    for step in (put_and_get, txns, watches, leases, locks, maintenance):
        step(client, p + step.__name__ + "/")
    client.delete_prefix(p)
    print(f"python etcd3 0.12.0: {CHECKS} answers right")


main()
