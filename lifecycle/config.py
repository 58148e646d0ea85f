"""Settings: those of a pool (`pool.toml`) and of a volume, read, checked and written.

Everything is checked when it is read, since people edit files too. Bytes in, frozen values out, and back: the files
themselves are read and written elsewhere.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple, TypeVar

from lifecycle import ids
from lifecycle.errors import InvalidConfig, InvalidPolicy, InvalidSize, NewerFormat, shown
from lifecycle.sizes import parse_size

POOL_FILE = "pool.toml"
EMBEDDED = "pool.xfs"
"""The file of a pool that is embedded in one; it shows where that is not mounted."""
POOL_SIGNS = (POOL_FILE, EMBEDDED)
"""What makes a directory a pool's: one of these names is there, whatever it holds and whether it can be read or not."""
POOL_FORMAT = 1
DEFAULT_DRIVER = "reflink"
DEFAULT_KEEP = "last 5"


class CrashPolicy(StrEnum):
    """What becomes of a working image that a crash left over."""

    RESUME = "resume"
    """The next start uses it again."""
    COMMIT = "commit"
    """It is kept, as a revision marked `crash`."""
    REVERT = "revert"
    """It is thrown away."""


class Precache(StrEnum):
    """Whether a volume's next working image is made ahead."""

    AUTO = "auto"
    """Where a clone takes long enough: of an image in many pieces."""
    ALWAYS = "always"
    NEVER = "never"


class UnknownUse(StrEnum):
    """What is made of an image of which the kernel will not say whether anyone has it open."""

    REFUSE = "refuse"
    """It counts as used."""
    IGNORE = "ignore"
    """It counts as unused, if no process or loop device that can be seen has it."""


class Kind(StrEnum):
    """What a volume's two flags make of it."""

    PERSISTENT = "persistent"
    DISPOSABLE = "disposable"
    VOLATILE = "volatile"


# ---------------------------------------------------------------- a volume's configuration


class VolumeConfig(NamedTuple):
    """How a volume is set up.

    Attributes:
        size: bytes of the empty image it is born as; of a disposable, the least its working image gets
            (None: the size of its source). None in a volume found without a record.
        rw: whether the VM may write; a read-only volume never commits.
        save_on_stop: whether a stop keeps what was written.
        source: the id of the volume whose current image each start begins from.
        keep: the retention policy's line; None takes the pool's.
        on_crash: what becomes of a left-over working image; None takes the pool's.
        snapshots: whether a start makes a working image beside the current one. Without (for databases and the like,
            which suffer from copy-on-write) the current image itself is what the VM writes to, and no revisions are
            made by stops.
        precache: whether the next working image is made ahead; None takes the pool's.
        ready: how many working images are kept waiting for disposables that begin from it.
        owner: the user, or `USER:GROUP`, by name or number, to whom a start gives the working image, for a hypervisor
            that is not root; None takes the pool's.
    """

    size: int | None = None
    rw: bool = True
    save_on_stop: bool = True
    source: str | None = None
    keep: str | None = None
    on_crash: CrashPolicy | None = None
    snapshots: bool = True
    precache: Precache | None = None
    ready: int = 0
    owner: str | None = None

    @property
    def snap_on_start(self) -> bool:
        """Whether each start begins from a source."""
        return self.source is not None

    @property
    def kind(self) -> Kind:
        """Persistent, disposable or volatile."""
        if self.source is not None:
            return Kind.DISPOSABLE
        return Kind.PERSISTENT if self.save_on_stop else Kind.VOLATILE

    def crash_policy(self, of_pool: CrashPolicy) -> CrashPolicy:
        """Return the crash policy in force: its own or the pool's, but never to throw away where nothing can be."""
        policy = self.on_crash or of_pool
        can = self.snapshots or policy is not CrashPolicy.REVERT
        return policy if can else CrashPolicy.RESUME


_MOST_READY = 1000
DEFAULT_CONFIG = VolumeConfig()
"""What an image found without a record is taken for: persistent, writable, as its pool says for the rest."""


