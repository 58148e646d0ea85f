"""What people see: tables, a timeline, progress bars. Loads rich, which is slow, so it is imported late."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress

from rich.cells import cell_len
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    ProgressColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column as RichColumn
from rich.text import Text

from lifecycle.cli.tables import (
    Column,
    Holds,
    at_words,
    cell_of,
    new_console,
    print_pairs,
    print_table,
)
from lifecycle.errors import Holder, printable
from lifecycle.model import Revision
from lifecycle.report.documents import Document
from lifecycle.sizes import format_size

STYLES = {
    "created": "cyan",
    "started": "green",
    "dirty": "yellow",
    "committed": "blue",
    "reverted": "magenta",
    "damaged": "bold red",
}
"""The states' colours, on a terminal that has some."""

BAR_AFTER_SECONDS = 1.0
"""A copy that takes no longer shows no bar."""


def _state(document: Document) -> Text:
    found = cell_of(document["state"], STYLES.get(document["state"], ""))
    for word in ("outdated", "left_over"):
        if document[word]:
            found.append(f" {word.replace('_', ' ')}", style="red")
    if document["rw"] is False:  # of what could not be read it is not known
        found.append(" read-only", style="dim")
    return found


def _size(size: int | None, unknown: str = "unknown") -> Text:
    return Text(unknown if size is None else format_size(size))


_MANY = 1000
"""Volumes; a table of more is not worth the time that it takes to draw."""
_LIST = (
    Column("VOLUME", Holds.NAMES),
    Column("STATE", Holds.WORDS),
    Column("KIND"),
    Column("SIZE", right=True),
    Column("ON DISK", right=True),
    Column("SOURCE", Holds.NAMES),
)


def print_list(documents: Iterable[Document], pool: str) -> None:
    """Print volumes, a line each: as a table, or if they are very many in plain columns, as they come."""
    damaged: list[Document] = []
    coming = _noting_damage(documents, damaged)
    found = list(itertools.islice(coming, _MANY))
    console = new_console()
    following = next(coming, None)
    if following is not None:
        for one in itertools.chain(found, [following], coming):
            sys.stdout.writelines(f"{line}\n" for line in at_words([_line(one)], console.width))
        _print_damage(console, damaged)
        return
    if not found:
        console.print(
            cell_of(f"no volumes in {pool}; `lifecycle create VM/NAME --size 10G` makes one")
        )
        return
    in_columns = print_table(console, _LIST, [_cells(one) for one in found])
    if damaged and not in_columns:
        console.print()
    _print_damage(console, damaged)


def _noting_damage(documents: Iterable[Document], damaged: list[Document]) -> Iterator[Document]:
    for one in documents:
        if "damage" in one:
            damaged.append(one)
        yield one


def _print_damage(console: Console, damaged: list[Document]) -> None:
    """Say of each damaged volume, behind the list, what is wrong."""
    for one in damaged:
        console.print(cell_of(f"{one['id']}: {one['damage']}"))


def _cells(one: Document) -> list[Text]:
    return [
        cell_of(one["id"]),
        _state(one),
        cell_of(one["kind"] or "-"),
        _size(one["size"]),
        _size(one["usage"]),
        cell_of(one["source"] or ""),
    ]


def _line(one: Document) -> str:
    volume, state, kind, *sizes, source = (cell.plain for cell in _cells(one))
    columns = (
        _padded(volume, 40),
        _padded(state, 10),
        _padded(kind, 10),
        *(f"{size:>9}" for size in sizes),
        source,
    )
    return "   ".join(columns).rstrip()


def _padded(cell: str, width: int) -> str:
    return cell + " " * (width - cell_len(cell))


_POOLS = (
    Column("POOL", Holds.NAMES),
    Column("PATH", Holds.NAMES),
    Column("DRIVER", Holds.NAMES),
    Column("SIZE", right=True),
    Column("USED", right=True),
    Column("VOLUMES", right=True),
    Column("INCLUDED IN", Holds.NAMES),
)


