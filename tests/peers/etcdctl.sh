#!/usr/bin/env bash
# Drives a running server with a real etcdctl and checks every answer.
#   env ENDPOINT=host:port, ETCDCTL=path of the binary (any v3 release; 3.4 and 3.7 are in CI)
# Exit 0: all answers right. 1: one was wrong, shown on stderr. 77: cannot run here.
#
# Keys live under a prefix of this run, so the server may hold other data; two steps compact it.
set -u

ETCDCTL="${ETCDCTL:-etcdctl}"
[ -n "${ENDPOINT:-}" ] || { echo "ENDPOINT=host:port is not set" >&2; exit 2; }
command -v "$ETCDCTL" >/dev/null 2>&1 || { echo "cannot run here: no $ETCDCTL" >&2; exit 77; }

version=$(ETCDCTL_API=3 "$ETCDCTL" version | sed -n 's/^etcdctl version: //p')
minor=$(echo "$version" | cut -d. -f2)
[ -n "$minor" ] || { echo "cannot run here: $ETCDCTL names no version" >&2; exit 77; }
# The variable chooses the API up to 3.5; later releases warn about it.
[ "$minor" -ge 6 ] || export ETCDCTL_API=3
work=$(mktemp -d) || exit 1
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$work"' EXIT
p="/etcdctl-$$-$RANDOM"
checks=0

# ctl ARGS…: the client's stdout in $out, stderr in $err, exit code in $rc.
ctl() {
    what="$*"
    "$ETCDCTL" --endpoints "$ENDPOINT" "$@" >"$work/out" 2>"$work/err"
    rc=$?
    out=$(cat "$work/out")
    err=$(cat "$work/err")
}

# The same with $1 on stdin.
ctl_in() {
    local text=$1
    shift
    what="$*"
    printf "$text" | "$ETCDCTL" --endpoints "$ENDPOINT" "$@" >"$work/out" 2>"$work/err"
    rc=$?
    out=$(cat "$work/out")
    err=$(cat "$work/err")
}

fail() {
    { echo "FAILED: etcdctl $version $what"; echo "  $1"; echo "  rc=$rc"; echo "--- stdout"
      echo "$out"; echo "--- stderr"; echo "$err"; } >&2
    exit 1
}

ok() { checks=$((checks + 1)); [ "$rc" -eq 0 ] || fail "expected exit 0"; }
is() { ok; [ "$out" = "$1" ] || fail "expected stdout: $1"; }
has() { ok; [[ "$out" == *"$1"* ]] || fail "expected in stdout: $1"; }
matches() { ok; [[ "$out" =~ $1 ]] || fail "expected stdout like: $1"; }
refused() { # refused RC TEXT: fails with that exit code and that text on stderr
    checks=$((checks + 1))
    [ "$rc" -eq "$1" ] || fail "expected exit $1"
    [[ "$err" == *"$2"* ]] || fail "expected in stderr: $2"
}
number() { sed -n "s/.*\"$1\":\([0-9]*\).*/\1/p" <<<"$out"; }
lines() { printf '%s\n' "$@"; }