def check_config(where: str, config: VolumeConfig) -> VolumeConfig:
    """Return the configuration if it can be.

    Raises:
        InvalidConfig: save_on_stop together with a source.
        InvalidName: the source's is none.
    """
    if config.save_on_stop and config.source is not None:
        raise InvalidConfig(
            where,
            "a volume with a source begins each start from it, so what a stop saved would never be"
            " seen again; choose save_on_stop or a source, not both",
        )
    if config.source is not None:
        ids.split_id(config.source)
    if not 0 <= config.ready <= _MOST_READY:
        raise InvalidConfig(where, f"`ready` is a number from 0 to {_MOST_READY}")
    if config.ready and not (config.kind is Kind.PERSISTENT and config.snapshots):
        raise InvalidConfig(where, "`ready` is for a volume that disposables begin from")
    if not config.snapshots and config.kind is not Kind.PERSISTENT:
        raise InvalidConfig(
            where, f"a {config.kind} volume throws away what was written, which takes `snapshots`"
        )
    check_owner(where, config.owner)
    if not config.snapshots and config.on_crash is CrashPolicy.REVERT:
        raise InvalidConfig(
            where,
            "without `snapshots` there is nothing to go back to after a crash; `on_crash` is"
            " `resume` or `commit` then",
        )
    return config


def check_owner(where: str, owner: str | None) -> None:
    """Check that an owner is written as one; whether there is such a user is asked when an image is given to it.

    Raises:
        InvalidConfig: it is not.
    """
    if owner and not re.fullmatch(r"[^:\s]{1,100}(:[^:\s]{1,100})?", owner):
        raise InvalidConfig(where, f"`owner` is USER or USER:GROUP, not {shown(owner)}")
    # the number above these stands for none (chown(2))
    if any(int(one) > 2**32 - 2 for one in (owner or "").split(":") if one.isdecimal()):
        raise InvalidConfig(where, f"`owner` is {shown(owner)}, and numbers end at {2**32 - 2}")


def check_keep(line: str | None, zone: str = "UTC") -> None:
    """Check a retention policy that someone wants to set. One that is only read need not be there yet, or any more.

    Raises:
        InvalidPolicy: it is none, or names a term that no installed package offers.
        PluginFailed: a term of another package failed when it was tried.
    """
    if line is not None:
        from lifecycle import policies  # noqa: PLC0415 - most volumes take their pool's

        policies.check(line, zone)


def volume_config(where: str, **settings: Any) -> VolumeConfig:
    """Make a volume's configuration from single settings, each of the right type.

    Raises:
        InvalidConfig: one of them cannot be.
    """
    config = typed(where, VolumeConfig, settings)
    if config.size is not None:
        try:
            parse_size(config.size)
        except InvalidSize as error:
            raise InvalidConfig(where, f"`size` cannot be {shown(config.size)}") from error
    return config


def change_config(
    where: str, config: VolumeConfig, changes: Mapping[str, Any], zone: str = "UTC"
) -> VolumeConfig:
    """Return the configuration with some settings changed, checked.

    Args:
        where: the volume's id.
        config: how it is set up.
        changes: the new settings.
        zone: the time zone in which its pool counts days.

    Raises:
        InvalidConfig, InvalidPolicy, InvalidName, PluginFailed: one cannot be changed, or not to that.
    """
    unknown = [key for key in changes if key not in CHANGEABLE]
    if unknown:
        raise InvalidConfig(where, f"`{unknown[0]}` cannot be set; {', '.join(CHANGEABLE)} can")
    if changes.get("source") is not None and config.source is None:
        raise InvalidConfig(
            where,
            f"it is {config.kind}, and only a disposable has a source:"
            " `lifecycle create VM/NAME --source …` makes one",
        )
    after = check_config(where, volume_config(where, **{**config._asdict(), **changes}))
    check_keep(changes.get("keep"), zone)
    if after.kind is not config.kind:
        raise InvalidConfig(
            where, f"a {config.kind} volume cannot become {after.kind}; create a new one"
        )
    return after


CHANGEABLE = ("rw", "keep", "on_crash", "source", "snapshots", "precache", "ready", "owner")


# ---------------------------------------------------------------- pool.toml


