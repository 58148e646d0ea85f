"""A hook that fails: before an event it objects to it; after one, what has happened stands and it is logged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import Pool, State, Vetoed, Volume
from lifecycle.errors import HookFailed
from support.command_line import Call, call_apart
from support.disks import SIZE, cycle, numbers
from support.hook_programs import put
from support.mounts import FileSystem

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
