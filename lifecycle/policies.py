"""Retention policies: which revisions to keep, and why. Pure.

How this works. A policy is a union of terms, written in one line: `last 5, 24 hourly, 7 daily, within 2d`. Each
term looks at the candidates, the newest first, and names those it keeps, with the reason; what any term keeps is
kept. Some revisions are never candidates (`PROTECTED`): they are kept whatever the policy says and take no slot.

Newest means: with the highest number. The revisions' times only say which hour, day… each of them falls in, so a
clock that went backwards cannot make an older revision look newer.

Everything here is a pure function of revisions and a moment: no files, no clock. That makes it safe to show with
`--dry-run`, and easy to test. Other terms come from the entry-point group `lifecycle.policies`: a line that names
one (`keep = "last 2, weekends 4"`) imports that one, and no other. An entry point is a function
`term(argument, zone) -> keeps`, called with what stands beside its name, and `keeps(candidates, now)` returns a
reason for the number of each revision it keeps. What such a term answers is looked at before it is used, and what it
raises is named as its own (`PluginFailed`): then there is no plan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from lifecycle.errors import InvalidPolicy
from lifecycle.terms import Keeps, PluginTerm, Revision


class Verdict(NamedTuple):
    """What becomes of one revision.

    Attributes:
        number: the revision's.
        keep: whether it stays.
        reasons: why; never empty.
    """

    number: int
    keep: bool
    reasons: tuple[str, ...]


class Plan(NamedTuple):
    """A verdict on each revision, in the order of their numbers."""

    verdicts: tuple[Verdict, ...]

    @property
    def keep(self) -> tuple[int, ...]:
        """The numbers that stay, lowest first."""
        return tuple(one.number for one in self.verdicts if one.keep)

    @property
    def remove(self) -> tuple[int, ...]:
        """The numbers that go, lowest first."""
        return tuple(one.number for one in self.verdicts if not one.keep)


PROTECTED: tuple[tuple[str, Callable[[Revision, datetime], bool]], ...] = (
    ("pinned", lambda revision, _now: revision.pinned),
    ("current", lambda revision, _now: revision.current),
    ("needed by other images", lambda revision, _now: revision.needed),
    ("from the future", lambda revision, now: revision.at > now),
)
"""What is never a candidate for removal, by the reason shown."""


class Policy(NamedTuple):
    """A retention policy, ready to plan.

    Attributes:
        line: how it was written.
        terms: the union of these.
        zone: the time zone in which periods are counted.
    """

    line: str
    terms: tuple[Keeps, ...]
    zone: str = "UTC"

    def __reduce__(self) -> tuple[Any, ...]:
        return parse, (self.line, self.zone)  # its terms are functions, which cannot be sent

    @property
    def keeps_all(self) -> bool:
        """Whether it keeps every revision there can be."""
        return _everything in self.terms

    def plan(self, revisions: Iterable[Revision], now: datetime) -> Plan:
        """Return a verdict on each revision.

        Args:
            revisions: all of a volume's, in any order.
            now: the moment to plan for (aware; UTC or any zone).

        Raises:
            InvalidPolicy, PluginFailed: a term of another package cannot be had, or failed.
        """
        ordered = sorted(revisions, key=lambda revision: revision.number, reverse=True)
        reasons: dict[int, list[str]] = {
            revision.number: [reason for reason, holds in PROTECTED if holds(revision, now)]
            for revision in ordered
        }
        # a tuple, which no term can change for the next
        candidates = tuple(one for one in ordered if not reasons[one.number])
        for term in self.terms:
            for number, reason in term(candidates, now).items():
                reasons[number].append(reason)
        return Plan(
            tuple(
                Verdict(
                    number=revision.number,
                    keep=bool(reasons[revision.number]),
                    reasons=tuple(reasons[revision.number]) or (f"not in `{self.line}`",),
                )
                for revision in reversed(ordered)
            )
        )


# ---------------------------------------------------------------- the terms


def _last(count: int) -> Keeps:
    def keeps(candidates: Sequence[Revision], _now: datetime) -> dict[int, str]:
        return {
            revision.number: f"last {place}" for place, revision in enumerate(candidates[:count], 1)
        }

    return keeps


def _everything(candidates: Sequence[Revision], _now: datetime) -> dict[int, str]:
    return {revision.number: "all" for revision in candidates}


def _within(span: timedelta, text: str, *, of_newest: bool) -> Keeps:
    """Keep what is no older than that: counted from now, or from when the newest candidate was made."""

    def keeps(candidates: Sequence[Revision], now: datetime) -> dict[int, str]:
        end = candidates[0].at if of_newest and candidates else now
        return {
            revision.number: f"within {text}"
            for revision in candidates
            if end - revision.at <= span
        }

    return keeps


PERIODS: Mapping[str, str] = MappingProxyType(
    {
        "hourly": "%Y-%m-%d %H:00 %z",
        "daily": "%Y-%m-%d",
        "weekly": "%G week %V",
        "monthly": "%Y-%m",
        "yearly": "%Y",
    }
)
"""How a period is told from another: its name, which the reason shows. Weeks are those of ISO 8601."""


def _slots(period: str, count: int, zone: tzinfo) -> Keeps:
    """Keep the newest revision of each of the newest `count` periods that hold one."""

    def keeps(candidates: Sequence[Revision], _now: datetime) -> dict[int, str]:
        newest: dict[str, int] = {}
        for revision in candidates:
            name = _local(revision.at, zone).strftime(PERIODS[period])
            if len(newest) < count:
                newest.setdefault(name, revision.number)
        return {number: f"{period} {name}" for name, number in newest.items()}

    return keeps


def _local(at: datetime, zone: tzinfo) -> datetime:
    """Return the moment as clocks in the zone show it; in the calendar's last hours, as those of UTC do."""
    try:
        return at.astimezone(zone)
    except OverflowError:
        return at


