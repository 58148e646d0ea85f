"""The house stays in order: imports point down, in no circle; only `linux/` speaks to the kernel; a start loads little.

The floors, what counts as an import and what a start loads are in docs/rooms.py. What breaks a rule today stands in a
table beside the rule, whole: whoever mends it has to take it from the table, and nothing new may be put there.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import rooms
import rooms_picture
import write_architecture
from rooms import DOOR, FLOORS, LOADED_BY_START, LOADED_BY_STOP_TOO, PACKAGE, When, room_of

from lifecycle import Pool
from support.disks import SIZE, cycle, draw, numbers
from support.mounts import FileSystem

IMPORTS = rooms.imports()

# ---------------------------------------------------------------- floors


def test_every_module_has_its_room_and_every_room_its_floor() -> None:
    listed = [room for floor in FLOORS for room in floor]
    assert len(listed) == len(set(listed))
    assert set(listed) == {room_of(one) for one in rooms.modules() if one != DOOR}


def test_imports_point_down() -> None:
    assert [f"{one.importer} imports {one.imported}" for one in rooms.upward(IMPORTS)] == []


def test_there_is_no_circle_among_rooms() -> None:
    assert rooms.circles(rooms.between_rooms(IMPORTS)) == []


def test_there_is_no_circle_among_modules_when_they_are_loaded() -> None:
    """Inside a room, two modules may name each other's types, or import each other when a function is called."""
    assert rooms.circles(rooms.between_modules(IMPORTS, When.LOADED)) == []


def test_imports_of_each_kind_are_found() -> None:
    """So that the tests above cannot pass because nothing was read."""
    assert len(IMPORTS) > 300
    assert {one.when for one in IMPORTS} == set(When)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from lifecycle.engine.pool import Pool", ("engine.pool", When.LOADED)),
        ("from lifecycle.engine import pool", ("engine.pool", When.LOADED)),
        ("from lifecycle import errors", ("errors", When.LOADED)),
        ("from lifecycle import Pool", (DOOR, When.LOADED)),
        ("from lifecycle import __version__", None),
        ("import lifecycle.engine.pool as here", ("engine.pool", When.LOADED)),
        ("import lifecycle", (DOOR, When.LOADED)),
        ("from .pool import Pool", ("engine.pool", When.LOADED)),
        ("from ..errors import Refused", ("errors", When.LOADED)),
        ("from .. import errors", ("errors", When.LOADED)),
        ("try:\n    import lifecycle.errors\nfinally:\n    pass", ("errors", When.LOADED)),
        ("class A:\n    import lifecycle.errors", ("errors", When.LOADED)),
        ("def f():\n    import lifecycle.errors", ("errors", When.CALLED)),
        ("if TYPE_CHECKING:\n    import lifecycle.errors", ("errors", When.TYPES)),
        (
            "if TYPE_CHECKING:\n    pass\nelse:\n    import lifecycle.errors",
            ("errors", When.LOADED),
        ),
        ("import os", None),
    ],
)
def test_what_counts_as_an_import(
    text: str, found: tuple[str, When] | None, tmp_path: Path
) -> None:
    package = tmp_path / "lifecycle"
    (package / "engine").mkdir(parents=True)
    for name in ("__init__", "errors", "engine/__init__", "engine/pool"):
        (package / f"{name}.py").touch()
    (package / "engine" / "here.py").write_text(text)
    assert [(one.imported, one.when) for one in rooms.imports(package)] == [found][: bool(found)]


def test_circles_and_floors_of_arrows() -> None:
    arrows = {("a", "b"), ("b", "c"), ("c", "b"), ("a", "d"), ("c", "d")}
    assert rooms.circles(arrows) == [{"b", "c"}]
    assert rooms.height(arrows) == 3
    assert rooms.reduced({("a", "b"), ("b", "c"), ("a", "c")}) == {("a", "b"), ("b", "c")}


# ---------------------------------------------------------------- the page and the picture


def test_the_page_s_table_of_rooms_is_fresh() -> None:
    with open(write_architecture.PAGE, encoding="utf-8") as page:
        assert page.read() == write_architecture.page(), "run `make docs`"


def test_the_table_has_every_module() -> None:
    rows = "".join(write_architecture.rows())
    for name, path in rooms.modules().items():
        shown = f"{path.relative_to(PACKAGE)}".removesuffix("__init__.py")
        assert name == DOOR or rows.count(f"[`{shown}`]") == 1


def test_every_module_says_in_its_first_line_what_it_is() -> None:
    said = {name: write_architecture.first_line(path) for name, path in rooms.modules().items()}
    assert {name: text for name, text in said.items() if len(text) > 110 or text[-1] != "."} == {}


