#!/usr/bin/env bash
# Draws one flamegraph for each core thread of a corelane under load: `scripts/flamegraph.sh`.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"
source "$(dirname "${BASH_SOURCE[0]}")/lib/server.sh"
source "$(dirname "${BASH_SOURCE[0]}")/lib/samples.sh"

usage() {
    cat <<'USAGE'
usage: scripts/flamegraph.sh [--core N | --all] [--seconds S] [--wire WIRE] [--out DIR] [--binaries DIR]
       scripts/flamegraph.sh --pid PID [--core N | --all] [--seconds S] [--out DIR] [--binaries DIR]
       scripts/flamegraph.sh --difference BEFORE.folded AFTER.folded [--out DIR] [--binaries DIR]

Starts corelane with a core for each CPU, loads it in a closed loop, and samples its core threads by their CPU clock
with `perf`, which needs no hardware counters. Each thread gets a graph of its own samples and of nobody else's:
DIR/corelane-N.svg, the folded stacks beside it as DIR/corelane-N.folded, and DIR/index.html for all of them, with what
the samples were shared out among. Programs are profiled as they were released: stacks are found by their unwinding
tables, so they need no frame pointers.

  --core N        only core N
  --all           every core (the default)
  --seconds S     seconds of sampling (default 10)
  --wire WIRE     how calls travel: http-modern (the default), http-legacy, ndjson
  --pid PID       sample this corelane as it is, and start neither a server nor load
  --difference    draw what changed between two profiles, red where the second has more: DIR/difference.svg
  --out DIR       where the results go (default results/flamegraph)
  --binaries DIR  use corelane and corelane-bench in DIR, and build nothing
  --help          print this and end

Needs perf (Debian: apt install linux-perf) and, where the kernel asks for it, root. Ends with 0 if all threads were
drawn, 1 if one had no sample, 2 if something could not be run.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
cores=() seconds=10 wire=http-modern pid='' before='' after='' out=results/flamegraph binaries=''
while [[ $# -gt 0 ]]; do
    case $1 in
    --core) cores+=("${2:?--core wants a number}") && shift ;;
    --all) cores=() ;;
    --seconds) seconds=${2:?--seconds wants a number} && shift ;;
    --wire) wire=${2:?--wire wants http-modern, http-legacy or ndjson} && shift ;;
    --pid) pid=${2:?--pid wants the id of a process} && shift ;;
    --difference)
        before=${2:?--difference wants two files of folded stacks}
        after=${3:?--difference wants two files of folded stacks}
        shift 2
        ;;
    --out) out=${2:?--out wants a directory} && shift ;;
    --binaries) binaries=${2:?--binaries wants a directory} && shift ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
    shift
done

# fail TEXT: it could not be run.
fail() {
    echo "flamegraph.sh: $*" >&2
    exit 2
}

if [[ -z $binaries ]]; then
    build_release || exit 2
    binaries=$RELEASE
fi

if [[ -n $before ]]; then
    "$binaries/corelane-bench" flame --difference "$before" "$after" --out "$out" || exit 2
    echo "$out/difference.svg" >&2
    exit 0
fi

can_sample || exit 2
work=$(mktemp --directory)
trap 'rm --recursive --force "$work"; [[ -z $server ]] || kill "$server" 2>/dev/null || true' EXIT

# Where the programs and the results are is no part of how they were made.
command="scripts/flamegraph.sh ${cores[*]/#/--core } --seconds $seconds"
[[ ${#cores[@]} -gt 0 ]] || command="scripts/flamegraph.sh --all --seconds $seconds"
server=
if [[ -n $pid ]]; then
    made_by=(--made-by "$command --pid PID")
else
    cpus=$(nproc)
    http=127.0.0.1:18808 lines=127.0.0.1:18809
    target=$http opening=()
    # A line is a call of a session, which has to be opened.
    [[ $wire != ndjson ]] || target=$lines opening=(--handshake)
    serve=(corelane serve --listen "$http" --tcp "$lines" --cores "$cpus")
    # Before and after what is sampled it has to be under load as well.
    load=(corelane-bench load --target "$target" --wire "$wire" --cpu "$((cpus - 1))" --warmup 1
        --seconds "$(awk "BEGIN { print $seconds + 2 }")" "${opening[@]}")
    # It listens for HTTP first.
    start "$lines" "$binaries/${serve[0]}" "${serve[@]:1}" || exit 2
    pid=$server
    "$binaries/${load[0]}" "${load[@]:1}" --server-pid "$pid" >"$work/load.json" &
    generator=$!
    sleep 2
    made_by=(--made-by "$command --wire $wire" --made-by "${serve[*]}" --made-by "${load[*]}")
fi
[[ -d /proc/$pid/task ]] || fail "there is no process $pid"
program=$(readlink "/proc/$pid/exe") || fail "which program process $pid runs may not be read"

# The thread of each core, as NAME ID. Two threads are called like a core: the one that has run is the core, the other
# is its executor's, for blocking calls that nobody makes (ARCHITECTURE.md, Threads).
threads=$(for task in "/proc/$pid"/task/*; do
    # One may end in between.
    name=$(cat "$task/comm" 2>/dev/null) && times=$(cat "$task/schedstat" 2>/dev/null) || continue
    [[ ! $name =~ ^corelane-[0-9]+$ ]] || echo "$name ${task##*/} ${times%% *}"
done | sort --key=1,1V --key=3,3nr | sort --key=1,1V --unique --stable)
[[ -n $threads ]] || fail "process $pid has no thread that is called like a core, corelane-N"

wanted=()
if [[ ${#cores[@]} -eq 0 ]]; then
    while read -r name id _; do wanted+=("$id=$name"); done <<<"$threads"
else
    for core in "${cores[@]}"; do
        id=$(awk -v name="corelane-$core" '$1 == name { print $2 }' <<<"$threads")
        [[ -n $id ]] || fail "there is no core $core; there are:" "$(awk '{ printf "%s ", $1 }' <<<"$threads")"
        wanted+=("$id=corelane-$core")
    done
fi

sample_threads "$seconds" "$(IFS=, && echo "${wanted[*]%%=*}")" "$work/samples.txt" || exit 2
if [[ -n $server ]]; then
    wait "$generator" || fail "the load ended with an error"
    grep --quiet '"errors": {}' "$work/load.json" ||
        fail "calls failed: $(grep --after-context=4 '"errors"' "$work/load.json")"
    stop
fi

flame=(flame --samples "$work/samples.txt" --program "${program% (deleted)}")
flame+=(--frequency "$SAMPLES_HZ" --seconds "$seconds" --out "$out" "${made_by[@]}")
for thread in "${wanted[@]}"; do flame+=(--thread "$thread"); done
status=0
"$binaries/corelane-bench" "${flame[@]}" || status=$?
[[ -e $out/index.html && $out/index.html -nt $work/samples.txt ]] || exit 2
echo "$out/index.html" >&2
exit "$status"
