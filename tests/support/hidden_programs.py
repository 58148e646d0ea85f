"""This machine as if it lacked some programs, for one command: they are hidden from it, wherever they lie."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

_PLACES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_HIDE = """\
while [ "$1" != -- ]; do
    mount --bind /dev/null "$1"
    shift
done
shift
exec "$@"
"""


def without(programs: Iterable[str], command: Sequence[str]) -> list[str]:
    """Return the command in a mount namespace where these programs cannot be run. Takes root."""
    found = {
        os.path.realpath(f"{place}/{program}")
        for program in programs
        for place in _PLACES
        if os.path.exists(f"{place}/{program}")
    }
    last = sorted(found, key=lambda path: path.endswith("/mount"))  # it hides the others
    return ["unshare", "--mount", "sh", "-c", _HIDE, "sh", *last, "--", *command]
