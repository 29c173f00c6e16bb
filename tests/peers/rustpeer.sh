#!/bin/sh
# Builds rustpeer (the Rust client etcd-client) and runs it against the server at $ENDPOINT.
# The client's build script needs protoc: $PROTOC, one in the path, or the one crates.io delivers.
# Exit 0: all answers right. 1: one was wrong. 77: cannot run here, with the reason on stderr.
set -u

[ -n "${ENDPOINT:-}" ] || { echo "ENDPOINT=host:port is not set" >&2; exit 2; }
cd "$(dirname "$0")/rustpeer" || exit 1
cannot() { echo "cannot run here: $*" >&2; exit 77; }
CARGO_TARGET_DIR="${RUSTPEER_TARGET:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/ringbolt-rustpeer}"
export CARGO_TARGET_DIR

command -v cargo >/dev/null 2>&1 || cannot "no cargo"
if ! reason=$(cargo fetch --locked 2>&1); then
    cannot "crates are not available: $(echo "$reason" | tail -n 1)"
fi
if [ -z "${PROTOC:-}" ]; then
    PROTOC=$(command -v protoc || cargo run --quiet --locked -p protoc) || cannot "no protoc"
fi
export PROTOC
cargo build --quiet --locked -p rustpeer || exit 1
"$CARGO_TARGET_DIR/debug/rustpeer" "$ENDPOINT"
