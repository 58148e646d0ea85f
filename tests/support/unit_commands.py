"""A unit's commands, taken out of the file that is installed and called by hand as systemd would."""

from __future__ import annotations

import functools
import os
import re
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

from lifecycle.hosts import systemd
from support import required_programs
from support.command_line import Called


@functools.cache
def instance(vm: str) -> str:
    """Return a VM's name as the instance of a unit."""
    escape = required_programs.program("systemd-escape", "systemd")
    done = subprocess.run([escape, "--", vm], capture_output=True, text=True, check=True)
    return done.stdout.removesuffix("\n")


@functools.cache
def unescaped(name: str) -> str:
    """Return what systemd fills in for %I."""
    escape = required_programs.program("systemd-escape", "systemd")
    done = subprocess.run(
        [escape, "--unescape", "--", name], capture_output=True, text=True, check=True
    )
    return done.stdout.removesuffix("\n")


def commands(text: str, key: str, name: str = "") -> list[list[str]]:
    """Return the commands behind a key of a unit, for this instance: split first, and then filled in."""
    lines = re.findall(rf"^{key}=[:@+!-]*(.*)$", text, re.MULTILINE)
    fill = {"%%": "%", "%i": name, "%I": unescaped(name) if name else ""}
    return [
        [re.sub("%.", lambda found: fill[found[0]], word) for word in shlex.split(line)]
        for line in lines
    ]


def call(
    root: Path, unit: str, key: str, vm: str = "", environment: Mapping[str, str] | None = None
) -> list[Called]:
    """Call the commands behind a key of an installed unit; those after one that fails are not called."""
    text = Path(f"{root}{systemd.DIRECTORY}", unit).read_text()
    called: list[Called] = []
    for words in commands(text, key, instance(vm) if vm else ""):
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
        )
        called.append(Called(done.returncode, done.stdout, done.stderr))
        if done.returncode != 0:
            break
    return called
