"""Long random lives of volumes, lived twice: on real files and in the model.

After each step, all that can be seen of the volume must be what the model says, refusals included; and from time to
time all that can be seen of every volume. A step may be cut off at any change to files (support/crash_injection.py);
then what is found must be one of the states that the model passed through, and the life goes on from there. The clock
jumps forwards and backwards, and the pool is opened anew.

`LIFECYCLE_CRASH=full` lives longer lives, on btrfs too.
"""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from lifecycle import LifecycleError, Pool, Volume
from lifecycle.reflink import names
from support.crash_injection import Stopped, stopping_at
from support.disks import read_all
from support.mounts import FileSystem
from support.reference_model import Disk, Model, Refusal, seen_in

FULL = os.environ.get("LIFECYCLE_CRASH") == "full"
LIVES, STEPS = (200, 50) if FULL else (40, 50)

BEGIN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SIZE = 4096

SOURCE, READ_ONLY, VOLATILE = "templates/debian", "ci-42/config", "ci-42/swap"
DIRECT = "ci-43/data"
FIRST, SECOND = "ci-42/root", "ci-43/root"
KINDS: dict[str, dict[str, object]] = {
    SOURCE: {},
    READ_ONLY: {"rw": False},
    VOLATILE: {"save": False},
    DIRECT: {"snapshots": False},
    FIRST: {"save": False, "source": SOURCE},
    SECOND: {"save": False, "source": SOURCE},
}
COPY = "ci-42/copy"
"""A persistent volume that only a clone makes."""

ids = st.sampled_from([*KINDS, COPY])
saved = st.sampled_from([SOURCE, SOURCE, READ_ONLY, DIRECT, COPY])
"""Those that keep what is written, or what is imported."""
sizes = st.integers(1, 24).map(lambda sectors: 512 * sectors)
contents = st.binary(max_size=40).map(lambda content: content * 60)
cuts = st.booleans()
"""Whether to cut a step off; at which change to files comes by turns, since chance repeats itself too often."""
CHANGES = 16
"""More than most steps take."""
picks = st.integers(0, 12)
"""Which of a volume's numbers is meant (`Lives.number`)."""


