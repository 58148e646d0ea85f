"""What libvirt's hook costs: its whole process, for a VM with three volumes and for one with none of ours.

    sudo .venv/bin/python benchmarks/hook.py [DIR]

DIR is on XFS or btrfs; without it an XFS is made and mounted for the time being, out of others' sight. Prints medians
of 30 runs, taken in turn with `python -c pass` on the same interpreter, so that a busy machine slows all alike.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from lifecycle import Pool
from lifecycle.hosts.libvirt import install
from lifecycle.machine import known_pools

RUNS = 30
UUID = "c7a5fdbd-edaf-9455-926a-d65c16db1809"


def main() -> None:
    """Measure and print."""
    with contextlib.ExitStack() as held:
        below = Path(held.enter_context(tempfile.TemporaryDirectory()))
        place = Path(sys.argv[1]) if len(sys.argv) > 1 else held.enter_context(an_xfs(below))
        os.environ["LIFECYCLE_CONFIG"] = str(below / "etc")
        measure(Path(held.enter_context(tempfile.TemporaryDirectory(dir=place))), below)


@contextlib.contextmanager
def an_xfs(below: Path) -> Iterator[Path]:
    """Mount an XFS in a mount namespace of this process's own."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from support.mounts import Mounts, run  # noqa: PLC0415 - only without DIR

    (below / "mounts").mkdir()
    yield Mounts(below / "mounts").get("xfs").path
    run("umount", "--recursive", str(below / "mounts"))


def measure(directory: Path, below: Path) -> None:
    """Run the hook as libvirtd does, in turn with an interpreter that does nothing."""
    pool = Pool.create(directory / "vms")
    known_pools.enter(pool.path)
    volumes = [pool.create_volume(f"ci/{name}", "1G") for name in ("root", "home", "swap")]
    install.install(str(below))
    hook = str(below / install.HOOK[1:])
    ours, others = xml([volume.path for volume in volumes]), xml(["/var/lib/vms/other.qcow2"])
    calls = {
        "python -c pass": ([sys.executable, "-c", "pass"], ""),
        "prepare, of a VM with none of ours": ([hook, "ci", "prepare", "begin", "-"], others),
        "prepare, three volumes start": ([hook, "ci", "prepare", "begin", "-"], ours),
        "start, nothing to do": ([hook, "ci", "start", "begin", "-"], ours),
        "started": ([hook, "ci", "started", "begin", "-"], ours),
        "stopped": ([hook, "ci", "stopped", "end", "-"], ours),
        "release, three volumes commit": ([hook, "ci", "release", "end", "shutdown"], ours),
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for run in range(RUNS):
        for name, (words, given) in calls.items():
            if name.startswith("release"):
                for volume in volumes:
                    Path(volume.path).write_bytes(b"%d" % run)
            before = time.perf_counter()
            subprocess.run(words, input=given, text=True, check=True, capture_output=True)
            times[name].append(time.perf_counter() - before)
    for name, found in times.items():
        sys.stdout.write(
            f"{name:36}{statistics.median(found) * 1000:7.1f} ms"
            f"   (fastest {min(found) * 1000:.1f}, slowest {max(found) * 1000:.1f})\n"
        )


def xml(disks: list[str]) -> str:
    """Return a VM's XML, as much of it as counts."""
    found = "".join(f"<disk type='file'><source file='{one}'/></disk>" for one in disks)
    return (
        f"<domain><name>ci</name><uuid>{UUID}</uuid><devices>{found}</devices>"
        "<seclabel model='dac'><label>+0:+0</label></seclabel></domain>"
    )


if __name__ == "__main__":
    main()
