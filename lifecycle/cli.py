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
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import click

from lifecycle.errors import (
    InvalidConfig,
    InvalidName,
    InvalidPolicy,
    InvalidSize,
    LifecycleError,
    NoSuchPool,
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
    "pools": ("init", "pool", "pools", "verify", "diagram", "completion"),
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

    Volumes and VMs are named by addresses: `VM/NAME` and `VM` in the session's pool, `POOL:VM/NAME` and `POOL:VM` in a
    pool that this machine knows by a name.

    Attributes:
        as_json: whether to print one JSON document instead of text for people.
    """

    def __init__(self, given: str, *, as_json: bool) -> None:
        """Begin; `given` is the session's pool, a directory or a known name."""
        self._given = given
        self._pools: dict[str, Pool] = {}
        self.as_json = as_json
        self.exit_status = 0

    @functools.cached_property
    def path(self) -> str:
        """The pool's directory."""
        if not self._given or "/" in self._given:
            return self._given
        known = _known_pools().get(self._given)
        if known is None or os.path.realpath(known) == os.path.realpath(self._given):
            return self._given
        if any(os.path.lexists(f"{self._given}/{file}") for file in ("pool.toml", "pool.xfs")):
            raise click.UsageError(
                f"{self._given} is the pool known by that name, {known}, and a directory here:"
                f" write {known}, or ./{self._given}."
            )
        return known

    @property
    def pool(self) -> Pool:
        """The pool, opened."""
        return self._opened(self.path)

    def _opened(self, path: str) -> Pool:
        from lifecycle.pool import Pool  # noqa: PLC0415 - not needed by --help

        real = os.path.realpath(path)
        if real not in self._pools:
            try:
                self._pools[real] = watched(Pool.open(path))
            except LifecycleError as error:
                raise CannotOpen(str(error)) from error
        return self._pools[real]

    def located(self, address: str, *, new: bool = False) -> tuple[Pool, str]:
        """Return the pool that an address speaks of, and the id or the VM's name in it.

        Args:
            address: the address.
            new: whether there need not be such a volume; a name of a VM can hold a colon.

        Raises:
            NoSuchPool: no pool is known by that name.
        """
        name, colon, rest = address.partition(":")
        if not colon or "/" in name:
            return self.pool, address
        known = _known_pools()
        is_here = os.path.lexists(os.path.join(self.path, address.partition("/")[0]))
        if name in known and is_here:
            raise click.UsageError(
                f"{address} is {rest} of the pool {name}, and of {self.path} it is a VM too:"
                f" write {rest} with --pool {name}, or the VM's name behind its own pool's."
            )
        if name in known:
            return self._opened(known[name]), rest
        if is_here or new:
            return self.pool, address
        raise NoSuchPool(name, known)

    def volume(self, address: str) -> Volume:
        """Return the volume of this address.

        Raises:
            NoSuchVolume, NoSuchPool, InvalidName: there is none.
        """
        pool, volume_id = self.located(address)
        return pool[volume_id]

    def vm(self, address: str) -> VM:
        """Return the VM of this address.

        Raises:
            NoSuchPool, InvalidName: there can be none.
        """
        pool, name = self.located(address)
        return pool.vm(name)

    def targets(self, addresses: Sequence[str]) -> list[Volume | VM]:
        """Return the volumes and VMs of these addresses.

        Raises:
            NoSuchVolume, NoSuchPool, InvalidName: there is none of one of them.
        """
        return [self._target(address.rstrip("/")) for address in addresses]

    def _target(self, address: str) -> Volume | VM:
        pool, name = self.located(address)
        if "/" in name and name in pool:
            return pool[name]
        vm = pool.vm(name)
        if not vm.volumes:
            raise NoSuchVolume(name, pool.path)
        return vm

    def volumes(self, addresses: Sequence[str]) -> list[Volume]:
        """Return the volumes of these addresses, those of VMs one by one; all of the pool's for no addresses."""
        if not addresses:
            return self.pool.volumes()
        found = [getattr(one, "volumes", [one]) for one in self.targets(addresses)]
        return list(dict.fromkeys(volume for several in found for volume in several))

    def vms(self, addresses: Sequence[str]) -> dict[Pool, list[str]]:
        """Return the names of the VMs that these addresses speak of, by pool; for none the pool, without a name."""
        if not addresses:
            return {self.pool: []}
        found: dict[Pool, set[str]] = {}
        for volume in self.volumes(addresses):
            found.setdefault(volume.pool, set()).add(volume.vm)
        return {pool: sorted(vms) for pool, vms in found.items()}

    def say_each(self, found: Iterable[Any]) -> None:
        """Print documents as one JSON array, a line each, as they come: there may be very many."""
        import json  # noqa: PLC0415 - only here

        click.echo("[", nl=False)
        comma = ""
        for document in found:
            click.echo(f"{comma}\n{json.dumps(document, ensure_ascii=False)}", nl=False)
            comma = ","
        click.echo("\n]")

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


def _known_pools() -> dict[str, str]:
    """Return the directories of the pools that this machine knows, by name."""
    from lifecycle import known_pools  # noqa: PLC0415 - not needed where a path says it

    return {one.name: one.path for one in known_pools.known()}


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
    metavar="DIR|NAME",
    envvar="LIFECYCLE_POOL",
    type=click.Path(),
    help="The pool: its directory, or the name it is known by. By default $LIFECYCLE_POOL, else"
    " /var/lib/lifecycle for root and ~/.local/share/lifecycle for others.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_VERBOSE = click.option("-v", "--verbose", is_flag=True, help="Log every file operation on stderr.")


def complete(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the ids of volumes and VMs that begin like this, for the shell."""
    session = Session(context.params.get("pool") or default_pool(), as_json=False)
    name, colon, _rest = incomplete.partition(":")
    try:
        pool = session.located(f"{name}:x")[0] if colon else session.pool
        volumes = pool.volumes()
    except (LifecycleError, click.UsageError, OSError):
        return []
    before = f"{name}:" if pool is not session.pool else ""
    found = {volume.id for volume in volumes} | {volume.vm for volume in volumes}
    return sorted(before + name for name in found if (before + name).startswith(incomplete))


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

    A TARGET is a VM (a directory of the pool) or a volume (VM/NAME). POOL:VM and POOL:VM/NAME are those of
    another pool that this machine knows (`lifecycle pools`).
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
