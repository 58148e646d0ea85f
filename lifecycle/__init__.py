"""Undoable disks for virtual machines.

    from lifecycle import Pool, State
    pool = Pool.create("/srv/vms", keep="last 5, 7 daily")
    disk = pool.create_volume("ci-42/root", size="10G")
    disk.start()                 # the VM opens disk.path
    disk.stop()                  # what it wrote is revision 1 of the volume, if it wrote
    disk.revert()                # and gone again; disk.revert(to=1) brings it back

See `Pool` and `Volume` for what can be done, `events` for the signals, `policies` for retention, `errors` for what
can be raised, `states` for the rulebook.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # importing typing for it would take longer than all else here
if TYPE_CHECKING:
    from lifecycle import errors, events, policies
    from lifecycle.config import CrashPolicy, Kind
    from lifecycle.engine.pool import Pool
    from lifecycle.engine.vm import VM
    from lifecycle.engine.volume import Volume
    from lifecycle.errors import (
        InUse,
        InvalidConfig,
        InvalidName,
        InvalidPolicy,
        InvalidSize,
        LifecycleError,
        Locked,
        NoReflinks,
        NoSuchRevision,
        NoSuchVolume,
        NotAPool,
        NotASubscriber,
        PluginFailed,
        ReadOnlyPool,
        Refused,
        StorageFailed,
        Vetoed,
    )
    from lifecycle.model import Change, Revision
    from lifecycle.states import Event, State

__version__ = "0.1.0"

__all__ = [
    "VM",
    "Change",
    "CrashPolicy",
    "Event",
    "InUse",
    "InvalidConfig",
    "InvalidName",
    "InvalidPolicy",
    "InvalidSize",
    "Kind",
    "LifecycleError",
    "Locked",
    "NoReflinks",
    "NoSuchRevision",
    "NoSuchVolume",
    "NotAPool",
    "NotASubscriber",
    "PluginFailed",
    "Pool",
    "ReadOnlyPool",
    "Refused",
    "Revision",
    "State",
    "StorageFailed",
    "Vetoed",
    "Volume",
    "errors",
    "events",
    "policies",
]

_HOMES = {
    "model": ("Change", "Revision"),
    "config": ("CrashPolicy", "Kind"),
    "errors": (
        "InUse",
        "InvalidConfig",
        "InvalidName",
        "InvalidPolicy",
        "InvalidSize",
        "LifecycleError",
        "Locked",
        "NoReflinks",
        "NoSuchRevision",
        "NoSuchVolume",
        "NotAPool",
        "NotASubscriber",
        "PluginFailed",
        "ReadOnlyPool",
        "Refused",
        "StorageFailed",
        "Vetoed",
    ),
    "events": (),
    "policies": (),
    "engine.pool": ("Pool",),
    "states": ("Event", "State"),
    "engine.vm": ("VM",),
    "engine.volume": ("Volume",),
}
"""The modules that the public names come from. They are loaded when first asked for: a host's hook, which runs at each
step of each VM's life, mostly needs none of them."""


def __getattr__(name: str) -> object:
    """Load a public name."""
    for module, names in _HOMES.items():
        if name == module or name in names:
            found = import_module(f"lifecycle.{module}")
            value: object = found if name == module else getattr(found, name)
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names."""
    return [*__all__, "__version__"]
