"""Examining what a strike left: is it a place on the event's path, does recovery finish it, can it be done again?"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest import mock

from crash.copies import copy_tree
from crash.pictures import Disk, Picture, Unflushed, in_words, since
from crash.pictures import take as take_all
from crash.scene import Scene
from crash.situations import FOREIGN, NEIGHBOUR
from lifecycle import Pool, State, times
from lifecycle.errors import NoSuchRevision, NoSuchVolume, Refused, Vetoed
from lifecycle.states import AT_REST
from support.snapshots import Entry, snapshot

_DAY = datetime(2026, 1, 2, tzinfo=UTC)
FLUSHED, FLUSHED_AT = b"flushed", 16384
"""What a guest writes and flushes, and where."""


@contextmanager
def clock(day: int) -> Iterator[None]:
    """Let each question for the time be answered a second later, from that day on."""
    moments = iter(_DAY + timedelta(days=day, seconds=second) for second in range(86400))
    with mock.patch.object(times, "now", moments.__next__):
        yield


@dataclass
class Examiner:
    """Knows what may be left of a scene, and checks it.

    Attributes:
        scene: the scene.
        path: the pictures that the event leads through, the first before it, the last after it.
        twice: those of doing it once more.
        neighbours: the files that must never change.
        known: the paths that `verify` is right to find something at.
        unflushed: what the guest wrote last, if it did.
        slowest: seconds that the slowest recovery took.
    """

    scene: Scene
    path: list[Picture]
    twice: list[Picture]
    neighbours: dict[str, Entry]
    known: set[str]
    unflushed: Unflushed | None
    slowest: float = 0.0

    @property
    def before(self) -> Picture:
        """The pool before the event."""
        return self.path[0]

    def problems(
        self, run: Path, *, acknowledged: bool, power: bool, twice: bool
    ) -> list[tuple[int, str]]:
        found: list[tuple[int, str]] = []
        files = snapshot(run)
        pool = Pool.open(run / "pool")
        picture = take(pool)
        list(pool.verify())
        if snapshot(run) != files:
            found.append((10, "the files are others than before the look"))
        found += self._neighbours_touched(run)
        wanted = self.path + self.twice if twice else self.path
        place = self._place(picture, wanted, power=power)
        if place is None:
            return [*found, *self._difference(picture, power=power)]
        if acknowledged and place != len(self.path) - 1 and not self._same(picture, self.path[-1]):
            text = f"{self._words(picture)} instead of {self._words(self.path[-1])}"
            return [*found, (11, text)]
        copy = run.parent / "recovered"
        copy_tree(run, copy)
        try:
            found += self._recovered(copy, place, wanted, power=power)
        finally:
            shutil.rmtree(copy)
        return found + self._again(run, place, wanted, power=power, twice=twice)

    def _place(self, picture: Picture, path: list[Picture], *, power: bool) -> int | None:
        """Return how far on its path the event came; None if it is nowhere on it."""
        for place in reversed(range(len(path))):
            seen = picture
            if power and self.unflushed:
                seen = self.unflushed.complete(picture, path[place], made=False)
            if self._ends_as(seen, path[place]):
                return place
        known, found = self.before.get(self.scene.volume), picture.get(self.scene.volume)
        if found and found.state == State.REVERTED and found.current in found.listed:
            # what a running revert left current is kept first, before another becomes current
            listed = tuple(number for number in found.listed if number != found.current)
            alike = {**picture, self.scene.volume: replace(found, listed=listed)}
            for place, one in enumerate(path):
                if self._same(alike, one):
                    return place
        return 0 if known and found and _on_the_way(known, found, self.scene.dissolves) else None

    def _same(self, one: Picture, other: Picture) -> bool:
        return since(one, self.before) == since(other, self.before)

    def _ends_as(self, one: Picture, other: Picture) -> bool:
        """Tell whether this end is as good as that one.

        Out of damage the numbers may come in another order, as what was rescued before the crash has its own already.
        """
        if self._same(one, other):
            return True
        name = self.scene.volume
        here, there = one.get(name), other.get(name)
        if not self._was_damaged() or here is None or there is None:
            return False
        first = self.before[name].next
        return _contents(here, first) == _contents(there, first)

    def _words(self, picture: Picture) -> str:
        return f"`{in_words(picture.get(self.scene.volume))}`"

    def _difference(self, picture: Picture, *, power: bool) -> list[tuple[int, str]]:
        """Say which invariant is broken by a picture that is nowhere on the path."""
        name = self.scene.volume
        known, found, last = (one.get(name) for one in (self.before, picture, self.path[-1]))
        expected = " or ".join(dict.fromkeys(self._words(one) for one in self.path))
        text = f"{self._words(picture)} instead of {expected}"
        if found and found.state == State.DAMAGED and not (known and known.state == State.DAMAGED):
            return [(1, f"{text}: {found}")]
        kept = set(known.images) & set(last.images) if known and last else set()
        for number in sorted(kept):
            image = found.images.get(number) if found else None
            if image is None or (known and image != known.images[number]):
                return [(2 if known and number == known.current else 3, f"{number}: {text}")]
        if power and self.unflushed and found and found.working and found.working[0:1] == b"w":
            piece = found.working[FLUSHED_AT : FLUSHED_AT + len(FLUSHED)]
            if piece != FLUSHED:
                return [(6, f"{text}: {piece!r}")]
        nearest = self.path[-1 if found and known and found.state != known.state else 0]
        return [(4, f"{text}; {_unlike(since(picture, self.before), since(nearest, self.before))}")]

    def _neighbours_touched(self, run: Path) -> list[tuple[int, str]]:
        changed = neighbours_in(run / "pool") != self.neighbours
        return [(9, "a neighbour's file was changed")] if changed else []

    def _recovered(
        self, run: Path, place: int, path: list[Picture], *, power: bool
    ) -> list[tuple[int, str]]:
        """Recover the pool, as the boot of a host does, and look."""
        begun = time.perf_counter()
        pool = Pool.open(run / "pool")
        failed = [one for one in pool.recover() if one.error and one.state is not State.DAMAGED]
        self.slowest = max(self.slowest, time.perf_counter() - begun)
        found = [(8, f"recovery failed: {one.text}") for one in failed]
        found += self._left(pool)
        picture = take(pool)
        policy = dict(self.scene.pool).get("on_crash", "resume")
        if policy == "resume" and self._place(picture, path[place:], power=power) is None:
            found.append((8, f"recovery made {self._words(picture)} of {self._words(path[place])}"))
        return found + self._numbers(picture) + _back_to_empty(pool, self.scene.volume)

    def _again(
        self, run: Path, place: int, path: list[Picture], *, power: bool, twice: bool
    ) -> list[tuple[int, str]]:
        """Do the event again, to its end, and look."""
        pool = Pool.open(run / "pool")
        happened = place >= len(self.path) - 1
        again = self.scene.act if happened else self.scene.again or self.scene.act
        try:
            with clock(2):
                again(pool)
        except (Refused, NoSuchVolume, NoSuchRevision) as refusal:
            if not happened or isinstance(refusal, Vetoed):
                return [(7, f"not possible again: {refusal}")]
        picture = take(pool)
        # to be compared without what the guest may have lost
        ends = [path[-1]] if not happened else [self.path[-1], self.twice[-1], *path]
        if not happened and twice:
            ends = [self.path[-1], self.twice[-1]]
        seen = [
            self.unflushed.complete(
                since(picture, self.before),
                since(end, self.before),
                made=not happened or end is not path[-1],
            )
            if power and self.unflushed
            else picture
            for end in ends
        ]
        found = []
        if not twice and not any(
            self._ends_as(one, end) for one, end in zip(seen, ends, strict=True)
        ):
            unlike = _unlike(since(seen[0], self.before), since(ends[0], self.before))
            text = f"again led to {self._words(picture)}, not {self._words(ends[0])}; {unlike}"
            found.append((7, text))
        pool.recover()
        found += self._left(pool) + self._numbers(picture) + self._neighbours_touched(run)
        return found

    def _left(self, pool: Pool) -> list[tuple[int, str]]:
        """Return what is left behind after a recovery."""
        found = [
            (8, f"verify: {one.path}: {one.text}")
            for one in pool.verify()
            if one.path not in self.known
        ]
        if self._was_damaged():
            # what was rescued beside the record is a foreign file, and a damaged volume is found damaged
            found = [
                one for one in found if ".damaged@" not in one[1] and ": damaged:" not in one[1]
            ]
        for path in Path(pool.path).rglob("*"):
            if "~" in path.name or path.name.endswith("-import.img"):
                found.append((8, f"left behind: {path.name}"))
        return found

    def _was_damaged(self) -> bool:
        return any(disk.state == State.DAMAGED for disk in self.before.values())

    def _numbers(self, picture: Picture) -> list[tuple[int, str]]:
        found = []
        for name, disk in picture.items():
            highest = max(
                [*disk.images, (self.before[name].next - 1) if name in self.before else 0]
            )
            if disk.config["source"] is None and disk.next <= highest:
                found.append(
                    (5, f"{name}: the next number is {disk.next}, {highest} was given before")
                )
        return found


def take(pool: Pool) -> Picture:
    """Return what the pool holds now; the neighbour is known by its files (`neighbours_in`)."""
    return take_all(pool, without=NEIGHBOUR)


def _contents(disk: Disk, first: int) -> tuple[object, ...]:
    """Return a volume's state, what is current, and all it holds, images numbered from `first` on in any order."""
    current = disk.images.get(disk.current) if disk.current is not None else None
    held = sorted((image.content, str(image.cause)) for image in disk.images.values())
    old = sorted(number for number in disk.images if number < first)
    return disk.state, current and current.content, held, old, disk.working


