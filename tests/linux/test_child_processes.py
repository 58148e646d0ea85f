"""A host that ignores how its children end (SIGCHLD) leaves that to whom it calls; no failure may be lost by that."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lifecycle import Pool, Vetoed
from lifecycle.linux.child_processes import ends_told
from lifecycle.subscribers import hook_process
from support.command_line import SCRIPT
from support.disks import SIZE
from support.mounts import FileSystem

IGNORING = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def ignoring() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    signal.signal(signal.SIGCHLD, before)


def call(*words: str) -> tuple[int, str]:
    """Call a program that is begun with SIGCHLD ignored; return its exit status, and what it said."""
    done = subprocess.run(
        (sys.executable, "-c", IGNORING, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def veto_starts(pool: Pool) -> None:
    hook = Path(pool.path, "hooks.d", "pre-start")
    hook.parent.mkdir(mode=0o755)
    hook.write_text("#!/bin/sh\necho the backup is still running >&2\nexit 1\n")
    hook.chmod(0o755)


def test_a_hook_s_objection_holds(xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    veto_starts(xfs_pool)
    status, said = call(SCRIPT, "start", "ci")
    assert (status, volume.state) == (3, "created")
    assert "the backup is still running" in said


@pytest.mark.usefixtures("ignoring")
def test_a_hook_s_objection_holds_in_a_program_that_uses_the_library(xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    veto_starts(xfs_pool)
    with pytest.raises(Vetoed, match="the backup is still running"):
        volume.start()


@pytest.mark.usefixtures("ignoring")
def test_where_its_end_could_not_be_known_a_hook_is_not_run_and_vetoes(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n: >{ran}\n")
    program.chmod(0o755)
    found: list[hook_process.Ended] = []

    def run() -> None:
        found.append(hook_process.run(str(program), b"{}", os.environ, 1000))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "SIGCHLD" in str(found[0].problem)
    assert not ran.exists()


@pytest.mark.parametrize("failing", ["mkfs.xfs", "mount"])
def test_a_pool_that_cannot_be_embedded_is_not_made(
    mounted: Callable[[str], FileSystem], tmp_path: Path, failing: str
) -> None:
    place = mounted("plain").new_directory()
    (tmp_path / failing).write_text("#!/bin/sh\necho cannot >&2\nexit 1\n")
    (tmp_path / failing).chmod(0o755)
    path = f"PATH={tmp_path}:{os.environ['PATH']}"
    status, said = call("env", path, SCRIPT, "init", "--loop", "300M", str(place / "vms"))
    assert status == 1
    assert f"{failing} failed: cannot" in said
    assert not (place / "vms" / "pool.toml").exists()


def test_where_ends_are_told_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGCHLD)
    with ends_told():
        assert signal.getsignal(signal.SIGCHLD) is before
