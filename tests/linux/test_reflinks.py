"""Extents and shared blocks: how many there are, and an image shared stretch by stretch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from lifecycle.linux import reflinks


def test_extents_are_counted_up_to_a_limit(xfs: Any) -> None:
    path = Path(xfs.new_directory(), "image")
    with path.open("wb") as image:
        os.pwrite(image.fileno(), b"x" * 4096, 0)
        os.fsync(image.fileno())
        assert not reflinks.are_more_than(image.fileno(), 9)
        for piece in range(30):
            os.pwrite(image.fileno(), b"x" * 4096, piece * 65536)
            os.fsync(image.fileno())
        assert reflinks.are_more_than(image.fileno(), 9)


def test_an_image_is_shared_stretch_by_stretch(xfs: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reflinks, "_STRETCH", 8192)
    directory = xfs.new_directory()
    content = os.urandom(20000) + bytes(100000) + b"end"
    (directory / "a").write_bytes(content)
    with open(directory / "a", "rb") as source, open(directory / "b", "w+b") as target:
        assert reflinks.share(source.fileno(), target.fileno(), lambda: True) is True
        assert target.read() == content
    with open(directory / "a", "rb") as source, open(directory / "c", "w+b") as target:
        wanted = iter([True, False])
        assert reflinks.share(source.fileno(), target.fileno(), lambda: next(wanted)) is None
