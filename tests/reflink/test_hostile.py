"""What someone plants in a pool, or types: it is refused or does no harm, and never reaches outside.

Whatever lies under a volume's file names, each public call works or raises a `LifecycleError`; none waits; and nothing
outside the pool is changed or opened for writing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from freezegun import freeze_time
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle import InvalidName, LifecycleError, NotAPool, Pool, State, Volume, events
from lifecycle.backend_reflink import ReflinkBackend
from lifecycle.cli.app import COMMANDS, main
from lifecycle.linux.files import Directory
from lifecycle.report import documents
from support.command_line import SCRIPT
from support.disks import SIZE, cycle, disk, draw, read, seen
from support.mounts import FileSystem
from support.untouched_files import not_blocking, untouched

ID = "ci-42/root"
MADE = "2026-01-02T03:04:05Z"


@pytest.fixture
def outside(xfs: FileSystem) -> Path:
    """A directory that is no pool's, on the same file system, so that hard links to it can be made."""
    directory = xfs.new_directory()
    (directory / "file").write_bytes(disk(b"precious"))
    (directory / "empty").touch()
    (directory / "directory").mkdir()
    (directory / "directory" / "file").write_bytes(b"precious")
    return directory


@pytest.fixture
def pool(xfs: FileSystem) -> Pool:
    return Pool.create(xfs.new_directory(), keep="last 3")


# ---------------------------------------------------------------- planted files


def _socket(path: Path, _outside: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        here = os.open(path.parent, os.O_RDONLY)
        try:  # a socket's path is at most 107 bytes
            listening.bind(f"/proc/self/fd/{here}/{path.name}")
        finally:
            os.close(here)


PLANTS: dict[str, Callable[[Path, Path], object]] = {
    "symlink to a file": lambda path, outside: path.symlink_to(outside / "file"),
    "symlink to a directory": lambda path, outside: path.symlink_to(outside / "directory"),
    "symlink to nothing": lambda path, outside: path.symlink_to(outside / "new"),
    "pipe": lambda path, outside: os.mkfifo(path),
    "device": lambda path, outside: os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5)),
    "device of no driver": lambda path, outside: os.mknod(
        path, stat.S_IFBLK | 0o600, os.makedev(240, 1)
    ),
    "socket": _socket,
    "directory": lambda path, outside: shutil.copytree(outside / "directory", path),
    "hard link": lambda path, outside: os.link(outside / "file", path),
    "hard link to an empty file": lambda path, outside: os.link(outside / "empty", path),
}

ENDINGS = [
    ".img",
    "-dirty.img",
    ".json",
    f".img.1@{MADE}",
    f".img.0@{MADE}",
    f".img.7@{MADE}",
    "-precache.img",
    "-import.img",
    ".img~abcd1234",
    ".json~abcd1234",
]

