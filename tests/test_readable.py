"""What a disk holds, read: compared, copied and saved by ranges, whether there is a descriptor or not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lifecycle import Pool, StorageFailed
from lifecycle.linux import copying
from lifecycle.linux.copying import OpenFile
from lifecycle.readable import CHUNK, Readable, chunks, difference
from lifecycle.transfer.content import Content
from support.disks import MIB, SIZE, cycle, disk, numbers, seen
from support.memory import Memory
from support.mounts import FileSystem

CONTENT = bytes(2 * MIB) + os.urandom(3 * MIB) + bytes(3 * MIB)


def sparse(place: Path, content: bytes) -> OpenFile:
    """Return a file with this content, in which runs of zeros are holes."""
    place.write_bytes(content)
    source = os.open(place, os.O_RDONLY)
    target = os.open(f"{place}-sparse", os.O_RDWR | os.O_CREAT)
    copying.copy(source, target)
    os.close(source)
    return OpenFile(target)


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (b"", b"", None),
        (CONTENT, CONTENT, None),
        (CONTENT, CONTENT[:-1], len(CONTENT) - 1),
        (bytes(MIB) + b"a", bytes(MIB) + b"b", MIB),
        (b"a" + bytes(3 * MIB), bytes(3 * MIB + 1), 0),
        (bytes(3 * MIB) + b"a", bytes(3 * MIB + 1), 3 * MIB),
        (b"a" * MIB + bytes(5 * MIB), b"a" * MIB + bytes(5 * MIB), None),
    ],
)
@pytest.mark.parametrize("how", ["files", "memory", "both"])
def test_where_two_contents_differ(
    xfs: FileSystem, one: bytes, other: bytes, expected: int | None, how: str
) -> None:
    place = xfs.new_directory()
    first: Readable = Memory(one) if how == "memory" else sparse(place / "one", one)
    second: Readable = Memory(other) if how != "files" else sparse(place / "other", other)
    assert difference(first, second) == difference(second, first) == expected
    first.close()
    second.close()


def test_what_neither_has_is_not_read() -> None:
    one, other = Memory(CONTENT), Memory(CONTENT)
    assert difference(one, other) is None
    assert min(one.asked) == (2 * MIB, 4096)
    assert max(one.asked) < (5 * MIB, 0)


@pytest.mark.parametrize("holes", [True, False])
def test_chunks_are_bounded_and_make_up_the_whole(holes: bool) -> None:
    whole = bytearray(len(CONTENT))
    found = list(chunks(Memory(CONTENT), holes=holes))
    for offset, chunk in found:
        whole[offset : offset + len(chunk)] = chunk
    assert whole == CONTENT
    assert max(len(chunk) for _offset, chunk in found) <= CHUNK
    assert sum(len(chunk) for _offset, chunk in found) == (8 if holes else 3) * MIB


def test_content_that_ends_too_early_is_told() -> None:
    class Cut(Memory):
        @property
        def size(self) -> int:
            return len(self.content) + 1

    with pytest.raises(OSError, match="became shorter"):
        list(chunks(Cut(b"x"), holes=True))


def test_content_without_a_descriptor_goes_into_a_pool_and_out_of_it(
    pool: Pool, tmp_path: Path
) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    told: list[tuple[str, int, int | None]] = []
    pool.on_progress = lambda *what: told.append(what)
    with Content(Memory(CONTENT), "memory") as content:
        volume.import_from(content, verify=True)
        content.save(str(tmp_path / "out"))
    assert seen(volume) == (tmp_path / "out").read_bytes() == CONTENT
    assert volume.usage < 4 * MIB
    assert (tmp_path / "out").stat().st_blocks * 512 < 4 * MIB
    assert {what for what, _done, _total in told} == {"import ci/root", "verify ci/root"}
    assert content.readable.is_closed  # type: ignore[attr-defined]


def test_content_that_cannot_be_read_changes_nothing(pool: Pool) -> None:
    class Failing(Memory):
        def read(self, offset: int, count: int) -> bytes:
            raise OSError(5, "Input/output error")

    volume = pool.create_volume("ci/root", SIZE)
    cycle(volume, b"first")
    with pytest.raises(StorageFailed, match="Input/output error"):
        volume.import_from(Content(Failing(CONTENT), "memory"))
    assert (seen(volume), numbers(volume)) == (disk(b"first"), [])
