"""Try a scene: strike at one of its file operations, then examine what is left.

How this works. A `Stage` is a scene prepared once on one file system, and the pictures that a run without a crash
leads through: before, at each signal, after. Each trial works on a copy. What a strike leaves must be one of these
pictures; it is examined by the invariants (findings.RULES), is recovered, and the event is done again to its end. What
leaves the very same files as an earlier strike need not be examined again.
"""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from itertools import combinations
from pathlib import Path

from crash.copies import copy_tree, fingerprint
from crash.examining import FLUSHED, FLUSHED_AT, Examiner, clock, neighbours_in, take
from crash.findings import Tally, Violation
from crash.operations import STOPPED, Operations, fail_with, in_child, stop_before, watch
from crash.pictures import BLOCK, Picture, Unflushed, in_words
from crash.power import Mains
from crash.scene import Scene
from crash.situations import FOREIGN, set_up
from crash.writeback_errors import Refusal, acknowledged, settle_everything
from lifecycle import LifecycleError, Pool, events
from lifecycle.errors import NoSuchRevision, NoSuchVolume, Refused

_UNFLUSHED, _UNFLUSHED_AT = b"unflushed".ljust(2 * BLOCK, b"!"), 8 * BLOCK
"""What a guest writes and does not flush, and where."""

_WORKING = "prepared/pool/**/*-dirty.img"
_KEEPING = ("commit", "checkpoint", "resize")

Bug = Callable[[], AbstractContextManager[object]]


