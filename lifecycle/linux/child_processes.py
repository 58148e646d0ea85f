"""Makes sure that the kernel reports how a child process ended, whatever this process does with SIGCHLD."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lifecycle.errors import Unsupported


@contextmanager
def ends_told() -> Iterator[None]:
    """Let the kernel tell, inside the block, how children end.

    Where a process ignores their ends (SIGCHLD), and some daemons leave that to the programs that they call, it tells
    nothing, and each failure would be taken for a success.

    Raises:
        Unsupported: they are ignored, and this is not the main thread, which alone can change that.
    """
    if signal.getsignal(signal.SIGCHLD) is not signal.SIG_IGN:
        yield
        return
    if threading.current_thread() is not threading.main_thread():
        raise Unsupported(
            "this process ignores how those that it begins end (SIGCHLD), and only its main thread can change that"
        )
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
