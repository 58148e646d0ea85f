"""`run`: any command as the VM. Its volumes are started before the command and stopped after it.

How this works. The volumes start. The command runs until the last process that came of it has ended (processes.py). How
it ended is told by its exit status and, if it is QEMU, by its monitor (qmp.py); the volumes end accordingly
(engine/endings.py). Meanwhile this process holds the working images open too, so that no one takes them for left over
before the command has opened them; and from the start to the end no one else can stop them, and start them for another
VM.
"""

from __future__ import annotations

import functools
import logging
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress

from lifecycle.engine import batch
from lifecycle.engine.batch import Outcome
from lifecycle.engine.endings import Ended, Ending, end, finish
from lifecycle.engine.vm import VM
from lifecycle.errors import Holder, LifecycleError, NoSuchVolume, Refused
from lifecycle.hosts import processes

log = logging.getLogger("lifecycle.hosts.wrapped")

NOT_FOUND, NOT_EXECUTABLE = 127, 126
"""Exit statuses as shells give them."""

ON_FAILURE = {
    "commit": Ending.STOPPED,
    "revert": Ending.DISCARDED,
    "keep": Ending.SUSPENDED,
}
"""What a failure of the command can be made to mean for the volumes."""

Tell = Callable[[str], None]


def run(
    vm: VM,
    words: Sequence[str],
    *,
    discard: bool = False,
    on_failure: str | None = None,
    qmp: str | None = None,
    on_start: Callable[[Outcome], None] | None = None,
    on_end: Callable[[list[Ended]], None] | None = None,
    tell: Tell = log.info,
    stdout: int | None = None,
) -> tuple[list[Ended], int]:
    """Start the VM's volumes, run the command, end them; return what was done at the end, and the exit status.

    The volumes run until the last process that came of the command has ended. To be called in the main thread, which
    is the one that can wait for signals. A signal that comes while the volumes end takes effect when they have.

    Args:
        vm: the VM.
        words: the command; `{NAME}` in it becomes the path of the volume NAME's working image.
        discard: throw away what was written.
        on_failure: what to do if the command fails, one of `ON_FAILURE`; None: as `ending_of` says.
        qmp: the path of a socket where QEMU will have a monitor for this process alone.
        on_start: called once the volumes are started.
        on_end: called once they have ended, with what was done, before a signal that came meanwhile takes effect.
        tell: called with what a person wants to know meanwhile, a line each.
        stdout: a descriptor for the command's standard output, instead of this process's.

    Raises:
        LifecycleError: the volumes could not be started, and the command was not run.
    """
    _require_free(vm, qmp)
    volumes = vm.volumes
    if not volumes:
        raise NoSuchVolume(vm.name, vm.pool.path)
    for one in finish(volumes):
        if one.error is not None:
            raise one.error
    with ExitStack() as held:
        started = batch.start(volumes, then=functools.partial(_hold_open, held))
        paths = {volume.name: volume.path for volume, _change in started}
        filled = [fill_in(word, paths) for word in words]
        ending = Ending.FAILED  # until the command has run
        with processes.signals_held() as unheld:
            try:
                if on_start is not None:
                    on_start(started)
                status, crashed = _run_command(
                    filled, unheld, environment(paths), qmp, tell, stdout
                )
                if crashed is not None:
                    ending = ending_of(
                        status, crashed=crashed, discard=discard, on_failure=on_failure
                    )
            finally:
                ended = _end(vm, started, ending, held)
            if on_end is not None:
                on_end(ended)
    return ended, status


def ending_of(
    status: int, *, crashed: bool = False, discard: bool = False, on_failure: str | None = None
) -> Ending:
    """Return what it means for the volumes that the command ended.

    Args:
        status: its exit status.
        crashed: whether its guest crashed, or was cut off.
        discard: whether to throw away what was written.
        on_failure: what to do instead if the status is not 0 or the guest crashed, one of `ON_FAILURE`. None: the same
            as if it had not failed; but after a crash, if not to be discarded, what each volume's crash policy says.
    """
    if on_failure is not None and (status != 0 or crashed):
        return ON_FAILURE[on_failure]
    if discard:
        return Ending.DISCARDED
    return Ending.CRASHED if crashed else Ending.STOPPED


def fill_in(word: str, paths: Mapping[str, str]) -> str:
    """Return the word with each `{NAME}` replaced by the volume's path; other braces stay."""
    return re.sub(r"\{([^{}]*)\}", lambda match: paths.get(match[1], match[0]), word)


def environment(paths: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for the command: LIFECYCLE_ROOT for the volume `root`, and so on.

    Volumes whose names make the same variable (`a-1`, `a_1`) get none; `{a-1}` tells them apart.
    """
    variables = {name: "LIFECYCLE_" + re.sub(r"[^A-Z0-9]", "_", name.upper()) for name in paths}
    counts = Counter(variables.values())
    return {variables[name]: path for name, path in paths.items() if counts[variables[name]] == 1}


def _run_command(
    words: Sequence[str],
    unheld: set[int],
    variables: Mapping[str, str],
    qmp: str | None,
    tell: Tell,
    stdout: int | None,
) -> tuple[int, bool | None]:
    """Return the exit status, and whether the guest crashed; None for that if the command could not be run."""

    def tell_of_left_behind(left: Sequence[Holder]) -> None:
        tell(f"{words[0]} has ended; waiting for {', '.join(map(str, left))}")

    with _listening(qmp, tell) as crashed:
        try:
            status = processes.run(
                words,
                unheld,
                env={**os.environ, **variables},
                stdout=stdout,
                on_left_behind=tell_of_left_behind,
            )
        except OSError as error:
            tell(f"{words[0]}: {error.strerror}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE, None
        return status, crashed()


@contextmanager
def _listening(qmp: str | None, tell: Tell) -> Iterator[Callable[[], bool]]:
    """Listen to the monitor inside the block; it is given a function that tells whether the guest crashed."""
    if qmp is None:
        yield lambda: False
        return
    from lifecycle.hosts.qmp import Monitor  # noqa: PLC0415 - seldom needed

    def crashed() -> bool:
        verdict = monitor.verdict()
        if verdict.crashed is None:
            tell(f"nothing is known from QEMU's monitor at {qmp}: {verdict.text}")
        else:
            tell(f"the guest's end: {verdict.text}")
        return bool(verdict.crashed)

    with Monitor(qmp) as monitor:
        yield crashed


def _require_free(vm: VM, qmp: str | None) -> None:
    """Refuse a socket that another QEMU serves: its guest would be taken for this one's."""
    if qmp is None:
        return
    from lifecycle.hosts.qmp import is_served  # noqa: PLC0415 - seldom needed

    if is_served(qmp):
        raise Refused(
            vm.name,
            "not started",
            "run",
            f"{qmp} is another process's socket already; give each VM a monitor of its own",
        )


def _hold_open(held: ExitStack, started: Outcome) -> None:
    for volume, _change in started:
        with suppress(OSError):  # it need not be a file of ours to open, only the command's
            held.callback(os.close, os.open(volume.path, os.O_RDONLY | os.O_CLOEXEC))


def _end(vm: VM, started: Outcome, ending: Ending, held: ExitStack) -> list[Ended]:
    """End the volumes: those of this run, since their images are held open until the VM is locked."""
    with ExitStack() as lock:
        with suppress(LifecycleError, OSError):  # `end` tries again, and notes what fails
            lock.enter_context(vm.pool.locked(vm.name))
        held.close()
        return end([volume for volume, _change in started], ending)
