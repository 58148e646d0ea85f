"""Backends of other packages that are none, or fail: named by whatever opens or uses the pool."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import InvalidConfig, LifecycleError, PluginFailed, Pool, State, events
from lifecycle.backend import Backend
from lifecycle.cli.session import Session
from lifecycle.engine import plugged_backend
from lifecycle.engine.pool import Volume
from support.command_line import Call
from support.installed_packages import BACKENDS, add
from support.mounts import FileSystem
from support.snapshots import snapshot

SHELF = "from lifecycle.directory.backend import DirectoryBackend\nclass term(DirectoryBackend):\n"
NONE: dict[str, tuple[str, str]] = {
    "imports_not": ("import nowhere", "cannot be loaded: it raised ModuleNotFoundError: No module"),
    "leaves": ("import sys; sys.exit(7)", "cannot be loaded: it raised SystemExit: 7"),
    "lacks_it": ("other = 1", "cannot be loaded: it raised AttributeError"),
    "number": ("term = 5", "is no backend: it is 5 and not a class"),
    "module": ("import os as term", "is no backend: it is <module 'os'"),
    "takes_nothing": (
        "class term: pass",
        "is no backend: called with a pool's path and settings it raised TypeError",
    ),
    "exits": (
        "import sys\ndef term(path, config): sys.exit(7)",
        "is no backend: called with a pool's path and settings it raised SystemExit: 7",
    ),
    "makes_none": (
        "def term(path, config): pass",
        "is no backend: a NoneType has no method `set_up`",
    ),
    "is_async": (
        "async def term(path, config): pass",
        "is no backend: it returned a coroutine, which no one awaits",
    ),
    "empty": (
        "class term:\n    def __init__(self, path, config): pass",
        "is no backend: a term has no method `set_up`",
    ),
    "lacks_verify": (f"{SHELF}    verify = None", "is no backend: a term has no method `verify`"),
    "other_signature": (
        f"{SHELF}    def look(self): ...",
        "is no backend: its method `look` does not take what it is called with, (self, volume_id: str)",
    ),
    "other_event": (
        f"{SHELF}    def commit(self, pool, volume, change, more): ...",
        "is no backend: its method `commit` does not take what it is called with, (self, pool: Pool, *,",
    ),
    "other_option": (
        f"{SHELF}    def revisions(self, volume_id): ...",
        "is no backend: its method `revisions` does not take what it is called with",
    ),
    "async_look": (
        f"{SHELF}    async def look(self, volume_id): ...",
        "is no backend: its method `look` is a coroutine function",
    ),
    "no_mode": (
        f"{SHELF}    pool_file_mode = None",
        "is no backend: its `pool_file_mode` is no number",
    ),
}
"""Entry points that are no backends, and how that is said."""


def install(target: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Install the package; return how messages name it."""
    add(target, f"bad_{name}", code, name, BACKENDS)
    monkeypatch.syspath_prepend(target)
    return f"`{name}` (bad_{name}:term of bad_{name} 1)"


