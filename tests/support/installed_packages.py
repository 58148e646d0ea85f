"""Packages of others, installed: each of one module, in a directory, as an installer leaves it there."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

TERMS = "lifecycle.policies"
BACKENDS = "lifecycle.backends"
HOSTS = "lifecycle.hosts"
RETENTION = "lifecycle.retention"


def add(
    target: Path, module: str, code: str, name: str, group: str = TERMS, what: str = ":term"
) -> None:
    """Put a package of one module into the directory, which offers the module's `term` (or the module) by this name."""
    sys.modules.pop(module, None)  # of another test's package
    (target / f"{module}.py").write_text(code)
    about = target / f"{module}-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}{what}\n")


def add_project(target: Path, project: Path) -> list[str]:
    """Put what an installer notes of a project into the directory; return where its modules are found from then on."""
    (target / "about").mkdir()
    found = tomllib.loads((project / "pyproject.toml").read_text())["project"]
    name, version = found["name"].replace("-", "_"), found["version"]
    about = target / "about" / f"{name}-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {found['name']}\nVersion: {version}\n"
    )
    lines = []
    for group, entries in found["entry-points"].items():
        lines += [f"[{group}]", *(f"{one} = {place}" for one, place in entries.items())]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return [str(target / "about"), str(project)]
