"""What a command says of an address that is a VM where it takes a volume, or a volume where it takes a VM."""

from __future__ import annotations

import pytest

from cli.test_help import NAMES, command_of, leaves
from lifecycle import Pool
from lifecycle.cli.app import cli
from lifecycle.machine import known_pools
from support.command_line import Call
from support.disks import SIZE

TAKES_A_VOLUME = {
    "accept": "VOLUME",
    "attach": "VOLUME --for qemu",
    "create": "new/root --source VOLUME",
    "clone": "VOLUME new/root",
    "diagram": "VOLUME",
    "export": "VOLUME -",
    "forget": "VOLUME 1",
    "import": "VOLUME -",
    "label": "VOLUME 1 words",
    "log": "VOLUME",
    "pin": "VOLUME 1",
    "resize": "VOLUME 1M",
    "revert": "VOLUME",
    "set": "VOLUME rw=no",
    "show": "VOLUME",
    "unpin": "VOLUME 1",
}
TAKES_A_VM = {"run": "VM -- true"}
TAKES_BOTH = {"checkpoint", "list", "prune", "recover", "remove", "start", "stop", "verify"}
TAKES_NEITHER = {"adopt", "completion", "init", "pool", "pools"}


def test_each_command_is_in_one_of_these_tables() -> None:
    tables = (TAKES_A_VOLUME.keys(), TAKES_A_VM.keys(), TAKES_BOTH, TAKES_NEITHER)
    assert sorted(name for one in tables for name in one) == sorted(
        words[0] for words in leaves(cli, NAMES) if words[0] != "host"
    )
    for name in (*TAKES_A_VOLUME, *TAKES_A_VM, *TAKES_BOTH):
        assert command_of(name).params, name


@pytest.fixture
def pool(xfs_pool: Pool) -> Pool:
    """A pool known as `here`, with two VMs."""
    for volume_id in ("ci/data", "ci/root", "apps/work/private"):
        xfs_pool.create_volume(volume_id, SIZE)
    known_pools.enter(xfs_pool.path, "here")
    return xfs_pool


@pytest.mark.parametrize("name", TAKES_A_VOLUME)
@pytest.mark.parametrize(
    ("address", "volumes"),
    [
        ("ci", "ci/data, ci/root."),
        ("apps/work", "apps/work/private."),
        ("here:ci", "here:ci/data, here:ci/root."),
    ],
)
def test_what_takes_a_volume_names_those_of_a_vm(
    call: Call, pool: Pool, name: str, address: str, volumes: str
) -> None:
    assert pool["ci/root"]
    words = TAKES_A_VOLUME[name].replace("VOLUME", address).split()
    complaint = call(name, *words, status=2).complaint
    assert f"{address} is a VM" in complaint
    assert f"name one of its volumes, {volumes}" in complaint


@pytest.mark.parametrize("name", TAKES_A_VM)
@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ci/root", "ci/root is a volume, and this takes a VM: name its VM, ci."),
        (
            "apps/work/private",
            "apps/work/private is a volume, and this takes a VM: name its VM, apps/work.",
        ),
        ("here:ci/root", "here:ci/root is a volume, and this takes a VM: name its VM, here:ci."),
    ],
)
def test_what_takes_a_vm_names_that_of_a_volume(
    call: Call, pool: Pool, name: str, address: str, said: str
) -> None:
    assert pool["ci/root"]
    words = TAKES_A_VM[name].replace("VM", address).split()
    assert said in call(name, *words, status=2).complaint


def test_what_is_both_is_what_the_command_takes(call: Call, pool: Pool) -> None:
    pool.create_volume("ci/root/inner", SIZE)  # of a VM that is called as a volume is
    assert call("show", "ci/root", "--json").document["id"] == "ci/root"
    assert call("run", "ci/root", "--json", "--", "true").document[0]["id"] == "ci/root/inner"


@pytest.mark.parametrize(
    ("words", "status"), [("show nothing", 2), ("show ci/none", 1), ("run none -- true", 1)]
)
def test_what_is_neither_is_said_as_before(call: Call, pool: Pool, words: str, status: int) -> None:
    assert pool["ci/root"]
    complaint = call(*words.split(), status=status).complaint
    assert "cannot be a name" in complaint or "no such volume or VM" in complaint


def test_attach_takes_a_volume_of_another_known_pool(
    call: Call, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LIFECYCLE_POOL", "/nothing")
    assert pool["ci/root"].path in call("attach", "here:ci/root", "--for", "qemu").out
