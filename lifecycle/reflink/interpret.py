"""From the files that were found to the state of the volume, and to what a crash left half done. Pure.

How this works. `judge` is a pure function from what was found of a volume (reflink/scan.py) to its `View` and to the
record as it should be. The images decide, the record explains. A crash can fall between the one rename that makes an
image current and the writing of the record, so:

- the current image is the same file as revision N: current is N (a revert happened, if the record says otherwise);
- the current image is no revision, but the number that the record calls current is on file as one: the image is
  new, a commit happened, and its number is the one the record gives next;
- else the record is right.

In a copy without hard links the current image and revision N can be two files of one number, and no one can tell
cheaply whether they hold the same. So both are kept: at rest the current image gets the next number.

Modification times speak too, since the kernel sets a real one at any write (reflink/seals.py). So whether the working
image was written to is one comparison, an image that was changed in place can be told, and one whose record is lost
still knows its number. In doubt an image was written to.

And a working image says what it was made from. If that is not what is current, a copy or a restore brought the two
together, and whichever is wrong must not be taken for right: the volume is damaged, and the way back keeps both.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from lifecycle import times
from lifecycle.config import CrashPolicy
from lifecycle.linux.failed_flush import is_marked
from lifecycle.model import CRASH, View
from lifecycle.reflink import seals
from lifecycle.reflink.names import Kind
from lifecycle.reflink.record import Record
from lifecycle.reflink.scan import Evidence, bears_seal
from lifecycle.reflink.seals import Origin
from lifecycle.states import State

_PLAUSIBLE = 100_000
"""Without a record, a number up to so many above the highest on file is taken for a seal. A real time is one so rarely,
and then numbers are skipped."""

_CHANGED_BESIDE = (
    "its -cow.img, of the older `file` driver, holds data that its image lacks; start and stop the"
    " VM once with that driver"
)

_NAME_AWAY = (
    "an event was cut off before it happened, and its image still bears the name it had meanwhile"
)

_IN_DOUBT = (
    "a flush of its working image failed, so the disk may hold less than its VM wrote: `revert` keeps what the disk"
    " holds as a revision with the cause `crash` and leads back to what was current, `stop --discard` throws it away"
)
_IN_DOUBT_ALONE = (
    "a flush of its image failed, so the disk may hold less than its VM wrote: `revert` makes what the disk holds"
    " current"
)
_CURRENT_IN_DOUBT = (
    "a flush of its current image failed, so the disk may hold less than was written to it: `revert` accepts what the"
    " disk holds, `import` replaces it"
)


class Judgement(NamedTuple):
    """What to make of the evidence.

    Attributes:
        view: the volume.
        record: the record as it should be.
        findings: what the record does not say, as a crash or a copy left it, in words; empty if it is right.
    """

    view: View
    record: Record
    findings: tuple[str, ...] = ()


class Numbers(Sequence[int]):
    """Numbers that are worked out when they are first asked for."""

    def __init__(self, work_out: Callable[[], tuple[int, ...]]) -> None:
        self._work_out = work_out

    def __reduce__(self) -> tuple[Any, ...]:
        return tuple, (self._all,)  # how they are worked out cannot be sent to another process

    @functools.cached_property
    def _all(self) -> tuple[int, ...]:
        return self._work_out()

    @functools.cached_property
    def _known(self) -> frozenset[int]:
        return frozenset(self._all)

    def __contains__(self, number: object) -> bool:
        return number in self._known

    def __iter__(self) -> Iterator[int]:
        return iter(self._all)

    def __getitem__(self, place: Any) -> Any:
        return self._all[place]

    def __len__(self) -> int:
        return len(self._all)

    def __eq__(self, other: object) -> bool:
        return self._all == (other._all if isinstance(other, Numbers) else other)

    def __hash__(self) -> int:
        return hash(self._all)

    def __repr__(self) -> str:
        return repr(self._all)


def judge(evidence: Evidence, on_crash: CrashPolicy) -> Judgement:
    """Return what the evidence means; `on_crash` is the pool's crash policy."""
    if _is_absent(evidence):
        return Judgement(View(), evidence.record or Record())
    record = evidence.record or _found_without_record(evidence)
    findings: tuple[str, ...] = ()
    if record.config.source is None and evidence.current_size:
        # whatever else is wrong, what is current has its own number, and no other image may get that
        record, findings = _settled(evidence, record)
    damage = evidence.damage or _damage_of_images(evidence)
    if damage is not None:
        return _damaged(evidence, on_crash, record, damage)
    if is_marked(evidence.current):
        return _damaged(evidence, on_crash, record, _CURRENT_IN_DOUBT)
    if _is_kept(evidence) and is_marked(evidence.working):
        text = _IN_DOUBT_ALONE if evidence.moved else _IN_DOUBT
        return _damaged(evidence, on_crash, record, text, in_doubt=True)
    damage = None if evidence.moved else _of_another_image(evidence, record)
    if damage is not None:
        return _damaged(evidence, on_crash, record, damage)
    if evidence.withdrawn:
        findings = (*findings, _NAME_AWAY)
    return Judgement(view_of(evidence, record, on_crash), record, findings)