def _on_the_way(known: Disk, found: Disk, dissolves: bool) -> bool:
    """Tell whether this is one of the documented in-between points that no signal announces."""
    if dissolves and found.images.keys() < known.images.keys():
        # a removal takes the revisions first, and what is current last
        kept = {number: known.images[number] for number in found.images}
        listed = tuple(number for number in known.listed if number in kept)
        return found == replace(known, images=kept, listed=listed)
    if known.state == found.state == State.DAMAGED:
        # on the way back from damage all that was there is kept first, the working image as a revision
        contents = [image.content for image in found.images.values()]
        kept = all(found.images.get(number) == image for number, image in known.images.items())
        return kept and (known.working in {None, found.working} or known.working in contents)
    return False


def _back_to_empty(pool: Pool, name: str) -> list[tuple[int, str]]:
    """Take the volume back to 0, the empty image, if it is one that can be."""
    if name not in pool:
        return []
    volume = pool[name]
    view = volume.look()
    if view.state not in AT_REST or not view.owns:
        return []
    with clock(4):
        volume.revert(0)
    with volume.export() as content:
        empty = not any(os.pread(content.fd, 1 << 24, 0))
    return [] if empty else [(8, "number 0 is not empty")]


def _unlike(one: Picture, other: Picture) -> str:
    """Say where two pictures differ, for people."""
    for name in sorted(set(one) | set(other)):
        here, there = one.get(name), other.get(name)
        if here is None or there is None:
            if here != there:
                return f"{name}: {here} instead of {there}"
            continue
        for field in here.__dataclass_fields__:
            mine, theirs = getattr(here, field), getattr(there, field)
            if mine != theirs:
                if isinstance(mine, bytes) and isinstance(theirs, bytes):
                    at = [i for i in range(min(len(mine), len(theirs))) if mine[i] != theirs[i]][:1]
                    return f"{name}: {field} differs, from {at}"
                return f"{name}: {field} is {mine}, not {theirs}"
    return "no difference"


def neighbours_in(pool: Path) -> dict[str, Entry]:
    """Return all there is of the neighbours' files, but for what a copy changes."""
    vm = pool / os.path.dirname(NEIGHBOUR)
    stem = os.path.basename(NEIGHBOUR)
    found = snapshot(vm)
    return {
        name: entry._replace(inode=0)
        for name, entry in found.items()
        if name.startswith(stem) or name == os.path.basename(FOREIGN)
    }