# ---------------------------------------------------------------- the line

_DURATION_PART = r"([0-9]+)(min|h|d|w)"
_DURATION = f"(?:{_DURATION_PART})+"
_UNITS = {
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_OF_NEWEST = " of the newest"
_MAX_COUNT = 10**9
_KNOWN = ("last", *PERIODS, "within", "all")
_HOW = "write terms such as `last 5`, `7 daily`, `within 2d` or `all`, with commas between"


def parse(line: str, zone: str = "UTC") -> Policy:
    """Read a policy's line. Terms of other packages are imported when the policy first plans.

    Args:
        line: terms with commas between: `last N`; `hourly`, `daily`, `weekly`, `monthly`, `yearly N`; `within
            DURATION` (`90min`, `36h`, `2d`, `1w3d`), counted from now; `within DURATION of the newest`; `all`; or the
            name of an entry point with its argument. A count may stand before or behind the word.
        zone: the IANA time zone in which hours, days, weeks… are counted.

    Raises:
        InvalidPolicy: the line is no policy, or empty: "keep nothing" is said as `last 0`.
    """
    if not isinstance(line, str) or not line.strip():
        raise InvalidPolicy(line, "it is empty; to keep no revisions, say `last 0`")
    return _parse(line, zone)


@lru_cache(maxsize=256)
def _parse(line: str, zone: str) -> Policy:
    where = time_zone(zone)
    return Policy(line, tuple(_term(line, text.strip(), where) for text in line.split(",")), zone)


def check(line: str, zone: str = "UTC") -> None:
    """Check a policy's line: import what it names, and try that on made-up revisions and on none.

    Raises:
        InvalidPolicy: it is none, or names a term that no installed package offers, or that refused its argument.
        PluginFailed: a term of another package failed, or answered what it may not.
    """
    for term in parse(line, zone).terms:
        if isinstance(term, PluginTerm):
            term.try_out()


def time_zone(name: str) -> tzinfo:
    """Return the time zone of that name.

    Raises:
        InvalidPolicy: there is none.
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError  # noqa: PLC0415 - slow to load

    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise InvalidPolicy(
            name, "there is no time zone of that name; write one such as `UTC` or `Europe/Berlin`"
        ) from error


def _term(line: str, text: str, zone: tzinfo) -> Keeps:
    words = text.split()
    if not words:
        raise InvalidPolicy(line, f"it has an empty term; {_HOW}")
    if words[0].isdecimal():
        words.append(words.pop(0))
    name, *arguments = words
    argument = " ".join(arguments)
    if name == "all":
        if arguments:
            raise InvalidPolicy(line, f"`all` keeps all; it takes no `{argument}`")
        return _everything
    if name == "last":
        return _last(_count(line, text, argument))
    if name in PERIODS:
        return _slots(name, _count(line, text, argument), zone)
    if name == "within":
        duration = argument.removesuffix(_OF_NEWEST)
        if set(_KNOWN) & set(arguments):
            raise _without_commas(line, text)
        span, of_newest = _duration(line, duration), duration != argument
        return _within(span, argument, of_newest=of_newest)
    return PluginTerm(line, name, argument, zone, _KNOWN)


def _without_commas(line: str, term: str) -> InvalidPolicy:
    """Return the error for what is several terms, with the commas forgotten."""
    return InvalidPolicy(
        line,
        f"`{term}` is no single term: write one count with each word, and commas between"
        " (`last 5, 7 daily`)",
    )


def _count(line: str, term: str, argument: str) -> int:
    if len(argument.split()) > 1:
        raise _without_commas(line, term)
    if not (argument.isascii() and argument.isdecimal()) or len(argument) > len(str(_MAX_COUNT)):
        raise InvalidPolicy(line, f"`{term}` needs a count, as in `last 5` or `7 daily`")
    return int(argument)


def _duration(line: str, text: str) -> timedelta:
    if re.fullmatch(_DURATION, text) is None:
        raise InvalidPolicy(
            line,
            f"`within {text}` needs a duration of min, h, d, w: `within 2d`, or `within 2d{_OF_NEWEST}`",
        )
    try:
        return sum(
            (int(count) * _UNITS[unit] for count, unit in re.findall(_DURATION_PART, text)),
            timedelta(),
        )
    except (OverflowError, ValueError) as error:
        raise InvalidPolicy(line, f"`within {text:.40}` is longer than can be counted") from error
