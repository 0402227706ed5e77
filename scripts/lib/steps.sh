# Shared by scripts/test, scripts/check and scripts/fuzz; sourced, never run.
#
# A step is a function `step_NAME`. `run_steps` runs those it is given in order, each with its output in
# .tools/logs/NAME.log, prints one line per step, shows the end of the log of a step that failed, and goes on: one
# broken step should not hide what the others have to say. `summary` prints the last line and returns the verdict.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
TOOLS="$ROOT/.tools"
LOGS="$TOOLS/logs"
LOG_TAIL_LINES=60
# How a failed test, its panic and a failed command look in a log.
LOG_FAILURES='^test .* FAILED$|panicked at |^failures:$|^error(\[E[0-9]+\])?:|^FAILED '

# Logs are read in files and by machines.
export CARGO_TERM_COLOR=never
# Left on, NODE_OPTIONS or a proxy of the caller would get between the clients and the server under test.
unset NODE_OPTIONS PYTHONPATH PYTHONHOME

passed_steps=()
failed_steps=()
left_out_steps=()
notes=()

say() { printf '%s\n' "$*"; }

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 2
}

have() { command -v "$1" >/dev/null 2>&1; }

# Kept for the end, next to the summary: a number worth reading or the reason why something was left out.
note() { notes+=("$*"); }

# bounded MINUTES COMMAND...: a step that hangs must fail while there is still time to say so.
bounded() {
    local minutes=$1
    shift
    timeout --kill-after=30 "${minutes}m" "$@" || {
        local status=$?
        [[ $status -ne 124 && $status -ne 137 ]] || say "no result within $minutes minutes: $*"
        return "$status"
    }
}

# stamped NAME FILE... : true if NAME was last completed with exactly these files (and this tree, and this machine).
stamp_of() {
    local name=$1
    shift
    (cd "$ROOT" && { uname --machine; pwd; sha256sum "$@"; }) | sha256sum | cut --delimiter=' ' --fields=1
}
stamped() {
    local name=$1 file="$TOOLS/stamps/$1"
    [[ -f $file && $(<"$file") == "$(stamp_of "$@")" ]] || return 1
    say "$name: nothing to do"
}
stamp() {
    mkdir -p "$TOOLS/stamps"
    stamp_of "$@" >"$TOOLS/stamps/$1"
}

# run_step NAME: runs `step_NAME` in a subshell of its own with errexit on, so that steps cannot disturb each other.
run_step() {
    local name=$1 log="$LOGS/$1.log" started ended status seconds
    mkdir -p "$LOGS"
    rm --force "$LOGS/$name.notes" "$LOGS/$name.left_out"
    printf '%-22s ' "$name"
    started=$(date +%s%N)
    set +e
    (
        set -e
        cd "$ROOT"
        "step_${name//-/_}"
    ) >"$log" 2>&1 </dev/null
    status=$?
    set -e
    ended=$(date +%s%N)
    seconds=$(((ended - started) / 10000000))
    printf -v seconds '%d.%02d' $((seconds / 100)) $((seconds % 100))
    if [[ $status -eq 0 && -f $LOGS/$name.left_out ]]; then
        left_out_steps+=("$name")
        printf 'NOT RUN %9s s\n' "$seconds"
    elif [[ $status -eq 0 ]]; then
        passed_steps+=("$name")
        printf 'ok      %9s s\n' "$seconds"
    else
        failed_steps+=("$name")
        printf 'FAILED  %9s s   (exit status %d, log %s)\n' "$seconds" "$status" "${log#"$ROOT"/}"
        # cargo names a failed test far above the end: what failed is said first, wherever it stands in the log.
        if grep --quiet --extended-regexp "$LOG_FAILURES" "$log"; then
            say "----- what failed -----"
            grep --extended-regexp --after-context=4 "$LOG_FAILURES" "$log" | head --lines="$LOG_TAIL_LINES"
        fi
        say "----- the last $LOG_TAIL_LINES lines -----"
        tail --lines="$LOG_TAIL_LINES" "$log"
        say "----- end of ${log#"$ROOT"/} -----"
    fi
    # A step runs in a subshell and leaves its notes in a file.
    if [[ -f $LOGS/$name.notes ]]; then
        local line
        while IFS= read -r line; do note "$name: $line"; done <"$LOGS/$name.notes"
    fi
}

