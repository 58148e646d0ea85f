"""What lies in hooks.d and is not run: no program, or a program that others could have put there."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lifecycle import InvalidName, Pool, State, Vetoed, Volume
from lifecycle.subscribers.hooks import objection_to
from support.command_line import Call, call_apart
from support.disks import SIZE
from support.hook_programs import put

# ---------------------------------------------------------------- bad files


def a_directory(path: Path) -> None:
    path.mkdir()


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to("nothing")


def not_executable(path: Path) -> None:
    path.write_text("#!/bin/sh\nexit 1\n")
    path.chmod(0o644)


def a_pipe(path: Path) -> None:
    os.mkfifo(path, 0o755)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (a_directory, "it is no file"),
        (a_pipe, "it is no file"),
        (a_link_to_nothing, "No such file or directory"),
        (not_executable, "it is not executable; `chmod +x` it"),
    ],
)
def test_what_is_no_program_is_passed_over_with_a_warning(
    root: Volume,
    hooks: Path,
    noted: Path,
    caplog_of_hooks: Callable[[int], list[str]],
    make: Callable[[Path], None],
    reason: str,
) -> None:
    put(hooks, "pre-start-after", f"echo ran >{noted}")
    make(hooks / "pre-start")
    root.start()
    assert noted.read_text() == "ran\n"
    (warning,) = caplog_of_hooks(logging.WARNING)
    assert warning.startswith(f"hook {hooks}/pre-start is not run: ")
    assert warning.endswith(reason)


def test_a_hook_taken_away_meanwhile_is_passed_over(root: Volume, hooks: Path) -> None:
    later = put(hooks, "pre-start-2", "exit 1")
    put(hooks, "pre-start-1", f"rm {later}")
    root.start()
    assert root.state is State.STARTED


@pytest.mark.parametrize("kind", ["file", "link to a directory", "link to nothing"])
def test_hooks_d_itself(root: Volume, hooks: Path, noted: Path, tmp_path: Path, kind: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    if kind == "file":
        hooks.write_text("")
    else:
        hooks.symlink_to(elsewhere)
    if kind == "link to a directory":
        put(elsewhere, "pre-start", f"echo ran >{noted}")
    called = call_apart("start", "ci")
    assert called.status == 0
    assert noted.exists() is (kind == "link to a directory")
    complaint = f"lifecycle: no hook in {hooks} is run: Not a directory\n"
    assert called.err == (complaint if kind == "file" else "")
    assert list(root.pool.verify()) == []


def test_hooks_d_is_no_vm(call: Call, xfs_pool: Pool, root: Volume, hooks: Path) -> None:
    put(hooks, "pre-start", "true")
    (hooks / "root.img").write_bytes(b"x" * 512)
    (hooks / "lib").mkdir()
    (hooks / "lib" / "root.img").write_bytes(b"x" * 512)
    assert [volume.id for volume in xfs_pool] == ["ci/root"]
    assert list(xfs_pool.backend.vms()) == ["ci"]
    assert list(xfs_pool.verify()) == []
    assert xfs_pool.recover() == []
    for name in ("hooks.d/root", "hooks.d/lib/root"):
        with pytest.raises(InvalidName, match="own hooks"):
            xfs_pool.create_volume(name, SIZE)
    assert xfs_pool.create_volume("vms/hooks.d/root", SIZE).state is State.CREATED


# ---------------------------------------------------------------- who could have put it there


def owned_by_someone(path: Path) -> None:
    os.chown(path, 12345, 0)


def writable_by_others(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def writable_by_a_group(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o020)


def sticky(path: Path) -> None:
    path.chmod(0o1777)


@pytest.mark.parametrize("below", ["hook", "hooks.d", "pool"])
@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (owned_by_someone, "{} belongs to user 12345, neither root nor who calls"),
        (writable_by_others, "others may write to {}; `chmod go-w` it"),
        (writable_by_a_group, "others may write to {}; `chmod go-w` it"),
        (sticky, "others may write to {}; `chmod go-w` it"),
    ],
)
def test_what_others_could_have_put_there_is_not_run(
    root: Volume,
    hooks: Path,
    caplog_of_hooks: Callable[[int], list[str]],
    below: str,
    spoil: Callable[[Path], None],
    reason: str,
) -> None:
    hook = put(hooks, "pre-start", "exit 1")
    spoiled = {"hook": hook, "hooks.d": hooks, "pool": hooks.parent}[below]
    spoil(spoiled)
    trusted = (
        below == "pool" and spoil is sticky
    )  # as /tmp is: others cannot rename what is not theirs
    if trusted:
        with pytest.raises(Vetoed):
            root.start()
        return
    root.start()
    assert caplog_of_hooks(logging.WARNING) == [f"hook {hook} is not run: {reason.format(spoiled)}"]


def test_a_link_is_followed_and_what_it_leads_to_is_checked(
    root: Volume, hooks: Path, noted: Path, tmp_path: Path
) -> None:
    program = put(tmp_path / "bin", "quota", f"echo $0 >{noted}")
    hooks.mkdir()
    (hooks / "pre-start").symlink_to(program)
    root.start()
    assert noted.read_text() == f"{program}\n"
    assert objection_to(str(hooks / "pre-start"), program=True) is None
    program.parent.chmod(0o777)
    assert objection_to(str(hooks / "pre-start"), program=True) == (
        f"others may write to {program.parent}; `chmod go-w` it"
    )


@pytest.mark.parametrize(
    ("owner", "caller", "trusted"),
    [(0, 1000, True), (1000, 1000, True), (1001, 1000, False), (1000, 0, False)],
)
def test_only_root_and_who_calls_are_trusted(
    hooks: Path,
    monkeypatch: pytest.MonkeyPatch,
    owner: int,
    caller: int,
    trusted: bool,
) -> None:
    hook = put(hooks, "pre-start", "true")
    os.chown(hook, owner, 0)
    monkeypatch.setattr(os, "geteuid", lambda: caller)
    assert (objection_to(str(hook), program=True) is None) is trusted
