"""Runs one program of hooks.d: gives it a document, limits its time, and reads what it says.

How this works. The program's standard input is a file in memory, so that it may read it, leave it or close it. Its
standard output goes nowhere, for ours may be a host's or a JSON document. Its standard error is a pipe, of which the
end of what comes is remembered. It has a session, and so a process group, of its own, which is killed when its time is
up. When the program ends it is over: what it left in the background lives on, and is not waited for.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from lifecycle.errors import Unsupported
from lifecycle.linux.child_processes import ends_told

REMEMBERED = 16 << 10
"""Bytes of standard error, the last ones."""
LINES = 20
"""Lines of it that are logged, the last ones."""
_REASON_LINES = 3
_LONGEST_REASON = 500
_LOOK_EVERY = 0.05
"""Seconds after which a program is looked at that says nothing: it may have ended, and left one who could speak."""
_AT_ONCE = 1 << 20
"""Bytes: as much as a pipe can hold."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a hook ended.

    Attributes:
        problem: what went wrong, as what follows on its name (`failed with exit status 1`); None if nothing.
        lines: the last of what it said on standard error.
        objected: whether it ended by itself with an exit status that is not 0.
    """

    problem: str | None
    lines: tuple[str, ...] = ()
    objected: bool = False

    @property
    def objection(self) -> str | None:
        """The objection in its own words; None if it ended otherwise, or said nothing."""
        if not self.objected or not self.lines:
            return None
        return "; ".join(self.lines[-_REASON_LINES:])[-_LONGEST_REASON:].rstrip(".")


def run(path: str, given: bytes, env: Mapping[str, str], seconds: float) -> Ended:
    """Run the program and wait until it ends, no longer than so many seconds; then it is killed."""
    try:
        with ends_told():
            return _run(path, given, env, seconds)
    except Unsupported as error:
        return Ended(f"cannot be run: {error}")


def _run(path: str, given: bytes, env: Mapping[str, str], seconds: float) -> Ended:
    said = _Said()
    with os.fdopen(os.memfd_create("lifecycle-hook"), "w+b") as stdin:
        stdin.write(given)
        stdin.seek(0)
        try:
            process = subprocess.Popen(
                [path],
                stdin=stdin,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                env=env,
                cwd="/",  # so that what it leaves in the background keeps no file system busy
                start_new_session=True,
            )
        except OSError as error:
            return _not_run(path, error)
    with process:
        try:
            in_time = _wait(process, said, seconds)
        except BaseException:
            _kill(process)
            raise
        if not in_time:
            _kill(process)
        said.read(_descriptor(process))
    status = process.returncode
    if not in_time:
        return Ended(f"did not finish within {seconds:g} s and was killed", said.lines)
    if status < 0:
        return Ended(f"was ended by {_signal_name(-status)}", said.lines)
    if status > 0:
        return Ended(f"failed with exit status {status}", said.lines, objected=True)
    return Ended(None, said.lines)


def _not_run(path: str, error: OSError) -> Ended:
    if isinstance(error, FileNotFoundError):
        if not os.path.exists(path):
            return Ended(None)  # it was taken away meanwhile, so it has nothing to say
        return Ended("cannot be run: the interpreter in its first line is not there")
    return Ended(
        f"cannot be run: {error.strerror}; is its first line an interpreter, as #!/bin/sh?"
    )


def _wait(process: subprocess.Popen[bytes], said: _Said, seconds: float) -> bool:
    """Listen to the program until it ends; False if it takes longer than so many seconds."""
    # not time.monotonic: a frozen clock must not let it run for ever
    end = time.clock_gettime(time.CLOCK_MONOTONIC) + seconds
    stderr = _descriptor(process)
    os.set_blocking(stderr, False)
    speaks = select.poll()
    speaks.register(stderr, select.POLLIN)
    while process.poll() is None:
        left = end - time.clock_gettime(time.CLOCK_MONOTONIC)
        if left <= 0:
            return False
        if not speaks.poll(min(left, _LOOK_EVERY) * 1000) or said.read(stderr):
            continue
        speaks = select.poll()  # it will say nothing more; poll() of nothing is a pause
    return True


def _descriptor(process: subprocess.Popen[bytes]) -> int:
    assert process.stderr is not None  # noqa: S101 - it was asked for
    return process.stderr.fileno()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and what it has started; until it is waited for, its number is no one else's."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


class _Said:
    """The end of what a program said."""

    def __init__(self) -> None:
        self._end = b""

    def read(self, stderr: int) -> bool:
        """Read what can be had now; False if no more can come."""
        try:
            chunk = os.read(stderr, _AT_ONCE)
        except BlockingIOError:
            return True
        self._end = (self._end + chunk)[-REMEMBERED:]
        return bool(chunk)

    @property
    def lines(self) -> tuple[str, ...]:
        """The last lines that are not empty, as they can be printed anywhere."""
        text = self._end.decode(errors="backslashreplace")
        lines = [
            "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line).strip()
            for line in text.splitlines()
        ]
        return tuple([line for line in lines if line][-LINES:])
