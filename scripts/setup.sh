#!/usr/bin/env bash
# Installs what a target needs and the machine lacks: Debian packages by name, and a Python virtual environment.
#
#   scripts/setup.sh build|demo|test|bench|bench-store|bench-catalog|bench-peers
#
# Says which packages are missing. Needs root only when there are any. Fails with their names when they cannot be had,
# except for those that a target can do without (it then says what is used in their place).
set -euo pipefail
cd "$(dirname "$0")/.."

target="${1:-test}"

# Package names by what each is for.
build=(gcc libc6-dev make)
mount=(fuse3)
servers=(nginx-light)
# A small ext4 for disks that fail; a C++ compiler for libFuzzer.
tools=(libcap2-bin util-linux procps findutils mount e2fsprogs g++)
python=(python3-venv python3-torch python3-torchvision python3-pil python3-numpy)
images=(openclipart-png)
# Programs that are pointed at a mount.
programs=(rsync git tar)
# HDFS for tests/test_hdfs.py.
java=(openjdk-17-jre-headless maven)
# What bench-peers compares with; Maven fetches Alluxio's jars.
peers=(python3-venv nginx-light s3fs redis-server libfuse2 libfuse3-3 openjdk-17-jre-headless maven)

case "$target" in
    build) needed=("${build[@]}"); wanted=() ;;
    demo) needed=("${build[@]}" "${mount[@]}" python3); wanted=("${images[@]}") ;;
    test) needed=("${build[@]}" "${mount[@]}" "${servers[@]}" "${tools[@]}" "${python[@]}" "${images[@]}" "${programs[@]}" "${java[@]}"); wanted=() ;;
    bench) needed=("${build[@]}" "${mount[@]}" "${python[@]}"); wanted=() ;;
    bench-store) needed=("${build[@]}" python3); wanted=() ;;
    bench-catalog) needed=("${build[@]}" "${mount[@]}" findutils python3); wanted=() ;;
    bench-peers) needed=("${build[@]}" "${mount[@]}" "${peers[@]}"); wanted=() ;;
    *) echo "setup: unknown target '$target': expected build, demo, test, bench, bench-store, bench-catalog or bench-peers" >&2; exit 2 ;;
esac

# Azurite runs on Node. A node that did not come from Debian brings npm with it, and Debian's npm would not go beside it.
if [ "$target" = test ] && ! command -v npm >/dev/null; then
    needed+=(nodejs npm)
fi

is_installed() {
    dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed
}

missing_of() {
    local name
    for name in "$@"; do
        is_installed "$name" || echo "$name"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        sudo -n "$@"
    else
        return 1
    fi
}

updated=no
install_packages() {
    export DEBIAN_FRONTEND=noninteractive
    if [ "$updated" = no ]; then
        as_root apt-get update -qq || return 1
        updated=yes
    fi
    as_root apt-get install -y -qq --no-install-recommends "$@" >"$log" 2>&1 || { tail -n 15 "$log" >&2; return 1; }
}

if ! command -v dpkg-query >/dev/null; then
    echo "setup: this is not a Debian machine; install by hand what corresponds to: ${needed[*]} ${wanted[*]-}" >&2
    exit 1
fi
log="$(mktemp)"
trap 'rm -f "$log"' EXIT

mapfile -t missing < <(missing_of "${needed[@]}")
if [ "${#missing[@]}" -gt 0 ]; then
    echo "setup: installing for '$target': ${missing[*]}"
    if ! install_packages "${missing[@]}"; then
        echo "setup: these packages are missing and could not be installed (run as root: apt-get install ${missing[*]})" >&2
        exit 1
    fi
fi
if [ "${#wanted[@]}" -gt 0 ]; then
    mapfile -t missing < <(missing_of "${wanted[@]}")
    if [ "${#missing[@]}" -gt 0 ]; then
        echo "setup: installing for '$target': ${missing[*]}"
        install_packages "${missing[@]}" || echo "setup: ${missing[*]} cannot be had here; generated files take its place"
    fi
fi

if ! command -v cargo >/dev/null; then
    echo "setup: cargo is missing: install Rust 1.95 or newer" >&2
    exit 1
fi

