"""Whatever is read, nothing is raised but the errors that are documented; and what is written is read back."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from lifecycle import (
    CrashPolicy,
    InvalidConfig,
    InvalidName,
    InvalidPolicy,
    InvalidSize,
    config,
    ids,
    policies,
    times,
)
from lifecycle.cli import settings as settings_
from lifecycle.config import PoolConfig, UnknownUse, VolumeConfig
from lifecycle.model import Note
from lifecycle.reflink import names, record
from lifecycle.reflink.names import FileName, Kind
from lifecycle.reflink.record import Record
from lifecycle.sizes import MAX_SIZE, SECTOR, parse_size
from lifecycle.states import AT_REST

# the same examples on each run, on any machine
fuzz = settings(derandomize=True, database=None, deadline=None, max_examples=75)

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def pieces(*words: str) -> st.SearchStrategy[str]:
    """Return texts that are nearly right: a few of these words in any order, some with a stray text among them."""
    some = st.lists(st.sampled_from(words), min_size=1, max_size=4)
    stray = st.just("") | st.text(max_size=3)
    return st.tuples(some, stray, some).map(lambda parts: "".join([*parts[0], parts[1], *parts[2]]))


def _is_name(text: str) -> bool:
    try:
        ids.split_id(f"vm/{text}")
    except InvalidName:
        return False
    return "/" not in text


NAME_PIECES = (
    *("root", "private", "2", ".img", ".json", "-dirty", "-precache", "-import", ".", "-", "é"),
    *(" ", "@", "~", "e\u0301", "\n", "\0"),
)
NAMES = (pieces(*NAME_PIECES) | st.text(min_size=1, max_size=12)).filter(_is_name)
NUMBERS = st.integers(0, ids.MAX_NUMBER)
TIMES = st.integers(0, 253_402_300_799).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


# ---------------------------------------------------------------- names


@fuzz
@given(st.lists(NAMES | pieces(*NAME_PIECES) | st.text(), max_size=3).map("/".join))
def test_an_id_is_good_or_an_invalid_name(text: str) -> None:
    try:
        vm, name = ids.split_id(text)
    except InvalidName:
        return
    assert f"{vm}/{name}" == text
    ids.check_vm(vm)


@fuzz
@given(
    st.builds(
        "{}{}{}".format,
        st.text(max_size=3) | pieces(*NAME_PIECES),
        st.sampled_from([".img", "-dirty.img", ".json", ".img.3@", ".img.03@", ".img@", ".img~"]),
        st.sampled_from(["", "2026-01-02T03:04:05Z", "2026-02-30T03:04:05Z"]) | st.text(max_size=3),
    )
)
def test_a_files_name_is_a_volumes_or_a_strangers(text: str) -> None:
    parsed = names.parse_file(text)
    assert names.is_old_revision(text) in {True, False}
    if parsed is not None:
        assert text.startswith(parsed.volume)
        assert _is_name(parsed.volume)
        assert (parsed.kind == Kind.REVISION) is (parsed.number is not None)
    if parsed is not None and parsed.number is not None and parsed.at is not None:
        assert names.revision_file(parsed.volume, parsed.number, parsed.at) == text


@fuzz
@given(NAMES, NUMBERS, TIMES)
def test_a_revisions_file_is_read_back(volume: str, number: int, at: datetime) -> None:
    file = names.revision_file(volume, number, at)
    assert names.parse_file(file) == FileName(volume, Kind.REVISION, number, at)
    assert len(file.encode()) <= 255


ENDINGS = st.sampled_from(
    [Kind.CURRENT, Kind.WORKING, Kind.PRECACHE, Kind.IMPORT, Kind.RECORD]
) | st.builds(
    "{}~{}".format,
    st.sampled_from([Kind.CURRENT, Kind.WORKING, Kind.PRECACHE, Kind.IMPORT, Kind.RECORD]),
    pieces(*NAME_PIECES),
)


@fuzz
@given(NAMES, ENDINGS)
def test_a_file_belongs_to_the_one_volume_that_it_is_named_after(name: str, ending: str) -> None:
    # so no two volumes can claim one file
    parsed = names.parse_file(name + ending)
    assert parsed is not None
    assert parsed.volume == name
    assert parsed.kind == (Kind.LEFTOVER if "~" in ending else ending)


@fuzz
@given(
    st.from_regex(
        r"202[0-9]-[01][0-9]-[0-3][0-9]T[01][0-9]:[0-6][0-9]:[0-5][0-9]Z?", fullmatch=True
    )
    | st.text()
)
def test_a_time_is_one_or_none(text: str) -> None:
    found = times.parse_time(text)
    assert found is None or found.tzinfo is UTC


# ---------------------------------------------------------------- sizes


@fuzz
@given(
    pieces("10", "0", "512", ".", "-", "K", "g", "T", "E", "i", "B", " ")
    | st.text()
    | st.integers()
)
def test_a_size_is_a_number_of_sectors_or_an_invalid_size(written: str | int) -> None:
    try:
        size = parse_size(written)
    except InvalidSize:
        return
    assert 0 < size <= MAX_SIZE
    assert size % SECTOR == 0


@fuzz
@given(st.integers(1, MAX_SIZE // SECTOR))
def test_a_number_of_sectors_is_a_size_as_number_and_as_text(sectors: int) -> None:
    size = sectors * SECTOR
    assert parse_size(size) == parse_size(str(size)) == size


# ---------------------------------------------------------------- retention


@dataclass(frozen=True)
class Revision:
    number: int
    at: datetime
    pinned: bool
    current: bool
    needed: bool


HISTORIES = st.lists(
    st.builds(
        Revision,
        number=st.integers(1, 60),
        at=st.integers(-(10**8), 10**5).map(lambda seconds: AT + timedelta(seconds=seconds)),
        pinned=st.integers(0, 9).map(lambda one: one == 0),
        current=st.integers(0, 9).map(lambda one: one == 0),
        needed=st.integers(0, 9).map(lambda one: one == 0),
    ),
    unique_by=lambda revision: revision.number,
    max_size=30,
)
COUNTS = st.integers(0, 12)
TERMS = st.one_of(
    st.builds("{} {}".format, st.sampled_from(["last", *policies.PERIODS]), COUNTS),
    st.builds("{} {}".format, COUNTS, st.sampled_from(["last", *policies.PERIODS])),
    st.builds("within {}{}".format, COUNTS, st.sampled_from(["min", "h", "d", "w"])),
    st.just("all"),
)
LINES = st.lists(TERMS, min_size=1, max_size=4).map(", ".join)
ZONES = st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "Pacific/Apia"])


@fuzz
@given(
    st.lists(
        TERMS | st.sampled_from(["", "-", "last", "daily", "within", "2d", "5", "all 5", "9" * 30]),
        min_size=1,
        max_size=3,
    ).map(", ".join)
    | st.text()
)
def test_a_line_is_a_policy_or_an_invalid_one(line: str) -> None:
    try:
        policy = policies.parse(line)
    except InvalidPolicy:
        return
    assert policy.line == line
    assert len(policy.terms) == line.count(",") + 1


@fuzz
@given(ZONES | pieces("UTC", "Europe", "Europe/Berlin", "/", "..", "\0") | st.text())
def test_a_time_zone_is_one_or_an_invalid_policy(name: str) -> None:
    try:
        found = policies.time_zone(name)
    except InvalidPolicy:
        return
    assert str(found) == name


@fuzz
@given(LINES, HISTORIES, ZONES)
def test_a_plan_judges_each_revision_and_spares_the_protected(
    line: str, history: list[Revision], zone: str
) -> None:
    plan = policies.parse(line, zone).plan(history, AT)
    assert [one.number for one in plan.verdicts] == sorted(one.number for one in history)
    assert sorted(plan.keep + plan.remove) == sorted(one.number for one in history)
    assert all(one.reasons for one in plan.verdicts)
    for revision in history:
        if revision.pinned or revision.current or revision.needed or revision.at > AT:
            assert revision.number in plan.keep


@fuzz
@given(LINES, LINES, HISTORIES, ZONES)
def test_a_union_keeps_what_either_keeps(
    one: str, other: str, history: list[Revision], zone: str
) -> None:
    both = policies.parse(f"{one}, {other}", zone).plan(history, AT).keep
    apart = [policies.parse(line, zone).plan(history, AT).keep for line in (one, other)]
    assert set(both) == {*apart[0], *apart[1]}


@fuzz
@given(LINES, HISTORIES, ZONES)
def test_pruning_twice_is_pruning_once(line: str, history: list[Revision], zone: str) -> None:
    kept = policies.parse(line, zone).plan(history, AT).keep
    left = [revision for revision in history if revision.number in kept]
    assert policies.parse(line, zone).plan(left, AT).keep == kept


# ---------------------------------------------------------------- records


# not st.builds: of a NamedTuple it invents what has a default too
CONFIGS = st.fixed_dictionaries(
    {
        "size": st.none() | st.integers(1, MAX_SIZE // SECTOR).map(lambda count: count * SECTOR),
        "rw": st.booleans(),
        "save_on_stop": st.booleans(),
        "keep": st.none() | LINES,
        "on_crash": st.none() | st.sampled_from(CrashPolicy),
    }
).map(lambda settings: VolumeConfig(**settings)) | NAMES.map(
    lambda name: VolumeConfig(save_on_stop=False, source=f"vm/{name}")
)
NOTES = st.builds(
    Note,
    cause=st.none() | st.text(),
    pinned=st.booleans(),
    label=st.none() | st.text(),
)


@st.composite
def records(draw: st.DrawFn) -> Record:
    following = draw(st.integers(1, ids.MAX_NUMBER))
    return Record(
        config=draw(CONFIGS),
        current=draw(st.none() | st.integers(0, following - 1)),
        at=draw(st.none() | TIMES),
        next=following,
        rest=draw(st.sampled_from(AT_REST)),
        notes=draw(st.dictionaries(NUMBERS, NOTES, max_size=4)),
        begun=draw(st.none() | NUMBERS),
        sealed=draw(NUMBERS),
    )


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def read_record(content: bytes) -> Record | None:
    try:
        return record.read("vm/a.json", content)
    except InvalidConfig:
        return None


@fuzz
@given(records())
def test_a_record_is_read_back(written: Record) -> None:
    assert record.read("vm/a.json", record.write(written)) == written


@fuzz
@given(st.binary() | JSON.map(lambda document: json.dumps(document).encode()))
def test_nothing_else_is_a_record(content: bytes) -> None:
    assert read_record(content) is None


@fuzz
@given(records(), st.data())
def test_a_record_with_one_value_changed_is_one_or_an_invalid_one(
    written: Record, data: st.DataObject
) -> None:
    document = json.loads(record.write(written))
    inner = document
    while True:
        key = data.draw(st.sampled_from(sorted(inner)) | st.text(max_size=5))
        if not isinstance(inner.get(key), dict) or data.draw(st.booleans()):
            break
        inner = inner[key]
        if not inner:
            key = data.draw(st.text(max_size=5))
            break
    inner[key] = data.draw(JSON)
    found = read_record(json.dumps(document).encode())
    if found is not None:
        assert record.read("vm/a.json", record.write(found)) == found


@fuzz
@given(records(), st.data())
def test_a_record_with_bytes_changed_is_one_or_an_invalid_one(
    written: Record, data: st.DataObject
) -> None:
    content = record.write(written)
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, len(content)))
    found = read_record(content[:start] + data.draw(st.binary(max_size=6)) + content[end:])
    if found is not None:
        assert record.read("vm/a.json", record.write(found)) == found


# ---------------------------------------------------------------- settings


SETTINGS = {
    "driver": st.sampled_from(["reflink", "block-store"]),
    "keep": LINES,
    "on_crash": st.sampled_from(CrashPolicy),
    "timezone": ZONES,
    "setup_check": st.booleans(),
    "lock_timeout": st.integers(0, 86400) | st.floats(0, 86400),
    "hook_timeout": st.integers(1, 86400) | st.floats(0, 86400, exclude_min=True),
    "reserve": st.sampled_from(["", "5%", "12.5%", "512M", "10G"]),
    "prune_for_reserve": st.booleans(),
    "owner": st.sampled_from(["", "qemu", "64055:kvm"]),
    "unknown_use": st.sampled_from(UnknownUse),
    "retention": st.sampled_from(["", "numbers"]),
    "revisions_to_keep": st.integers(0, 10),
}
ANY_KEY = st.sampled_from(["format", *SETTINGS]) | st.text(alphabet="abc", max_size=3)
POOL_LINES = st.one_of(
    *(
        st.builds("{} = {}".format, st.just(key), good.map(json.dumps))
        for key, good in SETTINGS.items()
    ),
    st.builds("{} = {}".format, ANY_KEY, JSON.map(json.dumps) | st.text(max_size=10)),
)


@fuzz
@given(
    st.lists(POOL_LINES, max_size=3).map(lambda lines: "\n".join(["format = 1", *lines]).encode())
    | st.binary()
)
def test_a_pool_toml_is_read_and_written_again_or_refused(content: bytes) -> None:
    try:
        found = config.read_pool("pool.toml", content)
    except (InvalidConfig, InvalidPolicy):
        return
    assert config.read_pool("pool.toml", config.write_pool(found)) == found


@fuzz
@given(
    st.builds(
        PoolConfig,
        **{key: good for key, good in SETTINGS.items() if key != "revisions_to_keep"},
    )
)
def test_a_pools_settings_are_read_back(written: PoolConfig) -> None:
    assert config.read_pool("pool.toml", config.write_pool(written)) == written


@fuzz
@given(
    st.sampled_from(settings_.SETTABLE) | st.text(max_size=10),
    pieces("yes", "no", "last 5", "5", "-1", "commit") | st.text(),
)
def test_a_setting_is_read_or_refused(key: str, text: str) -> None:
    try:
        found = settings_.read_setting("vm/a", key, text)
    except InvalidConfig:
        return
    assert len(found) == 1


@fuzz
@given(st.dictionaries(st.sampled_from([*SETTINGS, "format"]), JSON, max_size=2))
def test_settings_of_any_type_are_taken_or_refused(given_settings: dict[str, Any]) -> None:
    try:
        found = config.typed("vm/a", PoolConfig, given_settings)
    except InvalidConfig:
        return
    assert all(getattr(found, key) == value for key, value in given_settings.items())
