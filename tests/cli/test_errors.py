"""The command line's errors: exit statuses, what is said and where, and how it ends when it is cut short."""

from __future__ import annotations

import errno
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lifecycle import Pool, Refused, events
from lifecycle.report import documents
from support.command_line import SCRIPT, Call, begin, call_apart, finish
from support.disks import SIZE, cycle, disk, seen

# ---------------------------------------------------------------- an array that is cut short


@pytest.mark.parametrize("told", [0, 1, 2])
@pytest.mark.parametrize(
    ("error", "kind", "message", "expected"),
    [
        (OSError(errno.EIO, "broken", "here"), "OSError", "here: broken.", 1),
        (Refused("ci/b", "dirty", "look", "not now"), "Refused", "cannot look: not now.", 3),
        (KeyboardInterrupt(), "Interrupted", "interrupted; ", 130),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_a_list_that_fails_half_way_is_whole_json_that_ends_with_the_error(
    call: Call,
    xfs_pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    told: int,
    error: BaseException,
    kind: str,
    message: str,
    expected: int,
) -> None:
    for name in ("a", "b"):
        xfs_pool.create_volume(f"ci/{name}", SIZE)
    whole = documents.of_survey

    def cut_short(*given: Any) -> Iterator[Any]:
        yield from itertools.islice(whole(*given), told)
        raise error

    monkeypatch.setattr(documents, "of_survey", cut_short)
    called = call("list", "--json", status=expected)
    *listed, last = called.document if told else [called.document]
    assert [one["id"] for one in listed] == ["ci/a", "ci/b"][:told]
    assert (last["error"]["kind"], message in last["error"]["message"]) == (kind, True)
    assert message in called.said


# ---------------------------------------------------------------- exit statuses

STATUSES = [
    # 1: it failed
    (("show", "ci/nothing"), 1),
    (("show", "nothing/root"), 1),
    (("revert", "ci/root", "--to", "9"), 1),
    (("export", "ci/root", "-", "--revision", "9"), 1),
    (("import", "ci/root", "/nonexistent"), 1),
    (("import", "ci/root", "/"), 1),
    (("import", "ci/root", "/dev/null"), 1),
    (("export", "ci/root", "/nonexistent/file"), 1),
    (("export", "ci/root", "/"), 1),
    (("clone", "/nonexistent", "ci/copy"), 1),
    (("clone", "ci/nothing", "ci/copy"), 1),
    (("create", "ci/dev", "--source", "ci/nothing"), 1),
    (("list", "--pool", "/nonexistent"), 1),
    (("init", "/dev/null/pool"), 1),
    # 2: it was called wrongly
    (("frobnicate",), 2),
    (("show",), 2),
    (("show", "ci/root", "ci/root"), 2),
    (("show", "--frobnicate", "ci/root"), 2),
    (("show", "root"), 2),
    (("show", "../root"), 2),
    (("show", "/etc/passwd"), 2),
    (("create", "ci/new", "--size", "lots"), 2),
    (("create", "ci/new", "--size", "1M", "--keep", "last"), 2),
    (("create", "ci/new", "--size", "1M", "--on-crash", "panic"), 2),
    (("create", "ci/new", "--source", "ci/new"), 2),
    (("revert", "ci/root", "--to", "last"), 2),
    (("diagram", "--format", "png"), 2),
    (("completion", "cmd"), 2),
    (("run", "ci"), 2),
    (("run",), 2),
    # 3: it was refused
    (("create", "ci/root", "--size", "1M"), 3),
    (("stop", "ci"), 3),
    (("stop", "ci/root"), 3),
    (("checkpoint", "ci/root"), 3),
    (("clone", "ci/root", "ci/root"), 3),
    (("forget", "ci/root", "1"), 3),
]


@pytest.mark.parametrize(
    ("words", "status"), STATUSES, ids=[" ".join(words) for words, _status in STATUSES]
)
def test_a_failing_call_says_why_and_changes_nothing(
    call: Call, xfs_pool: Pool, words: tuple[str, ...], status: int
) -> None:
    cycle(xfs_pool.create_volume("ci/root", SIZE), b"precious")
    before = call("list", "--json").document
    complaint = call(*words, status=status).complaint
    assert len(complaint) < 600
    assert call("list", "--json").document == before
    assert seen(xfs_pool["ci/root"]) == disk(b"precious")


def test_what_is_wrong_is_said_in_json_too(call: Call, xfs_pool: Pool) -> None:
    xfs_pool.create_volume("ci/root", SIZE)
    called = call("stop", "ci/root", "--json", status=3)
    error = called.document["error"]
    assert called.document == {"error": error}
    assert error == {
        "kind": "Refused",
        "message": called.said.removeprefix("lifecycle: ").rstrip("\n"),
        "volume": "ci/root",
        "state": "created",
        "event": "stop",
        "reason": "it is not running",
        "allowed": ["start", "revert", "resize", "import", "remove"],
    }


@pytest.mark.parametrize(
    ("words", "kind", "status"),
    [
        (("show", "ci/nothing"), "NoSuchVolume", 1),
        (("show", "../root"), "InvalidName", 2),
        (("show",), "MissingParameter", 2),
        (("import", "ci/root", "/nonexistent"), "FileNotFoundError", 1),
        (("create", "ci/new", "--size", "0"), "InvalidSize", 2),
    ],
)
def test_every_kind_of_error_is_one_json_document(
    call: Call, xfs_pool: Pool, words: tuple[str, ...], kind: str, status: int
) -> None:
    xfs_pool.create_volume("ci/root", SIZE)
    called = call(*words, "--json", status=status)
    error = called.document["error"]
    assert error["kind"] == kind
    assert error["message"] in called.said


def test_a_pool_that_cannot_be_opened_is_no_wrong_usage(call: Call, xfs_pool: Pool) -> None:
    Path(xfs_pool.path, "pool.toml").write_text("keep = 5\n")
    assert "pool.toml" in call("list", status=1).complaint


def test_a_veto_is_a_refusal_with_its_reason(call: Call, xfs_pool: Pool) -> None:
    def object_to(_pool: Pool, **_what: object) -> None:
        raise RuntimeError("the backup is still running")

    xfs_pool.create_volume("ci/root", SIZE)
    with events.starting.connected_to(object_to):
        complaint = call("start", "ci", status=3).complaint
        assert call("start", "ci", "--json", status=3).document["error"]["kind"] == "Vetoed"
    assert "the backup is still running" in complaint
    assert xfs_pool["ci/root"].state == "created"


def test_a_volume_that_another_process_works_on_is_named_with_that_process(
    call: Call, xfs_pool: Pool
) -> None:
    xfs_pool.create_volume("ci/root", SIZE)
    toml = Path(xfs_pool.path, "pool.toml")
    toml.write_text(toml.read_text() + "\nlock_timeout = 0\n")
    with subprocess.Popen(
        ["flock", "--no-fork", f"{xfs_pool.path}/ci", "cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(b"locked\n")
        other.stdin.flush()
        assert other.stdout.readline() == b"locked\n"
        complaint = call("start", "ci", status=1).complaint
        call("show", "ci/root")
    assert f"(pid {other.pid})" in complaint
    assert "lock_timeout" in complaint


def test_json_among_the_words_of_a_wrapped_command_is_not_for_us(
    call: Call, xfs_pool: Pool
) -> None:
    assert "no such volume or VM" in call("run", "ci", "--", "tool", "--json", status=1).complaint


def test_without_a_command_the_help_is_shown(call: Call) -> None:
    called = call(status=2)
    assert (called.out + called.err).startswith("Usage: lifecycle [OPTIONS] COMMAND")


# ---------------------------------------------------------------- cut short


def test_an_interrupted_import_leaves_nothing_behind(xfs_pool: Pool) -> None:
    volume = xfs_pool.create_volume("ci/root", SIZE)
    cycle(volume, b"precious")
    before = sorted(os.listdir(f"{xfs_pool.path}/ci"))
    with begin("import", "ci/root", "-", stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write("x" * (1 << 20))  # more than a pipe holds, so the import has begun
        process.stdin.flush()
        process.send_signal(signal.SIGINT)
        called = finish(process)
    assert called.status == 130
    assert "interrupted" in called.complaint
    assert sorted(os.listdir(f"{xfs_pool.path}/ci")) == before
    assert seen(volume) == disk(b"precious")


@pytest.mark.parametrize(
    "words",
    ["list", "list --json", "show ci/root", "log ci/root", "--help", "export ci/root -"],
)
def test_a_reader_that_has_gone_is_met_in_silence(xfs_pool: Pool, words: str) -> None:
    xfs_pool.create_volume("ci/root", SIZE)
    reading, writing = os.pipe()
    os.close(reading)
    try:
        called = call_apart(*words.split(), stdout=writing)
    finally:
        os.close(writing)
    assert (called.status, called.err) == (1, "")


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["at the end", "at once"])
@pytest.mark.parametrize("words", ["list", "list --json", "show ci/root", "start ci/root"])
def test_a_full_standard_output_is_an_error(
    xfs_pool: Pool, monkeypatch: pytest.MonkeyPatch, words: str, unbuffered: str
) -> None:
    """Whenever what was printed is written there; and it is said once."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    xfs_pool.create_volume("ci/root", SIZE)
    with open("/dev/full", "w", encoding="utf-8") as full:
        called = call_apart(*words.split(), stdout=full)
    assert (called.status, called.err) == (1, "lifecycle: No space left on device.\n")


@pytest.mark.parametrize(
    ("words", "closed", "status"),
    [
        ("list", ">&-", 0),
        ("show ci/root --json", ">&-", 0),
        ("stop ci/root", "2>&-", 3),
        ("import ci/root -", "<&-", 1),
    ],
)
def test_a_standard_stream_that_is_closed_is_no_reason_for_a_traceback(
    xfs_pool: Pool, words: str, closed: str, status: int
) -> None:
    cycle(xfs_pool.create_volume("ci/root", SIZE), b"precious")
    done = subprocess.run(
        ["sh", "-c", f"exec {SCRIPT} {words} {closed}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == status
    assert seen(xfs_pool["ci/root"]) == disk(b"precious")
