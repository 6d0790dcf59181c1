# Forebay: what there is to run. Every cargo call uses --release, so that nothing is built twice.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
PYTEST := .venv/bin/pytest
CASES ?= 10000
ROUNDS ?= 3
RESUME ?=

.PHONY: help setup build check lints unit test test-mount soak bench-mount bench-store bench-catalog bench-peers demo clean

# Says what begins and when, for whoever waits for a log.
say = @echo "== $$(date +%H:%M:%S) $@"

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

setup: ## Install what tests and benches need (Debian packages by name, a virtual environment)
	@scripts/setup.sh test

build: ## Build everything, tests too: with other features of the dependencies nothing would be shared
	$(say)
	$(CARGO) build --release --workspace --bins --tests --locked

lints:
	$(say)
	$(CARGO) fmt --all --check
	$(CARGO) fmt --manifest-path bench/store/Cargo.toml --check
	$(CARGO) clippy --release --workspace --all-targets --locked -- -D warnings

check: lints ## Format, lints, the fast tests beside the code, the tests of the house's shape
	$(CARGO) test --release --workspace --lib --bins --locked
	$(CARGO) test --release -p xtask --locked

unit:
	$(say)
	$(CARGO) test --release --workspace --locked

test: setup lints unit build test-mount ## Everything: check, all Rust tests, and the tests with real servers and real mounts

test-mount:
	$(say)
	$(PYTEST) tests

soak: setup build ## The same tests longer, with AddressSanitizer and fuzzing: three hours; RESUME=1 goes on where it stopped
	.venv/bin/python scripts/soak.py --cases $(CASES) --rounds $(ROUNDS) $(if $(RESUME),--resume)

bench-mount: ## Measure the mount against the local file system and plain downloads; writes bench/results/mount.json
	@scripts/setup.sh bench
	$(CARGO) build --release --locked -p forebay -p forebay-bench
	.venv/bin/python scripts/bench_mount.py

# A workspace and a lock file of its own keep foyer out of the house. Dependencies of crates/store that change are to be locked there
# too: cargo update --workspace --manifest-path bench/store/Cargo.toml
bench-store: ## Measure the page store against foyer and plain files; writes bench/results/store.json
	@scripts/setup.sh bench-store
	$(CARGO) build --release --locked --manifest-path bench/store/Cargo.toml --target-dir $(TARGET)
	$(CARGO) build --release --locked -p forebay-store --example ten_million
	python3 scripts/bench_store.py

bench-catalog: ## Measure the catalog with ten million names, and a directory of a million; writes bench/results/catalog.json
	@scripts/setup.sh bench-catalog
	$(CARGO) build --release --locked --workspace --bins --examples
	python3 scripts/bench_catalog.py

bench-peers: ## Measure the mount against Alluxio, JuiceFS, rclone, s3fs, weed mount (40 minutes; PEERS=a,b selects); writes bench/results/peers.json
	@scripts/setup.sh bench-peers
	$(CARGO) build --release --locked -p forebay -p forebay-bench -p forebay-proxy
	.venv/bin/python scripts/bench_peers.py

demo: ## Real files behind a slow origin: cold, hot, native, and what the origin was spared
	@scripts/setup.sh demo
	$(CARGO) build --release --locked -p forebay
	python3 scripts/demo.py

clean: ## Remove what was built and downloaded
	rm -rf target .venv .cache
