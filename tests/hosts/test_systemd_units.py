"""The systemd units: installed, looked over by systemd itself, and those that the docs show."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from lifecycle.errors import printable
from lifecycle.hosts import systemd
from support import required_programs, unit_commands
from support.command_line import Call


@pytest.fixture
def root(tmp_path: Path, call: Call) -> Path:
    """The root of a machine with the units."""
    call("host", "install", "systemd", "--root", str(tmp_path))
    return tmp_path


def installed(root: Path) -> list[str]:
    """Return the names of all files below the root, links too."""
    return sorted(
        str(Path(where, name).relative_to(root))
        for where, _directories, names in os.walk(root)
        for name in names
    )


def complaints(root: Path) -> str:
    """Return what systemd finds wrong in the units. An unknown key is only a warning to it, with exit status 0."""
    if os.geteuid() != 0 and not os.path.isdir("/run/systemd"):
        required_programs.missing("needs /run/systemd, which systemd-analyze makes as root")
    found = [str(one) for one in Path(f"{root}{systemd.DIRECTORY}").glob("lifecycle*")]
    done = subprocess.run(
        [required_programs.program("systemd-analyze", "systemd"), "verify", "--man=no", *found],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "lifecycle" in line]
    return "\n".join(ours) or (done.stderr if done.returncode else "")


# ---------------------------------------------------------------- installing

NAMES = [f"etc/systemd/system/{unit}" for unit in sorted(systemd.UNITS)]


def test_the_units_are_those_that_come_with_the_package() -> None:
    shipped = Path(systemd.__file__).parent / "units"
    assert sorted(one.name for one in shipped.iterdir()) == sorted(systemd.UNITS)


def test_systemd_finds_nothing_wrong(root: Path) -> None:
    assert complaints(root) == ""


def test_systemd_would_find_what_is_wrong(root: Path) -> None:
    unit = Path(f"{root}{systemd.DIRECTORY}", "lifecycle@.service")
    unit.write_text(unit.read_text().replace("RemainAfterExit", "RemainAfterwards"))
    assert "RemainAfterwards" in complaints(root)


@pytest.mark.parametrize(
    "directory",
    ["plain", "with blanks", "100%", "$HOME", "Ünïcode", "-v", "a:b@c"],
)
def test_the_units_call_the_command_wherever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, directory: str
) -> None:
    command = command_at(tmp_path / directory, monkeypatch)
    call("host", "install", "systemd", "--root", str(tmp_path / "root"))
    monkeypatch.undo()
    assert complaints(tmp_path / "root") == ""
    command.unlink()
    assert str(command) in complaints(tmp_path / "root").replace("\\x20", " ")


def command_at(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the installed command be one in this directory."""
    command = directory / "lifecycle"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    monkeypatch.setattr("sys.argv", [str(command)])
    return command


@pytest.mark.parametrize("directory", ['a "quote"', "back\\slash", "it's", "two\nlines"])
def test_a_command_that_systemd_would_not_call_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, directory: str
) -> None:
    command = command_at(tmp_path / directory, monkeypatch)
    called = call("host", "install", "systemd", "--root", str(tmp_path / "root"), status=1)
    assert printable(str(command)) in called.complaint
    assert not (tmp_path / "root").exists()


