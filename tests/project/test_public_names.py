"""The names that the package offers: each is there, and none is loaded before it is asked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lifecycle


@pytest.mark.parametrize("name", lifecycle.__all__)
def test_each_public_name_is_there(name: str) -> None:
    found = getattr(lifecycle, name)
    module = found.__name__ if name.islower() else found.__module__
    assert module.startswith("lifecycle.")
    assert name in dir(lifecycle)


def test_a_name_that_is_not_there() -> None:
    with pytest.raises(AttributeError, match="module 'lifecycle' has no attribute 'nothing'"):
        _ = lifecycle.nothing
    assert not hasattr(lifecycle, "cli_of_another")


def test_importing_the_package_loads_nothing_else() -> None:
    script = "import sys, lifecycle; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True
    )
    ours = {name for name in done.stdout.split() if name.startswith("lifecycle")}
    assert ours == {"lifecycle"}
