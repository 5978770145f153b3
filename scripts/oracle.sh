#!/bin/sh
# Measures what llama.cpp would allocate for 65 models, and writes tests/estimate/oracle.json and held_out.json:
# scripts/oracle.sh [DIR]
#
# llama.cpp is Debian's, as scripts/fetch_llama_server.sh unpacks it; its headers and the RPC backend are fetched beside it,
# and memory_oracle.cpp is compiled against them. Nothing is installed. DIR (default .tools/oracle) keeps what was fetched.
# Needs Debian, g++, and some minutes. The backend is the one for AVX2: which one it is decides on repacking only.
set -eu
cd "$(dirname "$0")/.."

suite=forky
dir=${1:-.tools/oracle}
python=${PYTHON:-.venv/bin/python}

fail() {
    echo "oracle: $1" >&2
    exit 1
}

command -v g++ >/dev/null || fail "g++ is missing"
mkdir -p "$dir"
dir=$(cd "$dir" && pwd)
scripts/fetch_llama_server.sh "$dir/llama"
libraries=$(find "$dir/llama/root" -name libllama.so.0 -printf '%h\n' | head -n 1)
[ -n "$libraries" ] || fail "no libllama among the packages"

if [ ! -f "$dir/dev/usr/include/llama.h" ]; then
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
        awk -v release="$codename" '$2 == release { print $1; exit }')
    [ -n "$mirror" ] || fail "no package source for $codename among this system's own"
    work=$dir/apt
    mkdir -p "$work/lists/partial" "$work/debs"
    : >"$work/status"
    echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" >"$work/sources.list"
    private_apt() {
        apt-get -q -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
            -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
            -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" \
            -o Dir::Cache::PkgCache= -o Dir::Cache::SrcPkgCache= -o Acquire::Check-Valid-Until=false \
            -o Acquire::Languages=none -o APT::Default-Release= -o APT::Sandbox::User= -o Debug::NoLocking=1 "$@"
    }
    private_apt update >"$work/log" 2>&1 || fail "apt-get update of $suite failed: $(tail -n 1 "$work/log")"
    (cd "$work/debs" && private_apt download libllama-dev libggml-dev libggml0-backend-rpc >>"$work/log" 2>&1) ||
        fail "apt-get could not fetch the headers: $(tail -n 1 "$work/log")"
    for deb in "$work"/debs/*.deb; do
        dpkg-deb --extract "$deb" "$dir/dev.new"
    done
    mv "$dir/dev.new" "$dir/dev"
    rm -rf "$work"
fi

g++ -O1 -std=c++17 -Wall -I "$dir/dev/usr/include" scripts/memory_oracle.cpp -o "$dir/memory_oracle.bin" \
    "$libraries/libllama.so.0" "$libraries/libggml.so.0" "$libraries/libggml-base.so.0" -Wl,--allow-shlib-undefined

mkdir -p "$dir/backends"
find "$dir/llama/root" "$dir/dev" \( -name libggml-cpu-haswell.so -o -name libggml-rpc.so \) \
    -exec cp {} "$dir/backends/" \;
loader=$(find "$dir/llama/root" -name ld.so -type f | head -n 1)
search=$(find "$dir/llama/root" -name '*.so*' -printf '%h\n' | sort -u | paste -s -d :)
cat >"$dir/memory_oracle" <<WRAPPER
#!/bin/sh
exec "$loader" --library-path "$search" "$dir/memory_oracle.bin" "\$@"
WRAPPER
chmod 755 "$dir/memory_oracle"

version=$("$dir/llama/bin/llama-server" --version 2>&1 | grep -m 1 version)
exec "$python" scripts/oracle_table.py "$dir/memory_oracle" "$dir/backends" "llama.cpp of Debian $suite, $version"
