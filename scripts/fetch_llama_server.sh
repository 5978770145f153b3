#!/bin/sh
# Fetches Debian's llama.cpp programs into DIR, without installing anything: scripts/fetch_llama_server.sh DIR
#
# llama.cpp is packaged from Debian's next release on; this unpacks it with every library it needs, libc included,
# beside the system, and writes DIR/bin/llama-server and others, which start them through that
# release's own loader.
# apt does the fetching and checks the signatures; the mirror and the keys are those this system already uses.
set -eu

suite=forky
packages="llama.cpp-tools llama.cpp-tools-extra"
programs="llama-server llama-quantize llama-imatrix llama-gguf-split"

fail() {
    echo "fetch_llama_server: $1" >&2
    exit 1
}

[ $# -eq 1 ] || fail "usage: $0 DIR"
mkdir -p "$1"
dir=$(cd "$1" && pwd)

present=yes
for program in $programs; do
    [ -x "$dir/bin/$program" ] || present=no
done
if [ "$present" = yes ] && version=$("$dir/bin/llama-server" --version 2>&1); then
    echo "present  $dir/bin/llama-server  $(echo "$version" | grep -m 1 version)"
    exit 0
fi
for tool in apt-get dpkg dpkg-deb; do
    command -v "$tool" >/dev/null || fail "$tool is missing; this works on Debian only"
done

codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
# The first source that serves this system's own release is a mirror of Debian.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(RELEASE)' 'Created-By: Packages' |
    awk -v release="$codename" '$2 == release { print $1; exit }')
[ -n "$mirror" ] || fail "no package source for $codename among this system's own"
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
[ -f "$keyring" ] || fail "$keyring is missing; it comes with the package debian-archive-keyring"

work=$dir/apt
mkdir -p "$work/lists/partial" "$work/archives/partial"
: >"$work/status"
echo "deb [signed-by=$keyring] $mirror $suite main" >"$work/sources.list"

# An empty status file makes apt resolve down to libc. A mirror may lag behind the dates of a suite in motion;
# the signature is checked all the same.
private_apt() {
    apt-get -q \
        -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
        -o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
        -o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" \
        -o Dir::State::Extended_States="$work/extended_states" \
        -o Dir::Cache::Archives="$work/archives" -o Dir::Cache::PkgCache= -o Dir::Cache::SrcPkgCache= \
        -o Acquire::Check-Valid-Until=false -o Acquire::Languages=none -o Acquire::Retries=3 \
        -o APT::Default-Release= -o APT::Sandbox::User= -o APT::Get::AllowUnauthenticated=false -o Debug::NoLocking=1 \
        -o DPkg::Post-Invoke= -o DPkg::Pre-Install-Pkgs= "$@"
}

log=$work/log
private_apt update >"$log" 2>&1 || fail "apt-get update of $suite failed: $(tail -n 1 "$log")"
# shellcheck disable=SC2086 # a list of words
private_apt install --yes --download-only --no-install-recommends $packages >>"$log" 2>&1 ||
    fail "apt-get could not fetch $packages of $suite: $(tail -n 1 "$log")"

rm -rf "$dir/root.new" "$dir/root"
mkdir "$dir/root.new"
for deb in "$work"/archives/*.deb; do
    dpkg-deb --extract "$deb" "$dir/root.new" || fail "could not unpack $deb"
done
mv "$dir/root.new" "$dir/root"
root=$dir/root

for program in $programs; do
    [ -x "$root/usr/bin/$program" ] || fail "$packages hold no usr/bin/$program"
done
loader=$(find "$root" -name 'ld-linux*.so.*' -type f | head -n 1)
[ -n "$loader" ] || fail "libc6 of $suite holds no loader"
backends=$(find "$root/usr/lib" -name 'libggml-cpu*.so' -printf '%h\n' | head -n 1)
[ -n "$backends" ] || fail "no ggml backend among the packages of $suite"
# ggml looks for its backends beside the executable, which is the loader here: so the loader moves in with them.
cp "$loader" "$backends/ld.so"

libraries=$(find "$root" -name '*.so*' -printf '%h\n' | grep -v "^$backends" | sort -u | paste -s -d :)
mkdir -p "$dir/bin"
for program in $programs; do
    cat >"$dir/bin/$program.new" <<WRAPPER
#!/bin/sh
exec "$backends/ld.so" --library-path "$libraries" "$root/usr/bin/$program" "\$@"
WRAPPER
    chmod 755 "$dir/bin/$program.new"
    mv "$dir/bin/$program.new" "$dir/bin/$program"
done

version=$("$dir/bin/llama-server" --version 2>&1) || fail "it does not start: $(echo "$version" | tail -n 1)"
rm -rf "$work"
echo "fetched  $dir/bin/llama-server  $(echo "$version" | grep -m 1 version)"
