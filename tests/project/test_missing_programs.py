"""The tests themselves on a machine that lacks something: they skip by name and pass; in CI they fail by name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from support.hidden_programs import without
from support.mounts import FileSystem

ROOT = Path(__file__).parents[2]


def run_tests(lacked: Sequence[str], *words: str, ci: str = "") -> tuple[int, str]:
    """Run tests where programs are lacking; return the exit status, and what was printed."""
    pytest_ = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *words]
    done = subprocess.run(
        without(lacked, pytest_),
        cwd=ROOT,
        env={**os.environ, "CI": ci},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


CASES: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "file systems": (
        ("mkfs.xfs", "mkfs.btrfs", "mkfs.ext4"),
        ("tests/conformance/test_release.py", "tests/engine/test_template_story.py"),
        "needs a real file system (xfs): mkfs.xfs is not installed",
    ),
    "mounting": (
        ("mount",),
        ("tests/conformance/test_release.py",),
        "needs a real file system (btrfs): mount is not installed",
    ),
}
"""What is lacking; tests to which that matters; and what they say of it."""


@pytest.mark.parametrize("case", CASES)
def test_what_lacks_is_skipped_by_name(xfs: FileSystem, case: str) -> None:
    lacked, files, said = CASES[case]
    status, printed = run_tests(lacked, *files)
    last = printed.splitlines()[-1]
    assert (status, "failed" in last, "error" in last) == (0, False, False), printed
    assert "skipped" in last
    assert said in printed


def test_what_lacks_is_a_failure_in_ci(xfs: FileSystem) -> None:
    lacked, (file, *_), said = CASES["file systems"]
    status, printed = run_tests(lacked, file, "-x", ci="true")
    assert status == 1
    assert said in printed
