"""Real programs that a test needs. Without one, the test is skipped by name; where CI is set, it fails."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest

_SEARCH = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/lib/systemd:/usr/lib/systemd"


def program(name: str, package: str) -> str:
    """Return the path of a program."""
    found = shutil.which(name, path=_SEARCH)
    return found or missing(f"needs {name} (package {package})")


def missing(reason: str) -> NoReturn:
    """End the test, for what it needs is not here."""
    if os.environ.get("CI"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
