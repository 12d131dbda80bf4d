# make demo   the main job on the bundled clip, through a real loopback RTSP camera
# make test   every test, against real parts
# Each does all its set-up first, which takes seconds the second time. `make help` lists the rest.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
CACHE := $(or $(EYEWITNESS_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/eyewitness)
# Builds live outside the checkout: a fresh clone finds the dependencies already built.
export CARGO_TARGET_DIR ?= $(CACHE)/target
export PATH := $(HOME)/.cargo/bin:$(CACHE)/bin:$(CACHE)/lint-venv/bin:$(PATH)
BIN := $(CARGO_TARGET_DIR)/debug/eyewitness
SECS ?=
NAME ?=
# Where `make install` puts the program.
PREFIX ?= $(if $(filter 0,$(shell id -u)),/usr/local,$(HOME)/.local)
.PHONY: console fuzz help install setup setup-test setup-lint model build demo test test-chaos bench lint fmt docs release

help: ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: ## packages, Rust and ONNX Runtime
	@scripts/setup.sh run

setup-test: ## the same, and what the tests need: Kafka, kcat, two speech models, helm
	@scripts/setup.sh test

model: setup ## fetch and make a speech model that is not part of the program: NAME=whisper-base
	@scripts/models.sh $(NAME)

setup-lint: ## the same, and cargo-deny and typos
	@scripts/setup.sh lint

build: setup ## the binary
	@echo "[build] $(BIN) (a first build takes 5 to 10 minutes on 2 cores)"
	@cargo build --locked --quiet

install: build ## puts the program into PREFIX/bin: /usr/local, or ~/.local without root
	@install -D -m 755 "$(BIN)" "$(PREFIX)/bin/eyewitness"
	@echo "[install] $(PREFIX)/bin/eyewitness; \`eyewitness doctor\` tells what this machine has and lacks"

demo: build ## attach a real RTSP camera on loopback and watch what is seen (SECS=10 ends it sooner)
	@$(BIN) demo $(if $(SECS),--secs $(SECS))

test: setup-test ## every test, against real parts
	@echo "[test] building and running all tests"
	@cargo test --locked --workspace --no-fail-fast

test-chaos: setup-test ## long faults against a real Kafka, and a table of what arrived (about 15 minutes)
	@echo "[test-chaos] building; then one fault after the other"
	@EYEWITNESS_CHAOS=long cargo test --locked --test main -- --test-threads=1 chaos::

fuzz: setup ## fuzz the files of a spool and its records, FUZZ_SECS=120 each (wants a nightly toolchain)
	@command -v cargo-fuzz >/dev/null || cargo install --quiet --locked --version 0.13.2 cargo-fuzz
	@cd fuzz && for target in spool record; do echo "[fuzz] $$target"; \
	  CARGO_TARGET_DIR="$(CACHE)/fuzz-target" cargo +nightly fuzz run --fuzz-dir . $$target -- \
	  -max_total_time=$(or $(FUZZ_SECS),120) -max_len=65536; done

bench: build ## CPU, memory, delays, errors: pictures, speech, delivery, alerts, next to their peers where those are
	@tools/bench/bench.py "$(BIN)" $(BENCH_ARGS)
	@tools/bench/speech.py "$(BIN)" $(SPEECH_ARGS)
	@tools/bench/delivery.py "$(BIN)" $(DELIVERY_ARGS)
	@tools/bench/alerts.py "$(BIN)" $(ALERTS_ARGS)

lint: setup-lint ## rustfmt, clippy, cargo-deny, typos
	@cargo fmt --all --check
	@cargo clippy --locked --workspace --all-targets --quiet -- -D warnings
	@scripts/deny.sh
	@typos
	@echo "[lint] clean"

fmt: ## format the code
	@cargo fmt --all

console: ## fetch what the page is made of, check its types, run its unit tests, build it into src/http/page/dist
	@cd console && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error && npx tsc --noEmit && npm test && npm run build

docs: build ## write docs/ref anew from the configuration and wire types, and the chart's README (with helm-docs, where it is)
	@$(BIN) schema --write docs/ref
	@if command -v helm-docs >/dev/null; then helm-docs --chart-search-root charts/eyewitness --sort-values-order file --log-level error; fi

release: setup ## an optimised binary for packaging
	@cargo build --locked --release
