"""Measuring: in turns, many times, with the spread."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.places import Place

Turn = Callable[[], Mapping[str, float]]
"""Does something once and returns what it took, by names of its own."""
SECONDS, BYTES, COUNT = "s", "B", ""


@dataclass(frozen=True, slots=True)
class Result:
    """One thing, measured some times under the same conditions.

    Attributes:
        place: the name of the file system and of what it lies on.
        axis: what was varied (`extents`, `revisions`…).
        x: how much of that there was.
        way: who did it.
        what: what was done.
        values: what it took, each time.
        unit: of the values.
    """

    place: str
    axis: str
    x: int
    way: str
    what: str
    values: tuple[float, ...]
    unit: str = SECONDS

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The first and the third quartile; of a single value that value."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        first, _median, third = statistics.quantiles(self.values, n=4, method="inclusive")
        return first, third


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
