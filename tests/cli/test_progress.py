"""What shows progress, on a real terminal: however it ends, the cursor can be seen, and a copy does not end with it."""

from __future__ import annotations

import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import ioctl

import pytest

from lifecycle import Pool
from support.disks import SIZE, seen

HIDE_CURSOR = "\x1b[?25l"
BAR = "read standard input"
AT_ONCE = """
import sys
from lifecycle.cli import app, terminal
terminal.BAR_AFTER_SECONDS = 0.0
app.main(sys.argv[1:])
"""
"""The command line, but that it shows its bars at once."""


class Importing:
    """An import of what is given bit by bit, with its bar on a terminal of its own."""

    def __init__(self, pool: Pool, width: int, **settings: object) -> None:
        self.screen, theirs = pty.openpty()
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        reading, self.given = os.pipe()
        environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
        self.process = subprocess.Popen(
            [sys.executable, "-c", AT_ONCE, "import", "ci/root", "-", "--pool", pool.path],
            stdin=reading,
            stdout=subprocess.PIPE,
            stderr=theirs,
            env={**environment, "TERM": "xterm-256color"},
            **settings,  # type: ignore[call-overload]
        )
        os.close(theirs)
        os.close(reading)
        self.shown = ""

    def show_until(self, text: str) -> None:
        """Read the screen until this stands there."""
        while text not in self.shown:
            self.shown += os.read(self.screen, 65536).decode()

    def end(self) -> int:
        """Let it come to its end, and read what is shown until then."""
        os.close(self.given)
        self.given = -1
        try:
            while chunk := os.read(self.screen, 65536):
                self.shown += chunk.decode(errors="replace")
        except OSError:  # so Linux says that no one has the other end open
            pass
        return self.process.wait()


@contextmanager
def importing(pool: Pool, width: int = 80, **settings: object) -> Iterator[Importing]:
    """Begin an import, of which the first sector is given and its bar is shown."""
    pool.create_volume("ci/root", SIZE)
    begun = Importing(pool, width, **settings)
    try:
        os.write(begun.given, b"1" * 512)
        begun.show_until("512")
        yield begun
    finally:
        begun.process.kill()
        begun.process.communicate()
        for fd in (begun.given, begun.screen):
            if fd >= 0:
                os.close(fd)


def with_default_signals() -> None:
    """Let signals do what they do by themselves, however the tests were called."""
    for one in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(one, signal.SIG_DFL)


@pytest.mark.parametrize(
    "sent", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL]
)
def test_whatever_ends_it_the_cursor_can_be_seen(xfs_pool: Pool, sent: signal.Signals) -> None:
    with importing(xfs_pool, preexec_fn=with_default_signals) as begun:
        begun.process.send_signal(sent)
        status = begun.end()
    assert BAR in begun.shown
    assert HIDE_CURSOR not in begun.shown
    assert status in {-sent, 128 + sent}
    assert xfs_pool["ci/root"].state == "created"


def test_a_bar_is_gone_when_the_copy_is_done(xfs_pool: Pool) -> None:
    with importing(xfs_pool) as begun:
        os.write(begun.given, b"2" * 512)
        assert begun.end() == 0
    assert HIDE_CURSOR not in begun.shown
    assert "\x1b[2K" in begun.shown[begun.shown.rfind(BAR) :]


def test_a_copy_goes_on_without_the_terminal(xfs_pool: Pool) -> None:
    with importing(xfs_pool) as begun:
        os.close(begun.screen)
        begun.screen = -1
        os.write(begun.given, b"2" * 512)
        os.close(begun.given)
        begun.given = -1
        assert begun.process.wait() == 0
    assert seen(xfs_pool["ci/root"]) == b"1" * 512 + b"2" * 512


@pytest.mark.parametrize("width", [200, 80, 60, 40, 20])
def test_how_far_it_has_come_is_said_in_any_width(xfs_pool: Pool, width: int) -> None:
    with importing(xfs_pool, width) as begun:
        begun.end()
    assert "512/? bytes" in begun.shown
    assert (BAR[:5] in begun.shown) is (width >= 40)
