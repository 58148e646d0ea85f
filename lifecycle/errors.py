"""Every error that a caller can meet.

All are `LifecycleError`. Each carries what it speaks of as fields, and its text says what is wrong, in which
state, and what to do instead: it is meant to be shown to a person as it is.
"""

from __future__ import annotations

import errno
import shlex
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple


def shown(value: object) -> str:
    """Return a value that was found or given as a message shows it: short, and printable anywhere."""
    try:
        text = ascii(value)
    except ValueError:  # a number of thousands of digits
        return "a number too long to be written out"
    except RecursionError:
        return "something nested too deeply to be written out"
    except Exception:  # noqa: BLE001 - a message of one error must not end in another
        return f"a {type(value).__name__} that cannot be written out"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text)} characters)"


_LONGEST = 60


def printable(text: str) -> str:
    """Return a text of others as it can be shown anywhere: on one line, and without what would steer a terminal.

    Such characters are written out, as `\\x1b`.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char in _SPACES else char.encode("unicode_escape").decode()
        for char in text
    )


_SPACES = frozenset(
    "\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
)
"""Spaces of other scripts: they are shown, though Python does not call them printable."""


class LifecycleError(Exception):
    """The base of every error of this package. Each can be copied, and sent to another process (pickle).

    Its text can be shown anywhere, whatever others have put into it: names of files and processes, what a hook or a
    subscriber said. So can the fields that are words (`reason`, `problem`…); those that are ids and paths are exact.
    """

    def __str__(self) -> str:
        return printable(super().__str__())

    def __reduce__(self) -> tuple[Any, ...]:
        # an error is made from its fields and not from its text, which is all that an exception passes on by itself
        return _bare, (type(self), self.args), self.__dict__


def _bare(kind: type[LifecycleError], args: tuple[object, ...]) -> LifecycleError:
    """Return an error of this class with its text; its fields are put back by whoever unpickles it."""
    error = kind.__new__(kind)
    error.args = args
    return error


# ---------------------------------------------------------------- refusals: nothing has happened


class Refused(LifecycleError):
    """An event that the rulebook does not allow now. Nothing was changed.

    Attributes:
        volume: the volume's id.
        state: the state it is in.
        event: what was asked.
        reason: why not, a clause without a full stop.
        allowed: the events allowed instead.
    """

    def __init__(
        self, volume: str, state: str, event: str, reason: str, allowed: Iterable[str] = ()
    ) -> None:
        self.volume = volume
        self.state = str(state)
        self.event = str(event)
        self.reason = printable(reason)
        self.allowed = tuple(str(one) for one in allowed)
        text = f"{volume} is {self.state}: cannot {self.event}: {reason}."
        if self.allowed:
            called = dict.fromkeys(_CALLED.get(one, one) for one in self.allowed)
            text += f" Allowed now: {', '.join(filter(None, called))}."
        super().__init__(text)


_CALLED = {"commit": "stop", "release": "stop", "write": ""}
"""By what an event is called that no one asks for by its own name; `write` is noticed."""


class Holder(NamedTuple):
    """Who holds an image open: a process, a loop device, a client of a cluster; or, if unknown, perhaps someone.

    Attributes:
        name: the process's command, the device's path, or what the cluster calls its client; or why it is not known
            whether there is anyone.
        pid: the process id; None for what is no process of this host.
        known: False if there may be no one.
        host: the host that it runs on, by name or address, if that is another than this one; None for this one.
    """

    name: str
    pid: int | None = None
    known: bool = True
    host: str | None = None

    def __str__(self) -> str:
        if not self.known:
            return f"perhaps someone, since {self.name}"
        where = [] if self.pid is None else [f"pid {self.pid}"]
        where += [] if self.host is None else [f"on {self.host}"]
        return f"{self.name} ({' '.join(where)})" if where else self.name


class InUse(Refused):
    """An event on a volume whose image someone still holds open, or perhaps does: what is not known counts as used.

    Attributes:
        holders: who, as far as could be found out; may be empty.
        known: False if it cannot be known whether anyone does.
    """

    def __init__(
        self,
        volume: str,
        state: str,
        event: str,
        holders: Sequence[Holder],
        *,
        wanted: int | None = None,
    ) -> None:
        """Make it; `wanted` is the number to go back to, which the stop that is advised might have pruned."""
        self.holders = tuple(holders)
        self.known = not holders or any(one.known for one in holders)
        if self.known:
            certain = [str(one) for one in holders if one.known]
            who = ", ".join(certain) or "a process that could not be found"
            reason = f"its image is in use by {who}; stop the VM or detach it first"
            if wanted:
                reason += (
                    f" (if its host commits what it wrote, `lifecycle pin {volume} {wanted}` before that"
                    " keeps what you want to go back to from being pruned)"
                )
        else:
            reason = (
                f"whether its image is in use cannot be known, since {holders[0].name}; run lifecycle as root with"
                " CAP_LEASE, where all processes can be seen, or, if you know that nothing uses the pool's images"
                ' behind its back, set `unknown_use = "ignore"` in pool.toml'
            )
        super().__init__(volume, state, event, reason)


class Vetoed(Refused):
    """A subscriber of an `-ing` signal objected. `__cause__` is what it raised.

    Attributes:
        reason: its words.
        subscriber: who objected, by its module and name; None where the reason says it.
    """

    def __init__(
        self, volume: str, state: str, event: str, reason: str, subscriber: str | None = None
    ) -> None:
        who = "" if subscriber is None else f" ({subscriber})"
        super().__init__(volume, state, event, f"vetoed: {reason}{who}")
        self.reason = printable(reason)
        self.subscriber = subscriber


class ReadOnlyPool(Refused):
    """Something that would write to a pool of which nothing is ever written."""

    def __init__(self, volume: str, state: str, event: str, allowed: Iterable[str] = ()) -> None:
        super().__init__(
            volume,
            state,
            event,
            "its pool is read-only; to change what is in it, clone the image into another pool",
            allowed,
        )


# ---------------------------------------------------------------- what was asked for is wrong


class InvalidName(LifecycleError, ValueError):
    """A VM's or volume's name that cannot be one.

    Attributes:
        name: as it was given.
        reason: what is wrong with it.
    """

    def __init__(self, name: object, reason: str) -> None:
        self.name = name
        self.reason = printable(reason)
        super().__init__(f"{shown(name)} cannot be a name: {reason}.")


class InvalidSize(LifecycleError, ValueError):
    """A size that a disk cannot have.

    Attributes:
        size: as it was given.
        reason: what is wrong with it.
    """

    def __init__(self, size: object, reason: str) -> None:
        self.size = size
        self.reason = printable(reason)
        super().__init__(f"{shown(size)} cannot be a disk's size: {reason}.")


class InvalidPolicy(LifecycleError, ValueError):
    """A retention policy that cannot be understood.

    Attributes:
        policy: the line as it was given.
        reason: what is wrong with it.
    """

    def __init__(self, policy: object, reason: str) -> None:
        self.policy = policy
        self.reason = printable(reason)
        super().__init__(f"{shown(policy)} is not a retention policy: {reason}.")


class InvalidConfig(LifecycleError, ValueError):
    """A setting in pool.toml, in a record or given to `configure` that cannot be.

    Attributes:
        where: the file, or the volume's id.
        reason: what is wrong with it.
    """

    def __init__(self, where: str, reason: str) -> None:
        self.where = where
        self.reason = printable(reason)
        super().__init__(f"{where}: {reason}.")


class NewerFormat(InvalidConfig):
    """A pool.toml or record written by a newer version of this package."""

    def __init__(self, where: str, found: int, known: int) -> None:
        self.found = found
        self.known = known
        super().__init__(
            where,
            f"was written by a newer version of lifecycle (format {shown(found)}, this one reads"
            f" {known});"
            " upgrade lifecycle to use it",
        )


class NotAPool(LifecycleError):
    """A directory that is not a pool, or cannot be made one.

    Attributes:
        path: the directory.
        reason: why not.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = printable(reason)
        super().__init__(f"{path}: {reason}.")


