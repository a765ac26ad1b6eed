#!/usr/bin/env bash
# A MinIO server on loopback with one bucket, for development and tests. See --help.
set -euo pipefail

version="v0.0.0-20260212201848-7aac2a2c5b7c"
host="127.0.0.1"
port=9000
data_dir="./minio-data"
bucket="penstock"
background=false
pid_file=""
stop=false
install=true
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"

usage() {
    cat <<USAGE
Usage: minio/run.sh [options]

Starts MinIO on loopback, creates a bucket, waits until it serves, and prints
the variables that make Penstock use it:

    eval "\$(minio/run.sh --background --pid-file /tmp/minio.pid)"
    penstock dev --object-store "\$PENSTOCK_OBJECT_STORE"
    minio/run.sh --stop --pid-file /tmp/minio.pid

Without --background it runs until Ctrl-C.

Options:
  --host ADDRESS     listen on ADDRESS (default: $host)
  --port PORT        listen on that port (default: $port)
  --data-dir DIR     keep the data there, created if need be (default: $data_dir)
  --bucket NAME      the bucket to create (default: $bucket)
  --background       return once it serves; needs --pid-file
  --pid-file FILE    write the server's process id there
  --stop             end the server of --pid-file and return once it is gone
  --no-install       fail if minio isn't found, instead of installing it with go
  -h, --help         this text

The keys are AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY if both are set, else
penstock and penstock-local. minio is taken from PATH, from \$HOME/go/bin, or
installed there:
    go install github.com/minio/minio@$version
USAGE
}

fail() {
    echo "minio/run.sh: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case "$1" in
        --host | --port | --data-dir | --bucket | --pid-file)
            [ $# -ge 2 ] || fail "$1 needs a value"
            ;;&
        --host) host="$2"; shift ;;
        --port) port="$2"; shift ;;
        --data-dir) data_dir="$2"; shift ;;
        --bucket) bucket="$2"; shift ;;
        --pid-file) pid_file="$2"; shift ;;
        --background) background=true ;;
        --stop) stop=true ;;
        --no-install) install=false ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; fail "unknown option $1" ;;
    esac
    shift
done

# Ends process $1 and waits for it: politely first, by force after ten seconds.
end_process() {
    kill "$1" 2>/dev/null || return 0
    for _ in $(seq 100); do
        kill -0 "$1" 2>/dev/null || return 0
        sleep 0.1
    done
    kill -9 "$1" 2>/dev/null || true
}

if $stop; then
    [ -n "$pid_file" ] || fail "--stop needs --pid-file"
    [ -f "$pid_file" ] || fail "$pid_file isn't there"
    pid="$(cat "$pid_file")"
    [[ "$pid" =~ ^[0-9]+$ ]] || fail "$pid_file holds no process id"
    # A process id may have been given to somebody else since.
    if [ -r "/proc/$pid/comm" ] && [ "$(cat "/proc/$pid/comm")" != minio ]; then
        rm -f "$pid_file"
        fail "process $pid isn't minio any more"
    fi
    end_process "$pid"
    rm -f "$pid_file"
    exit 0
fi

[[ "$port" =~ ^[0-9]+$ ]] && [ "$port" -ge 1 ] && [ "$port" -le 65535 ] || fail "--port $port isn't a port"
if $background && [ -z "$pid_file" ]; then fail "--background needs --pid-file"; fi
command -v python3 >/dev/null || fail "python3 isn't installed"

find_minio() {
    command -v minio && return
    local candidate="${GOBIN:-${GOPATH:-$HOME/go}/bin}/minio"
    [ -x "$candidate" ] && echo "$candidate" && return
    [ -x "$HOME/go/bin/minio" ] && echo "$HOME/go/bin/minio"
}

minio="$(find_minio || true)"
if [ -z "$minio" ]; then
    $install || fail "minio isn't installed"
    command -v go >/dev/null || fail "minio isn't installed, and go, to install it, isn't either"
    echo "Installing MinIO $version with go (a few minutes) ..." >&2
    go install "github.com/minio/minio@$version" >&2 || fail "installing minio failed"
    minio="$(find_minio || true)"
    [ -n "$minio" ] || fail "minio isn't there after its installation"
fi

if [ -z "${AWS_ACCESS_KEY_ID:-}" ] || [ -z "${AWS_SECRET_ACCESS_KEY:-}" ]; then
    AWS_ACCESS_KEY_ID="penstock"
    AWS_SECRET_ACCESS_KEY="penstock-local"
fi
endpoint="http://$host:$port"
if (exec 3<>"/dev/tcp/$host/$port") 2>/dev/null; then fail "port $port is taken"; fi
mkdir -p "$data_dir"
log="$data_dir.log"

# In a session of its own, so that Ctrl-C reaches this script first and it can wait for a clean end. Started by
# setsid, it keeps the process id that is seen here.
MINIO_ROOT_USER="$AWS_ACCESS_KEY_ID" MINIO_ROOT_PASSWORD="$AWS_SECRET_ACCESS_KEY" MINIO_BROWSER=off \
    setsid "$minio" server --quiet --address "$host:$port" "$data_dir" </dev/null >"$log" 2>&1 &
pid=$!
[ -z "$pid_file" ] || echo "$pid" >"$pid_file"

stop_now() {
    trap - INT TERM EXIT
    echo "Stopping MinIO ..." >&2
    end_process "$pid"
    [ -z "$pid_file" ] || rm -f "$pid_file"
}
trap stop_now EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if ! python3 "$here/create_bucket.py" "$bucket" --endpoint "$endpoint" --region us-east-1 \
    --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY"; then
    tail -n 5 "$log" >&2
    exit 1
fi

cat <<EXPORTS
export AWS_ACCESS_KEY_ID='$AWS_ACCESS_KEY_ID'
export AWS_SECRET_ACCESS_KEY='$AWS_SECRET_ACCESS_KEY'
export AWS_REGION='us-east-1'
export AWS_ENDPOINT_URL='$endpoint'
export AWS_ALLOW_HTTP='true'
export PENSTOCK_OBJECT_STORE='s3://$bucket/dev'
EXPORTS
echo "MinIO listens on $endpoint, process $pid, log $log" >&2

if $background; then
    trap - INT TERM EXIT
    exit 0
fi
# Closed, so that a reader of the variables sees their end.
exec 1>&-
status=0
wait "$pid" || status=$?
trap - EXIT
[ -z "$pid_file" ] || rm -f "$pid_file"
tail -n 5 "$log" >&2
fail "MinIO ended by itself with status $status"
