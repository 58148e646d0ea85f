"""Tables in every width: numbers, sizes and states stay whole, names go on below themselves, and nothing vanishes."""

from __future__ import annotations

import io
import os
import re
import struct
import subprocess
import termios
from collections import Counter
from fcntl import ioctl
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from cli.test_terminal import terminal_pair
from lifecycle import Pool
from lifecycle.cli import tables, terminal
from lifecycle.cli.tables import Column, Holds
from lifecycle.machine import known_pools
from support.command_line import SCRIPT, Call
from support.disks import SIZE, cycle, draw
from support.mounts import FileSystem

WIDTHS = (200, 80, 60, 40, 20)
LONG = "a-very-long-name-that-nobody-would-ever-give-but-someone-did-anyway"
WIDE = "日本語の仮想機械"

# ---------------------------------------------------------------- by themselves


def printed(
    width: int, columns: list[Column], rows: list[list[str]], *, heads: int = 1, titled: bool = True
) -> list[str]:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    cells = [[tables.cell_of(cell) for cell in row] for row in rows]
    tables.print_table(console, columns, cells, heads=heads, titled=titled)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


COLUMNS = [
    Column("NAME", Holds.NAMES),
    Column("STATE", Holds.WORDS),
    Column("SIZE", right=True),
    Column("SOURCE", Holds.NAMES),
]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        (30, ["NAME   STATE     SIZE   SOURCE", "a/b    dirty   10 GiB   c/d"]),
        (27, ["NAME  STATE    SIZE  SOURCE", "a/b   dirty  10 GiB  c/d"]),
        (24, ["NAME STATE   SIZE SOURCE", "a/b  dirty 10 GiB c/d"]),
        (23, ["a/b", "STATE: dirty", "SIZE: 10 GiB", "SOURCE: c/d"]),
    ],
)
def test_the_space_between_columns_gives_way_first(width: int, expected: list[str]) -> None:
    assert printed(width, COLUMNS, [["a/b", "dirty", "10 GiB", "c/d"]]) == expected


def test_then_words_wrap_and_names_go_on_below_themselves() -> None:
    row = ["vms/abcdefghijklmnop", "started left over", "1023 MiB", ""]
    assert printed(44, COLUMNS, [row]) == [
        "NAME          STATE             SIZE  SOURCE",
        "vms/abcdefgh  started left  1023 MiB",
        "ijklmnop      over",
    ]


def test_without_room_for_columns_a_row_becomes_lines() -> None:
    rows = [["vms/abcdefghijklmnop", "dirty", "1 GiB", ""], [WIDE, "dirty", "2 GiB", "x"]]
    assert printed(12, COLUMNS, rows) == [
        "vms/abcdefgh",
        "ijklmnop",
        "STATE: dirty",
        "SIZE: 1 GiB",
        "",
        "日本語の仮想",
        "機械",
        "STATE: dirty",
        "SIZE: 2 GiB",
        "SOURCE: x",
    ]


WORD = st.text("abcdefgh日本語ü-/", min_size=1, max_size=40)
ROW = st.tuples(
    WORD,
    st.lists(st.sampled_from(["dirty", "committed", "left", "over"]), min_size=1, max_size=4),
    st.sampled_from(["0 B", "10 GiB", "1023 MiB", "unknown"]),
    st.one_of(st.just(""), WORD),
)


@settings(max_examples=300, deadline=None)
@given(st.integers(12, 250), st.lists(ROW, min_size=1, max_size=5), st.booleans())
def test_nothing_vanishes_and_what_must_be_whole_is(
    width: int, found: list[tuple[str, list[str], str, str]], titled: bool
) -> None:
    rows = [[name, " ".join(words), size, source] for name, words, size, source in found]
    lines = printed(width, COLUMNS, rows, titled=titled)
    shown = Counter(char for line in lines for char in line)
    assert all(shown[char] >= many for char, many in _characters(rows).items())
    assert max(map(cell_len, lines)) <= width
    for _name, words, size, _source in found:
        assert any(size in line for line in lines)
        assert all(any(word in line.split() for line in lines) for word in words)


def _characters(rows: list[list[str]]) -> Counter[str]:
    return Counter(char for row in rows for cell in row for char in cell if char != " ")


@pytest.mark.parametrize(
    ("line", "width", "indent", "expected"),
    [
        ("one two three", 13, 0, ["one two three"]),
        ("one two three", 12, 0, ["one two", "three"]),
        ("one two three", 7, 2, ["one two", " three"]),
        ("  in  deep   words", 12, 2, ["  in  deep", "  words"]),
        ("a /very/long/path b", 8, 0, ["a", "/very/long/path", "b"]),
        ("日本 語", 6, 0, ["日本", "語"]),
        ("of 10 GiB", 7, 0, ["of", "10 GiB"]),
        ("", 5, 0, [""]),
    ],
)
def test_lines_are_broken_between_words(
    line: str, width: int, indent: int, expected: list[str]
) -> None:
    assert list(tables.at_words([line], width, indent)) == expected


# ---------------------------------------------------------------- on a real terminal


def on_a_terminal(width: int, *words: str) -> list[str]:
    """Call the command line on a terminal of this width; return the lines that it printed."""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    with terminal_pair() as (fd, written):
        ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
        subprocess.run(
            [SCRIPT, *words],
            stdin=fd,
            stdout=fd,
            stderr=fd,
            env={**environment, "TERM": "xterm", "NO_COLOR": "1"},
            check=False,
        )
        text = written()
    return re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()


