# One command each: `make run`, `make test`, and the rest of `make help`.

CARGO ?= cargo
DATA_DIR ?= ./penstock-data

.PHONY: help run cluster test minio bench load fmt lint docs

help: ## Show this list
	@awk -F':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Build and start a broker on 127.0.0.1:9092, data in ./penstock-data
	$(CARGO) run --release --bin penstock -- dev --data-dir $(DATA_DIR)

cluster: ## Start three agents on FoundationDB and MinIO, until Ctrl-C
	tests/cluster/cluster.py start

test: ## Install what the tests need, start a MinIO, run all tests, print counts
	tests/run.sh

minio: ## Start a MinIO on loopback with a bucket for development
	minio/run.sh

load: ## Send load to a broker that runs already, for 30 seconds
	$(CARGO) run --release --bin penstock -- bench produce --seconds 30 --agent-http 127.0.0.1:9644

bench: ## Run all benchmarks, side by side with Apache Kafka
	tests/bench.sh

fmt: ## Format the code
	$(CARGO) fmt --all

lint: ## Check formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings

docs: ## Write the generated reference pages anew
	PENSTOCK_WRITE_DOCS=1 UPDATE_DOCS=1 $(CARGO) test -q -p penstock-config -p penstock-agent --lib -- up_to_date the_reference_page_says_what_is_served
