#!/usr/bin/env bash
# All tests with one command: installs what they need by package name, builds, runs every part, ends with counts.
# A part whose tool can't be had is listed as skipped, by name and with the reason; it never counts as passed.
set -uo pipefail

usage() {
    cat <<'USAGE'
usage: tests/run.sh [--no-install] [--only PART]...

Runs all tests and ends with a line `N passed, N failed, N skipped`; exit code 1 if any failed.

  --no-install   use what is there; install nothing
  --only PART    only this part; may be given more than once (--list names them)
  --list         the parts, a line each
  --help         this text
USAGE
}

cd "$(dirname "$0")/.." || exit 2
ROOT=$PWD
TARGET=${CARGO_TARGET_DIR:-$ROOT/target}
STATE=${PENSTOCK_TEST_STATE:-$ROOT/target/test-state}
LOGS=$STATE/logs
PARTS=(lint rust simulation clients differential compaction cluster)
ONLY=()
INSTALL=1
while [ $# -gt 0 ]; do
    case $1 in
        --no-install) INSTALL=0 ;;
        --only) shift; ONLY+=("${1:?--only needs a part}") ;;
        --list) printf '%s\n' "${PARTS[@]}"; exit 0 ;;
        --help|-h) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
    shift
done
[ ${#ONLY[@]} -gt 0 ] || ONLY=("${PARTS[@]}")
for part in "${ONLY[@]}"; do
    [[ " ${PARTS[*]} " == *" $part "* ]] || { printf 'tests/run.sh: no part %s; there are: %s\n' "$part" "${PARTS[*]}" >&2; exit 2; }
done
mkdir -p "$LOGS"
export PENSTOCK_TEST_STATE=$STATE PENSTOCK_TEST_INSTALL=$INSTALL

passed=0 failed=0 skipped=0
say() { printf '\n== %s\n' "$*"; }
pass() { passed=$((passed + ${2:-1})); printf 'ok      %s\n' "$1"; }
fail() { failed=$((failed + ${2:-1})); printf 'FAILED  %s\n' "$1"; }
skip() { skipped=$((skipped + 1)); printf 'skipped %s: %s\n' "$1" "$2"; }
wanted() { local part; for part in "${ONLY[@]}"; do [ "$part" = "$1" ] && return 0; done; return 1; }

# Runs a command with its output in a log; shows the log's end if it fails.
logged() {
    local name=$1; shift
    if "$@" >"$LOGS/$name.log" 2>&1; then return 0; fi
    tail -n 60 "$LOGS/$name.log"
    return 1
}

# Adds up what `cargo test` prints. That a server is missing has been said before.
count_cargo() {
    local log=$1 results
    results=$(awk '/^test result:/ { p += $4; f += $6; i += $8 } END { print p + 0, f + 0, i + 0 }' "$log")
    read -r p f i <<<"$results"
    passed=$((passed + p)); failed=$((failed + f))
    [ "$i" -eq 0 ] || printf '%s tests are for running by hand (#[ignore])\n' "$i"
    grep -hE '^skipped: ' "$log" | grep -vE '^skipped: S3 suite' | sort -u | while read -r line; do printf '%s\n' "$line"; done
    skipped=$((skipped + $(grep -hE '^skipped: ' "$log" | grep -vE '^skipped: S3 suite' | sort -u | wc -l)))
    [ "$f" -eq 0 ]
}

# Adds up what a part of ours prints as its last line: `N passed, N failed, N skipped`.
count_part() {
    local name=$1 log=$LOGS/$1.log line
    line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
    if [ -z "$line" ]; then fail "$name ended without counts"; return; fi
    passed=$((passed + $(cut -d' ' -f1 <<<"$line")))
    failed=$((failed + $(cut -d' ' -f3 <<<"$line")))
    skipped=$((skipped + $(cut -d' ' -f5 <<<"$line")))
}

install_tools() {
    say 'installing what the tests need'
    if command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
        local missing=() package
        for package in kcat python3 python3-venv maven default-jre-headless nodejs npm golang-go curl; do
            case $package in
                python3-venv) python3 -c 'import ensurepip' 2>/dev/null || missing+=("$package") ;;
                maven) command -v mvn >/dev/null || missing+=("$package") ;;
                default-jre-headless) command -v java >/dev/null || missing+=("$package") ;;
                nodejs) command -v node >/dev/null || missing+=("$package") ;;
                golang-go) command -v go >/dev/null || missing+=("$package") ;;
                *) command -v "$package" >/dev/null || missing+=("$package") ;;
            esac
        done
        if [ ${#missing[@]} -gt 0 ]; then
            logged apt sh -c "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq ${missing[*]}" \
                || printf 'some Debian packages could not be installed; what needs them is skipped\n'
        fi
    fi
    if ! command -v minio >/dev/null && [ ! -x "$HOME/go/bin/minio" ] && command -v go >/dev/null; then
        logged minio-install go install github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c \
            || printf 'MinIO could not be installed; what needs it is skipped\n'
    fi
}

part_lint() {
    say 'formatting, lints, crate edges'
    if logged fmt cargo fmt --all --check; then pass 'cargo fmt'; else fail 'cargo fmt'; fi
    # The simulation apart: together with it, the others would be looked at as it changes them.
    if logged clippy cargo clippy -q --workspace --exclude penstock-simulation --all-targets -- -D warnings \
        && logged clippy-simulation cargo clippy -q -p penstock-simulation --all-targets -- -D warnings; then
        pass 'cargo clippy'
    else
        fail 'cargo clippy'
    fi
    if ! command -v python3 >/dev/null; then
        skip 'the tables of docs/cost.md' 'no python3'
    elif logged cost tests/bench/cost.py --check; then
        pass 'the tables of docs/cost.md'
    else
        fail 'the tables of docs/cost.md'
    fi
}

start_minio() {
    local port=${PENSTOCK_TEST_S3_PORT:-19555}
    MINIO_PID_FILE=$STATE/minio.pid
    rm -rf "$STATE/minio"
    if ! logged minio minio/run.sh --background --pid-file "$MINIO_PID_FILE" --port "$port" --data-dir "$STATE/minio" \
        --bucket penstock-test; then
        return 1
    fi
    # What the script prints is the environment to be exported.
    eval "$(grep -E '^export ' "$LOGS/minio.log")"
    export PENSTOCK_TEST_S3_ENDPOINT="http://127.0.0.1:$port" PENSTOCK_TEST_S3_BUCKET=penstock-test
}

start_seaweedfs() {
    local status=0
    command -v python3 >/dev/null || { skip 'S3 suite on SeaweedFS' 'no python3'; return; }
    tests/s3/weed.py start --directory "$STATE/seaweedfs" --bucket penstock-test >"$LOGS/seaweedfs.log" 2>&1 || status=$?
    case $status in
        0) ;;
        3) skip 'S3 suite on SeaweedFS' "$(tail -n 1 "$LOGS/seaweedfs.log")"; return ;;
        *) fail 'SeaweedFS does not start'; tail -n 20 "$LOGS/seaweedfs.log"; return ;;
    esac
    PENSTOCK_TEST_SEAWEEDFS_ENDPOINT=$(sed -n "s/^export AWS_ENDPOINT_URL='\(.*\)'$/\1/p" "$LOGS/seaweedfs.log")
    export PENSTOCK_TEST_SEAWEEDFS_ENDPOINT
}

