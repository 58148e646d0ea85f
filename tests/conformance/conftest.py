"""The backends under test: each file of the suite runs on those that promise what it is about (promises.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from conformance.harnesses import HARNESSES, Hold
from conformance.promises import PROMISES
from lifecycle import Pool
from support.installed_packages import add_project
from support.mounts import FileSystem
from support.pools import NewPool

Fill = Callable[[Mapping[str, bytes]], Pool]

SQLITE = Path(__file__).parents[1] / "sqlite_backend"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run the test on each backend that promises what its file is about, on each of its file systems; and by each way.

    `hold` is each way to have a disk open, `write` each to change it.
    """
    if "backend" not in metafunc.fixturenames:
        return
    file = metafunc.module.__name__.rpartition(".")[2]
    names = ["backend", "file_system"]
    cases = [
        (name, kind)
        for name, parts in PROMISES.items()
        if file in parts
        for kind in HARNESSES[name].file_systems
    ]
    for one in ("hold", "write"):
        if one in metafunc.fixturenames:
            names.append(one)
            cases = [
                (*case, way) for case in cases for way in getattr(HARNESSES[case[0]], f"{one}s")
            ]
    ids = ["-".join(getattr(part, "__name__", str(part)) for part in case) for case in cases]
    metafunc.parametrize(names, cases, indirect=["file_system"], ids=ids)


@pytest.fixture
def file_system(request: pytest.FixtureRequest, mounted: Callable[[str], FileSystem]) -> FileSystem:
    """The file system under test, of the kinds that the backend is tried on."""
    return mounted(request.param)


@pytest.fixture(scope="session")
def sqlite_backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The backend of another package, installed for all tests."""
    with pytest.MonkeyPatch.context() as patch:
        for place in add_project(tmp_path_factory.mktemp("installed"), SQLITE):
            patch.syspath_prepend(place)
        yield


@pytest.fixture
def new_pool(backend: str, file_system: FileSystem, request: pytest.FixtureRequest) -> NewPool:
    """Return a function that makes a pool of the backend under test, with settings of `Pool.create`."""
    _install(backend, request)
    return lambda **settings: HARNESSES[backend].create(file_system, **settings)


@pytest.fixture
def fill(backend: str, file_system: FileSystem, request: pytest.FixtureRequest) -> Iterator[Fill]:
    """Return a function that makes a pool of the backend under test, with volumes of these contents."""
    _install(backend, request)
    with ExitStack() as undone:
        yield lambda contents: HARNESSES[backend].fill(file_system, contents, undone)


def _install(backend: str, request: pytest.FixtureRequest) -> None:
    if backend == "sqlite":
        request.getfixturevalue("sqlite_backend")


@pytest.fixture
def pool(fill: Fill) -> Pool:
    """A new, empty pool of the backend under test."""
    return fill({})


@pytest.fixture
def by_this_process(backend: str) -> Hold:
    """How this process has a disk open."""
    return HARNESSES[backend].holds[0]


@pytest.fixture
def by_another_process(backend: str) -> Hold:
    """How another process has a disk open."""
    return HARNESSES[backend].holds[1]
