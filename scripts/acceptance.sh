#!/usr/bin/env bash
# What the original promised for a phase, beside what was measured here: `scripts/acceptance.sh phase1`.
set -euo pipefail

source "$(dirname "${BASH_SOURCE[0]}")/lib/release.sh"

usage() {
    cat <<'USAGE'
usage: scripts/acceptance.sh phase1|phase2|phase3 [--measure] [--binaries DIR] [--help]

Prints the checklist, the scorecard and the master table of a phase: the original's figure, ours, its bound and margin,
the command that made it, the raw file. phase3 has the service levels of `scripts/nine_nines.sh` too.

  --measure       first run every command that the phase's figures come from (up to an hour)
  --binaries DIR  use the programs in DIR, and build nothing
  --help          print this and end

Ends with 0 if every figure is met, 1 if one is missed, else 2 if one was not measured (or by a run that was shortened).
What is held by a test is named with its command, and judged by `scripts/test`.
USAGE
}

cd "$(dirname "${BASH_SOURCE[0]}")/.."
phase='' measure='' binaries=''
while [[ $# -gt 0 ]]; do
    case $1 in
    phase1 | phase2 | phase3) phase=$1 && shift ;;
    --measure) measure=yes && shift ;;
    --binaries) binaries=${2:?--binaries wants a directory} && shift 2 ;;
    --help) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
done
[[ -n $phase ]] || { usage >&2 && exit 2; }

if [[ -z $binaries ]]; then
    build_release || exit 2
    binaries=$RELEASE
fi
bench=$binaries/corelane-bench
if [[ -n $measure ]]; then
    while read -r command; do
        echo "== $command" >&2
        status=0
        case $command in
        scripts/*) $command --binaries "$binaries" >&2 || status=$? ;;
        corelane-bench\ *) "$bench" ${command#corelane-bench } --server "$binaries/corelane" --quiet >&2 || status=$? ;;
        *) echo "not understood: $command" >&2 && exit 2 ;;
        esac
        # 1: a target was missed, which the table will say.
        [[ $status -le 1 ]] || exit 2
    done < <("$bench" acceptance "$phase" --commands)
fi
exec "$bench" acceptance "$phase"
