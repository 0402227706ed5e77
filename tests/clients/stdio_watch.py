"""Stands between a stdio client and the server under test: `stdio_watch.py LOG COMMAND...`.

The server inherits the standard streams untouched; only its life is watched. One line per event goes to LOG:
`hangup` (the client closed its end), `sigterm SECONDS` (the client lost patience, that long after the hangup) and
`exit STATUS SECONDS`. A server that has to be told to end twice is the stdio transport's most reported fault, and no
client library complains about it.
"""

import ctypes
import os
import select
import signal
import subprocess
import sys
import time

PR_SET_PDEATHSIG = 1
POLL_MS = 10


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def main():
    log_path, *command = sys.argv[1:]
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    server = subprocess.Popen(command, preexec_fn=die_with_parent)
    hung_up_at = None

    def since():
        return 0.0 if hung_up_at is None else time.monotonic() - hung_up_at

    def on_sigterm(_number, _frame):
        os.write(log, f"sigterm {since():.3f}\n".encode())
        server.terminate()

    signal.signal(signal.SIGTERM, on_sigterm)
    # Python clients give a pipe, Node gives a socket pair: a hangup is POLLHUP on the one, POLLRDHUP on the other.
    poll = select.poll()
    poll.register(0, select.POLLRDHUP)
    while server.poll() is None:
        if hung_up_at is not None:
            time.sleep(POLL_MS / 1000)
        elif poll.poll(POLL_MS):
            hung_up_at = time.monotonic()
            os.write(log, b"hangup\n")
    os.write(log, f"exit {server.returncode} {since():.3f}\n".encode())
    sys.exit(server.returncode if server.returncode >= 0 else 128 - server.returncode)


if __name__ == "__main__":
    main()
