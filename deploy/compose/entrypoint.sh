#!/bin/sh
# Runs penstock. With FDB_CLUSTER_FILE_CONTENTS it first writes a cluster file of this container's own, which FoundationDB's client
# may rewrite, and makes it the metadata store.
set -eu
if [ -n "${FDB_CLUSTER_FILE_CONTENTS:-}" ]; then
    file="$PWD/fdb.cluster"
    # A later one is the client's: the coordinators have changed.
    [ -s "$file" ] || printf '%s\n' "$FDB_CLUSTER_FILE_CONTENTS" > "$file"
    export PENSTOCK_METADATA="fdb:$file"
fi
exec penstock "$@"
