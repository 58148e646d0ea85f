"""One process of a crowd that works on the same VMs: run as `python crowd_worker.py POOL LOG SEED DIES_AT`.

It writes a dot to standard output before each thing it does, so that it can be killed in the middle. What it was told
by the library it writes to its log, durably, one JSON line each: commits and checkpoints that were acknowledged, and
everything that should not be.

A VM's disk is written to only by who holds the VM's own lock, as one hypervisor does; the stop is held back meanwhile,
as it is while an image is open. Everything else is done by everyone at any time.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from lifecycle import Locked, NoSuchVolume, Pool, Refused, State, Volume
from support.crash_injection import acting_before_each_change
from support.disks import read

VOLUMES = ("one/root", "two/root", "two/data")
SIZE = 8192
ACTIONS = 60
EXPECTED = (Refused, Locked, NoSuchVolume)
"""What may be answered in a crowd."""


class Worker:
    """One process."""

    def __init__(self, path: str, log: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.pool = Pool.open(path)
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self.marks = 0
        self.seed = seed

    def say(self, **what: Any) -> None:
        """Write to the log, durably."""
        os.write(self.log, json.dumps(what).encode() + b"\n")
        os.fdatasync(self.log)

    def work(self) -> None:
        actions: list[tuple[int, Callable[[Volume], None]]] = [
            (4, self.run),
            (3, self.start),
            (3, self.stop),
            (1, self.checkpoint),
            (1, self.revert),
            (1, self.prune),
            (1, self.look_around),
            (3, self.look),
            (1, self.verify),
            (1, self.recover),
        ]
        weights = [weight for weight, _action in actions]
        for _ in range(ACTIONS):
            os.write(sys.stdout.fileno(), b".")
            (_weight, action) = self.random.choices(actions, weights)[0]
            volume = self.pool[self.random.choice(VOLUMES)]
            try:
                action(volume)
            except EXPECTED:
                continue
            except Exception:  # noqa: BLE001 - whatever it is, it should not be
                self.say(wrong=traceback.format_exc(), action=action.__name__)

    # ------------------------------------------------------------ what it does

    def run(self, volume: Volume) -> None:
        """Start, write and stop, as a host does."""
        with suppress(*EXPECTED):
            volume.start()
        with self.guarding(volume, fcntl.LOCK_EX):
            if volume.look().running:
                self.marks += 1
                mark = b"%08d:%07d" % (self.seed, self.marks)
                # whoever was killed in the middle of a stop has left the image without its name; a start gives it back
                with suppress(FileNotFoundError), open(volume.path, "r+b") as image:
                    image.write(mark * (SIZE // len(mark)))
        self.stop(volume)

    def start(self, volume: Volume) -> None:
        volume.start()

    def stop(self, volume: Volume) -> None:
        """Stop it; what is committed is what the working image held."""
        with self.guarding(volume, fcntl.LOCK_SH):
            held = content_of_working_image(volume)
            change = volume.stop()
            if change.event == "commit":
                self.say(volume=volume.id, number=change.revision, content=held)

    def checkpoint(self, volume: Volume) -> None:
        with self.guarding(volume, fcntl.LOCK_SH):
            held = content_of_working_image(volume)
            change = volume.checkpoint()
            if held == content_of_working_image(volume):
                self.say(volume=volume.id, number=change.revision, content=held)

    def revert(self, volume: Volume) -> None:
        with self.guarding(volume, fcntl.LOCK_SH):
            if volume.state not in {State.STARTED, State.DIRTY}:
                volume.revert()

    def prune(self, volume: Volume) -> None:
        volume.prune()

    def look(self, volume: Volume) -> None:
        """Whatever is going on, each answer is one that the rulebook has."""
        view = volume.look()
        if view.state in {State.ABSENT, State.DAMAGED}:
            self.say(wrong=f"{volume.id} is {view.state}: {view.damage}")
        whole(content(volume, None))
        numbers = [one.number for one in volume.revisions]
        if numbers != sorted(set(numbers)):
            self.say(wrong=f"numbers are listed as {numbers}")
        for number in numbers[-3:]:
            whole(content(volume, number))

    def look_around(self, _volume: Volume) -> None:
        found = [volume.id for volume in self.pool.volumes()]
        if sorted(found) != sorted(VOLUMES):
            self.say(wrong=f"the pool lists {found}")

    def verify(self, _volume: Volume) -> None:
        for finding in self.pool.verify():
            if finding.harmful:
                self.say(wrong=f"verify: {finding.path}: {finding.text}")

    def recover(self, volume: Volume) -> None:
        with self.guarding(volume, fcntl.LOCK_SH):
            for one in self.pool.recover(volume.vm):
                if one.error is not None and not isinstance(one.error, EXPECTED):
                    self.say(wrong=f"recover: {one.id}: {one.text}")

    @contextmanager
    def guarding(self, volume: Volume, how: int) -> Iterator[None]:
        """Hold the lock of the VM's hypervisor, which is none of the pool's."""
        guard = os.open(f"{self.pool.path}.{volume.name}", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(guard, how)
            yield
        finally:
            os.close(guard)


def content_of_working_image(volume: Volume) -> str:
    """Return what the working image holds, as far as it tells one content from another.

    It may bear its other name, if whoever was stopping it was killed, and get its own back meanwhile.
    """
    for path in (volume.path, f"{volume.path}@withdrawn", volume.path):
        with suppress(FileNotFoundError), open(path, "rb") as image:
            return whole(image.read())
    return ""


def content(volume: Volume, number: int | None) -> bytes:
    with volume.export(number) as opened:
        return read(opened.fd)


def whole(found: bytes) -> str:
    """Check that a disk holds one mark throughout, and return it."""
    mark = found[:16]
    if found != mark * (SIZE // 16):
        raise AssertionError(f"torn: it begins with {mark!r}")
    return mark.decode()


def die_at(change: int) -> Callable[[], None]:
    """Return what counts changes to files, and kills this process before the one of this number."""
    done = 0

    def count() -> None:
        nonlocal done
        done += 1
        if done == change:
            os.kill(os.getpid(), signal.SIGKILL)

    return count


if __name__ == "__main__":
    _, where, log, seed, dies_at = sys.argv
    with acting_before_each_change(die_at(int(dies_at))):
        Worker(where, log, int(seed)).work()
