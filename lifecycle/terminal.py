"""What people see: tables, a timeline, progress bars. Slow to import (rich), so imported when something is drawn."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from lifecycle.change import Revision
from lifecycle.documents import Document
from lifecycle.errors import Holder
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


def _console() -> Console:
    # text that is piped on must not be broken at 80 columns
    width = None if sys.stdout is not None and sys.stdout.isatty() else 10_000
    return Console(highlight=False, soft_wrap=False, width=width)


def _state(document: Document) -> Text:
    text = Text(document["state"], style=STYLES.get(document["state"], ""))
    for word in ("outdated", "left_over"):
        if document[word]:
            text.append(f" {word.replace('_', ' ')}", style="red")
    if not document["rw"]:
        text.append(" read-only", style="dim")
    return text


def _size(size: int | None, unknown: str = "unknown") -> str:
    return unknown if size is None else format_size(size)


_MANY = 1000
"""Volumes; a table of more is not worth the time that it takes to draw."""


def print_list(documents: Iterable[Document], pool: str) -> None:
    """Print volumes, a line each: as a table, or if they are very many in plain columns, as they come."""
    coming = iter(documents)
    found = list(itertools.islice(coming, _MANY))
    console = _console()
    following = next(coming, None)
    if following is not None:
        for one in itertools.chain(found, [following], coming):
            columns = (
                f"{one['id']:<40}",
                f"{_state(one).plain:<10}",
                f"{one['kind']:<10}",
                f"{_size(one['size']):>9}",
                f"{_size(one['usage']):>9}",
                one["source"] or "",
            )
            sys.stdout.write("   ".join(columns).rstrip() + "\n")
        return
    if not found:
        console.print(
            Text(f"no volumes in {pool}; `lifecycle create VM/NAME --size 10G` makes one")
        )
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    table.add_column("VOLUME", no_wrap=True)
    table.add_column("STATE", no_wrap=True)
    table.add_column("KIND", no_wrap=True)
    table.add_column("SIZE", justify="right", no_wrap=True)
    table.add_column("ON DISK", justify="right", no_wrap=True)
    table.add_column("SOURCE", no_wrap=True)
    for one in found:
        table.add_row(
            Text(one["id"]),
            _state(one),
            one["kind"],
            _size(one["size"]),
            _size(one["usage"]),
            Text(one["source"] or ""),
        )
    _print_table(console, table)


def print_pools(found: list[Document]) -> None:
    """Print known pools, a line each, what is wrong with some of them, and a total that counts no space twice."""
    console = _console()
    if not found:
        console.print(Text("no pool is known by a name; `lifecycle init DIR` makes one"))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    for name in ("POOL", "PATH", "DRIVER"):
        table.add_column(name, no_wrap=True)
    for name in ("SIZE", "USED", "VOLUMES"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("INCLUDED IN", no_wrap=True)
    for one in found:
        wrong = "" if one["problem"] is None else "cannot be looked at"
        table.add_row(
            Text(one["name"]),
            Text(one["path"]),
            one["driver"] or "-",
            *(_size(one[key], "-") for key in ("size", "usage")),
            "-" if one["volumes"] is None else str(one["volumes"]),
            Text(wrong, style="red") if wrong else Text(one["included_in"] or ""),
        )
    table.add_row(*_total(found), style="bold")
    _print_table(console, table)
    for one in found:
        if one["problem"] is not None:
            console.print(Text(f"{one['name']}: {one['problem']}"))


def _total(found: list[Document]) -> list[str]:
    """Return the last row: all space once, as far as it is known."""
    counted = [one for one in found if one["counted"]]
    sizes = [[one[key] for one in counted] for key in ("size", "usage")]
    volumes = sum(one["volumes"] or 0 for one in found)
    return [
        "total" if all(one["problem"] is None for one in found) else "total known",
        "",
        "",
        *(_size(None if None in several else sum(several), "-") for several in sizes),
        str(volumes),
    ]


def print_volume(one: Document) -> None:
    """Print all about one volume."""
    holders = ", ".join(str(Holder(**holder)) for holder in one["in_use_by"])
    rows = {
        "volume": Text(one["id"], style="bold"),
        "state": _state(one),
        "damage": Text(one.get("damage", "")),
        "kind": Text(one["kind"]),
        "size": Text(_size(one["size"])),
        "on disk": Text(_size(one["usage"])),
        "source": Text(one["source"] or ""),
        "path": Text(one["path"]),
        "current": Text("" if one["current"] is None else str(one["current"])),
        "revisions": Text(", ".join(str(revision["number"]) for revision in one["revisions"])),
        "in use by": Text(holders),
        "keep": Text(one["keep"]),
        "on crash": Text(one["on_crash"]),
        "snapshots": Text("" if one["snapshots"] else "none: the VM writes to the current image"),
        "ready": Text(f"{one['ready']} for disposables" if one["ready"] else ""),
        "allowed": Text(", ".join(one["allowed"])),
    }
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in rows.items():
        if text.plain:
            table.add_row(name, text)
    _print_table(_console(), table)


def print_timeline(one: Document, history: Sequence[Revision]) -> None:
    """Print a volume's images as they came, from the empty one on, with the current one marked."""
    console = _console()
    console.print(Text.assemble((one["id"], "bold"), "  ", _state(one), f"  {_size(one['size'])}"))
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    for _column in ("made", "by", "size"):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    if one["current"] is not None or history:
        table.add_row(*_point(one["current"] == 0), "0", "", "born empty")
    for revision in history:
        table.add_row(
            *_point(revision.number == one["current"]),
            str(revision.number),
            f"{revision.at:%Y-%m-%d %H:%M:%S}",
            revision.cause or "unknown",
            _size(revision.size),
            _remarks(revision, is_current=revision.number == one["current"]),
        )
    if one["state"] in {"started", "dirty"}:
        table.add_row(Text("◌", style=STYLES[one["state"]]), "", "now", "VM", "", one["path"])
    _print_table(console, table)


