"""The short way of `start`, `stop` and their like: it does and says what the command line does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from lifecycle import LifecycleError, Pool
from lifecycle.cli import app, entry
from lifecycle.engine import batch
from lifecycle.machine import known_pools
from support.command_line import Called, call_apart
from support.disks import SIZE, cycle, draw, numbers
from support.mounts import FileSystem

Way = Callable[[list[str]], int]


def short_way(words: list[str]) -> int:
    plain = entry.understood(words, os.environ)
    assert plain is not None
    return entry.run(words, plain)


def long_way(words: list[str]) -> int:
    with pytest.raises(SystemExit) as exited:
        app.main(words)
    return int(exited.value.code or 0)


# ---------------------------------------------------------------- which words


@pytest.mark.parametrize(
    ("words", "environment", "understood"),
    [
        ("start a/root", {}, ("start", ["a/root"], None, {})),
        ("start a b/root p:c", {}, ("start", ["a", "b/root", "p:c"], None, {})),
        ("stop a", {"LIFECYCLE_POOL": "/p"}, ("stop", ["a"], "/p", {})),
        ("stop a --discard", {}, ("stop", ["a"], None, {"discard": True})),
        ("stop --discard a --discard", {}, ("stop", ["a"], None, {"discard": True})),
        ("start --pool q a", {"LIFECYCLE_POOL": "/p"}, ("start", ["a"], "q", {})),
        ("start a --pool=q", {}, ("start", ["a"], "q", {})),
        ("start --pool=p a --pool q", {}, ("start", ["a"], "q", {})),
        ("--pool q start a", {"LIFECYCLE_POOL": "/p"}, ("start", ["a"], "q", {})),
        ("--pool=start start a", {}, ("start", ["a"], "start", {})),
        ("--pool p stop a --pool q", {}, ("stop", ["a"], "q", {})),
        ("checkpoint a b/root", {}, ("checkpoint", ["a", "b/root"], None, {})),
        ("revert a/root", {}, ("revert", ["a/root"], None, {})),
        ("revert a/root --to 3", {}, ("revert", ["a/root"], None, {"to": "3"})),
        ("--pool=p revert --to=empty a/root", {}, ("revert", ["a/root"], "p", {"to": "empty"})),
        ("revert a/root --to 1 --to=2", {}, ("revert", ["a/root"], None, {"to": "2"})),
        ("", {}, None),
        ("start", {}, None),
        ("--pool p", {}, None),
        ("--pool", {}, None),
        ("--json start a", {}, None),
        ("-v start a", {}, None),
        ("--discard stop a", {}, None),
        ("--pool --json start a", {}, None),
        ("--pool p show a/root", {}, None),
        ("revert a/root b/root", {}, None),
        ("revert --to 1", {}, None),
        ("revert a/root --to", {}, None),
        ("revert a/root --to -1", {}, None),
        ("start a --to 1", {}, None),
        ("stop a --discard=yes", {}, None),
        ("checkpoint a --discard", {}, None),
        ("stop --discard", {}, None),
        ("start a --discard", {}, None),
        ("start a --json", {}, None),
        ("start -v a", {}, None),
        ("start a -h", {}, None),
        ("start -- a", {}, None),
        ("start a --pool", {}, None),
        ("start a --pool --json", {}, None),
        ("start a --poo q", {}, None),
        ("stop a --ending crashed", {}, None),
        ("--version", {}, None),
        ("show a/root", {}, None),
        ("start a", {"_LIFECYCLE_COMPLETE": "bash_complete"}, None),
    ],
)
def test_which_words_go_the_short_way(
    words: str, environment: dict[str, str], understood: tuple[object, ...] | None
) -> None:
    plain = entry.understood(words.split(), environment)
    found = plain and (plain.command, plain.targets, plain.pool, plain.options)
    assert found == understood


# ---------------------------------------------------------------- the same by both ways


@pytest.fixture
def pools(xfs: FileSystem) -> list[Pool]:
    """Two pools alike, one for each way; the second volume of the VM `w` was written to."""
    found = []
    for _ in range(2):
        pool = Pool.create(xfs.new_directory())
        pool.create_volume("base/root", SIZE)
        for name in ("data", "root"):
            cycle(pool.create_volume(f"a/{name}", SIZE), b"one")
        pool.create_volume("b/root", source="base/root")
        for name in ("data", "root"):
            pool.create_volume(f"w/{name}", SIZE).start()
        draw(pool["w/root"], b"new")
        found.append(pool)
    return found


def both(pools: list[Pool], words: str, capfd: pytest.CaptureFixture[str]) -> Called:
    """Call in one pool by the short way and in the other by the long one; return what both came to."""
    found = []
    ways: tuple[Way, Way] = (short_way, long_way)
    for pool, way in zip(pools, ways, strict=True):
        capfd.readouterr()
        status = way([word.replace("POOL", pool.path) for word in words.split(" ")])
        out, err = (text.replace(pool.path, "POOL") for text in capfd.readouterr())
        found.append(Called(status, out, err))
    assert found[0] == found[1]
    return found[0]


def holdings(pool: Pool) -> dict[str, tuple[str, list[int]]]:
    return {one.id: (str(one.state), numbers(one)) for one in pool}


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("start a/root", 0),
        ("start a", 0),
        ("start a/ b/root", 0),
        ("start b base/root", 0),
        ("start a/root a/root", 0),
        ("stop w", 0),
        ("stop w/root w/data", 0),
        ("stop w --discard", 0),
        ("stop --discard w/data", 0),
        ("start w/root", 0),
        ("start a w/root b", 0),
        ("stop a", 3),
        ("stop a/root", 3),
        ("stop w/root a/root", 3),
        ("start nothing", 1),
        ("start a/nothing", 1),
        ("start a unknown:b", 1),
        ("stop a/../b", 2),
        ("start a/-x", 2),
        ("start ", 2),
        ("start a é", 1),
        ("start a ../x", 2),
        ("checkpoint w", 0),
        ("checkpoint w/root w/data", 0),
        ("checkpoint a", 3),
        ("checkpoint nothing", 1),
        ("revert a/root", 0),
        ("revert a/root --to 1", 0),
        ("revert a/root --to=empty", 0),
        ("revert a/root --to 9", 1),
        ("revert a/root --to nine", 2),
        (f"revert a/root --to {'9' * 5000}", 2),
        ("revert w/root", 0),
        ("revert w/root --to 1", 1),
        ("revert b/root", 3),
        ("revert a", 2),
    ],
)
def test_both_ways_do_and_say_the_same(
    pools: list[Pool], words: str, status: int, capfd: pytest.CaptureFixture[str]
) -> None:
    called = both(pools, f"{words} --pool POOL", capfd)
    assert called.status == status
    assert bool(called.out) == (status == 0)
    assert holdings(pools[0]) == holdings(pools[1])


@pytest.mark.parametrize("given", ["--pool=", "--pool ", "LIFECYCLE_POOL="])
@pytest.mark.parametrize(
    ("chosen", "status"),
    [
        ("POOL", 0),
        ("alike", 0),
        ("usual", 0),
        ("", 0),
        ("/nothing/here", 1),
        ("unknown", 1),
        ("here", 2),
    ],
)
def test_both_ways_take_the_same_pool(
    pools: list[Pool],
    given: str,
    chosen: str,
    status: int,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(os.path.dirname(pools[0].path))
    known_pools.enter(pools[0].path, "alike")
    known_pools.enter(pools[1].path, os.path.basename(pools[0].path))  # a directory here too
    monkeypatch.setattr("lifecycle.cli.session.default_pool", lambda: pools[0].path)
    chosen = {"here": os.path.basename(pools[0].path), "usual": pools[0].path}.get(chosen, chosen)
    words = ["start", "base"]
    if given == "LIFECYCLE_POOL=":
        monkeypatch.setenv("LIFECYCLE_POOL", chosen.replace("POOL", pools[0].path))
    else:
        words += (given + chosen.replace("POOL", pools[0].path)).split(" ")
    found = []
    for way in (short_way, long_way):
        capfd.readouterr()
        found.append(Called(way(words), *capfd.readouterr()))
        if status == 0:
            pools[0]["base/root"].stop()
    assert found[0] == found[1]
    assert found[0].status == status


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (KeyboardInterrupt(), 130),
        (OSError(errno.EIO, "Input/output error", "/srv/vms"), 1),
        (BrokenPipeError(errno.EPIPE, "Broken pipe"), 1),
        (LifecycleError("it is Sunday."), 1),
    ],
    ids=repr,
)
def test_both_ways_fail_alike(
    pools: list[Pool],
    error: BaseException,
    status: int,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_volumes: object) -> None:
        raise error

    monkeypatch.setattr(batch, "start", fail)
    called = both(pools, "start a --pool POOL", capfd)
    assert called.status == status
    assert called.out == ""


# ---------------------------------------------------------------- as a process


@pytest.mark.parametrize("more", [[], ["-v"]], ids=["short", "long"])
def test_the_program_starts_and_stops(pools: list[Pool], more: list[str]) -> None:
    pool = pools[0]
    volume = pool["base/root"]
    started = call_apart("start", "base", "--pool", pool.path, *more)
    assert (started.status, started.out) == (0, f"base/root: started, at {volume.path}\n")
    assert bool(started.err) == bool(more)
    draw(volume, b"one")
    assert call_apart("stop", "base", "--pool", pool.path, *more).out == (
        "base/root: committed as 1\n"
    )
    refused = call_apart("stop", "base", "--pool", pool.path, *more)
    assert (refused.status, refused.out) == (3, "")
    assert refused.err.startswith("lifecycle: base is at rest")
    assert call_apart("stop", *more).status == 2


# ---------------------------------------------------------------- how the process ends


@pytest.mark.parametrize(
    ("work", "status", "said"),
    [
        ("return 0", 0, "begun ended\n"),
        ("return 3", 3, "begun ended\n"),
        ("raise SystemExit(5)", 5, "begun ended\n"),
        ("raise ValueError('a bug')", 1, "begun ended\n"),
        ("sys.stdout.close(); return 2", 2, "begun "),
        ("threading.Thread(target=beside).start(); return 0", 0, "begun beside ended\n"),
    ],
)
def test_a_short_lived_process_leaves_nothing_undone(work: str, status: int, said: str) -> None:
    script = f"""
import atexit, sys, threading
from lifecycle.linux import fast_exit
def beside():
    print("beside", end=" ")
def work():
    print("begun", end=" ")
    atexit.register(lambda: sys.stdout.closed or print("ended"))
    {work}
fast_exit.run(work)
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (status, said)
    assert ("Traceback" in done.stderr) == ("a bug" in work)
