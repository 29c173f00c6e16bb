#!/bin/sh
# Builds gopeer (etcd's Go client) and runs it against the server at $ENDPOINT.
# Exit 0: all answers right. 1: one was wrong. 77: cannot run here, with the reason on stderr.
set -u

[ -n "${ENDPOINT:-}" ] || { echo "ENDPOINT=host:port is not set" >&2; exit 2; }
cd "$(dirname "$0")/gopeer" || exit 1
command -v go >/dev/null 2>&1 || { echo "cannot run here: no go toolchain" >&2; exit 77; }
if ! reason=$(go mod download 2>&1); then
    echo "cannot run here: go modules are not available: $(echo "$reason" | tail -n 1)" >&2
    exit 77
fi
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
go build -buildvcs=false -o "$work/gopeer" . || exit 1
"$work/gopeer" "$ENDPOINT"
