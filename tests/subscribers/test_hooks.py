"""Your own hooks: programs in hooks.d that are told of events, and may object before one."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from freezegun import freeze_time

from lifecycle import InvalidName, Pool, State, Vetoed, Volume, events
from lifecycle.config import CrashPolicy, VolumeConfig
from lifecycle.engine import locks
from lifecycle.errors import HookFailed, StorageFailed
from lifecycle.subscribers import hook_process
from lifecycle.subscribers.hook_process import Ended
from lifecycle.subscribers.hooks import objection_to
from support.command_line import SCRIPT, Call, Called, call_apart
from support.disks import SIZE, cycle, draw, numbers
from support.failing_backend import backend_fails
from support.listeners import Listener
from support.mounts import FileSystem


def put(directory: Path, name: str, script: str, *, mode: int = 0o755) -> Path:
    """Put a hook into the directory, a shell script."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    hook = directory / name
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(mode)
    return hook


@pytest.fixture
def hooks(xfs_pool: Pool) -> Path:
    """The pool's hooks.d, not there yet."""
    return Path(xfs_pool.path, "hooks.d")


@pytest.fixture
def machine_hooks(settings: Path) -> Path:
    """The machine's hooks.d, not there yet."""
    return settings / "hooks.d"


@pytest.fixture
def root(xfs_pool: Pool) -> Volume:
    return xfs_pool.create_volume("ci/root", SIZE)


@pytest.fixture
def noted(tmp_path: Path) -> Path:
    """A file that hooks write to."""
    return tmp_path / "noted"


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


# ---------------------------------------------------------------- objecting


def test_a_hook_before_an_event_may_object(
    call: Call, root: Volume, hooks: Path, noted: Path
) -> None:
    hook = put(hooks, "pre-start", "echo looking >&2; echo The quota is used up. >&2; exit 7")
    put(hooks, "pre-start-later", f"echo ran >{noted}")
    put(hooks, "post-start", f"echo ran >{noted}")
    complaint = call("start", "ci", status=3).complaint
    assert complaint == (
        "lifecycle: ci/root is created: cannot start: vetoed: looking; The quota is used up"
        f" (hook {hook}).\n"
    )
    assert root.state is State.CREATED
    assert not noted.exists()


def test_all_volumes_of_a_vm_start_or_none(xfs_pool: Pool, root: Volume, hooks: Path) -> None:
    other = xfs_pool.create_volume("ci/var", SIZE)
    put(hooks, "pre-start", 'test "$LIFECYCLE_VOLUME" != ci/var')
    with pytest.raises(Vetoed):
        xfs_pool.vm("ci").start()
    assert (root.state, other.state) == (State.CREATED, State.CREATED)


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 1", "hook {} failed with exit status 1"),
        ("echo '  ' >&2; exit 255", "hook {} failed with exit status 255"),
        ("echo words >&2; kill -TERM $$", "hook {} was ended by SIGTERM"),
        ("for i in 1 2 3 4 5; do echo $i >&2; done; exit 1", "3; 4; 5 (hook {})"),
        ("printf 'a\\033[2Jb\\377' >&2; exit 1", "a\\x1b[2Jb\\xff (hook {})"),
    ],
)
def test_the_reason_of_a_veto(root: Volume, hooks: Path, script: str, reason: str) -> None:
    hook = put(hooks, "pre-start", script)
    with pytest.raises(Vetoed) as caught:
        root.start()
    assert caught.value.reason == reason.format(hook)
    assert isinstance(caught.value.__cause__, HookFailed)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            "#!/nonexistent/python\n",
            "cannot be run: the interpreter in its first line is not there",
        ),
        ("no interpreter\n", "cannot be run: Exec format error"),
        ("", "cannot be run: Exec format error"),
        ("#!/etc\n", "cannot be run: Permission denied"),
    ],
)
def test_a_hook_that_cannot_be_run_objects(
    root: Volume, hooks: Path, content: str, problem: str
) -> None:
    put(hooks, "pre-start", "").write_text(content)
    with pytest.raises(Vetoed, match=problem):
        root.start()
    assert root.state is State.CREATED