class Lives(RuleBasedStateMachine):
    """The same life, on files and in the model."""

    where: FileSystem

    def __init__(self) -> None:
        super().__init__()
        self.clock = freeze_time(BEGIN, ignore=["hypothesis", "_hypothesis"])
        self.frozen = self.clock.start()
        self.model = Model(BEGIN)
        self.path = str(self.where.new_directory())
        Pool.create(self.path, keep="all", setup_check=self.where.has_reflinks)
        self.open()

    def teardown(self) -> None:
        try:
            self.compare()
            assert [one for one in self.pool.verify() if one.harmful] == []
        finally:
            self.clock.stop()

    def open(self) -> None:
        self.pool = Pool.open(self.path)
        self.volumes = {name: Volume(self.pool, name) for name in (*KINDS, COPY)}
        for disk in self.model.disks.values():
            disk.noticed = False

    # ------------------------------------------------------------ one step

    def live(
        self,
        name: str,
        act: Callable[[], object],
        imagine: Callable[[], object],
        cut: bool = False,
    ) -> None:
        """Do it to the volume in both worlds, and compare them."""
        before = copy.deepcopy(self.model.disks)
        self.model.trail = [before]
        expected = ""
        try:
            imagine()
        except Refusal as refusal:
            expected = str(refusal)
        after = copy.deepcopy(self.model.disks)
        self.model.trail.append(after)

        try:
            with stopping_at(next(self.turns) if cut else None):
                act()
        except LifecycleError as error:
            met = type(error).__name__
        except Stopped:
            self.find_one_of(self.model.trail, name)
            return
        else:
            met = ""
        assert met == expected
        self.compare(name)

    def compare(self, *only: str) -> None:
        """Compare what is seen of these volumes, or of all, with the model."""
        assert self.seen(*only) == seen_in(self.model.disks, only)

    def find_one_of(self, trail: list[dict[str, Disk]], name: str) -> None:
        """What a cut-off step left must be what the model passed through; go on from it."""
        if name in trail[0] and name not in trail[-1]:
            trail = [*trail, self.partly_removed(trail[0], name)]
        found = self.seen(name)
        possible = [disks for disks in trail if seen_in(disks, [name]) == found]
        assert possible, (found, [seen_in(disks, [name]) for disks in trail])
        # what cannot be seen yet tells two of them apart: a revision's name that a cut-off step gave to what is current
        kept = self.on_file(name)
        exact = [one for one in possible if name in one and one[name].kept == kept]
        self.model.disks = copy.deepcopy((exact or possible)[-1])
        self.open()

    def partly_removed(self, disks: dict[str, Disk], name: str) -> dict[str, Disk]:
        """A removal takes the revisions in the order of the directory: any of them may be left."""
        left = copy.deepcopy(disks)
        left[name].kept &= self.on_file(name)
        return left

    def on_file(self, name: str) -> set[int]:
        """Return the numbers of a volume's revisions that have a name of their own."""
        vm, _, own = name.rpartition("/")
        directory = f"{self.path}/{vm}"
        found = os.listdir(directory) if os.path.isdir(directory) else []
        return {
            file.number
            for file in map(names.parse_file, found)
            if file is not None and file.number is not None and file.volume == own
        }

    def seen(self, *only: str) -> dict[str, dict[str, object]]:
        volumes = [self.volumes[name] for name in only if name in self.pool] if only else self.pool
        return {volume.id: look_at(volume) for volume in volumes}

    # ------------------------------------------------------------ what happens

    @initialize(turn=st.integers(0, CHANGES - 1))
    def begin(self, turn: int) -> None:
        self.turns = (1 + (turn + 5 * step) % CHANGES for step in itertools.count())
        for name in KINDS:
            self.create(name, SIZE, False)
        for mark in (b"one", b"two"):
            self.cycle(SOURCE, mark, False)
        self.import_from(READ_ONLY, b"config", False)

    @rule(hours=st.integers(-72, 72), reopened=st.booleans())
    def time_passes(self, hours: int, reopened: bool) -> None:
        self.model.now += timedelta(hours=hours, seconds=1)
        self.frozen.move_to(self.model.now)
        if reopened:
            self.open()
        self.compare()

    @rule(name=st.sampled_from(list(KINDS)), size=sizes, cut=cuts)
    def create(self, name: str, size: int, cut: bool) -> None:
        kind = KINDS[name]
        self.live(
            name,
            lambda: self.pool.create_volume(
                name,
                size,
                save_on_stop=kind.get("save", True),  # type: ignore[arg-type]
                rw=bool(kind.get("rw", True)),
                source=kind.get("source"),  # type: ignore[arg-type]
                snapshots=bool(kind.get("snapshots", True)),
                keep="all",
            ),
            lambda: self.model.create(name, size, **kind),  # type: ignore[arg-type]
            cut,
        )

    @rule(origin=st.one_of(st.sampled_from(list(KINDS)), contents), cut=cuts)
    def clone(self, origin: str | bytes, cut: bool) -> None:
        self.live(
            COPY,
            lambda: self.pool.clone(self.content(origin), COPY, keep="all"),
            lambda: self.model.clone(COPY, origin),
            cut,
        )

    @rule(name=ids, cut=cuts)
    def remove(self, name: str, cut: bool) -> None:
        self.live(
            name,
            self.volumes[name].remove,
            lambda: self.model.remove(name),
            cut,
        )

    @rule(name=ids, cut=cuts)
    def start(self, name: str, cut: bool) -> None:
        self.live(name, self.volumes[name].start, lambda: self.model.start(name), cut)

    @rule(name=ids, mark=st.binary(min_size=1, max_size=20), at=st.integers(0, 480))
    def draw(self, name: str, mark: bytes, at: int) -> None:
        """The VM writes, if there is one; started first, so that lives are not spent waiting."""
        disk = self.model.disks.get(name)
        if disk is not None and disk.working is None:
            self.start(name, False)
        if disk is None or disk.working is None:
            return

        def write() -> None:
            with open(path_now(self.volumes[name]), "r+b") as image:
                image.seek(at)
                image.write(mark)

        self.live(name, write, lambda: self.model.draw(name, mark, at))

    def notice(self, name: str) -> None:
        self.live(name, self.volumes[name].write, lambda: self.model.write(name))

    def release(self, name: str, cut: bool) -> None:
        self.live(name, self.volumes[name].release, lambda: self.model.release(name), cut)

    def commit(self, name: str, reason: str | None, cut: bool) -> None:
        self.live(
            name,
            lambda: self.volumes[name].commit(reason=reason),
            lambda: self.model.commit(name, reason),
            cut,
        )

    @rule(name=ids, discard=st.booleans(), cut=cuts)
    def stop(self, name: str, discard: bool, cut: bool) -> None:
        self.live(
            name,
            lambda: self.volumes[name].stop(discard=discard),
            lambda: self.model.stop(name, discard=discard),
            cut,
        )

    @rule(name=ids, mark=st.binary(min_size=1, max_size=20), cut=cuts)
    def cycle(self, name: str, mark: bytes, cut: bool) -> None:
        """A whole run of the VM."""
        self.draw(name, mark, 0)
        self.stop(name, False, cut)

    @rule(name=ids, cut=cuts)
    def checkpoint(self, name: str, cut: bool) -> None:
        self.live(name, self.volumes[name].checkpoint, lambda: self.model.checkpoint(name), cut)

    @rule(name=ids, pick=st.one_of(st.none(), picks), cut=cuts)
    def revert(self, name: str, pick: int | None, cut: bool) -> None:
        to = None if pick is None else self.number(name, pick)
        self.live(
            name, lambda: self.volumes[name].revert(to), lambda: self.model.revert(name, to), cut
        )

    @rule(name=ids, size=sizes, shrink=st.booleans(), cut=cuts)
    def resize(self, name: str, size: int, shrink: bool, cut: bool) -> None:
        self.live(
            name,
            lambda: self.volumes[name].resize(size, shrink=shrink),
            lambda: self.model.resize(name, size, shrink=shrink),
            cut,
        )

    @rule(name=saved, origin=st.one_of(ids, contents), cut=cuts)
    def import_from(self, name: str, origin: str | bytes, cut: bool) -> None:
        self.live(
            name,
            lambda: self.volumes[name].import_from(self.content(origin)),
            lambda: self.model.import_from(name, origin),
            cut,
        )

    @rule(name=saved, pick=st.one_of(st.none(), picks), cut=cuts)
    def go_back(self, name: str, pick: int | None, cut: bool) -> None:
        """A revert of what is at rest."""
        disk = self.model.disks.get(name)
        if disk is not None and disk.working is not None:
            self.stop(name, False, False)
        self.revert(name, pick, cut)

    def forget(self, name: str, pick: int, cut: bool) -> None:
        number = self.number(name, pick)
        self.live(
            name,
            lambda: self.volumes[name].forget(number),
            lambda: self.model.forget(name, number),
            cut,
        )

    def prune(self, name: str, cut: bool) -> None:
        self.live(name, self.volumes[name].prune, lambda: self.model.prune(name), cut)

    def pin(self, name: str, pick: int, pinned: bool, cut: bool) -> None:
        volume, number = self.volumes[name], self.number(name, pick)
        self.live(
            name,
            lambda: volume.pin(number) if pinned else volume.unpin(number),
            lambda: self.model.pin(name, number, pinned=pinned),
            cut,
        )

    def label(self, name: str, pick: int, text: str | None, cut: bool) -> None:
        number = self.number(name, pick)
        self.live(
            name,
            lambda: self.volumes[name].label(number, text),
            lambda: self.model.label(name, number, text),
            cut,
        )

    def keep(self, name: str, last: int | None, cut: bool) -> None:
        self.live(
            name,
            lambda: self.volumes[name].configure(keep="all" if last is None else f"last {last}"),
            lambda: self.model.keep(name, last),
            cut,
        )

    def set_rw(self, name: str, rw: bool, cut: bool) -> None:
        self.live(
            name,
            lambda: self.volumes[name].configure(rw=rw),
            lambda: self.model.set_rw(name, rw),
            cut,
        )

    def set_snapshots(self, name: str, wanted: bool, cut: bool) -> None:
        self.live(
            name,
            lambda: self.volumes[name].configure(snapshots=wanted),
            lambda: self.model.set_snapshots(name, wanted),
            cut,
        )

    @rule(vm=st.sampled_from(["templates", "ci-42", "ci-43"]))
    def recover(self, vm: str) -> None:
        """The crash policy is `resume`: nothing that can be seen changes, except what crashes left."""
        self.pool.recover(vm)
        self.imagine_tidying(vm)
        self.compare()

    def imagine_tidying(self, vm: str) -> None:
        for name, disk in self.model.disks.items():
            if name.startswith(f"{vm}/") and disk.rest != "reverted":
                disk.kept.discard(disk.current if disk.current is not None else -1)

    @rule(
        what=st.sampled_from(
            ["notice", "release", "commit", "forget", "prune", "keep", "rw", "snapshots"]
        ),
        name=ids,
        pick=picks,
        cut=cuts,
    )
    def turn_to(self, what: str, name: str, pick: int, cut: bool) -> None:
        """What costs little; together in one rule, so that lives are not spent on it."""
        {
            "notice": lambda: self.notice(name),
            "release": lambda: self.release(name, cut),
            "commit": lambda: self.commit(name, [None, "crash"][pick % 2], cut),
            "forget": lambda: self.forget(name, pick, cut),
            "prune": lambda: self.prune(name, cut),
            "keep": lambda: self.keep(name, [None, 0, 1, 2, 3][pick % 5], cut),
            "rw": lambda: self.set_rw(name, pick % 2 == 0, cut),
            "snapshots": lambda: self.set_snapshots(name, pick % 2 == 0, cut),
        }[what]()

    @rule(name=saved, pick=picks, pinned=st.booleans(), text=st.sampled_from([None, "ü"]), cut=cuts)
    def annotate(self, name: str, pick: int, pinned: bool, text: str | None, cut: bool) -> None:
        self.pin(name, pick, pinned, False)
        self.label(name, pick, text, cut)

    @rule(name=saved, pick=picks, last=st.integers(0, 2), cut=cuts)
    def keep_few(self, name: str, pick: int, last: int, cut: bool) -> None:
        """Retention prunes after the commit, but not what is pinned."""
        self.pin(name, pick, True, False)
        self.keep(name, last, False)
        self.cycle(name, b"more", cut)

    @rule(name=ids, size=sizes, cut=cuts)
    def cycle_and_resize(self, name: str, size: int, cut: bool) -> None:
        self.cycle(name, b"less", False)
        self.resize(name, size, False, cut)

    @rule(name=saved, pick=st.one_of(st.none(), picks), cut=st.just(value=True))
    def be_cut_off(self, name: str, pick: int | None, cut: bool) -> None:
        """What takes the most steps on files."""
        self.cycle(name, b"cut", cut)
        self.go_back(name, pick, cut)
        self.cycle(name, b"again", cut)
        self.import_from(name, b"content", cut)

    def number(self, name: str, pick: int) -> int:
        """Return a number of the volume's, or one that it has not."""
        disk = self.model.disks.get(name)
        known = [] if disk is None else [*disk.listed, disk.current or 0, 0]
        return known[pick] if pick < len(known) else pick

    def content(self, origin: str | bytes) -> str | Volume:
        """Return what the pool is given: a volume, or a file of these bytes."""
        if isinstance(origin, str):
            return self.volumes[origin]
        path = f"{self.path}.content"
        with open(path, "wb") as file:
            file.write(origin)
        return path


