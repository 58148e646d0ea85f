"""Programs of a user, put into hooks.d."""

from __future__ import annotations

from pathlib import Path


def put(directory: Path, name: str, script: str, *, mode: int = 0o755) -> Path:
    """Put a hook into the directory, a shell script."""
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    hook = directory / name
    hook.write_text(f"#!/bin/sh\n{script}\n")
    hook.chmod(mode)
    return hook