class PoolConfig(NamedTuple):
    """A pool's settings.

    Attributes:
        driver: the backend's name.
        keep: the retention policy's line for volumes that have none of their own.
        on_crash: the crash policy for volumes that have none of their own.
        timezone: the IANA time zone in which retention counts days.
        setup_check: whether reflinks are required; without, clones become sparse copies.
        lock_timeout: seconds to wait for another process that works on the same VM.
        hook_timeout: seconds that a hook may take; then it is killed.
        reserve: what a start must leave free: a share of the pool (`5%`) or a size (`10G`); empty for nothing.
        prune_for_reserve: whether a start that would not may first remove revisions beyond what retention keeps, the
            oldest first, down to what is pinned or current.
        precache: whether the next working image is made ahead, for volumes that do not say.
        owner: to whom a start gives the working image, for volumes that do not say; empty for whoever starts it.
        unknown_use: what is made of an image of which the kernel will not say whether anyone has it open.
        retention: the subscriber that takes the place of the one that prunes after commits, by the name under which
            an installed package offers it; empty for none.
    """

    driver: str = DEFAULT_DRIVER
    keep: str = DEFAULT_KEEP
    on_crash: CrashPolicy = CrashPolicy.RESUME
    timezone: str = "UTC"
    setup_check: bool = True
    lock_timeout: float = 30.0
    hook_timeout: float = 30.0
    reserve: str = ""
    prune_for_reserve: bool = False
    precache: Precache = Precache.AUTO
    owner: str = ""
    unknown_use: UnknownUse = UnknownUse.REFUSE
    retention: str = ""

    def reserved(self, total: int) -> int:
        """Return the bytes of a pool of `total` bytes that a start must leave free."""
        if not self.reserve:
            return 0
        if self.reserve.endswith("%"):
            return int(total * float(self.reserve[:-1]) / 100)
        return parse_size(self.reserve)


_POOL_KEYS = ("format", *PoolConfig._fields, "revisions_to_keep")


def read_pool(where: str, content: bytes) -> PoolConfig:
    """Read a pool.toml.

    Raises:
        InvalidConfig: it cannot be understood, with the reason.
        NewerFormat: a newer version wrote it.
        InvalidPolicy: its `keep` is no policy.
    """
    try:
        table = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(where, f"is not TOML: {error}") from error
    check_format(where, table.get("format"), POOL_FORMAT)
    unknown = sorted(set(table) - set(_POOL_KEYS))
    if unknown:
        raise InvalidConfig(
            where, f"has an unknown key `{unknown[0]}`; known are {', '.join(_POOL_KEYS)}"
        )
    table.pop("format")
    _take_revisions_to_keep(where, table)
    return pool_config(where, **table)


def pool_config(where: str, **settings: Any) -> PoolConfig:
    """Make a pool's settings from single ones, checked.

    Raises:
        InvalidConfig, InvalidPolicy: one of them cannot be.
    """
    config = typed(where, PoolConfig, settings)
    from lifecycle import policies  # noqa: PLC0415 - keeps the modules' arrows pointing down

    try:
        policies.time_zone(config.timezone)
    except InvalidPolicy as error:
        raise InvalidConfig(where, f"`timezone`: {error.reason}") from error
    try:
        policies.parse(config.keep)
    except InvalidPolicy as error:
        raise InvalidPolicy(error.policy, f"{error.reason} (in {where})") from error
    if not 0 <= config.lock_timeout <= 86400:  # noqa: PLR2004 - a day
        raise InvalidConfig(where, "`lock_timeout` is a number of seconds from 0 to 86400")
    if not 0 < config.hook_timeout <= 86400:  # noqa: PLR2004 - a day
        raise InvalidConfig(where, "`hook_timeout` is a number of seconds above 0, up to 86400")
    _check_reserve(where, config)
    check_owner(where, config.owner)
    return config


def _check_reserve(where: str, config: PoolConfig) -> None:
    if not config.reserve or re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,3})?%", config.reserve, re.ASCII):
        return
    try:
        parse_size(config.reserve)
    except ValueError as error:
        raise InvalidConfig(
            where, "`reserve` is a share such as 5% or a size such as 10G"
        ) from error


