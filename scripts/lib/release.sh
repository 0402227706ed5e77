# Shared by scripts that measure; sourced, never run.

# Where the programs are after `build_release`.
RELEASE="${CARGO_TARGET_DIR:-target}/release"

# have_programs DIR NAME...: says which of them is not in DIR, and fails.
have_programs() {
    local folder=$1 name
    shift
    for name in "$@"; do
        if [[ ! -x $folder/$name ]]; then
            echo "$folder/$name is not there; without --binaries it is built" >&2
            return 1
        fi
    done
}

# Builds every program that is measured or measures. One selection for all scripts: cargo unifies features over what is
# selected, so another selection would build most dependencies again, and the programs with them.
build_release() {
    echo "building in release mode: minutes the first time, seconds after that" >&2
    cargo build --release --locked --workspace --bins --example conformance_server "$@"
}
