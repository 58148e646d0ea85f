"""A volume's record (`NAME.json`): what the images cannot say of themselves.

How it is set up, which number the current image has and the next one gets, the label of the state it rests in, and
notes on single images. The record explains and the images decide (reflink/scan.py), so it is written after them. It is
checked through and through when it is read, since crashes and people edit files too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, NamedTuple

from lifecycle import ids, times
from lifecycle.config import (
    DEFAULT_CONFIG,
    VolumeConfig,
    check_config,
    check_format,
    typed,
    volume_config,
)
from lifecycle.errors import InvalidConfig, LifecycleError, Unsupported, shown
from lifecycle.model import PLAIN, Note
from lifecycle.reflink import seals
from lifecycle.states import AT_REST, State

FORMAT = 1
MAX_BYTES = 4 * 1024 * 1024
"""Bytes. A record is a few hundred; one larger than this is none of ours."""


class Record(NamedTuple):
    """A volume's record.

    Attributes:
        config: how it is set up.
        current: the number of the current image; None of a disposable, which has none.
        at: when the current image was made (UTC); None if not known.
        next: the next number to give.
        rest: the label of the state it rests in.
        notes: what is known of images, by number.
        sealed: the lowest number whose image bears its seal (reflink/scan.py); those before were made by others.
        begun: the source's number that the working image of a disposable was made from.
        stamp: the second of the current image's seal (reflink/seals.py); None if it is that of `at`.
    """

    config: VolumeConfig = DEFAULT_CONFIG
    current: int | None = None
    at: datetime | None = None
    next: int = 1
    rest: State = State.CREATED
    notes: Mapping[int, Note] = MappingProxyType({})
    begun: int | None = None
    sealed: int = 0
    stamp: int | None = None

    @property
    def second(self) -> int:
        """The second of the current image's seal, since 1970; 0 if not known."""
        if self.stamp is not None:
            return self.stamp
        return 0 if self.at is None else seals.second_of(self.at)

    def note(self, number: int) -> Note:
        """Return what is known of the image of that number."""
        return self.notes.get(number, PLAIN)

    def with_note(self, number: int, note: Note) -> Record:
        """Return the record with this note; a plain one is left out."""
        notes = {**self.notes, number: note}
        if note == PLAIN:
            del notes[number]
        return self._replace(notes=MappingProxyType(notes))

    def with_notes_on(self, numbers: Collection[int | None], above: int) -> Record:
        """Return the record with the notes on these numbers, and on those from `above` on; others are gone."""
        kept = {
            number: note
            for number, note in self.notes.items()
            if number in numbers or number >= above
        }
        return self._replace(notes=MappingProxyType(kept))


def write(record: Record, volume_id: str = "a volume") -> bytes:
    """Return the record as its file holds it (JSON).

    It is read back at once, so that nothing is ever written that could not be read; and who reads it next finds it
    read already.

    Args:
        record: the record.
        volume_id: whose it is, for messages.

    Raises:
        Unsupported: it could not be: there are too many notes, say.
    """
    content = _written(record)
    try:
        is_the_same = read(volume_id, content) == record
        reason = "it would not be read as what it is"
    except InvalidConfig as error:
        is_the_same, reason = False, error.reason
    if len(content) > MAX_BYTES:
        reason = f"it would take more than {MAX_BYTES} bytes; take labels away, or forget revisions"
    elif is_the_same:
        return content
    raise Unsupported(f"the record of {volume_id} cannot be written: {reason.rstrip('.')}.")


def _written(record: Record) -> bytes:
    document = {
        "format": FORMAT,
        "config": _without_defaults(record.config, DEFAULT_CONFIG),
        "current": record.current,
        "at": times.format_time(record.at) if record.at else None,
        "next": record.next,
        "rest": record.rest,
        "begun": record.begun,
        "sealed": record.sealed,
        "stamp": record.stamp,
        "notes": {
            str(number): _without_defaults(note, PLAIN)
            for number, note in sorted(record.notes.items())
        },
    }
    lines = ",\n".join(f' "{key}": {_json(value)}' for key, value in document.items())
    return f"{{\n{lines}\n}}\n".encode()


