"""A volume's record: what is written is read back, and nothing else is taken for a record."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifecycle import CrashPolicy, InvalidConfig, State, ids, times
from lifecycle.config import VolumeConfig
from lifecycle.errors import NewerFormat, Unsupported
from lifecycle.model import Note
from lifecycle.reflink import record
from lifecycle.reflink.record import Record
from lifecycle.states import AT_REST

WHERE = "/srv/vms/ci-42/root.json"
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)

FULL = Record(
    config=VolumeConfig(
        size=10 << 30, rw=False, keep="last 2, 7 daily", on_crash=CrashPolicy.COMMIT
    ),
    current=7,
    at=AT,
    next=9,
    rest=State.REVERTED,
    notes={
        3: Note(cause="import", pinned=True, label='before the "große" upgrade 🦭\n'),
        7: Note(cause=None),
        8: Note(cause="crash"),
    },
    sealed=4,
)
DISPOSABLE = Record(
    config=VolumeConfig(save_on_stop=False, source="tpl/root"), rest=State.CREATED, begun=12
)


@pytest.mark.parametrize(
    "written",
    [
        Record(),
        FULL,
        DISPOSABLE,
        Record(current=0, at=AT),
        Record(config=VolumeConfig(size=512, save_on_stop=False), current=0),
        Record(current=ids.MAX_NUMBER - 1, next=ids.MAX_NUMBER, rest=State.COMMITTED),
    ],
)
def test_a_record_that_was_written_is_read_back(written: Record) -> None:
    assert record.read(WHERE, record.write(written)) == written


_numbers = st.integers(0, ids.MAX_NUMBER)
_clocks = st.integers(-(1 << 63), (1 << 63) - 1)
"""Seconds since 1970, as clocks and the times of files can have them."""
_notes = st.builds(
    Note,
    cause=st.none() | st.text(max_size=30),
    pinned=st.booleans(),
    label=st.none() | st.text(max_size=30),
)
_configs = st.builds(
    VolumeConfig,
    size=st.none() | st.integers(1, 1 << 40).map(lambda sectors: 512 * sectors),
    rw=st.booleans(),
    save_on_stop=st.just(True),
    source=st.none(),
    keep=st.sampled_from([None, "last 2", "all"]),
    on_crash=st.sampled_from([None, CrashPolicy.RESUME, CrashPolicy.COMMIT]),
    snapshots=st.booleans(),
    ready=st.just(0),
    owner=st.sampled_from([None, "qemu", "64055:kvm"]),
)


@given(
    config=_configs,
    current=st.none() | _numbers,
    clock=st.none() | _clocks,
    following=st.integers(1, ids.MAX_NUMBER + 1),
    rest=st.sampled_from(AT_REST),
    notes=st.dictionaries(_numbers, _notes, max_size=5),
    sealed=_numbers,
)
def test_whatever_the_clock_says_a_record_that_is_written_is_read_back(
    config: VolumeConfig,
    current: int | None,
    clock: int | None,
    following: int,
    rest: State,
    notes: dict[int, Note],
    sealed: int,
) -> None:
    made = Record(
        config=config,
        current=current,
        at=None if clock is None else times.bearable(clock),
        next=max(following, (current or 0) + 1),
        rest=rest,
        notes=MappingProxyType(notes),
        sealed=sealed,
    )
    assert record.read(WHERE, record.write(made)) == made


UNREADABLE = {
    "a time before 1970": Record(at=datetime(1969, 12, 31, tzinfo=UTC)),
    "a current number above all": Record(current=ids.MAX_NUMBER + 1, next=ids.MAX_NUMBER + 2),
    "a next number above all": Record(next=ids.MAX_NUMBER + 2),
    "a next number that is the current one": Record(current=3, next=3),
    "a state that is no rest": Record(rest=State.DIRTY),
    "a time with microseconds": Record(at=AT.replace(microsecond=1)),
    "too much": Record(notes={1: Note(label="x" * record.MAX_BYTES)}),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_a_record_that_could_not_be_read_back_is_not_written(what: str) -> None:
    with pytest.raises(Unsupported, match="the record of ci/root cannot be written: "):
        record.write(UNREADABLE[what], "ci/root")


def test_the_same_content_is_the_same_record() -> None:
    content = record.write(FULL)
    assert record.read(WHERE, content) is record.read(f"{WHERE}2", bytes(bytearray(content)))


def test_not_all_records_ever_met_are_kept() -> None:
    for number in range(2 * record._MANY_KNOWN):
        record.read(WHERE, record.write(Record(current=number, next=number + 1)))
    assert len(record._KNOWN) <= record._MANY_KNOWN
    kept = len(record._KNOWN)
    record.read(WHERE, record.write(Record().with_note(1, Note(label="x" * record._USUAL))))
    assert len(record._KNOWN) == kept


def test_a_record_holds_what_differs_from_the_defaults() -> None:
    assert json.loads(record.write(Record(current=1, next=2).with_note(1, Note(label="one")))) == {
        "format": 1,
        "config": {},
        "current": 1,
        "at": None,
        "next": 2,
        "rest": "created",
        "begun": None,
        "sealed": 0,
        "stamp": None,
        "notes": {"1": {"label": "one"}},
    }


def test_a_plain_note_is_not_written_down() -> None:
    noted = Record().with_note(3, Note(pinned=True))
    assert noted.note(3).pinned
    assert noted.with_note(3, Note()) == Record()
    assert noted.with_notes_on({1, 2}, above=4) == Record()
    assert noted.with_notes_on({3}, above=4) == noted
    assert noted.with_notes_on({1}, above=3) == noted
    assert Record().note(3) == Note(cause="commit", pinned=False, label=None)


def test_a_record_cut_off_anywhere_is_no_record() -> None:
    content = record.write(FULL)
    assert content.endswith(b"}\n")
    for length in range(len(content) - 1):
        with pytest.raises(InvalidConfig):
            record.read(WHERE, content[:length])
    assert record.read(WHERE, content[:-1]) == FULL  # but for the line's end


@pytest.mark.parametrize("fill", [b"\0", b"\xff"])
def test_a_record_with_a_lost_block_anywhere_is_no_record(fill: bytes) -> None:
    content = record.write(FULL)
    for start in range(0, len(content), 7):
        lost = content[:start] + fill * 7 + content[start + 7 :]
        with pytest.raises(InvalidConfig):
            record.read(WHERE, lost)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"null",
        b"true",
        b"5",
        b'"record"',
        b"[]",
        b"{}",
        b"{} {}",
        b"nonsense",
        b"\xff\xfe{\0}\0",
        b"\xef\xbb\xbf{}",
        b'{"format": 1, "config": {}, "current": 1, "next": 2, "rest": "\xe9"}',
        b'{"name": "someone-elses", "version": "1.0.0"}',
        b'{"format": 1}',
        b'{"format": 1, "config": {}, "current": NaN, "next": 2, "rest": "created"}',
        b'{"format": 1, "config": {}, "current": 1, "next": Infinity, "rest": "created"}',
        b'{"format": ' + b"1" * 5000 + b"}",
        b"\0" * 4096,
        bytes(range(256)),
    ],
    ids=lambda content: ascii(content)[2:50],
)
def test_what_is_no_record_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidConfig) as caught:
        record.read(WHERE, content)
    assert caught.value.where == WHERE
    assert str(caught.value).startswith(f"{WHERE}: ")


def changed(*path: str, to: Any) -> bytes:
    """Return the full record as JSON, with the one value at this path changed."""
    document = json.loads(record.write(FULL))
    inner = document
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = to
    return json.dumps(document).encode()


def test_values_are_changed_one_at_a_time() -> None:
    assert record.read(WHERE, changed("next", to=10)).next == 10


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("format",), None),
        (("format",), "1"),
        (("format",), True),
        (("format",), 1.0),
        (("format",), 0),
        (("format",), -1),
        (("config",), None),
        (("config",), []),
        (("config", "sise"), 512),
        (("config", "where"), "here"),
        (("config", "size"), "10G"),
        (("config", "size"), -512),
        (("config", "size"), 0),
        (("config", "size"), 513),
        (("config", "size"), 512.0),
        (("config", "size"), 2**63),
        (("config", "size"), 512 * 10**4000),
        (("config", "rw"), 0),
        (("config", "save_on_stop"), None),
        (("config", "source"), "tpl/root"),
        (("config", "source"), "../../etc/passwd"),
        (("config", "source"), ["tpl/root"]),
        (("config", "keep"), 5),
        (("config", "on_crash"), "panic"),
        (("current",), "7"),
        (("current",), 7.0),
        (("current",), True),
        (("current",), -1),
        (("current",), 9),
        (("current",), 10),
        (("current",), ids.MAX_NUMBER),
        (("current",), 10**4000),
        (("current",), [7]),
        (("next",), None),
        (("next",), "9"),
        (("next",), 7),
        (("next",), 0),
        (("next",), -9),
        (("next",), ids.MAX_NUMBER + 2),
        (("next",), 10**4000),
        (("at",), ""),
        (("at",), 0),
        (("at",), "yesterday"),
        (("at",), "2026-01-02"),
        (("at",), "2026-02-30T00:00:00Z"),
        (("at",), "2026-01-02T03:04:05+01:00"),
        (("at",), {}),
        (("rest",), None),
        (("rest",), ""),
        (("rest",), "started"),
        (("rest",), "dirty"),
        (("rest",), "absent"),
        (("rest",), "damaged"),
        (("rest",), "COMMITTED"),
        (("rest",), ["committed"]),
        (("begun",), "12"),
        (("begun",), -1),
        (("begun",), False),
        (("sealed",), None),
        (("sealed",), "0"),
        (("sealed",), -1),
        (("sealed",), ids.MAX_NUMBER + 2),
        (("notes",), None),
        (("notes",), []),
        (("notes", "3"), None),
        (("notes", "3"), "pinned"),
        (("notes", "3"), {"pined": True}),
        (("notes", "3"), {"pinned": 1}),
        (("notes", "3"), {"cause": 5}),
        (("notes", "3"), {"label": ["a"]}),
        (("notes", "three"), {}),
        (("notes", ""), {}),
        (("notes", "-3"), {}),
        (("notes", "3.0"), {}),
        (("notes", "1000000000"), {}),
        (("notes", "9" * 5000), {}),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_one_wrong_value_makes_it_no_record(path: tuple[str, ...], value: object) -> None:
    with pytest.raises(InvalidConfig):
        record.read(WHERE, changed(*path, to=value))


@pytest.mark.parametrize("key", ["format", "config", "current", "next", "rest"])
def test_one_missing_value_makes_it_no_record(key: str) -> None:
    document = json.loads(record.write(FULL))
    del document[key]
    with pytest.raises(InvalidConfig):
        record.read(WHERE, json.dumps(document).encode())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"next": 9', '"next": 8, "next": 9'),
        ('"format": 1', '"format": 1, "format": 1'),
        ('"rw": false', '"rw": true, "rw": false'),
        ('"pinned": true', '"pinned": true, "pinned": false'),
        ('"3": {', '"3": {}, "3": {'),
        ('"3": {', '"03": {}, "3": {'),
    ],
)
def test_a_key_that_is_there_twice_makes_it_no_record(old: str, new: str) -> None:
    content = record.write(FULL).decode()
    assert content.count(old) == 1
    with pytest.raises(InvalidConfig):
        record.read(WHERE, content.replace(old, new).encode())


def _nested_lists(depth: int) -> str:
    return "[" * depth + "]" * depth


def _nested_objects(depth: int) -> str:
    return '{"a":' * depth + "1" + "}" * depth


@pytest.mark.parametrize("nested", [_nested_lists, _nested_objects])
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"next": 9', '"next": %s'),
        ('"rest": "reverted"', '"rest": %s'),
        ('"at": "2026-01-02T03:04:05Z"', '"at": %s'),
        ('"size": 10737418240', '"size": %s'),
        ('"cause": "crash"', '"cause": %s'),
    ],
)
def test_deep_nesting_makes_it_no_record(old: str, new: str, nested: Callable[[int], str]) -> None:
    content = record.write(FULL).decode()
    assert old in content
    # around Python's own limit each depth counts: what can be read need not be what can be shown
    for depth in (1, 100, *range(850, 1000), 100_000):
        with pytest.raises(InvalidConfig):
            record.read(WHERE, content.replace(old, new % nested(depth)).encode())


@pytest.mark.parametrize("newer", [2, 3, 10**4000])
def test_a_newer_record_is_refused_as_such(newer: int) -> None:
    with pytest.raises(NewerFormat) as caught:
        record.read(WHERE, changed("format", to=newer))
    assert (caught.value.found, caught.value.known) == (newer, record.FORMAT)


def test_a_newer_record_may_hold_what_this_version_does_not_know() -> None:
    with pytest.raises(NewerFormat):
        record.read(WHERE, b'{"format": 2, "images": [1, 2, 3]}')
