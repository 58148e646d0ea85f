"""Retention terms of other packages that fail, wherever a policy is used: they are named, before anything is saved.

The packages are installed. Each works until it is spoiled, as one does that an upgrade broke.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import InvalidPolicy, LifecycleError, PluginFailed, Pool, State, Volume, policies
from lifecycle.machine import known_pools
from support.command_line import Call
from support.disks import SIZE, cycle, draw, numbers
from support.installed_packages import add
from support.mounts import FileSystem
from support.pools import create_pool
from support.snapshots import snapshot

WORKS = "{one.number: 'mine' for one in candidates}"
TERM = """
import sys
SPOILED = False

class Halt(BaseException):
    pass

class Mute(Exception):
    def __str__(self):
        raise SystemExit(7)

class Odd(dict):
    def items(self):
        sys.exit(7)

def raises(error):
    raise error

async def later(candidates, now):
    return {{}}

def one_by_one(candidates, now):
    yield 1, "mine"

def term(argument, zone):
    def keeps(candidates, now):
        return ({does}) if SPOILED else {works}
    return keeps
"""
FAILS: dict[str, tuple[str, str]] = {
    "raises": ("1 / 0", "raised ZeroDivisionError: division by zero"),
    "exits": ("sys.exit(7)", "raised SystemExit: 7"),
    "halts": ("raises(Halt('enough'))", "raised Halt: enough"),
    "closes": ("raises(GeneratorExit())", "raised GeneratorExit"),
    "says_nothing": ("raises(Mute())", "raised Mute"),
    "escapes": ("raises(ValueError('\\x1b[31mred'))", r"raised ValueError: \x1b[31mred"),
    "none": ("None", "returned None, which is no mapping"),
    "listed": ("[1, 2]", "returned [1, 2], which is no mapping"),
    "pairs": ("[(1, 'mine')]", "returned [(1, 'mine')], which is no mapping"),
    "text": ("'all'", "returned 'all', which is no mapping"),
    "later": ("later(candidates, now)", "returned a coroutine, which no one awaits"),
    "one_by_one": ("one_by_one(candidates, now)", "returned a generator, which no one runs"),
    "not_there": ("{999: 'mine'}", "keeps 999, which is none of the revisions it was given"),
    "as_text": ("{'1': 'mine'}", "keeps '1', which is none of the revisions"),
    "true": ("{True: 'mine'}", "keeps True, which is none of the revisions"),
    "no_reason": ("{1: None}", "keeps 1 for the reason None, which is no line of text"),
    "number": ("{1: 5}", "keeps 1 for the reason 5, which is no line of text"),
    "bytes": ("{1: b'mine'}", "keeps 1 for the reason b'mine', which is no line of text"),
    "blank": ("{1: ' '}", "keeps 1 for the reason ' ', which is no line of text"),
    "lines": ("{1: 'a\\nb'}", "keeps 1 for the reason 'a\\nb', which is no line of text"),
    "red": ("{1: '\\x1b[31m'}", "keeps 1 for the reason '\\x1b[31m', which is no line of text"),
    "odd": ("Odd()", "raised SystemExit: 7"),
    "reverses": ("candidates.reverse()", "raised AttributeError"),
    "empties": ("candidates.clear()", "raised AttributeError"),
    "marks": ("setattr(candidates[0], 'pinned', True)", "raised AttributeError: can't set"),
}
"""What a spoiled term does, and how that is said."""


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("installed")
    for name, (does, _said) in FAILS.items():
        add(target, f"bad_{name}", TERM.format(does=does, works=WORKS), name)
    return target


@pytest.fixture(autouse=True)
def installed(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(packages)
    for name in [one for one in sys.modules if one.startswith("bad_")]:
        monkeypatch.delitem(sys.modules, name)  # another test's package of that name
    policies._parse.cache_clear()  # a process knows a term that it loaded


def spoil(name: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Break the term; return how it is named, and what is said of it."""
    policies.check(f"{name} 1")
    monkeypatch.setattr(sys.modules[f"bad_{name}"], "SPOILED", True)
    return f"the plugin `{name}` (bad_{name}:term of bad_{name} 1) {FAILS[name][1]}"