@pytest.fixture
def place(xfs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with an image in it, which is the pool that commands use."""
    found = xfs.new_directory()
    (found / "vm").mkdir()
    (found / "vm" / "image").write_bytes(bytes(4096))
    monkeypatch.setenv("LIFECYCLE_POOL", str(found))
    return found


def set_up(place: Path, name: str) -> None:
    (place / "pool.toml").write_text(f"format = 1\ndriver = '{name}'\n")


@pytest.mark.parametrize("name", NONE)
def test_what_is_no_backend_makes_no_pool(
    name: str, place: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = NONE[name]
    plugin = install(tmp_path, name, code, monkeypatch)
    before = snapshot(place)
    with pytest.raises(InvalidConfig) as caught:
        Pool.create(place, driver=name)
    assert f"the driver {plugin} {said}" in str(caught.value)
    words = ("init", str(place), "--driver", name)
    assert f"the driver {plugin} {said}" in call(*words, status=2).complaint
    answer = call(*words, "--json", status=2).document
    assert f"the driver {plugin} {said}" in answer["error"]["message"]
    assert snapshot(place) == before


COMMANDS = (
    "list",
    "show vm/image",
    "start vm/image",
    "stop vm/image",
    "log vm/image",
    "set vm/image rw=no",
    "create vm/new --size 1M",
    "clone vm/image vm/new",
    "prune",
    "prune --dry-run",
    "recover",
    "verify",
    "pool",
)


@pytest.mark.parametrize("name", NONE)
def test_a_pool_of_what_is_no_backend_is_told(
    name: str, place: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, said = NONE[name]
    plugin = install(tmp_path, name, code, monkeypatch)
    set_up(place, name)
    before = snapshot(place)
    with pytest.raises(InvalidConfig) as caught:
        Pool.open(place)
    assert f"the driver {plugin} {said}" in str(caught.value)
    for words in COMMANDS:
        assert f"the driver {plugin} {said}" in call(*words.split(), status=1).complaint
    answer = call("list", "--json", status=1).document
    assert f"the driver {plugin} {said}" in answer["error"]["message"]
    assert snapshot(place) == before


def test_of_two_packages_with_one_driver_none_is_chosen(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("one", "two"):
        add(tmp_path, module, SHELF + "    pass", "shelf", BACKENDS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        InvalidConfig, match="more than one installed package offers a driver"
    ) as told:
        Pool.create(place, driver="shelf")
    assert "one:term of one 1" in str(told.value)
    assert "two:term of two 1" in str(told.value)


# ---------------------------------------------------------------- one that fails at its work

FAILING = f"""
import contextlib, sys
{SHELF}    wrong = None

    def __getattribute__(self, name):
        wrong = object.__getattribute__(self, "wrong")
        return wrong[1] if wrong is not None and wrong[0] == name else object.__getattribute__(self, name)

    def connect(self, pool):
        from lifecycle import events
        for event, tenses in events.EVENTS.items():
            tenses.done.connect(Acts(self, event), sender=pool, weak=False)

class Acts:
    def __init__(self, backend, event):
        self.backend, self.event = backend, event

    def __call__(self, pool, **what):
        return getattr(self.backend, "import_" if self.event == "import" else self.event)(pool, **what)

class Halt(BaseException):
    pass

class Unreadable:
    size, fd = 4096, None
    def extents(self):
        yield 0, 4096
    def read(self, offset, count):
        raise KeyError("x")
    def close(self):
        pass

class Textual(Unreadable):
    def read(self, offset, count):
        return "x"

def raises(error):
    def method(*args, **options):
        raise error
    return method

def yields(*several):
    return lambda *args, **options: iter(several)

def raises_later(error):
    def method(*args, **options):
        yield from ()
        raise error
    return method

def answers(value):
    return lambda *args, **options: value

@contextlib.contextmanager
def hangs_on(*args, **options):
    yield
    sys.exit(7)

async def later(*args, **options):
    pass
"""
WRONG: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "look raises": (
        "look",
        "raises(ZeroDivisionError('by none'))",
        "raised ZeroDivisionError: by none",
        ("show vm/image", "start vm/image", "stop vm/image", "log vm/image"),
    ),
    "look exits": ("look", "raises(SystemExit(7))", "raised SystemExit: 7", ("show vm/image",)),
    "look halts": ("look", "raises(Halt('now'))", "raised Halt: now", ("show vm/image",)),
    "look closes": ("look", "raises(GeneratorExit())", "raised GeneratorExit", ("show vm/image",)),
    "look is none": ("look", "answers(None)", "answered `look` with None", ("show vm/image",)),
    "settle is a text": (
        "settle",
        "answers('created')",
        "answered `settle` with 'created'",
        ("start vm/image",),
    ),
    "the attachment is a path": (
        "attachment",
        "answers('/x')",
        "answered `attachment` with '/x'",
        ("show vm/image",),
    ),
    "what is opened is a number": (
        "open_image",
        "answers(5)",
        "answered `open_image` with 5, which has no `size`",
        ("export vm/image /tmp/never-written",),
    ),
    "what is opened fails": (
        "open_image",
        "answers(Unreadable())",
        "raised KeyError: 'x'",
        ("export vm/image /tmp/never-written",),
    ),
    "what is opened is read as a text": (
        "open_image",
        "answers(Textual())",
        "answered `read` with 'x'",
        ("export vm/image /tmp/never-written",),
    ),
    "revisions are numbers": (
        "revisions",
        "answers((1, 2))",
        "answered `revisions` with 1",
        ("log vm/image",),
    ),
    "revisions are none": ("revisions", "answers(None)", "raised TypeError", ("log vm/image",)),
    "usage is a text": ("usage", "answers('4K')", "answered `usage` with '4K'", ("show vm/image",)),
    "ids are numbers": (
        "volume_ids",
        "yields(1)",
        "answered `volume_ids` with 1",
        ("prune",),
    ),
    "ids stop": (
        "volume_ids",
        "raises_later(SystemExit(7))",
        "raised SystemExit: 7",
        ("prune",),
    ),
    "the survey is none": ("survey", "answers(None)", "raised TypeError", ("list",)),
    "the survey yields texts": (
        "survey",
        "yields('vm/image')",
        "answered `survey` with 'vm/image'",
        ("list",),
    ),
    "the survey stops": (
        "survey",
        "raises_later(KeyError('x'))",
        "raised KeyError: 'x'",
        ("list",),
    ),
    "verify yields none": ("verify", "yields(None)", "answered `verify` with None", ("verify",)),
    "the capacity is a number": (
        "capacity",
        "answers(4096)",
        "answered `capacity` with 4096",
        ("pool",),
    ),
    "lock raises": (
        "lock",
        "raises(RuntimeError('stuck'))",
        "raised RuntimeError: stuck",
        ("start vm/image", "stop vm/image"),
    ),
    "lock is none": ("lock", "answers(None)", "raised AttributeError", ("start vm/image",)),
    "lock fails in the end": ("lock", "hangs_on", "raised SystemExit: 7", ("start vm/image",)),
    "start exits": ("start", "raises(SystemExit(7))", "raised SystemExit: 7", ("start vm/image",)),
    "start raises": ("start", "raises(KeyError('x'))", "raised KeyError: 'x'", ("start vm/image",)),
    "start closes": (
        "start",
        "raises(GeneratorExit())",
        "raised GeneratorExit",
        ("start vm/image",),
    ),
    "a step of start exits": (
        "start",
        "raises_later(SystemExit(7))",
        "raised SystemExit: 7",
        ("start vm/image", "start vm"),
    ),
    "start answers 5": ("start", "answers(5)", "raised TypeError", ("start vm/image",)),
}
"""What a method does instead of its work, how that is said, and by which commands it is met."""


@pytest.fixture
def failing(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return a function that lets a method of the pool's backend do something else; it gives the plugin's name."""
    plugin = install(tmp_path, "shelf", FAILING, monkeypatch)
    monkeypatch.delitem(sys.modules, "bad_shelf", raising=False)
    Pool.create(place, driver="shelf")
    module = sys.modules["bad_shelf"]

    def fail(name: str) -> str:
        method, code, said, _words = WRONG[name]
        wrong = eval(code, vars(module))
        monkeypatch.setattr(module.term, "wrong", (method, wrong))
        return f"the plugin {plugin} {said}"

    yield fail  # type: ignore[misc]
    sys.modules.pop("bad_shelf", None)


@pytest.mark.parametrize("name", WRONG)
def test_a_backend_that_fails_is_named(
    name: str, place: Path, failing: Callable[[str], str], call: Call
) -> None:
    said = failing(name)
    for words in WRONG[name][3]:
        called = call(*words.split(), status=1)
        assert said in called.err + called.out
        assert "Traceback" not in called.err
        answer = call(*words.split(), "--json", status=1).out
        assert said in str(json.loads(answer))


def test_a_failure_is_told_of_as_such(place: Path, failing: Callable[[str], str]) -> None:
    heard = []

    def hears(_pool: Pool, *, volume: Volume, change: object, error: Exception) -> None:
        heard.append(error)

    pool = Pool.open(place)
    events.failed.connect(hears, sender=pool)
    said = failing("start exits")
    with pytest.raises(PluginFailed) as caught:
        pool["vm/image"].start()
    assert heard == [caught.value]
    assert said in str(caught.value)
    assert pool["vm/image"].state is State.CREATED


def test_what_it_may_raise_is_left_as_it_is(
    place: Path, failing: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failing("look raises")
    module = sys.modules["bad_shelf"]
    pool = Pool.open(place)
    for error in (LifecycleError("mine"), OSError(5, "I/O error"), KeyboardInterrupt()):
        monkeypatch.setattr(module.term, "wrong", ("look", module.raises(error)))
        with pytest.raises(type(error)) as caught:
            pool["vm/image"].look()
        assert caught.value is error


def test_what_is_raised_under_its_lock_is_not_taken_for_its_own(
    place: Path, failing: Callable[[str], str]
) -> None:
    pool = Pool.open(place)
    with pytest.raises(ZeroDivisionError), pool.locked("vm"):
        raise ZeroDivisionError


def test_every_method_that_tells_is_checked() -> None:
    told = {
        *plugged_backend._ANSWERS,
        *plugged_backend._SEVERAL,
        *plugged_backend._YIELDED,
        *plugged_backend._READS,
    }
    acts = {
        *events.EVENTS,
        "import_",
        "set_up",
        "connect",
        "lock",
        "tidy",
        "configure",
        "annotate",
        "tag",
    }
    assert told | acts - {"import"} == set(plugged_backend._METHODS)
    assert set(plugged_backend._METHODS) <= set(dir(Backend))


@pytest.mark.parametrize(
    "value", ["bad-shelf:term", "bad_shelf term", ":term", "lifecycle-shelf:x"]
)
def test_an_entry_point_that_is_none_is_named(
    place: Path, tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    install(tmp_path, "shelf", "term = 1", monkeypatch)
    points = tmp_path / "bad_shelf-1.dist-info" / "entry_points.txt"
    points.write_text(f"[{BACKENDS}]\nshelf = {value}\n")
    set_up(place, "shelf")
    complaint = call("list", status=1).complaint
    assert (
        f"the driver `shelf` ({value} of bad_shelf 1) cannot be loaded: its entry point"
        in complaint
    )


def test_one_that_has_no_room_for_who_watches_works_on_a_terminal(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"{SHELF}    def __setattr__(self, name, value):\n"
    code += "        if name == 'on_look' and value: raise AttributeError(name)\n"
    code += "        super().__setattr__(name, value)\n"
    install(tmp_path, "narrow", code, monkeypatch)
    set_up(place, "narrow")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with Session(str(place), as_json=False) as session:
        assert [volume.id for volume in session.pool] == ["vm/image"]


def test_all_else_is_the_backends_own(place: Path, failing: Callable[[str], str]) -> None:
    pool = Pool.open(place)
    seen: list[int] = []
    pool.backend.on_look = seen.append
    assert pool.backend.on_look == seen.append
    assert pool.backend.root == str(place)  # type: ignore[attr-defined]
    assert pool.backend._backend.on_look == seen.append  # type: ignore[attr-defined]
