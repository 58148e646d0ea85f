"""Whatever is typed, the command line answers with an error or an exit status, and never with a traceback."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifecycle import Pool
from lifecycle.cli.app import COMMANDS, main
from support.command_line import SCRIPT
from support.every_call import ID, at_rest
from support.mounts import FileSystem
from support.untouched_files import not_blocking

WORDS = [
    "",
    "-",
    "--",
    "-1",
    "0",
    "999999999999999999999999",
    "1e9",
    "nan",
    ID,
    "ci-42",
    "ci-42/",
    "/",
    "//",
    "../x",
    "ci-42/../ci-42/root",
    "ci-42/root.img",
    "ci-42/root-dirty",
    ".",
    "..",
    "~",
    "a" * 5000,
    "é/é",
    "e\u0301/x",
    "\udcff/\udcfe",
    "\u202e/x",
    "a\nb/c",
    "\x1b[31m/x",
    "keep=",
    "keep=last",
    "=",
    "rw=maybe",
    "revisions_to_keep=-1",
    "source=../x",
    "source=ci-42/root",
    "{root}",
    "%s%n",
    "$(id)",
    "new/root",
    "512",
    "9E",
    "99999999P",
    "--size",
    "--to",
    "empty",
    "--revision",
    "--keep",
    "--source",
    "--volatile",
    "--read-only",
    "--on-crash",
    "--json",
    "--force",
    "--discard",
    "--dry-run",
    "--shrink",
    "--format",
    "table",
    "--pool",
    "--help",
    "-v",
]
any_text = st.text(st.characters(exclude_categories=()), max_size=12)
"""Of all code points, those that are no characters too."""
ALL_COMMANDS = [name for names in COMMANDS.values() for name in names]


@settings(
    max_examples=400,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    command=st.sampled_from([*ALL_COMMANDS, "--version", "--json", ""]),
    words=st.lists(st.one_of(st.sampled_from(WORDS), any_text), max_size=5),
)
def test_the_command_line_never_shows_a_traceback(
    pool_of_commands: Pool, capfd: pytest.CaptureFixture[str], command: str, words: list[str]
) -> None:
    arguments = [command, *(word.replace("\0", "") for word in words)]
    arguments = [os.fsdecode(os.fsencode(word)) for word in arguments if can_be_given(word)]
    with not_blocking(), pytest.raises(SystemExit) as exited:
        main(arguments)
    out, err = capfd.readouterr()
    status = int(exited.value.code or 0)
    assert status in {0, 1, 2, 3} or command == "run"
    assert "Traceback" not in out + err
    if status in {2, 3}:
        assert err.startswith(("lifecycle: ", "Usage: "))


def can_be_given(word: str) -> bool:
    """Tell whether a process can be given this as an argument."""
    try:
        os.fsencode(word)
    except UnicodeEncodeError:
        return False
    return True


@pytest.fixture(scope="module")
def pool_of_commands(
    mounted: Callable[[str], FileSystem],
) -> Any:
    """A pool with something in it, which the command line uses, in a directory where it may leave files."""
    here = mounted("xfs").new_directory()
    pool = Pool.create(here / "pool")
    at_rest(pool)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        patch.setenv("LIFECYCLE_POOL", pool.path)
        yield pool


@pytest.mark.parametrize("command", ["pool", "list", "show", "verify", "log", "start", "export"])
@pytest.mark.parametrize("as_json", [False, True])
def test_names_that_are_no_text_are_shown_somehow(
    xfs: FileSystem, command: str, as_json: bool
) -> None:
    """A pool's path is the user's choice: bytes, not text."""
    path = os.fsencode(xfs.new_directory()) + b"/\xff\n"
    pool = Pool.create(os.fsdecode(path))
    at_rest(pool)
    Path(f"{pool.path}/ci-42/\udcfe").touch()
    words = {"show": [ID], "log": [ID], "start": [ID], "export": [ID, os.fsdecode(path) + ".out"]}
    done = subprocess.run(
        [SCRIPT, command, "--pool", path, *words.get(command, []), *["--json"] * as_json],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
    )
    assert b"Traceback" not in done.stderr
    assert done.returncode == 0, done.stderr
    if as_json:
        json.loads(done.stdout.decode(errors="surrogateescape"))
