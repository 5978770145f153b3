#!/bin/sh
# Writes constraints.txt: the newest version of every package that pyproject.toml allows, direct or not.
set -eu
cd "$(dirname "$0")/.."

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
pip() { "$folder/venv/bin/python" -m pip --disable-pip-version-check --quiet --quiet "$@"; }
pip install "pip==$PIP"
pip install --editable '.[llama]' --group lint --group test --group docs
{
    echo "# What a clone installs, pinned. Written by \`make constraints\`."
    pip freeze --exclude-editable --exclude pip --exclude setuptools
} >"$folder/constraints.txt"
mv "$folder/constraints.txt" constraints.txt
