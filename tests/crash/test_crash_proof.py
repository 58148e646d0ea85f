"""The quick part of the crash proof: `PYTHONPATH=tests python -m crash` is all of it (docs/reliability.md)."""

from __future__ import annotations

import ast
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lifecycle
from crash.bugs import BUGS, Bug
from crash.copies import new_directory
from crash.power import WAYS, Mains
from crash.scene import Scene
from crash.scenes import BY_NAME, SCENES
from crash.trial import Stage
from support.mounts import KINDS, FileSystem

Mounted = Callable[[str], FileSystem]

_MAINS: dict[str, Mains] = {}
"""Made once for each way: the file systems go with the process."""

QUICK_WAYS = tuple(way for way in WAYS if way != "xfs, copied")
CUT_INSIDE = ("create", "start", "commit", "checkpoint", "revert to 0", "import a stream", "remove")
"""The scenes whose power is cut at every third operation too, not only when they have come to their end."""


def stage(
    scene: Scene, mounted: Mounted, where: str, bug: Bug | None = None
) -> tuple[Stage, Mains | None]:
    """Prepare a scene on a file system, or on one whose power can be cut."""
    kind, _, how = where.partition(",")
    options = {"reflinks": kind != "plain", **({"bug": bug.make} if bug else {})}
    file_system = mounted(kind)
    if not how:
        return Stage(scene, file_system.new_directory(), kind, **options), None
    if where not in _MAINS:
        _MAINS[where] = Mains(mounted("xfs"), where)
    mains = _MAINS[where]
    return Stage(scene, new_directory(mains.path), kind, **options), mains


def report(tried: Stage) -> str:
    return "\n\n".join(str(one) for one in tried.tally.violations)


def by_name(scene: Scene) -> str:
    return scene.name


@pytest.mark.parametrize("scene", SCENES, ids=by_name)
@pytest.mark.parametrize("kind", KINDS)
def test_an_event_that_is_stopped_dead(scene: Scene, kind: str, mounted: Mounted) -> None:
    tried, _ = stage(scene, mounted, kind)
    assert tried.words() == (scene.before, scene.after)
    tried.stop_everywhere()
    assert tried.tally.points == len(tried.operations)
    assert not report(tried)


@pytest.mark.parametrize("scene", SCENES, ids=by_name)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=os.strerror)
def test_an_event_whose_file_system_fails(scene: Scene, code: int, mounted: Mounted) -> None:
    tried, _ = stage(scene, mounted, "xfs")
    tried.fail_everywhere(code)
    assert not report(tried)


@pytest.mark.parametrize("scene", SCENES, ids=by_name)
@pytest.mark.parametrize("kind", KINDS)
def test_an_event_whose_images_the_disk_refuses(scene: Scene, kind: str, mounted: Mounted) -> None:
    tried, _ = stage(scene, mounted, kind)
    tried.refuse_everywhere()
    assert not report(tried)


@pytest.mark.parametrize("scene", SCENES, ids=by_name)
@pytest.mark.parametrize("way", QUICK_WAYS)
def test_an_event_after_which_the_power_is_cut(scene: Scene, way: str, mounted: Mounted) -> None:
    tried, mains = stage(scene, mounted, way)
    assert mains
    inside = range(2, len(tried.operations), 3) if scene.name in CUT_INSIDE else ()
    tried.cut_power(mains, [None, *inside])
    assert not report(tried)


@pytest.mark.parametrize("bug", BUGS.values(), ids=BUGS)
def test_the_proof_notices(bug: Bug, mounted: Mounted) -> None:
    # the kernel may write out by itself, just before the cut, what the bug left unwritten: so a cut is made again
    assert any(rules_noticed(bug, mounted) & bug.rules for _try in range(TRIES))


TRIES = 3


def rules_noticed(bug: Bug, mounted: Mounted) -> set[int]:
    where = bug.way if bug.way in WAYS else "xfs"
    tried, mains = stage(BY_NAME[bug.scene], mounted, where, bug)
    if mains:
        tried.cut_power(mains, [None])
    elif bug.way == "fault":
        tried.fail_everywhere(errno.EIO)
    elif bug.way == "refused":
        tried.refuse_everywhere()
    else:
        tried.stop_everywhere()
    return {one.rule for one in tried.tally.violations}


# ---------------------------------------------------------------- that the proof sees all file operations

CHANGING = re.compile(
    r"(sym)?link|renames?|replace|unlink|remove(dirs)?|mkdir|makedirs|rmdir|p?writev?|f?truncate|f(data)?sync|utime"
    r"|f?ch(mod|own)|mk(nod|fifo)|sendfile|copy_file_range|posix_fallocate|setxattr|rmtree|copy\w*|move"
)
THE_TWO = {"linux/files.py", "linux/directories.py"}
"""The modules that change files: by what the operating system is asked for in them, an event is cut off anywhere."""
KNOWN = {
    ("engine/registry.py", "os.mkdir"),  # the same
    ("engine/registry.py", "os.makedirs"),  # the pool's own directory, before there is a pool
    ("engine/pool.py", "os.rmdir"),  # the same, where it could not become one
    ("machine/known_pools.py", "os.makedirs"),  # the settings' directory
    ("linux/embedded_xfs.py", "os.chmod"),  # what was just mounted
    ("linux/reflinks.py", "os.write"),  # to a file without a name
    ("engine/precache_worker.py", "open"),  # its own name as a process
    ("linux/xattrs.py", "os.setxattr"),  # of which nothing promised depends
    ("hosts/installing.py", "os.mkdir"),  # directories of a host's configuration
    ("hosts/installing.py", "os.chmod"),  # the same, when they have been made
    ("linux/journal.py", "open"),  # a file in memory, for a line that is too long to be sent
    ("report/diagrams.py", "open"),  # drawings, wherever they are asked for
}
PACKAGE = Path(lifecycle.__file__).parent


def changing_calls(module: Path) -> Iterator[str]:
    """Yield the module's calls of what changes files, by way of `os`, `shutil` or `pathlib`."""
    for node in ast.walk(ast.parse(module.read_text())):
        if not isinstance(node, ast.Call):
            continue
        call = ast.unparse(node.func)
        owner, _, name = call.rpartition(".")
        writes = name == "open" and any(
            isinstance(one, ast.Constant) and str(one.value)[:1] in {"w", "a", "x"}
            for one in node.args[1:2]
        )
        creates = call == "os.open" and "O_CREAT" in ast.unparse(node)
        if (owner in {"os", "shutil"} and CHANGING.fullmatch(name)) or writes or creates:
            yield call


@pytest.fixture(scope="module")
def found() -> set[tuple[str, str]]:
    """The calls that change files, each with the module that it is in."""
    modules = sorted(PACKAGE.rglob("*.py"))
    return {
        (str(module.relative_to(PACKAGE)), call)
        for module in modules
        for call in changing_calls(module)
    }


def test_only_two_modules_change_files(found: set[tuple[str, str]]) -> None:
    assert {one for one in found if one[0] not in THE_TWO} == KNOWN


def test_those_modules_are_seen(found: set[tuple[str, str]]) -> None:
    assert {one[0] for one in found} >= THE_TWO
    assert ("linux/directories.py", "os.rename") in found
    assert ("linux/files.py", "os.fsync") in found