class NoReflinks(LifecycleError):
    """The file system cannot share blocks between files.

    Attributes:
        path: the pool's directory.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        super().__init__(
            f"{path}: this file system has no reflinks, so every start would copy the whole image."
            " Use a directory on XFS or btrfs; or `lifecycle init --loop SIZE` to embed an XFS here;"
            " or `--no-setup-check` (of a pool that is there: `setup_check = false` in its pool.toml) to"
            " accept sparse copies."
        )


class NoSuchVolume(LifecycleError, KeyError):
    """No volume (or no VM) of that id in the pool.

    Attributes:
        volume: the id.
        pool: the pool's path.
    """

    def __init__(self, volume: str, pool: str) -> None:
        self.volume = volume
        self.pool = pool
        super().__init__(volume)

    def __str__(self) -> str:
        return printable(
            f"{self.volume}: no such volume or VM in {self.pool}. See `lifecycle list`."
        )


class InAnotherPool(NoSuchVolume):
    """A volume or VM whose directory lies in a pool within this one, which alone may touch it.

    Attributes:
        volume: the id, as it would be in this pool.
        pool: this pool's path.
        inner: the path of the pool that it lies in.
    """

    def __init__(self, volume: str, pool: str, inner: str) -> None:
        super().__init__(volume, pool)
        self.inner = inner

    def __str__(self) -> str:
        return printable(
            f"{self.volume}: that lies in another pool, {self.inner}, and is none of {self.pool};"
            f" say `--pool {shlex.quote(self.inner)}`, and the name in that pool."
        )


class NoSuchPool(LifecycleError, LookupError):
    """This machine knows no pool by that name.

    Attributes:
        pool: the name.
        known: the names it knows.
    """

    def __init__(self, pool: str, known: Iterable[str]) -> None:
        self.pool = pool
        self.known = tuple(known)
        have = ", ".join(self.known) or "none"
        super().__init__(f"{shown(pool)} is no known pool. Known are: {have}.")


class NoSuchRevision(LifecycleError, LookupError):
    """The volume has no revision of that number.

    Attributes:
        volume: the volume's id.
        number: what was asked for.
        available: the numbers there are, oldest first.
    """

    def __init__(self, volume: str, number: int, available: Sequence[int]) -> None:
        self.volume = volume
        self.number = number
        self.available = tuple(available)
        have = ", ".join(str(one) for one in available) or "none"
        super().__init__(f"{volume} has no revision {number}. Its revisions: {have}.")


# ---------------------------------------------------------------- it was tried and did not work


class Locked(LifecycleError):
    """Another process works on the VM and did not finish in time.

    Attributes:
        vm: the VM.
        seconds: how long was waited.
        holders: who holds the lock, as far as could be found out.
    """

    def __init__(self, vm: str, seconds: float, holders: Sequence[Holder]) -> None:
        self.vm = vm
        self.seconds = seconds
        self.holders = tuple(holders)
        who = ", ".join(str(holder) for holder in holders) or "a process that could not be found"
        super().__init__(
            f"{vm} is locked by {who}; waited {seconds:g} s. Try again when that has finished,"
            " or raise lock_timeout in pool.toml."
        )


class StorageFailed(LifecycleError, OSError):
    """The file system failed an operation. The state is what `show` says; the same call may be repeated.

    Attributes:
        volume: the volume's id.
        event: what was being done.
        errno, strerror, filename: as the system said it.
    """

    def __init__(self, volume: str, event: str, error: OSError) -> None:
        super().__init__(error.errno, error.strerror or str(error), error.filename)
        self.volume = volume
        self.event = event

    def __reduce__(self) -> tuple[Any, ...]:
        error = OSError(self.errno, self.strerror, self.filename)
        return type(self), (self.volume, self.event, error), self.__dict__

    def __str__(self) -> str:
        name = f" ({self.filename})" if self.filename else ""
        return printable(
            f"{self.volume}: {self.event} failed: {self.strerror}{name}. No image was lost;"
            " mend the cause and repeat the command."
        )


class FlushError(OSError):
    """A flush of an image failed; `storage` makes `FlushFailed` of it.

    Attributes:
        own: whether it is an image of a pool.
        unnoted: why that could not be noted, or not durably; None if it was, or is not to be.
    """

    def __init__(self, error: OSError, path: str, *, own: bool, unnoted: str | None) -> None:
        super().__init__(error.errno, error.strerror or str(error), path)
        self.own = own
        self.unnoted = unnoted


class FlushFailed(StorageFailed):
    """The disk refused to take what was written to an image; how much of it is there is not known from then on.

    Attributes:
        image: the image's path: the volume's own, that of its source, or a file that was to be imported.
        own: whether it is an image of a pool; its volume is `damaged` then, until someone decides.
        unnoted: why that could not be noted on the image, or not durably; None if it was, or is not to be.
    """

    def __init__(self, volume: str, event: str, error: FlushError) -> None:
        super().__init__(volume, event, error)
        self.image = str(error.filename)
        self.own = error.own
        self.unnoted = error.unnoted

    def __reduce__(self) -> tuple[Any, ...]:
        refused = self.errno, self.strerror, self.image, self.own, self.unnoted
        return _flush_failed, (self.volume, self.event, *refused), self.__dict__

    def __str__(self) -> str:
        text = (
            f"{self.volume}: {self.event} failed: {self.strerror} ({self.image}). The disk may hold less of"
            " that image than was written, though it can still look whole, and no later flush can tell."
        )
        if not self.own:
            return printable(f"{text} Make it anew before it is used.")
        text += " Its volume is damaged until someone decides what is kept of it; `lifecycle show` says how."
        if self.unnoted is not None:
            text += (
                f" But this could not be noted safely ({self.unnoted}): if `lifecycle show` does not say"
                " it, mount the file system anew before all else, and look at what the image holds then."
            )
        return printable(text)


def _flush_failed(
    volume: str, event: str, code: int, said: str, image: str, own: bool, unnoted: str | None
) -> FlushFailed:
    """Return such an error anew, for whoever unpickles it."""
    error = FlushError(OSError(code, said), image, own=own, unnoted=unnoted)
    return FlushFailed(volume, event, error)


def blames_file(error: OSError) -> bool:
    """Tell whether an error speaks of the file that was asked for, and not of this process, which lacks something."""
    return error.errno not in _OF_THIS_PROCESS


_OF_THIS_PROCESS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR})


class storage:  # noqa: N801 - it is used as a function
    """Turn what the file system complains of in the block into `StorageFailed`."""

    __slots__ = ("_event", "_volume")

    def __init__(self, volume: str, event: str) -> None:
        self._volume = volume
        self._event = event

    def __enter__(self) -> None:
        pass

    def __exit__(self, _type: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, FlushError):
            raise FlushFailed(self._volume, self._event, error) from error
        if isinstance(error, OSError) and not isinstance(error, LifecycleError):
            raise StorageFailed(self._volume, self._event, error) from error


class HookFailed(LifecycleError):
    """A hook that is run before an event failed, which vetoes the event.

    Attributes:
        hook: the program's path.
        problem: how it failed, as what follows on its name.
        objection: its own words, if it had some.
    """

    def __init__(self, hook: str, problem: str, objection: str | None = None) -> None:
        self.hook = hook
        self.problem = printable(problem)
        self.objection = None if objection is None else printable(objection)
        super().__init__(f"{objection} (hook {hook})" if objection else f"hook {hook} {problem}")


class PluginFailed(LifecycleError):
    """Code of another package (a retention term, a backend, a host) failed, or answered what it may not.

    Where it was asked before something, that has not happened: nothing was saved, nothing removed.

    Attributes:
        plugin: which: its name, its entry point, and the distribution that offers it.
        problem: what it did, as what follows on its name.
    """

    def __init__(self, plugin: str, problem: str) -> None:
        self.plugin = printable(plugin)
        self.problem = printable(problem)
        super().__init__(f"the plugin {plugin} {problem}.")


class NotASubscriber(LifecycleError, TypeError):
    """Something was connected to a signal that would be called and never run: a coroutine function, a generator.

    Attributes:
        subscriber: which, by its module and name.
        kind: what it is.
    """

    def __init__(self, subscriber: str, kind: str) -> None:
        self.subscriber = subscriber
        self.kind = kind
        super().__init__(
            f"{subscriber} cannot be connected to a signal: it is {kind}, which would be called and"
            " never run. Connect a plain function; what is asynchronous it can hand to an event loop"
            " (`asyncio.run_coroutine_threadsafe`)."
        )


class ForeignFile(LifecycleError):
    """A file where an image or record should be that is none: a symbolic link, a device, a directory.

    Attributes:
        path: the file.
        kind: what it is.
    """

    def __init__(self, path: str, kind: str, advice: str = "move it away") -> None:
        self.path = path
        self.kind = kind
        super().__init__(f"{path} is {kind}, not a file of this pool; {advice}.")


class NotContent(LifecycleError):
    """A path that cannot be read from or written to as a disk's content.

    Attributes:
        path: the path.
        reason: why not.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = printable(reason)
        super().__init__(f"{path}: {reason}.")


class NotTheSame(LifecycleError):
    """What was written was read again and is not what was to be written. The volume is as it was.

    Attributes:
        content: what was copied.
        where: where the two differ, in words.
    """

    def __init__(self, content: str, where: str) -> None:
        self.content = content
        self.where = printable(where)
        super().__init__(
            f"{content}: what was written is not what was read: {where}. Nothing was changed; the"
            " memory, the disk or the connection may be failing."
        )


class Unsupported(LifecycleError):
    """Something that this pool or this machine cannot do, with the reason."""


def cut_short(volume: str, number: int) -> Unsupported:
    """Return the error for a revision that a copy or a file system left empty."""
    return Unsupported(
        f"{volume}: revision {number} was cut short and holds nothing; go back to another, and"
        f" `lifecycle forget {volume} {number}`"
    )