def _point(is_current: bool) -> tuple[Text]:
    return (Text("●", style="bold green") if is_current else Text("○"),)


def _remarks(revision: Revision, *, is_current: bool) -> Text:
    text = Text()
    if is_current:
        text.append("current  ", style="bold green")
    if revision.pinned:
        text.append("pinned  ", style="yellow")
    if revision.label:
        text.append(revision.label, style="italic")
    return text


def _print_table(console: Console, table: Table) -> None:
    """Print it without the spaces that would fill the last column."""
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        console.file.write(line.rstrip() + "\n")


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
            sys.stderr.write(f"\r{number} VMs…\x1b[K")
            sys.stderr.flush()

    def close(self) -> None:
        """Take it away."""
        if self._is_shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


_SHOWN_EACH = 100


class Bars:
    """Progress bars on stderr, one for each copy that takes a while; `update` is a pool's `on_progress`."""

    def __init__(self) -> None:
        self._progress: Progress | None = None
        self._begun: dict[str, float] = {}
        self._tasks: dict[str, TaskID] = {}

    def update(self, text: str, done: int, total: int | None) -> None:
        """Show how far the copy of this name has come."""
        if total is not None and done >= total:
            self._finish(text)
            return
        begun = self._begun.setdefault(text, time.monotonic())
        if time.monotonic() - begun < BAR_AFTER_SECONDS:
            return
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                DownloadColumn(binary_units=True),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=True,
            )
            self._progress.start()
        if text not in self._tasks:
            self._tasks[text] = self._progress.add_task(text, total=total)
        self._progress.update(self._tasks[text], completed=done)

    def close(self) -> None:
        """Take the bars away, however the copies ended."""
        for text in list(self._begun):
            self._finish(text)

    def _finish(self, text: str) -> None:
        self._begun.pop(text, None)
        task = self._tasks.pop(text, None)
        if self._progress is not None and task is not None:
            self._progress.remove_task(task)
        if self._progress is not None and not self._tasks:
            self._progress.stop()
            self._progress = None