def test_a_hook_that_takes_too_long_objects(xfs: FileSystem) -> None:
    pool = Pool.create(xfs.new_directory(), hook_timeout=0.01)
    root = pool.create_volume("ci/root", SIZE)
    put(Path(pool.path, "hooks.d"), "pre-start", "while :; do :; done")
    with pytest.raises(Vetoed, match=r"did not finish within 0\.01 s and was killed"):
        root.start()
    assert root.state is State.CREATED


# ---------------------------------------------------------------- after an event


@pytest.fixture
def caplog_of_hooks(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """Return a function to what is logged of hooks at a level."""
    caplog.set_level(logging.INFO, "lifecycle.hooks")

    def logged(level: int) -> list[str]:
        return [
            one.getMessage()
            for one in caplog.records
            if (one.name, one.levelno) == ("lifecycle.hooks", level)
        ]

    return logged


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo no disk >&2; exit 3", ["{}: no disk", "{} failed with exit status 3"]),
        ("kill -SEGV $$", ["{} was ended by SIGSEGV"]),
    ],
)
def test_after_an_event_a_failure_is_logged_and_breaks_nothing(
    root: Volume,
    hooks: Path,
    noted: Path,
    caplog_of_hooks: Callable[[int], list[str]],
    script: str,
    said: list[str],
) -> None:
    root.configure(keep="last 0")
    cycle(root, b"one")
    hook = put(hooks, "post-commit", script)
    put(hooks, "post-commit-next", f"echo ran >>{noted}")
    put(hooks, "post-prune", f"echo ran >>{noted}")
    assert cycle(root, b"two") == 2
    assert (root.state, numbers(root)) == (State.COMMITTED, [])
    assert noted.read_text() == "ran\nran\n"
    logged = [f"hook {one.format(hook)}" for one in said]
    logged[-1] += "; what has happened stands"
    assert caplog_of_hooks(logging.WARNING) == logged


def test_after_an_event_one_that_hangs_breaks_nothing(
    xfs: FileSystem, caplog_of_hooks: Callable[[int], list[str]]
) -> None:
    pool = Pool.create(xfs.new_directory(), hook_timeout=0.01)
    root = pool.create_volume("ci/root", SIZE)
    hook = put(Path(pool.path, "hooks.d"), "post-commit", "while :; do :; done")
    assert cycle(root, b"one") == 1
    assert caplog_of_hooks(logging.WARNING) == [
        f"hook {hook} did not finish within 0.01 s and was killed; what has happened stands"
    ]


def test_what_a_hook_says_is_logged_and_nothing_of_it_is_on_our_output(
    root: Volume, hooks: Path
) -> None:
    hook = put(hooks, "pre-start", "echo out; echo err >&2")
    called = call_apart("start", "ci", "--json")
    assert (called.status, called.document[0]["state"], called.err) == (0, "started", "")
    root.stop()
    assert f"INFO:lifecycle.hooks:hook {hook}: err\n" in call_apart("start", "ci", "-v").err


# ---------------------------------------------------------------- bad files


def a_directory(path: Path) -> None:
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def not_executable(path: Path) -> None:
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o644)


def a_pipe(path: Path) -> None:
    os.mkfifo(path, 0o755)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (a_directory, "it is no file"),
        (a_pipe, "it is no file"),
        (a_link_to_nothing, "No such file or directory"),
        (not_executable, "it is not executable; `chmod +x` it"),
    ],
)
def test_what_is_no_program_is_passed_over_with_a_warning(
    root: Volume,
    hooks: Path,
    noted: Path,
    caplog_of_hooks: Callable[[int], list[str]],
    make: Callable[[Path], None],
    reason: str,
) -> None:
    put(hooks, "pre-start-after", f"echo ran >{noted}")
    make(hooks / "pre-start")
    root.start()
    assert noted.read_text() == "ran\n"
    (warning,) = caplog_of_hooks(logging.WARNING)
    assert warning.startswith(f"hook {hooks}/pre-start is not run: ")
    assert warning.endswith(reason)


def test_a_hook_taken_away_meanwhile_is_passed_over(root: Volume, hooks: Path) -> None:
    later = put(hooks, "pre-start-2", "exit 1")
    put(hooks, "pre-start-1", f"rm {later}")
    root.start()
    assert root.state is State.STARTED


