"""Settings of the libvirt hook (`libvirt.toml`)."""

from __future__ import annotations

import os
import tomllib
from dataclasses import dataclass

from lifecycle.engine.endings import Ending
from lifecycle.errors import InvalidConfig, shown
from lifecycle.machine.known_pools import config_directory

NAME = "libvirt.toml"
_CHOICES = (Ending.STOPPED, Ending.CRASHED)
_LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings.

    Attributes:
        no_reason: how a VM is taken to have ended of which libvirt does not say it in any way: `stopped` or `crashed`.
    """

    no_reason: Ending = Ending.STOPPED


DEFAULTS = Settings()


def path() -> str | None:
    """Return where the settings are, if there are any; None if this user has no place for them."""
    place = config_directory()
    return None if place is None else os.path.join(place, NAME)


def read() -> Settings:
    """Return the settings; the defaults if there is no such file.

    Raises:
        InvalidConfig: they cannot be understood. OSError: they cannot be read.
    """
    where = path()
    if where is None:
        return DEFAULTS
    try:
        with open(where, "rb") as file:
            table = tomllib.loads(file.read(_LONGEST).decode())
    except FileNotFoundError:
        return DEFAULTS
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(where, f"is not TOML: {error}") from error
    unknown = sorted(set(table) - {"no_reason"})
    if unknown:
        raise InvalidConfig(where, f"has an unknown key {shown(unknown[0])}; known is `no_reason`")
    no_reason = table.get("no_reason", DEFAULTS.no_reason)
    if no_reason not in _CHOICES:
        choices = " or ".join(_CHOICES)
        raise InvalidConfig(where, f"`no_reason` is {choices}, not {shown(no_reason)}")
    return Settings(Ending(no_reason))
