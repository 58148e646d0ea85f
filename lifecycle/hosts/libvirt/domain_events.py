"""What each step in a libvirt domain's life does to the domain's volumes.

How this works. A hook is a process that knows nothing of the one before, so what has to be known later is noted on the
working images, as tags: who started it (batch.STARTED_BY), that it is being restored (RESTORING), how its VM ended
(endings.ENDING). Only what this VM has started is ended with it: libvirt calls `release` for one that could not start
too, even if that was because another VM has the disk.

| step | what is done |
|---|---|
| restore begin | the images must be those that the saved VM left; they are marked |
| prepare begin | marked images are used as they are; else what an earlier run left meets its end, and all start |
| start begin | QEMU that is not root may pass through the directories |
| started begin | a restored VM goes on: how it ended before is of no more interest |
| stopped end | where libvirt will give no reason, it is read from libvirt's own notes on the VM |
| release end | the volumes end, by the reason |
"""

from __future__ import annotations

import logging
import sys
import syslog
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from lifecycle.engine import batch, endings
from lifecycle.engine.endings import ENDING, Ending
from lifecycle.engine.lookup import volume_at
from lifecycle.engine.volume import Volume
from lifecycle.errors import LifecycleError, Refused, printable, shown
from lifecycle.hosts.libvirt.xml import Domain, Unreadable, elements, spellings
from lifecycle.states import Event

if TYPE_CHECKING:
    from lifecycle.engine.pool import Pool

log = logging.getLogger("lifecycle.hosts.libvirt")

RESTORING = "restoring"
"""The tag on a working image that says which VM is about to be restored on it."""

NOT_GIVEN = "-"
"""The reason that libvirt gives before 10.5."""

REASONS = {
    "shutdown": Ending.STOPPED,
    "destroyed": Ending.STOPPED,
    "saved": Ending.SUSPENDED,
    "migrated": Ending.SUSPENDED,
    # the snapshot's memory wants the images that it was taken with
    "from snapshot": Ending.SUSPENDED,
    "failed": Ending.FAILED,
    "crashed": Ending.CRASHED,
    "daemon": Ending.CRASHED,
    "unknown": Ending.CRASHED,
}
"""What libvirt says at `release`, since 10.5."""

STATUS = "/run/libvirt/qemu/{name}.xml"
"""libvirt's own notes on a running VM; still there at `stopped`, but no more at `release`."""
_LONGEST_STATUS = 64 << 20

SUSPENDING = {"save", "migration out"}
"""What libvirt was doing with a paused VM that is kept elsewhere."""


def take(domain: Domain, disks: list[str], step: str, reason: str) -> None:
    """Do what the step means for the volumes among these disks.

    Raises:
        LifecycleError, OSError: it could not be done; at a gate the VM must not start.
    """
    _log_to_syslog()
    volumes = volumes_of(disks)
    if volumes:
        _STEPS[step](domain, volumes, reason)
    elif step == "prepare":
        log.warning(
            "%s: %s lies in a pool, but is the working image of no volume of a known one",
            domain,
            shown(disks[0]),
        )


def volumes_of(disks: Iterable[str]) -> list[Volume]:
    """Return the volumes of known pools whose working images these paths are; those of one pool share it."""
    pools: dict[str, Pool] = {}
    found = []
    for disk in disks:
        for path in spellings(disk):
            volume = volume_at(path)
            if volume is not None:
                pool = pools.setdefault(volume.pool.identity, volume.pool)
                found.append(Volume(pool, volume.id))
                break
    return list(dict.fromkeys(found))


# ---------------------------------------------------------------- the steps


def _restore(domain: Domain, volumes: list[Volume], _reason: str) -> None:
    """Mark the images that a saved VM comes back to."""
    for volume in volumes:
        view = volume.settle()
        was_suspended = endings.unfinished(volume) is Ending.SUSPENDED
        # an image that no VM has had since someone started it by hand is that person's choice
        if not view.running or (volume.tagged(batch.STARTED_BY) and not was_suspended):
            raise Refused(
                volume.id,
                view.state,
                "restore",
                f"{domain} expects the image it was saved with, and that is no more;"
                " boot it afresh, or `lifecycle start` what is to stand for it",
            )
    for volume in volumes:
        volume.tag(RESTORING, str(domain))


def _prepare(domain: Domain, volumes: list[Volume], _reason: str) -> None:
    """Start all volumes, or none; those of a VM that is being restored run already."""
    by = str(domain)
    if all(volume.tagged(RESTORING) == by for volume in volumes):
        for volume in volumes:
            volume.tag(RESTORING, None)
            batch.claim(volume, by)
        return
    for volume in volumes:
        batch.require_not_started_by_another(volume, by)
        _require_not_awaited_by_another(volume, by)
    _end_what_is_left(volumes)
    try:
        batch.start(volumes, by=by)
    except BaseException:
        for volume in volumes:
            with volume.pool.locked(volume.vm):
                # left over before, and again; not for `release` to end
                if _mine(domain, [volume]) and not volume.in_use_by:
                    volume.tag(batch.STARTED_BY, None)
        raise
    log.info("%s: started %s", domain, ", ".join(volume.id for volume in volumes))


