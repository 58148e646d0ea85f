"""The man page: fresh, whole, well written for both programs that read such pages, and found where it is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import click
import pytest

from lifecycle import State
from lifecycle.cli.app import COMMANDS, cli
from lifecycle.cli.settings import SETTABLE
from lifecycle.config import PoolConfig
from project.test_docs import load
from support.required_programs import missing, program

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "lifecycle.1"
SECTIONS = [
    "NAME",
    "SYNOPSIS",
    "DESCRIPTION",
    "OPTIONS OF EVERY COMMAND",
    "COMMANDS",
    "STATES",
    "RETENTION",
    "SETTINGS",
    "EXIT STATUS",
    "ENVIRONMENT",
    "FILES",
    "EXAMPLES",
    "SEE ALSO",
]


@pytest.fixture(scope="module")
def printed() -> str:
    """The page as a person reads it."""
    done = subprocess.run(
        [program("mandoc", "mandoc"), "-Tutf8", "-Owidth=900", str(PAGE)],
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    return re.sub(".\b", "", done.stdout)  # bold is printed twice


def test_the_page_is_fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    assert PAGE.read_text() == load(ROOT / "docs" / "write_manual.py").page(), "run `make docs`"


def test_it_has_the_sections_of_a_man_page() -> None:
    assert re.findall(r"^\.SH (.*)$", PAGE.read_text(), re.MULTILINE) == SECTIONS


def every_command(group: click.Group, context: click.Context, *before: str) -> list[list[object]]:
    """Return the words of each command and itself, of those in groups too."""
    found: list[list[object]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found += every_command(command, context, *before, name)
        else:
            found.append([" ".join([*before, name]), command])
    return found


@pytest.mark.parametrize(
    ("name", "command"),
    every_command(cli, click.Context(cli, **cli.context_settings)),
    ids=lambda one: str(one)[:20],
)
def test_every_command_is_told_with_its_options(
    name: str, command: click.Command, printed: str
) -> None:
    told = re.search(rf"^ {{7}}{name}( .*)?\n((?: {{14}}.*\n|\n)+)", printed, re.MULTILINE)
    assert told, name
    whole = " ".join(told[2].split())
    first = " ".join((command.help or "").replace("`", "").split("\n\n")[0].split())
    assert first in whole
    common = printed.partition("OPTIONS OF EVERY COMMAND")[2].partition("COMMANDS\n")[0]
    for option in [one for one in command.params if isinstance(one, click.Option)]:
        for word in option.opts:
            assert re.search(rf"^ +(-\w, )?{word}\b", f"{told[2]}\n{common}", re.MULTILINE), word


def test_topics_states_and_settings_are_told(printed: str) -> None:
    for words in (*(topic.capitalize() for topic in COMMANDS), *State):
        assert re.search(rf"^ +{words}\b", printed, re.MULTILINE), words
    settings = printed.partition("\nSETTINGS")[2].partition("\nEXIT STATUS")[0]
    of_pool, _, of_volume = settings.partition("Of a volume")
    assert all(re.search(rf"^ {{7}}{one}\b", of_pool, re.MULTILINE) for one in PoolConfig._fields)
    assert all(re.search(rf"^ {{7}}.*\b{one}\b", of_volume, re.MULTILINE) for one in SETTABLE)


def test_what_is_set_for_the_docs_alone_is_not_printed(printed: str) -> None:
    assert not re.search(r"`|\*\*|\]\(|\\f|\\\[|\\&", printed)


def test_no_line_of_an_example_is_broken_in_a_narrow_terminal() -> None:
    examples = PAGE.read_text().partition(".SH EXAMPLES")[2]
    for lines in re.findall(r"^\.nf\n(.*?)^\.fi$", examples, re.MULTILINE | re.DOTALL):
        assert all(len(one.replace("\\", "")) <= 68 for one in lines.splitlines())


@pytest.mark.parametrize(
    "words",
    [
        ("mandoc", "mandoc", "-T", "lint", "-W", "all"),
        ("man", "man-db", "--warnings", "-E", "UTF-8", "-Tutf8", "-Z", "-l"),
    ],
    ids=lambda words: words[0],
)
def test_what_reads_man_pages_has_nothing_to_say_of_it(words: tuple[str, ...]) -> None:
    name, package, *arguments = words
    done = subprocess.run(
        [program(name, package), *arguments, str(PAGE)],
        env={**os.environ, "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = done.stderr + (done.stdout if name == "mandoc" else "")
    assert (done.returncode, said) == (0, "")


def test_man_finds_it_where_the_wheel_puts_it(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        (name,) = [one for one in packed.namelist() if one.endswith("/lifecycle.1")]
        assert name.partition(".data/data/")[2] == "share/man/man1/lifecycle.1"
        page = tmp_path / "usr" / "share" / "man" / "man1" / "lifecycle.1"
        page.parent.mkdir(parents=True)
        page.write_bytes(packed.read(name))
    (tmp_path / "usr" / "bin").mkdir()
    found = subprocess.run(  # as with any PREFIX/bin on the PATH
        [program("man", "man-db"), "-w", "lifecycle"],
        env={"PATH": f"{tmp_path}/usr/bin:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    )
    if found.returncode == 0 and not found.stdout.strip():
        missing("needs man-db, and not a stand-in for it")
    assert found.stdout.strip() == str(page), found.stderr
