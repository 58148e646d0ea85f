"""Completion in real shells: what is inserted is one word for the shell, whatever characters are in a name."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from cli.test_help import completed
from lifecycle import Pool
from lifecycle.cli.completion import split
from lifecycle.machine import known_pools
from support import required_programs
from support.command_line import SCRIPT
from support.disks import SIZE

NAMES = (
    "plain/root",
    "my vm/the root",
    "it's/x",
    'q"uo/te',
    "par(en/x&y",
    "dollar$x/`y`",
    "semi;colon/x|y",
    "back\\slash/x",
    "star*/[x]",
    "co:lon/x",
    "eq=ual/x",
    "日本語/ü",
    "#hash/!x",
)
BREAKS = " \t\n\"'><=;|&(:"


@pytest.fixture
def pool(xfs_pool: Pool) -> Pool:
    """A pool, known as `main pool`'s plain name too, with names of all characters."""
    for name in NAMES:
        xfs_pool.create_volume(name, SIZE)
    known_pools.enter(xfs_pool.path, "main")
    return xfs_pool


# ---------------------------------------------------------------- a line, taken apart


@pytest.mark.parametrize(
    ("line", "words", "piece"),
    [
        ("l show ", ["l", "show", ""], ""),
        ("l show my", ["l", "show", "my"], "my"),
        (r"l show my\ v", ["l", "show", "my v"], "my v"),
        ('l "my v', ["l", "my v"], "my v"),
        ("l 'my v", ["l", "my v"], "my v"),
        ("l 'my vm'/r", ["l", "my vm/r"], "my vm/r"),
        ("l pool:v", ["l", "pool:v"], "v"),
        (r"l pool\:v", ["l", "pool:v"], "pool:v"),
        ('l "pool:v', ["l", "pool:v"], "pool:v"),
        ("l --pool=na", ["l", "--pool=na"], "na"),
        (r'l "a\"b\c', ["l", 'a"b\\c'], 'a"b\\c'),
        ("l ''", ["l", ""], ""),
        ("l '' ", ["l", "", ""], ""),
    ],
)
def test_a_line_is_taken_apart_as_bash_does_it(line: str, words: list[str], piece: str) -> None:
    assert split(line, BREAKS)[:2] == (words, piece)


# ---------------------------------------------------------------- in the shells


def typed(shell: Sequence[str], lines: Sequence[str]) -> None:
    """Type the lines into a shell at a terminal of its own, and wait for its end."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "dumb", "HISTFILE": "/dev/null", "INPUTRC": "/dev/null"}
    environment["PATH"] = f"{os.path.dirname(SCRIPT)}:{environment['PATH']}"
    process = subprocess.Popen(
        shell,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**environment, "LC_ALL": "C.UTF-8"},
        cwd="/",
        start_new_session=True,
    )
    os.close(theirs)
    # should a quote have stayed open, the ends of the file close it
    os.write(ours, "".join(f"{line}\n" for line in (*lines, "exit")).encode() + b"\4\4\4")
    try:
        while os.read(ours, 65536):
            pass
    except OSError:  # so Linux says that no one has the other end open
        pass
    os.close(ours)
    process.wait()


def by_bash(tmp_path: Path, *lines: str) -> list[list[str]]:
    """Return for each line the words that bash called `lifecycle` with; \\t in it is the key."""
    said = tmp_path / "said"
    (tmp_path / "rc").write_text(
        f"""
