"""Runs and ends a short process quickly, such as one that a host waits for at each start of a VM."""

from __future__ import annotations

import atexit
import gc
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn


def run(work: Callable[[], int]) -> NoReturn:
    """Do the work and end the process with the exit status that it returns.

    What was registered to be called at the end is called, and what was printed is written out, but the interpreter is
    not taken apart: that only frees memory, and takes longer than many modules took to load.
    """
    gc.disable()  # it ends sooner than there is garbage worth looking for
    status: list[int] = []
    atexit.register(_leave, status)  # the first one, so it is called after all others
    status.append(work())
    sys.exit(status[0])


def _leave(status: list[int]) -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            try:  # noqa: SIM105 - contextlib is slow to load
                stream.flush()
            except (OSError, ValueError):  # no one reads it, or it was closed
                pass
    # without a status, an exception that no one expected is on its way, and the interpreter's to tell
    if status:
        os._exit(status[0])