def test_the_picture_is_fresh() -> None:
    with open(rooms_picture.PICTURE, encoding="utf-8") as picture:
        assert picture.read() == rooms_picture.svg(), "run `make diagrams`"


def test_the_picture_has_every_room_and_no_arrow_runs_over_one() -> None:
    picture = rooms_picture.svg()
    boxes = re.findall(
        r'<rect class="box" x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)" .*?>(\w+)</text>',
        picture,
    )
    assert {one[-1] for one in boxes} == {room for floor in FLOORS for room in floor}
    passing = re.findall(r"(\d+) (\d+)V(\d+)", picture)
    assert passing
    for left, top, width, _height, name in boxes:
        beside = [int(x) for x, y, _end in passing if y == top]
        assert [x for x in beside if -8 < x - int(left) < int(width) + 8] == [], name


# ---------------------------------------------------------------- backends

ENTRIES = {"reflink": {"backend_reflink", "adopt"}, "directory": set[str]()}
"""The folder of each backend, with the rooms beside it that lead into it, where its entry point is not in the folder.

The reflink backend has two: volumes come by `backend_reflink`, trees of images that others made by `adopt`.
"""


def test_a_backend_s_folder_is_imported_by_its_entries_alone() -> None:
    reached = {
        f"{one.importer} imports {one.imported}"
        for one in IMPORTS
        for folder, entries in ENTRIES.items()
        if room_of(one.imported) == folder and room_of(one.importer) not in {folder, *entries}
    }
    assert reached == set()


def test_a_backend_s_entry_point_is_found_by_its_name_and_imported_by_no_other_room() -> None:
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
    named = project["entry-points"]["lifecycle.backends"]["directory"]
    entries = {
        "backend_reflink": "reflink",
        named.partition(":")[0].removeprefix("lifecycle."): "directory",
    }
    assert set(entries) <= set(rooms.modules())
    folders = [(one, entries[one.imported]) for one in IMPORTS if one.imported in entries]
    assert [str(one) for one, folder in folders if room_of(one.importer) != folder] == []


# ---------------------------------------------------------------- the kernel

OF_THE_KERNEL = {
    *("ctypes", "fcntl", "glob", "mmap", "pathlib", "pty", "select", "selectors", "shutil"),
    *("socket", "tempfile", "termios"),
}
"""Modules that open descriptors, or act on them or on files."""
ASKS_NOTHING = {
    *("environ", "fsdecode", "fsencode", "fspath", "major", "minor", "path", "strerror"),
    *("getegid", "geteuid", "getpid", "register_at_fork", "urandom", "waitstatus_to_exitcode"),
    *("defpath", "devnull", "DirEntry", "PathLike", "sched_param", "stat_result"),
}
"""What may be had of `os` anywhere: it reckons, or speaks of this process alone. Constants may be had too."""
ASKED_YET = {
    "asks and closes a descriptor that linux/ opened": {
        "adopt.tree": "os.access os.close os.fstat os.statvfs",
        "backend_reflink": "os.close os.fstat",
        "directory.backend": "os.access os.close os.statvfs",
        "directory.verify": "os.close os.fstat",
        "reflink.cloning": "os.close os.readlink",
        "reflink.images": "os.close os.fstat",
        "reflink.look": "os.stat os.statvfs",
        "reflink.precached": "os.close",
        "reflink.precacher": "fcntl os.close os.fstat",
        "reflink.recording": "os.close os.fstat",
        "reflink.reseal": "os.close",
        "reflink.store": "os.close os.fstat",
        "reflink.withdrawal": "os.close os.fstat",
        "reflink.working": "os.close os.fstat",
    },
    "reads what a person gave by its path or as a stream, and hands it to qemu-img": {
        "transfer.content": "os.close os.fstat os.open os.readlink os.stat",
        "transfer.formats": "os.close os.fstat shutil",
    },
    "reads a small file of the machine, or looks at one, by its whole path": {
        "adopt.qubes_xml": "open",
        "engine.batch": "open",
        "hosts.attach": "open os.stat",
        "hosts.installing": "open os.stat",
        "hosts.libvirt.domain_events": "open",
        "hosts.libvirt.install": "os.access shutil",
        "hosts.libvirt.settings": "open",
        "hosts.libvirt.xml": "os.lstat",
        "hosts.systemd": "os.access shutil",
        "hosts.wrapped": "os.close os.open",
        "machine.known_pools": "open os.scandir",
        "machine.nesting": "open os.listdir",
        "subscribers.hooks": "os.access os.listdir os.stat",
    },
    "makes a directory in which there is nothing of a pool yet": {
        "engine.pool": "os.rmdir",
        "engine.registry": "os.makedirs os.mkdir",
        "hosts.installing": "os.chmod os.mkdir",
        "machine.known_pools": "os.makedirs",
    },
    "begins processes and waits for them": {
        "engine.precache_worker": "open os.chdir os.sched_setscheduler",
        "hosts.processes": "ctypes open os.getpgid os.getpgrp os.kill os.listdir os.posix_spawnp os.waitpid",
        "subscribers.hook_process": "os.fdopen os.killpg os.memfd_create os.read os.set_blocking select",
        "subscribers.precaching": "os.posix_spawn os.waitpid",
    },
    "speaks to QEMU, whose monitor is a socket": {"hosts.qmp": "os.close os.open socket"},
    "has standard streams, as a command": {
        "cli.commands.running": "os.dup",
        "cli.commands.volumes": "os.dup",
        "cli.invocation": "os.dup2 os.open",
    },
    "writes pictures for `make diagrams`": {"report.diagrams": "open"},
}
"""What other rooms have of the kernel by themselves, by the reason for it. Nothing may be added to it."""


