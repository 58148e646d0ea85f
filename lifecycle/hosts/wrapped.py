"""Any command as the VM: its volumes are started before it and stopped after it. Fits every hypervisor.

Why signals are hard here. The command must get every signal that is meant for it, once. A signal sent to this
process alone (`kill`, a service manager) is passed on; Ctrl-C at a terminal is sent by the kernel to all processes
in the foreground, the command among them, and must not be passed on again. Both are told apart by who sent it, which
only a waited-for signal says (sigwaitinfo). So signals are blocked from before the command is started, and waited
for together with its end.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from lifecycle.together import Outcome
from lifecycle.vm import VM

NOT_FOUND, NOT_EXECUTABLE, KILLED = 127, 126, 128
"""Exit statuses as shells give them; 128 and the signal's number for a command that a signal ended."""

_SENT_BY_KERNEL = 0x80
"""SI_KERNEL (sigaction(2)): a terminal's, sent to the whole foreground."""

PASSED_ON = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)


def run(
    vm: VM,
    words: Sequence[str],
    *,
    discard: bool = False,
    on_start: Callable[[Outcome], None] | None = None,
    stdout: int | None = None,
) -> tuple[Outcome, int]:
    """Start the VM's volumes, run the command, stop them; return what the stop did, and the exit status.

    Args:
        vm: the VM.
        words: the command; `{NAME}` in it becomes the path of the volume NAME's working image.
        discard: throw away what was written.
        on_start: called once the volumes are started.
        stdout: a descriptor for the command's standard output, instead of this process's.

    Raises:
        LifecycleError: the volumes could not be started, and the command was not; or not be stopped.
    """
    started = vm.start()
    if on_start is not None:
        on_start(started)
    paths = {volume.name: volume.path for volume, _change in started}
    try:
        status = _run_and_wait(
            [fill_in(word, paths) for word in words], {**os.environ, **environment(paths)}, stdout
        )
    finally:
        outcome = vm.stop(discard=discard)
    return outcome, status


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


def _run_and_wait(words: Sequence[str], env: Mapping[str, str], stdout: int | None) -> int:
    watched = {signal.SIGCHLD, *PASSED_ON}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, watched)
    try:
        with subprocess.Popen(
            words,
            env=env,
            stdout=stdout,
            preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, before),  # noqa: PLW1509
        ) as process:
            return _wait(process, watched)
    except OSError as error:
        sys.stderr.write(f"lifecycle: {words[0]}: {error.strerror}\n")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _wait(process: subprocess.Popen[bytes], watched: set[signal.Signals]) -> int:
    """Wait for the process's end, passing on what is sent to this one alone; return the exit status."""
    while (status := process.poll()) is None:
        got = signal.sigwaitinfo(watched)
        if got.si_signo != signal.SIGCHLD and got.si_code != _SENT_BY_KERNEL:
            process.send_signal(got.si_signo)
    return status if status >= 0 else KILLED - status
