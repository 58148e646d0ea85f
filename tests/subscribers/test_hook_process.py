"""One run of a hook's program, whatever it does: its output, its end, its time, and what it leaves behind."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lifecycle.subscribers import hook_process
from lifecycle.subscribers.hook_process import Ended


def run(script: str, *, given: bytes = b"{}", seconds: float = 1000) -> Ended:
    """Run a script as a hook, with more time than any test has."""
    path = Path(os.environ["HOOK"])
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return hook_process.run(str(path), given, os.environ, seconds)


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where `run` puts its script; scripts find their files beside it."""
    path = tmp_path / "program"
    monkeypatch.setenv("HOOK", str(path))
    return path


MEGABYTES = 5 << 20


@pytest.mark.usefixtures("program")
@pytest.mark.parametrize(
    ("script", "ended"),
    [
        ("true", Ended(None)),
        ("cat", Ended(None)),
        ("echo a >&2; echo >&2; echo b >&2", Ended(None, ("a", "b"))),
        ("exec <&-; exit 0", Ended(None)),
        ("exec >&- 2>&- <&-; exit 4", Ended("failed with exit status 4", (), True)),
        (f"head -c {MEGABYTES} /dev/zero", Ended(None)),
        (f"head -c {MEGABYTES} /dev/zero >&2; printf '\\nend' >&2", None),
        (f"yes | head -n {MEGABYTES} >&2", Ended(None, ("y",) * hook_process.LINES)),
        ("kill -64 $$", Ended("was ended by SIGRTMAX")),
        ("kill -40 $$", Ended("was ended by signal 40")),
        ("wc -c >&2", Ended(None, (str(MEGABYTES),))),
    ],
)
def test_a_program_that_ends(script: str, ended: Ended | None) -> None:
    found = run(script, given=b" " * MEGABYTES)
    if ended is not None:
        assert found == ended
    else:
        assert (found.problem, found.lines[-1]) == (None, "end")
        assert sum(map(len, found.lines)) <= 4 * hook_process.REMEMBERED


@pytest.fixture
def pipe(program: Path) -> Iterator[int]:
    """A named pipe beside the script, open here: what reads from it there ends with this test at the latest."""
    os.mkfifo(program.with_name("pipe"))
    fd = os.open(program.with_name("pipe"), os.O_RDWR)
    yield fd
    os.close(fd)


def test_what_is_left_in_the_background_is_not_waited_for_and_lives_on(
    program: Path, pipe: int
) -> None:
    done = program.with_name("done")
    os.mkfifo(done)
    left = f"(read word <{program.with_name('pipe')}; echo $word >{done}) &"
    assert run(f"{left}\necho left >&2") == Ended(None, ("left",))
    os.write(pipe, b"go\n")
    assert done.read_text() == "go\n"


@pytest.mark.parametrize("how", ["time is up", "interrupted"])
@pytest.mark.parametrize("stderr", ["open", "closed"])
def test_it_is_killed_with_all_that_it_started(
    program: Path, pipe: int, monkeypatch: pytest.MonkeyPatch, how: str, stderr: str
) -> None:
    alive, ready = program.with_name("alive"), program.with_name("ready")
    os.mkfifo(alive)
    listening = os.open(alive, os.O_RDONLY | os.O_NONBLOCK)

    asked = []

    def clock(_: int) -> float:
        asked.append(ready.exists())
        if len(asked) == 1 or not asked[-1]:
            return 0
        if how == "interrupted":
            raise KeyboardInterrupt
        return 1e9

    monkeypatch.setattr(
        hook_process, "time", SimpleNamespace(clock_gettime=clock, CLOCK_MONOTONIC=1)
    )
    wait = f"read word <{program.with_name('pipe')}"
    script = (
        f"{'exec 2>&-' if stderr == 'closed' else ''}\nexec 3>{alive}\n({wait}) &\n"
        f"trap '' TERM INT HUP\n>{ready}\n{wait}"
    )
    if how == "interrupted":
        with pytest.raises(KeyboardInterrupt):
            run(script)
    else:
        assert run(script).problem == "did not finish within 1000 s and was killed"
    os.set_blocking(listening, True)
    assert os.read(listening, 1) == b""  # those who held its other end are gone
    os.close(listening)


@pytest.mark.usefixtures("program")
def test_its_last_words_are_heard_though_it_has_ended_by_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def clock(_: int) -> float:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        return 0

    monkeypatch.setattr(
        hook_process, "time", SimpleNamespace(clock_gettime=clock, CLOCK_MONOTONIC=1)
    )
    assert run("echo last >&2; exit 1").lines == ("last",)


def test_it_is_no_one_elses_to_signal_at_the_terminal(program: Path) -> None:
    session = program.with_name("session")
    run(f"cut -d' ' -f6 /proc/$$/stat >{session}")
    assert int(session.read_text()) not in {0, os.getsid(0)}


def test_our_signals_are_not_its(program: Path) -> None:
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN  # as Python has it
    assert run("kill -PIPE $$").problem == "was ended by SIGPIPE"
