"""Values as people read them."""

from __future__ import annotations

from benchmarks.runner import BYTES, SECONDS, Result

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


def of(result: Result | None) -> str:
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
