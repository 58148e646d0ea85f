"""Which way each arrow takes through the drawing's rows of boxes and the channels between them.

How this works. The states stand in rows: first those in no group, then each group in its frame. Below each row is a
channel. An arrow between neighbouring rows is one upright line in the channel between them, as long as it crosses no
other: boxes are made as wide as their lines need. Any other arrow is bent: down into a channel, across, and up or down
again, past the right edge if rows lie between. An arrow between a box and the next lies between them, and one from a
frame to a box inside it below the box.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lifecycle.report.drawing.chart import Arrow, Chart, End, Group


@dataclass(eq=False, slots=True)
class Upright:
    """An upright line, in a channel or, from the frame's lower border to a box, in a row.

    Attributes:
        arrow: whose line it is.
        above: which box of the row above it is fixed to, from the left; None if to none, or to the frame.
        below: the same of the row below.
        named: whether the event's name sits on it.
    """

    arrow: Arrow
    above: int | None
    below: int | None
    named: bool = True


@dataclass(eq=False, slots=True)
class BentEnd:
    """One end of a bent arrow: a line from a row into a channel, above or below the row."""

    row: int
    channel: int
    upright: Upright


@dataclass(eq=False, slots=True)
class Bent:
    """An arrow with corners."""

    arrow: Arrow
    tail: BentEnd
    head: BentEnd


@dataclass(eq=False, slots=True)
class Row:
    """Boxes side by side, and the events that do not leave the row.

    Attributes:
        group: whose states these are; None of the states that stand alone.
        states: the states, from left to right.
        stays: the events that leave a state as it is, by state; those of the whole group by None.
        beside: the arrows between a box and the next, by the place of the first.
        inner: the lines from the frame to a box.
    """

    group: Group | None
    states: tuple[str, ...]
    stays: dict[str | None, list[Arrow]] = field(default_factory=dict)
    beside: dict[int, list[Arrow]] = field(default_factory=dict)
    inner: list[Upright] = field(default_factory=list)

    def place(self, end: End) -> int | None:
        """Return which box that is, from the left; None for the frame."""
        return None if isinstance(end, Group) else self.states.index(end)

    @property
    def cells(self) -> list[str | None]:
        """What stands side by side: the states and, last, the events that leave each of the group as it is."""
        return [*self.states, *([None] if None in self.stays else [])]


@dataclass(eq=False, slots=True)
class Channel:
    """What lies below a row.

    Attributes:
        uprights: the lines in it, from left to right.
        lanes: the bent arrows that go across in it, from above to below.
    """

    uprights: list[Upright] = field(default_factory=list)
    lanes: list[Bent] = field(default_factory=list)


def insert(one: Upright, uprights: list[Upright]) -> None:
    """Put a line among others, after all that are fixed to its own box or to one further left."""
    at = 0
    for place, other in enumerate(uprights, start=1):
        if _up_to(other.above, one.above) or _up_to(other.below, one.below):
            at = place
    uprights.insert(at, one)


def _up_to(one: int | None, other: int | None) -> bool:
    return one is not None and other is not None and one <= other


def _crosses(one: Upright, later: Upright) -> bool:
    """Tell whether a line that is to be right of another would have to be left of it."""
    ends = ((later.above, one.above), (later.below, one.below))
    return any(_up_to(its, mine) and its != mine for its, mine in ends)


class Ways:
    """The rows and channels of a chart, and each arrow's way through them.

    Attributes:
        rows: the rows, from above to below.
        channels: below each row one.
        bent: the arrows that have corners.
    """

    def __init__(self, chart: Chart) -> None:
        grouped = {state for group in chart.groups for state in group.states}
        alone = tuple(state for state in chart.states if state not in grouped)
        self.rows = [Row(None, alone)] if alone else []
        self.rows += [Row(group, group.states) for group in chart.groups]
        self.channels = [Channel() for _ in self.rows]
        self.bent: list[Bent] = []
        leaving = [arrow for arrow in chart.arrows if not self._keep_in_row(arrow)]
        near = [one for one in leaving if abs(self._row(one.tail) - self._row(one.head)) == 1]
        crossing = self._straighten(near)
        for arrow in leaving:
            if arrow not in near or arrow in crossing:
                self._bend(arrow)

    def _row(self, end: End) -> int:
        return next(at for at, row in enumerate(self.rows) if end in (row.group, *row.states))

    def _keep_in_row(self, arrow: Arrow) -> bool:
        """Put an arrow into its row if there is a way without leaving it, and tell whether there is."""
        row = self.rows[self._row(arrow.tail)]
        if arrow.stays:
            whose = None if isinstance(arrow.tail, Group) else arrow.tail
            row.stays.setdefault(whose, []).append(arrow)
            return True
        if arrow.head not in row.states:
            return False
        tail, head = row.place(arrow.tail), row.place(arrow.head)
        if tail is None:
            row.inner.append(Upright(arrow, head, None))
        elif head is not None and abs(tail - head) == 1:
            row.beside.setdefault(min(tail, head), []).append(arrow)
        else:
            return False
        return True

    def _straighten(self, arrows: list[Arrow]) -> list[Arrow]:
        """Lay arrows between neighbouring rows from left to right, and return those that would cross another."""
        found: list[tuple[int, float, Upright]] = []
        for arrow in arrows:
            upper, lower = sorted((arrow.tail, arrow.head), key=self._row)
            at = self._row(upper)
            rows = self.rows[at : at + 2]
            places = [row.place(end) for row, end in zip(rows, (upper, lower), strict=True)]
            shares = [
                (2 * place + 1) / (2 * len(row.states))
                for row, place in zip(rows, places, strict=True)
                if place is not None
            ]
            found.append(
                (at, sum(shares) / max(len(shares), 1), Upright(arrow, places[0], places[1]))
            )
        crossing = []
        for at, _share, one in sorted(found, key=lambda each: each[:2]):
            uprights = self.channels[at].uprights
            if any(_crosses(other, one) for other in uprights):
                crossing.append(one.arrow)
            else:
                uprights.append(one)
        return crossing

    def _bend(self, arrow: Arrow) -> None:
        """Lead an arrow down into a channel and across; its name is on the end that comes from above."""
        upper, lower = sorted((arrow.tail, arrow.head), key=self._row)
        first, last = self._row(upper), self._row(lower)
        place = self.rows[last].place(lower)
        one = BentEnd(first, first, Upright(arrow, self.rows[first].place(upper), None))
        if first == last:
            other = BentEnd(last, last, Upright(arrow, place, None, named=False))
        else:
            other = BentEnd(last, last - 1, Upright(arrow, None, place, named=False))
        bent = Bent(arrow, one, other) if upper == arrow.tail else Bent(arrow, other, one)
        for end in (one, other):
            channel = self.channels[end.channel]
            insert(end.upright, channel.uprights)
            if bent not in channel.lanes:
                channel.lanes.append(bent)
        self.bent.append(bent)
