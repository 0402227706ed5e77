#!/usr/bin/env bash
# Compares corelane with other people's servers and gateways, and judges every target: `scripts/peers.sh`.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/steps.sh"
source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

usage() {
    cat <<'USAGE'
usage: scripts/peers.sh [--kind K] [--peers LIST] [--rounds N] [--quick] [--out DIR] [--binaries DIR] [--help]
                        [-- OPTION of `corelane-bench peers`...]

Builds corelane and what is compared with it from this tree in release mode, installs the other peers, and runs them all
under the same load on the same two CPUs, round after round. Every round goes to DIR/KIND.json, and the targets with
their verdicts, and all figures, to DIR/KIND.md beside it.

  --kind K        serving-stateless, serving-sessions or forwarding, or several with commas (default: all three)
  --peers LIST    only these, with commas: corelane, rmcp-json, rmcp-stateless, rmcp-stateful, fastmcp, typescript,
                  nginx, floor; of gateways corelane, rmcp-proxy, fastmcp-proxy, contextforge, nginx, floor
  --rounds N      rounds (default 5; fewer leave everything undecided)
  --quick         one short round to see that all works, in some minutes; it decides nothing, and the slow peers get few
                  connections
  --out DIR       where the results go (default bench/results/peers; with --quick bench/results/quick/peers)
  --binaries DIR  use corelane, corelane-bench, rmcp-echo and rmcp-proxy in DIR, and build nothing
  --help          print this and end

Status: 0 every target is met, 1 one is missed or undecided, 2 an error.

What is installed comes from the package registries of Python, Node and Debian, in the versions that bench/peers/ pins,
to .tools/peers (about 700 MB; `rm -rf .tools/peers .tools/stamps/peers-*` undoes it). Only the peers that take part are
installed. Takes about an hour on a machine that does nothing else, building not included; most of it is ContextForge.
USAGE
}

PEERS="$TOOLS/peers"

# A failed command is an error, whatever its own status: 1 would say that a target is missed.
trap 'exit 2' ERR
set -o errtrace

# wanted KIND/PEER...: whether one of these takes part.
wanted() {
    local pair
    for pair in "$@"; do
        [[ -n $kinds && ,$kinds, != *,${pair%/*},* ]] || [[ -n $peers && ,$peers, != *,${pair#*/},* ]] || return 0
    done
    return 1
}

# python_peer NAME: an environment with what bench/peers/NAME.txt pins.
python_peer() {
    local name=$1 pins=bench/peers/$1.txt
    local inputs=("$pins" tests/clients/python/requirements.txt)
    ! stamped "peers-$name" "${inputs[@]}" || return 0
    installing "$name" "$pins"
    rm --recursive --force "${PEERS:?}/$name"
    python3 -m venv "$PEERS/$name"
    # Everything is pinned, so nothing has to be looked for.
    bounded 15 "$PEERS/$name/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
        --requirement "$pins"
    "$PEERS/$name/bin/python" -m pip check --disable-pip-version-check
    stamp "peers-$name" "${inputs[@]}"
}

typescript_peer() {
    local inputs=(bench/peers/ts_echo/package.json bench/peers/ts_echo/package-lock.json) architecture
    # The server imports packages by name, which Node looks up next to it and upwards.
    ln --symbolic --force --no-dereference ../../../.tools/peers/typescript/node_modules \
        bench/peers/ts_echo/node_modules
    ! stamped peers-typescript "${inputs[@]}" || return 0
    installing typescript bench/peers/ts_echo/package-lock.json
    case $(uname --machine) in
    x86_64) architecture=x64 ;;
    aarch64) architecture=arm64 ;;
    *) die "no Node package is pinned for $(uname --machine)" ;;
    esac
    rm --recursive --force "$PEERS/typescript"
    mkdir -p "$PEERS/typescript/bin"
    cp "${inputs[@]}" "$PEERS/typescript/"
    # No install scripts: what is used is prebuilt. Node itself is a package too, so the lock file pins it.
    bounded 15 npm ci --prefix "$PEERS/typescript" --ignore-scripts --no-audit --no-fund --loglevel=error
    ln --symbolic --force "../node_modules/node-linux-$architecture/bin/node" "$PEERS/typescript/bin/node"
    "$PEERS/typescript/bin/node" --version
    stamp peers-typescript "${inputs[@]}"
}

# Unpacked, not installed: it needs no root, and nothing of the system is changed.
nginx_peer() {
    local inputs=(bench/peers/nginx.txt) package
    ! stamped peers-nginx "${inputs[@]}" || return 0
    installing nginx bench/peers/nginx.txt
    have apt-get || die "nginx comes from Debian's packages, and there is no apt-get here: leave it out with --peers"
    package=$(<bench/peers/nginx.txt)
    rm --recursive --force "$PEERS/nginx"
    mkdir -p "$PEERS/nginx"
    (
        cd "$PEERS/nginx"
        bounded 5 apt-get download --quiet=2 "$package" ||
            die "$package cannot be downloaded: \`apt-get update\` may help, or \`apt-cache policy nginx\` tells what" \
                "there is to be pinned in bench/peers/nginx.txt"
        dpkg-deb --extract ./*.deb .
    )
    "$PEERS/nginx/usr/sbin/nginx" -v || die "nginx does not start: the libraries that it wants are not installed"
    stamp peers-nginx "${inputs[@]}"
}

installing() { say "installing $1 as $2 pins it to .tools/peers/$1; undo with: rm -rf .tools/peers/$1"; }

install_wanted() {
    mkdir -p "$PEERS"
    if wanted serving-stateless/fastmcp serving-sessions/fastmcp forwarding/fastmcp-proxy; then
        python_peer fastmcp
    fi
    ! wanted forwarding/contextforge || python_peer contextforge
    ! wanted serving-stateless/typescript serving-sessions/typescript || typescript_peer
    ! wanted serving-stateless/nginx serving-sessions/nginx forwarding/nginx || nginx_peer
}

main() {
    cd "$ROOT"
    kinds='' peers='' rounds='' quick='' out='' binaries='' options=()
    while [[ $# -gt 0 ]]; do
        case $1 in
        --kind | --peers | --rounds | --out | --binaries)
            [[ $# -ge 2 ]] || die "$1 wants a value; --help tells which"
            ;;&
        --kind) kinds=$2 && shift ;;
        --peers) peers=$2 && shift ;;
        --rounds) rounds=$2 && shift ;;
        --out) out=$2 && shift ;;
        --binaries) binaries=$2 && shift ;;
        --quick) quick=yes ;;
        --help) usage && exit 0 ;;
        --) shift && options+=("$@") && break ;;
        *) die "unknown argument $1; --help tells what there is" ;;
        esac
        shift
    done

    if [[ -n $quick ]]; then
        options+=(--seconds 0.5 --warmup 0.3 --rest-rounds 1 --silent 300 --longest 5)
        : "${rounds:=1}" "${out:=bench/results/quick/peers}"
    fi
    [[ -z $kinds ]] || options+=(--kind "$kinds")
    [[ -z $peers ]] || options+=(--peers "$peers")
    [[ -z $rounds ]] || options+=(--rounds "$rounds")
    [[ -z $out ]] || options+=(--output "$out")
    install_wanted >&2
    if [[ -z $binaries ]]; then
        build_release
        binaries=$RELEASE
    fi
    [[ -x $binaries/corelane-bench ]] || die "there is no $binaries/corelane-bench; without --binaries it is built"
    exec "$binaries/corelane-bench" peers --binaries "$binaries" "${options[@]}"
}

main "$@"
