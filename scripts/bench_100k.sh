#!/usr/bin/env bash
# 100,000 connections on this host: set up, held, called, and judged: `scripts/bench_100k.sh`.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

usage() {
    cat <<'USAGE'
usage: scripts/bench_100k.sh [--era legacy|modern] [--scale X] [--server-cpu N] [--cpus LIST] [--processes N]
                             [--out DIR] [--binaries DIR] [--help]

Asks `corelane check` whether this host can hold 100,000 connections, starts the server on one CPU and the generator on
another, opens 100,000 connections (each with a session of its own, unless --era modern), calls 25,000 times a second
over all of them for ten minutes (50,000 messages a second), and judges: no error, p99 within 10 ms, p99.9 within 50 ms,
RSS within 4 KiB a session, 5 s of the server's CPU for all connects. The record, its histograms, tables and a page
with plots go to DIR/connections_100k[_modern].{jsonl,hlog,md,html}.

  --era ERA        legacy (default): initialize and a session each; modern: neither
  --scale X        multiply the times by X (0.1: a minute in place of ten); what must hold stays as it is
  --server-cpu N   the server's CPU (default 0)
  --cpus LIST      the generator's CPUs (default 1)
  --processes N    processes of the generator (default 1)
  --out DIR        where the results go (default bench/results/scenarios)
  --binaries DIR   use corelane and corelane-bench in DIR, and build nothing
  --help           print this and end

Ends with 0 if everything held, 1 if something did not, 2 if it could not be measured. Takes 11 minutes, building not
included.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
era=legacy scale=1 server_cpu=0 cpus=1 processes=1 out=bench/results/scenarios binaries=
while [[ $# -gt 0 ]]; do
    case $1 in
    --era) era=${2:?--era wants legacy or modern} && shift 2 ;;
    --scale) scale=${2:?--scale wants a number} && shift 2 ;;
    --server-cpu) server_cpu=${2:?--server-cpu wants a number} && shift 2 ;;
    --cpus) cpus=${2:?--cpus wants a list} && shift 2 ;;
    --processes) processes=${2:?--processes wants a number} && shift 2 ;;
    --out) out=${2:?--out wants a directory} && shift 2 ;;
    --binaries) binaries=${2:?--binaries wants a directory} && shift 2 ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
done
case $era in
legacy) scenario=connections_100k ;;
modern) scenario=connections_100k_modern ;;
*) usage >&2 && exit 2 ;;
esac

if [[ -z $binaries ]]; then
    build_release || exit 2
    binaries=$RELEASE
fi
have_programs "$binaries" corelane corelane-bench || exit 2

# As the scenario serves: six cores, so that each has room for its share within the limit of open files.
if ! CORELANE_CORES_LIST=6 "$binaries/corelane" check --connections 100000; then
    echo "this host cannot hold 100,000 connections; the lines above say what to change" >&2
    exit 2
fi

mkdir -p "$out"
status=0
"$binaries/corelane-bench" run "bench/scenarios/$scenario.toml" --server "$binaries/corelane" --scale "$scale" \
    --server-cpu "$server_cpu" --cpus "$cpus" --processes "$processes" --out "$out" || status=$?
if [[ $status -le 1 ]]; then
    "$binaries/corelane-bench" report "$out/$scenario.jsonl" --markdown "$out/$scenario.md" || exit 2
    cat "$out/$scenario.md"
fi
exit "$status"
