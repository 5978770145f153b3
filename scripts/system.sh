#!/bin/sh
# Brings the programs that the integration tests talk to: scripts/system.sh
#
# Debian's packages are installed when this runs as root; llama-server is unpacked into .tools without root.
# What cannot be had is named in one line, and the tests that need it are skipped with that reason.
set -eu
cd "$(dirname "$0")/.."

# package:program
wanted="docker-registry:docker-registry skopeo:skopeo umoci:umoci buildah:buildah podman:podman runc:runc docker.io:dockerd
zstd:zstd apache2-utils:htpasswd curl:curl strace:strace bubblewrap:bwrap"

missing=""
for pair in $wanted; do
    command -v "${pair#*:}" >/dev/null 2>&1 || missing="$missing ${pair%%:*}"
done

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "installing$missing"
        export DEBIAN_FRONTEND=noninteractive
        log=$(mktemp)
        trap 'rm -f "$log"' EXIT
        # Package lists may be missing or old: fetched only when an install shows that they are needed.
        # shellcheck disable=SC2086 # a list of words
        apt-get install --yes --no-install-recommends $missing >"$log" 2>&1 || {
            apt-get update >"$log" 2>&1 && apt-get install --yes --no-install-recommends $missing >"$log" 2>&1
        } || {
            tail -n 5 "$log" >&2
            echo "system: apt-get could not install$missing" >&2
            exit 1
        }
    else
        echo "missing:$missing (as root on Debian, \`make system\` installs them); tests that need them are skipped"
    fi
fi

if command -v apt-get >/dev/null 2>&1; then
    scripts/fetch_llama_server.sh .tools/llama ||
        echo "no llama-server was fetched; tests that need it are skipped, the embedded runtime is tested"
fi

scripts/peers.sh .tools ||
    echo "oras-py and RamaLama could not be installed; tests that need them are skipped"

scripts/tiny_models.sh .tools/tiny ||
    echo "no tiny models were made (see .tools/tiny/log); tests of other architectures are skipped"
