#!/usr/bin/env bash
# The service levels of the original, measured on the real server: `scripts/nine_nines.sh full`.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

usage() {
    cat <<'USAGE'
usage: scripts/nine_nines.sh full|baseline|overload [--scale X] [--out DIR] [--binaries DIR] [--help]

Measures one objective after another, each in a server of its own (`corelane-bench nine-nines OBJECTIVE`):

  baseline   throughput, latency and stalls under 100,000 messages a second
  overload   the control plane during a flood, 50,000 connections and their memory, availability beside clients that
             misbehave
  full       both

The records and their histograms go to DIR, tables with margins and one page with plots to
DIR/nine_nines_PART.{md,html}.

  --scale X       multiply the times by X; what must hold stays as it is
  --out DIR       where the results go (default bench/results/nine_nines)
  --binaries DIR  use corelane and corelane-bench in DIR, and build nothing
  --help          print this and end

Ends with 0 if every objective is met, 1 if one is not, 2 if one could not be measured. Takes 7 minutes, building not
included.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
baseline=(throughput latency stalls)
overload=(control-plane connections memory availability)
scale=1 out=bench/results/nine_nines binaries='' part=''
while [[ $# -gt 0 ]]; do
    case $1 in
    full | baseline | overload) part=$1 && shift ;;
    --scale) scale=${2:?--scale wants a number} && shift 2 ;;
    --out) out=${2:?--out wants a directory} && shift 2 ;;
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
have_programs "$binaries" corelane corelane-bench || exit 2

mkdir -p "$out"
worst=0 records=()
for objective in "${objectives[@]}"; do
    status=0
    echo "== $objective" >&2
    "$binaries/corelane-bench" nine-nines "$objective" --server "$binaries/corelane" --scale "$scale" --quiet \
        --out "$out" --name "$objective" || status=$?
    [[ $status -le $worst ]] || worst=$status
    [[ $status -gt 1 ]] || records+=("$out/$objective.jsonl")
done
if [[ ${#records[@]} -gt 0 ]]; then
    "$binaries/corelane-bench" report "${records[@]}" --html "$out/nine_nines_$part.html" \
        --markdown "$out/nine_nines_$part.md" || exit 2
    cat "$out/nine_nines_$part.md"
fi
exit "$worst"
