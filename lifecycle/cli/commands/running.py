"""Commands that follow a VM's life: start, stop, checkpoint, revert, run and recover."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import click

from lifecycle.cli.app import all_pools_option, command, complete, targets_argument, volume_argument
from lifecycle.cli.commands import start_stop
from lifecycle.cli.commands.start_stop import line, tell_line
from lifecycle.cli.invocation import FAILED
from lifecycle.cli.session import Session, every_pool
from lifecycle.engine.batch import Outcome
from lifecycle.engine.endings import Ended, Ending, end
from lifecycle.errors import LifecycleError
from lifecycle.report import documents

_SERVICE_RESULT = "service-result"
_NOTHING_TO_RECOVER = "nothing to recover"


@command("start", short_help="Give volumes a working image.")
@targets_argument()
def start_command(session: Session, targets: tuple[str, ...]) -> None:
    """Start volumes, or all volumes of VMs, and print the paths that the VM opens.

    All of them start, of whatever pools, or none does.
    """
    start_stop.start(session, targets)


@command("stop", short_help="Keep or throw away what the VMs wrote.")
@targets_argument()
@click.option("--discard", is_flag=True, help="Throw away, whatever kind of volume it is.")
@click.option(
    "--ending",
    "how",
    type=click.Choice([*(one.value for one in Ending), _SERVICE_RESULT]),
    help="For a host that tells of an end that has happened: pass over what is at rest, go on past what fails, and"
    " note that for `recover`. service-result: as $SERVICE_RESULT says, in ExecStopPost= of a systemd unit.",
)
def stop_command(
    session: Session, targets: tuple[str, ...], discard: bool, how: str | None
) -> None:
    """Stop volumes, or all running volumes of VMs: commit, or throw away, by what kind they are.

    All of them stop, of whatever pools, or none does. What was not written to is released, and spends no revision.
    """
    if how is not None:
        if discard:
            raise click.UsageError("--discard says how it ended; with --ending, say `discarded`.")
        _end(session, targets, how)
        return
    start_stop.stop(session, targets, discard=discard)


@command("checkpoint", short_help="Keep what running VMs have written by now.")
@targets_argument()
def checkpoint_command(session: Session, targets: tuple[str, ...]) -> None:
    """Keep what running volumes have written by now as a revision each (crash-consistent).

    Of a VM: each volume that runs and is saved on stop. If one of TARGETS cannot be kept, none is.
    """
    start_stop.checkpoint(session, targets)


@command("revert", short_help="Take a volume back.")
@volume_argument()
@click.option("--to", metavar="N|empty", help="The revision; by default one step back.")
def revert_command(session: Session, volume_id: str, to: str | None) -> None:
    """Take the volume back to a revision, or to the empty image; running, throw away what was written.

    Nothing is lost by it at rest: what it held becomes a revision. Running and with --to, it first throws away what was
    written since the start, and says so. Refused while someone has the image open.
    """
    start_stop.revert(session, [volume_id], to=to)


@command("run", short_help="Run a command with a VM's volumes started.")
@click.argument("vm", metavar="VM", shell_complete=complete)
@click.option("--discard", is_flag=True, help="Throw away what was written when it ends.")
@click.option(
    "--on-failure",
    type=click.Choice(["commit", "revert", "keep"]),
    help="What to do instead if COMMAND ends with another status than 0, or by a signal, or its guest"
    " crashes: as at a shutdown, throw away, or leave the working images as they are.",
)
@click.option(
    "--qmp",
    metavar="SOCKET",
    type=click.Path(),
    help="A monitor of QEMU's, for lifecycle alone, which tells whether the guest crashed. Then"
    " each volume's crash policy applies, unless --discard or --on-failure says otherwise.",
)
@click.argument("words", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(
    session: Session,
    vm: str,
    discard: bool,
    on_failure: str | None,
    qmp: str | None,
    words: tuple[str, ...],
) -> None:
    """Start the VM's volumes, run COMMAND, and stop them when it ends; exit as it did.

    In COMMAND, {root} stands for the working image of the volume `root`; in its environment,
    LIFECYCLE_ROOT does. Signals are passed on. If COMMAND goes into the background, the volumes
    run until the last process that it left has ended.
    """
    from lifecycle.hosts import wrapped  # noqa: PLC0415 - only here

    # standard output is for the one JSON document then
    stdout = os.dup(2) if session.as_json else None
    ended, session.exit_status = wrapped.run(
        session.vm(vm),
        words,
        discard=discard,
        on_failure=on_failure,
        qmp=qmp,
        on_start=_tell,
        on_end=_tell_of_end,
        tell=tell_line,
        stdout=stdout,
    )
    for one in ended:
        if one.error is not None:
            raise one.error
    if session.as_json:
        session.say([documents.of_volume(one.volume) for one in ended])


@command("recover", short_help="Apply the crash policies after a host's crash.")
@targets_argument(required=False)
@all_pools_option()
def recover_command(session: Session, targets: tuple[str, ...], all_pools: bool) -> None:
    """Finish or drop what a crash left half done, in all VMs or those of TARGETs, and apply the crash policies.

    A working image that no one holds open is kept for the next start (resume), committed as a revision marked
    `crash`, or thrown away (revert). Goes on past what fails; exit status 1 then.
    """
    if all_pools:
        if targets:
            raise click.UsageError("--all-pools takes no TARGET.")
        _say_done(session, list(_recover_everywhere(session)), _NOTHING_TO_RECOVER)
        return
    wanted = session.vms(targets).items()
    found = [one for pool, vms in wanted for one in pool.recover(*vms)]
    done = [_Done(one.id, one.state, one.text, one.error) for one in found]
    _say_done(session, done, _NOTHING_TO_RECOVER)


class _Done(NamedTuple):
    """What was done about one volume, VM or pool."""

    id: str
    state: str | None
    text: str
    error: Exception | None


def _recover_everywhere(session: Session) -> Iterator[_Done]:
    for name, pool in every_pool(session):
        if isinstance(pool, Exception):
            yield _Done(name, None, f"could not be opened: {pool}", pool)
            continue
        try:
            found = pool.recover()
        except (LifecycleError, OSError) as error:
            yield _Done(name, None, f"could not be recovered: {error}", error)
            continue
        for one in found:
            yield _Done(f"{name}:{one.id}", one.state, one.text, one.error)


def _end(session: Session, targets: tuple[str, ...], how: str) -> None:
    if how == _SERVICE_RESULT:
        from lifecycle.hosts import systemd  # noqa: PLC0415 - only here

        result = os.environ.get("SERVICE_RESULT")
        if result is None:
            raise click.UsageError(
                "$SERVICE_RESULT is not set: `--ending service-result` is for ExecStopPost= of a systemd unit."
            )
        how = systemd.ending_of(result)
    ended = end(session.volumes(targets), Ending(how))
    done = [_Done(one.volume.id, one.state, one.text, one.error) for one in ended]
    _say_done(session, done, "nothing was running")


def _say_done(session: Session, done: Sequence[_Done], nothing: str) -> None:
    """Say what was done, one by one; exit status 1 if any of it failed."""
    session.say(
        [
            {"id": one.id, "state": one.state, "text": one.text, "failed": one.error is not None}
            for one in done
        ],
        *([f"{one.id}: {one.text}" for one in done] or [nothing]),
    )
    if any(one.error is not None for one in done):
        session.exit_status = FAILED


def _tell(outcome: Outcome) -> None:
    """Say on stderr what was done; standard output is the command's."""
    for volume, change in outcome:
        tell_line(line(volume, change))


def _tell_of_end(ended: Sequence[Ended]) -> None:
    for one in ended:
        if one.error is None:
            tell_line(
                line(one.volume, one.change) if one.change else f"{one.volume.id}: {one.text}"
            )