@pytest.fixture
def pool(xfs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> Pool:
    made = create_pool(xfs, keep="all")
    monkeypatch.setenv("LIFECYCLE_POOL", made.path)
    return made


@pytest.fixture
def volume(pool: Pool) -> Volume:
    """A volume with three revisions."""
    made = pool.create_volume("ci/root", SIZE)
    for mark in (b"1", b"2", b"3", b"4"):
        cycle(made, mark)
    return made


# ---------------------------------------------------------------- asked for: refused, and nothing is saved

ASKED: dict[str, Callable[[Pool, str], object]] = {
    "init": lambda pool, line: Pool.create(f"{pool.path}/new", keep=line),
    "create": lambda pool, line: pool.create_volume("ci/new", SIZE, keep=line),
    "clone": lambda pool, line: pool.clone(pool["ci/root"], "ci/new", keep=line),
    "set": lambda pool, line: pool["ci/root"].configure(keep=line, on_crash="revert"),
}
WORDS = {
    "init": "init POOL/new --keep LINE --no-setup-check",
    "create": "create ci/new --size 1M --keep LINE",
    "clone": "clone ci/root ci/new --keep LINE",
    "set": "set ci/root label=new keep=LINE",
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", FAILS)
def test_it_is_refused_where_it_is_asked_for(
    name: str, asked: str, pool: Pool, volume: Volume, call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = spoil(name, monkeypatch)
    line = f"last 1, {name} 1"
    before = snapshot(pool.path)
    with pytest.raises(PluginFailed) as caught:
        ASKED[asked](pool, line)
    assert said in str(caught.value)
    assert f"`{name}` (bad_{name}:term of bad_{name} 1)" == caught.value.plugin

    words = [
        one.replace("POOL", pool.path).replace("LINE", line) for one in WORDS[asked].split(" ")
    ]
    assert said in call(*words, status=1).complaint
    complained = call(*words, "--json", status=1)
    assert complained.document["error"]["kind"] == "PluginFailed"
    assert said in complained.document["error"]["message"]
    assert snapshot(pool.path) == before


# ---------------------------------------------------------------- in force: nothing is pruned


@pytest.fixture(params=FAILS)
def broken(
    request: pytest.FixtureRequest, pool: Pool, volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> tuple[Volume, str]:
    """A volume whose policy names a term that was sound then; and what is said of it now."""
    name: str = request.param
    policies.check(f"{name} 1")
    volume.configure(keep=f"last 1, {name} 1")
    return volume, spoil(name, monkeypatch)


def test_nothing_is_pruned(broken: tuple[Volume, str], call: Call) -> None:
    volume, said = broken
    before = snapshot(volume.pool.path)
    for planning in (Volume.plan, Volume.prune):
        with pytest.raises(PluginFailed) as caught:
            planning(volume)
        assert said in str(caught.value)
    for words in ("prune ci/root", "prune ci/root --dry-run"):
        assert said in call(*words.split(), status=1).complaint
        complained = call(*words.split(), "--json", status=1).document
        assert said in complained["error"]["message"]
    for words in ("prune", "prune --dry-run", "prune ci --dry-run"):
        assert said in call(*words.split(), status=1).out + call(*words.split(), status=1).err
        document = call(*words.split(), "--json", status=1).document
        (error,) = (
            [one["error"] for one in document]
            if isinstance(document, list)
            else [document["error"]["message"]]
        )
        assert said in error
    assert snapshot(volume.pool.path) == before


def test_the_commit_stands(
    broken: tuple[Volume, str], call: Call, caplog: pytest.LogCaptureFixture
) -> None:
    volume, said = broken
    volume.start()
    draw(volume, b"library")
    with caplog.at_level(logging.ERROR):
        assert volume.stop().revision == 5
    assert said in caplog.text + "".join(
        str(one.exc_info[1]) for one in caplog.records if one.exc_info
    )

    volume.pool.start([volume])
    draw(volume, b"several")
    assert volume.pool.stop([volume])[0][1].revision == 6
    volume.start()
    draw(volume, b"command")
    called = call("stop", "ci/root")
    assert (numbers(volume), volume.current) == ([1, 2, 3, 4, 5, 6], 7)
    assert "Traceback" not in called.err


def test_recovery_goes_on(broken: tuple[Volume, str], call: Call) -> None:
    volume, _said = broken
    volume.configure(on_crash="commit")
    volume.start()
    draw(volume, b"left over")
    call("recover")
    assert (volume.state, volume.current, len(volume.revisions)) == (State.COMMITTED, 5, 4)


@pytest.mark.parametrize("words", ["list", "show ci/root", "log ci/root", "verify", "pool"])
def test_looking_does_without(words: str, broken: tuple[Volume, str], call: Call) -> None:
    assert call(*words.split()).err == ""
    json.loads(call(*words.split(), "--json").out)


def test_a_prune_of_all_pools_goes_on_past_it(
    volume: Volume, call: Call, xfs: FileSystem, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume.configure(keep="last 1, exits 1")
    said = spoil("exits", monkeypatch)
    known_pools.enter(volume.pool.path, "broken")
    sound = create_pool(xfs, keep="all")
    for mark in (b"1", b"2"):
        cycle(sound["x/y"] if "x/y" in sound else sound.create_volume("x/y", SIZE), mark)
    sound["x/y"].configure(keep="last 0")
    known_pools.enter(sound.path, "sound")
    called = call("prune", "--all-pools", "--dry-run", status=1)
    assert said in called.out
    assert "sound:x/y: would remove 1, keeps 0" in called.out
    found = {one["id"]: one for one in call("prune", "--all-pools", "--json", status=1).document}
    assert said in found["broken:ci/root"]["error"]
    assert "error" not in found["sound:x/y"]
    assert numbers(sound["x/y"]) == []


# ---------------------------------------------------------------- what cannot even be had

CANNOT: dict[str, tuple[str, str]] = {
    "imports_not": ("import nowhere", "cannot be loaded: it raised ModuleNotFoundError: No module"),
    "leaves": ("import sys; sys.exit(7)", "cannot be loaded: it raised SystemExit: 7"),
    "is_no_python": ("def", "cannot be loaded: it raised SyntaxError: invalid syntax"),
    "lacks": ("other = 1", "cannot be loaded: it raised AttributeError"),
    "is_a_number": ("term = 5", "raised TypeError: 'int' object is not callable"),
    "takes_nothing": ("def term(): ...", "raised TypeError: term() takes 0 positional arguments"),
    "refuses": ("def term(a, z): raise ValueError('no such week')", "refused it: no such week"),
    "refuses_mutely": ("def term(a, z): raise ValueError", "refused it: it takes no such argument"),
    "makes_none": ("def term(a, z): ...", "returned None, which is no function"),
    "is_async": ("async def term(a, z): ...", "returned a coroutine, which no one awaits"),
    "keeps_nothing": ("def term(a, z): return lambda: {}", "raised TypeError"),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize("name", CANNOT)
def test_what_is_no_term_is_refused_where_it_is_asked_for(
    name: str,
    asked: str,
    pool: Pool,
    volume: Volume,
    call: Call,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, said = CANNOT[name]
    add(tmp_path, f"no_{name}", code, name)
    monkeypatch.syspath_prepend(tmp_path)
    before = snapshot(pool.path)
    with pytest.raises(LifecycleError) as caught:
        ASKED[asked](pool, f"last 1, {name} 1")
    assert isinstance(caught.value, (InvalidPolicy, PluginFailed))
    assert f"the plugin `{name}` (no_{name}:term of no_{name} 1) {said}" in str(caught.value)
    words = WORDS[asked].replace("POOL", pool.path).split(" ")
    status = 2 if isinstance(caught.value, InvalidPolicy) else 1
    called = call(*(one.replace("LINE", f"last 1, {name} 1") for one in words), status=status)
    assert f"the plugin `{name}` (no_{name}:term of no_{name} 1) {said}" in called.complaint
    assert snapshot(pool.path) == before


# ---------------------------------------------------------------- terms beside each other


def test_no_term_can_change_what_the_next_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, volume: Volume
) -> None:
    """One that reversed the list made `oldest, last 2` keep 1 and 2."""
    code = (
        "def term(argument, zone):\n"
        "    def keeps(candidates, now):\n"
        "        found = list(candidates)\n"
        "        found.reverse()\n"
        "        kept = {one.number: 'oldest' for one in found[:1]}\n"
        "        found.clear()\n"
        "        return kept\n"
        "    return keeps\n"
    )
    add(tmp_path, "sound_oldest", code, "oldest")
    monkeypatch.syspath_prepend(tmp_path)
    for mark in (b"5", b"6", b"7", b"8", b"9"):
        cycle(volume, mark)
    volume.configure(keep="oldest, last 2")
    assert volume.plan().keep == (1, 7, 8)
    assert volume.plan().verdicts[0].reasons == ("oldest",)
