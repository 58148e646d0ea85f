"""The command line: what is common to all commands. The commands themselves are in `commands/`, by topic.

How this works. A host runs `lifecycle start` and `stop` at each start and stop of a VM, so a command's module is
imported when the command is called, and what draws tables and bars when something is drawn. Every command gets a
`Session`: the pool, and the way to print what it has to say, for people or as one JSON document.

Exit status: 0 done, 1 failed, 2 usage, 3 refused (not allowed in this state, vetoed, in use).
"""

from __future__ import annotations

import contextlib
import functools
import io
import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from lifecycle.errors import (
    InvalidConfig,
    InvalidName,
    InvalidPolicy,
    InvalidSize,
    LifecycleError,
    NoSuchVolume,
    Refused,
)

if TYPE_CHECKING:
    from lifecycle.pool import Pool
    from lifecycle.vm import VM
    from lifecycle.volume import Volume

FAILED, USAGE, REFUSED = 1, 2, 3
INTERRUPTED = 130
"""As shells say it: 128 and the number of SIGINT."""

COMMANDS = {
    "pools": ("init", "pool", "verify", "diagram", "completion"),
    "adopt": ("adopt",),
    "volumes": ("create", "list", "show", "set", "resize", "import", "export", "clone", "remove"),
    "life": ("start", "stop", "checkpoint", "revert", "run", "recover"),
    "revisions": ("log", "forget", "pin", "unpin", "label", "prune"),
    "hosts": ("host",),
    "attach": ("attach",),
}
"""The commands by the module of `commands/` that holds them."""

_MODULE_OF = {name: module for module, names in COMMANDS.items() for name in names}
_USAGE_ERRORS = (InvalidName, InvalidSize, InvalidPolicy, InvalidConfig)


class Session:
    """One call of a command.

    Attributes:
        path: the pool's directory.
        as_json: whether to print one JSON document instead of text for people.
    """

    def __init__(self, path: str, *, as_json: bool) -> None:
        self.path = path
        self.as_json = as_json
        self.exit_status = 0

    @functools.cached_property
    def pool(self) -> Pool:
        """The pool, opened."""
        from lifecycle.pool import Pool  # noqa: PLC0415 - not needed by --help

        try:
            return watched(Pool.open(self.path))
        except LifecycleError as error:
            raise CannotOpen(str(error)) from error

    def targets(self, names: Sequence[str]) -> list[Volume | VM]:
        """Return the volumes and VMs of these names.

        Raises:
            NoSuchVolume, InvalidName: there is none of one of them.
        """
        return [self._target(name.rstrip("/")) for name in names]

    def _target(self, name: str) -> Volume | VM:
        if "/" in name and name in self.pool:
            return self.pool[name]
        vm = self.pool.vm(name)
        if not vm.volumes:
            raise NoSuchVolume(name, self.pool.path)
        return vm

    def volumes(self, names: Sequence[str]) -> list[Volume]:
        """Return the volumes of these names, those of VMs one by one; all of the pool's for no names."""
        if not names:
            return self.pool.volumes()
        found = [getattr(one, "volumes", [one]) for one in self.targets(names)]
        return list(dict.fromkeys(volume for several in found for volume in several))

    def say(self, document: Any, *lines: str) -> None:
        """Print the document as JSON, or the lines for people."""
        if self.as_json:
            import json  # noqa: PLC0415 - only here

            click.echo(json.dumps(document, indent=2, ensure_ascii=False))
        else:
            for line in lines:
                click.echo(line)


class Interrupted(LifecycleError):
    """Someone pressed Ctrl-C."""


class CannotOpen(LifecycleError):
    """The pool could not be opened, for the reason given."""


def watched(pool: Pool) -> Pool:
    """Return the pool, with its copies shown as progress bars if someone is watching."""
    if sys.stderr is not None and sys.stderr.isatty():
        from lifecycle.terminal import Bars  # noqa: PLC0415 - only here

        bars = Bars()
        pool.on_progress = bars.update
        click.get_current_context().call_on_close(bars.close)
    return pool


def default_pool() -> str:
    """Return where the pool is if nothing is said."""
    if os.geteuid() == 0:
        return "/var/lib/lifecycle"
    home = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    return os.path.join(home, "lifecycle")


def every_pool(session: Session) -> Iterator[tuple[str, Session]]:
    """Yield a session for each pool that this machine knows, and for the one at the default place, by its name."""
    from lifecycle import known_pools  # noqa: PLC0415 - only here

    found = [(one.name, one.path) for one in known_pools.known()]
    usual = default_pool()
    if os.path.isdir(usual) and known_pools.name_of(usual) is None:
        found.append((usual, usual))
    for name, path in found:
        yield name, Session(path, as_json=session.as_json)