stop_stores() {
    if [ -f "$STATE/seaweedfs/pid" ]; then tests/s3/weed.py stop --directory "$STATE/seaweedfs"; fi
    if [ -n "${MINIO_PID_FILE:-}" ] && [ -f "$MINIO_PID_FILE" ]; then
        kill "$(cat "$MINIO_PID_FILE")" 2>/dev/null
        rm -f "$MINIO_PID_FILE"
    fi
}
trap stop_stores EXIT

# Says why the store on FoundationDB can't be tested here; fails if it can.
without_foundationdb() {
    local program
    for program in fdbserver fdbcli; do
        command -v "$program" >/dev/null || { printf 'no %s on PATH' "$program"; return 0; }
    done
    if ! printf 'int fdb_get_max_api_version(void); int main(void) { return fdb_get_max_api_version() < 730; }' \
        | cc -x c - -lfdb_c -o "$STATE/link-fdb" 2>/dev/null; then
        printf 'libfdb_c is not where the linker looks (LIBRARY_PATH)'
    elif ! "$STATE/link-fdb" 2>/dev/null; then
        printf 'libfdb_c 7.3 is not where the loader looks (LD_LIBRARY_PATH)'
    else
        return 1
    fi
}

# In a run of its own, so that no other part's binary is linked with libfdb_c.
rust_on_foundationdb() {
    local log=$LOGS/rust-foundationdb.log
    local metadata=(cargo test -p penstock-metadata --features foundationdb --no-fail-fast)
    {
        "${metadata[@]}" --lib --test conformance --test log --test model -- foundationdb conforms --show-output
        "${metadata[@]}" --test foundationdb --test foundationdb_threads -- --show-output
    } 2>&1 | tee "$log" | grep -E '^(test result|test .*FAILED|error|skipped: |    Running)'
    if ! grep -qE '^test result:' "$log"; then fail 'the tests on FoundationDB did not run'; tail -n 40 "$log"; return; fi
    if grep -qE '^error: could not compile' "$log"; then fail 'the tests on FoundationDB did not compile'; fi
    if grep -qE 'signal: [0-9]+' "$log"; then fail 'a test on FoundationDB was ended by a signal'; fi
    count_cargo "$log" || grep -A30 -E '^failures:' "$log" | tail -n 200
}

