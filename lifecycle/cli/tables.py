"""Prints tables at any width of the terminal: cells are wrapped, and never cut.

How this works. Columns stand as wide as what is in them. Where that is too much, the space between them gives way
first, then what is made of words wraps, and names (ids, paths) go on below themselves; numbers, sizes and single words
stay whole. Where even so there is no room for columns, each row becomes a few lines, one for each of its cells. What
goes to no terminal is never broken.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from typing import Literal, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lifecycle.errors import printable

_GAPS = (3, 2, 1)
"""Cells between columns, the first that fit."""
_LEAST = 12
"""Cells. A column of names is not made narrower than this."""


class Holds(Enum):
    """What a column holds, and so how it may be broken."""

    UNITS = "numbers, sizes, single words: never"
    WORDS = "several words: between them"
    NAMES = "names, paths: anywhere"


class Column(NamedTuple):
    """One column of a table.

    Attributes:
        title: what stands above it; may be empty.
        holds: what is in it.
        right: whether that is set to the right.
    """

    title: str
    holds: Holds = Holds.UNITS
    right: bool = False


def cell_of(value: object, style: str = "") -> Text:
    """Return a value as a cell; nothing in it steers the terminal, whoever chose it."""
    return Text(printable(str(value)), style=style)


def print_table(
    console: Console,
    columns: Sequence[Column],
    rows: Sequence[Sequence[Text]],
    *,
    heads: int = 1,
    titled: bool = True,
    gaps: Sequence[int] = _GAPS,
) -> bool:
    """Print the rows; return whether there was room for columns, or each row was printed in lines of its own.

    Args:
        console: where to.
        columns: the columns.
        rows: a cell for each column.
        heads: how many cells are a row's name, which stands above the others where there is no room for columns.
        titled: whether the columns' titles stand above them; if not, they are said only where there is no room for
            columns.
        gaps: cells between columns, the first that fit.
    """
    above = [column.title if titled else "" for column in columns]
    filled = [[title, *(row[number].plain for row in rows)] for number, title in enumerate(above)]
    fitted = _fitted(console.width, columns, filled, gaps)
    if fitted is None:
        _print_one_below_the_other(console, columns, rows, heads)
        return False
    gap, widths = fitted
    table = Table(
        box=None,
        pad_edge=False,
        show_header=titled,
        padding=(0, gap, 0, 0),
        header_style="bold",
    )
    for column, title, width in zip(columns, above, widths, strict=True):
        table.add_column(
            Text(title),
            justify="right" if column.right else "left",
            width=width,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*row)
    _print_without_filling(console, table)
    return True


def lines_of(columns: Sequence[Column], rows: Sequence[Sequence[Text]]) -> list[str]:
    """Return the lines of the table as `print_table` prints them on standard output, without styles."""
    console = new_console(color_system=None)
    with console.capture() as captured:
        print_table(console, columns, rows)
    return captured.get().splitlines()


def new_console(color_system: Literal["auto"] | None = "auto") -> Console:
    """Return what draws on standard output: as wide as the terminal; where there is none, as wide as need be."""
    console = Console(highlight=False, soft_wrap=False, color_system=color_system)
    if sys.stdout is None or not sys.stdout.isatty():
        console.width = _ENDLESS
    return console


_ENDLESS = 1 << 20
"""Cells; more than any line has."""


# ---------------------------------------------------------------- how wide


def _fitted(
    width: int,
    columns: Sequence[Column],
    filled: Sequence[Sequence[str]],
    gaps: Sequence[int],
) -> tuple[int, list[int]] | None:
    """Return the gap and the widths with which columns filled like this fit; None if they cannot."""
    natural = [max(map(cell_len, cells)) for cells in filled]
    between = len(columns) - 1
    for gap in gaps:
        if sum(natural) + gap * between <= width:
            return gap, natural
    least = [
        _least(column, cells, wide)
        for column, cells, wide in zip(columns, filled, natural, strict=True)
    ]
    for gap in gaps[1:]:
        room = width - gap * between
        if sum(least) <= room:
            return gap, _shared(natural, least, room)
    return None


def _least(column: Column, cells: Sequence[str], natural: int) -> int:
    """Return the cells that a column needs so that nothing is broken that must not be."""
    if column.holds is Holds.UNITS:
        return natural
    longest = max((cell_len(word) for cell in cells for word in cell.split()), default=0)
    if column.holds is Holds.WORDS:
        return longest
    return min(longest, max(_LEAST, cell_len(column.title)))


def _shared(natural: Sequence[int], least: Sequence[int], room: int) -> list[int]:
    """Return widths that take up no more than this room: the widest give way first."""
    widths = list(natural)
    while sum(widths) > room:
        can = [number for number, wide in enumerate(widths) if wide > least[number]]
        widths[max(can, key=lambda number: widths[number])] -= 1
    return widths


# ---------------------------------------------------------------- printing


def _print_one_below_the_other(
    console: Console, columns: Sequence[Column], rows: Sequence[Sequence[Text]], heads: int
) -> None:
    """Print each row as its name, and below that each other cell that holds something, behind its title."""
    for number, row in enumerate(rows):
        if number:
            console.print()
        name = Text(" ").join([cell for cell in row[:heads] if cell.plain])
        console.print(Text.assemble(name, style="bold"), overflow="fold")
        for column, cell in zip(columns[heads:], row[heads:], strict=True):
            if cell.plain:
                title = f"{column.title}: " if column.title else ""
                is_broken = cell_len(title) + cell.cell_len > console.width
                apart = "\n" if is_broken and column.holds is Holds.UNITS else ""
                console.print(Text.assemble((title, "dim"), apart, cell), overflow="fold")


def print_pairs(console: Console, pairs: Sequence[tuple[str, Text]]) -> None:
    """Print names with what they stand for, a line or more each."""
    width = max(len(name) for name, _value in pairs) + 2
    if console.width - width < _LEAST:
        for name, value in pairs:
            for line in at_words([f"{name}: {value.plain}"], console.width):
                console.print(Text(line), soft_wrap=True)
        return
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(Text(name), value)
    _print_without_filling(console, table)


def _print_without_filling(console: Console, table: Table) -> None:
    """Print it without the spaces that would fill the last column."""
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.file.write(line.rstrip() + "\n")


def at_words(lines: Iterable[str], width: int, indent: int = 0) -> Iterator[str]:
    """Yield the lines, broken between words where they are wider than this; what follows is set in so far.

    A size is one word with its unit. A word that is wider by itself is left whole: the terminal breaks it, and it can
    be copied.
    """
    for line in lines:
        first, *others = re.split(r" (?!(?:[KMGTPE]i)?B\b)", line)
        begun = first
        for word in others:
            if begun.strip() and word and cell_len(f"{begun} {word}") > width:
                yield begun.rstrip()
                begun = " " * min(indent, width // 4) + word
            else:
                begun += f" {word}"
        yield begun
