"""`lifecycle run`: any command as the VM, its volumes started before it and stopped after it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from lifecycle import Pool, Volume, events
from lifecycle.engine.endings import Ending
from lifecycle.hosts import wrapped
from support.command_line import Call, begin, call_apart, finish
from support.disks import SIZE, cycle, disk, draw, numbers, seen, seen_by_vm
from support.holding_open import by_another_process

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


def test_the_command_has_our_open_descriptors(root: Volume) -> None:
    # as one of a tap device, for QEMU's network
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as pipe:
        pipe.write("through a pipe")
    called = call_apart("run", "ci", "--", "cat", f"/dev/fd/{reading}", pass_fds=[reading])
    os.close(reading)
    assert called.out == "through a pipe"


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


# ---------------------------------------------------------------- how it ended

ENDINGS = {
    # status, crashed, --discard, --on-failure: what that means
    (0, False, False, None): Ending.STOPPED,
    (0, False, False, "keep"): Ending.STOPPED,
    (0, False, True, None): Ending.DISCARDED,
    (0, False, True, "keep"): Ending.DISCARDED,
    (1, False, False, None): Ending.STOPPED,
    (1, False, True, None): Ending.DISCARDED,
    (1, False, False, "commit"): Ending.STOPPED,
    (1, False, False, "revert"): Ending.DISCARDED,
    (1, False, False, "keep"): Ending.SUSPENDED,
    (137, False, True, "keep"): Ending.SUSPENDED,
    (137, False, True, "commit"): Ending.STOPPED,
    (0, True, False, None): Ending.CRASHED,
    (137, True, False, None): Ending.CRASHED,
    (0, True, True, None): Ending.DISCARDED,
    (0, True, False, "revert"): Ending.DISCARDED,
    (137, True, False, "commit"): Ending.STOPPED,
}


@pytest.mark.parametrize(("case", "expected"), ENDINGS.items(), ids=str)
def test_what_an_end_means(case: tuple[int, bool, bool, str | None], expected: Ending) -> None:
    status, crashed, discard, on_failure = case
    found = wrapped.ending_of(status, crashed=crashed, discard=discard, on_failure=on_failure)
    assert found is expected


@pytest.mark.parametrize(
    ("on_failure", "state", "said"),
    [
        ("commit", "committed", "committed as 1"),
        ("revert", "reverted", "reverted: what was written is thrown away"),
        ("keep", "dirty", "its working image is kept as it is"),
    ],
)
@pytest.mark.parametrize(("end", "status"), [("exit 5", 5), ("kill -KILL $$", 137)])
def test_what_becomes_of_the_volumes_of_a_command_that_failed(
    call: Call, root: Volume, on_failure: str, state: str, said: str, end: str, status: int
) -> None:
    words = ("--on-failure", on_failure, "--", "sh", "-c", f"{WRITE}; {end}")
    called = call("run", "ci", *words, status=status)
    assert root.state == state
    assert called.err.splitlines()[-1] == f"lifecycle: ci/root: {said}"


def test_what_was_kept_is_there_at_the_next_start(call: Call, root: Volume) -> None:
    call("run", "ci", "--on-failure", "keep", "--", "sh", "-c", f"{WRITE}; exit 5", status=5)
    assert call("run", "ci", "--", "sh", "-c", "head -c 7 {root}").out == "written"
    assert seen(root) == disk(b"written")


def test_another_choice_is_no_choice(call: Call, root: Volume) -> None:
    said = call("run", "ci", "--on-failure", "pray", "--", "true", status=2).complaint
    assert "'pray' is not one of" in said
    assert root.state == "created"


def object_to_it(_pool: Pool, **_: object) -> None:
    raise ValueError("not now")


def test_an_end_that_fails_is_carried_out_by_recover(call: Call, root: Volume) -> None:
    with events.reverting.connected_to(object_to_it):
        called = call("run", "ci", "--discard", "--", "sh", "-c", WRITE, status=3)
    assert "vetoed: not now" in called.err
    assert (root.state, root.look().on_crash) == ("dirty", "resume")
    assert "nothing kept" in call("recover").out
    assert root.state == "reverted"


def test_an_end_that_failed_is_carried_out_before_the_next_start(call: Call, root: Volume) -> None:
    words = ("run", "ci", "--discard", "--", "sh", "-c")
    with events.reverting.connected_to(object_to_it):
        call(*words, WRITE, status=3)
        assert "not now" in call(*words, "echo ran", status=3).complaint
    assert call(*words, "head -c 7 {root} | tr '\\0' .").out == "......."


def test_a_command_that_could_not_be_run_keeps_what_a_crash_left(call: Call, root: Volume) -> None:
    root.start()
    draw(root, b"left over")
    call("run", "ci", "--discard", "--", "no-such-hypervisor", status=127)
    assert (root.state, seen_by_vm(root)) == ("dirty", disk(b"left over"))


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
        ("kill -PIPE $$", 128 + signal.SIGPIPE),  # which Python ignores
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


def test_a_second_run_is_refused_before_the_first_has_opened_the_image(
    call: Call, root: Volume
) -> None:
    with begin(
        "run", "ci", "--", "sh", "-c", "echo ready; read end", stdin=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        assert f"lifecycle (pid {first.pid})" in call("run", "ci", "--", "true", status=3).complaint
        call("recover", "ci")
        assert root.state == "started"
        assert finish(first, "end\n").status == 0
    assert root.state == "created"


def test_a_monitor_that_is_another_vm_s_is_refused(
    call: Call, root: Volume, tmp_path: Path
) -> None:
    path = str(tmp_path / "qmp")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(path)
        other.listen()
        words = ("--qmp", path, "--", "touch", str(tmp_path / "ran"))
        assert "is another process's socket" in call("run", "ci", *words, status=3).complaint
    assert not (tmp_path / "ran").exists()
    assert root.state == "created"


@pytest.mark.parametrize(
    ("end", "status", "state"), [("exit 0", 0, "committed"), ("exit 5", 5, "dirty")]
)
def test_without_an_answer_from_the_monitor_the_exit_status_decides(
    call: Call, root: Volume, tmp_path: Path, end: str, status: int, state: str
) -> None:
    words = ("--qmp", str(tmp_path / "qmp"), "--on-failure", "keep", "--", "sh", "-c")
    called = call("run", "ci", *words, f"{WRITE}; {end}", status=status)
    assert f"lifecycle: nothing is known from QEMU's monitor at {tmp_path}/qmp: " in called.err
    assert root.state == state


# ---------------------------------------------------------------- processes left behind


@pytest.mark.parametrize("how", ["{} &", "setsid {} &", "(setsid {} &) &"])
def test_the_volumes_run_until_what_the_command_left_behind_has_ended(
    root: Volume, how: str
) -> None:
    # as a hypervisor does that goes into the background; it writes last of all
    left = 'sh -c "cat <&8 >/dev/null; printf written >&9"'
    script = f"exec 8<&0 9<>{{root}}; {how.format(left)}\nexit 7"
    with begin("run", "ci", "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert "started" in process.stderr.readline()
        waiting = process.stderr.readline()
        assert re.fullmatch(r"lifecycle: sh has ended; waiting for .* \(pid \d+\)\n", waiting)
        assert root.state == "started"
        called = finish(process)  # closes what is read by the process left behind
    assert (called.status, called.err) == (7, "lifecycle: ci/root: committed as 1\n")
    assert seen(root) == disk(b"written")


def test_an_image_in_use_by_a_stranger_stays_running(root: Volume) -> None:
    script = f"{WRITE}; echo ready; read end"
    with begin("run", "ci", "--", "sh", "-c", script, stdin=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with by_another_process(root.path) as holder:
            called = finish(process, "end\n")
    assert called.status == 3
    assert str(holder) in called.err
    assert "Traceback" not in called.err
    assert root.state == "dirty"
    root.stop()
    assert seen(root) == disk(b"written")


def test_other_children_of_this_process_are_not_waited_for(call: Call, root: Volume) -> None:
    with by_another_process("/dev/null") as other:
        call("run", "ci", "--", "true")
        assert other.pid is not None
        os.kill(other.pid, 0)
