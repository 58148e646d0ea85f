"""A signal that comes while `lifecycle run` stops the volumes: the stop is finished first, then it takes effect."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from lifecycle import Pool, Volume
from lifecycle.errors import InUse
from lifecycle.hosts import wrapped
from support.command_line import call_apart
from support.disks import SIZE, disk, seen
from support.hook_programs import put

SIGNALS = ["TERM", "INT", "USR1"]
WRITE = "printf written | dd of={root} conv=notrunc status=none"


@pytest.fixture
def root(xfs_pool: Pool) -> Volume:
    """A volume that throws away what a crash leaves, and a disposable beside it, for which images are made ahead.

    So that a thread is begun at the start already that has them made.
    """
    template = xfs_pool.create_volume("template/root", SIZE)
    template.configure(ready=2)
    xfs_pool.create_volume("ci/data", source="template/root")
    root = xfs_pool.create_volume("ci/root", SIZE, on_crash="revert")
    root.configure(precache="always")
    return root


@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("hook", ["pre-write", "pre-commit", "post-commit"])
def test_a_signal_to_the_process_in_the_middle_of_the_stop(
    xfs_pool: Pool, root: Volume, hook: str, name: str
) -> None:
    put(Path(xfs_pool.path, "hooks.d"), hook, f"kill -{name} $PPID")
    called = call_apart("run", "ci", "--", "sh", "-c", WRITE)
    # it is told of, then the signal ends the process as it would have
    assert "lifecycle: ci/root: committed as 1\n" in called.err
    by_itself = -int(getattr(signal, f"SIG{name}"))
    assert called.status == (130 if name == "INT" else by_itself)
    assert root.state == "committed"
    assert seen(root) == disk(b"written")


AT_EACH_CHANGE = """
import os, signal, sys
from unittest import mock
from support.crash_injection import acting_before_each_change
from lifecycle import Pool
from lifecycle.subscribers import precaching
from lifecycle.hosts import wrapped

precaching.begin = lambda *_words, environment: None  # the thread is begun that has images made, and has none made
vm = Pool.open(sys.argv[1]).vm("ci")
root = vm.pool["ci/root"]
come, sent, changes, real = [], 0, 0, wrapped.end
signal.signal(signal.SIGTERM, lambda *_: come.append(str(root.state)))

def at_each_change():
    global changes
    if changes == sent:
        os.kill(os.getpid(), signal.SIGTERM)
    changes += 1
    assert come == [], f"it came at change {changes}"

def end(*words):
    with acting_before_each_change(at_each_change):
        return real(*words)

while changes >= sent:
    come, changes = [], 0
    with mock.patch.object(wrapped, "end", end):
        ended, status = wrapped.run(vm, ["sh", "-c", f"echo {sent} >> {{root}}"])
    assert (status, [one.error for one in ended]) == (0, [None, None])
    assert come == (["committed"] if changes > sent else [])
    sent += 1
assert precaching._beginner._thread.is_alive()
print(sent)
"""
"""A VM that runs again and again; at its N-th run, a signal is sent before the N-th change that its end makes."""


def test_a_signal_at_each_change_of_the_stop_waits_for_its_end(
    xfs_pool: Pool, root: Volume
) -> None:
    """A handler of this process's is called when the volumes have ended, be the signal sent at whichever point."""
    words = [sys.executable, "-c", AT_EACH_CHANGE, xfs_pool.path]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > len(["write", "link", "rename", "rename", "sync"])


def test_a_signal_that_came_for_the_command_is_not_this_process_s(
    xfs_pool: Pool, root: Volume
) -> None:
    """Ctrl-C comes to both; the command's end by it is how the run ends."""
    script = f"{WRITE}; kill -INT $PPID; kill -INT $$"
    called = call_apart("run", "ci", "--", "sh", "-c", script)
    assert called.status == 128 + signal.SIGINT
    assert root.state == "committed"


def test_what_is_stopped_and_started_meanwhile_is_not_ended(xfs_pool: Pool, root: Volume) -> None:
    """From the start to the end the images are held open: no one else can stop them and start them anew."""
    settings = Path(xfs_pool.path, "pool.toml")
    settings.write_text(settings.read_text() + "lock_timeout = 0\n")
    real = wrapped.end

    def stop(_outcome: object) -> None:
        with pytest.raises(InUse):
            root.stop()

    def end(*words: Any) -> Any:
        assert "ci is locked by" in call_apart("stop", "ci/root", "--discard").complaint
        return real(*words)

    with mock.patch.object(wrapped, "end", end):
        wrapped.run(Pool.open(xfs_pool.path).vm("ci"), ["sh", "-c", WRITE], on_start=stop)
    assert seen(root) == disk(b"written")