def print_pools(found: list[Document]) -> None:
    """Print known pools, a line each, what is wrong with some of them, and a total that counts no space twice."""
    console = new_console()
    if not found:
        console.print(Text("no pool is known by a name; `lifecycle init DIR` makes one"))
        return
    rows = [_pool_cells(one) for one in found]
    in_columns = print_table(console, _POOLS, [*rows, _total(found)])
    problems = [one for one in found if one["problem"] is not None]
    if problems and not in_columns:
        console.print()
    for one in problems:
        console.print(cell_of(f"{one['name']}: {one['problem']}"))


def _pool_cells(one: Document) -> list[Text]:
    is_wrong = one["problem"] is not None
    return [
        cell_of(one["name"]),
        cell_of(one["path"]),
        cell_of(one["driver"] or "-"),
        *(_size(one[key], "-") for key in ("size", "usage")),
        cell_of("-" if one["volumes"] is None else one["volumes"]),
        Text("cannot be looked at", style="red") if is_wrong else cell_of(one["included_in"] or ""),
    ]


def _total(found: list[Document]) -> list[Text]:
    """Return the last row: all space once, as far as it is known."""
    counted = [one for one in found if one["counted"]]
    sizes = [[one[key] for one in counted] for key in ("size", "usage")]
    volumes = sum(one["volumes"] or 0 for one in found)
    cells = [
        Text("total" if all(one["problem"] is None for one in found) else "total known"),
        Text(),
        Text(),
        *(_size(None if None in several else sum(several), "-") for several in sizes),
        cell_of(volumes),
        Text(),
    ]
    for cell in cells:
        cell.stylize("bold")
    return cells


def print_pool(rows: Mapping[str, object]) -> None:
    """Print what is to be said of one pool."""
    print_pairs(new_console(), [(name, cell_of(value)) for name, value in rows.items()])


def print_volume(one: Document) -> None:
    """Print all about one volume."""
    holders = ", ".join(str(Holder(**holder)) for holder in one["in_use_by"] or ())
    rows = {
        "volume": cell_of(one["id"], "bold"),
        "state": _state(one),
        "damage": cell_of(one.get("damage", "")),
        "kind": cell_of(one["kind"]),
        "size": _size(one["size"]),
        "on disk": _size(one["usage"]),
        "source": cell_of(one["source"] or ""),
        "path": cell_of(one["path"]),
        "current": cell_of("" if one["current"] is None else one["current"]),
        "revisions": cell_of(", ".join(str(revision["number"]) for revision in one["revisions"])),
        "in use by": cell_of(holders),
        "keep": cell_of(one["keep"]),
        "on crash": cell_of(one["on_crash"]),
        "snapshots": cell_of(
            "" if one["snapshots"] else "none: the VM writes to the current image"
        ),
        "ready": cell_of(f"{one['ready']} for disposables" if one["ready"] else ""),
        "allowed": cell_of(", ".join(one["allowed"])),
    }
    print_pairs(new_console(), [(name, value) for name, value in rows.items() if value.plain])


_TIMELINE = (
    Column(""),
    Column("", right=True),
    Column("made"),
    Column("by", Holds.WORDS),
    Column("size"),
    Column("", Holds.NAMES),
)


def print_timeline(one: Document, history: Sequence[Revision]) -> None:
    """Print a volume's images as they came, from the empty one on, with the current one marked."""
    console = new_console()
    console.print(
        Text.assemble(cell_of(one["id"], "bold"), "  ", _state(one), "  ", _size(one["size"])),
        overflow="fold",
    )
    rows = []
    if one["current"] is not None or history:
        born = (Text("0"), Text(), Text("born empty"), Text(), Text())
        rows.append([_point(is_current=one["current"] == 0), *born])
    for revision in history:
        is_current = revision.number == one["current"]
        rows.append(
            [
                _point(is_current=is_current),
                cell_of(revision.number),
                cell_of(f"{revision.at:%Y-%m-%d %H:%M:%S}"),
                cell_of(revision.cause or "unknown"),
                _size(revision.size),
                _remarks(revision, is_current=is_current),
            ]
        )
    if one["state"] in {"started", "dirty"}:
        running = (Text(), Text("now"), Text("VM"), Text(), cell_of(one["path"]))
        rows.append([Text("◌", style=STYLES[one["state"]]), *running])
    print_table(console, _TIMELINE, rows, heads=2, titled=False, gaps=(2, 1))


