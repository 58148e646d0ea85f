"""What takes the place of retention's subscriber: named in the pool's settings, or given by a program."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from unittest import mock

import pytest

from lifecycle import Change, InvalidConfig, LifecycleError, Pool, State, Volume, events
from lifecycle.backend import Pool as AnyPool
from lifecycle.backend import Volume as AnyVolume
from lifecycle.engine import batch
from support.command_line import Call, call_apart
from support.disks import SIZE, cycle, draw, numbers
from support.installed_packages import RETENTION, add
from support.mounts import FileSystem
from support.pools import create_pool
from support.snapshots import snapshot

WRITES = """
import os
from contextlib import contextmanager
from lifecycle import events

class Numbers:
    def connect(self, pool):
        events.committed.connect(self.after_commit, sender=pool)

    def after_commit(self, pool, *, volume, change):
        self.write(f"{volume.id} {change.revision}")

    @contextmanager
    def batch(self, volumes):
        self.write("several: " + ", ".join(one.id for one in volumes))
        yield
        self.write("over")

    def write(self, line):
        with open(os.environ["NUMBERS"], "a") as file:
            file.write(line + "\\n")

term = Numbers
"""
"""Writes down the numbers of revisions, and removes none."""

ONE = """
from lifecycle import events
from lifecycle.engine import retention

class One:
    def connect(self, pool):
        events.committed.connect(self.after_commit, sender=pool)

    def after_commit(self, pool, *, volume, change):
        retention.remove_revisions(volume, [one.number for one in volume.revisions[:-1]])

term = One
"""
"""Prunes in its own way: all but the newest revision."""


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory in which packages are installed, for this process too."""
    target = tmp_path / "packages"
    target.mkdir()
    monkeypatch.syspath_prepend(target)
    return target


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return what `WRITES` has written since it was asked last."""
    file = tmp_path / "numbers"
    monkeypatch.setenv("NUMBERS", str(file))

    def lines() -> list[str]:
        found = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return found

    return lines


def install(packages: Path, name: str, code: str) -> str:
    """Install a package that offers it; return how messages name it."""
    add(packages, f"retention_{name}", code, name, RETENTION)
    return f"the plugin `{name}` (retention_{name}:term of retention_{name} 1)"


@pytest.fixture
def pool(
    xfs: FileSystem,
    packages: Path,
    written: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Pool:
    """A pool that keeps no revisions, if it is asked; its retention writes numbers into a file."""
    install(packages, "numbers", WRITES)
    made = create_pool(xfs, keep="last 0", retention="numbers")
    monkeypatch.setenv("LIFECYCLE_POOL", made.path)
    return made


@pytest.fixture
def volume(pool: Pool) -> Volume:
    return pool.create_volume("ci/root", SIZE)


# ---------------------------------------------------------------- by the pool's settings


def test_it_is_told_of_commits_in_retention_s_place(
    volume: Volume, written: Callable[[], list[str]], call: Call
) -> None:
    cycle(volume, b"1")
    cycle(Pool.open(volume.pool.path)["ci/root"], b"2")
    volume.start()
    draw(volume, b"3")
    call("stop", "ci/root")
    commits = [one for one in written() if one[0] == "c"]
    assert commits == ["ci/root 1", "ci/root 2", "ci/root 3"]
    assert numbers(volume) == [1, 2]  # which `last 0` would not have kept


def test_what_a_person_asks_for_stays_with_the_policy(volume: Volume, call: Call) -> None:
    for mark in (b"1", b"2", b"3"):
        cycle(volume, mark)
    assert volume.plan().remove == (1, 2)
    volume.forget(1)
    assert "removed 1, keeps 0" in call("prune", "ci/root").out
    assert numbers(volume) == []


def test_it_stands_where_retention_s_would(pool: Pool) -> None:
    names = [type(one).__name__ for one in pool.subscribers]
    assert names == ["OwnHooks", "Numbers", "Precaching"]


def test_of_several_at_once_it_is_told_that_they_belong_together(
    pool: Pool, written: Callable[[], list[str]]
) -> None:
    volumes = [pool.create_volume(f"ci/{name}", SIZE) for name in ("a", "b")]
    pool.start(volumes)
    for one in volumes:
        draw(one, b"1")
    written()
    pool.stop(volumes)
    assert written() == ["several: ci/a, ci/b", "ci/a 1", "ci/b 1", "over"]


def test_it_can_prune_in_its_own_way(
    xfs: FileSystem, packages: Path, caplog: pytest.LogCaptureFixture
) -> None:
    install(packages, "one", ONE)
    volume = create_pool(xfs, keep="all", retention="one").create_volume("ci/root", SIZE)
    pruned: list[int | None] = []

    def hears(_pool: Pool, *, volume: Volume, change: Change) -> None:
        pruned.append(change.revision)

    events.pruned.connect(hears, sender=volume.pool)
    for mark in (b"1", b"2", b"3", b"4"):
        cycle(volume, mark)
    warnings = [one for one in caplog.records if one.levelno >= logging.WARNING]
    assert (numbers(volume), pruned, warnings) == ([3], [1, 2], [])
    volume.pin(3)
    cycle(volume, b"5")
    assert numbers(volume) == [3, 4]
    assert (volume.state, volume.current) == (State.COMMITTED, 5)
    assert "it is pinned" in caplog.text


def test_the_pool_tells_of_it(pool: Pool, xfs: FileSystem, call: Call) -> None:
    assert call("pool", "--json").document["retention"] == "numbers"
    assert "numbers" in call("pool").out
    other = create_pool(xfs)
    assert call("pool", "--pool", other.path, "--json").document["retention"] is None
    assert "retention" not in call("pool", "--pool", other.path).out


@pytest.mark.usefixtures("packages")
def test_no_package_is_looked_at_where_none_is_named(xfs: FileSystem) -> None:
    with mock.patch.object(metadata, "entry_points", side_effect=AssertionError):
        volume = create_pool(xfs, keep="last 0").create_volume("ci/root", SIZE)
        for mark in (b"1", b"2"):
            cycle(Pool.open(volume.pool.path)["ci/root"], mark)
    assert numbers(volume) == []


# ---------------------------------------------------------------- given by a program


class Remembers:
    """A subscriber of a program's own."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def connect(self, pool: AnyPool) -> None:
        events.committed.connect(self.after_commit, sender=pool)

    def after_commit(self, _pool: Pool, *, volume: Volume, change: Change) -> None:
        self.told.append(f"{volume.id} {change.revision}")

    @contextmanager
    def batch(self, volumes: Sequence[AnyVolume]) -> Iterator[None]:
        self.told.append(" ".join(one.id for one in volumes))
        yield
        self.told.append("over")


