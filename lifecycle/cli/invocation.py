"""One run of the program: its log, its error messages and its exit status.

Exit status: 0 done, 1 failed, 2 usage, 3 refused (not allowed in this state, vetoed, in use).
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys

from lifecycle import plugins
from lifecycle.cli.session import Session, json_of, print_line
from lifecycle.errors import (
    InvalidConfig,
    InvalidName,
    InvalidPolicy,
    InvalidSize,
    LifecycleError,
    Refused,
    printable,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

COMPLETES = "_LIFECYCLE_COMPLETE"
"""The environment variable with which a shell asks for completions."""
FAILED, USAGE, REFUSED = 1, 2, 3
INTERRUPTED = 130
"""As shells say it: 128 and the number of SIGINT."""

_USAGE_ERRORS = (InvalidName, InvalidSize, InvalidPolicy, InvalidConfig)


class Interrupted(LifecycleError):
    """Someone pressed Ctrl-C."""


class _WithinArray(Exception):
    """An error in the middle of a JSON array, which is to end with it."""

    def __init__(self, error: LifecycleError | OSError) -> None:
        super().__init__(error)
        self.error = error


def perform(
    function: Callable[..., None],
    *,
    pool: str | None,
    as_json: bool = False,
    verbose: bool = False,
    **parameters: Any,
) -> int:
    """Let a command do its work in a session, and return the exit status."""
    _log_to_stderr(verbose=verbose)
    with Session(pool, as_json=as_json) as session:
        try:
            with _interruption_named():
                function(session, **parameters)
        except (LifecycleError, OSError) as error:
            if session.within_array:
                raise _WithinArray(error) from error
            raise
        return session.exit_status


@contextlib.contextmanager
def _interruption_named() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted("interrupted; what was begun is finished or dropped next time") from None


def ended(given: Sequence[str], call: Callable[[], int | None]) -> int:
    """Call, complain of what goes wrong, and return the exit status. No traceback for what a user can cause."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names on disk are bytes of any kind
    try:
        status = call() or 0
    except KeyboardInterrupt:
        status = INTERRUPTED
    except _WithinArray as cut_short:
        status = _complain(given, cut_short.error, within_array=True)
    except (LifecycleError, OSError) as error:
        status = _complain(given, error)
    return _flushed(given, status)


def _complain(
    given: Sequence[str], error: LifecycleError | OSError, *, within_array: bool = False
) -> int:
    """Say what is wrong, and return the exit status."""
    if isinstance(error, LifecycleError):
        complain(given, error, str(error), within_array=within_array)
        return _status_of(error)
    name = f"{error.filename}: " if error.filename else ""
    text = printable(f"{name}{error.strerror or error}.")
    complain(given, error, text, within_array=within_array)
    return FAILED


def complain_of_usage(given: Sequence[str], error: Exception, text: str, command: str) -> int:
    """Say how the command was called wrongly, and where its help is; return the exit status."""
    complain(given, error, f"{text} See `{command} --help`.")
    return USAGE


def _flushed(given: Sequence[str], status: int) -> int:
    """Return the status once all is written; if it cannot be, say so no more than once."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # whoever read our output has gone, or the disk is full: nothing more can be said there
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if status == 0:
            return _complain(given, error)
    return status


def _status_of(error: LifecycleError) -> int:
    if isinstance(error, Interrupted):
        return INTERRUPTED
    if isinstance(error, Refused):
        return REFUSED
    return USAGE if isinstance(error, _USAGE_ERRORS) else FAILED


def complain(
    arguments: Sequence[str], error: BaseException, text: str, *, within_array: bool = False
) -> None:
    """Say on stderr what is wrong; where JSON was asked for, say it there too, to end the array that was begun."""
    if not isinstance(error, BrokenPipeError):
        for line in f"lifecycle: {text}".split("\n"):
            print_line(line, on_stderr=True)
    own = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in own:
        known = {
            name: getattr(error, name)
            for name in ("volume", "state", "event", "reason", "allowed")
            if isinstance(getattr(error, name, None), (str, tuple))
        }
        said = {"error": {"kind": type(error).__name__, "message": text, **known}}
        with contextlib.suppress(OSError):  # it may be standard output itself that failed
            for line in (",", json_of(said), "]") if within_array else (json_of(said),):
                print_line(line)


class _Brief(logging.Formatter):
    """A line a message: of an exception only what it says, for people and not for its authors."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        error = record.exc_info[1] if record.exc_info else None
        said = "" if error is None else plugins.words(error)
        return f"lifecycle: {printable(record.getMessage() + (said and f': {said}'))}"


class _Whole(logging.Formatter):
    """All that is known of a message, with tracebacks; nothing in it steers the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the lines."""
        return "\n".join(map(printable, super().format(record).split("\n")))


def _log_to_stderr(*, verbose: bool) -> None:
    """Show warnings and errors, and if asked all that happens to files and volumes, and whole tracebacks.

    Where stderr is the journal, the log goes there with its fields, and each transition is told of in any case.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(_Whole(logging.BASIC_FORMAT) if verbose else _Brief())
    level = logging.INFO if verbose else logging.WARNING
    if "JOURNAL_STREAM" in os.environ:
        from lifecycle.linux import journal  # noqa: PLC0415 - only where a journal may be

        if journal.is_behind(2):
            journal.log_there(handler, level)
            _log_transitions()
            return
    logging.basicConfig(level=level, handlers=[handler])
    if verbose:
        logging.getLogger("transitions").setLevel(logging.WARNING)  # it tells of each callback
        _log_transitions()


def _log_transitions() -> None:
    from lifecycle.subscribers import log  # noqa: PLC0415 - not needed to start or stop a VM

    log.log.setLevel(logging.INFO)
    log.connect()