# remark NAME TEXT: said by the step NAME to the reader of the summary.
remark() {
    say "$2"
    printf '%s\n' "$2" >>"$LOGS/$1.notes"
}

# leave_out NAME TEXT: said by the step NAME when it has not done what it is for; it is neither passed nor failed.
leave_out() {
    remark "$1" "NOT RUN: $2"
    : >"$LOGS/$1.left_out"
}

failed() {
    local name
    for name in "${failed_steps[@]}"; do [[ $name != "$1" ]] || return 0; done
    return 1
}

run_steps() {
    local name need blocked
    for name in "$@"; do
        blocked=
        for need in $(needs_of "$name"); do
            if failed "$need"; then blocked=$need; fi
        done
        if [[ -n $blocked ]]; then
            failed_steps+=("$name")
            printf '%-22s NOT RUN              (needs %s, which failed)\n' "$name" "$blocked"
        else
            run_step "$name"
        fi
    done
}

# The last line is read by machines: steps passed and failed, nothing else on it.
summary() {
    local line
    say ""
    for line in "${notes[@]}"; do say "note: $line"; done
    [[ ${#left_out_steps[@]} -eq 0 ]] || say "not run: ${left_out_steps[*]}"
    [[ ${#failed_steps[@]} -eq 0 ]] || say "failed: ${failed_steps[*]}"
    say "${#passed_steps[@]} passed, ${#failed_steps[@]} failed"
    [[ ${#failed_steps[@]} -eq 0 ]]
}

# cargo_tool NAME VERSION: a cargo subcommand of exactly this version, built into .tools/cargo if it is not there.
PATH="$TOOLS/cargo/bin:$PATH"
cargo_tool() {
    local name=$1 version=$2
    if cargo install --list --root "$TOOLS/cargo" 2>/dev/null | grep --quiet --fixed-strings "$name v$version:"; then
        return 0
    fi
    say "installing $name $version to .tools/cargo; undo with: rm -rf .tools/cargo"
    bounded 30 cargo install --quiet --locked --root "$TOOLS/cargo" --version "$version" "$name"
}

# The static steps, the same for scripts/check and scripts/test.

step_fmt() { cargo fmt --all --check; }

step_clippy() { bounded 30 cargo clippy --workspace --all-targets --locked -- --deny warnings; }

step_rustdoc() { RUSTDOCFLAGS="--deny warnings" bounded 20 cargo doc --workspace --no-deps --locked; }

# The pure parts must build without an operating system in sight: no driver, no executor, no command line.
step_pure() { bounded 10 cargo check --no-default-features --lib --locked; }

# Every script parses; shellcheck has its say where it is installed.
step_scripts() {
    local script shell_scripts=()
    while IFS= read -r script; do
        if [[ $script == *.sh || $(head --lines=1 "$script") == '#!'*bash* ]]; then shell_scripts+=("$script"); fi
    done < <(git ls-files --cached --others --exclude-standard scripts .ci tests/clients kernel-tuning bench)
    for script in "${shell_scripts[@]}"; do bash -n "$script"; done
    say "${#shell_scripts[@]} shell scripts parse"
    if have shellcheck; then
        shellcheck --severity=warning "${shell_scripts[@]}"
    else
        say "shellcheck is not installed: left out"
    fi
    python3 - tests/clients/*.py tests/clients/python/*.py tests/clients/run tests/clients/conformance tests/clients/alive <<'PYTHON'
import ast, sys
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        ast.parse(file.read(), path)
print(len(sys.argv) - 1, "Python files parse")
PYTHON
}
