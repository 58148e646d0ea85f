"""Measure, print the tables, and write them and the plots into the docs if asked to."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table as Drawn
from rich.text import Text

from benchmarks import disk, page, pools
from benchmarks.bars import bars
from benchmarks.measuring import FULL, QUICK, Collected, Scale
from benchmarks.places import Places
from benchmarks.tables import Table, tables
from support.mounts import CannotMount

_WIDTH = 150
"""Columns of a terminal, at least: a table is easier read cut off than folded."""
TOPICS: dict[str, Callable[[Places, Scale, Collected], None]] = {
    "processes": disk.measure_processes,
    "disk": disk.measure,
    "crowds": pools.measure_crowds,
    "pools": pools.measure,
}


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "topics", nargs="*", metavar="TOPIC", help=f"of {', '.join(TOPICS)}: by default all"
    )
    parser.add_argument("--quick", action="store_true", help="one small pass, to see that it runs")
    parser.add_argument(
        "--into", metavar="DIR", type=Path, help="write the page and the plots there"
    )
    parser.add_argument("--on", metavar="DIR", help="where a disk is, for what is measured on one")
    asked = parser.parse_args()
    unknown = set(asked.topics) - set(TOPICS)
    if unknown:
        parser.error(f"there is no topic {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that nothing is left behind
    logging.disable(logging.CRITICAL)
    scale = QUICK if asked.quick else FULL
    collected = Collected(scale.effort, _teller())
    try:
        machine = page.machine(_command(), asked.on or tempfile.gettempdir())
        _measure(asked.topics or list(TOPICS), scale, asked.on, collected)
    except CannotMount as error:
        print(f"benchmarks: this takes root and real file systems: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        _show(tables(collected.results, bars(collected.results)))
        print("Interrupted: this is what was measured by then.", file=sys.stderr)
        return 130  # as the shell says of what was interrupted
    made = list(tables(collected.results, bars(collected.results)))
    _show(made)
    if asked.quick:
        print("A quick pass: it shows that all of it runs. Its times say nothing.", file=sys.stderr)
    if asked.into is not None:
        page.write(asked.into / page.PAGE, machine, made)
        page.draw(collected.results, asked.into)
    return 0


def _command() -> str:
    """Return what a person types to have this again."""
    arguments = " ".join(sys.argv[1:])
    made = {"--into docs": "make bench", "--quick": "make bench QUICK=1"}
    return made.get(arguments, f"python -m benchmarks {arguments}")


def _teller() -> Callable[[str], None]:
    """Return what tells, beside the time since, what has been done."""
    began = time.monotonic()

    def tell(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", file=sys.stderr, flush=True)

    return tell


def _measure(topics: list[str], scale: Scale, on: str | None, collected: Collected) -> None:
    """Measure the topics in their order."""
    with (
        tempfile.TemporaryDirectory(prefix="lifecycle-benchmarks-", dir=on) as below,
        Places(Path(below), scale.file_system) as places,
    ):
        for topic in topics:
            TOPICS[topic](places, scale, collected)


def _show(made: Iterable[Table]) -> None:
    """Print the tables."""
    console = Console()
    console.width = max(console.width, _WIDTH)
    for table in made:
        drawn = Drawn(title=table.title, title_justify="left")
        for column in table.columns:
            drawn.add_column(Text(column))
        for row in table.rows:
            drawn.add_row(*map(Text, row))
        console.print(drawn)


if __name__ == "__main__":
    sys.exit(main())
