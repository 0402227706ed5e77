# A server that a script measures, one at a time; sourced, never run. It ends with the script at the latest.

server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true' EXIT

# start ADDRESS COMMAND...: runs a server and waits until it listens.
start() {
    local address=$1
    shift
    CORELANE_CONTROL_LISTEN=127.0.0.1:0 "$@" >/dev/null 2>&1 &
    server=$!
    for _ in $(seq 100); do
        sleep 0.1
        ! (exec 3<>"/dev/tcp/${address%:*}/${address#*:}") 2>/dev/null || return 0
    done
    echo "the server does not listen on $address" >&2
    return 1
}

stop() {
    kill "$server"
    wait "$server" || true
    server=
}
