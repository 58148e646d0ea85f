"""A read-only pool for a user who may only read it, or only some of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifecycle import NotAPool, Pool, ReadOnlyPool, State
from lifecycle.engine import registry
from lifecycle.errors import StorageFailed
from support.disks import disk, seen
from support.holding_open import by_this_process
from support.image_trees import KERNEL, ids, plant
from support.mounts import run

NOBODY = 65534


@pytest.fixture
def open_pool(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Iterator[Pool]:
    """The pool where every user can reach it, with what is needed to open it loaded already.

    The tests' own directories, and perhaps this package's, are for root alone.
    """
    for path in (Path(pool.path), *Path(pool.path).rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    built_in = {
        **registry.BACKENDS.built_in,
        "directory": "lifecycle.directory.backend:DirectoryBackend",
    }
    monkeypatch.setattr(registry.BACKENDS, "built_in", built_in)
    monkeypatch.setenv("LIFECYCLE_CONFIG", "/mnt/no-settings")
    run("mount", "--bind", pool.path, "/mnt")
    try:
        use(Pool.open("/mnt"))
        yield pool
    finally:
        run("umount", "--lazy", "/mnt")


@pytest.fixture
def as_nobody(open_pool: Pool) -> Iterator[Pool]:
    """The pool, for a user who is neither root nor the owner of anything in it, which this process is now."""
    groups = os.getgroups()
    os.setgroups([])
    os.setegid(NOBODY)
    os.seteuid(NOBODY)
    try:
        yield Pool.open("/mnt")
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.setgroups(groups)


def use(pool: Pool) -> None:
    """Do all that one may do with a pool that is only read."""
    vm = pool.vm("kernels/6.1")
    vm.start()
    with by_this_process(f"{pool.path}/{KERNEL}"):
        vm.stop()
    assert seen(pool["media/debian-12.iso"]) == disk(b"installer")
    assert list(pool.verify()) == []
    assert pool.recover() == []
    assert [volume.prune().remove for volume in pool] == [()] * 3
    with pytest.raises(ReadOnlyPool):
        pool[KERNEL].remove()


def test_a_user_who_may_only_read(as_nobody: Pool) -> None:
    assert not os.access(as_nobody.path, os.W_OK, effective_ids=True)
    use(as_nobody)
    with pytest.raises(NotAPool, match="cannot be written to"):
        Pool.create(f"{as_nobody.path}/media", driver="directory")


def test_a_directory_and_a_file_that_one_may_not_read(open_pool: Pool, tree: Path) -> None:
    plant(tree, {"lost+found/image": b"lost", "media/secret": b"secret"})
    plant(tree, {"listed/image": b"listed"})
    (tree / "listed").chmod(0o744)
    (tree / "lost+found").chmod(0o700)
    (tree / "media" / "secret").chmod(0o600)
    assert "lost+found/image" in ids(open_pool)
    os.seteuid(NOBODY)
    try:
        pool = Pool.open("/mnt")
        found = ids(pool)
        findings = list(pool.verify())
        secret = pool["media/secret"]
        told = secret.state, secret.size, secret.in_use_by
        with pytest.raises(StorageFailed, match="Permission denied"):
            secret.export()
        with pytest.raises(StorageFailed, match="Permission denied"):
            secret.start()
    finally:
        os.seteuid(0)

    assert found == ["kernels/6.1/modules", KERNEL, "media/debian-12.iso", "media/secret"]
    assert told == (State.CREATED, 6, ())
    assert [(one.path, one.harmful) for one in findings] == [
        ("listed/image", True),
        ("lost+found", False),
        ("media/secret", True),
    ]
