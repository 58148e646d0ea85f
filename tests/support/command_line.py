"""The command line as a user calls it: in the test's own process, or as a process of its own.

Every test may ask for its fixtures: ../conftest.py loads them.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from lifecycle import Pool
from lifecycle.cli.app import main
from support.mounts import FileSystem

SCRIPT = os.path.join(os.path.dirname(sys.executable), "lifecycle")


@dataclass(frozen=True)
class Called:
    """What a call of the command line came to.

    Attributes:
        status: its exit status.
        out: what it wrote on standard output.
        err: what it wrote on standard error.
    """

    status: int
    out: str
    err: str

    @property
    def document(self) -> Any:
        """What it printed as JSON: one document, and nothing beside it."""
        return json.loads(self.out)

    @property
    def complaint(self) -> str:
        """Its error: one or two lines on standard error, and nothing on standard output."""
        assert self.out == ""
        return self.said

    @property
    def said(self) -> str:
        """Its error, where standard output is not empty (a command's, or JSON's)."""
        assert self.err.startswith("lifecycle: ")
        assert len(self.err.splitlines()) in {1, 2}
        assert "Traceback" not in self.err
        return self.err


Call = Callable[..., Called]


@pytest.fixture
def xfs_pool(xfs: FileSystem, monkeypatch: pytest.MonkeyPatch) -> Pool:
    """A new pool on XFS, which is the one that the command line uses."""
    pool = Pool.create(xfs.new_directory())
    monkeypatch.setenv("LIFECYCLE_POOL", pool.path)
    return pool


@pytest.fixture
def call(capfd: pytest.CaptureFixture[str]) -> Call:
    """Return a function that calls the command line, expecting the exit status 0 or the one given (None: any)."""

    def call(*words: str, status: int | None = 0) -> Called:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exited:
            main(words)
        called = Called(int(exited.value.code or 0), *capfd.readouterr())
        assert status in {None, called.status}, called
        return called

    return call


def begin(*words: str, **settings: Any) -> subprocess.Popen[str]:
    """Begin a call of the command line as a process; it is ended with the block it is used in."""
    settings = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | settings
    return subprocess.Popen([SCRIPT, *words], **settings)


def finish(process: subprocess.Popen[str], given: str | None = None) -> Called:
    """Wait for the process's end, giving it this on its standard input."""
    out, err = process.communicate(given)
    return Called(process.returncode, out or "", err or "")


def call_apart(*words: str, given: str | None = None, **settings: Any) -> Called:
    """Call the command line as a process of its own."""
    return finish(begin(*words, stdin=subprocess.PIPE, **settings), given)


# ---------------------------------------------------------------- documents

SHOW: dict[str, tuple[type | None, ...]] = {
    "id": (str,),
    "vm": (str,),
    "name": (str,),
    "state": (str,),
    "kind": (str,),
    "size": (int, None),
    "usage": (int, None),
    "rw": (bool,),
    "source": (str, None),
    "save_on_stop": (bool,),
    "snap_on_start": (bool,),
    "snapshots": (bool,),
    "path": (str,),
    "attachment": (dict,),
    "current": (int, None),
    "revisions": (list,),
    "outdated": (bool,),
    "left_over": (bool,),
    "in_use_by": (list,),
    "keep": (str,),
    "on_crash": (str,),
    "precache": (str,),
    "ready": (int,),
    "allowed": (list,),
}
"""The keys of a volume's document, with the types of their values; None for null."""
REVISION: dict[str, tuple[type | None, ...]] = {
    "number": (int,),
    "at": (str,),
    "cause": (str, None),
    "size": (int, None),
    "pinned": (bool,),
    "label": (str, None),
}


def check_shape(document: dict[str, Any], keys: dict[str, tuple[type | None, ...]]) -> None:
    """Check that the document has these keys and no others, and that their values are of these types."""
    assert set(document) == set(keys)
    for key, types in keys.items():
        found = None if document[key] is None else type(document[key])
        assert found in types, key
