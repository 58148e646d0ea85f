"""The options common to all commands: before the command or behind it, with the help, completion and errors of both."""

from __future__ import annotations

import json

import click
import pytest

from cli.test_help import NAMES, completed, leaves
from lifecycle import Pool
from lifecycle.cli.app import cli
from support.command_line import Call, call_apart
from support.disks import SIZE
from support.mounts import FileSystem

COMMON = ("--pool", "--json", "--verbose")


@pytest.fixture
def other(xfs: FileSystem) -> Pool:
    """A pool that is not the usual one, with a volume."""
    pool = Pool.create(xfs.new_directory())
    pool.create_volume("other/root", SIZE)
    return pool


# ---------------------------------------------------------------- taken in both places


@pytest.mark.parametrize(
    "words",
    [
        "--pool OTHER --json list",
        "--pool=OTHER --json list",
        "--json list --pool OTHER",
        "list --pool OTHER --json",
        "--pool OTHER list --json",
        "--pool /nothing --json list --pool OTHER",
        "--pool /nothing --pool OTHER --json list",
        "--json --json list --json --pool OTHER",
    ],
)
def test_before_the_command_or_behind_it_and_the_later_counts(
    call: Call, xfs_pool: Pool, other: Pool, words: str
) -> None:
    assert xfs_pool.path != other.path  # which $LIFECYCLE_POOL names
    found = call(*words.replace("OTHER", other.path).split()).document
    assert [one["id"] for one in found] == ["other/root"]


@pytest.mark.parametrize("words", ["-v stop a", "--verbose stop a", "stop a -v"])
def test_verbose_in_either_place(xfs_pool: Pool, words: str) -> None:
    xfs_pool.create_volume("a/root", SIZE).start()
    assert "removed" in call_apart(*words.split()).err


@pytest.mark.parametrize(
    "words", [words for words in leaves(cli, NAMES) if words[0] == "host"], ids=" ".join
)
def test_before_and_behind_the_name_of_a_group_too(call: Call, words: tuple[str, ...]) -> None:
    name = [] if words[-1] == "status" else ["hyperv"]
    for given in (["--json", *words], [words[0], "--json", *words[1:]], [*words, "--json"]):
        out = call(*given, *name, status=2 if name else 0).out
        assert isinstance(json.loads(out), dict if name else list)


# ---------------------------------------------------------------- help, completion, errors


@pytest.mark.parametrize("words", [(), ("host",)], ids=str)
def test_the_help_of_each_group_names_them(call: Call, words: tuple[str, ...]) -> None:
    text = call(*words, "--help").out
    assert set(COMMON) <= set(text.replace(",", " ").split())


def test_the_help_says_where_they_may_stand(call: Call) -> None:
    assert "before the command or behind it" in call("--help").out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--p",), ["--pool"]),
        (("--json", "--ver"), ["--version", "--verbose"]),
        (("--json", "sta"), ["start"]),
        (("--pool", "OTHER", "show", "o"), ["other", "other/root"]),
        (("--pool=OTHER", "show", "other/"), ["other/root"]),
        (("--pool", "/nothing", "show", "--pool", "OTHER", "other/"), ["other/root"]),
        (("host", "--j"), ["--json"]),
    ],
)
def test_completion_knows_them_in_both_places(
    xfs_pool: Pool, other: Pool, words: tuple[str, ...], expected: list[str]
) -> None:
    given = [word.replace("OTHER", other.path) for word in words]
    assert completed("bash", *given) == expected


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--pool", "Option '--pool' requires an argument."),
        ("--json --pool", "Option '--pool' requires an argument."),
        ("--pool X", "Missing command."),
        ("--json --pool X nothing", "No such command 'nothing'."),
        ("--discard stop a", "No such option '--discard'."),
        ("--pool /nothing list", "/nothing"),
        ("--json --pool /nothing list", "/nothing"),
    ],
)
def test_what_is_wrong_is_said(call: Call, words: str, said: str) -> None:
    called = call(*words.split(), status=1 if "/nothing" in words else 2)
    assert said in called.said
    assert ("--json" in words) == bool(called.out and json.loads(called.out)["error"])


def test_no_command_has_an_option_that_means_something_else_before_it() -> None:
    taken = {spelling for one in cli.params for spelling in one.opts}
    for words in leaves(cli, NAMES):
        command: click.Command = cli
        for word in words:
            assert isinstance(command, click.Group)
            command = command.get_command(click.Context(command), word) or command
        shared = {one for parameter in command.params for one in parameter.opts if one in taken}
        assert shared == {*COMMON, "-v"}