def test_a_program_gives_one_to_the_pool_that_it_opens(
    volume: Volume, written: Callable[[], list[str]]
) -> None:
    mine = Remembers()
    pool = Pool.open(volume.pool.path, retention=mine)
    cycle(pool["ci/root"], b"1")
    cycle(pool["ci/root"], b"2")
    assert mine.told == ["ci/root 1", "ci/root 2"]
    assert (written(), numbers(volume)) == ([], [1])
    assert mine in pool.subscribers


def test_one_that_serves_several_pools_is_told_once_of_all_that_belongs_together(
    xfs: FileSystem,
) -> None:
    mine = Remembers()
    pools = [Pool.open(create_pool(xfs).path, retention=mine) for _ in range(2)]
    volumes = [pool.create_volume(f"ci/{n}", SIZE) for n, pool in enumerate(pools)]
    batch.start(volumes)
    for one in volumes:
        draw(one, b"1")
    mine.told.clear()
    batch.stop(volumes)
    assert mine.told == ["ci/0 ci/1", "ci/0 1", "ci/1 1", "over"]


# ---------------------------------------------------------------- failing ones

CLASS = """
import sys
from contextlib import contextmanager
from lifecycle import events

class Halt(BaseException): ...

class Fails:
    def connect(self, pool):
        events.committed.connect(self.after_commit, sender=pool)
    def after_commit(self, pool, *, volume, change): {after_commit}
    {batch}

term = Fails
"""
BLOCK = """@contextmanager
    def batch(self, volumes):
        {}
        yield
        {}"""
AT_WORK: dict[str, tuple[str, str]] = {
    "raises": (CLASS.format(after_commit="1 / 0", batch=""), "raised ZeroDivisionError"),
    "exits": (CLASS.format(after_commit="sys.exit(0)", batch=""), "raised SystemExit"),
    "halts": (CLASS.format(after_commit="raise Halt", batch=""), "raised Halt"),
    "begins_no_batch": (
        CLASS.format(after_commit="...", batch="def batch(self, volumes): 1 / 0"),
        "retention_begins_no_batch.Fails, raised ZeroDivisionError",
    ),
    "has_no_block": (
        CLASS.format(after_commit="...", batch="def batch(self, volumes): ..."),
        "retention_has_no_block.Fails, raised AttributeError",
    ),
    "is_asynchronous": (
        CLASS.format(after_commit="...", batch="async def batch(self, volumes): ..."),
        "retention_is_asynchronous.Fails, raised TypeError",
    ),
    "ends_badly": (
        CLASS.format(after_commit="...", batch=BLOCK.format("...", "sys.exit(0)")),
        "retention_ends_badly.Fails, raised SystemExit",
    ),
    "never_begins": (
        CLASS.format(after_commit="...", batch=BLOCK.format("raise Halt", "...")),
        "retention_never_begins.Fails, raised Halt",
    ),
}
"""Those that fail when something is committed, and what the log says."""