def _point(*, is_current: bool) -> Text:
    return Text("●", style="bold green") if is_current else Text("○")


def _remarks(revision: Revision, *, is_current: bool) -> Text:
    found = Text()
    if is_current:
        found.append("current  ", style="bold green")
    if revision.pinned:
        found.append("pinned  ", style="yellow")
    if revision.label:
        found.append(cell_of(revision.label, "italic"))
    return found


class Counter:
    """How many VMs were gone through, on stderr, once that takes a while; `update` is a backend's `on_look`."""

    def __init__(self) -> None:
        self._begun: float | None = None
        self._is_shown = False

    def update(self, number: int) -> None:
        """Show the number, now and then."""
        if number % _SHOWN_EACH and self._begun is not None:
            return
        now = time.monotonic()
        self._begun = now if self._begun is None else self._begun
        if now - self._begun >= BAR_AFTER_SECONDS:
            self._is_shown = True
            self._write(f"\r{number} VMs…\x1b[K")

    def close(self) -> None:
        """Take it away."""
        if self._is_shown:
            self._write("\r\x1b[K")

    @staticmethod
    def _write(text: str) -> None:
        with suppress(OSError):  # the terminal has gone, and no one watches any more
            sys.stderr.write(text)
            sys.stderr.flush()


_SHOWN_EACH = 100


class _WithCursor(Console):
    """A console on which the cursor stays to be seen: whatever ends this process, there is nothing to give back."""

    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - rich calls it so
        """Do nothing."""
        return False


class Bars:
    """Progress bars on stderr, one for each copy that takes a while; `update` is a pool's `on_progress`.

    Once the terminal has gone, no more is shown, and the copies go on.
    """

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._begun: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}
        self._is_gone = False

    def update(self, text: str, done: int, total: int | None) -> None:
        """Show how far the copy of this name has come."""
        if total is not None and done >= total:
            self._finish(text)
            return
        begun = self._begun.setdefault(text, time.monotonic())
        if self._is_gone or time.monotonic() - begun < BAR_AFTER_SECONDS:
            return
        try:
            self._show(text, done, total)
        except OSError:
            self._is_gone = True

    def close(self) -> None:
        """Take the bars away, however the copies ended."""
        for text in list(self._begun):
            self._finish(text)

    def _show(self, text: str, done: int, total: int | None) -> None:
        if self._progress is None:
            console = _WithCursor(stderr=True)
            self._progress = Progress(*_bar_columns(console.width), console=console, transient=True)
            self._progress.start()
        if text not in self._tasks:
            self._tasks[text] = self._progress.add_task(printable(text), total=total)
        self._progress.update(self._tasks[text], completed=done)

    def _finish(self, text: str) -> None:
        self._begun.pop(text, None)
        task = self._tasks.pop(text, None)
        if self._progress is not None and task is not None:
            self._progress.remove_task(task)
        if self._progress is not None and not self._tasks:
            with suppress(OSError):
                self._progress.stop()
            self._progress = None


def _bar_columns(width: int) -> list[ProgressColumn]:
    """Return what stands in the line of a copy: the bytes in any case, and of the rest what there is room for."""
    counted, left = DownloadColumn(binary_units=True), TimeRemainingColumn()
    if width < _SOME:
        return [counted]
    bar = [BarColumn(_LONG_BAR if width >= _MUCH else _SHORT_BAR)] if width >= _ENOUGH else []
    taken = _COUNTED + _LEFT + sum((one.bar_width or 0) + 1 for one in bar)
    named = RichColumn(no_wrap=True, overflow="ellipsis", max_width=width - taken)
    name = TextColumn("{task.description}", markup=False, table_column=named)
    return [name, *bar, counted, left]


_SOME, _ENOUGH, _MUCH = 40, 60, 100
"""Cells from which on a line names what is copied, has a bar, and a long one."""
_SHORT_BAR, _LONG_BAR = 10, 40
_COUNTED, _LEFT = len("1023.9/1023.9 GiB "), len("10:00:00 ")
