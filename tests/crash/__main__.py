# ruff: noqa: T201 - it prints a table
"""All of the crash proof, on every core: prints a table, and ends with 1 if an invariant did not hold."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import shutil
import sys
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from unittest import mock

from crash.copies import new_directory
from crash.findings import UNTOLD, Tally
from crash.operations import FAULTS, stop_after, stop_before
from crash.power import WAYS, Mains
from crash.scenes import BY_NAME
from crash.trial import Stage
from lifecycle.subscribers import precaching
from support.mounts import KINDS, Mounts

_START, _END = "<!-- the table of one run -->", "<!-- end -->"
_mounts: list[Mounts] = []
"""This process's file systems."""
_mains: dict[str, Mains] = {}


def enter(below: str) -> None:
    """Make a process ready to mount."""
    logging.disable(logging.CRITICAL)
    mock.patch.object(precaching, "begin").start()  # what is made ahead is made in the scenes
    _mounts.append(Mounts(Path(tempfile.mkdtemp(dir=below))))


def try_all(scene: str, where: str) -> Tally:
    """Try everything that can be tried with a scene on a file system, or with a way to cut its power."""
    if where in WAYS:
        if where not in _mains:
            _mains[where] = Mains(_mounts[0].get("xfs"), where)
        mains = _mains[where]
        directory, kind = new_directory(mains.path), mains.kind
    else:
        file_system = _mounts[0].get(where)
        directory, kind = file_system.new_directory(), where
    stage = Stage(BY_NAME[scene], directory, kind, reflinks=kind != "plain")
    if where in WAYS:
        stage.cut_power(_mains[where], [None, *range(1, len(stage.operations) + 1)])
    else:
        stage.stop_everywhere(stop_before)
        stage.stop_everywhere(stop_after)
        stage.stop_twice_everywhere()
        stage.refuse_everywhere()
        for code in FAULTS:
            stage.fail_everywhere(code, opens=code == errno.EMFILE)
    shutil.rmtree(directory)
    return stage.tally


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m crash", description="All of the crash proof.")
    parser.add_argument("--only", default="", help="the scenes whose names hold this text")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes")
    parser.add_argument("--into", metavar="FILE", help="put the table into this document too")
    asked = parser.parse_args()
    scenes = [name for name in BY_NAME if asked.only in name]
    rows: dict[tuple[str, str], Tally] = {}
    with (
        tempfile.TemporaryDirectory(prefix="lifecycle-crash-") as below,
        ProcessPoolExecutor(asked.jobs, initializer=enter, initargs=(below,)) as workers,
    ):
        tasks = {
            workers.submit(try_all, scene, where): (BY_NAME[scene].event, where.partition(",")[0])
            for where in (*KINDS, *WAYS)
            for scene in scenes
        }
        for number, task in enumerate(as_completed(tasks), 1):
            tally = rows.setdefault(tasks[task], Tally())
            tally += task.result()
            print(f"\r{number}/{len(tasks)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    total = Tally()
    table = [
        "| event | file system | points | power cuts | faults | lost | untold | slowest recovery |",
        "|---|---|---|---|---|---|---|---|",
    ]
    events = list(dict.fromkeys(BY_NAME[name].event for name in scenes))
    for event, kind in sorted(rows, key=lambda one: (events.index(one[0]), KINDS.index(one[1]))):
        table.append(_row(event, kind, rows[event, kind]))
        total += rows[event, kind]
    table.append(_row("all", "all", total))
    print("\n".join(table))
    if asked.into:
        document = Path(asked.into)
        before, start, rest = document.read_text().partition(_START)
        after = rest.partition(_END)[2]
        document.write_text("\n".join([before + start, *table, _END + after]))
    for violation in total.violations:
        print(f"\n{violation}", file=sys.stderr)
    return 1 if total.violations else 0


def _row(event: str, kind: str, tally: Tally) -> str:
    tried = f"{tally.points} | {tally.cuts or '-'} | {tally.faults}"
    untold = [one for one in tally.violations if one.rule == UNTOLD]
    lost = len(tally.violations) - len(untold)
    return (
        f"| {event} | {kind} | {tried} | {lost} | {len(untold)} | {tally.slowest * 1000:.0f} ms |"
    )


if __name__ == "__main__":
    sys.exit(main())
