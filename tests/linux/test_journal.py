"""The log in systemd's journal, by systemd's own daemon."""

from __future__ import annotations

import errno
import logging
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lifecycle import Change, Pool, State, events, times
from lifecycle.linux import journal
from lifecycle.subscribers import log
from support.command_line import SCRIPT
from support.disks import SIZE, draw
from support.failing_backend import backend_fails
from support.journald import Journald
from support.mounts import FileSystem
from support.pools import create_pool


class Kept(logging.Handler):
    """Keeps the lines that it gets."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def record(text: str, level: int = logging.INFO, **fields: str) -> logging.LogRecord:
    made = logging.LogRecord("lifecycle.test", level, "", 0, text, None, None)
    made.fields = fields
    return made


def facts(entry: dict[str, Any]) -> dict[str, str]:
    return {name: value for name, value in entry.items() if name.startswith("LIFECYCLE_")}


# ---------------------------------------------------------------- what is sent


@pytest.mark.parametrize(
    "text",
    ["", "plain", "a=b", "two\nlines", "\n", "ends in one\n", "Ünïcode ☃", "x" * 3_000_000],
    ids=["empty", "plain", "equals", "lines", "newline", "ending", "unicode", "large"],
)
def test_any_text_arrives_as_it_was(
    journald: Journald, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("LIFECYCLE_JOURNAL", journald.socket)
    journal.send({"MESSAGE": "here", "LIFECYCLE_VM": text})
    (entry,) = journald.entries()
    assert entry.get("LIFECYCLE_VM", "") == text
    assert entry["MESSAGE"] == "here"


def test_bytes_that_are_no_text_do_not_hinder_a_line(
    journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_JOURNAL", journald.socket)
    journal.send({"MESSAGE": "a\udcff\ud800"})
    assert journald.entries()[0]["MESSAGE"] == r"a\udcff\ud800"


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.CRITICAL, "2"),
        (logging.ERROR, "3"),
        (logging.WARNING, "4"),
        (logging.INFO, "6"),
        (logging.DEBUG, "7"),
        (logging.ERROR + 1, "3"),
        (logging.INFO - 1, "7"),
    ],
)
def test_a_line_says_who_logged_it_and_how_grave_it_is(
    journald: Journald, monkeypatch: pytest.MonkeyPatch, level: int, priority: str
) -> None:
    monkeypatch.setenv("LIFECYCLE_JOURNAL", journald.socket)
    journal.JournalHandler(Kept()).handle(record("something", level))
    (entry,) = journald.entries()
    assert (entry["MESSAGE"], entry["PRIORITY"]) == ("something", priority)
    assert (entry["SYSLOG_IDENTIFIER"], entry["LOGGER"]) == ("lifecycle", "lifecycle.test")


def test_an_exception_is_told_in_a_line_and_its_traceback_kept_beside(
    journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_JOURNAL", journald.socket)
    line = record("could not be tidied", logging.ERROR)
    try:
        raise OSError(errno.EIO, "Input/output error")
    except OSError:
        line.exc_info = sys.exc_info()
    journal.JournalHandler(Kept()).handle(line)
    (entry,) = journald.entries()
    assert entry["MESSAGE"] == "could not be tidied: [Errno 5] Input/output error"
    assert entry["LIFECYCLE_TRACEBACK"].startswith("Traceback (most recent call last):\n")


# ---------------------------------------------------------------- a journal that does not take it


def test_without_a_journal_the_line_goes_where_it_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_JOURNAL", str(tmp_path / "none"))
    assert not journal.is_there()
    otherwise = Kept()
    journal.JournalHandler(otherwise).handle(record("something"))
    assert otherwise.lines == ["something"]


def test_a_journal_that_does_not_keep_up_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as busy:
        busy.bind("")  # no one reads from it
        monkeypatch.setattr(journal, "socket_path", busy.getsockname)
        otherwise, sent = Kept(), 0
        handler = journal.JournalHandler(otherwise)
        while not otherwise.lines:
            sent += 1
            handler.handle(record(f"line {sent}"))
        assert sent > 1
        assert otherwise.lines == [f"line {sent}"]


def test_a_journal_that_is_restarted_is_found_again(
    journald: Journald, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_JOURNAL", journald.socket)
    otherwise = Kept()
    handler = journal.JournalHandler(otherwise)
    assert journal.is_there()
    handler.handle(record("before"))
    journald.stop()
    handler.handle(record("meanwhile"))
    journald.start()
    handler.handle(record("after"))
    assert [entry["MESSAGE"] for entry in journald.entries()] == ["before", "after"]
    assert otherwise.lines == ["meanwhile"]


def test_a_line_that_does_not_fit_its_arguments_harms_no_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    line = record("%d")
    line.args = ("text",)
    journal.JournalHandler(Kept()).handle(line)
    assert "--- Logging error ---" in capfd.readouterr().err


# ---------------------------------------------------------------- which stream is the journal


def test_only_the_stream_that_systemd_named_is_the_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(tmp_path / "stream", "w") as stream:
        found = os.fstat(stream.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        assert journal.is_behind(stream.fileno())
        for other in (f"{found.st_dev}:1", "", "nonsense", f"{found.st_dev}:{found.st_ino}:1"):
            monkeypatch.setenv("JOURNAL_STREAM", other)
            assert not journal.is_behind(stream.fileno())
        monkeypatch.delenv("JOURNAL_STREAM")
        assert not journal.is_behind(stream.fileno())
        gone = stream.fileno()
    assert not journal.is_behind(gone)


# ---------------------------------------------------------------- what is told of a transition


@pytest.fixture
def pool(xfs: FileSystem) -> Pool:
    """One file system is enough: the log knows of none."""
    return create_pool(xfs)


@pytest.fixture
def told(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """What is logged of transitions."""
    caplog.set_level(logging.INFO, logger=log.log.name)
    log.connect()
    log.connect()
    return caplog


def lines(told: pytest.LogCaptureFixture) -> list[str]:
    return [one.getMessage() for one in told.records if one.name == log.log.name]


def test_every_transition_is_one_line(told: pytest.LogCaptureFixture, pool: Pool) -> None:
    volume = pool.create_volume("work/ci-42/root", SIZE, keep="last 0")
    volume.start()
    volume.stop()
    volume.start()
    draw(volume, b"one")
    volume.stop(reason="crash")
    assert lines(told) == [
        "work/ci-42/root: create from absent to created, revision 0",
        "work/ci-42/root: start from created to started, revision 0",
        "work/ci-42/root: release from started to created",
        "work/ci-42/root: start from created to started, revision 0",
        "work/ci-42/root: write from started to dirty",
        "work/ci-42/root: commit from dirty to committed, revision 1 (crash)",
    ]
    assert told.records[-1].__dict__["fields"] == {
        "LIFECYCLE_POOL": pool.path,
        "LIFECYCLE_VM": "work/ci-42",
        "LIFECYCLE_VOLUME": "work/ci-42/root",
        "LIFECYCLE_EVENT": "commit",
        "LIFECYCLE_FROM": "dirty",
        "LIFECYCLE_TO": "committed",
        "LIFECYCLE_REVISION": "1",
        "LIFECYCLE_REASON": "crash",
    }


@pytest.mark.parametrize("event", events.EVENTS)
def test_no_event_is_left_out(told: pytest.LogCaptureFixture, pool: Pool, event: str) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    told.clear()
    change = Change(event, State.STARTED, State.STARTED, times.now(), revision=3)
    events.tell(events.EVENTS[event].reported, pool, volume=volume, change=change)
    assert lines(told) == [f"ci/root: {event}, revision 3"]


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            (
                "ci/root: start failed: No space left on device. No image was lost; mend the cause and"
                " repeat the command."
            ),
        ),
        (RuntimeError("a bug"), "ci/root: start failed: a bug"),
    ],
    ids=["storage", "other"],
)
def test_a_failure_is_an_error_that_says_what_was_tried(
    told: pytest.LogCaptureFixture, pool: Pool, error: Exception, text: str
) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    told.clear()
    with backend_fails(pool, "start", error=lambda: error), pytest.raises(type(error)):
        volume.start()
    (line,) = told.records
    assert (line.levelno, line.getMessage()) == (logging.ERROR, text)
    fields = line.__dict__["fields"]
    assert fields["LIFECYCLE_ERROR"] == text
    assert fields["LIFECYCLE_FROM"] == "created"
    assert "LIFECYCLE_TO" not in fields


# ---------------------------------------------------------------- the command line in a unit


def call_in_unit(journald: Journald, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Call the command line as a unit's process, with the journal as its standard error."""
    with journald.stream() as stream:
        found = os.fstat(stream.fileno())
        environment = {
            **os.environ,
            "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}",
            "LIFECYCLE_JOURNAL": journald.socket,
        }
        return subprocess.run(
            [SCRIPT, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
            env=environment,
            check=False,
        )


def test_a_unit_s_log_can_be_searched_by_volume(journald: Journald, xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci-42/root", SIZE)
    assert call_in_unit(journald, "start", "ci-42").returncode == 0
    draw(volume, b"one")
    assert call_in_unit(journald, "stop", "ci-42").returncode == 0
    entries = journald.entries()
    assert [entry["LIFECYCLE_EVENT"] for entry in entries] == ["start", "write", "commit"]
    assert {entry["LIFECYCLE_VOLUME"] for entry in entries} == {"ci-42/root"}
    assert {entry["SYSLOG_IDENTIFIER"] for entry in entries} == {"lifecycle"}
    assert entries[-1]["MESSAGE"] == "ci-42/root: commit from dirty to committed, revision 1"
    assert entries[-1]["PRIORITY"] == "6"


def test_a_unit_s_log_tells_of_files_only_when_asked(journald: Journald, xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci-42/root", SIZE)
    assert call_in_unit(journald, "start", "ci-42", "--verbose").returncode == 0
    entries = journald.entries()
    assert [facts(entry)["LIFECYCLE_EVENT"] for entry in entries if facts(entry)] == ["start"]
    assert any("root-dirty.img" in entry["MESSAGE"] for entry in entries if not facts(entry))


def test_what_a_unit_complains_of_is_in_the_journal_too(journald: Journald, xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci-42/root", SIZE)
    assert call_in_unit(journald, "stop", "ci-42").returncode == 3
    (entry,) = journald.entries()
    assert entry["_TRANSPORT"] == "stdout"
    assert "none of its volumes is running" in entry["MESSAGE"]


def test_a_unit_goes_on_without_the_journal(journald: Journald, xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci-42/root", SIZE)
    with journald.stream() as stream:
        found = os.fstat(stream.fileno())
        journald.stop()
        done = subprocess.run(
            [SCRIPT, "start", "ci-42"],
            stdout=subprocess.PIPE,
            stderr=stream,
            env={
                **os.environ,
                "JOURNAL_STREAM": f"{found.st_dev}:{found.st_ino}",
                "LIFECYCLE_JOURNAL": journald.socket,
            },
            check=True,
        )
    assert done.stdout.decode() == f"ci-42/root: started, at {volume.path}\n"


def test_another_stderr_stays_as_it_is(journald: Journald, xfs_pool: Pool) -> None:
    """A program started by a unit inherits the variable, but may have redirected its output."""
    xfs_pool.create_volume("ci-42/root", SIZE)
    done = subprocess.run(
        [SCRIPT, "start", "ci-42", "--verbose"],
        capture_output=True,
        env={**os.environ, "JOURNAL_STREAM": "1:1", "LIFECYCLE_JOURNAL": journald.socket},
        check=True,
        text=True,
    )
    assert "ci-42/root: start from created to started, revision 0" in done.stderr
    assert journald.entries() == []