NONE: dict[str, tuple[str, str]] = {
    "imports_not": ("import nowhere", "cannot be loaded: it raised ModuleNotFoundError: No module"),
    "leaves": ("import sys; sys.exit(0)", "cannot be loaded: it raised SystemExit: 0"),
    "is_a_number": ("term = 5", "without arguments it raised TypeError: 'int' object is not"),
    "wants_a_pool": ("def term(pool): ...", "without arguments it raised TypeError"),
    "makes_none": ("def term(): ...", "returned None, which has no `connect`"),
    "is_async": ("async def term(): ...", "it returned a coroutine, which no one awaits"),
}
"""Those that are no subscribers at all, and how that is said."""

CANNOT_CONNECT: dict[str, tuple[str, str]] = {
    "refuses": ("def connect(self, pool): raise OSError('no')", "it raised OSError: no"),
    "takes_no_pool": ("def connect(self): ...", "it raised TypeError"),
    "listens_in_vain": (
        """async def later(self, pool, **_): ...
    def connect(self, pool): events.committed.connect(self.later, sender=pool)""",
        "it raised NotASubscriber",
    ),
}
"""Those that fail when a pool connects them, and how that is said."""


def spoil(pool: Pool, packages: Path, name: str, code: str) -> str:
    """Let the pool's settings name one that fails."""
    plugin = install(packages, name, code)
    settings = Path(pool.path, "pool.toml")
    settings.write_text(settings.read_text().replace('"numbers"', f'"{name}"'))
    return plugin


@pytest.fixture
def tried(
    pool: Pool, ahead: list[str], call: Call, caplog: pytest.LogCaptureFixture
) -> Callable[[], str]:
    """Return a function that commits in all ways with the pool as it is set up now, and returns what was logged."""
    pool.create_volume("ci/root", SIZE).configure(precache="always")
    pool.create_volume("ci/data", SIZE)

    def tried() -> str:
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            opened = Pool.open(pool.path)
            root, data = opened["ci/root"], opened["ci/data"]
            ahead.clear()
            assert cycle(root, b"alone") == 1
            assert ahead == ["ci/root"]  # those after it are told
            opened.start([root, data])
            for one in (root, data):
                draw(one, b"with another")
            ahead.clear()
            assert [change.revision for _one, change in opened.stop([root, data])] == [2, 1]
            assert "ci/root" in ahead
            call("start", "ci")
            draw(root, b"by the command")
            called = call("stop", "ci")
        assert "Traceback" not in called.err
        assert (root.state, root.current, numbers(root)) == (State.COMMITTED, 3, [1, 2])
        return caplog.text

    return tried


@pytest.mark.parametrize("name", AT_WORK)
def test_one_that_fails_at_work_is_logged_by_its_name_and_commits_stand(
    name: str, pool: Pool, packages: Path, tried: Callable[[], str]
) -> None:
    code, said = AT_WORK[name]
    spoil(pool, packages, name, code)
    logged = tried()
    assert f"a subscriber, retention_{name}.Fails" in logged
    assert said in logged


@pytest.mark.parametrize("name", NONE | CANNOT_CONNECT)
def test_one_that_cannot_be_had_any_more_is_logged_by_its_name_and_commits_stand(
    name: str, pool: Pool, packages: Path, tried: Callable[[], str]
) -> None:
    if name in NONE:
        code, said = NONE[name]
    else:
        method, said = CANNOT_CONNECT[name]
        code = f"from lifecycle import events\nclass term:\n    {method}"
    plugin = spoil(pool, packages, name, code)
    logged = tried()
    assert f"{pool.path}: nothing is pruned after a commit: {plugin} " in logged
    assert said in logged


def test_one_that_is_not_installed_any_more(pool: Pool, tried: Callable[[], str]) -> None:
    settings = Path(pool.path, "pool.toml")
    settings.write_text(settings.read_text().replace('"numbers"', '"gone"'))
    assert "nothing is pruned after a commit: there is no retention subscriber `gone`" in tried()
    called = call_apart("list")
    assert called.said.count("there is no retention subscriber `gone`: known are none;") == 1


@pytest.mark.parametrize("name", [*NONE, "uninstalled"])
def test_no_pool_is_made_with_one_that_cannot_be_had(
    name: str, xfs: FileSystem, packages: Path
) -> None:
    code, said = NONE.get(name, ("", "there is no retention subscriber `uninstalled`"))
    if code:
        install(packages, name, code)
    place = xfs.new_directory()
    before = snapshot(place)
    with pytest.raises(InvalidConfig) as caught:
        Pool.create(place / "pool", retention=name)
    assert caught.value.reason.startswith("`retention`: ")
    assert said in str(caught.value)
    assert snapshot(place) == before


def test_one_that_wants_to_act_in_the_backend_s_place_is_refused(
    pool: Pool, packages: Path
) -> None:
    code = (
        "from lifecycle import events\nclass term:\n"
        "    def connect(self, pool): events.commit.connect(self.act, sender=pool)\n"
        "    def act(self, pool, **_): ..."
    )
    spoil(pool, packages, "acts", code)
    with pytest.raises(LifecycleError, match=r"retention_acts\.term\.act"):
        Pool.open(pool.path)
