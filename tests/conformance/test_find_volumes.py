"""Finding volumes in a pool, and telling them apart."""

import pytest

from conformance.conftest import Fill
from lifecycle import InvalidName, NoSuchVolume, Pool, Volume
from lifecycle.states import AT_REST
from support.disks import SIZE, disk

IDS = ["appvms/work/private", "ci/root", "ci-42/private", "ci-42/root"]
"""In the order of their VMs, then of their names."""


@pytest.fixture
def pool(fill: Fill) -> Pool:
    return fill({one: disk(one.encode()) for one in reversed(IDS)})


@pytest.fixture
def volumes(pool: Pool) -> list[Volume]:
    return [pool[one] for one in IDS]


def test_all_of_them_in_order(pool: Pool, volumes: list[Volume]) -> None:
    assert [one.id for one in pool.volumes()] == IDS
    assert [one.id for one in pool] == IDS
    assert set(pool.volumes()) == set(volumes)


@pytest.mark.parametrize(
    ("vm", "found"),
    [
        ("ci-42", ["ci-42/private", "ci-42/root"]),
        ("ci", ["ci/root"]),
        ("appvms/work", ["appvms/work/private"]),
        ("appvms", []),
        ("nowhere", []),
    ],
)
def test_one_vms(pool: Pool, volumes: list[Volume], vm: str, found: list[str]) -> None:
    assert [one.id for one in pool.volumes(vm)] == found


def test_one_by_its_id(pool: Pool, volumes: list[Volume]) -> None:
    volume = pool["ci-42/root"]

    assert volume.state in AT_REST
    assert (volume.vm, volume.name) == ("ci-42", "root")
    assert volume == Pool.open(pool.path)["ci-42/root"]
    assert volume != pool["ci/root"]
    assert len({volume, pool["ci-42/root"], pool["ci/root"]}) == 2
    assert volume in pool.volumes("ci-42")
    assert "ci-42/root" in pool


@pytest.mark.parametrize("missing", ["ci-42/roo", "ci-42/root2", "ci-4/root", "no/where"])
def test_one_that_is_not_there(pool: Pool, volumes: list[Volume], missing: str) -> None:
    assert missing not in pool
    with pytest.raises(NoSuchVolume, match=missing):
        pool[missing]


@pytest.mark.parametrize(
    "name",
    [
        "root",
        "",
        "/ci/root",
        "ci/",
        "/root",
        "ci//root",
        "../ci/root",
        "ci/../root",
        "ci/.root",
        "ci/-root",
        "ci/ro@ot",
        "ci/root~",
        "ci/root-dirty",
        "ci/root-precache",
        "ci/root-import",
        "ci/ro\not",
        "ci/ro\0ot",
        "ci/" + "x" * 250,
    ],
)
def test_a_name_that_is_none(pool: Pool, name: str) -> None:
    assert name not in pool
    with pytest.raises(InvalidName):
        pool[name]
    with pytest.raises(InvalidName):
        pool.create_volume(name, SIZE)
    assert [one.id for one in pool] == IDS


def test_an_empty_pool_has_none(fill: Fill) -> None:
    pool = fill({})

    assert pool.volumes() == []
    assert list(pool.verify()) == []


def test_how_large_they_are_is_told(pool: Pool, volumes: list[Volume]) -> None:
    assert {one.size for one in volumes} == {SIZE}
    assert all(one.usage > 0 for one in volumes)
    capacity = pool.capacity()
    assert capacity.size is not None
    assert capacity.usage is not None
    assert 0 < capacity.usage < capacity.size


def test_a_pool_in_order_needs_nothing(pool: Pool, volumes: list[Volume]) -> None:
    assert list(pool.verify()) == []
    assert pool.recover() == []
    assert [one.prune().remove for one in volumes] == [()] * len(IDS)
