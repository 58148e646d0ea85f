"""QEMU's monitor: what it says of a guest's end, and whatever else may be found at a socket."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle.hosts.qmp import Account, Monitor, Verdict, is_served

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}}, "capabilities": []}}
ANSWER = {"return": {}}
PANICKED = {"event": "GUEST_PANICKED", "data": {"action": "pause"}}
RESET = {"event": "RESET", "data": {"guest": True, "reason": "guest-reset"}}
STOP = {"event": "STOP"}


def shutdown(reason: str) -> dict[str, object]:
    return {"event": "SHUTDOWN", "data": {"guest": reason.startswith("guest"), "reason": reason}}


STORIES = [
    # what it says after its greeting: whether the guest crashed
    ([shutdown("guest-shutdown")], False),
    ([shutdown("guest-reset")], False),
    ([shutdown("host-signal")], False),
    ([shutdown("host-qmp-quit")], False),
    ([{"event": "SHUTDOWN"}], False),
    ([shutdown("guest-shutdown"), STOP, shutdown("host-qmp-quit")], False),
    ([], True),
    ([STOP], True),
    ([RESET], True),
    ([shutdown("guest-panic")], True),
    ([shutdown("host-error")], True),
    ([PANICKED, shutdown("guest-panic")], True),
    ([PANICKED, STOP, shutdown("host-signal")], True),
    ([PANICKED, RESET, shutdown("guest-shutdown")], False),
    ([{"event": "GUEST_CRASHLOADED"}, shutdown("guest-shutdown")], True),
    ([shutdown("guest-shutdown"), RESET], True),
]
GARBAGE = {
    "no JSON": b"220 mail.example.org ESMTP\n",
    "no object": b"[1, 2]\n",
    "no greeting": b'{"event": "SHUTDOWN"}\n',
    "no end": b"x" * (1 << 20),
    "no text": b"\xff\xfe\n",
    "no bottom": b"[" * 100_000 + b"\n",
}


@pytest.mark.parametrize(("story", "crashed"), STORIES)
def test_how_the_guest_ended(story: list[dict[str, object]], crashed: bool) -> None:
    account = Account()
    greetings = [account.hear(json.dumps(said).encode()) for said in [GREETING, ANSWER, *story]]
    assert greetings == [True] + [False] * (len(story) + 1)
    assert account.verdict().crashed is crashed


# ---------------------------------------------------------------- at a socket


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "qmp")


@pytest.fixture
def qemu(path: str) -> Iterator[socket.socket]:
    """The socket of a QEMU that the test plays."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(1)
        yield listening


def line(said: object) -> bytes:
    return json.dumps(said).encode() + b"\n"


def greet(connection: socket.socket) -> None:
    """Greet, and wait for the answer."""
    connection.sendall(line(GREETING))
    assert json.loads(connection.recv(4096)) == {"execute": "qmp_capabilities"}


def test_what_is_said_last_is_heard(path: str, qemu: socket.socket) -> None:
    with Monitor(path) as monitor:
        connection, _ = qemu.accept()
        with connection:
            greet(connection)
            connection.sendall(line(ANSWER) + line(PANICKED) + line(shutdown("guest-panic")))
        assert monitor.verdict() == Verdict(True, "the guest panicked")


def test_one_that_does_not_read_is_heard_out(path: str, qemu: socket.socket) -> None:
    with Monitor(path) as monitor:
        connection, _ = qemu.accept()
        with connection:
            connection.sendall(line(GREETING) + line(shutdown("guest-shutdown")))
        assert monitor.verdict() == Verdict(False, "shut down (guest-shutdown)")


def test_one_cut_off_in_a_line_was_killed(path: str, qemu: socket.socket) -> None:
    with Monitor(path) as monitor:
        connection, _ = qemu.accept()
        with connection:
            greet(connection)
            connection.sendall(line(shutdown("guest-shutdown"))[:-5])
        assert monitor.verdict().crashed is True


def test_one_that_is_never_done_does_not_keep_us(path: str, qemu: socket.socket) -> None:
    with Monitor(path) as monitor:
        connection, _ = qemu.accept()
        with connection:
            greet(connection)
            connection.sendall(line(shutdown("guest-shutdown")))
            assert monitor.verdict().crashed is False  # and the connection is still open


def test_one_with_another_client_on_it_says_nothing(path: str, qemu: socket.socket) -> None:
    with Monitor(path) as monitor:
        connection, _ = qemu.accept()
        with connection:
            assert monitor.verdict() == Verdict(None, "it said nothing; is another client on it?")


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
def test_garbage_is_no_verdict(path: str, qemu: socket.socket, garbage: bytes) -> None:
    with Monitor(path) as monitor:
        connection, _ = qemu.accept()
        with connection:
            connection.sendall(garbage)
        assert monitor.verdict() == Verdict(None, "what is there does not speak QMP")


def test_a_socket_that_never_appears(path: str) -> None:
    with Monitor(path) as monitor:
        verdict = monitor.verdict()
    assert verdict.crashed is None


def left_from_before(path: str) -> None:
    """Leave a socket that no one is behind."""
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(path)


def test_a_socket_left_from_before_is_waited_over(path: str) -> None:
    left_from_before(path)
    with Monitor(path) as monitor, socket.socket(socket.AF_UNIX) as new:
        os.unlink(path)  # as QEMU does
        new.bind(path)
        new.listen(1)
        connection, _ = new.accept()
        with connection:
            greet(connection)
            connection.sendall(line(shutdown("guest-shutdown")))
        assert monitor.verdict().crashed is False


def test_a_path_too_long_for_an_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    below = tmp_path / ("d" * 200)
    below.mkdir()
    monkeypatch.chdir(below)
    with socket.socket(socket.AF_UNIX) as listening, Monitor(f"{below}/qmp") as monitor:
        listening.bind("qmp")
        listening.listen(1)
        connection, _ = listening.accept()
        with connection:
            greet(connection)
            connection.sendall(line(shutdown("guest-shutdown")))
        assert monitor.verdict().crashed is False


# ---------------------------------------------------------------- is one served already?


def test_a_socket_with_someone_behind_is_served(path: str, qemu: socket.socket) -> None:
    assert is_served(path)


def test_a_socket_that_can_take_no_more_is_served(path: str, qemu: socket.socket) -> None:
    for _ in range(3):
        assert is_served(path)  # none of these is ever accepted


@pytest.mark.parametrize(
    "make", [lambda path: None, left_from_before, lambda path: open(path, "w").close()]
)
def test_what_has_no_one_behind_it_is_not_served(path: str, make) -> None:
    make(path)
    assert not is_served(path)
