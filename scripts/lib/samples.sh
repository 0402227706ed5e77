# Shared by scripts that sample a program with `perf`; sourced, never run.

# Samples a second of CPU time: a prime, so as not to keep step with what the program does by the clock.
SAMPLES_HZ=499
# How much of the stack is kept with a sample, in bytes: with 16 KiB one core's stack in five is cut off.
SAMPLES_STACK=32768

# can_sample: says what to do if not.
can_sample() {
    local why
    if ! command -v perf >/dev/null; then
        echo "perf is not there; apt install linux-perf" >&2
        return 1
    fi
    if ! why=$(perf record --quiet --event cpu-clock --output /dev/null -- true 2>&1); then
        echo "perf may not sample here; as root it may, or with kernel.perf_event_paranoid at 1 or below. It says:" >&2
        echo "$why" >&2
        return 1
    fi
}

# sample_threads SECONDS ID[,ID]... FILE: what these threads do, as text, to FILE. Threads that they start are not
# sampled. The CPU clock needs no hardware counter, and stands still while a thread waits.
sample_threads() {
    local seconds=$1 threads=$2 file=$3 said room=()
    # Stacks are large, and perf may look late. Whoever is not root may lock half a MiB, which is what it takes itself.
    [[ $(id --user) -ne 0 ]] || room=(--mmap-pages 16M)
    perf record --quiet --event cpu-clock --freq "$SAMPLES_HZ" --no-inherit "${room[@]}" \
        --call-graph "dwarf,$SAMPLES_STACK" --tid "$threads" --output "$file.perf" -- sleep "$seconds" \
        >"$file.said" 2>&1 || { cat "$file.said" >&2 && return 1; }
    # perf would name what was inlined without its module, by which parts of the program are told apart:
    # `corelane-bench flame --program` finds it.
    perf script --no-inline --fields comm,pid,tid,time,event,ip,sym,dso --input "$file.perf" \
        >"$file" 2>>"$file.said" || { cat "$file.said" >&2 && return 1; }
    said=$(grep --ignore-case lost "$file.said" || true)
    [[ -z $said ]] || echo "perf could not keep up, and not every sample is there: $said" >&2
    rm --force "$file.perf" "$file.said"
}

# busiest_thread PID: the id of the thread that has run longest.
busiest_thread() {
    local task
    for task in "/proc/$1"/task/*; do
        # One may end in between.
        echo "$(cut --delimiter=' ' --fields=1 "$task/schedstat" 2>/dev/null || echo 0) ${task##*/}"
    done | sort --numeric-sort --reverse | head --lines=1 | cut --delimiter=' ' --fields=2
}
