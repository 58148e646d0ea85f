"""Where a user's own files lie, by the XDG Base Directory Specification."""

from __future__ import annotations

import os

from lifecycle.errors import Unsupported


def below_home(variable: str, usual: str) -> str | None:
    """Return lifecycle's directory in the place that the environment variable names, by default `usual` in the home.

    None if it names none and this user has no home: neither $HOME nor an entry in passwd. What is not absolute is as
    good as not set, since it would lie wherever the caller happens to be.
    """
    place = os.environ.get(variable, "")
    if not os.path.isabs(place):
        home = _home()
        if home is None:
            return None
        place = os.path.join(home, usual)
    return os.path.join(place, "lifecycle")


def no_home(what: str, instead: str) -> Unsupported:
    """Return the error of one who has no home and needs a place there: what for, and what to do instead."""
    return Unsupported(f"this user has no home directory, and so no place for {what}: {instead}.")


def _home() -> str | None:
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        import pwd  # noqa: PLC0415 - seldom needed

        try:
            home = pwd.getpwuid(os.geteuid()).pw_dir
        except KeyError:
            return None
    return home if os.path.isabs(home) else None
