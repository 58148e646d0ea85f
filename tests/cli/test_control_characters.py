"""Words of others (of hooks, subscribers, names of files and processes) steer no terminal, wherever they come out.

Here a table of those who speak, each with what lets it; what they say is looked for in errors, in the log and on the
terminal.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lifecycle import LifecycleError, Pool, Volume, errors, events
from lifecycle.cli.session import json_of, print_line
from lifecycle.errors import Holder, printable
from lifecycle.hosts.libvirt import hook
from lifecycle.linux import journal
from support.command_line import Call, call_apart
from support.disks import SIZE, cycle, draw

EVIL = "\x1b]0;owned\x07\x1b[31mred\x1b[2J\r\x9b1mbold\x7f\u202egnp\nlifecycle: all is well"
"""Sets the title, colours, clears, goes to the line's beginning; then C1, DEL, a turn of direction; a line more."""


def is_clean(text: str) -> bool:
    """Tell whether the text is lines of what can be shown."""
    return all(line.replace("\t", "").isprintable() for line in text.split("\n"))


# ---------------------------------------------------------------- texts


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("as it is ü 日本", "as it is ü 日本"),
        ("\x1b[31m", "\\x1b[31m"),
        ("two\nlines", "two\\nlines"),
        ("\x9b\x7f\u202e\u2028", "\\x9b\\x7f\\u202e\\u2028"),
        ("not UTF-8: \udcff", "not UTF-8: \\udcff"),
        ("wide\u3000and\xa0narrow spaces", "wide\u3000and\xa0narrow spaces"),
    ],
)
def test_what_cannot_be_shown_is_written_out(text: str, expected: str) -> None:
    assert printable(text) == expected


ERRORS: dict[str, Callable[[], LifecycleError]] = {
    "Refused": lambda: errors.Refused("ci/root", "started", "stop", EVIL),
    "InUse": lambda: errors.InUse("ci/root", "started", "stop", [Holder(EVIL, 1)]),
    "Vetoed": lambda: errors.Vetoed("ci/root", "started", "stop", EVIL),
    "InvalidName": lambda: errors.InvalidName(EVIL, EVIL),
    "InvalidSize": lambda: errors.InvalidSize(EVIL, EVIL),
    "InvalidPolicy": lambda: errors.InvalidPolicy(EVIL, EVIL),
    "InvalidConfig": lambda: errors.InvalidConfig(EVIL, EVIL),
    "NotAPool": lambda: errors.NotAPool(EVIL, EVIL),
    "NoReflinks": lambda: errors.NoReflinks(EVIL),
    "NoSuchVolume": lambda: errors.NoSuchVolume("ci/root", EVIL),
    "NoSuchPool": lambda: errors.NoSuchPool(EVIL, [EVIL]),
    "NoSuchRevision": lambda: errors.NoSuchRevision(EVIL, 1, ()),
    "Locked": lambda: errors.Locked("ci", 1.0, [Holder(EVIL, 1)]),
    "StorageFailed": lambda: errors.StorageFailed("ci/root", "stop", OSError(5, EVIL, EVIL)),
    "FlushFailed": lambda: errors.FlushFailed(
        EVIL,
        EVIL,
        errors.FlushError(OSError(5, EVIL, EVIL), EVIL, own=True, unnoted=EVIL),
    ),
    "InAnotherPool": lambda: errors.InAnotherPool(EVIL, EVIL, EVIL),
    "PluginFailed": lambda: errors.PluginFailed(EVIL, EVIL),
    "NotASubscriber": lambda: errors.NotASubscriber(EVIL, EVIL),
    "HookFailed": lambda: errors.HookFailed(EVIL, EVIL, EVIL),
    "ForeignFile": lambda: errors.ForeignFile(EVIL, EVIL),
    "NotContent": lambda: errors.NotContent(EVIL, EVIL),
    "NotTheSame": lambda: errors.NotTheSame(EVIL, EVIL),
    "Unsupported": lambda: errors.Unsupported(EVIL),
    "LifecycleError": lambda: LifecycleError(EVIL),
}


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_s_text_and_its_words_can_be_shown_anywhere(name: str) -> None:
    error = ERRORS[name]()
    assert str(error).isprintable()
    for words in ("reason", "problem", "objection"):
        assert (getattr(error, words, None) or "").isprintable()
    # what it is about is exact: a path of which a character were written out would be another
    assert getattr(error, "path", EVIL) == EVIL


def test_each_kind_of_error_is_in_this_table() -> None:
    kinds = {
        name
        for name, one in vars(errors).items()
        if isinstance(one, type) and issubclass(one, LifecycleError)
    }
    assert kinds - ERRORS.keys() == {"NewerFormat", "ReadOnlyPool"}  # nothing in these is another's


@pytest.mark.parametrize(
    "document", [EVIL, {"a\x9b": [EVIL]}, ["ü 日本"], {"bytes": "\udcff\U000e0001"}]
)
def test_json_says_the_same_without_what_steers(document: object) -> None:
    for indent in (None, 2):
        text = json_of(document, indent=indent)
        assert is_clean(text)
        assert json.loads(text) == document
    assert "日本" in json_of("日本")


def test_a_line_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    print_line(f"a\t{EVIL}")
    out = capsys.readouterr().out
    assert is_clean(out)
    assert out.count("\n") == 1
    assert out.startswith("a\t\\x1b]0;owned\\x07")


# ---------------------------------------------------------------- those who speak


@pytest.fixture
def volume(xfs_pool: Pool) -> Volume:
    """A volume that runs and was written to."""
    volume = xfs_pool.create_volume("ci/root", SIZE)
    cycle(volume, b"one")
    volume.start()
    draw(volume, b"two")
    return volume


