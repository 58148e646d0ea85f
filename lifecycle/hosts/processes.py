"""Runs a command and waits for it and for every process that it leaves behind.

How this works. Two things are hard.

Signals: the command must get every signal that is meant for it, once. A signal sent to this process alone (`kill`, a
service manager) is passed on; Ctrl-C at a terminal is sent by the kernel to all processes in the foreground, the
command among them, and must not be passed on again. Both are told apart by who sent it, which only a waited-for signal
says (sigwaitinfo). So signals are held back from before the command is started, and waited for together with its end.

Processes left behind: a hypervisor that goes into the background (`qemu -daemonize`) forks, begins a new session, and
lets the command end. This process is made the reaper of such orphans (PR_SET_CHILD_SUBREAPER): the kernel gives each to
it as a child. So as long as anything is left there is a child of this process, and SIGCHLD tells of its end.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from typing import NamedTuple

from lifecycle.errors import Holder

KILLED = 128
"""Added to the number of the signal that ended a command, as shells do."""

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)

_IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)
_SENT_BY_KERNEL = 0x80
"""SI_KERNEL (sigaction(2)): a terminal's, sent to the whole foreground."""
_LOOK_AGAIN_SECONDS = 5
_PR_SET_CHILD_SUBREAPER, _PR_GET_CHILD_SUBREAPER = 36, 37
"""From linux/prctl.h."""


def run(
    words: Sequence[str],
    unheld: set[int],
    *,
    env: Mapping[str, str],
    stdout: int | None = None,
    on_left_behind: Callable[[list[Holder]], None],
) -> int:
    """Run the command; return its exit status once it and every process that came of it has ended.

    To be called inside `signals_held`. Signals go to the command, and when that has ended to all it left behind; what
    came too late for these is dropped.

    Args:
        words: the command.
        unheld: the signals that the command is to have blocked, which are those from before `signals_held`.
        env: its environment.
        stdout: a descriptor for its standard output, instead of this process's.
        on_left_behind: told once, if the command has ended and others have not.

    Returns:
        its exit status; 128 and the signal's number if a signal ended it.

    Raises:
        OSError: it cannot be executed.
    """
    with _reaping_orphans():
        others = frozenset(_children(_all()))
        command = os.posix_spawnp(
            words[0],
            list(words),
            env,
            file_actions=[] if stdout is None else [(os.POSIX_SPAWN_DUP2, stdout, 1)],
            setsigmask=unheld,
            setsigdef=_IGNORED_BY_PYTHON,
        )
        return _wait(command, others, on_left_behind)


@contextmanager
def signals_held() -> Iterator[set[int]]:
    """Hold back, inside the block, the signals that `run` passes on; those that still wait at its end come then.

    The block is given the set of signals that were blocked before. What is ignored stays ignored, as `nohup` wants it.
    """
    held = _heeded()
    # where the end of children is ignored, the kernel does not tell of it
    children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *held})
    try:
        yield before
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        signal.signal(signal.SIGCHLD, children or signal.SIG_DFL)


def _heeded() -> set[signal.Signals]:
    """Return the signals to pass on that are not ignored."""
    return {one for one in PASSED_ON if signal.getsignal(one) is not signal.SIG_IGN}


def _drop_waiting() -> None:
    """Drop the signals that are held back and have come: who they were for has ended."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    while signal.sigtimedwait(blocked & _heeded(), 0) is not None:
        pass


def _wait(
    command: int, others: frozenset[int], on_left_behind: Callable[[list[Holder]], None]
) -> int:
    while not (ended := os.waitpid(command, os.WNOHANG))[0]:
        got = _next_signal()
        if got is not None and got.si_signo == signal.SIGCHLD:
            _reap({*others, command})
        elif got is not None:
            _pass_on(got, [command])
    left = _reap(others)
    if left:
        on_left_behind([Holder(one.name, pid) for pid, one in left.items()])
    while left:
        got = _next_signal()
        if got is not None and got.si_signo != signal.SIGCHLD:
            _pass_on(got, _family(others))
        left = _reap(others)
    _drop_waiting()
    status = os.waitstatus_to_exitcode(ended[1])
    return status if status >= 0 else KILLED - status


def _next_signal() -> signal.struct_siginfo | None:
    """Wait for a signal that is held back; None if none came for a while, and it is time to look again.

    For where this process has threads that do not hold signals back, the signal may have gone to one of them.
    """
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return signal.sigtimedwait(blocked & {signal.SIGCHLD, *PASSED_ON}, _LOOK_AGAIN_SECONDS)


def _reap(others: Set[int]) -> dict[int, _Process]:
    """Take note of the end of orphans; return those of this process's children, but for others, that live.

    To look takes a while, and an orphan may come in meanwhile: so only a look after which none had ended is good.
    """
    while True:
        found = {pid: one for pid, one in _children(_all()).items() if pid not in others}
        ended = [pid for pid in found if os.waitpid(pid, os.WNOHANG)[0]]
        if not ended:
            return found


def _pass_on(got: signal.struct_siginfo, pids: Sequence[int]) -> None:
    for pid in pids:
        try:
            # what the kernel sent has come to all of our process group already
            if got.si_code != _SENT_BY_KERNEL or os.getpgid(pid) != os.getpgrp():
                os.kill(pid, got.si_signo)
        except ProcessLookupError:
            continue  # it has ended meanwhile


# ---------------------------------------------------------------- what processes there are


class _Process(NamedTuple):
    """What /proc tells of a process: its command, and the process it is a child of."""

    name: str
    parent: int


def _all() -> dict[int, _Process]:
    found = {}
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
                # 42 (name) S 1 …; the name may hold anything, brackets too (proc(5))
                before, _, after = file.read().rpartition(")")
        except OSError:
            continue  # it has ended meanwhile
        found[int(pid)] = _Process(before.partition("(")[2], int(after.split()[1]))
    return found


def _children(processes: Mapping[int, _Process]) -> dict[int, _Process]:
    return {pid: one for pid, one in processes.items() if one.parent == os.getpid()}


def _family(others: frozenset[int]) -> list[int]:
    """Return this process's children, but for others, with all that came of them."""
    processes = _all()
    found = [pid for pid in _children(processes) if pid not in others]
    for parent in found:  # it grows meanwhile
        found += [pid for pid, one in processes.items() if one.parent == parent]
    return found


@contextmanager
def _reaping_orphans() -> Iterator[None]:
    libc = ctypes.CDLL(None)
    before = ctypes.c_int()
    libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)