@pytest.fixture
def crowded(xfs_pool: Pool) -> Pool:
    """A pool with names, states and numbers of all widths, and others that are known beside it."""
    long = xfs_pool.create_volume(f"vms/{LONG}/root", "1535M")
    xfs_pool.create_volume(f"{WIDE}/{WIDE}", SIZE)
    xfs_pool.create_volume("ci/dev", source=long).start()
    root = xfs_pool.create_volume("ci/root", SIZE)
    for _ in range(3):
        cycle(root, b"one")
    root.label(1, f"as delivered {WIDE}")
    root.pin(2)
    root.start()
    draw(root, b"two")
    (Path(xfs_pool.path) / "ci" / f"{LONG}.txt").write_text("")
    known_pools.enter(xfs_pool.path, "main")
    known_pools.enter(f"/nothing/{LONG}", "gone")
    return xfs_pool


@pytest.fixture
def tree(xfs: FileSystem) -> str:
    """A tree of images that is no pool yet."""
    place = xfs.new_directory()
    for vm in (LONG, WIDE):
        (place / vm).mkdir()
        (place / vm / "root.img").write_bytes(bytes(SIZE))
    return str(place)


COMMANDS = {
    "list": ("started left over", "dirty left over", "1.5 GiB", "128 KiB", LONG, WIDE),
    "list ci": ("disposable", "persistent", LONG),
    "show ci/root": ("dirty left over", "128 KiB", "1, 2", "last 5"),
    "log ci/root": ("2026", "commit", "128 KiB", "current", "pinned", f"as delivered {WIDE}"),
    "pool": ("reflink", "4", "last 5", "used"),
    "pools": ("main", "gone", "960 MiB", "total known", f"/nothing/{LONG}"),
    "verify": (f"{LONG}.txt", "not a file of any volume"),
    "host status": ("libvirt: not installed", "systemd: not installed"),
    "prune": ("ci/root: removed 0, keeps 2", f"vms/{LONG}/root: removed 0, keeps 0"),
    "prune --dry-run ci": ("would remove 0", "keeps 2"),
    "adopt TREE": (LONG, WIDE, "committed", "to add", "pool.toml"),
}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("command", COMMANDS)
def test_on_a_terminal_of_any_width_all_is_said(
    crowded: Pool, tree: str, command: str, width: int
) -> None:
    assert crowded["ci/root"]
    words = command.replace("TREE", tree).split()
    whole = set(_said(words))
    lines = on_a_terminal(width, *words)
    whole &= set(_said(words))  # what is used on disk can change meanwhile
    text = "\n".join(lines)
    assert "…" not in text
    # broken it may be, but all of it is there: in columns its parts stand in order
    for said in COMMANDS[command]:
        assert _in_order(said, text), said
    for one in whole:
        assert any(one in line for line in lines), one
    if not command.startswith(
        ("verify", "adopt", "prune", "show", "pool")
    ):  # some leave a path whole
        assert max(map(cell_len, lines)) <= width


def _in_order(said: str, text: str) -> bool:
    """Tell whether these characters come in this order."""
    rest = iter(text)
    return all(char in rest for char in said if char != " ")


def _said(words: list[str]) -> list[str]:
    """Return the sizes, numbers and states that a call prints where there is no terminal."""
    piped = subprocess.run([SCRIPT, *words], capture_output=True, text=True, check=False).stdout
    states = {word for word in terminal.STYLES if re.search(rf"\b{word}\b", piped)}
    return [*states, *re.findall(r"\b[0-9.]+ (?:[KMG]i)?B\b", piped)]


@pytest.mark.parametrize("command", COMMANDS)
def test_where_there_is_no_terminal_nothing_is_broken(
    call: Call, crowded: Pool, tree: str, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert crowded["ci/root"]
    text = call(*command.replace("TREE", tree).split()).out
    for said in COMMANDS[command]:
        assert said in text


def test_very_many_volumes_stand_in_columns_that_wide_characters_keep_to(
    call: Call, crowded: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert crowded["ci/root"]
    monkeypatch.setattr(terminal, "_MANY", 1)
    lines = [line for line in call("list").out.splitlines() if LONG not in line]
    states = [re.search("dirty|created", line) for line in lines]
    assert {
        cell_len(line[: state.start()]) for line, state in zip(lines, states, strict=True) if state
    } == {43}


@pytest.mark.parametrize(("width", "apart"), [(200, False), (20, True)])
@pytest.mark.parametrize("command", ["list", "pools"])
def test_what_is_wrong_stands_apart_from_rows_of_several_lines(
    crowded: Pool, command: str, width: int, apart: bool
) -> None:
    cycle(crowded.create_volume("ci/bad", SIZE), b"one")
    os.unlink(f"{crowded.path}/ci/bad.img")
    begins = {"list": "ci/bad: ", "pools": "gone: "}[command]
    lines = on_a_terminal(width, command)
    before = [lines[place - 1] for place, line in enumerate(lines) if line.startswith(begins)]
    assert [not line for line in before] == [apart], lines


def test_a_state_that_is_longer_than_others_keeps_its_word_whole() -> None:
    assert all(len(word) <= min(WIDTHS) for word in terminal.STYLES)
