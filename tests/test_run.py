"""`lifecycle run`: any command as the VM, its volumes started before it and stopped after it."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import SCRIPT, Call, begin, call_apart, finish
from disks import SIZE, cycle, disk, draw, numbers, seen
from holding import by_another_process

from lifecycle import Pool, Volume
from lifecycle.hosts import wrapped

pytest_plugins = ["command_line"]

WRITE = "printf written | dd of={root} conv=notrunc status=none"
"""What a VM does: it writes to its disk."""


@pytest.fixture
def root(xfs_pool: Pool) -> Volume:
    """The volume of the VM `ci`."""
    return xfs_pool.create_volume("ci/root", SIZE)


# ---------------------------------------------------------------- what the command is given


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("{root}", "/p/root"),
        ("file={root},format=raw", "file=/p/root,format=raw"),
        ("{root}{data-1}", "/p/root/p/data"),
        ("{nothing}", "{nothing}"),
        ("{}", "{}"),
        ("{{root}}", "{/p/root}"),
        ("${root}", "$/p/root"),
        ("{ root }", "{ root }"),
        ('{"driver": "{root}"}', '{"driver": "/p/root"}'),
        ("{root", "{root"),
        ("", ""),
    ],
)
def test_the_name_of_a_volume_in_braces_becomes_its_path(word: str, expected: str) -> None:
    assert wrapped.fill_in(word, {"root": "/p/root", "data-1": "/p/data"}) == expected


def test_a_path_with_braces_is_not_filled_in_again() -> None:
    assert wrapped.fill_in("{a}", {"a": "/{b}/a", "b": "/p/b"}) == "/{b}/a"


def test_the_environment_has_the_paths() -> None:
    assert wrapped.environment({"root": "/p/root", "data-1": "/p/data", "größe": "/p/g"}) == {
        "LIFECYCLE_ROOT": "/p/root",
        "LIFECYCLE_DATA_1": "/p/data",
        "LIFECYCLE_GR_SSE": "/p/g",
    }


def test_the_command_is_given_the_paths_of_all_volumes(
    call: Call, xfs_pool: Pool, root: Volume
) -> None:
    xfs_pool.create_volume("ci/data-1", source="ci/root")
    script = 'printf "%s\\n" "$@" "$LIFECYCLE_ROOT" "$LIFECYCLE_DATA_1"; test -w {data-1}'
    words = ("sh", "-c", script, "sh", "a={root},b={data-1}", "{other}", "--discard", "--json")
    data = xfs_pool["ci/data-1"].path
    assert call("run", "ci", "--", *words).out.splitlines() == [
        f"a={root.path},b={data}",
        "{other}",
        "--discard",
        "--json",
        root.path,
        data,
    ]


def test_the_command_has_our_input_environment_and_place(root: Volume, tmp_path: Path) -> None:
    called = call_apart(
        *("run", "ci", "--", "sh", "-c", 'cat; printf %s "$MINE"; pwd'),
        given="through ",
        cwd=tmp_path,
        env={**os.environ, "MINE": "mine "},
    )
    assert called.out == f"through mine {tmp_path}\n"


# ---------------------------------------------------------------- what becomes of the volumes


def test_what_the_command_wrote_is_committed(call: Call, root: Volume) -> None:
    called = call("run", "ci", "--", "sh", "-c", WRITE)
    assert (root.state, root.current, seen(root)) == ("committed", 1, disk(b"written"))
    assert called.out == ""
    assert called.err.splitlines() == [
        f"lifecycle: ci/root: started, at {root.path}",
        "lifecycle: ci/root: committed as 1",
    ]


def test_with_discard_it_is_thrown_away(call: Call, root: Volume) -> None:
    cycle(root, b"before")
    call("run", "ci", "--discard", "--", "sh", "-c", WRITE)
    assert (root.state, root.current, seen(root)) == ("reverted", 1, disk(b"before"))


def test_a_command_that_writes_nothing_spends_no_revision(call: Call, root: Volume) -> None:
    cycle(root, b"before")
    assert "nothing was written" in call("run", "ci", "--", "true").err
    assert (root.state, root.current, numbers(root)) == ("committed", 1, [])


def test_what_a_failing_command_wrote_is_committed_too(call: Call, root: Volume) -> None:
    call("run", "ci", "--", "sh", "-c", f"{WRITE}; exit 5", status=5)
    assert seen(root) == disk(b"written")


def test_json_is_all_that_is_on_standard_output(call: Call, root: Volume) -> None:
    called = call("run", "ci", "--json", "--", "sh", "-c", f"echo hello; {WRITE}; exit 4", status=4)
    assert called.document == [call("show", "ci/root", "--json").document]
    assert called.document[0]["state"] == "committed"
    assert "hello\n" in called.err


# ---------------------------------------------------------------- exit statuses


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("exit 0", 0),
        ("exit 1", 1),
        ("exit 3", 3),
        ("exit 255", 255),
        ("kill -KILL $$", 128 + signal.SIGKILL),
        ("kill -TERM $$", 128 + signal.SIGTERM),
        ("kill -SEGV $$", 128 + signal.SIGSEGV),
        ("kill -INT $$", 128 + signal.SIGINT),
    ],
)
def test_it_exits_as_the_command_did(call: Call, root: Volume, script: str, status: int) -> None:
    call("run", "ci", "--", "sh", "-c", script, status=status)
    assert root.state == "created"


def test_a_command_that_is_not_there(call: Call, root: Volume) -> None:
    called = call("run", "ci", "--", "/nonexistent/qemu", status=127)
    assert "lifecycle: /nonexistent/qemu: No such file or directory\n" in called.err
    assert "Traceback" not in called.err
    assert root.state == "created"


def test_a_command_that_is_on_no_path(call: Call, root: Volume) -> None:
    call("run", "ci", "--", "no-such-hypervisor", status=127)
    assert root.state == "created"


@pytest.mark.parametrize(("content", "mode"), [("#!/bin/sh\n", 0o600), ("\x7fELF", 0o700)])
def test_a_command_that_cannot_be_executed(
    call: Call, root: Volume, tmp_path: Path, content: str, mode: int
) -> None:
    command = tmp_path / "qemu"
    command.write_text(content)
    command.chmod(mode)
    assert f"{command}: " in call("run", "ci", "--", str(command), status=126).err
    assert root.state == "created"


def test_a_directory_is_no_command(call: Call, root: Volume, tmp_path: Path) -> None:
    call("run", "ci", "--", str(tmp_path), status=126)
    assert root.state == "created"


# ---------------------------------------------------------------- refusals


def test_a_vm_that_cannot_start_does_not_run_the_command(
    call: Call, xfs_pool: Pool, root: Volume, tmp_path: Path
) -> None:
    data = xfs_pool.create_volume("ci/data", SIZE)
    root.start()
    draw(root, b"running")
    with by_another_process(root.path) as holder:
        complaint = call("run", "ci", "--", "touch", str(tmp_path / "ran"), status=3).complaint
    assert str(holder) in complaint
    assert not (tmp_path / "ran").exists()
    assert (root.state, data.state) == ("dirty", "created")


def test_a_vm_that_is_not_there_does_not_run_the_command(
    call: Call, xfs_pool: Pool, tmp_path: Path
) -> None:
    call("run", "ci", "--", "touch", str(tmp_path / "ran"), status=1)
    assert not (tmp_path / "ran").exists()


def test_an_image_still_in_use_when_the_command_has_ended_stays_running(root: Volume) -> None:
    # the command leaves a process behind, as a hypervisor does that goes into the background
    script = f"exec 8<&0 9<{{root}}; {WRITE}; cat <&8 >/dev/null & exit 7"
    with begin("run", "ci", "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        assert process.wait() == 3
        assert root.state == "dirty"
        called = finish(process)  # ends what was left behind, which reads our pipe
    # by then the process left behind may not have become cat yet
    assert re.search(r"in use by (cat|sh) \(pid \d+\)", called.err)
    assert "Traceback" not in called.err
    root.stop()
    assert seen(root) == disk(b"written")


# ---------------------------------------------------------------- signals

COUNTS = """
import os, signal, sys
counts = {"TERM": 0, "INT": 0, "HUP": 0, "QUIT": 0, "USR1": 0}
watched = [getattr(signal, f"SIG{name}") for name in counts]
signal.pthread_sigmask(signal.SIG_BLOCK, watched)  # so that none comes between two waits
os.write(1, b"ready\\n")
while not counts["USR1"]:
    name = signal.Signals(signal.sigwait(watched)).name.removeprefix("SIG")
    counts[name] += 1
    os.write(1, f"{name}\\n".encode())
