#!/usr/bin/env bash
# All benchmarks with one command: builds the release binary and runs them side by side with Apache Kafka.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release -q -p penstock-agent
exec python3 tests/bench/run.py --bin "${CARGO_TARGET_DIR:-target}/release/penstock" "$@"