LOOKS: dict[str, Callable[[Volume], object]] = {
    "look": Volume.look,
    "revisions": lambda volume: volume.revisions,
    "history": lambda volume: volume.history,
    "usage": lambda volume: volume.usage,
    "size": lambda volume: volume.size,
    "in_use_by": lambda volume: volume.in_use_by,
    "left_over": lambda volume: volume.left_over,
    "outdated": lambda volume: volume.outdated,
    "plan": Volume.plan,
    "export": lambda volume: exported(volume, None),
    "export 1": lambda volume: exported(volume, 1),
    "export 7": lambda volume: exported(volume, 7),
    "document": documents.of_volume,
    "pool": lambda volume: documents.of_pool(volume.pool),
    "list": lambda volume: volume.pool.volumes(),
    "list a VM": lambda volume: volume.pool.volumes(volume.vm),
    "verify": lambda volume: list(volume.pool.verify()),
    "verify a VM": lambda volume: list(volume.pool.verify(volume.vm)),
}
ACTS: dict[str, Callable[[Volume], object]] = {
    "settle": Volume.settle,
    "pin": lambda volume: volume.pin(1),
    "label": lambda volume: volume.label(1, "good"),
    "configure": lambda volume: volume.configure(keep="last 2"),
    "write": Volume.write,
    "checkpoint": Volume.checkpoint,
    "resize": lambda volume: volume.resize(3 * SIZE),
    "shrink": lambda volume: volume.resize(SIZE // 2, shrink=True),
    "clone": lambda volume: volume.pool.clone(volume, "ci-43/root"),
    "recover": lambda volume: volume.pool.recover(),
    "release": Volume.release,
    "commit": Volume.commit,
    "stop": Volume.stop,
    "prune": Volume.prune,
    "create": lambda volume: volume.pool.create_volume(volume.id, SIZE),
    "unpin": lambda volume: volume.unpin(1),
    "forget": lambda volume: volume.forget(1),
    "revert": Volume.revert,
    "revert to 0": lambda volume: volume.revert(0),
    "revert to 7": lambda volume: volume.revert(7),
    "import": lambda volume: volume.import_from(imported(volume)),
    "start": Volume.start,
    "discard": lambda volume: volume.stop(discard=True),
    "start all": lambda volume: volume.pool.vm(volume.vm).start(),
    "stop all": lambda volume: volume.pool.vm(volume.vm).stop(),
    "remove": Volume.remove,
    "create again": lambda volume: volume.pool.create_volume(volume.id, SIZE),
}


def exported(volume: Volume, number: int | None) -> bytes:
    with volume.export(number) as content:
        return read(content.fd)


def imported(volume: Volume) -> Path:
    path = Path(f"{volume.pool.path}.content")
    path.write_bytes(disk(b"content"))
    return path


def at_rest(pool: Pool) -> Volume:
    volume = pool.create_volume(ID, SIZE)
    with freeze_time(MADE):
        cycle(volume, b"one")
        cycle(volume, b"two")
    return volume


def dirty(pool: Pool) -> Volume:
    volume = at_rest(pool)
    volume.start()
    draw(volume, b"three")
    return volume


def plant(volume: Volume, ending: str, what: str, outside: Path) -> Path:
    """Put it where the volume's file of that name is, or would be."""
    path = Path(f"{volume.pool.path}/{volume.id}{ending}")
    path.unlink(missing_ok=True)
    PLANTS[what](path, outside)
    return path


def call_all(volume: Volume, calls: dict[str, Callable[[Volume], object]]) -> list[str]:
    """Call them all, one after the other, and return what raised anything but a `LifecycleError`."""
    wrong = []
    for name, call in calls.items():
        try:
            call(volume)
        except LifecycleError:
            continue
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            wrong.append(f"{name}: {error!r}")
    return wrong


@pytest.mark.parametrize("situation", [at_rest, dirty])
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("what", PLANTS)
def test_planted_files_do_no_harm(
    pool: Pool, outside: Path, what: str, ending: str, situation: Callable[[Pool], Volume]
) -> None:
    volume = situation(pool)
    plant(volume, ending, what, outside)
    with untouched(outside), not_blocking():
        assert call_all(volume, LOOKS) == []
        assert call_all(volume, ACTS) == []
        assert call_all(volume, LOOKS) == []


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("what", [what for what in PLANTS if what != "directory"])
def test_a_volume_is_removed_whatever_is_planted(
    pool: Pool, outside: Path, what: str, ending: str
) -> None:
    """Removing is the last resort; it takes names, never what they lead to, and no one's directory."""
    volume = at_rest(pool)
    plant(volume, ending, what, outside)
    with untouched(outside), not_blocking():
        if volume.state in {State.STARTED, State.DIRTY}:
            volume.stop(discard=True)
        volume.remove()
        assert ID not in pool
        again = pool.create_volume(ID, SIZE)
        assert (again.state, again.revisions) == (State.CREATED, ())


@pytest.mark.parametrize("act", ["stop", "commit", "resize", "shrink", "revert", "recover"])
def test_a_working_image_that_is_another_file_too_is_not_used(
    pool: Pool, outside: Path, act: str
) -> None:
    """It was not made by a start. What is done to it would be done to the foreign file."""
    volume = at_rest(pool)
    plant(volume, "-dirty.img", "hard link", outside)
    with untouched(outside):
        assert call_all(volume, {act: ACTS[act]}) == []
        assert seen(volume) == disk(b"two")


@pytest.mark.parametrize("what", PLANTS)
def test_a_planted_working_image_is_not_resized_through_a_source(
    pool: Pool, outside: Path, what: str
) -> None:
    """A disposable has no images of its own, but the same names."""
    cycle(pool.create_volume("templates/debian", SIZE), b"debian")
    volume = pool.create_volume(ID, source="templates/debian")
    plant(volume, "-dirty.img", what, outside)
    with untouched(outside), not_blocking():
        assert call_all(volume, LOOKS) == []
        assert call_all(volume, ACTS) == []


# ---------------------------------------------------------------- planted directories


@pytest.mark.parametrize("below", ["ci-42", "servers/ci-42"])
@pytest.mark.parametrize("what", [what for what in PLANTS if what != "directory"])
def test_a_vm_that_leads_outside_is_none(
    pool: Pool, xfs: FileSystem, what: str, below: str
) -> None:
    """Also where it leads to another pool's VM, with all its files."""
    elsewhere = Pool.create(xfs.new_directory())
    at_rest(elsewhere)
    outside = Path(elsewhere.path)
    (outside / "file").touch()
    (outside / "empty").touch()
    (outside / "directory").symlink_to("ci-42")
    Path(pool.path, below).parent.mkdir(exist_ok=True)
    PLANTS[what](Path(pool.path, below), outside)
    volume = Volume(pool, f"{below}/root")
    with untouched(outside), not_blocking():
        assert pool.volumes() == []
        assert call_all(volume, LOOKS) == []
        assert call_all(volume, ACTS) == []
        pool.recover(*pool.backend.vms())


def test_a_directory_above_a_vm_that_leads_outside(pool: Pool, xfs: FileSystem) -> None:
    elsewhere = Pool.create(xfs.new_directory())
    at_rest(elsewhere)
    outside = Path(elsewhere.path)
    Path(pool.path, "servers").symlink_to(outside)
    volume = Volume(pool, "servers/ci-42/root")
    with untouched(outside), not_blocking():
        assert pool.volumes() == []
        assert call_all(volume, LOOKS) == []
        assert call_all(volume, ACTS) == []


def _remove(volume: Volume) -> None:
    volume.remove()


def _create_another(volume: Volume) -> None:
    volume.pool.create_volume(f"{volume.vm}/other/data", SIZE)


EMPTYING: dict[str, tuple[Callable[[Volume], None], str, str]] = {
    "remove": (_remove, "remove", "web"),
    "a create that is vetoed": (_create_another, "create", "web/other"),
}
"""What removes directories that it leaves empty; the event before which the way is exchanged; where that leads."""


@pytest.mark.parametrize("what", EMPTYING)
def test_a_directory_that_a_link_leads_to_is_not_removed(
    pool: Pool, outside: Path, what: str
) -> None:
    """Someone who may write above a VM puts a link in the place of the way there, while root works."""
    act, event, empty = EMPTYING[what]
    volume = pool.create_volume("servers/web/root", SIZE)
    (outside / empty).mkdir(parents=True)

    def exchange(_pool: Pool, **_about: object) -> None:
        Path(pool.path, "servers").rename(Path(pool.path, "moved"))
        Path(pool.path, "servers").symlink_to(outside)
        if event == "create":
            raise ValueError("no more volumes")

    exchanged = events.EVENTS[event].announced.connected_to(exchange, sender=pool)
    with exchanged, untouched(outside), contextlib.suppress(LifecycleError):
        act(volume)
    assert (outside / empty).is_dir()


def test_only_a_directory_that_is_reached_without_a_link_is_removed(
    pool: Pool, outside: Path
) -> None:
    (outside / "empty directory").mkdir()
    Path(pool.path, "link").symlink_to(outside)
    Path(pool.path, "own", "empty").mkdir(parents=True)
    with Directory.open(pool.path) as root:
        for path in ("link/empty directory", "link", "own", "own/none", "none/none", "pool.toml"):
            assert not root.remove_directory(path)
        assert root.remove_directory("own/empty")
        assert root.remove_directory("own")
    assert (outside / "empty directory").is_dir()


def test_a_lock_is_of_the_directory_that_the_name_leads_to_without_a_link(
    pool: Pool, outside: Path
) -> None:
    at_rest(pool)
    backend = pool.backend
    assert isinstance(backend, ReflinkBackend)
    with backend.directory("ci-42") as locked:
        assert backend._is_still("ci-42", locked)
        Path(pool.path, "ci-42").rename(outside / "ci-42")
        Path(pool.path, "ci-42").symlink_to(outside / "ci-42")
        assert not backend._is_still("ci-42", locked)


@pytest.mark.parametrize("what", PLANTS)
def test_a_pool_file_that_is_none(xfs: FileSystem, outside: Path, what: str) -> None:
    directory = xfs.new_directory()
    PLANTS[what](directory / "pool.toml", outside)
    with untouched(outside), not_blocking():
        with pytest.raises(LifecycleError):
            Pool.open(directory)
        with pytest.raises(LifecycleError):
            Pool.create(directory)


@pytest.mark.parametrize("what", PLANTS)
def test_a_path_that_is_no_pool(xfs: FileSystem, outside: Path, what: str) -> None:
    path = xfs.new_directory() / "pool"
    PLANTS[what](path, outside)
    with untouched(outside), not_blocking(), pytest.raises(NotAPool):
        Pool.open(path)


# ---------------------------------------------------------------- records


def record(**changes: object) -> bytes:
    """Return a record that would do, but for these changes; None leaves one out."""
    document: dict[str, Any] = {
        "format": 1,
        "config": {"size": SIZE},
        "current": 2,
        "at": MADE,
        "next": 3,
        "rest": "committed",
        "begun": None,
        "sealed": 0,
        "notes": {},
    }
    return json.dumps(document | changes).encode()


UNREADABLE: dict[str, bytes] = {
    "empty": b"",
    "zeros": bytes(4096),
    "not UTF-8": record().replace(b"committed", b"commit\xfft"),
    "UTF-16": record().decode().encode("utf-16"),
    "cut off": record()[:-20],
    "too large": record() + b" " * (5 << 20),
    "deeply nested": b'{"format": 1, "config": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deeply nested objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "a list": b"[]",
    "null": b"null",
    "twice the same key": record().replace(b'"current": 2', b'"current": 2, "current": 1'),
    "a negative number": record(current=-1),
    "a huge number": record(next=10**30),
    "digits without end": record().replace(b'"next": 3', b'"next": ' + b"9" * 100_000),
    "a fraction": record(current=1.5),
    "not a number": record().replace(b'"current": 2', b'"current": NaN'),
    "infinite": record().replace(b'"next": 3', b'"next": Infinity'),
    "a number as text": record(current="2"),
    "a truth as number": record(current=True),
    "no next number": record(next=2),
    "a state that is no rest": record(rest="dirty"),
    "a state that is none": record(rest="??"),
    "a time that is none": record(at="2026-13-45T99:99:99Z"),
    "an unknown setting": record(config={"size": SIZE, "shell": "/bin/sh"}),
    "a negative size": record(config={"size": -512}),
    "a source that is no name": record(config={"save_on_stop": False, "source": "../../etc/x"}),
    "a source though it saves": record(config={"source": "templates/debian"}),
    "a note on no number": record(notes={"one": {}}),
    "a note on a negative number": record(notes={"-1": {}}),
    "a note that is none": record(notes={"1": []}),
    "an unknown note": record(notes={"1": {"colour": "red"}}),
    "format 0": record(format=0),
    "format as text": record(format="1"),
}


@pytest.mark.parametrize("lead_back", ["revert", "import"])
@pytest.mark.parametrize("what", UNREADABLE)
def test_a_record_that_cannot_be_read_is_no_dead_end(pool: Pool, what: str, lead_back: str) -> None:
    volume = at_rest(pool)
    Path(f"{pool.path}/{ID}.json").write_bytes(UNREADABLE[what])

    assert call_all(volume, LOOKS) == []
    assert volume.state is State.DAMAGED
    assert [one.path for one in pool.verify() if one.harmful] == [ID]
    if lead_back == "revert":
        volume.revert()
        assert (volume.state, seen(volume)) == (State.REVERTED, disk(b"two"))
    else:
        volume.import_from(imported(volume))
        assert (volume.state, seen(volume)) == (State.COMMITTED, disk(b"content"))
    assert disk(b"one") in [seen(volume, one.number) for one in volume.revisions]
    assert cycle(volume, b"next") > 2


@pytest.mark.parametrize("content", [b"{", record(format=2)], ids=["unreadable", "newer"])
@pytest.mark.parametrize("act", ["pin", "unpin", "label", "configure", "forget", "prune"])
def test_a_record_that_cannot_be_read_is_not_replaced_by_the_way(
    pool: Pool, content: bytes, act: str
) -> None:
    """Only what leads back may replace it, and keeps it beside."""
    volume = at_rest(pool)
    path = Path(f"{pool.path}/{ID}.json")
    path.write_bytes(content)
    assert call_all(volume, {act: ACTS[act]}) == []
    assert path.read_bytes() == content


STRANGE: dict[str, bytes] = {
    "itself as source": record(config={"save_on_stop": False, "source": ID}, current=None),
    "each other as source": record(
        config={"save_on_stop": False, "source": "ci-43/root"}, current=None
    ),
    "a source that is gone": record(
        config={"save_on_stop": False, "source": "gone/root"}, current=None
    ),
    "a current number that is on file": record(current=1),
    "a current number far ahead": record(current=10**8, next=10**8 + 1),
    "a next number at the end": record(next=10**9 - 1),
    "no current number": record(current=None),
    "a time before files": record(at="1970-01-01T00:00:00Z"),
    "a time after all": record(at="9999-12-31T23:59:59Z"),
    "a time in ancient days": record(at="0001-01-01T00:00:00Z"),
    "a label of many lines": record(notes={"1": {"label": "a\nb\x1b[31m"}}),
    "a label without end": record(notes={"1": {"label": "x" * 1_000_000}}),
    "a size beyond files": record(config={"size": 512 * 10**30}),
    "a policy that is gone": record(config={"size": SIZE, "keep": "moonphase 3"}),
    "sealed from the end": record(sealed=10**9 - 1),
    "a newer format": record(format=2),
}


@pytest.mark.parametrize("situation", [at_rest, dirty])
@pytest.mark.parametrize("what", STRANGE)
def test_a_strange_record_does_no_harm(
    pool: Pool, what: str, situation: Callable[[Pool], Volume]
) -> None:
    volume = situation(pool)
    Path(f"{pool.path}/{ID}.json").write_bytes(STRANGE[what])
    if what == "each other as source":
        other = Path(f"{pool.path}/ci-43/root.json")
        other.parent.mkdir()
        other.write_bytes(record(config={"save_on_stop": False, "source": ID}, current=None))
    with not_blocking():
        assert call_all(volume, LOOKS) == []
        assert call_all(volume, ACTS) == []


# ---------------------------------------------------------------- names

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


# ---------------------------------------------------------------- the command line

WORDS = [
    "",
    "-",
    "--",
    "-1",
    "0",
    "999999999999999999999999",
    "1e9",
    "nan",
    ID,
    "ci-42",
    "ci-42/",
    "/",
    "//",
    "../x",
    "ci-42/../ci-42/root",
    "ci-42/root.img",
    "ci-42/root-dirty",
    ".",
    "..",
    "~",
    "a" * 5000,
    "é/é",
    "e\u0301/x",
    "\udcff/\udcfe",
    "\u202e/x",
    "a\nb/c",
    "\x1b[31m/x",
    "keep=",
    "keep=last",
    "=",
    "rw=maybe",
    "revisions_to_keep=-1",
    "source=../x",
    "source=ci-42/root",
    "{root}",
    "%s%n",
    "$(id)",
    "new/root",
    "512",
    "9E",
    "99999999P",
    "--size",
    "--to",
    "empty",
    "--revision",
    "--keep",
    "--source",
    "--volatile",
    "--read-only",
    "--on-crash",
    "--json",
    "--force",
    "--discard",
    "--dry-run",
    "--shrink",
    "--format",
    "table",
    "--pool",
    "--help",
    "-v",
]
ALL_COMMANDS = [name for names in COMMANDS.values() for name in names]


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    command=st.sampled_from([*ALL_COMMANDS, "--version", "--json", ""]),
    words=st.lists(st.one_of(st.sampled_from(WORDS), any_text), max_size=5),
)
def test_the_command_line_never_shows_a_traceback(
    pool_of_commands: Pool, capfd: pytest.CaptureFixture[str], command: str, words: list[str]
) -> None:
    arguments = [command, *(word.replace("\0", "") for word in words)]
    arguments = [os.fsdecode(os.fsencode(word)) for word in arguments if can_be_given(word)]
    with not_blocking(), pytest.raises(SystemExit) as exited:
        main(arguments)
    out, err = capfd.readouterr()
    status = int(exited.value.code or 0)
    assert status in {0, 1, 2, 3} or command == "run"
    assert "Traceback" not in out + err
    if status in {2, 3}:
        assert err.startswith(("lifecycle: ", "Usage: "))


