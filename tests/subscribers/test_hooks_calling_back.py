"""Hooks that call the command line: they may look, and act on other VMs, but not on the VM of their event."""

from __future__ import annotations

from pathlib import Path

import pytest

from lifecycle import Pool, State, Volume
from lifecycle.engine import locks
from support.command_line import SCRIPT, Called
from support.disks import SIZE
from support.hook_programs import put
from support.mounts import FileSystem


def said(root: Volume, hooks: Path, noted: Path, name: str, words: str) -> Called:
    """Let a hook call the command line, and return what came of that."""
    put(hooks, name, f"{SCRIPT} {words} >{noted}.out 2>{noted}.err; echo $? >{noted}")
    root.start()
    root.stop()
    return Called(
        int(noted.read_text()), Path(f"{noted}.out").read_text(), Path(f"{noted}.err").read_text()
    )


@pytest.fixture
def patient(xfs: FileSystem) -> Volume:
    """A volume in a pool where who waits for a lock waits for a day."""
    return Pool.create(xfs.new_directory(), lock_timeout=86400).create_volume("ci/root", SIZE)


@pytest.mark.parametrize("name", ["pre-start", "post-start", "pre-release", "post-release"])
@pytest.mark.parametrize(
    "words", ["start ci/root", "create ci/other --size 1M", "set ci/root rw=no"]
)
def test_a_hook_that_acts_on_the_same_vm_is_refused_and_does_not_wait(
    patient: Volume, noted: Path, name: str, words: str
) -> None:
    called = said(patient, Path(patient.pool.path, "hooks.d"), noted, name, words)
    assert (called.status, called.out) == (3, "")
    assert called.err == (
        "lifecycle: ci is in the middle of an event: cannot begin another: a hook of that event"
        " asks for it; ask when the event is over.\n"
    )


@pytest.mark.parametrize("words", ["show ci/root --json", "list", "log ci/root", "verify"])
def test_a_hook_may_look(patient: Volume, noted: Path, words: str) -> None:
    called = said(patient, Path(patient.pool.path, "hooks.d"), noted, "post-start", words)
    assert (called.status, called.err) == (0, "")
    assert called.out


def test_a_hook_may_act_on_another_vm_but_not_from_there_on_the_first(
    patient: Volume, noted: Path
) -> None:
    router = patient.pool.create_volume("router/root", SIZE)
    words = "start router"
    script = (
        'case "$LIFECYCLE_VOLUME" in ci/root) other=router;; *) other=ci;; esac\n'
        f'{SCRIPT} start "$other" >>{noted} 2>&1\nexit 0'
    )
    put(Path(patient.pool.path, "hooks.d"), "pre-start", script)
    patient.start()
    assert words.split()[1] in router.id
    refused, started = noted.read_text().splitlines()
    assert refused.startswith("lifecycle: ci is in the middle of an event")
    assert started.startswith("router/root: started")
    assert (patient.state, router.state) == (State.STARTED, State.STARTED)


def test_what_a_hook_left_in_the_background_may_act_once_the_event_is_over(
    root: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(locks.CHANGING, f"{root.pool.identity}/ci")
    root.start()
    assert root.state is State.STARTED
