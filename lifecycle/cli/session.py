"""One call of a command: its pool, the volumes that its addresses name, and how it prints.

It knows nothing of how the command line was read, so that what a host calls at each start and stop of a VM need not
load what reads all of it (cli/entry.py).
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys

from lifecycle.config import POOL_SIGNS
from lifecycle.errors import InvalidName, LifecycleError, NoSuchPool, NoSuchVolume, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from typing import Any

    from lifecycle.engine.pool import Pool
    from lifecycle.engine.vm import VM
    from lifecycle.engine.volume import Volume


class WrongUsage(LifecycleError):
    """The command was not called as it can be; said together with where its help is."""


class CannotOpen(LifecycleError):
    """The pool could not be opened, for the reason given."""


class Session:
    """One call of a command.

    Volumes and VMs are named by addresses: `VM/NAME` and `VM` in the session's pool, `POOL:VM/NAME` and `POOL:VM` in a
    pool that this machine knows by a name.

    Attributes:
        as_json: whether to print one JSON document instead of text for people.
        exit_status: that of the command, if it comes to its end.
        within_array: whether the document is an array that was begun and is not at its end.
    """

    def __init__(self, given: str | None, *, as_json: bool) -> None:
        """Begin; `given` is the session's pool, a directory or a known name, by default the usual one."""
        self._given = given
        self._pools: dict[str, Pool] = {}
        self.as_json = as_json
        self.exit_status = 0
        self.within_array = False
        self._at_the_end = contextlib.ExitStack()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_raised: object) -> None:
        self._at_the_end.close()

    @functools.cached_property
    def path(self) -> str:
        """The pool's directory.

        Raises:
            Unsupported: none was given, and there is no usual one. WrongUsage: it could be two.
        """
        given = self._given or default_pool()
        if given is None:
            from lifecycle.machine import user_directories  # noqa: PLC0415 - only here

            raise user_directories.no_home(
                "the usual pool", "name one with --pool or $LIFECYCLE_POOL"
            )
        if "/" in given:
            return given
        known = _known_pools().get(given)
        if known is None or os.path.realpath(known) == os.path.realpath(given):
            return given
        if any(os.path.lexists(f"{given}/{file}") for file in POOL_SIGNS):
            raise WrongUsage(
                f"{given} is the pool known by that name, {known}, and a directory here:"
                f" write {known}, or ./{given}."
            )
        return known

    @property
    def pool(self) -> Pool:
        """The pool, opened."""
        return self._opened(self.path)

    def _opened(self, path: str) -> Pool:
        from lifecycle.engine.pool import Pool  # noqa: PLC0415 - not needed by --help

        real = os.path.realpath(path)
        if real not in self._pools:
            try:
                self._pools[real] = self.watched(Pool.open(path))
            except LifecycleError as error:
                raise CannotOpen(str(error)) from error
        return self._pools[real]

    def watched(self, pool: Pool) -> Pool:
        """Return the pool, with its progress shown if someone is watching."""
        if sys.stderr is not None and sys.stderr.isatty():
            from lifecycle.cli.terminal import Bars, Counter  # noqa: PLC0415 - only here

            bars, counter = Bars(), Counter()
            pool.on_progress = bars.update
            with contextlib.suppress(AttributeError):  # another package's may have no room for it
                pool.backend.on_look = counter.update
            self._at_the_end.callback(bars.close)
            self._at_the_end.callback(counter.close)
        return pool

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
            raise WrongUsage(
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
            NoSuchVolume, NoSuchPool, InvalidName: there is none. WrongUsage: it is a VM's.
        """
        pool, volume_id = self.located(address)
        try:
            return pool[volume_id]
        except (InvalidName, NoSuchVolume):
            found = [f"{address}/{one.name}" for one in _volumes_of(pool, volume_id)]
            if not found:
                raise
            shown = ", ".join(found[:_SHOWN]) + (" …" if len(found) > _SHOWN else "")
            raise WrongUsage(
                f"{address} is a VM, and a volume's id is VM/NAME: name one of its volumes, {shown}."
            ) from None

    def vm(self, address: str) -> VM:
        """Return the VM of this address.

        Raises:
            NoSuchPool, InvalidName: there can be none. WrongUsage: it is a volume's.
        """
        address = address.rstrip("/")
        pool, name = self.located(address)
        if name in pool and not _volumes_of(pool, name):
            vm = address.rpartition("/")[0]
            raise WrongUsage(f"{address} is a volume, and this takes a VM: name its VM, {vm}.")
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
        opening = "["
        for document in found:  # if the first cannot be had, there is but the error's document
            self.within_array = True
            _write(f"{opening}\n{json_of(document)}")
            opening = ","
        _write("[\n]\n" if opening == "[" else "\n]\n")
        self.within_array = False

    def say(self, document: Any, *lines: str) -> None:
        """Print the document as JSON, or the lines for people."""
        if self.as_json:
            _write(f"{json_of(document, indent=2)}\n")
        else:
            for line in lines:
                print_line(line)


_SHOWN = 5
"""How many volumes an error names."""


def _volumes_of(pool: Pool, vm: str) -> list[Volume]:
    """Return the volumes of a VM; none if it cannot be one."""
    try:
        return pool.volumes(vm)
    except InvalidName:
        return []


def _known_pools() -> dict[str, str]:
    """Return the directories of the pools that this machine knows, by name."""
    from lifecycle.machine import known_pools  # noqa: PLC0415 - not needed where a path says it

    return {one.name: one.path for one in known_pools.known()}


def default_pool() -> str | None:
    """Return where the pool is if nothing is said; None for a user who has no home."""
    if os.geteuid() == 0:
        return "/var/lib/lifecycle"
    from lifecycle.machine import user_directories  # noqa: PLC0415 - only here

    return user_directories.below_home("XDG_DATA_HOME", ".local/share")


def every_pool(session: Session) -> Iterator[tuple[str, Pool | Exception]]:
    """Yield each pool that this machine knows, and the one at the default place, by its name.

    For one that cannot be opened, and for what cannot be read of the known pools, it is why.
    """
    from lifecycle.machine import known_pools  # noqa: PLC0415 - only here

    pools, unreadable = known_pools.read_all()
    for one in unreadable:
        yield one.path, one.error
    found = [(one.name, one.path) for one in pools]
    usual = default_pool()
    if (
        usual is not None
        and os.path.isdir(usual)
        and os.path.realpath(usual) not in {os.path.realpath(one.path) for one in pools}
    ):
        found.append((usual, usual))
    for name, path in found:
        try:
            yield name, Session(path, as_json=session.as_json).pool
        except (LifecycleError, OSError) as error:
            yield name, error


def fitted(lines: Sequence[str], *, indent: int = 0) -> Sequence[str]:
    """Return lines for people as the terminal has room for them, broken between words; as they are if there is none.

    Args:
        lines: the lines.
        indent: how far what follows in a broken line is set in.
    """
    if sys.stdout is None or not sys.stdout.isatty():
        return lines
    from lifecycle.cli import tables  # noqa: PLC0415 - slow to load, and seldom needed

    return list(tables.at_words(lines, tables.new_console().width, indent))


def print_line(text: str, *, on_stderr: bool = False) -> None:
    """Print a line at once; nowhere if the stream was closed before the process began.

    What would steer the terminal or break the line is written out, whoever it came from.
    """
    _write("\t".join(map(printable, text.split("\t"))) + "\n", on_stderr=on_stderr)


def json_of(document: Any, *, indent: int | None = None) -> str:
    """Return the document as JSON, without what would steer a terminal: such characters are written as escapes."""
    import json  # noqa: PLC0415 - only here

    text = json.dumps(document, indent=indent, ensure_ascii=False)
    if text.replace("\n", "").isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text
    )


def _write(text: str, *, on_stderr: bool = False) -> None:
    stream = sys.stderr if on_stderr else sys.stdout
    if stream is not None:
        stream.write(text)
        stream.flush()