def look_at(volume: Volume) -> dict[str, object]:
    """Return all that can be seen of a volume, as `seen_in` does of the model's."""
    view = volume.look()
    return {
        "state": str(view.state),
        "rest": str(view.rest),
        "current": view.current,
        "next": view.next,
        "holds": None if view.current is None or view.moved else content_of(volume, None),
        "vm sees": working_image(volume) if view.running else None,
        "outdated": volume.outdated,
        "keep": view.config.keep,
        "born": view.config.size,
        "rw": view.config.rw,
        "snapshots": view.config.snapshots,
        "revisions": {
            one.number: (
                content_of(volume, one.number),
                one.at,
                one.cause,
                one.pinned,
                one.label,
                one.current,
            )
            for one in volume.revisions
        },
    }


def content_of(volume: Volume, number: int | None) -> bytes:
    with volume.export(number) as content:
        return read_all(content)


def working_image(volume: Volume) -> bytes:
    with open(path_now(volume), "rb") as image:
        return image.read()


def path_now(volume: Volume) -> str:
    """Return where the working image is: an event that took its name away may have been cut off."""
    return volume.path if os.path.exists(volume.path) else f"{volume.path}@withdrawn"


@pytest.mark.parametrize("kind", ["xfs", "btrfs"] if FULL else ["xfs"])
def test_lives_are_as_the_model_says(mounted: Callable[[str], FileSystem], kind: str) -> None:
    class LivesHere(Lives):
        where = mounted(kind)

    run_state_machine_as_test(
        LivesHere,
        settings=settings(
            max_examples=LIVES,
            stateful_step_count=STEPS,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=False,
            phases=[Phase.generate],
        ),
    )
