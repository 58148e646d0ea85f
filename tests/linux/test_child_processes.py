"""A host that ignores how its children end (SIGCHLD) leaves that to whom it calls; no failure may be lost by that."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lifecycle
from lifecycle import LifecycleError, Pool, Vetoed
from lifecycle.errors import Unsupported
from lifecycle.hosts import systemd
from lifecycle.hosts.libvirt import install as libvirt
from lifecycle.linux.child_processes import ends_told
from lifecycle.subscribers import hook_process
from support.command_line import SCRIPT
from support.disks import MIB, SIZE
from support.mounts import FileSystem
from support.required_programs import program

IGNORING = """
import os, signal, sys
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
os.execvp(sys.argv[1], sys.argv[1:])
"""


@pytest.fixture
def ignoring() -> Iterator[None]:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    assert signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN
    signal.signal(signal.SIGCHLD, before)


def call(*words: str) -> tuple[int, str]:
    """Call a program that is begun with SIGCHLD ignored; return its exit status, and what it said."""
    done = subprocess.run(
        (sys.executable, "-c", IGNORING, *words),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def veto_starts(pool: Pool) -> None:
    hook = Path(pool.path, "hooks.d", "pre-start")
    hook.parent.mkdir(mode=0o755)
    hook.write_text("#!/bin/sh\necho the backup is still running >&2\nexit 1\n")
    hook.chmod(0o755)


def test_a_hook_s_objection_holds(xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    veto_starts(xfs_pool)
    status, said = call(SCRIPT, "start", "ci")
    assert (status, volume.state) == (3, "created")
    assert "the backup is still running" in said


@pytest.mark.usefixtures("ignoring")
def test_a_hook_s_objection_holds_in_a_program_that_uses_the_library(xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    veto_starts(xfs_pool)
    with pytest.raises(Vetoed, match="the backup is still running"):
        volume.start()


@pytest.mark.usefixtures("ignoring")
def test_where_its_end_could_not_be_known_a_hook_is_not_run_and_vetoes(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\n: >{ran}\n")
    program.chmod(0o755)
    found: list[hook_process.Ended] = []

    def run() -> None:
        found.append(hook_process.run(str(program), b"{}", os.environ, 1000))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "SIGCHLD" in str(found[0].problem)
    assert not ran.exists()


@pytest.mark.parametrize("failing", ["mkfs.xfs", "mount"])
def test_a_pool_that_cannot_be_embedded_is_not_made(
    mounted: Callable[[str], FileSystem], tmp_path: Path, failing: str
) -> None:
    place = mounted("plain").new_directory()
    (tmp_path / failing).write_text("#!/bin/sh\necho cannot >&2\nexit 1\n")
    (tmp_path / failing).chmod(0o755)
    path = f"PATH={tmp_path}:{os.environ['PATH']}"
    status, said = call("env", path, SCRIPT, "init", "--loop", "300M", str(place / "vms"))
    assert status == 1
    assert f"{failing} failed: cannot" in said
    assert not (place / "vms" / "pool.toml").exists()


@pytest.mark.parametrize("options", [(), ("--verify",)], ids=" ".join)
def test_an_image_that_is_cut_short_is_not_taken_for_whole(
    xfs_pool: Pool, tmp_path: Path, options: tuple[str, ...]
) -> None:
    cut = tmp_path / "cut.qcow2"
    (tmp_path / "raw").write_bytes(os.urandom(4 * MIB))
    words = (program("qemu-img", "qemu-utils"), "convert", "-O", "qcow2", tmp_path / "raw", cut)
    subprocess.run(words, check=True)
    os.truncate(cut, 2 * MIB)
    status, said = call(SCRIPT, "clone", str(cut), "ci/root", *options)
    assert (status, list(xfs_pool)) == (1, []), said
    assert "is cut short or damaged" in said


@pytest.fixture
def put_failing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that puts a program that fails in another's place."""

    def put(name: str) -> None:
        (tmp_path / name).write_text("#!/bin/sh\necho 'libvirtd 1.2.3'\necho cannot >&2\nexit 1\n")
        (tmp_path / name).chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    return put


def test_a_loop_device_that_cannot_be_made_is_not_named(
    xfs_pool: Pool, put_failing: Callable[[str], None]
) -> None:
    xfs_pool.create_volume("ci/root", SIZE).start()
    put_failing("losetup")
    status, said = call(SCRIPT, "attach", "ci/root", "--for", "loop")
    assert (status, said.startswith("lifecycle: cannot; ")) == (1, True), said


