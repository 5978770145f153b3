#!/bin/sh
# Installs the tools from PyPI that the tests and benchmarks compare with: scripts/peers.sh DIR
#
# Each has an environment of its own, DIR/NAME-VERSION, the versions those of benchmarks/lib/peers.py. A finished one is
# left as it is.
set -eu
cd "$(dirname "$0")/.."
[ $# -eq 1 ] || { echo "usage: $0 DIR" >&2; exit 1; }

for name in oras ramalama; do
    version=$(sed -n "s/^$(echo "$name" | tr '[:lower:]' '[:upper:]') = \"\(.*\)\"/\1/p" benchmarks/lib/peers.py)
    folder=$1/$name-$version
    if [ -f "$folder/done" ]; then
        continue
    fi
    echo "installing $name $version into $folder"
    "${PYTHON:-python3}" -m venv --clear "$folder"
    "$folder/bin/python" -m pip --disable-pip-version-check --quiet --quiet install "$name==$version"
    touch "$folder/done"
done
