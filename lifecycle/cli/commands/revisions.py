"""Commands about revisions: list, pin, label, forget and prune them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import click

from lifecycle.cli.app import all_pools_option, command, targets_argument, volume_argument
from lifecycle.cli.invocation import FAILED
from lifecycle.cli.session import Session, every_pool, fitted
from lifecycle.engine.pool import Pool
from lifecycle.engine.volume import Volume
from lifecycle.errors import LifecycleError
from lifecycle.policies import Plan
from lifecycle.report import documents

log = logging.getLogger("lifecycle.prune")

_NUMBER = click.argument("number", metavar="N", type=click.IntRange(min=0))


@command("log", short_help="Show a volume's revisions as a timeline.")
@volume_argument()
def log_command(session: Session, volume_id: str) -> None:
    """Show the volume's revisions, oldest first, with the current one marked."""
    volume = session.volume(volume_id)
    document = documents.of_volume(volume)
    if session.as_json:
        session.say(document)
        return
    from lifecycle.cli import terminal  # noqa: PLC0415 - slow to load, and not needed for JSON

    terminal.print_timeline(document, volume.history)


@command("forget", short_help="Delete revisions.")
@volume_argument()
@click.argument("numbers", metavar="N…", nargs=-1, required=True, type=click.IntRange(min=0))
def forget_command(session: Session, volume_id: str, numbers: tuple[int, ...]) -> None:
    """Delete the revisions N…; all or, if one may not be, none."""
    volume = session.volume(volume_id)
    volume.forget(*numbers)
    shown = ", ".join(str(number) for number in sorted(set(numbers)))
    session.say(documents.of_volume(volume), f"{volume.id}: forgot {shown}")


@command("pin", short_help="Keep a revision from being removed.")
@volume_argument()
@_NUMBER
def pin_command(session: Session, volume_id: str, number: int) -> None:
    """Keep revision N whatever retention says."""
    volume = session.volume(volume_id)
    volume.pin(number)
    session.say(documents.of_volume(volume), f"{volume.id}: {number} is pinned")


@command("unpin", short_help="Let retention decide on a revision again.")
@volume_argument()
@_NUMBER
def unpin_command(session: Session, volume_id: str, number: int) -> None:
    """Let retention decide on revision N again."""
    volume = session.volume(volume_id)
    volume.unpin(number)
    session.say(documents.of_volume(volume), f"{volume.id}: {number} is not pinned")


@command("label", short_help="Put words to a revision.")
@volume_argument()
@_NUMBER
@click.argument("text", metavar="[TEXT]", default="")
def label_command(session: Session, volume_id: str, number: int, text: str) -> None:
    """Label revision N with TEXT; without one, take its label away."""
    volume = session.volume(volume_id)
    volume.label(number, text)
    done = f"{number} is labelled {text!r}" if text else f"{number} has no label"
    session.say(documents.of_volume(volume), f"{volume.id}: {done}")


@command("accept", short_help="Declare images right that verify doubts.")
@volume_argument()
def accept_command(session: Session, volume_id: str) -> None:
    """Declare the images of VM/NAME to be right although their seals are lost, as after a copy that did not keep
    the files' times.

    `lifecycle verify` tells which those are. Only the person who made the copy can know whether they are right.
    """
    volume = session.volume(volume_id)
    numbers = volume.accept()
    said = f"accepted {', '.join(map(str, numbers))}" if numbers else "every image bears its seal"
    session.say({**documents.of_volume(volume), "accepted": list(numbers)}, f"{volume.id}: {said}")


@command("prune", short_help="Remove what retention does not keep.")
@targets_argument(required=False)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Remove nothing; show for each revision why it would stay or go.",
)
@all_pools_option()
def prune_command(
    session: Session, targets: tuple[str, ...], dry_run: bool, all_pools: bool
) -> None:
    """Remove the revisions that retention does not keep, of TARGETs or of all volumes.

    What fails (a damaged volume, say) is reported and passed over; exit status 1 then.
    """
    if all_pools:
        if targets:
            raise click.UsageError("--all-pools takes no TARGET.")
        _prune(session, _volumes_everywhere(session), dry_run=dry_run)
        return
    if targets:
        volumes = session.volumes(targets)
        if len(volumes) == 1:
            (volume,) = volumes
            plan = volume.plan() if dry_run else volume.prune()
            lines = _lines(volume.id, plan, dry_run=dry_run)
            session.say([documents.of_plan(volume, plan)], *fitted(lines, indent=_INDENT))
            return
        several: Iterator[_Named] = ((volume.id, volume) for volume in volumes)
    else:
        several = _volumes_of(session.pool)
    _prune(session, several, dry_run=dry_run)


_Named = tuple[str, Volume | Exception]
"""A volume by the name that it is called; or a VM or a pool, and why its volumes cannot be told."""


def _prune(session: Session, several: Iterator[_Named], *, dry_run: bool) -> None:
    """Prune these volumes, and say of each what was removed, or what went wrong."""
    found: list[dict[str, Any]] = []
    lines: list[str] = []
    for name, volume in several:
        try:
            if isinstance(volume, Exception):
                raise volume
            plan = volume.plan() if dry_run else volume.prune()
        except (LifecycleError, OSError) as error:
            session.exit_status = FAILED
            found.append({"id": name, "error": str(error)})
            text = str(error)
            text = text if text.startswith(f"{name}: ") else f"{name}: {text}"
            lines.append(text)
            log.warning("%s", text)  # the daily unit's standard output is no one's
        else:
            found.append({**documents.of_plan(volume, plan), "id": name})
            lines += _lines(name, plan, dry_run=dry_run)
    session.say(found, *fitted(lines, indent=_INDENT))


def _volumes_everywhere(session: Session) -> Iterator[_Named]:
    """Yield every volume by the name of its pool and its own; for a pool that cannot be opened, why."""
    for name, pool in every_pool(session):
        if isinstance(pool, Exception):
            yield name, pool
        else:
            yield from _volumes_of(pool, f"{name}:")


def _volumes_of(pool: Pool, before: str = "") -> Iterator[_Named]:
    """Yield a pool's volumes by name, with something before it; for a VM that cannot be listed, why."""
    try:
        vms = list(pool.backend.vms())
    except (LifecycleError, OSError) as error:
        yield before.removesuffix(":") or pool.path, error
        return
    for vm in vms:
        try:
            volumes = pool.volumes(vm)
        except (LifecycleError, OSError) as error:
            yield f"{before}{vm}", error
        else:
            yield from ((f"{before}{volume.id}", volume) for volume in volumes)


_INDENT = 17
"""How far the reasons of a verdict are set in."""


def _lines(name: str, plan: Plan, *, dry_run: bool) -> list[str]:
    removed, kept = len(plan.remove), len(plan.keep)
    lines = [f"{name}: {'would remove' if dry_run else 'removed'} {removed}, keeps {kept}"]
    for verdict in plan.verdicts if dry_run else ():
        what = "keep  " if verdict.keep else "remove"
        lines.append(f"  {what} {verdict.number:>6}  {', '.join(verdict.reasons)}")
    return lines
