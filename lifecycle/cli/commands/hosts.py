"""Commands about hosts: install what calls lifecycle on a host, take it away, show what is installed."""

from __future__ import annotations

import click

from lifecycle.cli.app import command, with_common_options
from lifecycle.cli.invocation import FAILED
from lifecycle.cli.session import Session, fitted
from lifecycle.hosts import installing

_NAME = click.argument("name", metavar="HOST", type=click.Choice(list(installing.HOSTS)))
_ROOT = click.option(
    "--root",
    metavar="DIR",
    type=click.Path(file_okay=False),
    default="/",
    help="The directory that a machine's / is being made in; by default this machine's.",
)


@command("install", short_help="Let a host call lifecycle by itself.")
@_NAME
@_ROOT
@click.option(
    "--dispatcher",
    is_flag=True,
    help="libvirt: also for versions before 6.5; by default if such a version is found here.",
)
@click.option(
    "--enable",
    is_flag=True,
    help="systemd: also enable recovery at boot and the daily prune.",
)
def install_command(session: Session, name: str, root: str, **flags: bool) -> None:
    """Put into HOST's configuration what makes it call this installation of lifecycle at each start and stop of a VM.

    HOST is one of those that `lifecycle host status` lists. Safe to repeat.
    """
    host = installing.host(name)
    options = {flag: True for flag, given in flags.items() if given}
    for flag in options.keys() - host.OPTIONS:
        raise click.UsageError(f"--{flag.replace('_', '-')} is not for {name}.")
    written = host.install(root, **options)
    advice = host.advice(root, written)
    session.say(
        {"host": name, "written": written, "advice": advice},
        *([f"wrote {path}" for path in written] or [f"{name}: all was in place"]),
        *advice,
    )


@command("uninstall", short_help="Take away what `install` put there.")
@_NAME
@_ROOT
def uninstall_command(session: Session, name: str, root: str) -> None:
    """Remove from HOST's configuration the files that `install` wrote, and no others."""
    removed = installing.host(name).uninstall(root)
    session.say(
        {"host": name, "removed": removed},
        *([f"removed {path}" for path in removed] or [f"{name}: nothing of lifecycle's was there"]),
    )


@command("status", short_help="Show what is installed, and whether it works.")
@_ROOT
def status_command(session: Session, root: str) -> None:
    """Show for each host what is installed, by which version, and whether it would work.

    Exit status 1 if something is there that would not.
    """
    found = {name: installing.host(name).status(root) for name in installing.HOSTS}
    lines = [
        line
        for name, several in found.items()
        for line in (
            [f"{name}: {one.path}: {one.text}" for one in several] or [f"{name}: not installed"]
        )
    ]
    session.say(
        [
            {"host": name, "path": one.path, "text": one.text, "works": one.works}
            for name, several in found.items()
            for one in several
        ],
        *fitted(lines, indent=2),
    )
    if not all(one.works for several in found.values() for one in several):
        session.exit_status = FAILED


@click.group("host", short_help="Let libvirt and others call lifecycle.")
@with_common_options
def host_command() -> None:
    """Let a host of VMs call lifecycle by itself at each start and stop of a VM."""


for one in (install_command, uninstall_command, status_command):
    host_command.add_command(one)