def test_without_a_command_nothing_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setattr("sysconfig.get_path", lambda _name: str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    called = call("host", "install", "systemd", "--root", str(tmp_path / "root"), status=1)
    assert "install the package" in called.complaint
    assert not (tmp_path / "root").exists()


def test_installing_says_what_is_left_to_do(tmp_path: Path, call: Call) -> None:
    words = ("host", "install", "systemd", "--root", str(tmp_path))
    lines = call(*words).out.splitlines()
    assert [line for line in lines if line.endswith((".service", ".timer"))] == [
        *(f"wrote {tmp_path}{systemd.DIRECTORY}/{unit}" for unit in systemd.UNITS),
        "to recover when the host boots: systemctl enable lifecycle-recover.service",
        "to prune every day: systemctl enable --now lifecycle-prune.timer",
    ]
    assert installed(tmp_path) == NAMES
    document = call(*words, "--json").document
    assert (document["written"], len(document["advice"])) == ([], 2)


def test_what_is_enabled_is_pulled_in_at_boot(root: Path, call: Call) -> None:
    required_programs.program("systemctl", "systemd")
    words = ("--root", str(root))
    assert call("host", "install", "systemd", "--enable", *words).out == (
        "systemd: all was in place\n"
    )
    assert sorted(set(installed(root)) - set(NAMES)) == [
        "etc/systemd/system/multi-user.target.wants/lifecycle-recover.service",
        "etc/systemd/system/timers.target.wants/lifecycle-prune.timer",
    ]
    assert call("host", "install", "systemd", "--json", *words).document["advice"] == []
    said = [str(one["text"]).endswith(", enabled") for one in statuses(call, root, status=1)]
    assert said.count(True) == 2
    call("host", "uninstall", "systemd", *words)
    assert installed(root) == []


def test_enabling_without_systemctl_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    words = ("host", "install", "systemd", "--enable", "--root", str(tmp_path / "root"))
    assert "systemctl is not installed" in call(*words, status=1).err


@pytest.mark.parametrize("unit", systemd.UNITS)
def test_what_is_someone_else_s_stays(tmp_path: Path, call: Call, unit: str) -> None:
    foreign = Path(f"{tmp_path}{systemd.DIRECTORY}", unit)
    foreign.parent.mkdir(parents=True)
    foreign.write_text("[Unit]\n")
    words = ("systemd", "--root", str(tmp_path))
    assert str(foreign) in call("host", "install", *words, status=1).complaint
    call("host", "uninstall", *words)
    assert installed(tmp_path) == [f"etc/systemd/system/{unit}"]
    assert foreign.read_text() == "[Unit]\n"


def statuses(call: Call, root: Path, status: int = 0) -> list[dict[str, object]]:
    found = call("host", "status", "--root", str(root), "--json", status=status).document
    return [one for one in found if one["host"] == "systemd"]


def test_the_status_tells_what_works(root: Path, call: Call) -> None:
    assert statuses(call, root / "elsewhere") == []
    (found, *others) = statuses(call, root, status=1)
    assert found["path"] == f"{root}{systemd.DIRECTORY}/lifecycle@.service"
    assert found["text"] == f"version 0.1.0, {command_in(root)} is not there; install again"
    assert not found["works"]
    assert len(others) == len(systemd.UNITS) - 1

    there = Path(f"{root}{command_in(root)}")
    there.parent.mkdir(parents=True)
    there.touch(mode=0o755)
    found = statuses(call, root)
    assert all(one["works"] for one in found)
    assert [one["text"] for one in found] == [
        "version 0.1.0, works",
        "version 0.1.0, works, not enabled",
        "version 0.1.0, works",
        "version 0.1.0, works, not enabled",
    ]


def command_in(root: Path) -> str:
    text = Path(f"{root}{systemd.DIRECTORY}", "lifecycle@.service").read_text()
    return unit_commands.commands(text, "ExecStart", "x")[0][0]


# ---------------------------------------------------------------- what the docs show

DOCS = (Path(__file__).parents[2] / "docs" / "hosts-systemd.md").read_text()


def test_systemd_finds_nothing_wrong_with_the_units_in_the_docs(root: Path) -> None:
    shown = re.findall(r"^```ini\n(.*?)^```$", DOCS, re.DOTALL | re.MULTILINE)
    services = [one for one in shown if "ExecStart=" in one]
    assert len(services) == 2
    directory = Path(f"{root}{systemd.DIRECTORY}")
    for number, text in enumerate(services):
        # whether there is a QEMU on this machine is not the question
        here = re.sub("/usr/(local/)?bin/(qemu-system-x86_64|lifecycle)", "/bin/true", text)
        (directory / f"lifecycle-vm-{number}@.service").write_text(here)
    assert complaints(root) == ""


def test_the_docs_tell_what_every_result_means() -> None:
    rows = re.findall(
        r"^\| (`success`.*?|`exit-code`.*?|`timeout`.*?) \| `(\w+)` \|", DOCS, re.MULTILINE
    )
    told = {result: ending for results, ending in rows for result in re.findall("`(.+?)`", results)}
    assert told == systemd.ENDINGS
