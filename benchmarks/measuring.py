"""Measuring: in turns, many times, with the spread; and how much is measured."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.places import Place
from benchmarks.results import Result

Turn = Callable[[], Mapping[str, float]]
"""Does something once and returns what it took, by names of its own."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How often to measure: `most` rounds, but after `patience` seconds no more than `least`.

    Attributes:
        warm_up: rounds before those, which do not count.
    """

    least: int = 5
    most: int = 25
    patience: float = 5.0
    warm_up: int = 1


def interleave(
    turns: Mapping[str, Turn], effort: Effort, between: Callable[[], None]
) -> dict[tuple[str, str], list[float]]:
    """Let each take its turn in each round, another one first each time.

    Args:
        turns: by their names.
        effort: how often.
        between: called after each turn, so that what one leaves to be done does not slow down the next.

    Returns:
        all values by the name of the turn and the name that the turn gave them.
    """
    names = list(turns)
    taken: dict[tuple[str, str], list[float]] = {}
    for _round in range(effort.warm_up):
        for name in names:
            turns[name]()
            between()
    with _no_garbage_collection():
        for number in _rounds(effort):
            first = number % len(names)
            for name in names[first:] + names[:first]:
                for what, value in turns[name]().items():
                    taken.setdefault((name, what), []).append(value)
                between()
    return taken


def _rounds(effort: Effort) -> Iterator[int]:
    end = time.monotonic() + effort.patience
    for number in range(effort.most):
        if number >= effort.least and time.monotonic() > end:
            return
        yield number


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that it takes."""
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


@dataclass(slots=True)
class Collected:
    """Results as they come in.

    Attributes:
        effort: how often to measure.
        tell: told of each group of results that came in.
        results: so far.
    """

    effort: Effort
    tell: Callable[[str], None]
    results: list[Result] = field(default_factory=list)

    def measure(self, place: Place, axis: str, x: int, turns: Mapping[str, Turn]) -> None:
        """Measure in turns, in seconds."""
        taken = interleave(turns, self.effort, place.finish)
        for (way, what), values in taken.items():
            self.results.append(Result(place.name, axis, x, way, what, tuple(values)))
        rounds = max((len(values) for values in taken.values()), default=0)
        self.tell(f"{place.name}, {axis} {x}: {len(turns)} in turns, {rounds} rounds")

    def add(self, *results: Result) -> None:
        """Enter results of one place and of one point on an axis."""
        self.results += results
        whats = dict.fromkeys(one.what for one in results)
        self.tell(f"{results[0].place}, {results[0].axis} {results[0].x}: {', '.join(whats)}")


KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Scale:
    """What is measured.

    Attributes:
        effort: how often each thing is.
        extents: of an image of `disk` bytes with `kept` revisions.
        sizes: bytes of an image with `few` extents, `kept` revisions.
        revisions: of a volume with `few` extents.
        volumes: in a pool.
        crowd: volumes that start and stop together.
        listed_by_command: the largest pool that the command lists too; it looks at far more of each volume.
        disk: bytes.
        few: extents.
        kept: revisions.
        file_system: bytes of each file system; what is not used takes no room.
    """

    effort: Effort = field(default_factory=Effort)
    extents: tuple[int, ...] = (1, 100, 1_000, 16_000, 50_000)
    sizes: tuple[int, ...] = (64 * MIB, 1 * GIB, 8 * GIB, 64 * GIB)
    revisions: tuple[int, ...] = (1, 10, 100, 1_000)
    volumes: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    crowd: int = 100
    listed_by_command: int = 10_000
    disk: int = 512 * MIB
    few: int = 100
    kept: int = 2
    file_system: int = 16 * GIB


FULL = Scale()
QUICK = Scale(
    effort=Effort(least=1, most=1, patience=0, warm_up=0),
    extents=(100,),
    sizes=(64 * MIB, 128 * MIB),
    revisions=(1, 3),
    volumes=(4, 8),
    crowd=3,
    listed_by_command=4,
    disk=64 * MIB,
    few=100,
    kept=0,
    file_system=1 * GIB,
)