# The virtual environment stands on Debian's own python3, the only one that sees python3-torch.
if [ "$target" = test ] || [ "$target" = bench ] || [ "$target" = bench-peers ]; then
    stamp=.venv/forebay-requirements.txt
    if ! cmp -s tests/requirements.txt "$stamp"; then
        echo "setup: making .venv"
        rm -rf .venv
        /usr/bin/python3 -m venv --system-site-packages .venv
        .venv/bin/pip install --quiet --disable-pip-version-check -r tests/requirements.txt
        cp tests/requirements.txt "$stamp"
    fi
fi
# Servers for tests that the registries of other languages have. One that cannot be had fails the tests that need it, by name.
if [ "$target" = test ]; then
    if ! cmp -s tests/servers/package.json .cache/servers/azurite/package.json.done; then
        echo "setup: fetching Azurite (npm)"
        rm -rf .cache/servers/azurite
        mkdir -p .cache/servers/azurite
        cp tests/servers/package.json .cache/servers/azurite/
        if npm install --prefix .cache/servers/azurite --silent --no-audit --no-fund --no-package-lock >"$log" 2>&1; then
            cp tests/servers/package.json .cache/servers/azurite/package.json.done
        else
            tail -n 5 "$log" >&2
            echo "setup: Azurite cannot be had here; tests/test_azure.py will fail" >&2
        fi
    fi
    if ! cmp -s tests/servers/hdfs.pom.xml .cache/servers/hdfs/pom.xml; then
        echo "setup: fetching HDFS (Maven, 90 MB)"
        rm -rf .cache/servers/hdfs
        mkdir -p .cache/servers/hdfs
        if mvn -B -q -f tests/servers/hdfs.pom.xml dependency:copy-dependencies -DoutputDirectory="$PWD/.cache/servers/hdfs/lib" >"$log" 2>&1; then
            cp tests/servers/hdfs.pom.xml .cache/servers/hdfs/pom.xml
        else
            tail -n 5 "$log" >&2
            echo "setup: HDFS cannot be had here; tests/test_hdfs.py will fail" >&2
        fi
    fi
fi
# Programs of the peers, apart from what tests use. A peer that cannot be had is a row of its own that says so.
if [ "$target" = bench-peers ]; then
    stamp=.cache/peers/venv/forebay-requirements.txt
    if ! cmp -s scripts/peers/requirements.txt "$stamp"; then
        echo "setup: making .cache/peers/venv"
        rm -rf .cache/peers/venv
        /usr/bin/python3 -m venv .cache/peers/venv
        .cache/peers/venv/bin/pip install --quiet --disable-pip-version-check -r scripts/peers/requirements.txt
        cp scripts/peers/requirements.txt "$stamp"
    fi
    if ! cmp -s scripts/peers/alluxio.pom.xml .cache/peers/alluxio/pom.xml; then
        echo "setup: fetching Alluxio's jars (212 MB)"
        rm -rf .cache/peers/alluxio
        mkdir -p .cache/peers/alluxio
        # Two bindings of slf4j clash: one stays away.
        if mvn -B -q -f scripts/peers/alluxio.pom.xml dependency:copy-dependencies -DexcludeArtifactIds=log4j-slf4j-impl \
            -DoutputDirectory="$PWD/.cache/peers/alluxio/lib" >"$log" 2>&1; then
            cp scripts/peers/alluxio.pom.xml .cache/peers/alluxio/pom.xml
        else
            tail -n 5 "$log" >&2
            rm -rf .cache/peers/alluxio
            echo "setup: Alluxio's jars cannot be had here; its rows will say so" >&2
        fi
    fi
fi
# Mounts take requests over io_uring where the kernel has it enabled; tests and figures are of both ways.
parameter=/sys/module/fuse/parameters/enable_uring
case "$target" in test | bench | bench-catalog | bench-peers) mounts=yes ;; *) mounts=no ;; esac
if [ "$mounts" = yes ] && [ -e "$parameter" ] && [ "$(cat "$parameter")" = N ]; then
    if as_root sh -c "echo Y > $parameter" 2>/dev/null; then
        echo "setup: switched on FUSE over io_uring ($parameter)"
    else
        echo "setup: FUSE over io_uring stays off ($parameter): mounts are tested over /dev/fuse alone" >&2
    fi
fi
echo "setup: '$target' has what it needs"