# ---- put and get
ctl put "$p/a" 1;                       is OK
ctl put "$p/b" 2;                       is OK
ctl put "$p/c" 3;                       is OK
ctl get "$p/a" -w json;                 ok
first=$(number mod_revision)
header=$(number revision)
[ -n "$first" ] && [ "$header" -ge "$first" ] || fail "no revision in the json answer"
has "\"key\":\"$(printf %s "$p/a" | base64 -w0)\""
has '"value":"MQ=="'
has '"version":1'
has '"count":1'
has '"cluster_id":'
has '"raft_term":'
ctl put "$p/a" 11 --prev-kv;            is "$(lines OK "$p/a" 1)"
ctl put "$p/a" --ignore-value --lease 0 "" ; # an empty value argument beside --ignore-value
[ "$rc" -ne 0 ] || ok
ctl get "$p/a";                         is "$(lines "$p/a" 11)"
ctl get "$p/a" --print-value-only;      is 11
ctl get "$p/a" --rev "$first";          is "$(lines "$p/a" 1)"
ctl get "$p/none";                      is ""
ctl get "$p/" --prefix --keys-only;     is "$(lines "$p/a" "" "$p/b" "" "$p/c" "")"
ctl get "$p/" --prefix;                 is "$(lines "$p/a" 11 "$p/b" 2 "$p/c" 3)"
ctl get "$p/a" "$p/c";                  is "$(lines "$p/a" 11 "$p/b" 2)"
ctl get "$p/" --prefix --limit 2;       is "$(lines "$p/a" 11 "$p/b" 2)"
ctl get "$p/" --prefix --limit 2 -w json
has '"more":true'; has '"count":3'
ctl get "$p/" --prefix --order DESCEND --sort-by KEY --print-value-only
is "$(lines 3 2 11)"
ctl get "$p/" --prefix --order ASCEND --sort-by MODIFY --print-value-only
is "$(lines 2 3 11)"
ctl get "$p/" --prefix --order DESCEND --sort-by VERSION --limit 1 --print-value-only
is 11
ctl get "$p/" --prefix --order ASCEND --sort-by VALUE --print-value-only
is "$(lines 11 2 3)"
ctl get "$p/" --prefix --order DESCEND --sort-by CREATE --print-value-only
is "$(lines 3 2 11)"
ctl get "$p/b" --from-key --limit 2;    is "$(lines "$p/b" 2 "$p/c" 3)"
ctl get "$p/" --prefix --consistency s --print-value-only
is "$(lines 11 2 3)"
ctl get "$p/" --prefix --rev "$first" -w fields
has '"Key" : "'"$p/a"'"'; has '"Count" : 1'; has '"More" : false'
if [ "$minor" -ge 5 ]; then
    ctl get "$p/" --prefix --count-only -w fields
    has '"Count" : 3'
    [[ "$out" != *'"Key"'* ]] || fail "count-only answered keys"
fi
if [ "$minor" -ge 7 ]; then
    ctl get "$p/" --prefix --stream;    is "$(lines "$p/a" 11 "$p/b" 2 "$p/c" 3)"
    ctl get "$p/" --prefix --min-mod-rev "$((first + 1))" --max-mod-rev "$((first + 2))"
    is "$(lines "$p/b" 2 "$p/c" 3)"
    ctl get "$p/" --prefix --max-create-rev "$first" --print-value-only
    is 11
fi
ctl get "$p/a" --rev 999999999;         refused 1 'etcdserver: mvcc: required revision is a future revision'
ctl put;                                refused 128 ''
ctl_in 'from stdin' put "$p/stdin";     is OK
ctl get "$p/stdin" --print-value-only;  is 'from stdin'

# ---- delete
ctl del "$p/stdin";                     is 1
ctl del "$p/stdin";                     is 0
ctl put "$p/d/1" x;                     is OK
ctl put "$p/d/2" y;                     is OK
ctl del "$p/d/1" --prev-kv;             is "$(lines 1 "$p/d/1" x)"
ctl put "$p/d/1" x;                     is OK
ctl del "$p/d/" --prefix --prev-kv;     is "$(lines 2 "$p/d/1" x "$p/d/2" y)"
ctl get "$p/d/" --prefix;               is ""
ctl put "$p/d/1" x;                     is OK
ctl put "$p/d/2" y;                     is OK
if [ "$minor" -ge 6 ]; then
    ctl del --range "$p/d/1" "$p/d/2";  is 1
else
    ctl del "$p/d/1" "$p/d/2";          is 1
fi
ctl get "$p/d/" --prefix --print-value-only
is y

# ---- txn: three blocks on stdin, divided by blank lines
ctl_in "value(\"$p/a\") = \"11\"\nversion(\"$p/b\") = \"1\"\n\nput $p/a 12\nget $p/a\nget $p/b\n\nget $p/c\n\n" txn
is "$(lines SUCCESS "" OK "" "$p/a" 12 "" "$p/b" 2)"
ctl_in "value(\"$p/a\") = \"11\"\n\nput $p/a 13\n\nget $p/c\ndel $p/d/2\n\n" txn
is "$(lines FAILURE "" "$p/c" 3 "" 1)"
# (A lease compare makes every etcdctl panic before it sends anything; gopeer covers it.)
ctl_in "mod(\"$p/a\") > \"$first\"\ncreate(\"$p/a\") = \"$first\"\nver(\"$p/a\") > \"2\"\n\nget $p/a\n\n\n" txn
is "$(lines SUCCESS "" "$p/a" 12)"
ctl_in "create(\"$p/none\") = \"0\"\n\nput $p/new made\n\nget $p/none\n\n" txn
is "$(lines SUCCESS "" OK)"
ctl_in "create(\"$p/new\") < \"1\"\n\nput $p/new again\n\nget $p/new\n\n" txn
is "$(lines FAILURE "" "$p/new" made)"
ctl_in "\nput $p/t 1\nput $p/t 2\n\n\n" txn
refused 1 'etcdserver: duplicate key given in txn request'
ctl_in "\n\n\n" txn
has SUCCESS
ctl_in "nonsense\n\n\n\n" txn;          refused 3 ''

