"""The command line as a whole: options common to all commands, and which module each command is in.

How this works. A command's module is imported when the command is called, and what draws tables and bars when something
is drawn. Every command gets a `Session`: the pool, and the way to print what it has to say, for people or as one JSON
document. What a host calls at each start and stop of a VM does not come by here (cli/entry.py), but does the same.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

import click
from click.core import ParameterSource

from lifecycle.cli.invocation import (
    COMPLETES,
    INTERRUPTED,
    USAGE,
    complain_of_usage,
    ended,
    perform,
)
from lifecycle.cli.session import Session, WrongUsage
from lifecycle.errors import LifecycleError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

COMMANDS = {
    "pools": ("init", "pool", "pools", "verify", "diagram", "completion"),
    "adopt": ("adopt",),
    "volumes": ("create", "list", "show", "set", "resize", "import", "export", "clone", "remove"),
    "running": ("start", "stop", "checkpoint", "revert", "run", "recover"),
    "revisions": ("log", "forget", "pin", "unpin", "label", "accept", "prune"),
    "hosts": ("host",),
    "attach": ("attach",),
}
"""The commands by the module of `commands/` that holds them."""

_MODULE_OF = {name: module for module, names in COMMANDS.items() for name in names}


def command(name: str, *, short_help: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command: it is called with a `Session` and its own parameters by name."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def call(**parameters: Any) -> int:
            try:
                return perform(function, **given_to_all(click.get_current_context()), **parameters)
            except WrongUsage as error:
                raise click.UsageError(str(error)) from error

        return click.command(name, short_help=short_help)(with_common_options(call))

    return decorate


_COMMON = "lifecycle.common"
"""Where a call's contexts keep together what was given of the options common to all commands."""


def _note(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    """Note a common option. The command's come after those before it, so of one given twice the later counts."""
    name = parameter.name or ""
    noted: dict[str, Any] = context.meta.setdefault(_COMMON, {})
    if name not in noted or context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
        noted[name] = value


def given_to_all(context: click.Context) -> dict[str, Any]:
    """Return the options common to all commands, wherever on the line they were given: before the command or behind."""
    noted: dict[str, Any] = context.meta.get(_COMMON, {})
    return noted


def with_common_options(function: Any) -> Any:
    """Let a command or a group take the options common to all commands."""
    options = (
        click.option(
            "-v",
            "--verbose",
            is_flag=True,
            expose_value=False,
            callback=_note,
            help="Log every file operation on stderr.",
        ),
        click.option(
            "--json",
            "as_json",
            is_flag=True,
            expose_value=False,
            callback=_note,
            help="Print one JSON document.",
        ),
        click.option(
            "--pool",
            metavar="DIR|NAME",
            envvar="LIFECYCLE_POOL",
            type=click.Path(readable=False),  # what is wrong with it is said when it is opened
            expose_value=False,
            callback=_note,
            shell_complete=complete_pool,
            help="The pool: its directory, or the name it is known by. By default $LIFECYCLE_POOL, else"
            " /var/lib/lifecycle for root and ~/.local/share/lifecycle for others.",
        ),
    )
    for option in options:
        function = option(function)
    return function


def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids of volumes and VMs that begin like this, and the known pools, for the shell."""
    session = Session(given_to_all(context).get("pool"), as_json=False)
    name, colon, _rest = incomplete.partition(":")
    known = _names_of_pools()
    of_another = bool(colon) and name in known
    found = set() if colon else {f"{one}:" for one in known}
    before = f"{name}:" if of_another else ""
    with suppress(LifecycleError, OSError):
        pool = session.located(f"{name}:x")[0] if of_another else session.pool
        for volume in pool:  # as far as they can be listed
            found |= {before + volume.id, before + volume.vm}
    return sorted(one for one in found if one.startswith(incomplete))


def complete_origin(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return what `complete` does, and where a path begins the files there are, for the shell."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only here

    if incomplete.startswith(("/", ".")):
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(one) for one in complete(context, parameter, incomplete)]


def complete_pool(
    _context: click.Context, _parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Return the names of known pools that begin like this, and any directory, for the shell."""
    from click.shell_completion import CompletionItem  # noqa: PLC0415 - only here

    names = [one for one in _names_of_pools() if one.startswith(incomplete)]
    return [*map(CompletionItem, names), CompletionItem(incomplete, type="dir")]


def _names_of_pools() -> list[str]:
    from lifecycle.machine import known_pools  # noqa: PLC0415 - only here

    try:
        return [one.name for one in known_pools.known()]
    except OSError:
        return []


def volume_argument(name: str = "volume_id", metavar: str = "VM/NAME") -> Callable[..., Any]:
    """Return the argument that names one volume."""
    return click.argument(name, metavar=metavar, shell_complete=complete)


def targets_argument(*, required: bool = True) -> Callable[..., Any]:
    """Return the argument that names volumes or VMs."""
    metavar = "TARGET…" if required else "[TARGET…]"
    return click.argument(
        "targets", metavar=metavar, nargs=-1, required=required, shell_complete=complete
    )


def all_pools_option() -> Callable[..., Any]:
    """Return the option to go through all pools instead of one."""
    return click.option(
        "--all-pools",
        is_flag=True,
        help="In every pool that this machine knows, going on past what fails; exit status 1 then.",
    )


class _Commands(click.Group):
    """The commands, each imported when it is called."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return all names, by topic."""
        return list(_MODULE_OF)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Import the command."""
        if name not in _MODULE_OF:
            return None
        module = import_module(f"lifecycle.cli.commands.{_MODULE_OF[name]}")
        found: click.Command = getattr(module, f"{name}_command")
        return found

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands by topic."""
        for module, found in COMMANDS.items():
            commands = [(name, self.get_command(context, name)) for name in found]
            with formatter.section(module.capitalize()):
                formatter.write_dl(
                    [(name, one.get_short_help_str(70)) for name, one in commands if one]
                )


def _print_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        from lifecycle import __version__  # noqa: PLC0415 - only here

        click.echo(f"lifecycle {__version__}")
        context.exit()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_print_version)
@with_common_options
def cli() -> None:
    """Undoable disks for virtual machines.

    The options common to all commands stand before the command or behind it; of one given twice, the later counts.

    A TARGET is a VM (a directory of the pool) or a volume (VM/NAME). POOL:VM and POOL:VM/NAME are those of
    another pool that this machine knows (`lifecycle pools`).
    """


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit. No traceback reaches the user for what a user can cause."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    sys.exit(ended(given, lambda: _run(given)))


def _run(given: list[str]) -> int | None:
    if COMPLETES in os.environ:
        import logging  # noqa: PLC0415 - only here

        from lifecycle.cli import completion  # noqa: F401, PLC0415 - it tells click how bash is to be spoken with

        logging.disable()  # the line that someone is typing is no place for it
    try:
        status: int | None = cli.main(given, prog_name="lifecycle", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "lifecycle"
        return complain_of_usage(given, error, error.format_message(), command)
    except click.exceptions.Abort:
        return INTERRUPTED
    return status
