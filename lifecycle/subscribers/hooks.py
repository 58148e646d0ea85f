"""The subscriber that runs programs in hooks.d at each event; before an event, one may object.

How this works. A subscriber of all `-ing` and `-ed` signals of a pool and of `failed` looks into two directories:
hooks.d of the configuration's directory, then the pool's. If nothing is there when an event is announced, nothing is
looked for when it is over. A program there says by its name what it is run for: `pre-start`, `post-commit-50-copy`,
`pre-any`, `failed`. It gets a JSON document on its standard input. One that is run before an event and fails vetoes it;
of one that is run after it, a failure is logged and changes nothing.

A program that someone else could have put there, or could change, is not run. A hook runs while its VM is locked, so
what it asks of `lifecycle` for the same VM is refused, instead of waiting for what waits for it; the environment
tells the two apart.
"""

from __future__ import annotations

import logging
import os
import re
import stat
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from lifecycle import events, ids, times
from lifecycle.config import VolumeConfig
from lifecycle.errors import HookFailed, LifecycleError, printable
from lifecycle.machine.known_pools import config_directory

if TYPE_CHECKING:
    from lifecycle.backend import Pool, Volume
    from lifecycle.model import Change

log = logging.getLogger("lifecycle.hooks")

_NAME = rf"(?s)((?:pre|post)-(?:any|{'|'.join(events.EVENTS)})|failed)(?:-.*)?"
_MEANT_AS_ONE = r"(?:pre|post|failed)\b"
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


