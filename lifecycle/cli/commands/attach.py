"""The command `attach`: prints how a hypervisor is given a volume."""

from __future__ import annotations

import click

from lifecycle.cli.app import command, volume_argument
from lifecycle.cli.session import Session, print_line
from lifecycle.hosts import attach

LOOP = "loop"


@command("attach", short_help="Say how a hypervisor is given a volume.")
@volume_argument()
@click.option(
    "--for",
    "kind",
    required=True,
    type=click.Choice([*attach.FRAGMENTS, LOOP]),
    help="Whose words to say it in; `loop` makes a loop device instead.",
)
def attach_command(session: Session, volume_id: str, kind: str) -> None:
    """Print what to give to a hypervisor so that a VM has the volume as a disk.

    For loop: make a loop device of the started volume and print its path. Take it away with
    `losetup --detach` before the stop.
    """
    volume = session.volume(volume_id)
    view = volume.look()
    found = (
        attach.attach_loop(volume)
        if kind == LOOP
        else attach.fragment(kind, attach.disk_of(volume))
    )
    if not view.may_run:
        print_line(
            f"lifecycle: {volume.id} is {view.state}: this path is there once it is started",
            on_stderr=True,
        )
    document = {
        "id": volume.id,
        "for": kind,
        "path": volume.path,
        "started": view.may_run,
        "fragment": found,
    }
    session.say(document, *attach.text_of(found).split("\n"))
