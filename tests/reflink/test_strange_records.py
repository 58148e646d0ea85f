"""Records that someone wrote by hand: unreadable ones lead back by a revert or an import, strange ones do no harm."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle import Pool, State, Volume
from support.disks import SIZE, cycle, disk, seen
from support.every_call import ACTS, ID, LOOKS, MADE, at_rest, call_all, dirty, imported
from support.mounts import FileSystem
from support.untouched_files import not_blocking


@pytest.fixture
def pool(xfs: FileSystem) -> Pool:
    return Pool.create(xfs.new_directory(), keep="last 3")


def record(**changes: object) -> bytes:
    """Return a record that would do, but for these changes; None leaves one out."""
    document: dict[str, Any] = {
        "format": 1,
        "config": {"size": SIZE},
        "current": 2,
        "at": MADE,
        "next": 3,
        "rest": "committed",
        "begun": None,
        "sealed": 0,
        "notes": {},
    }
    return json.dumps(document | changes).encode()


UNREADABLE: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(4096),
    "not UTF-8": record().replace(b"committed", b"commit\xfft"),
    "UTF-16": record().decode().encode("utf-16"),
    "cut off": record()[:-20],
    "too large": record() + b" " * (5 << 20),
    "deeply nested": b'{"format": 1, "config": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deeply nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a list": b"[]",
    "null": b"null",
    "twice the same key": record().replace(b'"current": 2', b'"current": 2, "current": 1'),
    "a negative number": record(current=-1),
    "a huge number": record(next=10**30),
    "digits without end": record().replace(b'"next": 3', b'"next": ' + b"9" * 100_000),
    "a fraction": record(current=1.5),
    "not a number": record().replace(b'"current": 2', b'"current": NaN'),
    "infinite": record().replace(b'"next": 3', b'"next": Infinity'),
    "a number as text": record(current="2"),
    "a truth as number": record(current=True),
    "no next number": record(next=2),
    "a state that is no rest": record(rest="dirty"),
    "a state that is none": record(rest="??"),
    "a time that is none": record(at="2026-13-45T99:99:99Z"),
    "an unknown setting": record(config={"size": SIZE, "shell": "/bin/sh"}),
    "a negative size": record(config={"size": -512}),
    "a source that is no name": record(config={"save_on_stop": False, "source": "../../etc/x"}),
    "a source though it saves": record(config={"source": "templates/debian"}),
    "a note on no number": record(notes={"one": {}}),
    "a note on a negative number": record(notes={"-1": {}}),
    "a note that is none": record(notes={"1": []}),
    "an unknown note": record(notes={"1": {"colour": "red"}}),
    "format 0": record(format=0),
    "format as text": record(format="1"),
}


@pytest.mark.parametrize("lead_back", ["revert", "import"])
@pytest.mark.parametrize("what", UNREADABLE)
def test_a_record_that_cannot_be_read_is_no_dead_end(pool: Pool, what: str, lead_back: str) -> None:
    volume = at_rest(pool)
    Path(f"{pool.path}/{ID}.json").write_bytes(UNREADABLE[what])

    assert call_all(volume, LOOKS) == []
    assert volume.state is State.DAMAGED
    assert [one.path for one in pool.verify() if one.harmful] == [ID]
    if lead_back == "revert":
        volume.revert()
        assert (volume.state, seen(volume)) == (State.REVERTED, disk(b"two"))
    else:
        volume.import_from(imported(volume))
        assert (volume.state, seen(volume)) == (State.COMMITTED, disk(b"content"))
    assert disk(b"one") in [seen(volume, one.number) for one in volume.revisions]
    assert cycle(volume, b"next") > 2


@pytest.mark.parametrize("content", [b"{", record(format=2)], ids=["unreadable", "newer"])
@pytest.mark.parametrize("act", ["pin", "unpin", "label", "configure", "forget", "prune"])
def test_a_record_that_cannot_be_read_is_not_replaced_by_the_way(
    pool: Pool, content: bytes, act: str
) -> None:
    """Only what leads back may replace it, and keeps it beside."""
    volume = at_rest(pool)
    path = Path(f"{pool.path}/{ID}.json")
    path.write_bytes(content)
    assert call_all(volume, {act: ACTS[act]}) == []
    assert path.read_bytes() == content


STRANGE: dict[str, bytes] = {
    "itself as source": record(config={"save_on_stop": False, "source": ID}, current=None),
    "each other as source": record(
        config={"save_on_stop": False, "source": "ci-43/root"}, current=None
    ),
    "a source that is gone": record(
        config={"save_on_stop": False, "source": "gone/root"}, current=None
    ),
    "a current number that is on file": record(current=1),
    "a current number far ahead": record(current=10**8, next=10**8 + 1),
    "a next number at the end": record(next=10**9 - 1),
    "no current number": record(current=None),
    "a time before files": record(at="1970-01-01T00:00:00Z"),
    "a time after all": record(at="9999-12-31T23:59:59Z"),
    "a time in ancient days": record(at="0001-01-01T00:00:00Z"),
    "a label of many lines": record(notes={"1": {"label": "a\nb\x1b[31m"}}),
    "a label without end": record(notes={"1": {"label": "x" * 1_000_000}}),
    "a size beyond files": record(config={"size": 512 * 10**30}),
    "a policy that is gone": record(config={"size": SIZE, "keep": "moonphase 3"}),
    "sealed from the end": record(sealed=10**9 - 1),
    "a newer format": record(format=2),
}


@pytest.mark.parametrize("situation", [at_rest, dirty])
@pytest.mark.parametrize("what", STRANGE)
def test_a_strange_record_does_no_harm(
    pool: Pool, what: str, situation: Callable[[Pool], Volume]
) -> None:
    volume = situation(pool)
    Path(f"{pool.path}/{ID}.json").write_bytes(STRANGE[what])
    if what == "each other as source":
        other = Path(f"{pool.path}/ci-43/root.json")
        other.parent.mkdir()
        other.write_bytes(record(config={"save_on_stop": False, "source": ID}, current=None))
    with not_blocking():
        assert call_all(volume, LOOKS) == []
        assert call_all(volume, ACTS) == []
