"""Your own hooks: when programs in hooks.d are run, what they are given, and those that the docs show."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from freezegun import freeze_time

from lifecycle import Pool, Volume, events
from lifecycle.config import CrashPolicy, VolumeConfig
from lifecycle.errors import StorageFailed
from support.command_line import SCRIPT, Call
from support.disks import SIZE, cycle, draw, numbers
from support.failing_backend import backend_fails
from support.hook_programs import put
from support.listeners import Listener
from support.mounts import FileSystem

# ---------------------------------------------------------------- when they are run


def test_each_event_is_told_before_and_after_(
    xfs_pool: Pool, hooks: Path, noted: Path, xfs: FileSystem
) -> None:
    put(hooks, "pre-any", f'echo "$LIFECYCLE_HOOK" >>{noted}')
    put(hooks, "post-any", f'echo "$LIFECYCLE_HOOK" >>{noted}')
    put(hooks, "failed", f'echo "$LIFECYCLE_HOOK" >>{noted}')
    listener = Listener(xfs_pool)
    root = xfs_pool.create_volume("ci/root", SIZE)
    root.configure(keep="last 1")
    cycle(root, b"one")
    root.start()
    root.checkpoint()
    root.stop()  # released
    root.resize(2 * SIZE)
    root.revert()
    content = xfs.new_directory() / "content"
    content.write_bytes(b"content")
    root.import_from(content)
    cycle(root, b"two")  # and prunes
    with backend_fails(xfs_pool, "start"), pytest.raises(StorageFailed):
        root.start()
    root.remove()
    listener.close()

    words = {"announced": "pre", "reported": "post"}
    heard = [
        "failed" if name == "failed" else f"{words[tense]}-{name}"
        for name, _, tense in (one.partition(" ") for one in listener.take())
        if tense != "done"
    ]
    told = noted.read_text().split()
    assert sorted(told) == sorted(heard)
    assert [one for one in told if "pre-" in one] == [one for one in heard if "pre-" in one]
    # a commit is told before what is pruned for it, to this listener after it
    assert told.index("post-commit") < told.index("pre-prune") < told.index("post-prune")
    everything = {f"{when}-{event}" for when in ("pre", "post") for event in events.EVENTS}
    assert set(heard) == {*everything, "failed"}


def test_the_machines_hooks_come_first_then_the_pools_each_in_the_order_of_names(
    root: Volume, hooks: Path, machine_hooks: Path, noted: Path
) -> None:
    for directory, mark in ((hooks, "pool"), (machine_hooks, "machine")):
        for name in ("pre-start-20", "pre-start", "pre-any-1", "pre-start-10-x.sh", "pre-stop"):
            put(directory, name, f"echo {mark} {name} >>{noted}")
    root.start()
    names = ("pre-any-1", "pre-start", "pre-start-10-x.sh", "pre-start-20")
    assert noted.read_text().splitlines() == [
        f"{mark} {name}" for mark in ("machine", "pool") for name in names
    ]


@pytest.mark.parametrize(
    ("name", "is_run"),
    [
        ("pre-start", True),
        ("pre-start-", True),
        ("pre-start-quota.py", True),
        ("pre-start-with a space", True),
        ("pre-any-\n", True),
        ("post-start", True),
        ("pre-started", False),
        ("pre-stop", False),
        ("pre-start.sh", False),
        ("pre-start-old~", False),
        (".pre-start", False),
        ("pre-", False),
        ("any", False),
        ("start", False),
        ("README", False),
        ("failed", False),
    ],
)
def test_a_name_says_when(root: Volume, hooks: Path, noted: Path, name: str, is_run: bool) -> None:
    put(hooks, name, f"echo ran >>{noted}")
    root.start()
    assert noted.exists() is is_run


@pytest.mark.parametrize("name", ["pre-strat", "post-started", "pre-start.sh", "pre-", "failed.sh"])
def test_a_name_meant_as_a_hooks_is_not_passed_over_quietly(
    root: Volume, hooks: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    put(hooks, name, "true")
    root.start()
    assert f"{hooks}/{name} is not run: that is no hook's name" in caplog.text


def test_one_that_is_put_there_later_is_run_from_then_on(
    root: Volume, hooks: Path, noted: Path
) -> None:
    root.start()
    put(hooks, "post-release", f"echo ran >>{noted}")
    root.stop()
    assert noted.read_text() == "ran\n"


def test_they_are_looked_for_once_an_event(root: Volume) -> None:
    with mock.patch.object(os, "listdir", side_effect=FileNotFoundError) as looked:
        root.start()
    assert looked.call_count == 2  # the machine's and the pool's


def test_one_that_is_put_there_in_the_middle_of_an_event_is_run_from_the_next_on(
    root: Volume, hooks: Path, noted: Path
) -> None:
    with events.starting.connected_to(
        lambda *_, **__: put(hooks, "post-any", f"echo $LIFECYCLE_HOOK >>{noted}")
    ):
        root.start()
    assert not noted.exists()
    root.stop()
    assert noted.read_text() == "post-release\n"


def test_a_copy_is_made_of_what_a_commit_is_about_to_prune(
    xfs_pool: Pool, root: Volume, hooks: Path, noted: Path
) -> None:
    root.configure(keep="last 0")
    cycle(root, b"first")
    put(hooks, "post-commit", f"{SCRIPT} export ci/root --revision 1 {noted}")
    cycle(root, b"second")
    assert noted.read_bytes().startswith(b"first")
    assert numbers(root) == []


def test_without_hooks_nothing_is_imported_for_them(root: Volume) -> None:
    code = (
        "import sys; from lifecycle import Pool; Pool.open(sys.argv[1])['ci/root'].start();"
        "print('lifecycle.subscribers.hook_process' in sys.modules, 'subprocess' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, root.pool.path], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False False\n"


# ---------------------------------------------------------------- what they are given


@freeze_time("2026-01-02T03:04:05Z")
def test_the_document(call: Call, xfs_pool: Pool, root: Volume, hooks: Path, noted: Path) -> None:
    put(hooks, "post-commit", f"cat >{noted}")
    cycle(root, b"one")
    assert json.loads(noted.read_text()) == {
        "when": "post",
        "event": "commit",
        "pool": xfs_pool.path,
        "volume": call("show", "ci/root", "--json").document,
        "from": "dirty",
        "to": "committed",
        "at": "2026-01-02T03:04:05Z",
        "reason": None,
        "revision": 1,
        "asked": {},
        "error": None,
    }


def document_of(root: Volume, hooks: Path, noted: Path, name: str, act: Callable[[], Any]) -> Any:
    put(hooks, name, f"cat >{noted}")
    act()
    return json.loads(noted.read_text())


def test_the_document_tells_what_was_asked_and_why(
    root: Volume, hooks: Path, noted: Path, xfs: FileSystem
) -> None:
    def asked(name: str, act: Callable[[], Any]) -> Any:
        return document_of(root, hooks, noted, name, act)["asked"]

    new = VolumeConfig(1 << 20, rw=False, keep="last 2", on_crash=CrashPolicy.REVERT)
    create = lambda: root.pool.create_volume(  # noqa: E731 - read where it is used
        "new/disk", "1M", rw=False, keep="last 2", on_crash="revert"
    )
    assert asked("pre-create", create) == {"config": new._asdict()}
    assert asked("pre-resize", lambda: root.resize("1M")) == {"size": 1 << 20, "shrink": False}
    assert asked("pre-revert", lambda: root.revert(0)) == {"to": 0}
    content = xfs.new_directory() / "content"
    content.write_bytes(b"content")
    expected = {"name": str(content), "verify": False, "own": False}
    assert asked("pre-import", lambda: root.import_from(content)) == expected

    def stop() -> None:
        root.start()
        draw(root, b"x")
        root.stop(reason="crash")

    assert document_of(root, hooks, noted, "pre-commit", stop)["reason"] == "crash"


def test_a_failure_is_told_with_the_error(
    xfs_pool: Pool, root: Volume, hooks: Path, noted: Path
) -> None:
    put(hooks, "failed-mail", f'cat >{noted}; test "$LIFECYCLE_HOOK" = failed && exit 1')
    with backend_fails(xfs_pool, "start"), pytest.raises(StorageFailed) as caught:
        root.start()
    document = json.loads(noted.read_text())
    assert (document["when"], document["event"]) == ("failed", "start")
    assert "No space left" in document["error"]
    assert "No space left" in str(caught.value)
    assert document["volume"]["state"] == "created"


def test_a_volume_that_cannot_be_looked_at_is_told_of_all_the_same(
    root: Volume, hooks: Path, noted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("lifecycle.report.documents.of_volume", fails)
    document = document_of(root, hooks, noted, "pre-start", root.start)
    assert document["volume"] == {"id": "ci/root", "vm": "ci", "name": "root", "path": root.path}


def test_the_environment(root: Volume, hooks: Path, noted: Path) -> None:
    put(
        hooks,
        "pre-start",
        f'echo "$LIFECYCLE_HOOK $LIFECYCLE_POOL $LIFECYCLE_VOLUME" >{noted}; pwd',
    )
    root.start()
    assert noted.read_text() == f"pre-start {root.pool.path} ci/root\n"


def test_the_document_of_a_pool_whose_path_is_no_text(xfs: FileSystem, noted: Path) -> None:
    pool = Pool.create(os.fsdecode(os.fsencode(xfs.new_directory()) + b"/p\xff\n"))
    put(Path(pool.path, "hooks.d"), "pre-create", f'cat >{noted}; ls "$LIFECYCLE_POOL" >/dev/null')
    pool.create_volume("ci/root", SIZE)
    assert json.loads(noted.read_text())["pool"] == pool.path


# ---------------------------------------------------------------- the hooks of the page about them


@pytest.fixture
def page() -> str:
    return (Path(__file__).parents[2] / "docs" / "hosts-hooks.md").read_text()


def test_the_quota_of_the_page(call: Call, root: Volume, hooks: Path, page: str) -> None:
    script = shown(page, "sh").replace("1G", "1K")
    cycle(root, b"x" * 50_000)
    put(hooks, "pre-start-quota", script.replace("limit=20", "limit=10"))
    complaint = call("start", "ci", status=3).complaint
    line = (
        shown(page, "console")
        .splitlines()[1]
        .replace("ci-42", "ci")
        .replace("may take 20", "may take 10")
    )
    assert re.sub(r"takes \d+", "takes 21", complaint) == (
        line.replace("/etc/lifecycle/hooks.d", str(hooks)) + "\n"
    )
    put(hooks, "pre-start-quota", script.replace("limit=20", "limit=100000"))
    call("start", "ci")


def test_the_copies_of_the_page(
    root: Volume, hooks: Path, tmp_path: Path, page: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", os.path.dirname(SCRIPT), prepend=os.pathsep)
    script = shown(page, "python").replace("/mnt/copies", str(tmp_path))
    put(hooks, "post-commit-copy", "").write_text(script)
    for mark in (b"one", b"two"):
        cycle(root, mark)
    copies = {one.name: one.read_bytes()[:3] for one in tmp_path.glob("*.img")}
    assert copies == {"ci_root.1.img": b"one", "ci_root.2.img": b"two"}


def shown(page: str, language: str) -> str:
    return page.partition(f"```{language}\n")[2].partition("```")[0]