def of_the_kernel(module: Path) -> set[str]:
    """Return by what means a module opens descriptors or calls the kernel."""
    tree = ast.parse(module.read_text())
    found = set()
    aliases = {
        one.asname or one.name: one.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for one in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            found |= {f"os.{one.name}" for one in node.names if is_of_the_kernel(one.name)}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module)} & OF_THE_KERNEL
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if aliases.get(node.value.id) in ("os", "posix") and is_of_the_kernel(node.attr):
                found.add(f"os.{node.attr}")
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            found |= {node.func.id} & {"open"}
    return found | (set(aliases.values()) & OF_THE_KERNEL)


def is_of_the_kernel(name: str) -> bool:
    return name not in ASKS_NOTHING and not name.isupper()


def test_only_linux_speaks_to_the_kernel() -> None:
    found = {
        name: spoken
        for name, path in rooms.modules().items()
        if room_of(name) != "linux" and (spoken := of_the_kernel(path))
    }
    allowed: dict[str, set[str]] = {}
    for modules in ASKED_YET.values():
        for name, words in modules.items():
            allowed.setdefault(name, set()).update(words.split())
    assert found == allowed


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os\nos.open('a', os.O_RDONLY)", {"os.open"}),
        ("import os as other\nother.unlink('a')", {"os.unlink"}),
        ("from os import link", {"os.link"}),
        ("import socket", {"socket"}),
        ("def f():\n    from fcntl import flock", {"fcntl"}),
        ("with open('a') as file: pass", {"open"}),
        ("import os\nos.path.join(os.fsdecode(b'a'), os.devnull)", set()),
        ("Directory.open('a')", set()),
    ],
)
def test_what_counts_as_speaking_to_the_kernel(text: str, found: set[str], tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text(text)
    assert of_the_kernel(module) == found


# ---------------------------------------------------------------- what a start and a stop load

NOT_NEEDED = {
    *("asyncio", "click", "ctypes", "dataclasses", "glob", "hashlib", "importlib.metadata"),
    *("pathlib", "rich", "subprocess", "unicodedata", "zoneinfo"),
}
"""Modules of others that no start and no stop needs; most of them take longer to load than all of ours."""
SHOWS_WHAT_IT_LOADED = """
import sys
from lifecycle.cli.entry import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print(*sys.modules, file=sys.stderr)
"""


def loaded(*words: str) -> set[str]:
    """Return the modules that a process has loaded when it has called the program like this."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", SHOWS_WHAT_IT_LOADED, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def ours(names: set[str]) -> list[str]:
    """Return which of them are modules of the package, without the packages that they lie in."""
    inside = {one.removeprefix("lifecycle.") for one in names if one.startswith("lifecycle.")}
    return sorted(one for one in inside if rooms.modules()[one].stem != DOOR)


def test_a_start_and_a_stop_load_only_what_they_need(xfs: FileSystem) -> None:
    pool = Pool.create(xfs.new_directory())
    volume = pool.create_volume("a/root", SIZE)
    cycle(volume, b"one")
    to_pool = ["--pool", pool.path]
    started = loaded("start", "a/root", *to_pool)
    draw(volume, b"two")
    stopped = loaded("stop", "a/root", *to_pool)
    assert numbers(volume) == [1]
    assert ours(started) == sorted(LOADED_BY_START)
    assert ours(stopped) == sorted(LOADED_BY_START + LOADED_BY_STOP_TOO)
    assert NOT_NEEDED & started == set()
    assert NOT_NEEDED & stopped == set()
    assert NOT_NEEDED & loaded("revert", "a/root", *to_pool) == set()
    volume.start()
    assert NOT_NEEDED & loaded("checkpoint", "a/root", *to_pool) == set()
    assert "click" in loaded("show", "a/root", *to_pool, "--json")
