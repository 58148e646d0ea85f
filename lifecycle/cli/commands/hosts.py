"""Commands about hosts: install what calls lifecycle on a host, take it away, show what is installed."""

from __future__ import annotations

import click

from lifecycle.cli.app import command, with_common_options
from lifecycle.cli.invocation import FAILED
from lifecycle.cli.session import Session, WrongUsage, fitted
from lifecycle.errors import LifecycleError
from lifecycle.hosts import host
from lifecycle.hosts.host import Host, Installed
from lifecycle.plugins import NoSuchPlugin


def _complete(_context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of hosts that begin like this, for the shell."""
    return [one for one in host.HOSTS.names() if one.startswith(incomplete)]


_NAME = click.argument("name", metavar="HOST", shell_complete=_complete)
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
@click.option(
    "--option",
    "others",
    metavar="NAME",
    multiple=True,
    help="For a host of another package: a flag that it takes. May be repeated.",
)
def install_command(
    session: Session, name: str, root: str, others: tuple[str, ...], **flags: bool
) -> None:
    """Put into HOST's configuration what makes it call this installation of lifecycle at each start and stop of a VM.

    HOST is one of those that `lifecycle host status` lists. Safe to repeat.
    """
    found = _found(name)
    options = {flag: True for flag, given in flags.items() if given}
    for flag in sorted(options.keys() - found.OPTIONS):
        raise WrongUsage(f"--{flag.replace('_', '-')} is not for {name}.")
    for other in others:
        if other not in found.OPTIONS:
            takes = ", ".join(sorted(found.OPTIONS)) or "none"
            raise WrongUsage(f"{name} takes no option {other}; it takes {takes}.")
        options[other] = True
    written = found.install(root, **options)
    advice = found.advice(root, written)
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
    removed = _found(name).uninstall(root)
    session.say(
        {"host": name, "removed": removed},
        *([f"removed {path}" for path in removed] or [f"{name}: nothing of lifecycle's was there"]),
    )


def _found(name: str) -> Host:
    """Return the host that was named on the command line."""
    try:
        return host.find(name)
    except NoSuchPlugin as error:
        raise WrongUsage(f"{error}.") from error


@command("status", short_help="Show what is installed, and whether it works.")
@_ROOT
def status_command(session: Session, root: str) -> None:
    """Show for each host what is installed, by which version, and whether it would work.

    Exit status 1 if something is there that would not, or if a host of another package fails.
    """
    found = {name: _status(name, root) for name in host.HOSTS.names()}
    lines = [
        f"{name}: {line}"
        for name, several in found.items()
        for line in [_line(one) for one in several] or ["not installed"]
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


def _status(name: str, root: str) -> list[Installed]:
    """Return what is installed for a host; what keeps it from telling is a part that does not work."""
    try:
        return list(host.find(name).status(root))
    except LifecycleError as error:
        return [Installed(None, str(error), works=False)]


def _line(one: Installed) -> str:
    return one.text if one.path is None else f"{one.path}: {one.text}"


@click.group("host", short_help="Let libvirt and others call lifecycle.")
@with_common_options
def host_command() -> None:
    """Let a host of VMs call lifecycle by itself at each start and stop of a VM."""


for one in (install_command, uninstall_command, status_command):
    host_command.add_command(one)