def _json(value: object) -> str:
    # each stop waits for this, and for most of a record an encoder takes longer than all else
    if value is None:
        return "null"
    return str(value) if type(value) is int else json.dumps(value)


def read(where: str, content: bytes) -> Record:
    """Read a record. The same content is the same record, so those met last are kept.

    Raises:
        InvalidConfig: it cannot be understood, with the reason.
        NewerFormat: a newer version wrote it.
    """
    known = _KNOWN.get(content)
    if known is not None:
        return known
    record = _read(where, content)
    if len(content) <= _USUAL:
        if len(_KNOWN) >= _MANY_KNOWN:
            _KNOWN.clear()
        _KNOWN[content] = record
    return record


_KNOWN: dict[bytes, Record] = {}
_MANY_KNOWN = 1_000
_USUAL = 1_000
"""Bytes. So all that are kept take a few megabytes at most."""


def _read(where: str, content: bytes) -> Record:
    try:
        document = _DECODER.decode(content.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(where, f"is not a record: {error}") from error
    if not isinstance(document, dict):
        raise InvalidConfig(where, "is not a record: it is not a JSON object")
    check_format(where, document.get("format"), FORMAT)
    try:
        return _record(where, document)
    except (LifecycleError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise InvalidConfig(where, f"is not a record: {error}") from error


def _record(where: str, document: dict[str, Any]) -> Record:
    config = _config(where, _mapping(document["config"]))
    current = document["current"]
    if current is not None:
        current = _number(current)
    begun = document.get("begun")
    rest = State(document["rest"])
    if rest not in AT_REST:
        raise ValueError(f"a volume does not rest in {rest}")
    at = document.get("at")
    moment = times.parse_time(at) if at is not None else None
    if at is not None and moment is None:
        raise ValueError(f"{at!r} is not a time")
    following = _number(document["next"], ids.MAX_NUMBER + 1)
    if current is not None and following <= current:
        raise ValueError("the next number is not above the current one")
    return Record(
        config=config,
        current=current,
        at=moment,
        next=following,
        rest=rest,
        notes=MappingProxyType(
            {
                _key(number): typed(where, Note, _mapping(note))
                for number, note in _mapping(document.get("notes", {})).items()
            }
        ),
        begun=None if begun is None else _number(begun),
        sealed=_number(document.get("sealed", 0), ids.MAX_NUMBER + 1),
        stamp=_stamp(document.get("stamp")),
    )


def _config(where: str, settings: dict[str, Any]) -> VolumeConfig:
    """Return the configuration, checked. Most volumes have one of a few, so those met are kept."""
    key = (*settings.items(), *map(type, settings.values()))  # for 1 equals True
    with contextlib.suppress(
        KeyError, TypeError
    ):  # not met yet, or a value that no setting can have
        return _CONFIGS[key]
    config = check_config(where, volume_config(where, **settings))
    if len(_CONFIGS) >= _MANY_CONFIGS:
        _CONFIGS.clear()
    _CONFIGS[key] = config
    return config


_CONFIGS: dict[tuple[object, ...], VolumeConfig] = {}
_MANY_CONFIGS = 10_000


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is there twice")
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_keys)


def _mapping(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise TypeError(f"{type(found).__name__} where an object belongs")
    return found


def _key(text: str) -> int:
    """Return the number that a note is on, from the one way to write it."""
    if not text.isascii() or not text.isdecimal() or str(int(text)) != text:
        raise ValueError(f"{shown(text)} is not the number of a revision")
    return _number(int(text))


def _number(found: Any, highest: int = ids.MAX_NUMBER) -> int:
    if isinstance(found, bool) or not isinstance(found, int):
        raise TypeError(f"{shown(found)} is not a number")
    if not 0 <= found <= highest:
        raise ValueError(f"{shown(found)} is not the number of a revision")
    return found


def _stamp(found: Any) -> int | None:
    return None if found is None else _number(found, seals.LAST_SECOND)


def _without_defaults(value: Any, default: Any) -> dict[str, Any]:
    found: dict[str, Any] = value._asdict()
    return {name: one for name, one in found.items() if one != getattr(default, name)}