def _is_disposable(evidence: Evidence) -> bool:
    return evidence.record is not None and evidence.record.config.source is not None


def _is_absent(evidence: Evidence) -> bool:
    """Tell whether there is no such volume; a record without images is what a crash left of making or removing one."""
    return evidence.damage is None and not _is_disposable(evidence) and not evidence.has_images


def _damage_of_images(evidence: Evidence) -> str | None:
    if _is_disposable(evidence) or evidence.moved:
        return None
    if evidence.current is None:
        return f"its current image {evidence.name}.img is missing"
    if evidence.current.st_size == 0:
        return f"its current image {evidence.name}.img was cut short"
    keeps = evidence.record is None or evidence.record.config.save_on_stop
    return _CHANGED_BESIDE if evidence.changed_beside and keeps else None


def _of_another_image(evidence: Evidence, record: Record) -> str | None:
    """Say what is wrong if the working image says that it was made from another image than the current one."""
    origin = evidence.made_from
    if origin is None or record.current is None:
        return None
    if origin.number == record.current and origin.second in {0, record.second}:
        return None
    made_from = f"from {origin.number}, and {record.current} is current now"
    if origin.number == record.current:
        made_from = f"from another image {origin.number} than the one that is current now"
    return (
        f"its working image was made {made_from}, as when a copy or a restore brings together what does not belong"
        " together; `lifecycle revert` keeps both"
    )


def _is_kept(evidence: Evidence) -> bool:
    """Tell whether a stop keeps what was written."""
    if evidence.record is None:
        return True
    config = evidence.record.config
    return config.save_on_stop and config.rw


def _found_without_record(evidence: Evidence) -> Record:
    """Return the record that an image without one gets: a persistent volume with default configuration."""
    known = evidence.current_on_file()
    highest = max(evidence.revisions, default=0)
    current = known.number if known else max(highest + 1, _told_number(evidence, highest))
    return Record(
        current=current,
        at=known.at if known else _made_at(evidence),
        next=max(current, highest) + 1,
        rest=State.REVERTED if known else State.COMMITTED,
        sealed=max(current, highest) + 1,
        stamp=_stamp(evidence.current, current),
    )


def _told_number(evidence: Evidence, highest: int) -> int:
    """Return the number that the current image itself tells, by its seal or its tag; 0 if it seems to bear none."""
    if evidence.current is None:
        return 0
    sealed = seals.number_in(evidence.current)
    if sealed <= highest + _PLAUSIBLE:
        return sealed
    return evidence.told_number.number if evidence.told_number else 0


def _stamp(status: os.stat_result | None, number: int) -> int | None:
    """Return the second of the seal, if the image bears this number's."""
    if status is None or seals.number_in(status) != number:
        return None
    return seals.bearable(seals.second_in(status))


