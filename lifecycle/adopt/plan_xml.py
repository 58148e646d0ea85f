"""From the flags in a qubes.xml to the kind and settings of each volume. Pure.

How this works. `Said` holds what the file says of the tree's own pool; `Said.of_volume` turns its flags into one of our
kinds, for each of which there is a function here. Where the flags cannot be here, or say too little, it returns None,
and the volume is taken as its images say: whatever is written to it is kept then. `Said.remarks` and `Said.notes` say
what of the file came to nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType

from lifecycle import ids
from lifecycle.adopt.findings import ON_CRASH, FoundVolume, Planned, as_it_is, recorded, volatile
from lifecycle.adopt.qubes_xml import QubesXml, XmlPool, XmlVolume
from lifecycle.config import Kind, VolumeConfig, last_n
from lifecycle.errors import InvalidName, shown
from lifecycle.model import Finding
from lifecycle.reflink.interpret import judge
from lifecycle.reflink.names import Kind as FileKind
from lifecycle.reflink.record import Record
from lifecycle.sizes import round_up

TOLD_BY = "qubes.xml"


@dataclass(frozen=True, slots=True)
class Said:
    """What a qubes.xml says of the tree's pool; without one, nothing.

    Attributes:
        where: the file; None if there is none.
        pool: the pool.
        volumes: its volumes, by id.
        elsewhere: the pools of the other volumes, by vid.
        strange: what was said twice, or cannot be.
    """

    where: str | None = None
    pool: XmlPool = field(default_factory=XmlPool)
    volumes: Mapping[str, XmlVolume] = field(default_factory=lambda: MappingProxyType({}))
    elsewhere: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    strange: tuple[Finding, ...] = ()

    @classmethod
    def by(cls, xml: QubesXml, pool: XmlPool) -> Said:
        """Return what the file says of this pool of it."""
        volumes: dict[str, XmlVolume] = {}
        strange = [
            Finding(shown(pool.name), f"of the pool, {remark}", harmful=False)
            for remark in pool.remarks
        ]
        for one in xml.volumes:
            if one.pool != pool.name:
                continue
            objection = _no_id(one.vid)
            if objection is not None:
                strange.append(Finding(shown(one.vid), f"left out: {objection}", harmful=False))
            elif volumes.setdefault(one.vid, one) is not one:
                text = "is in qubes.xml twice; the first counts"
                strange.append(Finding(one.vid, text, harmful=False))
        elsewhere = {one.vid: one.pool for one in xml.volumes if one.pool != pool.name}
        return cls(xml.where, pool, volumes, elsewhere, tuple(strange))

    @property
    def keep(self) -> str | None:
        """The retention policy's line of the pool; None if nothing is said."""
        return _keep(self.pool.revisions_to_keep)

    def without_keep(self) -> Said:
        """Return what it says but for how many revisions to keep."""
        volumes = {
            one.vid: dataclasses.replace(one, revisions_to_keep=None)
            for one in self.volumes.values()
        }
        pool = dataclasses.replace(self.pool, revisions_to_keep=None)
        return dataclasses.replace(self, pool=pool, volumes=volumes)

    def of_volume(self, found: FoundVolume, now: datetime) -> Planned | None:
        """Return what a volume without a record becomes; None if the file does not say.

        Args:
            found: its files, if any.
            now: the moment that a new record bears.
        """
        one = self.volumes.get(found.id)
        if one is None or _impossible(one) or found.evidence.damage is not None:
            return None
        keep = one.revisions_to_keep
        config = VolumeConfig(
            rw=one.rw,
            save_on_stop=one.save_on_stop,
            keep=None if keep == self.pool.revisions_to_keep else _keep(keep),
        )
        made = _MAKERS[_kind(one)](_Case(found, one, config, self.volumes, now))
        return made and made.remarked(*one.remarks, *_lost(one))

    def remarks(self, volume_id: str) -> tuple[str, ...]:
        """Return why a volume is taken as its images say, although there is a qubes.xml."""
        if self.where is None:
            return ()
        one = self.volumes.get(volume_id)
        if one is None:
            return ("qubes.xml does not speak of it: taken as its images say",)
        reason = _impossible(one) or "it is damaged"
        return (f"qubes.xml is not followed: {reason}: taken as its images say", *one.remarks)

    def source_remarks(self, one: Planned, planned: Mapping[str, Planned]) -> Iterator[str]:
        """Say why a start of a disposable will be refused, if it will."""
        source = one.view.config.source
        if source is None:
            return
        if source not in planned:
            where = (
                f"in the pool {shown(self.elsewhere[source])}"
                if source in self.elsewhere
                else "nowhere"
            )
            yield (
                f"its source {source} is {where}, not here; a start is refused until"
                f" `lifecycle set {one.id} source=VM/NAME` names another"
            )
        elif not planned[source].is_fit:
            yield f"its source {source} is damaged; a start is refused until that is mended"
        elif not planned[source].view.keeps:
            yield f"its source {source} is {planned[source].view.config.kind} and holds nothing of its own"

    def notes(self, planned: Mapping[str, Planned]) -> Iterator[Finding]:
        """Yield what there is to say of no volume that is planned."""
        yield from self.strange
        for volume_id, one in self.volumes.items():
            if volume_id not in planned:
                missing = "it has no image" if one.save_on_stop else "its size is not said"
                text = f"left out: {_impossible(one) or missing}"
                yield Finding(volume_id, text, harmful=False)
        if self.elsewhere:
            pools = ", ".join(sorted({shown(one) for one in self.elsewhere.values()}))
            text = f"its volumes in other pools are passed over: {pools}"
            yield Finding(str(self.where), text, harmful=False)


