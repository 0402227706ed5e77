# A server that a script measures, one at a time; sourced, never run. It ends with the script at the latest.

server=
trap '[[ -z $server ]] || kill "$server" 2>/dev/null || true' EXIT

# start ADDRESS COMMAND...: runs a server and waits until it listens.
start() {
    local address=$1
    shift
    server=
    for _ in $(seq 100); do
        # One that could not listen has ended: the kernel lets go of a ring's listeners some time after its process.
        if [[ -z $server ]] || ! kill -0 "$server" 2>/dev/null; then
            # As under the ladder: a connection of the generator stands for many clients.
            CORELANE_LIMITS_MESSAGES_PER_S=0 CORELANE_CONTROL_LISTEN=127.0.0.1:0 "$@" >/dev/null 2>&1 &
            server=$!
        fi
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