def can_be_given(word: str) -> bool:
    """Tell whether a process can be given this as an argument."""
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return False
    return True


@pytest.fixture(scope="module")
def pool_of_commands(
    mounted: Callable[[str], FileSystem],
) -> Any:
    """A pool with something in it, which the command line uses, in a directory where it may leave files."""
    here = mounted("xfs").new_directory()
    pool = Pool.create(here / "pool")
    at_rest(pool)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("LIFECYCLE_POOL", pool.path)
        yield pool


@pytest.mark.parametrize("command", ["pool", "list", "show", "verify", "log", "start", "export"])
@pytest.mark.parametrize("as_json", [False, True])
def test_names_that_are_no_text_are_shown_somehow(
    xfs: FileSystem, command: str, as_json: bool
) -> None:
    """A pool's path is the user's choice: bytes, not text."""
    path = os.fsencode(xfs.new_directory()) + b"/\xff\n"
    pool = Pool.create(os.fsdecode(path))
    at_rest(pool)
    Path(f"{pool.path}/ci-42/\udcfe").touch()
    words = {"show": [ID], "log": [ID], "start": [ID], "export": [ID, os.fsdecode(path) + ".out"]}
    done = subprocess.run(
        [SCRIPT, command, "--pool", path, *words.get(command, []), *["--json"] * as_json],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    if as_json:
        json.loads(done.stdout.decode(errors="surrogateescape"))
