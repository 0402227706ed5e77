#!/usr/bin/env bash
# The service levels of the original, measured on the real server: `scripts/nine_nines.sh full`.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

usage() {
    cat <<'USAGE'
usage: scripts/nine_nines.sh full|baseline|overload [--scale X] [--out DIR] [--against DIR] [--binaries DIR] [--help]

Measures one objective after another, each in a server of its own (`corelane-bench nine-nines OBJECTIVE`):

  baseline   throughput, latency and stalls under 100,000 messages a second; on the page, from their own records, the
             registry's core operations (scripts/registry) and the network's rates (bench/scenarios/network_*.toml)
  overload   the control plane during a flood, over its socket and in process, 50,000 connections and their memory,
             availability beside clients that misbehave
  full       both

The records and their histograms go to DIR, and one page to DIR/nine_nines_PART.{md,html} (`corelane-bench levels`): the
service levels with their margins, what bounds the throughput, what changed, what to do first, and the tables and plots
of each record. Where DIR is below bench/results the records are added to the history, bench/results/history.csv.

  --scale X       multiply the times by X; what must hold stays as it is
  --out DIR       where the results go (default bench/results/nine_nines)
  --against DIR   results to compare with, a folder like bench/results (default: bench/results as it is before this run)
  --binaries DIR  use corelane, corelane-bench and registry-bench in DIR, and build nothing
  --help          print this and end

Ends with 0 if every service level is met and nothing that is steady is more than ten percent worse than before, 1 if
not, 2 if one could not be measured. Takes 7 minutes, building not included.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
baseline=(throughput latency stalls)
overload=(control-plane connections memory availability)
scale=1 out=bench/results/nine_nines against='' binaries='' part=''
while [[ $# -gt 0 ]]; do
    case $1 in
    full | baseline | overload) part=$1 && shift ;;
    --scale) scale=${2:?--scale wants a number} && shift 2 ;;
    --out) out=${2:?--out wants a directory} && shift 2 ;;
    --against) against=${2:?--against wants a directory} && shift 2 ;;
    --binaries) binaries=${2:?--binaries wants a directory} && shift 2 ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
done
case $part in
baseline) objectives=("${baseline[@]}") ;;
overload) objectives=("${overload[@]}") ;;
full) objectives=("${baseline[@]}" "${overload[@]}") ;;
*) usage >&2 && exit 2 ;;
esac

if [[ -z $binaries ]]; then
    build_release || exit 2
    binaries=$RELEASE
fi
have_programs "$binaries" corelane corelane-bench registry-bench || exit 2
[[ -z $against || -d $against ]] || { echo "--against $against: no such directory" >&2 && exit 2; }

mkdir -p "$out"
if [[ -z $against ]]; then
    # What this run writes over is what it is compared with.
    against=$(mktemp -d)
    trap 'rm -r "$against"' EXIT
    mkdir "$against/nine_nines"
    if [[ -d bench/results/nine_nines ]]; then
        find bench/results/nine_nines -maxdepth 1 -name '*.json*' -exec cp {} "$against/nine_nines" \;
    fi
fi
worst=0 records=()
for objective in "${objectives[@]}"; do
    status=0
    echo "== $objective" >&2
    "$binaries/corelane-bench" nine-nines "$objective" --server "$binaries/corelane" --scale "$scale" --quiet \
        --out "$out" --name "$objective" || status=$?
    [[ $status -le $worst ]] || worst=$status
    [[ $status -gt 1 ]] || records+=("$out/$objective.jsonl")
done
status=0
"$binaries/corelane-bench" levels "$part" --records "$out" --against "$against" || status=$?
[[ $status -le $worst ]] || worst=$status
if [[ $out == bench/results/* && ${#records[@]} -gt 0 ]]; then
    "$binaries/corelane-bench" history "${records[@]}" || exit 2
fi
exit "$worst"
