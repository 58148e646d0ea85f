"""The command line and the terminal: colours, progress bars, what --verbose logs."""

from __future__ import annotations

import os
import pty
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

from lifecycle import Pool, Volume
from lifecycle.cli import terminal
from lifecycle.cli.app import main
from support.command_line import SCRIPT, Call, call_apart
from support.disks import SIZE, cycle, draw

ESCAPE = "\x1b["
HIDE_CURSOR, ERASE_LINE = "\x1b[?25l", "\x1b[2K"


# ---------------------------------------------------------------- colours


@contextmanager
def terminal_pair() -> Iterator[tuple[int, Callable[[], str]]]:
    """Make a terminal; yield its descriptor and a function that closes it and returns what was written to it."""
    ours, theirs = pty.openpty()
    is_open = [theirs]

    def written() -> str:
        os.close(is_open.pop())
        chunks = []
        try:
            while chunk := os.read(ours, 65536):
                chunks.append(chunk)
        except OSError:  # so Linux says that no one has the other end open
            pass
        return b"".join(chunks).decode()

    try:
        yield theirs, written
    finally:
        for fd in (*is_open, ours):
            os.close(fd)


def on_a_terminal(*words: str, **environment: str) -> str:
    """Call the command line with all it says going to a terminal; return that."""
    plain = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    settings = {**plain, "TERM": "xterm-256color", "COLUMNS": "120", **environment}
    with terminal_pair() as (fd, written):
        process = subprocess.Popen([SCRIPT, *words], stdout=fd, stderr=fd, env=settings)
        # a terminal holds some kilobytes, more than is said here
        process.wait()
        return written()


@pytest.mark.parametrize("command", ["list", "show ci/root", "log ci/root"])
def test_a_terminal_gets_colours(xfs_pool: Pool, command: str) -> None:
    cycle(xfs_pool.create_volume("ci/root", SIZE), b"one")
    text = on_a_terminal(*command.split())
    assert f"{ESCAPE}34mcommitted" in text
    assert "34m" not in on_a_terminal(*command.split(), NO_COLOR="1")


@pytest.mark.parametrize("command", ["list", "show ci/root", "log ci/root", "verify", "pool"])
def test_what_is_piped_on_has_neither_colours_nor_broken_lines(
    call: Call, xfs_pool: Pool, command: str
) -> None:
    name = "long-" * 30
    cycle(xfs_pool.create_volume("ci/root", SIZE), b"one")
    volume = xfs_pool.create_volume(f"{name}/{name}", SIZE)
    text = call(*command.replace("ci/root", volume.id).split()).out
    assert ESCAPE not in text
    assert all(line == line.rstrip() for line in text.splitlines())
    if "ci/root" in command:
        assert volume.id in text