# ---- watch: each watcher writes to a file; the script waits for what it must say
watch_start() { # watch_start NAME ARGS…
    local name=$1
    shift
    "$ETCDCTL" --endpoints "$ENDPOINT" watch "$@" >"$work/$name" 2>"$work/$name.err" &
    echo $! >"$work/$name.pid"
}
watch_says() { # watch_says NAME TEXT: within 10 s the watcher has printed exactly this
    what="watch $1"
    for _ in $(seq 200); do
        [ "$(cat "$work/$1")" = "$2" ] && { checks=$((checks + 1)); return; }
        sleep 0.05
    done
    out=$(cat "$work/$1"); err=$(cat "$work/$1.err"); rc=-
    fail "expected the watcher to print: $2"
}
# TERM, because a background process of a script ignores INT from its birth.
watch_stop() { kill "$(cat "$work/$1.pid")" 2>/dev/null; wait "$(cat "$work/$1.pid")" 2>/dev/null; }

ctl put "$p/w/0" old -w json;           ok
from=$(number revision)
ctl put "$p/w/0" older;                 is OK
ctl del "$p/w/0";                       is 1
watch_start past "$p/w/" --prefix --rev "$from" --prev-kv
past="$(lines PUT "$p/w/0" old PUT "$p/w/0" old "$p/w/0" older DELETE "$p/w/0" older "$p/w/0" "")"
watch_says past "$past"
notify=""
[ "$minor" -ge 5 ] && notify=--progress-notify
watch_start bare "$p/w/0" --rev "$from" $notify
watch_says bare "$(lines PUT "$p/w/0" old PUT "$p/w/0" older DELETE "$p/w/0" "")"
# "From now" has no past to replay, so the writer repeats until the watcher is there.
watch_start now "$p/n/" --prefix
for i in $(seq 100); do
    ctl put "$p/n/x" "$i"
    [ -s "$work/now" ] && break
    sleep 0.05
done
seen=$(sed -n 3p "$work/now")
[ -n "$seen" ] || { what="watch now"; fail "the watcher saw nothing"; }
ctl put "$p/n/last" end;                is OK
expected=$(for k in $(seq "$seen" "$i"); do lines PUT "$p/n/x" "$k"; done; lines PUT "$p/n/last" end)
watch_says now "$expected"
watch_stop now; watch_stop past; watch_stop bare

# Interactive: two watches on one stream.
mkfifo "$work/lines"
"$ETCDCTL" --endpoints "$ENDPOINT" watch -i <"$work/lines" >"$work/inter" 2>"$work/inter.err" &
echo $! >"$work/inter.pid"
exec 9>"$work/lines"
echo "watch $p/i/ --prefix --rev $from" >&9
echo "watch $p/j --rev $from" >&9
ctl put "$p/i/1" one;                   is OK
watch_says inter "$(lines PUT "$p/i/1" one)"
ctl put "$p/j" two;                     is OK
watch_says inter "$(lines PUT "$p/i/1" one PUT "$p/j" two)"
watch_stop inter
exec 9>&-