def _keep(revisions_to_keep: int | None) -> str | None:
    return None if revisions_to_keep is None else last_n(TOLD_BY, revisions_to_keep)


def _no_id(vid: str) -> str | None:
    """Say why a vid cannot be an id here; None if it can."""
    try:
        ids.split_id(vid)
    except InvalidName as error:
        return error.reason
    return None


def _impossible(one: XmlVolume) -> str | None:
    """Say why a volume's flags cannot be here; None if they can."""
    if not one.snap_on_start:
        return None
    if one.save_on_stop:
        return (
            "with save_on_stop and snap_on_start both, what a stop saved would never be seen again"
        )
    if one.source is None:
        return "snap_on_start without a source"
    objection = _no_id(one.source)
    return None if objection is None else f"its source {shown(one.source)} cannot be: {objection}"


def _lost(one: XmlVolume) -> Iterator[str]:
    """Say what has no counterpart here."""
    if one.source is not None and not one.snap_on_start:
        yield f"its source {shown(one.source)} is left out, as snap_on_start is not set"
    if one.ephemeral:
        yield "ephemeral has no counterpart: what it writes lies on the disk unencrypted until it stops"


# ---------------------------------------------------------------- the kinds


@dataclass(frozen=True, slots=True)
class _Case:
    """All that one volume is made from."""

    found: FoundVolume
    said: XmlVolume
    config: VolumeConfig
    volumes: Mapping[str, XmlVolume]
    now: datetime


def _kind(one: XmlVolume) -> Kind:
    if one.snap_on_start:
        return Kind.DISPOSABLE
    return Kind.PERSISTENT if one.save_on_stop else Kind.VOLATILE


def _persistent(case: _Case) -> Planned | None:
    evidence = case.found.evidence
    if not evidence.has_images:
        return None
    made = as_it_is(case.found, TOLD_BY)
    if case.config != VolumeConfig():
        judged = judge(evidence, ON_CRASH)
        if not evidence.current_size or (judged.record.current or 0) > ids.MAX_NUMBER:
            made = made.remarked("what qubes.xml sets for it is not written down: it is damaged")
        else:
            record = judged.record._replace(config=case.config)
            made = recorded(case.found, TOLD_BY, record)
    held = evidence.current_size
    if held and case.said.size not in {None, held}:
        made = made.remarked(
            f"its image holds {held} bytes, though qubes.xml says {case.said.size}"
        )
    return made


def _volatile(case: _Case) -> Planned | None:
    images = (case.found.evidence.current, case.found.evidence.working)
    size = case.said.size or next((one.st_size for one in images if one is not None), 0)
    if not size:
        return None
    config = case.config._replace(size=round_up(size))
    return volatile(case.found, TOLD_BY, config, case.now)


def _disposable(case: _Case) -> Planned | None:
    source, remarks = _origin(case)
    evidence = case.found.evidence
    size = round_up(case.said.size) if case.said.size else None
    config = case.config._replace(source=source, size=size)
    if evidence.current is not None or evidence.revisions:
        file = evidence.file(FileKind.CURRENT)
        remarks.append(f"{file} and its revisions are not used: each start begins from {source}")
    return recorded(case.found, TOLD_BY, Record(config=config, at=case.now), *remarks)


def _origin(case: _Case) -> tuple[str, list[str]]:
    """Return the volume that a start begins from in the end, for a disposable can be no source here."""
    first = source = str(case.said.source)
    seen = {case.found.id}
    while source not in seen:
        seen.add(source)
        one = case.volumes.get(source)
        if one is None or _impossible(one) or not one.snap_on_start:
            break
        source = str(one.source)
    if source == first:
        return source, []
    return source, [f"its source {first} begins from {source} itself, which is taken"]


_MAKERS: dict[Kind, Callable[[_Case], Planned | None]] = {
    Kind.PERSISTENT: _persistent,
    Kind.VOLATILE: _volatile,
    Kind.DISPOSABLE: _disposable,
}