def command(name: str, *, short_help: str) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function a command: it is called with a `Session` and its own parameters by name."""

    def decorate(function: Callable[..., None]) -> click.Command:
        @functools.wraps(function)
        def call(*, pool: str | None, as_json: bool, verbose: bool, **parameters: Any) -> None:
            _log_to_stderr(verbose=verbose)
            session = Session(pool or default_pool(), as_json=as_json)
            try:
                function(session, **parameters)
            except KeyboardInterrupt:
                raise Interrupted(
                    "interrupted; what was begun is finished or dropped next time"
                ) from None
            if session.exit_status:
                raise SystemExit(session.exit_status)

        return click.command(name, short_help=short_help)(_VERBOSE(_JSON(_POOL(call))))

    return decorate


class _Brief(logging.Formatter):
    """A line a message: of an exception only what it says, for people and not for its authors."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        error = record.exc_info[1] if record.exc_info else None
        return f"lifecycle: {record.getMessage()}{'' if error is None else f': {error}'}"


def _log_to_stderr(*, verbose: bool) -> None:
    """Show warnings and errors, and if asked all that happens to files and volumes, and whole tracebacks.

    Where stderr is the journal, the log goes there with its fields, and each transition is told of in any case.
    """
    handler = logging.StreamHandler()
    if not verbose:
        handler.setFormatter(_Brief())
    level = logging.INFO if verbose else logging.WARNING
    if "JOURNAL_STREAM" in os.environ:
        from lifecycle import journal  # noqa: PLC0415 - only where a journal may be

        if journal.is_behind(2):
            journal.log_there(handler, level)
            return
    logging.basicConfig(level=level, handlers=[handler])
    if verbose:
        from lifecycle import transition_log  # noqa: PLC0415 - not needed to start or stop a VM

        transition_log.connect()


_POOL = click.option(
    "--pool",
    metavar="DIR",
    envvar="LIFECYCLE_POOL",
    type=click.Path(),
    help="The pool; by default $LIFECYCLE_POOL, else /var/lib/lifecycle for root and"
    " ~/.local/share/lifecycle for others.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Log every file operation on stderr.")


def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids of volumes and VMs that begin like this, for the shell."""
    session = Session(context.params.get("pool") or default_pool(), as_json=False)
    try:
        volumes = session.pool.volumes()
    except (LifecycleError, OSError):
        return []
    found = {volume.id for volume in volumes} | {volume.vm for volume in volumes}
    return sorted(name for name in found if name.startswith(incomplete))


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
        module = import_module(f"lifecycle.commands.{_MODULE_OF[name]}")
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
def cli() -> None:
    """Undoable disks for virtual machines.

    A TARGET is a VM (a directory of the pool) or a volume (VM/NAME).
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit. No traceback reaches the user for what a user can cause."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names on disk are bytes of any kind
    try:
        status = cli.main(given, prog_name="lifecycle", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        status = USAGE
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "lifecycle"
        _complain(given, error, f"{error.format_message()} See `{where} --help`.")
        status = USAGE
    except (click.exceptions.Abort, KeyboardInterrupt):
        status = INTERRUPTED
    except LifecycleError as error:
        _complain(given, error, str(error))
        status = _status_of(error)
    except OSError as error:
        name = f"{error.filename}: " if error.filename else ""
        _complain(given, error, f"{name}{error.strerror or error}.")
        status = FAILED
    sys.exit(_flushed(status))


def _flushed(status: int) -> int:
    """Return the status once all is written; if it cannot be, say so no more than once."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError:
        # whoever read our output has gone, or the disk is full: nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return status or FAILED
    return status


def _status_of(error: LifecycleError) -> int:
    if isinstance(error, Interrupted):
        return INTERRUPTED
    if isinstance(error, Refused):
        return REFUSED
    return USAGE if isinstance(error, _USAGE_ERRORS) else FAILED


def _complain(arguments: Sequence[str], error: BaseException, text: str) -> None:
    """Say on stderr what is wrong; where JSON was asked for, say it there too."""
    if not isinstance(error, BrokenPipeError):
        click.echo(f"lifecycle: {text}", err=True)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in own:
        import json  # noqa: PLC0415 - only here

        known = {
            name: getattr(error, name)
            for name in ("volume", "state", "event", "reason", "allowed")
            if isinstance(getattr(error, name, None), (str, tuple))
        }
        said = {"error": {"kind": type(error).__name__, "message": text, **known}}
        with contextlib.suppress(OSError):  # it may be standard output itself that failed
            click.echo(json.dumps(said))