lifecycle() {{
    if [ -n "$_LIFECYCLE_COMPLETE" ]; then {SCRIPT} "$@"; else printf '%s\\0' "$@" $'\\n' >> {said}; fi
}}
eval "$({SCRIPT} completion bash)"
set +o histexpand
"""
    )
    typed(["bash", "--noprofile", "--rcfile", str(tmp_path / "rc"), "-i"], lines)
    return [one.split("\0")[:-1] for one in said.read_text().split("\n\0")[:-1]]


def begun(name: str) -> str:
    """Return what no other name of the table begins with, past its VM."""
    return name.rpartition("/")[0] + "/"


STYLES: dict[str, Callable[[str], str]] = {
    "escaped": lambda text: "".join(c if c.isalnum() or c in "/:" else f"\\{c}" for c in text),
    "in single quotes": lambda text: "'" + text.replace("'", "'\\''"),
    "in double quotes": lambda text: '"' + "".join(f"\\{c}" if c in '"\\$`' else c for c in text),
}


@pytest.mark.parametrize("of_pool", ["", "main:"])
@pytest.mark.parametrize("style", STYLES)
def test_bash_inserts_each_name_as_one_word(
    pool: Pool, tmp_path: Path, style: str, of_pool: str
) -> None:
    assert pool["plain/root"]
    asked = [
        name
        for name in NAMES
        # what follows on a quote that was closed and opened again is a piece of its own to bash
        if not (style == "in single quotes" and "'" in name)
    ]
    lines = [f"lifecycle show {STYLES[style](of_pool + begun(name))}\t" for name in asked]
    found = by_bash(tmp_path, *lines)
    assert found == [["show", of_pool + name] for name in asked]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("show pl\t", ["show", "plain"]),
        ("show my\t", ["show", "my vm"]),
        ("show it\t", ["show", "it's"]),
        ("show mai\tplain/\t", ["show", "main:plain/root"]),
        ("show co:\t", ["show", "co:lon"]),
        ("--pool ma\t list", ["--pool", "main", "list"]),
        ("--pool=ma\t list", ["--pool=main", "list"]),
        ("sho\tplain/\t", ["show", "plain/root"]),
        ("stop --dis\t", ["stop", "--discard"]),
        ("import plain/root /etc/host\tname", ["import", "plain/root", "/etc/hostname"]),
        ("import plain/root my\\ vm/\t", ["import", "plain/root", "my vm/the root"]),
        ("create a/b --source my\\ vm/\t", ["create", "a/b", "--source", "my vm/the root"]),
        ("show nothing\t", ["show", "nothing"]),
    ],
)
def test_bash_completes(pool: Pool, tmp_path: Path, line: str, expected: list[str]) -> None:
    assert pool["plain/root"]
    (found,) = by_bash(tmp_path, f"lifecycle {line}")
    assert found == expected


def test_bash_completes_pools_where_there_is_no_usual_one(
    pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_POOL", "/nothing")
    known_pools.enter("/gone", "mirror")
    lines = [f"lifecycle show {begun}\t" for begun in ("mai", "main:plain/", "mirror:x")]
    assert by_bash(tmp_path, *lines) == [
        ["show", "main:"],
        ["show", "main:plain/root"],
        ["show", "mirror:x"],
    ]
    assert pool["plain/root"]


@pytest.mark.parametrize("name", ["my vm/the root", "it's/x", "par(en/x&y", "co:lon/x", "日本語/ü"])
@pytest.mark.parametrize("of_pool", ["", "main:"])
def test_zsh_inserts_each_name_as_one_word(
    pool: Pool, tmp_path: Path, name: str, of_pool: str
) -> None:
    assert pool["plain/root"]
    zsh, said = required_programs.program("zsh", "zsh"), tmp_path / "said"
    typed(
        [zsh, "-f", "-i"],
        [
            f"said_to() {{ printf '%s\\0' \"$@\" > {said} }}",
            f'autoload -Uz compinit; compinit -u -D; eval "$({SCRIPT} completion zsh)"',
            # the key is pressed, then `said_to` is put before the line
            f"lifecycle show {STYLES['escaped'](of_pool + begun(name))}\t\x01said_to ",
        ],
    )
    assert said.read_text().split("\0") == ["lifecycle", "show", of_pool + name, ""]


@pytest.mark.parametrize("name", ["my vm/the root", "it's/x", "par(en/x&y", "co:lon/x", "日本語/ü"])
@pytest.mark.parametrize("of_pool", ["", "main:"])
def test_fish_is_told_each_name(pool: Pool, name: str, of_pool: str) -> None:
    assert pool["plain/root"]
    line = f"lifecycle show {STYLES['escaped'](of_pool + begun(name))}"
    script = f"source ({SCRIPT} completion fish | psub); complete -C $LINE"
    done = subprocess.run(
        [required_programs.program("fish", "fish"), "--no-config", "-c", script],
        env={**os.environ, "LINE": line, "PATH": f"{os.path.dirname(SCRIPT)}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [of_pool + name]


def test_pools_are_completed_by_name(pool: Pool) -> None:
    assert pool["plain/root"]
    assert completed("bash", "show", "ma") == ["main:"]
    assert completed("bash", "show", "main:pl") == ["main:plain", "main:plain/root"]
    assert completed("bash", "--pool", "ma") == ["main", "ma"]
