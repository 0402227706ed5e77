"""Processes of a test run: the server under test, free ports, and the certainty that nothing stays behind."""

import ctypes
import os
import pathlib
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
READY_SECONDS, SAYS_SECONDS, STOP_SECONDS, ORPHAN_SECONDS, EMPTY_SECONDS = 20, 90, 10, 2, 5
# What a client that is gone leaves none of, and sessions, which it has to end itself.
SESSIONS = {"sessions_open"}
LEVELS = {"connections_open", "calls_in_flight", "streams_open"} | SESSIONS


def adopt_orphans():
    """Makes this process the parent of whatever its children leave behind, so that it can be seen and ended."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)


def exit_on_sigterm():
    """Turns SIGTERM into an exit, so that `finally` gets to stop the server."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


class Server:
    """The server under test, in a process group of its own that ends with us, however we end."""

    def __init__(self, command, port, log):
        self.port, self.log_path = port, log
        words = [word.replace("{port}", str(port)) for word in shlex.split(command)]
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=lambda: ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL),
                # Health and metrics on a port of the kernel's choice: another corelane may be running here.
                env={"CORELANE_CONTROL_LISTEN": "127.0.0.1:0", **os.environ},
            )  # fmt: skip

    def alive(self):
        return self.process.poll() is None

    def wait_until_ready(self, says=None):
        """Until it listens, and, if it is to say something first, until that stands in its log."""
        self.wait(self.listens, f"listen on port {self.port}", READY_SECONDS)
        if says:
            self.wait(lambda: says in self.log_path.read_text(errors="replace"), f"say {says!r}", SAYS_SECONDS)

    def listens(self):
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def wait(self, holds, what, seconds):
        deadline = time.monotonic() + seconds
        while not holds():
            wrong = f"did not {what} within {seconds} s" if time.monotonic() > deadline else None
            if not self.alive():
                wrong = f"ended with status {self.process.returncode} at start"
            if wrong:
                sys.exit(f"the server {wrong}; its log, {self.log_path}:\n{tail(self.log_path)}")
            time.sleep(0.05)

    def levels(self):
        """By its own count, how much of each of `LEVELS` a corelane has; empty for a server that tells no address.

        A report is read while it is written: an address counts when what stands behind it is there. Others may write
        to the same log: it is the one that listens where clients are sent.
        """
        report = rf"^MCP over HTTP:  http://\S*:{self.port}/.*?^health, metrics: (http://\S+?)/healthz "
        told = re.search(report, self.log_path.read_text(errors="replace"), re.M | re.S)
        if not told:
            return {}
        address = told[1].partition("//")[2].partition("/")[0]
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=5) as page:
            samples = re.findall(r"^corelane_(\w+)\{core=\S+ (\d+)$", page.read().decode(), re.M)
        return {name: sum(int(value) for other, value in samples if other == name) for name in LEVELS}

    def left_behind(self, before, names):
        """What the server has more, of these, than `before` a client came that ended a moment ago."""
        deadline = time.monotonic() + EMPTY_SECONDS
        while (more := self.more_than(before, names)) and time.monotonic() < deadline:
            time.sleep(0.05)
        return [f"the server counts {count} more {name} than before the client came" for name, count in more]

    def more_than(self, before, names):
        levels = sorted((name, level) for name, level in self.levels().items() if name in names)
        # A server that had not told its address yet when `before` was taken had served nobody.
        return [(name, level - before.get(name, 0)) for name, level in levels if level > before.get(name, 0)]

    def stop(self):
        """None, or what was wrong with the way it ended."""
        if not self.alive():
            return f"ended by itself with status {self.process.returncode}"
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            return f"did not end within {STOP_SECONDS} s of SIGTERM"
        finally:
            kill_group(self.process.pid)
        return None if status in (0, -signal.SIGTERM) else f"ended with status {status} after SIGTERM"


def kill_group(leader):
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        pass


def tail(path, lines=25):
    return "\n".join(pathlib.Path(path).read_text(errors="replace").splitlines()[-lines:])


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def children(known):
    """Our children that we did not start: orphans of a client, which come to us because we are the subreaper."""
    found = []
    for entry in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        process = int(entry.parent.name)
        if int(fields[1]) == os.getpid() and process not in known:
            if fields[0] == "Z":
                os.waitpid(process, os.WNOHANG)
            else:
                found.append(process)
    return found


def orphans_after(known):
    """What a client left behind after a moment of grace, by command line; killed."""
    deadline = time.monotonic() + ORPHAN_SECONDS
    while (left := children(known)) and time.monotonic() < deadline:
        time.sleep(0.05)
    names = []
    for process in left:
        try:
            words = pathlib.Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        except (OSError, ChildProcessError):
            continue
        names.append(b" ".join(words).decode(errors="replace").strip())
    return names
