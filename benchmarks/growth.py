"""How an operation grows: the exponent e in time ~ x^e, the slope of a line through the medians, both logarithmic."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.runner import Result

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
