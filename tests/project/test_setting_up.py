"""What `make demo` and `make test` do to set themselves up, with apt, dpkg and pythons that only say they are."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.mounts import FileSystem

CI = Path(__file__).parents[2] / ".ci"

# each program of this machine that the scripts may use; what else there is, the test says
USED = ("sh", "cat", "dirname", "env", "grep", "mktemp", "rm", "ln", "touch")


class Machine:
    """A machine with few programs, and with an apt that notes what it is asked for."""

    def __init__(self, place: Path) -> None:
        self.place = place
        for program in USED:
            (place / program).symlink_to(str(shutil.which(program)))
        self.add("id", "echo ${USER_ID:-0}")
        (place / "asked").touch()

    def add(self, program: str, script: str) -> None:
        path = self.place / program
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def add_apt(self, *there: str, lacks: str = "nothing", network: bool = True) -> None:
        """Let these packages be installed; apt has all others, but one."""
        for package in there:
            (self.place / f"{package}.there").touch()
        self.add("dpkg-query", f'[ -e {self.place}/"$4".there ] && echo installed')
        self.add(
            "apt-get",
            f"""
            echo "$DEBIAN_FRONTEND: $*" >>{self.place}/asked
            case "$*" in
                *update*) {"exit 0" if network else "echo E: no network >&2; exit 100"} ;;
                *{lacks}*) echo "E: no package {lacks}" >&2; exit 100 ;;
            esac
            for word; do
                touch {self.place}/$word.there
                case $word in python3*) ln -sf {sys.executable} {self.place}/${{word%-venv}} ;; esac
            done
            """,
        )

    @property
    def asked(self) -> list[str]:
        """The packages that apt was asked for, a line each time."""
        lines = (self.place / "asked").read_text().splitlines()
        assert all(line.startswith("noninteractive: ") for line in lines)
        return [line.partition("--no-install-recommends ")[2] or "update" for line in lines]

    def call(self, script: str, *words: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [CI / script, *words],
            env={"PATH": str(self.place), "TMPDIR": str(self.place), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_where_nothing_lacks_nothing_is_done_or_said(machine: Machine) -> None:
    machine.add_apt("xfsprogs", "mount")
    assert machine.call("install-missing", "xfsprogs", "mount") == (0, "")
    assert machine.asked == []


def test_what_lacks_is_installed_after_one_line_that_says_so(machine: Machine) -> None:
    machine.add_apt("mount")
    said = "Installing what is missing here: xfsprogs btrfs-progs\n"
    assert machine.call("install-missing", "xfsprogs", "mount", "btrfs-progs") == (0, said)
    assert machine.asked == ["update", "xfsprogs btrfs-progs"]


def test_without_a_network_what_apt_has_kept_is_installed(machine: Machine) -> None:
    machine.add_apt(network=False)
    said = "Installing what is missing here: xfsprogs\n"
    assert machine.call("install-missing", "xfsprogs") == (0, said)


def test_a_package_that_cannot_be_had_keeps_no_other_away(machine: Machine) -> None:
    machine.add_apt(lacks="libvirt")
    status, said = machine.call("install-missing", "xfsprogs", "libvirt", "mount")
    assert status == 0
    assert said.splitlines()[1:] == [
        "libvirt could not be installed; going on without. apt-get says:",
        "E: no package libvirt",
    ]
    assert machine.asked == ["update", "xfsprogs libvirt mount", "xfsprogs", "libvirt", "mount"]


def test_one_who_is_not_root_is_told_what_is_done_without(machine: Machine) -> None:
    machine.add_apt("mount")
    status, said = machine.call("install-missing", "mount", "xfsprogs", USER_ID="1000")
    assert (status, machine.asked) == (0, [])
    assert said == "Not installed, which takes root (apt-get install xfsprogs); going on without\n"


def test_where_there_is_no_apt_what_needs_more_says_so_itself(machine: Machine) -> None:
    assert machine.call("install-missing", "xfsprogs") == (0, "")


# ---------------------------------------------------------------- Python

OLD = 'case "$*" in --version) echo Python 3.10.12 ;; *) exit 1 ;; esac'
LACKS_VENV = f'case "$*" in *ensurepip*) exit 1 ;; *) exec {sys.executable} "$@" ;; esac'


def has_venv(place: Path) -> bool:
    return (place / "venv" / "bin" / "python").exists()


@pytest.mark.parametrize(
    ("pythons", "asked"),
    [
        ({}, ["update", "python3"]),
        ({"python3": OLD}, ["update", "python3.11"]),
        ({"python3": OLD, "python3.12": f'exec {sys.executable} "$@"'}, []),
    ],
    ids=["none", "too old", "too old, and another"],
)
def test_a_python_that_is_new_enough_is_found_or_installed(
    machine: Machine, pythons: dict[str, str], asked: list[str]
) -> None:
    machine.add_apt(*(["python3"] if pythons else []))
    for name, script in pythons.items():
        machine.add(name, script)
    status, said = machine.call("make-venv", str(machine.place / "venv"))
    assert (status, has_venv(machine.place)) == (0, True), said
    assert machine.asked == asked


def test_the_module_venv_is_installed(machine: Machine) -> None:
    machine.add_apt("python3")
    machine.add("python3", LACKS_VENV)
    package = "python{}.{}-venv".format(*sys.version_info)
    machine.call("make-venv", str(machine.place / "venv"))
    assert machine.asked == ["update", package]


@pytest.mark.parametrize(
    ("python", "said"),
    [
        (OLD, "lifecycle needs Python 3.11 or newer; python3 is Python 3.10.12. Set PYTHON="),
        (LACKS_VENV, "install the package python{}.{}-venv".format(*sys.version_info)),
    ],
    ids=["too old", "without venv"],
)
def test_what_only_root_could_set_up_is_said(machine: Machine, python: str, said: str) -> None:
    machine.add("python3", python)
    status, printed = machine.call("make-venv", str(machine.place / "venv"))
    assert status == 1
    assert said in printed


# ---------------------------------------------------------------- a bare installation


def test_nothing_is_left_of_a_bare_installation_that_was_killed(
    xfs: FileSystem, tmp_path: Path
) -> None:
    """By SIGKILL, in the middle of its being made."""
    place = tmp_path / "place"
    place.mkdir()
    begun = tmp_path / "begun"
    os.mkfifo(begun)
    fakes = {
        "debootstrap": f"exec 9>{begun}; echo begun >&9; exec sleep 1000",
        "dpkg-query": "echo installed",
    }
    for name, script in fakes.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    with (
        subprocess.Popen(
            [CI / "fresh", "bookworm"],
            env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "TMPDIR": str(place)},
            stdout=subprocess.DEVNULL,
        ) as fresh,
        begun.open() as told,
    ):
        assert told.readline() == "begun\n"
        assert os.listdir(place) == []
        assert holding(place)
        fresh.kill()
        assert told.read() == ""  # who wrote to it has gone too
    while holding(place):
        os.sched_yield()  # the kernel takes a device away a moment after its last user
    assert str(place) not in Path("/proc/self/mountinfo").read_text()


def holding(place: Path) -> list[Path]:
    """Return the loop devices of files in that place."""
    found = []
    for one in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            if str(place) in one.read_text():
                found.append(one)
        except OSError:
            continue  # it has gone meanwhile
    return found