part_rust() {
    say 'Rust tests'
    if start_minio; then :; else skip 'S3 suite on MinIO' 'no MinIO'; fi
    start_seaweedfs
    cargo test --workspace --exclude penstock-simulation --no-fail-fast -- --show-output 2>&1 | tee "$LOGS/rust.log" | grep -E '^(test result|test .*FAILED|error|skipped: |    Running)' 
    if ! grep -qE '^test result:' "$LOGS/rust.log"; then fail 'the Rust tests did not run'; tail -n 40 "$LOGS/rust.log"; return; fi
    if grep -qE '^error: could not compile' "$LOGS/rust.log"; then fail 'the Rust tests did not compile'; fi
    local reason
    if reason=$(without_foundationdb); then
        sed -i "s|^skipped: foundationdb: .*|skipped: FoundationDB ($reason)|" "$LOGS/rust.log"
        count_cargo "$LOGS/rust.log" || grep -A30 -E '^failures:' "$LOGS/rust.log" | tail -n 200
    else
        # What this run skipped for want of the feature, the next one tests.
        sed -i '/^skipped: foundationdb: this build has no client/d' "$LOGS/rust.log"
        count_cargo "$LOGS/rust.log" || grep -A30 -E '^failures:' "$LOGS/rust.log" | tail -n 200
        rust_on_foundationdb
    fi
    stop_stores
}

# Fresh seeds for as long as PENSTOCK_SIMULATION_SECONDS says, the seeds that once found something, and the planted bugs.
part_simulation() {
    say simulation
    local seconds=${PENSTOCK_SIMULATION_SECONDS:-300} from simulate name
    # No seed is run twice, unless the clock is set back by months.
    from=$(( $(date +%s) * 100 ))
    # Not the release profile: seeds take as long in this one, and it is built in a third of the time.
    if ! logged simulation-build cargo build -q -p penstock-simulation; then
        fail 'the simulation does not build'
        return
    fi
    if logged simulation-tests cargo test -p penstock-simulation \
        && logged simulation-lives cargo test -p penstock-types --features simulation; then
        pass 'simulation: its own tests, one seed gives one history'
    else
        fail 'simulation: its own tests'
    fi
    simulate=$TARGET/debug/penstock-simulation
    run_simulation() {
        name=$1; shift
        if "$simulate" "$@" 2>"$LOGS/simulation.err" | tee "$LOGS/simulation.log" | grep -vE '^ *[0-9]'; test "${PIPESTATUS[0]}" -eq 0; then
            pass "simulation: $name ($(tail -n 1 "$LOGS/simulation.log"))"
        else
            fail "simulation: $name ($(tail -n 1 "$LOGS/simulation.log"))"
        fi
    }
    run_simulation "seeds from $from on" --time "$seconds" --from "$from"
    run_simulation 'seeds that once found something' --regressions
    run_simulation 'planted bugs' --suite
    # What is planted is in no binary that is shipped.
    if ! logged shipped cargo build -q --release; then
        fail 'the release build'
    elif "$simulate" --list-planted | cut -d' ' -f1 | grep -Fqf - <(strings -n 8 "$TARGET/release/penstock"); then
        fail 'the shipped binary knows planted bugs'
    else
        pass 'the shipped binary knows no planted bug'
    fi
}

# The parts with a program of their own; each prints its own lines and counts.
part_program() {
    local name=$1; shift
    say "$name"
    if ! command -v python3 >/dev/null; then skip "$name" 'no python3'; return; fi
    # The same selection as the Rust tests', so that nothing is built twice.
    if ! logged build cargo build -q --workspace --exclude penstock-simulation --bin penstock --example matrix-client; then
        fail "$name: the broker does not build"
        return
    fi
    PENSTOCK_BIN=$TARGET/debug/penstock PENSTOCK_MATRIX_CLIENT=$TARGET/debug/examples/matrix-client \
        python3 "tests/$name/run.py" 2>&1 | tee "$LOGS/$name.log"
    count_part "$name"
}

# A program of its own too, with a binary of its own: it is linked with libfdb_c, which the other parts' is not.
part_cluster() {
    say cluster
    if ! command -v python3 >/dev/null; then skip cluster 'no python3'; return; fi
    local reason
    reason=$(without_foundationdb) || reason=
    if [ -z "$reason" ] && ! logged build cargo build -q --workspace --bin penstock --example matrix-client; then
        fail 'cluster: the Rust clients do not build'
        return
    fi
    PENSTOCK_MATRIX_CLIENT=$TARGET/debug/examples/matrix-client \
        python3 tests/cluster/run.py --without-foundationdb "$reason" 2>&1 | tee "$LOGS/cluster.log"
    count_part cluster
}

[ "$INSTALL" -eq 1 ] && install_tools
for part in "${PARTS[@]}"; do
    wanted "$part" || continue
    case $part in
        lint) part_lint ;;
        rust) part_rust ;;
        simulation) part_simulation ;;
        cluster) part_cluster ;;
        *) part_program "$part" ;;
    esac
done
printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]