@pytest.mark.parametrize("kind", ["file", "link to a directory", "link to nothing"])
def test_hooks_d_itself(root: Volume, hooks: Path, noted: Path, tmp_path: Path, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    if kind == "file":
        hooks.write_text("")
    else:
        hooks.symlink_to(elsewhere)
    if kind == "link to a directory":
        put(elsewhere, "pre-start", f"echo ran >{noted}")
    called = call_apart("start", "ci")
    assert called.status == 0
    assert noted.exists() is (kind == "link to a directory")
    complaint = f"lifecycle: no hook in {hooks} is run: Not a directory\n"
    assert called.err == (complaint if kind == "file" else "")
    assert list(root.pool.verify()) == []


def test_hooks_d_is_no_vm(call: Call, xfs_pool: Pool, root: Volume, hooks: Path) -> None:
    put(hooks, "pre-start", "true")
    (hooks / "root.img").write_bytes(b"x" * 512)
    (hooks / "lib").mkdir()
    (hooks / "lib" / "root.img").write_bytes(b"x" * 512)
    assert [volume.id for volume in xfs_pool] == ["ci/root"]
    assert list(xfs_pool.backend.vms()) == ["ci"]
    assert list(xfs_pool.verify()) == []
    assert xfs_pool.recover() == []
    for name in ("hooks.d/root", "hooks.d/lib/root"):
        with pytest.raises(InvalidName, match="own hooks"):
            xfs_pool.create_volume(name, SIZE)
    assert xfs_pool.create_volume("vms/hooks.d/root", SIZE).state is State.CREATED


# ---------------------------------------------------------------- who could have put it there


def owned_by_someone(path: Path) -> None:
    os.chown(path, 12345, 0)


def writable_by_others(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def writable_by_a_group(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o020)


def sticky(path: Path) -> None:
    path.chmod(0o1777)


@pytest.mark.parametrize("below", ["hook", "hooks.d", "pool"])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (owned_by_someone, "{} belongs to user 12345, neither root nor who calls"),
        (writable_by_others, "others may write to {}; `chmod go-w` it"),
        (writable_by_a_group, "others may write to {}; `chmod go-w` it"),
        (sticky, "others may write to {}; `chmod go-w` it"),
    ],
)
def test_what_others_could_have_put_there_is_not_run(
    root: Volume,
    hooks: Path,
    caplog_of_hooks: Callable[[int], list[str]],
    below: str,
    spoil: Callable[[Path], None],
    reason: str,
) -> None:
    hook = put(hooks, "pre-start", "exit 1")
    spoiled = {"hook": hook, "hooks.d": hooks, "pool": hooks.parent}[below]
    spoil(spoiled)
    trusted = (
        below == "pool" and spoil is sticky
    )  # as /tmp is: others cannot rename what is not theirs
    if trusted:
        with pytest.raises(Vetoed):
            root.start()
        return
    root.start()
    assert caplog_of_hooks(logging.WARNING) == [f"hook {hook} is not run: {reason.format(spoiled)}"]


def test_a_link_is_followed_and_what_it_leads_to_is_checked(
    root: Volume, hooks: Path, noted: Path, tmp_path: Path
) -> None:
    program = put(tmp_path / "bin", "quota", f"echo $0 >{noted}")
    hooks.mkdir()
    (hooks / "pre-start").symlink_to(program)
    root.start()
    assert noted.read_text() == f"{program}\n"
    assert objection_to(str(hooks / "pre-start"), program=True) is None
    program.parent.chmod(0o777)
    assert objection_to(str(hooks / "pre-start"), program=True) == (
        f"others may write to {program.parent}; `chmod go-w` it"
    )


@pytest.mark.parametrize(
    ("owner", "caller", "trusted"),
    [(0, 1000, True), (1000, 1000, True), (1001, 1000, False), (1000, 0, False)],
)
def test_only_root_and_who_calls_are_trusted(
    hooks: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: int,
    caller: int,
    trusted: bool,
) -> None:
    hook = put(hooks, "pre-start", "true")
    os.chown(hook, owner, 0)
    monkeypatch.setattr(os, "geteuid", lambda: caller)
    assert (objection_to(str(hook), program=True) is None) is trusted


# ---------------------------------------------------------------- calling back


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


# ---------------------------------------------------------------- one run, whatever the program does


