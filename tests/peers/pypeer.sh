#!/bin/sh
# Runs pypeer (the Python client etcd3) against the server at $ENDPOINT, in a virtual environment
# that is kept in $PYPEER_VENV (default: a folder of the user's cache) and made when missing.
# Exit 0: all answers right. 1: one was wrong. 77: cannot run here, with the reason on stderr.
set -u

[ -n "${ENDPOINT:-}" ] || { echo "ENDPOINT=host:port is not set" >&2; exit 2; }
cd "$(dirname "$0")/pypeer" || exit 1
venv="${PYPEER_VENV:-${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/ringbolt-pypeer}"
cannot() { echo "cannot run here: $*" >&2; exit 77; }

command -v python3 >/dev/null 2>&1 || cannot "no python3"
if ! cmp -s requirements.txt "$venv/made-of"; then
    rm -rf "$venv"
    python3 -m venv "$venv" >/dev/null 2>&1 || cannot "python3 has no venv module"
    if ! reason=$("$venv/bin/pip" install --quiet --disable-pip-version-check \
        -r requirements.txt 2>&1); then
        cannot "packages are not available: $(echo "$reason" | tail -n 1)"
    fi
    cp requirements.txt "$venv/made-of"
fi
exec "$venv/bin/python" -W ignore peer.py "$ENDPOINT"