def _require_not_awaited_by_another(volume: Volume, by: str) -> None:
    """Check that no other VM is saved, and wants the volume as it is; that lasts over reboots of the host."""
    _boot, _, who = (volume.tagged(batch.STARTED_BY) or "").partition(" ")
    if who not in {"", by} and endings.unfinished(volume) is Ending.SUSPENDED:
        reason = (
            f"{who} is saved, and waits for it; if that is gone, `lifecycle stop {volume.id}` keeps what it wrote,"
            " with --discard it does not"
        )
        raise Refused(volume.id, volume.state, Event.START, reason)


def _end_what_is_left(volumes: list[Volume]) -> None:
    """Let what an earlier run of a VM left meet its end; what someone has started by hand stays as it is."""
    for volume in volumes:
        told = endings.unfinished(volume)
        if told is None and volume.tagged(batch.STARTED_BY) is None:
            continue
        # a saved VM that boots afresh was as good as cut off
        how = Ending.CRASHED if told in {None, Ending.SUSPENDED} else told
        for ended in endings.end([volume], how):
            if ended.error is not None:
                raise ended.error
            if ended.change is not None:
                _tell(ended)


def _start(_domain: Domain, volumes: list[Volume], _reason: str) -> None:
    """Let QEMU pass through the directories to the images, which libvirt itself gives to it."""
    from lifecycle.linux import ownership  # noqa: PLC0415 - only where QEMU is not root

    for volume in volumes:
        ownership.let_through(volume.pool.path, volume.vm)


def _started(domain: Domain, volumes: list[Volume], _reason: str) -> None:
    for volume in _mine(domain, volumes):
        volume.tag(ENDING, None)


def _stopped(domain: Domain, volumes: list[Volume], reason: str) -> None:
    """Note how the VM ended, if `release` will not be told."""
    told = ending_by_status(domain.name) if reason == NOT_GIVEN else None
    if told is not None:
        for volume in _mine(domain, volumes):
            volume.tag(ENDING, _unless_it_waits(volume, told))


def _release(domain: Domain, volumes: list[Volume], reason: str) -> None:
    """End the volumes; nothing can object, and what fails is noted and done later."""
    for volume in _mine(domain, volumes):
        told = REASONS.get(reason) or endings.unfinished(volume) or _ending_without_reason()
        for ended in endings.end([volume], _unless_it_waits(volume, told)):
            _tell(ended)
            if (ended.change or ended.error or endings.unfinished(volume)) is None:
                batch.let_go(volume)


_STEPS: dict[str, Callable[[Domain, list[Volume], str], None]] = {
    "restore": _restore,
    "prepare": _prepare,
    "start": _start,
    "started": _started,
    "stopped": _stopped,
    "release": _release,
}


# ---------------------------------------------------------------- what they ask


def _mine(domain: Domain, volumes: list[Volume]) -> list[Volume]:
    return [volume for volume in volumes if batch.started_by(volume) == str(domain)]


def _unless_it_waits(volume: Volume, told: Ending) -> Ending:
    """Return the ending; but a saved VM whose restore failed is saved still."""
    waits = endings.unfinished(volume) is Ending.SUSPENDED
    return Ending.SUSPENDED if waits and told is Ending.FAILED else told


def ending_by_status(name: str) -> Ending | None:
    """Return how a VM ended by what libvirt has noted of it; None if that does not say."""
    try:
        with open(STATUS.format(name=name), "rb") as file:
            found = elements(file.read(_LONGEST_STATUS), {"domstatus", "domstatus/job"})
    except (OSError, ValueError, Unreadable):
        return None
    seen = {path: attributes for path, attributes, _text in found}
    state = seen.get("domstatus", {}).get("state")
    doing = seen.get("domstatus/job", {}).get("async")
    if state == "paused" and doing in SUSPENDING:
        return Ending.SUSPENDED
    if state == "paused" and doing in {"start", "migration in"}:
        return Ending.FAILED
    return {
        "shutdown": Ending.STOPPED,
        "running": Ending.CRASHED,
        "paused": Ending.CRASHED,
        "crashed": Ending.CRASHED,
    }.get(state or "")


def _ending_without_reason() -> Ending:
    from lifecycle.hosts.libvirt import settings  # noqa: PLC0415 - seldom needed

    try:
        return settings.read().no_reason
    except (LifecycleError, OSError) as error:
        log.warning("%s; taken as %s", error, settings.DEFAULTS.no_reason)
        return settings.DEFAULTS.no_reason


# ---------------------------------------------------------------- telling


def _tell(ended: endings.Ended) -> None:
    if ended.error is None:  # else it has been told
        log.info("%s: %s", ended.volume.id, ended.text)


class _Syslog(logging.Handler):
    """The system's log, since libvirtd drops what a hook says that did not fail; and standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write the line."""
        text = printable(" ".join(record.getMessage().split()))
        priority = syslog.LOG_WARNING if record.levelno >= logging.WARNING else syslog.LOG_INFO
        syslog.syslog(priority, text.encode(errors="backslashreplace").decode())
        if sys.stderr is not None:
            sys.stderr.buffer.write(f"lifecycle: {text}\n".encode(errors="backslashreplace"))


def _log_to_syslog() -> None:
    syslog.openlog("lifecycle", syslog.LOG_PID, syslog.LOG_DAEMON)
    logging.basicConfig(level=logging.WARNING, handlers=[_Syslog()])
    log.setLevel(logging.INFO)