@pytest.fixture
def subscriber(volume: Volume) -> Iterator[None]:
    """One that objects, in its own words."""

    def object_(_pool: Pool, **_: object) -> None:
        raise ValueError(EVIL)

    with events.committing.connected_to(object_, sender=volume.pool):
        yield


def test_of_a_subscriber_s_objection(volume: Volume, subscriber: None) -> None:
    assert subscriber is None
    with pytest.raises(errors.Vetoed) as caught:
        volume.stop()
    assert str(caught.value).isprintable()
    assert caught.value.reason.isprintable()
    assert "red" in caught.value.reason
    assert str(caught.value.__cause__) == EVIL  # as it was raised


def _hook(pool: Pool, name: str, script: str) -> None:
    place = Path(pool.path) / "hooks.d"
    place.mkdir(mode=0o700, exist_ok=True)
    os.chmod(pool.path, 0o700)
    (place / name).write_text(f"#!/bin/sh\n{script}\n")
    (place / name).chmod(0o700)


@pytest.mark.parametrize("json_too", [False, True])
@pytest.mark.parametrize(
    "name", ["pre-commit", "pre-commit-\x1b[31m\x07name", "post-commit-\x9b2Jname\n"]
)
def test_of_a_hook_s_words_and_of_its_name(volume: Volume, name: str, json_too: bool) -> None:
    _hook(volume.pool, name, "printf 'no \\033[31m\\007\\302\\233never' >&2; exit 1")
    called = call_apart("stop", "ci", *(["--json"] if json_too else []))
    assert called.status == (3 if name.startswith("pre") else 0)
    assert is_clean(called.err + called.out)
    assert "no \\x1b[31m\\x07\\x9bnever" in called.err
    assert all(line.startswith("lifecycle: ") for line in called.err.splitlines())


def test_of_a_process_that_holds_an_image(volume: Volume, tmp_path: Path) -> None:
    name = tmp_path / "\x1b[31mred\n"  # a process is called as its file, up to 15 bytes
    shutil.copy(shutil.which("sleep") or "/bin/sleep", name)
    with open(volume.path, "rb") as image:
        process = subprocess.Popen([str(name), "1000"], stdin=image)
    try:
        with pytest.raises(errors.InUse) as caught:
            volume.stop()
        assert [holder.name for holder in caught.value.holders] == ["\\x1b[31mred"]
        for words in ("stop ci", "show ci/root", "list", "list --json", "show ci/root --json"):
            called = call_apart(*words.split())
            assert is_clean(called.out + called.err), words
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "words",
    [
        "list",
        "show ci/root",
        "log ci/root",
        "verify",
        "pool",
        "pools",
        "prune",
        "recover",
        "show no/ne",
    ],
)
def test_of_the_names_of_directories_and_files(volume: Volume, words: str) -> None:
    place = f"{volume.pool.path}/\x1b[31mred\npool"
    pool = Pool.create(place)
    one = pool.create_volume("ci/root", SIZE)
    cycle(one, b"one")
    one.start()
    (Path(place) / "ci" / "\x1b[2J\nfile").touch()
    call_apart("init", "--name", "evil", place)
    for more in ([], ["--json"], ["-v"]):
        called = call_apart(*words.split(), "--pool", place, *more)
        assert is_clean(called.out + called.err), more
        assert "Traceback" not in called.err


@pytest.mark.parametrize("words", ["log ci/root", "log ci/root --json", "stop ci -v"])
def test_of_the_reason_of_a_stop(volume: Volume, words: str) -> None:
    volume.stop(reason=EVIL)
    volume.start()
    draw(volume, b"three")
    called = call_apart(*words.split())
    assert called.status == 0
    assert is_clean(called.out + called.err)


@pytest.mark.parametrize("address", ["\x1b[31mci", "ci/\x1b[31m", "\x1b[31m:ci/root", "ci/root\n"])
@pytest.mark.parametrize("command", ["show", "start", "list", "run"])
def test_of_what_was_given(xfs_pool: Pool, command: str, address: str) -> None:
    assert xfs_pool.path
    more = ["--", "true"] if command == "run" else []
    for options in ([], ["--json"]):
        called = call_apart(command, address, *options, *more)
        assert called.status in {1, 2}
        assert is_clean(called.out + called.err)


@pytest.mark.parametrize("words", ["--\x1b[31m", "\x1b[31m", "list --\x1b[31m", "host \x1b[31m"])
def test_of_words_that_are_none_of_ours(words: str) -> None:
    called = call_apart(*words.split(), "--json")
    assert called.status == 2
    assert is_clean(called.out + called.err)


# ---------------------------------------------------------------- logs


@pytest.mark.parametrize("verbose", [False, True])
def test_of_what_is_logged_on_the_terminal(
    call: Call, volume: Volume, verbose: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def log(*_: object, **__: object) -> None:
        try:
            raise ValueError(EVIL)
        except ValueError:
            logging.getLogger("other").exception("said %s", EVIL)

    monkeypatch.setattr(logging.root, "handlers", [])
    with events.committed.connected_to(log):
        called = call("stop", "ci", *(["-v"] if verbose else []))
    assert volume.state == "committed"
    assert is_clean(called.out + called.err)
    assert "red" in called.err


def test_of_what_is_logged_in_the_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[str] = []
    monkeypatch.setattr(journal, "send", lambda fields: sent.append(fields["MESSAGE"]))
    record = logging.LogRecord("x", logging.WARNING, "", 0, "said %s", (EVIL,), None)
    journal.JournalHandler(logging.NullHandler()).emit(record)
    assert [one.isprintable() for one in sent] == [True]


def test_of_what_the_light_gate_complains_of(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    hook._complain(EVIL)
    assert is_clean(capfdbinary.readouterr().err.decode())