def test_json_has_no_colours_on_a_terminal(xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci/root", SIZE)
    assert ESCAPE not in on_a_terminal("list", "--json")


@pytest.mark.parametrize(
    ("volume_id", "label"), [("ci/[red]root", "[bold]x[/bold]"), ("ci/:smile:", ":smile: [/]")]
)
def test_what_looks_like_markup_is_shown_as_it_is(
    call: Call, xfs_pool: Pool, volume_id: str, label: str
) -> None:
    volume = xfs_pool.create_volume(volume_id, SIZE)
    cycle(volume, b"one")
    volume.label(1, label)
    xfs_pool.create_volume("ci/dev", source=volume)
    assert volume_id in call("list").out.splitlines()[1]
    assert call("list").out.splitlines()[-1].endswith(volume_id) or volume_id in call("list").out
    assert volume_id in call("show", volume_id).out
    assert label in call("log", volume_id).out


def test_an_empty_pool_whose_name_looks_like_markup(call: Call, xfs_pool: Pool) -> None:
    place = f"{xfs_pool.path}/[red]pool"
    call("init", place)
    assert place in call("list", "--pool", place).out


# ---------------------------------------------------------------- progress bars


class Clock(SimpleNamespace):
    """A clock that stands until it is moved."""

    now = 0.0

    def monotonic(self) -> float:
        return self.now


class Shown:
    """Stands for rich's progress display; `log` is what was done to those there were."""

    log: list[str]

    def __init__(self, *_columns: object, **_settings: object) -> None:
        self.log.append("made")

    def start(self) -> None:
        self.log.append("begun")

    def stop(self) -> None:
        self.log.append("ended")

    def add_task(self, text: str, total: int | None) -> str:
        self.log.append(f"added {text} of {total}")
        return text

    def update(self, task: str, completed: int) -> None:
        self.log.append(f"{task} at {completed}")

    def remove_task(self, task: str) -> None:
        self.log.append(f"removed {task}")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock that progress bars look at."""
    clock = Clock()
    monkeypatch.setattr(terminal, "time", clock)
    monkeypatch.setattr(terminal, "Progress", Shown)
    monkeypatch.setattr(Shown, "log", [], raising=False)
    return clock


def test_a_copy_of_up_to_a_second_shows_no_bar(clock: Clock) -> None:
    bars = terminal.Bars()
    for done, now in ((1, 0.0), (2, 0.5), (3, 0.999)):
        clock.now = now
        bars.update("import ci/root", done, 4)
    bars.update("import ci/root", 4, 4)
    assert Shown.log == []


def test_a_longer_copy_shows_a_bar_until_it_is_done(clock: Clock) -> None:
    bars = terminal.Bars()
    bars.update("import ci/root", 1, 4)
    clock.now = 1.0
    bars.update("import ci/root", 2, 4)
    bars.update("import ci/root", 3, 4)
    assert Shown.log == [
        "made",
        "begun",
        "added import ci/root of 4",
        "import ci/root at 2",
        "import ci/root at 3",
    ]
    bars.update("import ci/root", 4, 4)
    assert Shown.log[-2:] == ["removed import ci/root", "ended"]


def test_a_stream_of_unknown_length_shows_a_bar(clock: Clock) -> None:
    bars = terminal.Bars()
    bars.update("import ci/root", 1, None)
    clock.now = 2.0
    bars.update("import ci/root", 2, None)
    assert "added import ci/root of None" in Shown.log


def test_of_two_copies_each_has_its_bar_and_its_second(clock: Clock) -> None:
    bars = terminal.Bars()
    bars.update("one", 1, 9)
    clock.now = 1.0
    bars.update("one", 2, 9)
    bars.update("two", 1, 9)
    assert not any("two" in line for line in Shown.log)
    clock.now = 2.0
    bars.update("two", 2, 9)
    bars.update("one", 9, 9)
    assert Shown.log[-1] == "removed one"
    bars.update("two", 9, 9)
    assert Shown.log[-1] == "ended"


def test_the_same_copy_again_has_its_second_again(clock: Clock) -> None:
    bars = terminal.Bars()
    bars.update("one", 1, 9)
    clock.now = 5.0
    bars.update("one", 9, 9)
    bars.update("one", 1, 9)
    assert Shown.log == []


@contextmanager
def stderr_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Let standard error be a terminal; yield a function that returns what was written to it, once."""
    with (
        terminal_pair() as (fd, written),
        monkeypatch.context() as patched,
        os.fdopen(os.dup(fd), "w", encoding="utf-8") as stream,
    ):
        patched.setenv("TERM", "xterm-256color")
        patched.setattr("sys.stderr", stream)

        def closed_and_read() -> str:
            stream.close()
            return written()

        yield closed_and_read


@pytest.fixture
def stream(tmp_path: Path) -> str:
    """The path of a file whose blocks cannot be shared with the pool, so that it is copied."""
    path = tmp_path / "image"
    path.write_bytes(os.urandom(3 << 20))
    return str(path)


@pytest.mark.parametrize(("after", "is_shown"), [(0.0, True), (1e9, False)])
def test_bars_are_for_who_watches_a_terminal(
    xfs_pool: Pool,
    stream: str,
    monkeypatch: pytest.MonkeyPatch,
    after: float,
    is_shown: bool,
) -> None:
    xfs_pool.create_volume("ci/root", SIZE)
    monkeypatch.setattr(terminal, "BAR_AFTER_SECONDS", after)
    with stderr_is_a_terminal(monkeypatch) as written:
        with pytest.raises(SystemExit):
            main(["import", "ci/root", stream])
        text = written()
    assert ("import ci/root" in text) is is_shown
    assert HIDE_CURSOR not in text


def test_no_bar_where_no_one_watches(
    call: Call, xfs_pool: Pool, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    xfs_pool.create_volume("ci/root", SIZE)
    monkeypatch.setattr(terminal, "BAR_AFTER_SECONDS", 0.0)
    assert call("import", "ci/root", stream).err == ""


def test_a_copy_that_fails_takes_its_bar_away(
    xfs_pool: Pool, stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    xfs_pool.create_volume("ci/root", SIZE)
    monkeypatch.setattr(terminal, "BAR_AFTER_SECONDS", 0.0)
    real = os.pread

    def fails_in_the_middle(fd: int, length: int, offset: int) -> bytes:
        if offset >= 2 << 20:
            raise OSError(5, "Input/output error")
        return real(fd, length, offset)

    monkeypatch.setattr(os, "pread", fails_in_the_middle)
    with stderr_is_a_terminal(monkeypatch) as written:
        with pytest.raises(SystemExit) as exited:
            main(["import", "ci/root", stream])
        text = written()
    assert exited.value.code == 1
    assert "import ci/root" in text
    assert HIDE_CURSOR not in text
    assert text.rfind(ERASE_LINE) < text.rfind(
        "lifecycle: ci/root: import failed: Input/output error"
    )


# ---------------------------------------------------------------- --verbose


@pytest.fixture
def dirty(xfs_pool: Pool) -> Volume:
    """A volume that was written to."""
    volume = xfs_pool.create_volume("ci/root", SIZE)
    volume.start()
    draw(volume, b"one")
    return volume


@pytest.mark.parametrize("option", ["-v", "--verbose"])
def test_verbose_logs_every_file_operation_with_both_names(dirty: Volume, option: str) -> None:
    called = call_apart("stop", "ci", option, "--json")
    assert [one["state"] for one in called.document] == ["committed"]
    where = f"{dirty.pool.path}/ci"
    assert f"linked '{where}/root.img' to '{where}/root.img.0@" in called.err
    assert f"renamed '{where}/root-dirty.img@withdrawn' to '{where}/root.img'" in called.err


def test_without_verbose_nothing_is_logged(dirty: Volume) -> None:
    assert call_apart("stop", "ci").err == ""


# ---------------------------------------------------------------- many VMs


def test_going_through_many_vms_is_shown_once_it_takes_long(
    clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    counter = terminal.Counter()
    for number in range(1, 201):
        clock.now = number / 200
        counter.update(number)
    assert capsys.readouterr().err == ""
    for number in range(201, 401):
        clock.now = number / 100
        counter.update(number)
    assert capsys.readouterr().err == "\r300 VMs…\x1b[K\r400 VMs…\x1b[K"
    counter.close()
    assert capsys.readouterr().err == "\r\x1b[K"


def test_going_through_few_shows_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    counter = terminal.Counter()
    counter.update(1)
    counter.close()
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "look",
    [
        lambda pool: list(pool.backend.survey()),
        lambda pool: list(pool.verify()),
        lambda pool: pool.recover(),
    ],
    ids=["list", "verify", "recover"],
)
def test_who_watches_is_told_of_each_vm(xfs_pool: Pool, look: Callable[[Pool], object]) -> None:
    for name in ("a", "b", "c/d"):
        xfs_pool.create_volume(f"{name}/root", SIZE)
    seen: list[int] = []
    xfs_pool.backend.on_look = seen.append
    look(xfs_pool)
    assert seen == [1, 2, 3, 4]  # c is a directory too
