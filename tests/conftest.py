"""What every test may ask for: real file systems, and pools on them."""

from __future__ import annotations

import os
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lifecycle import Pool
from lifecycle.subscribers import precaching
from support import required_programs
from support.listeners import Listener
from support.mounts import KINDS, CannotMount, FileSystem, Mounts, giving_back
from support.pools import NewPool, create_pool

pytest_plugins = [
    "support.command_line",
    "support.journald",
    "support.booted_systemd",
    "support.guest",
]


def pytest_configure() -> None:
    """Let the programs that tests begin find things as at a login, whoever began us: CI, `nohup`, a unit, a script.

    A signal that we were told to ignore we go on to take no notice of; but one with a handler is, in a program that we
    begin, as it usually is.
    """
    os.umask(0o022)
    for name in filter(SURROUNDINGS.fullmatch, list(os.environ)):
        del os.environ[name]
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN and number not in IGNORED_BY_PYTHON:
            signal.signal(number, lambda *_: None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a real file system, so that `make check` can leave them to `make test`."""
    for item in items:
        if "mounted" in getattr(item, "fixturenames", ()):
            item.add_marker("mounts")


SURROUNDINGS = re.compile(
    "LIFECYCLE_(?!CRASH$).*|COLUMNS|LINES|NO_COLOR|FORCE_COLOR"
    "|JOURNAL_STREAM|NOTIFY_SOCKET|INVOCATION_ID|SERVICE_RESULT|EXIT_CODE|EXIT_STATUS"
)
"""Variables that would change what lifecycle does or prints; LIFECYCLE_CRASH is for test_random_lives.py."""
IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
"""Which subprocess restores by itself."""


@pytest.fixture(scope="session")
def mounted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], FileSystem]:
    """Return a function from `xfs`, `btrfs` or `plain` to that file system, mounted.

    Where it cannot be mounted the test is skipped; but it fails where `CI` is set.
    """
    mounts: list[Mounts] = []

    def get(kind: str) -> FileSystem:
        try:
            if not mounts:
                mounts.append(Mounts(tmp_path_factory.mktemp("mounts")))
            return mounts[0].get(kind)
        except CannotMount as error:
            required_programs.missing(f"needs a real file system ({kind}): {error}")

    return get


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what this machine lacks: a line a reason, with how many tests were skipped for it."""
    skipped = Counter(str(one.longrepr[2]) for one in terminalreporter.getreports("skipped"))
    if skipped:
        terminalreporter.section("skipped")
    for reason, count in skipped.most_common():
        terminalreporter.line(f"{count:5} {reason.removeprefix('Skipped: ')}")


@pytest.fixture(autouse=True)
def room() -> Iterator[None]:
    """Take away what the test made on the file systems, so that all of them fit into little memory."""
    with giving_back():
        yield


@pytest.fixture(autouse=True)
def settings(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this user's settings of lifecycle lie for the test, with the pools known by name: not on the machine."""
    directory = tmp_path_factory.mktemp("settings") / "lifecycle"
    monkeypatch.setenv("LIFECYCLE_CONFIG", str(directory))
    return directory


@pytest.fixture(autouse=True)
def ahead(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The volumes whose working images were to be made ahead: no test waits for the processes that would do it."""
    asked: list[str] = []
    monkeypatch.setattr(
        precaching, "begin_soon", lambda _path, *volume_ids: asked.extend(volume_ids)
    )
    return asked


@pytest.fixture
def xfs(mounted: Callable[[str], FileSystem]) -> FileSystem:
    """An XFS."""
    return mounted("xfs")


@pytest.fixture(params=KINDS)
def file_system(request: pytest.FixtureRequest, mounted: Callable[[str], FileSystem]) -> FileSystem:
    """The file system under test; a test that asks for it runs once on each kind."""
    return mounted(request.param)


@pytest.fixture
def other_file_system(file_system: FileSystem, mounted: Callable[[str], FileSystem]) -> FileSystem:
    """Another file system than the one under test, so that the two cannot share blocks."""
    return mounted("btrfs" if file_system.kind == "xfs" else "xfs")


@pytest.fixture
def new_pool(file_system: FileSystem) -> NewPool:
    """Return a function that makes a pool on the file system under test, with settings of `Pool.create`."""
    return lambda **settings: create_pool(file_system, **settings)


@pytest.fixture
def new_xfs_pool(xfs: FileSystem) -> NewPool:
    """Return a function that makes a pool on XFS, with settings of `Pool.create`."""
    return lambda **settings: create_pool(xfs, **settings)


@pytest.fixture
def pool(new_pool: NewPool) -> Pool:
    """A new, empty pool on the file system under test. To the conformance suite this is the backend."""
    return new_pool()


@pytest.fixture
def pool_elsewhere(other_file_system: FileSystem) -> Pool:
    """A new, empty pool on another file system than `pool`."""
    return create_pool(other_file_system)


@pytest.fixture
def listener(pool: Pool) -> Iterator[Listener]:
    """One who hears everything from `pool`."""
    listener = Listener(pool)
    yield listener
    listener.close()
