"""The command line's help, and what it completes for the shell."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import click
import pytest

from lifecycle import Pool, Volume
from lifecycle.cli.app import COMMANDS, cli
from lifecycle.cli.settings import SETTABLE
from lifecycle.config import CHANGEABLE
from support.command_line import Call, call_apart
from support.disks import SIZE

NAMES = [name for names in COMMANDS.values() for name in names]


def leaves(group: click.Group, names: Iterable[str], *above: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of each command that does something; a group's are those of its commands."""
    for name in names:
        command = group.get_command(click.Context(group), name)
        if isinstance(command, click.Group):
            yield from leaves(command, command.commands, *above, name)
        else:
            yield (*above, name)


def command_of(*words: str) -> click.Command:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    return command


# ---------------------------------------------------------------- help


@pytest.mark.parametrize("asked", ["-h", "--help"])
def test_the_help_lists_every_command_with_what_it_does(call: Call, asked: str) -> None:
    lines = [" ".join(line.split()) for line in call(asked).out.splitlines()]
    for name in NAMES:
        assert f"{name} {command_of(name).short_help}" in lines


@pytest.mark.parametrize("key", SETTABLE)
def test_each_setting_is_named_wherever_they_are(call: Call, key: str) -> None:
    assert f"{key}=" in " ".join(call("set", "--help").out.split())
    if key in CHANGEABLE:
        assert f"`{key}`" in str(Volume.configure.__doc__)
    page = Path(__file__).parents[2].joinpath("docs", "settings.md").read_text()
    assert re.search(rf"^\| .*`{key}`.* \|", page.partition("## A volume's")[2], re.MULTILINE)


@pytest.mark.parametrize("words", list(leaves(cli, NAMES)), ids=" ".join)
def test_the_help_of_a_command_names_each_argument_and_option(
    call: Call, words: tuple[str, ...]
) -> None:
    text = call(*words, "--help").out
    assert text.startswith(f"Usage: lifecycle {' '.join(words)} [OPTIONS]")
    for parameter in command_of(*words).params:
        if isinstance(parameter, click.Option):
            for spelling in parameter.opts:
                assert spelling in text
            assert parameter.help or isinstance(parameter.type, click.Choice)
        elif parameter.metavar is not None:
            assert f" {parameter.metavar}" in text.splitlines()[0]
            assert parameter.required is not parameter.metavar.startswith("[")
    assert {"--pool", "--json", "--verbose"} <= set(text.replace(",", " ").split())


def test_the_version_is_told(call: Call) -> None:
    assert call("--version").out == "lifecycle 0.1.0\n"


# ---------------------------------------------------------------- completion


def completed(shell: str, *words: str) -> list[str]:
    """Return what the shell is told about the last of the words."""
    environment = {
        **os.environ,
        "_LIFECYCLE_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(["lifecycle", *words]),
        "COMP_CWORD": str(len(words)),
    }
    called = call_apart(env=environment)
    assert (called.status, called.err) == (0, "")
    return [line.partition(",")[2] for line in called.out.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("st",), ["start", "stop"]),
        (("show", "c"), ["ci", "ci/data", "ci/root"]),
        (("show", "ci/r"), ["ci/root"]),
        (("start", "db", "ci/"), ["ci/data", "ci/root"]),
        (("clone", "d"), ["db", "db/root"]),
        (("create", "new/root", "--source", "db/"), ["db/root"]),
        (("create", "new/root", "--on-crash", "re"), ["resume", "revert"]),
        (("show", "x"), []),
        (("stop", "--dis"), ["--discard"]),
    ],
)
def test_bash_completes_commands_and_ids(
    xfs_pool: Pool, words: tuple[str, ...], expected: list[str]
) -> None:
    for volume_id in ("ci/root", "ci/data", "db/root"):
        xfs_pool.create_volume(volume_id, SIZE)
    assert completed("bash", *words) == expected


def test_without_a_pool_nothing_is_completed_and_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_POOL", str(tmp_path))
    assert completed("bash", "show", "c") == []


def test_the_pool_on_the_line_is_the_one_completed_from(
    xfs_pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    xfs_pool.create_volume("ci/root", SIZE)
    monkeypatch.setenv("LIFECYCLE_POOL", "/nonexistent")
    assert completed("bash", "show", "--pool", xfs_pool.path, "ci/") == ["ci/root"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_is_printed(call: Call, shell: str) -> None:
    script = call("completion", shell).out
    assert f"_LIFECYCLE_COMPLETE={shell}_complete" in script
    assert call("completion", shell, "--json").document == {
        "shell": shell,
        "script": script.removesuffix("\n"),
    }


def test_bash_takes_the_completion_script(call: Call, tmp_path: Path) -> None:
    (tmp_path / "script").write_text(call("completion", "bash").out)
    shown = subprocess.run(
        ["bash", "-c", f"set -e; . {tmp_path}/script; complete -p lifecycle"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "lifecycle" in shown.stdout
