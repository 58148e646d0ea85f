"""Commands about a volume's life: start, stop, checkpoint, revert, run."""

from __future__ import annotations

import os

import click

from lifecycle import documents
from lifecycle.change import Change
from lifecycle.cli import FAILED, Session, command, complete, targets_argument, volume_argument
from lifecycle.states import Event
from lifecycle.together import Outcome
from lifecycle.vm import VM
from lifecycle.volume import Volume


@command("start", short_help="Give volumes a working image.")
@targets_argument()
def start_command(session: Session, targets: tuple[str, ...]) -> None:
    """Start volumes, or all volumes of VMs (all or none), and print the paths that the VM opens."""
    outcome: Outcome = []
    for target in session.targets(targets):
        outcome += target.start() if isinstance(target, VM) else [(target, target.start())]
    _say(session, outcome)


@command("stop", short_help="Keep or throw away what the VMs wrote.")
@targets_argument()
@click.option("--discard", is_flag=True, help="Throw away, whatever kind of volume it is.")
def stop_command(session: Session, targets: tuple[str, ...], discard: bool) -> None:
    """Stop volumes, or all running volumes of VMs: commit, or throw away, by what kind they are.

    What was not written to is released, and spends no revision.
    """
    outcome: Outcome = []
    for target in session.targets(targets):
        outcome += (
            target.stop(discard=discard)
            if isinstance(target, VM)
            else [(target, target.stop(discard=discard))]
        )
    _say(session, outcome)


@command("checkpoint", short_help="Keep what running VMs have written by now.")
@targets_argument()
def checkpoint_command(session: Session, targets: tuple[str, ...]) -> None:
    """Keep what running volumes have written by now as a revision each (crash-consistent).

    Of a VM: each volume that runs and is saved on stop.
    """
    outcome: Outcome = []
    for target in session.targets(targets):
        outcome += (
            target.checkpoint() if isinstance(target, VM) else [(target, target.checkpoint())]
        )
    _say(session, outcome)


@command("revert", short_help="Take a volume back.")
@volume_argument()
@click.option("--to", metavar="N|empty", help="The revision; by default one step back.")
def revert_command(session: Session, volume_id: str, to: str | None) -> None:
    """Take the volume back to a revision, or to the empty image; running, throw away what was written.

    Nothing is lost by it at rest: what it held becomes a revision.
    """
    number = None
    if to is not None:
        if to != "empty" and not (to.isascii() and to.isdecimal()):
            raise click.UsageError(f"--to is a revision's number or `empty`, not {to!r}.")
        number = 0 if to == "empty" else int(to)
    volume = session.pool[volume_id]
    _say(session, [(volume, volume.revert(number))], single=True)


@command("run", short_help="Run a command with a VM's volumes started.")
@click.argument("vm", metavar="VM", shell_complete=complete)
@click.option("--discard", is_flag=True, help="Throw away what was written when it ends.")
@click.argument("words", metavar="-- COMMAND…", nargs=-1, required=True, type=click.UNPROCESSED)
def run_command(session: Session, vm: str, discard: bool, words: tuple[str, ...]) -> None:
    """Start the VM's volumes, run COMMAND, and stop them when it ends; exit as it did.

    In COMMAND, {root} stands for the working image of the volume `root`; in its environment,
    LIFECYCLE_ROOT does. Signals are passed on.
    """
    from lifecycle.hosts import wrapped  # noqa: PLC0415 - only here

    machine = session.pool.vm(vm)
    # standard output is for the one JSON document then
    stdout = os.dup(2) if session.as_json else None
    outcome, session.exit_status = wrapped.run(
        machine, words, discard=discard, on_start=_tell, stdout=stdout
    )
    if session.as_json:
        session.say([documents.of_volume(volume) for volume, _change in outcome])
    else:
        _tell(outcome)


@command("recover", short_help="Apply the crash policies after a host's crash.")
@targets_argument(required=False)
def recover_command(session: Session, targets: tuple[str, ...]) -> None:
    """Finish or drop what a crash left half done, in all VMs or those of TARGETs, and apply the crash policies.

    A working image that no one holds open is kept for the next start (resume), committed as a revision marked
    `crash`, or thrown away (revert). Goes on past what fails; exit status 1 then.
    """
    vms = sorted({volume.vm for volume in session.volumes(targets)}) if targets else []
    found = session.pool.recover(*vms)
    session.say(
        [
            {"id": one.id, "state": one.state, "text": one.text, "failed": one.error is not None}
            for one in found
        ],
        *([f"{one.id}: {one.text}" for one in found] or ["nothing to recover"]),
    )
    if any(one.error is not None for one in found):
        session.exit_status = FAILED


def _tell(outcome: Outcome) -> None:
    """Say on stderr what was done; standard output is the command's."""
    for volume, change in outcome:
        click.echo(f"lifecycle: {_line(volume, change)}", err=True)


def _say(session: Session, outcome: Outcome, *, single: bool = False) -> None:
    found = [documents.of_volume(volume) for volume, _change in outcome]
    session.say(
        found[0] if single else found, *(_line(volume, change) for volume, change in outcome)
    )


def _line(volume: Volume, change: Change) -> str:
    """Say in a line what happened to a volume."""
    return f"{volume.id}: {_WORDS[Event(change.event)](volume, change)}"


def _reverted(_volume: Volume, change: Change) -> str:
    if change.revision is None:
        return "reverted: what was written is thrown away"
    return f"reverted to {change.revision}{' (empty)' if change.revision == 0 else ''}"


_WORDS = {
    Event.START: lambda volume, _change: f"started, at {volume.path}",
    Event.RELEASE: lambda _volume, change: (
        f"released: nothing was written; {change.dest} as before"
    ),
    Event.COMMIT: lambda _volume, change: f"committed as {change.revision}",
    Event.CHECKPOINT: lambda _volume, change: f"checkpoint kept as revision {change.revision}",
    Event.REVERT: _reverted,
}
