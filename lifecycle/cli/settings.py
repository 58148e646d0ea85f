"""`KEY=VALUE`: reads a setting as a person writes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lifecycle.config import CHANGEABLE, CrashPolicy, Precache, last_n
from lifecycle.errors import InvalidConfig


def _yes_or_no(text: str) -> bool:
    words = {"yes": True, "true": True, "on": True, "1": True}
    words |= {"no": False, "false": False, "off": False, "0": False}
    return words[text.lower()]


_READERS: dict[str, Callable[[str], Any]] = {
    "rw": _yes_or_no,
    "keep": lambda text: text or None,
    "on_crash": lambda text: CrashPolicy(text) if text else None,
    "source": str,
    "snapshots": _yes_or_no,
    "precache": lambda text: Precache(text) if text else None,
    "ready": int,
    "owner": lambda text: text or None,
    "revisions_to_keep": int,
}
_VALUES = {
    **dict.fromkeys(("rw", "snapshots"), "yes or no"),
    **dict.fromkeys(("ready", "revisions_to_keep"), "a number"),
    "on_crash": f"one of {', '.join(CrashPolicy)}, or empty for the pool's",
    "precache": f"one of {', '.join(Precache)}, or empty for the pool's",
}
"""What each setting is that cannot be just any text."""
SETTABLE = (*CHANGEABLE, "revisions_to_keep", "label")


def read_setting(where: str, key: str, text: str) -> dict[str, Any]:
    """Return the one setting, as `configure` takes it, from how a person writes it.

    Raises:
        InvalidConfig: there is no such setting, or it cannot have that value.
    """
    if key == "label":
        return {key: text or None}
    if key not in SETTABLE:
        raise InvalidConfig(
            where, f"there is no setting `{key}`; the settings are {', '.join(SETTABLE)}"
        )
    try:
        value = _READERS[key](text)
    except (ValueError, KeyError) as error:
        raise InvalidConfig(where, f"`{key}` cannot be {text!r}; it is {_VALUES[key]}") from error
    if key == "revisions_to_keep":
        return {"keep": last_n(where, value)}
    return {key: value}