# ---- leases
ctl lease grant 300;                    matches '^lease [0-9a-f]{16} granted with TTL\(300s\)$'
id=$(awk '{ print $2 }' <<<"$out")
ctl lease list;                         has "$id"; has 'found '
ctl put "$p/l/1" x --lease "$id";       is OK
ctl put "$p/l/2" y --lease "$id";       is OK
ctl get "$p/l/1" -w json;               has "\"lease\":$((16#$id))"
ctl lease timetolive "$id" --keys
matches "^lease $id granted with TTL\\(300s\\), remaining\\([0-9]+s\\), attached keys\\(\\[($p/l/1 $p/l/2|$p/l/2 $p/l/1)\\]\\)$"
ctl lease timetolive "$id"
matches "^lease $id granted with TTL\\(300s\\), remaining\\([0-9]+s\\)$"
ctl lease keep-alive "$id" --once;      is "lease $id keepalived with TTL(300)"
ctl put "$p/l/1" x2 --ignore-lease;     is OK
ctl put "$p/l/2" y2;                    is OK
ctl lease timetolive "$id" --keys;      has "attached keys([$p/l/1])"
ctl lease revoke "$id";                 is "lease $id revoked"
ctl get "$p/l/" --prefix;               is "$(lines "$p/l/2" y2)"
ctl lease revoke "$id";                 refused 1 'etcdserver: requested lease not found'
ctl lease timetolive "$id";             is "lease $id already expired"
ctl put "$p/l/3" z --lease "$id";       refused 1 'etcdserver: requested lease not found'
ctl lease grant 1;                      matches 'granted with TTL\([12]s\)'
short=$(awk '{ print $2 }' <<<"$out")
ctl put "$p/l/short" gone --lease "$short"
is OK
for _ in $(seq 150); do
    ctl get "$p/l/short"
    [ -z "$out" ] && break
    sleep 0.1
done
is ""
ctl lease timetolive "$short";          is "lease $short already expired"

# ---- lock and election, as scripts use them
ctl lock "$p/lock" -- sh -c "echo held \$ETCD_LOCK_KEY"
matches "^held $p/lock/[0-9a-f]+$"
ctl lock "$p/lock" -- sh -c 'exit 3'
[ "$rc" -ne 0 ] || fail "the command's failure was lost"
ctl get "$p/lock" --prefix;             is ""
"$ETCDCTL" --endpoints "$ENDPOINT" elect "$p/elect" me >"$work/elect" 2>&1 &
echo $! >"$work/elect.pid"
for _ in $(seq 100); do [ -s "$work/elect" ] && break; sleep 0.05; done
ctl get "$p/elect" --prefix --print-value-only
is me
kill "$(cat "$work/elect.pid")"; wait "$(cat "$work/elect.pid")" 2>/dev/null

# ---- maintenance
ctl endpoint health;                    ok
[[ "$out$err" == *"$ENDPOINT is healthy: successfully committed proposal: took ="* ]] ||
    fail "not healthy"
ctl endpoint status -w json;            has '"Endpoint":"'"$ENDPOINT"'"'; has '"leader":'
has '"dbSize":'; has '"raftTerm":'
matches '"version":"3\.[0-9]+\.[0-9]+'
ctl endpoint status -w table;           has 'RAFT TERM'
ctl member list -w json;                has '"peerURLs":'; has '"clientURLs":'; has '"ID":'
ctl member list;                        matches '^[0-9a-f]+, started, .*, (false|true)'
ctl member list -w table;               has 'PEER ADDRS'
ctl alarm list;                         is ""
ctl defrag;                             has 'Finished defragmenting etcd member['"$ENDPOINT"']'
ctl endpoint hashkv -w json;            has '"hash":'
hash=$(number hash)
ctl endpoint hashkv -w json;            has "\"hash\":$hash"

# ---- compaction
ctl get "$p/a" -w json;                 ok
now=$(number revision)
ctl put "$p/a" 14;                      is OK
ctl compaction "$now";                  is "compacted revision $now"
ctl compaction "$now";                  refused 1 'etcdserver: mvcc: required revision has been compacted'
ctl compaction 999999999;               refused 1 'etcdserver: mvcc: required revision is a future revision'
ctl get "$p/a" --rev "$((now - 1))";    refused 1 'etcdserver: mvcc: required revision has been compacted'
ctl get "$p/a" --rev "$now" --print-value-only
is 12
"$ETCDCTL" --endpoints "$ENDPOINT" watch "$p/a" --rev 1 >"$work/out" 2>"$work/err" & pid=$!
wait $pid; rc=$?; what="watch of a compacted revision"
out=$(cat "$work/out"); err=$(cat "$work/err")
[ "$rc" -ne 0 ] || fail "expected a canceled watch"
[[ "$out$err" == *'watch was canceled (etcdserver: mvcc: required revision has been compacted)'* ]] ||
    fail "expected the reason"
watch_start again "$p/a" --rev "$((now + 1))"
watch_says again "$(lines PUT "$p/a" 14)"
watch_stop again
ctl compaction "$((now + 1))" --physical
is "compacted revision $((now + 1))"
ctl get "$p/" --prefix --keys-only --limit 1
has "$p/a"

# ---- leave nothing behind
ctl del "$p" --prefix;                  ok
echo "etcdctl $version: $checks answers right"
