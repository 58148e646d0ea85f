"""Content in memory: read as what a backend without files opens."""

from __future__ import annotations

from collections.abc import Iterator

from lifecycle.readable import Readable


class Memory:
    """Content of which everything but runs of zeros is said to be there.

    Attributes:
        content: all of it.
        asked: what was read, as offsets and counts.
        is_closed: whether it was closed.
    """

    fd = None
    _PIECE = 4096

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.asked: list[tuple[int, int]] = []
        self.is_closed = False

    @property
    def size(self) -> int:
        return len(self.content)

    def extents(self) -> Iterator[tuple[int, int]]:
        for start in range(0, self.size, self._PIECE):
            piece = self.content[start : start + self._PIECE]
            if any(piece):
                yield start, start + len(piece)

    def read(self, offset: int, count: int) -> bytes:
        self.asked.append((offset, count))
        return self.content[offset : offset + count]

    def close(self) -> None:
        self.is_closed = True


_: type[Readable] = Memory