def run(script: str, *, given: bytes = b"{}", seconds: float = 1000) -> Ended:
    """Run a script as a hook, with more time than any test has."""
    path = Path(os.environ["HOOK"])
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return hook_process.run(str(path), given, os.environ, seconds)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `run` puts its script; scripts find their files beside it."""
    path = tmp_path / "program"
    monkeypatch.setenv("HOOK", str(path))
    return path


MEGABYTES = 5 << 20


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ("true", Ended(None)),
        ("cat", Ended(None)),
        ("echo a >&2; echo >&2; echo b >&2", Ended(None, ("a", "b"))),
        ("exec <&-; exit 0", Ended(None)),
        ("exec >&- 2>&- <&-; exit 4", Ended("failed with exit status 4", (), True)),
        (f"head -c {MEGABYTES} /dev/zero", Ended(None)),
        (f"head -c {MEGABYTES} /dev/zero >&2; printf '\\nend' >&2", None),
        (f"yes | head -n {MEGABYTES} >&2", Ended(None, ("y",) * hook_process.LINES)),
        ("kill -64 $$", Ended("was ended by SIGRTMAX")),
        ("kill -40 $$", Ended("was ended by signal 40")),
        ("wc -c >&2", Ended(None, (str(MEGABYTES),))),
    ],
)
def test_a_program_that_ends(script: str, ended: Ended | None) -> None:
    found = run(script, given=b" " * MEGABYTES)
    if ended is not None:
        assert found == ended
    else:
        assert (found.problem, found.lines[-1]) == (None, "end")
        assert sum(map(len, found.lines)) <= 4 * hook_process.REMEMBERED


@pytest.fixture
def pipe(program: Path) -> Iterator[int]:
    """A named pipe beside the script, open here: what reads from it there ends with this test at the latest."""
    os.mkfifo(program.with_name("pipe"))
    fd = os.open(program.with_name("pipe"), os.O_RDWR)
    yield fd
    os.close(fd)


def test_what_is_left_in_the_background_is_not_waited_for_and_lives_on(
    program: Path, pipe: int
) -> None:
    done = program.with_name("done")
    os.mkfifo(done)
    left = f"(read word <{program.with_name('pipe')}; echo $word >{done}) &"
    assert run(f"{left}\necho left >&2") == Ended(None, ("left",))
    os.write(pipe, b"go\n")
    assert done.read_text() == "go\n"


@pytest.mark.parametrize("how", ["time is up", "interrupted"])
@pytest.mark.parametrize("stderr", ["open", "closed"])
def test_it_is_killed_with_all_that_it_started(
    program: Path, pipe: int, monkeypatch: pytest.MonkeyPatch, how: str, stderr: str
) -> None:
    alive, ready = program.with_name("alive"), program.with_name("ready")
    os.mkfifo(alive)
    listening = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)

    asked = []

    def clock(_: int) -> float:
        asked.append(ready.exists())
        if len(asked) == 1 or not asked[-1]:
            return 0
        if how == "interrupted":
            raise KeyboardInterrupt
        return 1e9

    monkeypatch.setattr(
        hook_process, "time", SimpleNamespace(clock_gettime=clock, CLOCK_MONOTONIC=1)
    )
    wait = f"read word <{program.with_name('pipe')}"
    script = (
        f"{'exec 2>&-' if stderr == 'closed' else ''}\nexec 3>{alive}\n({wait}) &\n"
        f"trap '' TERM INT HUP\n>{ready}\n{wait}"
    )
    if how == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            run(script)
    else:
        assert run(script).problem == "did not finish within 1000 s and was killed"
    os.set_blocking(listening, True)
    assert os.read(listening, 1) == b""  # those who held its other end are gone
    os.close(listening)


@pytest.mark.usefixtures("program")
def test_its_last_words_are_heard_though_it_has_ended_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def clock(_: int) -> float:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        return 0

    monkeypatch.setattr(
        hook_process, "time", SimpleNamespace(clock_gettime=clock, CLOCK_MONOTONIC=1)
    )
    assert run("echo last >&2; exit 1").lines == ("last",)


def test_it_is_no_one_elses_to_signal_at_the_terminal(program: Path) -> None:
    session = program.with_name("session")
    run(f"cut -d' ' -f6 /proc/$$/stat >{session}")
    assert int(session.read_text()) not in {0, os.getsid(0)}


def test_our_signals_are_not_its(program: Path) -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN  # as Python has it
    assert run("kill -PIPE $$").problem == "was ended by SIGPIPE"


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
