"""docs/performance.md: the tables and the machine go between its markers; the prose around is by hand."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.tables import Table
from support.mounts import run

PAGE = "performance.md"
_START, _END = "<!-- measured -->", "<!-- end -->"


def write(page: Path, machine: str, tables: Iterable[Table]) -> None:
    """Put the machine and the tables into the page.

    Raises:
        AssertionError: the page has no markers.
    """
    before, start, rest = page.read_text().partition(_START)
    _old, end, after = rest.partition(_END)
    if not (start and end):
        raise AssertionError(f"{page} has no markers {_START} and {_END}")
    made = "\n\n".join([machine, *(table.markdown() for table in tables)])
    page.write_text(f"{before}{start}\n{made}\n{end}{after}")


def machine(command: str, disk: str) -> str:
    """Return what it was measured on, when and by which command; `disk` is the directory that stands for a disk."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    rows = {
        "machine": f"{_processor()}, {os.cpu_count()} processors, {memory:.0f} GiB of memory",
        "kernel": f"{platform.system()} {platform.release()} {platform.machine()}",
        "Python": platform.python_version(),
        "file systems": f"{_version('mkfs.xfs', '-V')}; {_version('mkfs.btrfs', '--version')}; defaults",
        "xfs, btrfs": "on loop devices, in files on a tmpfs",
        "… on disk": f"on loop devices, in files on {_below(disk)}",
        "rivals": f"{_version('qemu-img', '--version')}; {_version('cp', '--version')}",
        "load when it began": f"{os.getloadavg()[0]:.1f}",
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "command": f"`{command}`",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {key} | {text} |" for key, text in rows.items())])


def _below(directory: str) -> str:
    """Return what the directory lies on."""
    asked = ("--noheadings", "--output", "FSTYPE,SOURCE", "--target", directory)
    kind, source = run("findmnt", *asked).split(maxsplit=1)
    return f"the {kind} of {source.strip()}"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _version(*command: str) -> str:
    if shutil.which(command[0]) is None:
        return f"no {command[0]}"
    return run(*command).splitlines()[0].strip()
