"""Records that are broken, or a newer version's: they damage their volume and no other, and nothing is lost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lifecycle import LifecycleError, Refused, Volume
from support.command_line import Call
from support.disks import SIZE, cycle, disk, draw, numbers, seen
from support.snapshots import snapshot


def record_of(vm: Path, **changes: Any) -> bytes:
    """Return the record of `ci/root` with these changes; None takes a key away."""
    document = json.loads((vm / "root.json").read_bytes()) | changes
    return json.dumps({key: value for key, value in document.items() if value is not ...}).encode()


def check_neighbour(volume: Volume) -> None:
    """Check that the other volume of the VM lives on as if nothing were wrong."""
    other = volume.pool["ci/other"]
    cycle(other, b"again")
    assert seen(other) == disk(b"again")


# ---------------------------------------------------------------- broken records

BROKEN: dict[str, Callable[[Path], bytes]] = {
    "empty": lambda _vm: b"",
    "zeros": lambda _vm: bytes(4096),
    "not UTF-8": lambda _vm: b"\xff\xfe\x00",
    "another JSON": lambda _vm: b"[]",
    "null": lambda _vm: b"null",
    "no keys": lambda _vm: b"{}",
    "another program's": lambda _vm: b'{"name": "root", "size": 1024}',
    "nested": lambda _vm: b"[" * 100_000,
    "digits": lambda _vm: b'{"format": ' + b"1" * 5000 + b"}",
    "huge": lambda _vm: b" " * (4 << 20) + b"{}  ",
    "twice": lambda _vm: b'{"format": 1, "format": 1}',
    "no format": lambda vm: record_of(vm, format=...),
    "format 0": lambda vm: record_of(vm, format=0),
    "format true": lambda vm: record_of(vm, format=True),
    "no current": lambda vm: record_of(vm, current=...),
    "current -1": lambda vm: record_of(vm, current=-1),
    "current 10^9": lambda vm: record_of(vm, current=10**9, next=10**9 + 1),
    "current 1.5": lambda vm: record_of(vm, current=1.5),
    "next 0": lambda vm: record_of(vm, next=0),
    "next a text": lambda vm: record_of(vm, next="3"),
    "next NaN": lambda vm: record_of(vm, next=float("nan")),
    "at yesterday": lambda vm: record_of(vm, at="yesterday"),
    "at a number": lambda vm: record_of(vm, at=5),
    "rest started": lambda vm: record_of(vm, rest="started"),
    "rest absent": lambda vm: record_of(vm, rest="absent"),
    "rest unknown": lambda vm: record_of(vm, rest="asleep"),
    "notes a list": lambda vm: record_of(vm, notes=[]),
    "note on x": lambda vm: record_of(vm, notes={"x": {}}),
    "note a list": lambda vm: record_of(vm, notes={"1": []}),
    "pinned 1": lambda vm: record_of(vm, notes={"1": {"pinned": 1}}),
    "config a list": lambda vm: record_of(vm, config=[]),
    "config unknown": lambda vm: record_of(vm, config={"colour": "red"}),
    "size 100": lambda vm: record_of(vm, config={"size": 100}),
    "size -512": lambda vm: record_of(vm, config={"size": -512}),
    "size a text": lambda vm: record_of(vm, config={"size": "1M"}),
    "on_crash": lambda vm: record_of(vm, config={"on_crash": "panic"}),
    "source": lambda vm: record_of(vm, config={"source": "../root", "save_on_stop": False}),
    "both flags": lambda vm: record_of(vm, config={"source": "ci/other"}),
}


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_record_damages_its_volume_and_no_other(
    volume: Volume, vm: Path, broken: str
) -> None:
    content = BROKEN[broken](vm)
    (vm / "root.json").write_bytes(content)
    before = snapshot(vm)
    view = volume.look()
    assert view.state == "damaged"
    assert view.damage is not None
    assert view.damage.startswith("its record cannot be read: ")
    assert view.damage.isprintable()
    assert len(view.damage) < 500
    for attempt in (volume.start, volume.stop, volume.commit, volume.checkpoint, volume.release):
        with pytest.raises(Refused, match="ci/root is damaged"):
            attempt()
    with pytest.raises(Refused, match="ci/root is damaged"):
        volume.resize("2M")
    with pytest.raises(Refused, match="ci/root is damaged"):
        volume.pool.vm("ci").start()
    assert snapshot(vm) == before
    check_neighbour(volume)


def test_a_record_cut_anywhere_is_broken(volume: Volume, vm: Path) -> None:
    whole = (vm / "root.json").read_bytes().rstrip()
    for length in range(len(whole)):
        (vm / "root.json").write_bytes(whole[:length])
        assert volume.state == "damaged"
    (vm / "root.json").write_bytes(whole)
    assert volume.state == "committed"


def test_the_command_line_shows_the_damage_and_refuses(
    call: Call, volume: Volume, vm: Path
) -> None:
    (vm / "root.json").write_bytes(b"{")
    before = snapshot(vm)
    document = call("show", "ci/root", "--json").document
    assert document["state"] == "damaged"
    assert "record cannot be read" in document["damage"]
    assert document["allowed"] == ["revert", "import", "remove"]
    assert [one["number"] for one in document["revisions"]] == [1]
    assert "damaged" in call("list").out
    assert call("log", "ci/root").out
    complaint = call("start", "ci", status=3).complaint
    assert "ci/root is damaged" in complaint
    assert "Allowed now: revert, import, remove" in complaint
    assert "record cannot be read" in complaint
    call("verify", status=1)
    assert snapshot(vm) == before


@pytest.mark.parametrize("to", [None, 1, 0])
def test_a_revert_leads_back_and_loses_nothing(volume: Volume, vm: Path, to: int | None) -> None:
    broken = b'{"half": '
    (vm / "root.json").write_bytes(broken)
    volume.revert(to)
    contents = {0: b"", 1: b"one", None: b"two"}
    assert volume.state == "reverted"
    assert seen(volume) == disk(contents[to])
    kept = {seen(volume, number) for number in numbers(volume)} | {seen(volume)}
    assert kept >= {disk(b"one"), disk(b"two")}
    (aside,) = [path for path in vm.iterdir() if path.name.startswith("root.json.damaged@")]
    assert aside.read_bytes() == broken
    cycle(volume, b"three")
    assert seen(volume) == disk(b"three")


def test_an_import_leads_back_and_loses_nothing(
    call: Call, volume: Volume, vm: Path, tmp_path: Path
) -> None:
    (vm / "root.json").write_bytes(b"{")
    (tmp_path / "image").write_bytes(disk(b"new"))
    call("import", "ci/root", str(tmp_path / "image"))
    assert (volume.state, seen(volume)) == ("committed", disk(b"new"))
    assert {disk(b"one"), disk(b"two")} == {seen(volume, number) for number in numbers(volume)}


def test_what_a_vm_wrote_before_the_damage_is_kept(volume: Volume, vm: Path) -> None:
    volume.start()
    draw(volume, b"three")
    (vm / "root.json").write_bytes(b"{")
    assert volume.state == "damaged"
    volume.revert()
    assert volume.state == "reverted"
    assert disk(b"three") in {seen(volume, number) for number in numbers(volume)}


def test_a_damaged_volume_can_be_removed(call: Call, volume: Volume, vm: Path) -> None:
    (vm / "root.json").write_bytes(b"{")
    call("remove", "ci/root")
    assert not any(path.name.startswith("root") for path in vm.iterdir())
    check_neighbour(volume)


# ---------------------------------------------------------------- a newer version's record


@pytest.fixture
def newer(volume: Volume, vm: Path) -> bytes:
    """The record of `ci/root` as a newer version wrote it."""
    record = record_of(vm, format=2, shape="new")
    (vm / "root.json").write_bytes(record)
    return record


EVERYTHING: dict[str, Callable[[Volume, Path], object]] = {
    "start": lambda volume, _image: volume.start(),
    "stop": lambda volume, _image: volume.stop(),
    "commit": lambda volume, _image: volume.commit(),
    "checkpoint": lambda volume, _image: volume.checkpoint(),
    "revert": lambda volume, _image: volume.revert(),
    "revert to 1": lambda volume, _image: volume.revert(1),
    "import": lambda volume, image: volume.import_from(image),
    "resize": lambda volume, _image: volume.resize("2M"),
    "remove": lambda volume, _image: volume.remove(),
    "create": lambda volume, _image: volume.pool.create_volume("ci/root", SIZE),
    "clone": lambda volume, image: volume.pool.clone(image, "ci/root"),
    "configure": lambda volume, _image: volume.configure(keep="all"),
    "pin": lambda volume, _image: volume.pin(1),
    "label": lambda volume, _image: volume.label(1, "x"),
    "forget": lambda volume, _image: volume.forget(1),
    "start of its VM": lambda volume, _image: volume.pool.vm("ci").start(),
}


@pytest.mark.parametrize("what", EVERYTHING)
def test_a_newer_versions_volume_is_never_changed(
    volume: Volume, vm: Path, newer: bytes, tmp_path: Path, what: str
) -> None:
    image = tmp_path / "image"
    image.write_bytes(disk(b"new"))
    before = snapshot(vm)
    assert volume.state == "damaged"
    with pytest.raises(LifecycleError, match="newer version of lifecycle"):
        EVERYTHING[what](volume, image)
    assert (vm / "root.json").read_bytes() == newer
    assert snapshot(vm) == before


@pytest.mark.parametrize(
    "words", ["start ci", "revert ci/root", "import ci/root", "remove ci/root"]
)
def test_the_command_line_refuses_a_newer_versions_volume(
    call: Call, vm: Path, newer: bytes, tmp_path: Path, words: str
) -> None:
    (tmp_path / "image").write_bytes(disk(b"new"))
    image = (str(tmp_path / "image"),) if words.startswith("import") else ()
    before = snapshot(vm)
    complaint = call(*words.split(), *image, status=3).complaint
    assert "newer version of lifecycle" in complaint
    assert "upgrade lifecycle" in complaint
    assert snapshot(vm) == before


def test_a_newer_versions_volume_is_shown(call: Call, newer: bytes, volume: Volume) -> None:
    document = call("show", "ci/root", "--json").document
    assert document["state"] == "damaged"
    assert "newer version of lifecycle" in document["damage"]
    assert document["allowed"] == []
    call("list")
    call("verify", status=1)
    check_neighbour(volume)