def _made_at(evidence: Evidence) -> datetime | None:
    """Return when a current image that no record speaks of was made.

    As its tag says, if that is of its seal; as its seal says, or when it was last written.
    """
    if evidence.current is None:
        return None
    second, told = seals.second_in(evidence.current), evidence.told_number
    if told is not None and told.made is not None and told.second == second:
        second = told.made
    return times.bearable(second)


def _settled(evidence: Evidence, record: Record) -> tuple[Record, tuple[str, ...]]:
    """Return the record as the images say it should be, and what was found."""
    findings = []
    if _is_as_recorded(evidence, record):
        return record, ()
    known = evidence.current_on_file()
    highest = max(evidence.revisions, default=0)
    if record.next <= highest:
        record = record._replace(next=highest + 1)
        findings.append(f"{_CUT_OFF}revision {highest} is newer than the record")
    if known is not None:
        if known.number != record.current:
            findings.append(f"{_CUT_OFF}a revert to {known.number} had happened")
            record = record._replace(
                current=known.number,
                at=known.at,
                rest=State.REVERTED,
                stamp=_stamp(evidence.current, known.number),
            )
    elif (number := _new_number(evidence, record)) is not None:
        findings.append(_why_new(evidence, record, number))
        record = record._replace(
            current=number,
            at=_made_at(evidence),
            next=max(record.next, number + 1),
            rest=State.COMMITTED,
            stamp=_stamp(evidence.current, number),
        )
    elif _has_grown_empty(evidence, record):
        findings.append(f"{_CUT_OFF}a resize of the empty image had happened")
        config = record.config._replace(size=evidence.current_size)
        record = record._replace(config=config, stamp=_stamp(evidence.current, 0))
    return record, tuple(findings)


def _is_as_recorded(evidence: Evidence, record: Record) -> bool:
    """Tell by its seal alone whether the current image is the one that the record speaks of.

    Then nothing came between the two, and the revisions need not be looked at. Of the empty image that cannot be told
    so: it may have been given another size.
    """
    if not record.current or not bears_seal(evidence.current, record):
        return False
    # while it runs, the working image goes by the number that it was made from
    return evidence.working is not None or not is_copied(evidence)


def is_copied(evidence: Evidence) -> bool:
    """Tell whether there is another file of the current image's number: a copy was made without hard links."""
    current, namesake = evidence.current, evidence.namesake
    return current is not None and namesake is not None and current.st_ino != namesake.st_ino


def _why_new(evidence: Evidence, record: Record, number: int) -> str:
    """Say why the current image has this number, which the record does not know of."""
    if is_copied(evidence) and bears_seal(evidence.current, record):
        return f"{two_files(record)}; the current one counts as {number}"
    return f"{_CUT_OFF}a commit of {number} had happened"


def two_files(record: Record) -> str:
    """Say what a copy without hard links left."""
    return (
        f"the current image and revision {record.current} are two files, as a copy without hard"
        " links leaves them"
    )


_CUT_OFF = "a crash came before the record was written: "


def _has_grown_empty(evidence: Evidence, record: Record) -> bool:
    """Tell whether a resize of what is still empty got as far as the image."""
    born = record.config.size
    is_empty = record.current == 0 and record.rest is State.CREATED
    return is_empty and born is not None and born != evidence.current_size


def _new_number(evidence: Evidence, record: Record) -> int | None:
    """Return the number of a current image that became so after the record was written; None if it did not.

    The image is no revision. Its seal says its number; an image made by others bears none, and gets the next one.
    """
    sealed = seals.number_in(evidence.current) if evidence.current else 0
    if (record.current or 0) < sealed <= record.next:
        return sealed
    return record.next if record.current is None or record.current in evidence.revisions else None


