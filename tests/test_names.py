"""Names of VMs, volumes and files, and times: what is refused, and what a file's name says."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle import InvalidName, LifecycleError, Pool, ids, times
from lifecycle.reflink import names
from lifecycle.reflink.names import FileName, Kind
from support.disks import cycle
from support.every_call import MADE
from support.mounts import FileSystem

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize(
    ("volume_id", "vm", "name"),
    [
        ("ci-42/root", "ci-42", "root"),
        ("appvms/work/private", "appvms/work", "private"),
        ("a/b/c/d/e/f", "a/b/c/d/e", "f"),
        ("vm/root.img", "vm", "root.img"),
        ("vm/v1.2..3", "vm", "v1.2..3"),
        ("vm/root-2", "vm", "root-2"),
        ("vm/dirty", "vm", "dirty"),
        ("vm/root_dirty", "vm", "root_dirty"),
        ("vm/root-dirty2", "vm", "root-dirty2"),
        ("vm/import-root", "vm", "import-root"),
        ("vm-dirty/root", "vm-dirty", "root"),  # a VM has no files of its own
        ("my vm/data disk", "my vm", "data disk"),
        ("Bär/größe", "Bär", "größe"),
        ("虚拟机/磁盘", "虚拟机", "磁盘"),
        ("vm/🦭", "vm", "🦭"),
        ("vm/a#b$c%d&e'f\"g\\h*i?j:k", "vm", "a#b$c%d&e'f\"g\\h*i?j:k"),
        ("vm/" + "x" * 190, "vm", "x" * 190),
        ("vm/" + "é" * 95, "vm", "é" * 95),
    ],
)
def test_a_good_id_is_taken_apart(volume_id: str, vm: str, name: str) -> None:
    assert ids.split_id(volume_id) == (vm, name)
    ids.check_vm(vm)


EMPTY_PART = "it has an empty part"
DOTS = "`.` or `..`"
START = "starts with `.` or `-`"
MARKS = "`@` and `~` mark revisions"
CONTROL = "a control character or one that cannot be shown"
SPACE = "starts or ends with a space"
COMPOSED = "(NFC)"
LONG = "is longer than"
ABSOLUTE = "it is an absolute path"
NO_STRING = "a name is a string"

BAD_PARTS = [
    (".", DOTS),
    ("..", DOTS),
    (".hidden", START),
    ("...", START),
    ("-rf", START),
    ("--help", START),
    ("root@2", MARKS),
    ("@", MARKS),
    ("root~", MARKS),
    ("~user", MARKS),
    ("a\0b", CONTROL),
    ("a\nb", CONTROL),
    ("a\tb", CONTROL),
    ("a\x1b[31mb", CONTROL),
    ("a\x7fb", CONTROL),
    ("a\x85b", CONTROL),
    ("a\u200bb", CONTROL),  # a space of no width
    ("a\u202eb", CONTROL),  # turns the direction of what follows
    ("a\u2028b", CONTROL),  # a line's end
    ("a\u2029b", CONTROL),  # a paragraph's end
    ("\ufeffa", CONTROL),
    ("a\ud800b", CONTROL),
    ("a\ue000b", CONTROL),
    (" a", SPACE),
    ("a ", SPACE),
    ("\u00a0a", SPACE),
    (" ", SPACE),
    ("e\u0301", COMPOSED),
    ("\u212b", COMPOSED),  # the Ångström sign
    ("x" * 191, LONG),
    ("é" * 96, LONG),
]


@pytest.mark.parametrize(("part", "complaint"), BAD_PARTS)
@pytest.mark.parametrize("pattern", ["vm/{}", "{}/root", "group/{}/root"])
def test_a_bad_part_is_refused_wherever_it_stands(pattern: str, part: str, complaint: str) -> None:
    volume_id = pattern.format(part)
    with pytest.raises(InvalidName) as caught:
        ids.split_id(volume_id)
    assert complaint in caught.value.reason
    assert caught.value.name in {volume_id, volume_id.rpartition("/")[0]}
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("volume_id", "complaint"),
    [
        ("", "it is empty"),
        ("root", "a volume's id is VM/NAME"),
        ("/", ABSOLUTE),
        ("/etc/passwd", ABSOLUTE),
        ("//vm/root", ABSOLUTE),
        ("vm/", EMPTY_PART),
        ("vm//root", EMPTY_PART),
        ("../root", DOTS),
        ("vm/../../etc/passwd", DOTS),
        ("./vm/root", DOTS),
        ("vm/root-dirty", "as another volume's file would"),
        ("vm/root-precache", "as another volume's file would"),
        ("vm/root-cow", "as another volume's file would"),
        ("vm/root-import", "as another volume's file would"),
        ("vm/-dirty", START),
        ("vm/root.img.3@2026-01-02T03:04:05Z", MARKS),
        ("vm/root.img~1a2b", MARKS),
        ("vm/" + "x" * 5000, LONG),
        ("x" * 5000 + "/root", LONG),
        ("a/" * 500 + "root", LONG),
        (None, NO_STRING),
        (5, NO_STRING),
        (b"vm/root", NO_STRING),
        (["vm", "root"], NO_STRING),
    ],
)
def test_a_bad_id_is_refused_with_the_reason(volume_id: object, complaint: str) -> None:
    with pytest.raises(InvalidName) as caught:
        ids.split_id(volume_id)
    assert complaint in caught.value.reason
    assert len(str(caught.value)) < 300


UNMARKED = [kind for kind in names._ENDINGS if "@" not in kind]


@pytest.mark.parametrize("part", [f"root{kind}" for kind in UNMARKED])
def test_a_vm_that_stands_where_a_volume_of_the_vm_above_has_a_file_is_refused(part: str) -> None:
    assert names.parse_file(part) is not None
    with pytest.raises(InvalidName):
        ids.split_id(f"ci/{part}/disk")


def test_the_longest_name_leaves_room_for_every_file_of_its_volume() -> None:
    name = "x" * 190
    ids.split_id(f"vm/{name}")
    longest = names.revision_file(name, ids.MAX_NUMBER, AT)
    assert len(longest) <= 255
    assert names.parse_file(longest) == FileName(name, Kind.REVISION, ids.MAX_NUMBER, AT)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("file", "parsed"),
    [
        ("root.img", FileName("root", Kind.CURRENT)),
        ("root-dirty.img", FileName("root", Kind.WORKING)),
        ("root-precache.img", FileName("root", Kind.PRECACHE)),
        ("root-import.img", FileName("root", Kind.IMPORT)),
        ("root-cow.img", FileName("root", Kind.COW)),
        ("root.json", FileName("root", Kind.RECORD)),
        ("root.img.3@2026-01-02T03:04:05Z", FileName("root", Kind.REVISION, 3, AT)),
        ("root.img.0@2026-01-02T03:04:05Z", FileName("root", Kind.REVISION, 0, AT)),
        ("root.img.999999999@2026-01-02T03:04:05Z", FileName("root", Kind.REVISION, 10**9 - 1, AT)),
        ("root.img~1a2b3c4d", FileName("root", Kind.LEFTOVER)),
        ("root.img~~", FileName("root", Kind.LEFTOVER)),
        ("root.json~1a2b3c4d", FileName("root", Kind.LEFTOVER)),
        ("root-dirty.img~1a2b3c4d", FileName("root", Kind.LEFTOVER)),
        ("root-precache.img~1a2b3c4d", FileName("root", Kind.LEFTOVER)),
        ("root-import.img~1a2b3c4d", FileName("root", Kind.LEFTOVER)),
        # strangers that begin alike
        ("private.img", FileName("private", Kind.CURRENT)),
        ("private2.img", FileName("private2", Kind.CURRENT)),
        ("private-2.img", FileName("private-2", Kind.CURRENT)),
        ("private.2.img", FileName("private.2", Kind.CURRENT)),
        ("private-dirty2.img", FileName("private-dirty2", Kind.CURRENT)),
        # names that look like endings
        ("root.img.img", FileName("root.img", Kind.CURRENT)),
        ("root.img-dirty.img", FileName("root.img", Kind.WORKING)),
        ("root.img.json", FileName("root.img", Kind.RECORD)),
        ("root.json.img", FileName("root.json", Kind.CURRENT)),
        ("root.img.img.3@2026-01-02T03:04:05Z", FileName("root.img", Kind.REVISION, 3, AT)),
        ("root-dirty.img.img", FileName("root-dirty.img", Kind.CURRENT)),
        ("dirty.img", FileName("dirty", Kind.CURRENT)),
        ("img.img", FileName("img", Kind.CURRENT)),
        ("data disk.img", FileName("data disk", Kind.CURRENT)),
        ("größe.img", FileName("größe", Kind.CURRENT)),
    ],
)
def test_a_file_of_a_volume_is_known_by_its_whole_name(file: str, parsed: FileName) -> None:
    assert names.parse_file(file) == parsed
    assert names.revision_number(file, len(parsed.volume)) == parsed.number
    assert names.kind_of(file, parsed.volume) == parsed.kind
    assert names.kind_of(file, parsed.volume[:-1]) is None


@pytest.mark.parametrize(
    "file",
    [
        "",
        ".",
        "..",
        ".img",
        ".json",
        "-dirty.img",
        "root",
        "root.qcow2",
        "root.IMG",
        "root.img ",
        "root.img\n",
        "root.img.",
        "root.img.bak",
        "root.jsonl",
        ".root.img",
        "-root.img",
        " root.img",
        "ro\not.img",
        "ro\ud800ot.img",
        "e\u0301.img",
        "x" * 191 + ".img",
        # people's backups, and other tools' leftovers
        "root.img~",
        "root.json~",
        "root-dirty.img~",
        "root.img.3@2026-01-02T03:04:05Z~",
        "root.img.3@2026-01-02T03:04:05Z~1a2b",
        "root.img.before-upgrade@2026-01-02T03:04:05Z",
        "root.img.3",
        "root.img@2018-01-02T03:04:05Z",
        # numbers that we do not write
        "root.img.@2026-01-02T03:04:05Z",
        "root.img.03@2026-01-02T03:04:05Z",
        "root.img.00@2026-01-02T03:04:05Z",
        "root.img.-3@2026-01-02T03:04:05Z",
        "root.img.+3@2026-01-02T03:04:05Z",
        "root.img.3.0@2026-01-02T03:04:05Z",
        "root.img.٣@2026-01-02T03:04:05Z",
        "root.img.1000000000@2026-01-02T03:04:05Z",
        # times that we do not write, and that there are not
        "root.img.3@",
        "root.img.3@2026-01-02",
        "root.img.3@2026-01-02T03:04:05",
        "root.img.3@2026-01-02T03:04:05+00:00",
        "root.img.3@2026-01-02T03:04:05.5Z",
        "root.img.3@2026-1-2T3:4:5Z",
        "root.img.3@2026-01-02t03:04:05z",
        "root.img.3@2026-02-30T03:04:05Z",
        "root.img.3@2026-13-01T03:04:05Z",
        "root.img.3@2026-01-02T24:00:00Z",
        "root.img.3@2026-01-02T03:04:60Z",
        "root.img.3@0000-01-02T03:04:05Z",
        "root.img.3@2026-01-02T03:04:05Z\n",
        "root.img.3@@2026-01-02T03:04:05Z",
        # files of a volume that cannot be
        "root-dirty-dirty.img",
        "root-import-dirty.img",
        "root-dirty.json",
        "a@b.img",
        "a~b.img",
        "root-dirty.img.3@2026-01-02T03:04:05Z",
    ],
)
def test_a_strange_file_is_no_volumes(file: str) -> None:
    assert names.parse_file(file) is None
    assert names.revision_number(file, len("root")) is None
    assert names.kind_of(file, "root") is None


@pytest.mark.parametrize(
    ("file", "old"),
    [
        ("root.img@2018-01-02T03:04:05Z", True),
        ("root.img@2018-01-02T03:04:05", True),
        ("root.img@2018-01-02", False),
        ("root.img.3@2018-01-02T03:04:05Z", False),
        ("root.img@before-upgrade", False),
        ("root.img@2018-01-02T03:04:05Z~", False),
        ("root.img@2018-01-02T03:04:05Z\n", False),
        ("root.img", False),
        (".img@2018-01-02T03:04:05Z", False),
    ],
)
def test_revisions_of_the_older_naming_are_known_as_such(file: str, *, old: bool) -> None:
    assert names.is_old_revision(file) is old


# ---------------------------------------------------------------- times


def test_a_revisions_file_bears_its_time_in_utc_whatever_the_zone() -> None:
    berlin = AT.astimezone(timezone(timedelta(hours=1)))
    assert names.revision_file("root", 3, AT) == "root.img.3@2026-01-02T03:04:05Z"
    assert names.revision_file("root", 3, berlin) == names.revision_file("root", 3, AT)


@pytest.mark.parametrize(
    "text",
    [
        "1970-01-01T00:00:00Z",
        "2024-02-29T23:59:59Z",
        "2038-01-19T03:14:08Z",
        "9999-12-31T23:59:59Z",
    ],
)
def test_a_time_is_read_as_it_was_written(text: str) -> None:
    found = times.parse_time(text)
    assert found is not None
    assert found.tzinfo is UTC
    assert times.format_time(found) == text


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00Z", "0999-12-31T23:59:59Z"])
def test_a_time_that_is_read_can_be_written(text: str) -> None:
    found = times.parse_time(text)
    assert found is None or times.format_time(found) == text


def test_now_is_utc_to_the_second() -> None:
    with freeze_time("2026-01-02 04:04:05.999999+01:00"):
        assert times.now() == AT
        assert times.now().tzinfo is UTC


# ---------------------------------------------------------------- of volumes in a pool

any_text = st.text(st.characters(exclude_categories=()), max_size=12)
"""Of all code points, those that are no characters too."""
near_names = st.text(st.sampled_from("aé.-~@ /\\\0\n\u202eimgjson%01Å"), max_size=14)
suffixes = st.sampled_from(["", "", "-dirty", "-import", ".img", ".json", f".img.1@{MADE}"])
parts = st.builds("{}{}".format, st.one_of(any_text, near_names), suffixes)


@pytest.fixture(scope="module")
def pool_of_names(mounted: Callable[[str], FileSystem]) -> Pool:
    return Pool.create(mounted("xfs").new_directory())


@settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(vm=parts, name=parts)
def test_a_name_is_kept_exactly_or_refused(pool_of_names: Pool, vm: str, name: str) -> None:
    pool, volume_id = pool_of_names, f"{vm}/{name}"
    try:
        volume = pool.create_volume(volume_id, 512)
    except InvalidName:
        assert volume_id not in pool
        assert os.listdir(pool.path) == ["pool.toml"]
        return
    assert [one.id for one in pool] == [volume_id]
    assert [one.id for one in pool.volumes(volume.vm)] == [volume_id]
    cycle(volume, b"one")
    assert [one.id for one in pool] == [volume_id]
    assert list(pool.verify()) == []
    volume.remove()
    assert os.listdir(pool.path) == ["pool.toml"]


@given(value=st.one_of(st.none(), st.integers(), st.binary(), st.lists(st.text()), any_text))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_what_is_no_name_is_refused(pool_of_names: Pool, value: Any) -> None:
    for ask in (pool_of_names.__getitem__, pool_of_names.vm, pool_of_names.volumes):
        if ask == pool_of_names.volumes and value is None:
            continue  # all volumes
        try:
            ask(value)
        except LifecycleError:
            continue