class Stage:
    """A scene, ready to be tried.

    Attributes:
        scene: the scene.
        where: the directory that all of this lies in; remove it when done.
        kind: the file system's kind.
        bug: what is broken on purpose while the event runs and is examined.
        operations: what the event does without a crash.
        examiner: knows what may be left of it.
        tally: what was tried and found so far.
    """

    def __init__(
        self, scene: Scene, where: Path, kind: str, *, reflinks: bool, bug: Bug = nullcontext
    ) -> None:
        self.scene = scene
        self.where = where
        self.kind = kind
        self.bug = bug
        self.tally = Tally()
        self._seen: set[str] = set()
        prepared = where / "prepared"
        prepared.mkdir()
        with clock(0), watch(Operations()):
            pool = Pool.create(prepared / "pool", setup_check=reflinks, **dict(scene.pool))
            set_up(pool)
            scene.prepare(pool)
        run = self.copy("reference")
        unflushed = self.let_guest_write(run)
        with clock(1), watch(Operations()) as done:
            path = _side_by_side(_walk(run, scene.act))
        self.operations = tuple(done.done)
        with clock(3), watch(Operations()):
            twice = _walk(run, scene.act)
        shutil.rmtree(run)
        found = {one.path for one in Pool.open(prepared / "pool").verify()}
        self.examiner = Examiner(
            scene=scene,
            path=path,
            twice=twice,
            neighbours=neighbours_in(prepared / "pool"),
            known={one for one in found if FOREIGN in one},
            unflushed=unflushed,
        )

    def words(self) -> tuple[str, str]:
        """Return what there is before and after, as the table says it."""
        volume, path = self.scene.volume, self.examiner.path
        return in_words(path[0].get(volume)), in_words(path[-1].get(volume))

    def copy(self, name: str, of: str = "prepared") -> Path:
        """Return a fresh copy of what was prepared."""
        copy_tree(self.where / of, self.where / name)
        return self.where / name

    def let_guest_write(self, run: Path) -> Unflushed | None:
        """Write to the working image as a guest does: some of it flushed, as QEMU flushes, and some not."""
        if not self.scene.guest:
            return None
        fd = os.open(f"{run}/pool/{self.scene.volume}-dirty.img", os.O_RDWR)
        try:
            os.pwrite(fd, FLUSHED, FLUSHED_AT)
            os.fdatasync(fd)
            os.pwrite(fd, _UNFLUSHED, _UNFLUSHED_AT)
        finally:
            os.close(fd)
        return Unflushed(self.scene.volume, _UNFLUSHED_AT, _UNFLUSHED)

    # ------------------------------------------------------------ strikes

    def act(self, run: Path, operations: Operations) -> tuple[int, str]:
        """Do the event in a child process; return its exit status and its error."""

        def do() -> None:
            with clock(1), watch(operations), self.bug():
                self.scene.act(Pool.open(run / "pool"))

        return in_child(do)

    def stop_everywhere(self, strike: Callable[..., object] = stop_before) -> None:
        """Stop the event dead at its first operation, its second, and so on until it comes to its end."""
        for number in range(1, 1000):
            run = self.copy("run")
            self.let_guest_write(run)
            status, text = self.act(run, Operations(number, strike))
            how = f"{strike.__name__} {number}"
            if status == STOPPED:
                self.tally.points += 1
                self.examine(run, how, number)
            elif status == 0:
                self.examine(run, "done", None, acknowledged=True)
            else:
                self._found(7, f"the event failed: {text}", how, number)
            shutil.rmtree(run)
            if status != STOPPED:
                return

    def fail_everywhere(self, code: int, *, opens: bool = False) -> None:
        """Let each operation of the event fail, one after the other."""
        for number in range(1, 1000):
            run = self.copy("run")
            self.let_guest_write(run)
            operations = Operations(number, fail_with(code), opens=opens)
            how = f"{os.strerror(code)} at {number}"
            try:
                with clock(1), watch(operations), self.bug():
                    self.scene.act(Pool.open(run / "pool"))
            except LifecycleError:
                pass
            except Exception as error:  # noqa: BLE001 - whatever else it is, it is a violation
                where = traceback.extract_tb(error.__traceback__)
                ours = [
                    f"{Path(f.filename).name}:{f.name}" for f in where if "lifecycle/" in f.filename
                ]
                text = f"{error!r} from {' < '.join(reversed(ours[-6:]))}"
                self._found(12, text, how, number, operations.done)
            if len(operations.done) < number:
                shutil.rmtree(run)
                return
            self.tally.faults += 1
            if operations.refused is not None and self._is_in_doubt(operations.refused, run):
                refusal = Refusal(operations.refused, told=True)
                self._settle(run, refusal, how, operations.done)
            else:
                self.examine(run, how, number, operations.done)
            shutil.rmtree(run)

    def refuse_everywhere(self) -> None:
        """Let the disk refuse what was written to each working image, one after the other, and take it again."""
        images = sorted(
            one.relative_to(self.where / "prepared") for one in self.where.glob(_WORKING)
        )
        for image in images:
            run = self.copy("run")
            self.let_guest_write(run)
            if not self._is_written(run / image, run):
                shutil.rmtree(run)
                continue
            refusal = Refusal(run / image)
            operations = Operations(refusal=refusal)
            how = f"{image.name} refused"
            try:
                with clock(1), watch(operations), refusal.in_force(), self.bug():
                    self.scene.act(Pool.open(run / "pool"))
            except LifecycleError:
                pass
            except Exception as error:  # noqa: BLE001 - whatever else it is, it is a violation
                self._found(12, repr(error), how, None, operations.done)
            self.tally.faults += 1
            self._settle(run, refusal, how, operations.done)
            shutil.rmtree(run)

    def _is_written(self, image: Path, run: Path) -> bool:
        """Tell whether there is something in the image that the disk can refuse."""
        return Pool.open(run / "pool")[_volume_of(image, run)].state != "started"

    def _is_in_doubt(self, image: Path, run: Path) -> bool:
        """Tell whether the image's volume is damaged now, and was not before."""
        pool, volume_id = Pool.open(run / "pool"), _volume_of(image, run)
        before = self.examiner.before.get(volume_id)
        was = before is not None and before.state == "damaged"
        return volume_id in pool and pool[volume_id].state == "damaged" and not was

    def _settle(self, run: Path, refusal: Refusal, how: str, operations: list[str]) -> None:
        """Do all that is done after an image was refused, and see that nothing acknowledged is other on the disk."""
        pool = Pool.open(run / "pool")
        keeps = self.scene.event in _KEEPING and pool[self.scene.volume].look().saves
        try:
            with clock(2), watch(Operations(refusal=refusal)), refusal.in_force(), self.bug():
                settle_everything(pool, self.scene.again or self.scene.act, LifecycleError)
            before = acknowledged(pool)
            refusal.reclaim()
            after = acknowledged(pool)
            for one in before:
                if after.get(one) != before[one]:
                    text = f"{one} was acknowledged, and is other on the disk"
                    self._found(13, text, how, None, operations)
            if keeps and not os.fstat(refusal.fd).st_nlink:
                self._found(6, "what the disk held was thrown away", how, None, operations)
            for volume in pool:
                if volume.state == "damaged":
                    self._found(7, f"{volume.id} stays damaged", how, None, operations)
        except (LifecycleError, OSError) as error:
            self._found(7, f"no way back: {error!r}", how, None, operations)
        finally:
            refusal.close()

    def stop_twice_everywhere(self) -> None:
        """Stop the event everywhere, and then the recovery, or the event done again, everywhere."""
        first_seen: set[str] = set()
        for number in range(1, len(self.operations) + 1):
            run = self.copy("half")
            self.let_guest_write(run)
            status, _text = self.act(run, Operations(number, stop_before))
            files = fingerprint(run / "pool")
            if status == STOPPED and files not in first_seen:
                first_seen.add(files)
                for name, again in (
                    ("recovery", _recover),
                    ("again", self.scene.again or self.scene.act),
                ):
                    self._stop_again(number, name, again)
            shutil.rmtree(run)

    def _stop_again(self, first: int, name: str, again: Callable[[Pool], object]) -> None:
        for number in range(1, 1000):
            run = self.copy("run", of="half")
            operations = Operations(number, stop_before)

            def do(run: Path = run, operations: Operations = operations) -> None:
                with clock(2), watch(operations):
                    again(Pool.open(run / "pool"))

            status, _text = in_child(do)
            if status == STOPPED:
                self.tally.points += 1
                self.examine(run, f"stop at {first}, then in {name} at {number}", None, twice=True)
            shutil.rmtree(run)
            if status != STOPPED:
                return

    def cut_power(self, mains: Mains, numbers: Iterable[int | None]) -> None:
        """Stop the event dead at each of these operations (None: when it has come to its end), and cut the power."""
        for number in numbers:
            run = self.copy("run")
            mains.sync()
            self.let_guest_write(run)
            status, text = self.act(run, Operations(number, stop_before, sync=True))
            how = f"power cut at {number}" if number else "power cut when it was done"
            if status == STOPPED or (status == 0 and number is None):
                mains.cut()
                self.tally.cuts += 1
                self.examine(run, how, number, acknowledged=number is None, power=True)
            else:
                self._found(7, f"exit status {status}: {text}", how, number)
            shutil.rmtree(run)

    # ------------------------------------------------------------ examining

    def examine(
        self,
        run: Path,
        how: str,
        number: int | None,
        operations: list[str] | None = None,
        *,
        acknowledged: bool = False,
        power: bool = False,
        twice: bool = False,
    ) -> None:
        """Check all invariants on what is left.

        Args:
            run: the directory it is in.
            how: what struck, in words.
            number: the operation that was struck at.
            operations: those that were done, if other than without a crash.
            acknowledged: whether the event came to its end.
            power: whether the power was cut, so that what was not flushed may be lost.
            twice: whether the event was done again already, perhaps to its end.
        """
        files = fingerprint(run / "pool") + str((acknowledged, power, twice))
        if files in self._seen:
            return
        self._seen.add(files)
        try:
            with self.bug(), watch(Operations()):
                problems = self.examiner.problems(
                    run, acknowledged=acknowledged, power=power, twice=twice
                )
        except (LifecycleError, OSError) as error:
            problems = [(1, "".join(traceback.format_exception(error)[-4:]))]
        self.tally.slowest = max(self.tally.slowest, self.examiner.slowest)
        for rule, text in problems:
            self._found(rule, text, how, number, operations)

    def _found(
        self,
        rule: int,
        text: str,
        how: str,
        number: int | None,
        operations: list[str] | None = None,
    ) -> None:
        done = tuple(operations or self.operations[:number])
        found = Violation(self.scene.name, self.kind, how, rule, text, done)
        self.tally.violations += (found,)


