"""What comes out of measuring: results, how they are found, how they grow, and how people read them."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

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


class Found:
    """Results, to be found by what they are of."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._results = tuple(results)

    def all(self, **wanted: object) -> list[Result]:
        """Return the results that have all of these attributes, in the order of their `x`."""
        found = [
            one
            for one in self._results
            if all(getattr(one, name) == value for name, value in wanted.items())
        ]
        return sorted(found, key=lambda one: one.x)

    def one(self, **wanted: object) -> Result | None:
        """Return the one result that has all of these attributes; None if there is none.

        Raises:
            AssertionError: there are more.
        """
        found = self.all(**wanted)
        if len(found) > 1:
            raise AssertionError(f"{len(found)} results are of {wanted}")
        return found[0] if found else None

    def places(self, axis: str) -> list[str]:
        """Return where there was measured along the axis."""
        return list(dict.fromkeys(one.place for one in self._results if one.axis == axis))


# ---------------------------------------------------------------- how an operation grows
#
# By the exponent e in time ~ x^e: the slope of a line through the medians, both logarithmic.

_RESAMPLES = 400
_OUTER = (2.5, 97.5)
"""Percentiles, between which 95 % lie."""
_POINTS = 2
"""The fewest through which there is a line."""


@dataclass(frozen=True, slots=True)
class Exponent:
    """The exponent of one operation along one axis.

    Attributes:
        value: of the medians.
        low: 95 % of what the same measurements would give again lies above this,
        high: and below this.
    """

    value: float
    low: float
    high: float


def exponent(results: Iterable[Result]) -> Exponent | None:
    """Return the exponent over the results' `x`; None with fewer than two of these.

    The spread comes from drawing each point's values again, with replacement, some hundred times (a bootstrap).
    """
    points = sorted((one.x, one.values) for one in results)
    if len({x for x, _values in points}) < _POINTS:
        return None
    xs = [x for x, _values in points]
    again = random.Random(0)
    drawn = sorted(
        slope(
            xs, [statistics.median(again.choices(values, k=len(values))) for _x, values in points]
        )
        for _number in range(_RESAMPLES)
    )
    low, high = (drawn[round(percent / 100 * (len(drawn) - 1))] for percent in _OUTER)
    return Exponent(slope(xs, [statistics.median(values) for _x, values in points]), low, high)


def slope(xs: Sequence[float], ys: Sequence[float]) -> float:
    """Return the slope of the line of least squares through the points' logarithms."""
    logs = [(math.log(x), math.log(y)) for x, y in zip(xs, ys, strict=True)]
    middle_x = statistics.fmean(x for x, _y in logs)
    middle_y = statistics.fmean(y for _x, y in logs)
    return sum((x - middle_x) * (y - middle_y) for x, y in logs) / sum(
        (x - middle_x) ** 2 for x, _y in logs
    )


# ---------------------------------------------------------------- values as people read them

_KIB = 1024


def seconds(value: float) -> str:
    """Return seconds with a unit that fits and three digits: `4.21 ms`."""
    for unit, factor in (("s", 1), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1 or unit == "µs":
            return f"{_digits(value * factor)} {unit}"
    raise AssertionError(value)


def size(value: float) -> str:
    """Return bytes with a unit that fits: `64 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < _KIB or unit == "GiB":
            return f"{_digits(value)} {unit}"
        value /= _KIB
    raise AssertionError(value)


def number(value: float) -> str:
    """Return a number, without a point where it is whole."""
    return f"{value:g}"


def count(value: int) -> str:
    """Return a count, in thousands: `16,000`."""
    return f"{value:,}"


def _digits(value: float) -> str:
    """Return about three digits."""
    whole = len(str(int(value)))
    text = f"{value:.{max(0, 3 - whole)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


_SHOWN = {SECONDS: seconds, BYTES: size}


def shown(result: Result | None) -> str:
    """Return a result: the median, and the quartiles where they differ."""
    if result is None:
        return "–"
    show = _SHOWN.get(result.unit, number)
    low, high = (show(one) for one in result.quartiles)
    median = show(result.median)
    if low == high:
        return median
    unit = median.rpartition(" ")[2]
    if low.endswith(f" {unit}") and high.endswith(f" {unit}"):
        low = low.removesuffix(f" {unit}")
    return f"{median} ({low}–{high})"


def position(axis: str, x: int) -> str:
    """Return where on an axis it is."""
    return size(x) if axis == "bytes" else count(x)