class OwnHooks:
    """Runs the hooks of a pool. They are looked for at each event, so one that is put there is run from the next on."""

    def __init__(self, surroundings: Callable[[], dict[str, str]]) -> None:
        """Prepare; `surroundings` returns further environment variables for a hook that is run now."""
        self._surroundings = surroundings
        self._warned: set[str] = set()
        self._without: dict[str, Change] = {}  # by volume, what nothing was there for

    def connect(self, pool: Pool) -> None:
        """Subscribe to all signals of this pool, but the imperative ones."""
        for tenses in events.EVENTS.values():
            tenses.announced.connect(self.before, sender=pool)
            tenses.reported.connect(self.after, sender=pool)
        events.failed.connect(self.after_failure, sender=pool)

    def before(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Run the hooks of the event that may object.

        Raises:
            HookFailed: one did.
        """
        self._run("pre", pool, volume, change)

    def after(self, pool: Pool, *, volume: Volume, change: Change) -> None:
        """Run the hooks that are told what has happened."""
        self._run("post", pool, volume, change)

    def after_failure(
        self, pool: Pool, *, volume: Volume, change: Change, error: BaseException
    ) -> None:
        """Run the hooks that are told of failures."""
        self._run("failed", pool, volume, change, error)

    def _run(
        self,
        when: str,
        pool: Pool,
        volume: Volume,
        change: Change,
        error: BaseException | None = None,
    ) -> None:
        """Run the hooks of one moment (`pre`, `post` or `failed`) of an event."""
        if self._without.pop(volume.id, None) is change:
            return
        there = [(one, files) for one in _directories(pool) if (files := self._list(one))]
        if not there:
            self._without[volume.id] = change
            return
        moments = {when} if when == "failed" else {f"{when}-any", f"{when}-{change.event}"}
        found = [path for one, files in there for path in self._find(one, files, moments)]
        if not found:
            return
        import json  # noqa: PLC0415 - seldom needed

        from lifecycle.subscribers import hook_process  # noqa: PLC0415 - seldom needed

        given = json.dumps(document(when, volume, change, error)).encode()
        env = _environment(when, pool, volume, change) | self._surroundings()
        for path in found:
            ended = hook_process.run(path, given + b"\n", env, pool.config.hook_timeout)
            vetoes = when == "pre" and ended.problem is not None
            told = ended.problem is None or (vetoes and ended.objection is not None)
            shown = printable(path)
            for line in ended.lines:
                log.log(logging.INFO if told else logging.WARNING, "hook %s: %s", shown, line)
            if vetoes:
                raise HookFailed(path, str(ended.problem), ended.objection)
            if ended.problem is not None:
                log.warning("hook %s %s; what has happened stands", shown, ended.problem)

    def _list(self, directory: str) -> list[str]:
        """Return what is in a directory of hooks, if there is one."""
        try:
            return os.listdir(directory)
        except FileNotFoundError:
            return []
        except OSError as error:
            self._warn("no hook in %s is run: %s", directory, error.strerror or "")
            return []

    def _find(self, directory: str, files: list[str], moments: set[str]) -> Iterator[str]:
        """Yield the hooks of these moments that may be run, in the order of their names, links resolved."""
        for name in sorted(files):
            match = re.fullmatch(_NAME, name)
            if match is None:
                if re.match(_MEANT_AS_ONE, name):
                    self._warn("%s/%s is not run: that is no hook's name", directory, name)
            elif match[1] in moments and not name.endswith("~"):
                objection = objection_to(directory) or objection_to(
                    f"{directory}/{name}", program=True
                )
                if objection is None:
                    yield os.path.realpath(f"{directory}/{name}")
                else:
                    self._warn("hook %s/%s is not run: %s", directory, name, objection)

    def _warn(self, text: str, *about: str) -> None:
        """Say once what would be said again at each event."""
        if text % about not in self._warned:
            self._warned.add(text % about)
            log.warning(text, *map(printable, about))


# ---------------------------------------------------------------- which


def _directories(pool: Pool) -> list[str]:
    places = (config_directory(), pool.path)
    return [f"{place}/{ids.HOOKS}" for place in places if place is not None]


def objection_to(path: str, *, program: bool = False) -> str | None:
    """Say why this directory or program must not be used; None if it may be.

    It, and each directory above it, must belong to root or to who calls, and no one else may write to it: else
    others would choose what is run. Above, a directory in which each can change only what is his own (as /tmp) will do.
    """
    place = path = os.path.realpath(path)
    own = {path, os.path.dirname(path)} if program else {path}
    trusted = {0, os.geteuid()}
    while True:
        try:
            status = os.stat(place)
        except OSError as error:
            return f"{place}: {error.strerror}"
        if status.st_uid not in trusted:
            return f"{place} belongs to user {status.st_uid}, neither root nor who calls"
        kept_apart = place not in own and status.st_mode & stat.S_ISVTX
        if status.st_mode & _OTHERS_WRITE and not kept_apart:
            return f"others may write to {place}; `chmod go-w` it"
        if place == path and program and not stat.S_ISREG(status.st_mode):
            return "it is no file"
        if place == "/":
            break
        place = os.path.dirname(place)
    if program and not os.access(path, os.X_OK):
        return "it is not executable; `chmod +x` it"
    return None


def document(
    when: str, volume: Volume, change: Change, error: BaseException | None = None
) -> dict[str, Any]:
    """Return what a hook is given on its standard input."""
    return {
        "when": when,
        "event": str(change.event),
        "pool": volume.pool.path,
        "volume": _volume_document(volume),
        "from": str(change.source),
        "to": str(change.dest),
        "at": times.format_time(change.at),
        "reason": change.reason,
        "revision": change.revision,
        "asked": {key: _plain(value) for key, value in change.asked.items() if key != "content"},
        "error": None if error is None else str(error),
    }


def _plain(value: object) -> object:
    return value._asdict() if isinstance(value, VolumeConfig) else value


def _volume_document(volume: Volume) -> dict[str, Any]:
    from lifecycle.report import documents  # noqa: PLC0415 - seldom needed

    try:
        return documents.of_volume(volume)
    except (LifecycleError, OSError):  # a file system that fails must not hide that it does
        return {"id": volume.id, "vm": volume.vm, "name": volume.name, "path": volume.path}


def _environment(when: str, pool: Pool, volume: Volume, change: Change) -> dict[str, str]:
    return {
        **os.environ,
        "LIFECYCLE_HOOK": when if when == "failed" else f"{when}-{change.event}",
        "LIFECYCLE_POOL": pool.path,
        "LIFECYCLE_VOLUME": volume.id,
    }