@pytest.mark.usefixtures("ignoring")
def test_units_that_cannot_be_enabled_are_not_said_to_be(
    tmp_path: Path, put_failing: Callable[[str], None]
) -> None:
    put_failing("systemctl")
    with pytest.raises(LifecycleError, match=r"systemctl enable .* failed: cannot"):
        systemd.install(str(tmp_path / "root"), enable=True)


@pytest.mark.usefixtures("ignoring")
def test_a_libvirt_that_fails_has_not_told_its_version(put_failing: Callable[[str], None]) -> None:
    for name in libvirt.DAEMONS:
        put_failing(name)
    assert libvirt.daemon_version() is None


BEGIN = {"Popen", "run", "call", "check_call", "check_output", "getoutput", "getstatusoutput"}
"""Functions of `subprocess` that begin a process."""
BEGIN_BY_SYSTEM = {"fork", "forkpty", "popen", "posix_spawn", "posix_spawnp", "system"}
"""Functions of `os` that do; those named `spawn…` do too."""
TOLD_OTHERWISE = {
    ("subscribers/hook_process.py", "_run"): "its one caller, `run`, calls it in `ends_told`",
    ("hosts/processes.py", "run"): "is called in `signals_held`, which lets ends be told too",
    ("subscribers/precaching.py", "begin"): "how that process ends is no one's concern",
}
"""Functions that begin a process outside of `ends_told`, and why they may."""


def begins(node: ast.AST) -> bool:
    """Tell whether this is a call that begins a process."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return False
    name, of = node.func.attr, getattr(node.func.value, "id", None)
    if of == "os":
        return name in BEGIN_BY_SYSTEM or name.startswith("spawn")
    return of == "subprocess" and name in BEGIN


def untold(node: ast.AST, function: str = "") -> Iterator[str]:
    """Yield the functions in which a process is begun outside of `ends_told`, by their names."""
    if begins(node):
        yield function
    is_told = False
    for one in ast.iter_child_nodes(node):
        if isinstance(node, ast.With) and isinstance(one, ast.withitem):
            yield from () if is_told else untold(one, function)
            is_told = is_told or ast.unparse(one.context_expr) == "ends_told()"
        elif not is_told:
            named = isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef))
            yield from untold(one, one.name if named else function)


def test_wherever_a_process_is_begun_the_kernel_tells_of_its_end() -> None:
    root = Path(lifecycle.__file__).parent
    found = set()
    for file in root.rglob("*.py"):
        tree = ast.parse(file.read_text())
        # by these names alone, so that none is overlooked under another
        for one in ast.walk(tree):
            if isinstance(one, ast.ImportFrom):
                assert one.module not in {"subprocess", "multiprocessing", "pty"}, file
                names = {alias.name for alias in one.names if one.module in {"os", "asyncio"}}
                assert not names & BEGIN_BY_SYSTEM, file
        found |= {(str(file.relative_to(root)), name) for name in untold(tree)}
    assert found == set(TOLD_OTHERWISE)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("subprocess.run(a)", [""]),
        ("def f():\n    os.system(a)", ["f"]),
        ("with ends_told():\n    subprocess.run(a)", []),
        ("with ends_told(), subprocess.Popen(a):\n    pass", []),
        ("with subprocess.Popen(a), ends_told():\n    pass", [""]),
        ("with other():\n    return os.posix_spawn(a)", [""]),
        ("os.spawnv(a)", [""]),
        ("os.stat(a)", []),
    ],
)
def test_a_process_that_is_begun_is_found(text: str, expected: list[str]) -> None:
    assert list(untold(ast.parse(text))) == expected


@pytest.mark.usefixtures("ignoring")
def test_where_an_end_cannot_be_told_no_process_is_believed(
    put_failing: Callable[[str], None],
) -> None:
    found: list[Exception] = []
    put_failing("libvirtd")

    def ask() -> None:
        try:
            libvirt.daemon_version()
        except Unsupported as error:
            found.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert "SIGCHLD" in str(found[0])


def test_where_ends_are_told_nothing_is_changed() -> None:
    before = signal.getsignal(signal.SIGCHLD)
    with ends_told():
        assert signal.getsignal(signal.SIGCHLD) is before
