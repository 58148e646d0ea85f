"""Signals that come while the command of `lifecycle run` runs: they are passed on to it, once."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from lifecycle import Pool, Volume
from support.command_line import SCRIPT, begin, finish
from support.disks import SIZE, disk, seen

WRITE = "printf written | dd of={root} conv=notrunc status=none"


@pytest.fixture
def root(xfs_pool: Pool) -> Volume:
    """The volume of the VM `ci`."""
    return xfs_pool.create_volume("ci/root", SIZE)


COUNTS = """
import os, signal, sys
counts = {"TERM": 0, "INT": 0, "HUP": 0, "QUIT": 0, "USR1": 0}
watched = [getattr(signal, f"SIG{name}") for name in counts]
signal.pthread_sigmask(signal.SIG_BLOCK, watched)  # so that none comes between two waits
os.write(1, b"ready\\n")
while not counts["USR1"]:
    got = signal.sigtimedwait(watched, 60)
    if got is None:
        sys.exit("nobody ended this")
    name = signal.Signals(got.si_signo).name.removeprefix("SIG")
    counts[name] += 1
    os.write(1, f"{name}\\n".encode())
sys.exit(10 * counts[sys.argv[1]] + counts["USR1"])
"""
"""A command that counts signals until it gets USR1, and exits with ten times the count of the one named."""


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT"])
def test_a_signal_is_passed_on_once(root: Volume, name: str) -> None:
    with begin("run", "ci", "--", sys.executable, "-c", COUNTS, name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert process.stdout.readline() == f"{name}\n"
        process.send_signal(signal.SIGUSR1)
        called = finish(process)
    assert called.status == 11
    assert root.state == "created"


def test_a_command_ended_by_a_signal_passed_on_is_committed(root: Volume) -> None:
    script = f"{WRITE}; echo ready; exec cat"
    with begin("run", "ci", "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        process.wait()  # its standard input is still open, so it is not that which ends it
        called = finish(process)
    assert called.status == 128 + signal.SIGTERM
    assert (root.state, seen(root)) == ("committed", disk(b"written"))


def left_behind(how: str, name: str) -> tuple[str, ...]:
    """Return a command that leaves one behind that counts signals: by `"$@" &`, and so on."""
    return "sh", "-c", how, "sh", sys.executable, "-c", COUNTS, name


def test_a_signal_reaches_all_that_the_command_left_behind(root: Volume) -> None:
    words = left_behind("""setsid sh -c '"$@" & wait' sh "$@" &""", "TERM")
    with begin("run", "ci", "--", *words) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.stderr.readline()
        assert "waiting for" in process.stderr.readline()
        process.terminate()
        assert process.stdout.readline() == "TERM\n"
        process.send_signal(signal.SIGUSR1)
        called = finish(process)
    assert (called.status, called.out) == (0, "USR1\n")
    assert root.state == "created"


def test_what_is_ignored_stays_ignored(root: Volume) -> None:
    # as under nohup: neither we nor the command hear of it
    words = ("nohup", SCRIPT, "run", "ci", "--", sys.executable, "-c", COUNTS, "HUP")
    with subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGUSR1)
        assert process.wait() == 1
    assert root.state == "created"


@contextmanager
def at_a_terminal(*words: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Begin a call of the command line at a terminal of its own; give the process, and our end of the terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        ["setsid", "--ctty", SCRIPT, *words], stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        try:
            yield process, ours
            process.wait()
        finally:
            os.close(ours)  # which ends them, had the test failed


def read_until(fd: int, *expected: bytes) -> bytes:
    """Read what is written to the terminal until all of this has come; return it."""
    read = b""
    while not all(one in read for one in expected):
        read += os.read(fd, 1024)
    return read


def test_what_a_terminal_sends_to_all_is_not_passed_on_again(root: Volume) -> None:
    words = ("run", "ci", "--", sys.executable, "-c", COUNTS, "INT")
    with at_a_terminal(*words) as (process, terminal):
        read_until(terminal, b"ready\r\n")
        # stopped meanwhile, so that a signal passed on would come second, and be counted
        process.send_signal(signal.SIGSTOP)
        os.write(terminal, b"\x03")  # Ctrl-C
        read_until(terminal, b"INT\r\n")
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGUSR1)
        read_until(terminal, b"nothing was written")
    assert process.returncode == 11
    assert root.state == "created"


def test_what_a_terminal_sends_reaches_what_has_left_it(root: Volume) -> None:
    words = ("run", "ci", "--", *left_behind('setsid "$@" &', "INT"))
    with at_a_terminal(*words) as (process, terminal):
        read_until(terminal, b"ready\r\n", b"waiting for")
        os.write(terminal, b"\x03")  # Ctrl-C
        read_until(terminal, b"INT\r\n")
        process.send_signal(signal.SIGUSR1)
        read_until(terminal, b"nothing was written")
    assert process.returncode == 0
    assert root.state == "created"
