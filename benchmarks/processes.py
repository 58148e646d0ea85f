"""The command as a host calls it, a process each time, beside a Python that does nothing."""

from __future__ import annotations

import subprocess
import sys

from benchmarks import images
from benchmarks.ours import SCRIPT, Command
from benchmarks.places import Places
from benchmarks.runner import Collected, timed
from benchmarks.scale import Scale

PROCESSES = "processes"
PASS, IMPORT, VERSION = "python -c pass", "python -c 'import lifecycle'", "lifecycle --version"
START, STOP, REVERT = "lifecycle start", "lifecycle stop", "lifecycle revert"
TOOK = "took"

_OTHERS = {
    PASS: (sys.executable, "-c", "pass"),
    IMPORT: (sys.executable, "-c", "import lifecycle"),
    VERSION: (SCRIPT, "--version"),
}


def _run(words: tuple[str, ...]) -> float:
    return timed(lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL))


def measure(places: Places, scale: Scale, collected: Collected) -> None:
    """Measure on an XFS, with few extents."""
    place = places.get("xfs")
    with place.directory() as directory:
        image = images.make(directory / "image", scale.disk, scale.few)
        disk = Command(directory, image, scale.kept)

        def cycle() -> dict[str, float]:
            start = timed(disk.start)
            disk.write()
            stop = timed(disk.stop)
            disk.settle()
            revert = timed(disk.revert)
            disk.trim()
            return {START: start, STOP: stop, REVERT: revert}

        turns = {name: (lambda words=words: {TOOK: _run(words)}) for name, words in _OTHERS.items()}
        collected.measure(place, PROCESSES, 1, {**turns, "lifecycle": cycle})