def write_pool(config: PoolConfig) -> bytes:
    """Return the pool.toml for these settings; what is at its default is shown as a comment."""
    lines = [
        "# A pool of lifecycle's: each directory with volumes in it is a VM.",
        f"format = {POOL_FORMAT}",
    ]
    for name, default in PoolConfig._field_defaults.items():
        value = getattr(config, name)
        text = f"{name} = {_toml(value)}"
        always = name in {"driver", "keep"}
        lines.append(text if always or value != default else f"# {text}")
    return ("\n".join(lines) + "\n").encode()


def _toml(value: object) -> str:
    """Return the value as TOML: as JSON has it, but for one control character that TOML wants escaped."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _take_revisions_to_keep(where: str, table: dict[str, Any]) -> None:
    """Turn the short form `revisions_to_keep = N` into the policy it stands for."""
    if "revisions_to_keep" not in table:
        return
    if "keep" in table:
        raise InvalidConfig(where, "has both `keep` and `revisions_to_keep`; leave one of them")
    table["keep"] = last_n(where, table.pop("revisions_to_keep"))


def last_n(where: str, count: object) -> str:
    """Return the policy that `revisions_to_keep = count` is short for."""
    if isinstance(count, bool) or not isinstance(count, int) or not 0 <= count <= ids.MAX_NUMBER:
        raise InvalidConfig(where, "`revisions_to_keep` is a whole number, 0 or more")
    return f"last {count}"


# ---------------------------------------------------------------- checking


def check_format(where: str, found: object, known: int) -> None:
    """Check the format number of something written down; this version reads up to `known`.

    Raises:
        NewerFormat: a newer version wrote it. InvalidConfig: it is no such number.
    """
    if isinstance(found, bool) or not isinstance(found, int):
        raise InvalidConfig(where, "has no `format` number; it was not written by lifecycle")
    if found > known:
        raise NewerFormat(where, found, known)
    if found < 1:
        raise InvalidConfig(where, f"has an unknown format {found}")


_T = TypeVar("_T")
_TYPES: dict[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "float": (int, float),
    "None": (type(None),),
    "CrashPolicy": (str,),
    "Precache": (str,),
    "UnknownUse": (str,),
}
_CHOICES: dict[str, type[StrEnum]] = {
    "CrashPolicy": CrashPolicy,
    "Precache": Precache,
    "UnknownUse": UnknownUse,
}


def typed(where: str, cls: type[_T], settings: Mapping[str, Any]) -> _T:
    """Make a named tuple of this package from settings of unknown types.

    Raises:
        InvalidConfig: there is no such setting, or it cannot have that value.
    """
    # as they are written there, for a NamedTuple keeps the text
    fields = {name: one.__forward_arg__ for name, one in cls.__annotations__.items()}
    made = {}
    for key, value in settings.items():
        if key not in fields:
            raise InvalidConfig(where, f"has an unknown key `{shown(key)[1:-1]}`")
        wanted = [name.strip() for name in fields[key].split("|")]
        accepted = tuple(one for name in wanted for one in _TYPES[name])
        if not isinstance(value, accepted) or (isinstance(value, bool) and "bool" not in wanted):
            raise InvalidConfig(where, f"`{key}` cannot be {shown(value)}")
        for choices in wanted:
            if choices in _CHOICES and isinstance(value, str):
                value = _choice(where, key, _CHOICES[choices], value)  # noqa: PLW2901
        made[key] = value
    return cls(**made)


def crash_policy(where: str, value: str) -> CrashPolicy:
    """Return the crash policy of that name.

    Raises:
        InvalidConfig: there is none.
    """
    return _choice(where, "on_crash", CrashPolicy, value)


_E = TypeVar("_E", bound=StrEnum)


def _choice(where: str, key: str, choices: type[_E], value: str) -> _E:
    try:
        return choices(value)
    except ValueError as error:
        known = ", ".join(choices)
        raise InvalidConfig(where, f"`{key}` is one of {known}, not {shown(value)}") from error
