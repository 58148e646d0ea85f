"""The demo, which is the first that a stranger sees: it runs on what there is, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from support.hidden_programs import without
from support.mounts import FileSystem, run

DEMO = str(Path(__file__).parents[2] / "examples" / "demo")
LAST = "●  2"
"""With which its last line begins."""
COPIES = "plain sparse copies"
BORN = "A disk is born"
"""What it says when its pool has been made."""


@pytest.fixture
def place(mounted: Callable[[str], FileSystem]) -> Iterator[Path]:
    """Where the demo works: a file system without reflinks, so that it would embed one. It must be left clean."""
    place = mounted("plain").new_directory()
    place.chmod(0o1777)
    yield place
    try:
        assert os.listdir(place) == []
        with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
            assert str(place) not in mounts.read()
        backing = [one.read_text() for one in Path("/sys/block").glob("loop*/loop/backing_file")]
        assert not any(str(place) in one for one in backing)
    finally:
        run("rm", "-rf", str(place))


def environment(place: Path) -> dict[str, str]:
    scripts = os.path.dirname(sys.executable)
    return {"PATH": f"{scripts}:{os.environ['PATH']}", "TMPDIR": str(place)}


def call(place: Path, words: Sequence[str] = (DEMO,), **more: str) -> tuple[int, str]:
    """Run it; return its exit status, and what it said."""
    done = subprocess.run(
        words,
        env=environment(place) | more,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("mkfs.xfs", "mkfs.xfs is not installed; install the package xfsprogs"),
        ("mount", "mount is not installed; install the package mount"),
        ("umount", "umount is not installed; install the package mount"),
        ("losetup", ""),
        ("modprobe", ""),
    ],
)
def test_it_does_without_a_program_and_says_so(place: Path, program: str, said: str) -> None:
    # what it had left mounted would be so in its own namespace only: it is asked there
    words = without([program], ["sh", "-c", '"$1"; echo "ended: $?"; cat /proc/mounts', "sh", DEMO])
    _status, printed = call(place, words)
    printed, _, mounts = printed.partition("ended: ")
    assert LAST in printed
    assert said in printed
    assert (COPIES in printed) == bool(said)
    assert mounts.startswith("0\n")
    assert str(place) not in mounts


def test_one_who_is_not_root_and_no_one_the_system_knows_sees_it_on_copies(place: Path) -> None:
    # the place is where all can reach it; and the program may lie in a directory of root's, so that may be read
    reach = ["unshare", "--mount", "sh", "-c", 'mount --bind "$1" /mnt; shift; exec "$@"', "sh"]
    reading = ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    user = ["setpriv", "--reuid=4242", "--regid=4242", "--clear-groups", *reading]
    words = [*reach, str(place), *user, "env", "--unset=HOME", DEMO]
    status, printed = call(place, words, TMPDIR="/mnt")
    assert (status, LAST in printed, COPIES in printed) == (0, True, True), printed
    assert "takes root" in printed


SIGNALS = [signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM]


@pytest.mark.parametrize("whom", ["it", "all in the foreground"])
@pytest.mark.parametrize("number", SIGNALS, ids=lambda one: one.name)
def test_interrupted_it_cleans_up_and_says_what_ended_it(
    place: Path, number: signal.Signals, whom: str
) -> None:
    with subprocess.Popen(
        [DEMO],
        env=environment(place),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        process_group=0,
    ) as demo:
        assert demo.stdout is not None
        while BORN not in demo.stdout.readline():
            pass
        (os.kill if whom == "it" else os.killpg)(demo.pid, number)
        printed = demo.communicate()[0]
    assert demo.returncode == 128 + number
    assert LAST not in printed


def test_a_reader_that_has_gone_ends_it_clean(place: Path) -> None:
    with subprocess.Popen(
        [DEMO], env=environment(place), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        assert demo.stdout is not None
        while BORN not in demo.stdout.readline():
            pass
        demo.stdout.close()
        assert demo.wait() != 0


@pytest.mark.parametrize("failing", ["create", "revert", "log"])
def test_when_a_step_fails_its_status_is_that_step_s(
    place: Path, tmp_path: Path, failing: str
) -> None:
    program = tmp_path / "lifecycle"
    program.write_text(f'#!/bin/sh\n[ "$1" != {failing} ] || exit 7\nexec "$REAL" "$@"\n')
    program.chmod(0o755)
    path = environment(place)["PATH"]
    real = f"{os.path.dirname(sys.executable)}/lifecycle"
    status, printed = call(place, PATH=f"{tmp_path}:{path}", REAL=real)
    assert status == 7, printed