sys.exit(10 * counts[sys.argv[1]] + counts["USR1"])
"""
"""A command that counts signals until it gets USR1, and exits with ten times the count of the one named."""


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "QUIT"])
def test_a_signal_is_passed_on_once(root: Volume, name: str) -> None:
    with begin("run", "ci", "--", sys.executable, "-c", COUNTS, name) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert process.stdout.readline() == f"{name}\n"
        process.send_signal(signal.SIGUSR1)
        called = finish(process)
    assert called.status == 11
    assert root.state == "created"


def test_a_command_ended_by_a_signal_passed_on_is_committed(root: Volume) -> None:
    script = f"{WRITE}; echo ready; exec cat"
    with begin("run", "ci", "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        process.wait()  # its standard input is still open, so it is not that which ends it
        called = finish(process)
    assert called.status == 128 + signal.SIGTERM
    assert (root.state, seen(root)) == ("committed", disk(b"written"))


def read_until(fd: int, expected: bytes) -> None:
    """Read what is written to the terminal until this has come."""
    read = b""
    while expected not in read:
        read += os.read(fd, 1024)


def test_what_a_terminal_sends_to_all_is_not_passed_on_again(root: Volume) -> None:
    ours, theirs = pty.openpty()
    words = ("run", "ci", "--", sys.executable, "-c", COUNTS, "INT")
    with subprocess.Popen(
        ["setsid", "--ctty", SCRIPT, *words], stdin=theirs, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        read_until(ours, b"ready\r\n")
        # stopped meanwhile, so that a signal passed on would come second, and be counted
        process.send_signal(signal.SIGSTOP)
        os.write(ours, b"\x03")  # Ctrl-C
        read_until(ours, b"INT\r\n")
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGUSR1)
        read_until(ours, b"nothing was written")
    os.close(ours)
    assert process.returncode == 11
    assert root.state == "created"
