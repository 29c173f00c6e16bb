#!/bin/sh
# Builds the real etcd (server, etcdctl, etcdutl) that ringbolt is compared with, at the versions of
# go.mod, through the module proxy.
#   usage: build.sh OUT        the three programs are left in the folder OUT
# Exit 0: built (or already there). 77: cannot be built here, with the reason on stderr.
set -u

out="${1:-${OUT:-}}"
[ -n "$out" ] || { echo "usage: build.sh OUT" >&2; exit 2; }
mkdir -p "$out" || exit 1
out=$(cd "$out" && pwd) || exit 1
cd "$(dirname "$0")" || exit 1

want=$(sed -n 's|^[[:space:]]*go.etcd.io/etcd/server/v3 v\([0-9.]*\).*|\1|p' go.mod | head -n 1)
if [ -x "$out/etcdctl" ] && [ -x "$out/etcdutl" ] && [ -x "$out/etcd" ] &&
    "$out/etcd" --version 2>/dev/null | grep -q "^etcd Version: $want\$"; then
    exit 0
fi

command -v go >/dev/null 2>&1 || { echo "cannot run here: no go toolchain" >&2; exit 77; }
if ! reason=$(go mod download 2>&1); then
    echo "cannot run here: go modules are not available: $(echo "$reason" | tail -n 1)" >&2
    exit 77
fi
for program in etcdctl etcdutl server; do
    name=$program
    [ "$program" = server ] && name=etcd
    # Built beside the target and renamed, so that a run in parallel never starts half a program.
    go build -trimpath -buildvcs=false -o "$out/.$name.$$" "go.etcd.io/etcd/$program/v3" || exit 1
    mv "$out/.$name.$$" "$out/$name" || exit 1
done