def view_of(evidence: Evidence, record: Record, on_crash: CrashPolicy) -> View:
    """Return what a whole volume is like; a disposable has a working image at most, begun from its source's."""
    owns = record.config.source is None
    image = evidence.working or (evidence.current if owns else None)
    differs = evidence.working is not None and not _is_unwritten(evidence.working, evidence, record)
    return View(
        state=_state(evidence, record, differs=differs),
        config=record.config,
        on_crash=record.config.crash_policy(on_crash),
        rest=record.rest,
        current=record.current if owns else None,
        next=record.next,
        numbers=Numbers(lambda: _listed(evidence, record)) if owns else (),
        size=image.st_size if image else None,
        begun=record.begun if evidence.working and not owns else None,
        run=_run(evidence, record),
        moved=evidence.moved,
        differs=differs,
    )


def _is_unwritten(working: os.stat_result, evidence: Evidence, record: Record) -> bool:
    """Tell whether the working image is proven to be what it was made as."""
    if evidence.moved:  # it is the current image itself
        if record.current is None or record.at is None:
            return False
        return working.st_mtime_ns == seals.seal(record.current, record.second)
    origin = origin_of(evidence, record)
    return origin is not None and seals.is_unwritten(working, origin)


def origin_of(evidence: Evidence, record: Record) -> Origin | None:
    """Return what a working image of this volume is made from, or was, if it runs; None if that is not known."""
    if record.config.source is not None:
        return None if record.begun is None else Origin(record.begun)
    if record.current is None or evidence.current is None:
        return None
    current = evidence.current
    return Origin(record.current, record.second, current.st_ino, current.st_mtime_ns)


def _damaged(
    evidence: Evidence,
    on_crash: CrashPolicy,
    record: Record,
    damage: str,
    *,
    in_doubt: bool = False,
) -> Judgement:
    """Return what can still be said of a volume whose files do not make a whole one, by the record as it should be."""
    highest = max(evidence.revisions, default=0)
    record = record._replace(next=max(record.next, highest + 1))
    current = record.current if evidence.current_size else None
    view = View(
        state=State.DAMAGED,
        config=record.config,
        on_crash=record.config.crash_policy(on_crash),
        rest=record.rest,
        next=record.next,
        current=current,
        numbers=tuple(sorted(set(evidence.revisions) - {0})),
        damage=damage,
        way_back=_way_back(evidence, record, current),
        moved=evidence.moved,
        in_doubt=in_doubt,
        readable=not evidence.newer,
        is_known=evidence.record is not None or evidence.statuses.get(Kind.RECORD) is None,
    )
    return Judgement(view, record)


def _way_back(evidence: Evidence, record: Record, current: int | None) -> int:
    """Return the number to revert to from damage, if none is given."""
    if current is not None:
        return current
    if evidence.moved:
        return record.next  # which what the disk holds of the only image will get
    return _newest_kept(evidence, record)


def _newest_kept(evidence: Evidence, record: Record) -> int:
    """Return the newest revision, or 0; one that a crash left only of what has no snapshots to go back to."""
    kept = (
        number
        for number in evidence.revisions
        if record.note(number).cause != CRASH or not record.config.snapshots
    )
    return max(kept, default=0)


def _state(evidence: Evidence, record: Record, *, differs: bool) -> State:
    if evidence.working is None:
        return record.rest
    return State.DIRTY if differs else State.STARTED


def _run(evidence: Evidence, record: Record) -> tuple[int, int] | None:
    return None if evidence.working is None else (evidence.working.st_ino, record.next)


def _listed(evidence: Evidence, record: Record) -> tuple[int, ...]:
    """Return the revisions' numbers: without 0, and without the current image unless a revert made it current."""
    hidden = {0} if record.rest is State.REVERTED else {0, record.current}
    return tuple(sorted(set(evidence.revisions) - hidden))


def leftover_files(evidence: Evidence) -> Iterable[str]:
    """Return the names of what a crash left and no one needs."""
    yield from evidence.leftovers
    yield from evidence.second_names
    if evidence.importing:
        yield evidence.file(Kind.IMPORT)
    record = evidence.record
    if record is None or record.rest is State.REVERTED:
        return  # after a revert what is current is a revision on purpose
    known = evidence.current_on_file()
    # a commit or resize that went no further than keeping what is current
    if known and known.number == record.current:
        yield known.file