def _volume_of(image: Path, run: Path) -> str:
    """Return the id of the volume whose working or current image this is."""
    name = image.name.removesuffix(".img").removesuffix("-dirty")
    return f"{image.parent.relative_to(run / 'pool')}/{name}"


def _side_by_side(path: list[Picture]) -> list[Picture]:
    """Return the path with all ways in which volumes that go through it together can be on it: each by itself."""
    before, after = path[0], path[-1]
    changed = [name for name in after if name in before and before[name] != after[name]]
    if len(changed) <= 1:
        return path
    mixed = [
        {**after, **{name: before[name] for name in waiting}}
        for count in range(1, len(changed))
        for waiting in combinations(changed, count)
    ]
    return [*path[:-1], *mixed, after]


def _walk(run: Path, act: Callable[[Pool], object]) -> list[Picture]:
    """Do the event and return the pictures before it, at each of its signals, and after it."""
    pool = Pool.open(run / "pool")
    path = [take(pool)]

    def look(sender: Pool, **_: object) -> None:
        path.append(take(Pool.open(sender.path)))

    tenses = events.EVENTS.values()
    signals = [signal for one in tenses for signal in (one.announced, one.reported)]
    for signal in signals:
        signal.connect(look, sender=pool)
    try:
        act(pool)
    except (Refused, NoSuchVolume, NoSuchRevision):
        pass  # only the second time
    finally:
        for signal in signals:
            signal.disconnect(look, sender=pool)
    return [*path, take(Pool.open(pool.path))]


def _recover(pool: Pool) -> None:
    pool.recover()
