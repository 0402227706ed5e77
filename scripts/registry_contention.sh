#!/usr/bin/env bash
# The registry's contention benchmark and its correctness suites: `scripts/registry_contention.sh [--scale N]`.
set -euo pipefail

usage() {
    cat <<'USAGE'
usage: scripts/registry_contention.sh [--scale N] [--iterations N] [--output DIR] [--binaries DIR]

Builds, runs the contention benchmark (10,000, 25,000, 50,000 and 100,000 entries, five iterations each) and the
registry's correctness suites, and writes registry_contention.csv with its summary and registry_correctness.txt to
bench/results. The medians are compared with bench/expected/registry_contention.csv.

  --scale N       only this scale
  --iterations N  iterations of each scale [default: 5]
  --output DIR    where the results go [default: bench/results]
  --binaries DIR  use registry-bench in DIR, and build nothing but the correctness suites
  --help          print this and end

Ends with 0 if everything is within its limits and as expected, 1 if something is not, 2 if it could not be run.
At most 15 minutes, on a machine that does nothing else.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
options=() output=bench/results binaries=
while [[ $# -gt 0 ]]; do
    case $1 in
    --scale | --iterations) options+=("$1" "${2:?$1 wants a number}") && shift ;;
    --output) output=${2:?--output wants a directory} && shift ;;
    --binaries) binaries=${2:?--binaries wants a directory} && shift ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

mkdir --parents "$output"
started=$SECONDS
within() {
    local left=$((15 * 60 - (SECONDS - started)))
    if ((left <= 0)); then
        echo "the 15 minutes are over before this: $*" >&2
        return 2
    fi
    timeout --signal=KILL "$left" "$@"
}

echo "building: minutes the first time, seconds after that" >&2
if [[ -z $binaries ]]; then
    within cargo build --release --locked --package registry-bench || exit 2
    binaries=${CARGO_TARGET_DIR:-target}/release
fi
within cargo test --locked --lib --no-run || exit 2

worst=0
within "$binaries/registry-bench" contention "${options[@]}" \
    --output "$output/registry_contention.csv" --expected bench/expected/registry_contention.csv || worst=$?
((worst <= 1)) || exit 2

log=$(mktemp)
trap 'rm --force "$log"' EXIT
within cargo test --locked --lib registry >"$log" 2>&1 || worst=1
grep --extended-regexp '^test ' "$log" | tee "$output/registry_correctness.txt" || worst=2
((worst == 0)) || tail --lines 100 "$log" >&2
echo "results: $output/registry_contention.csv, registry_contention.md, registry_correctness.txt; ends with $worst" >&2
exit "$worst"
