"""Which volume can be the source of which."""

from typing import Any

import pytest

from lifecycle import InvalidConfig, InvalidName, NoSuchVolume, Pool, Refused, State, Volume
from support.disks import SIZE, cycle, disk, seen_by_vm


@pytest.fixture
def template(pool: Pool) -> Volume:
    template = pool.create_volume("templates/debian", SIZE)
    cycle(template, b"debian")
    return template


@pytest.mark.parametrize(
    ("settings", "error"),
    [
        ({"source": "templates/nowhere"}, NoSuchVolume),
        ({"source": "nowhere/at-all"}, NoSuchVolume),
        ({"source": "ci/root"}, InvalidConfig),
        ({"source": "others/disposable"}, InvalidConfig),
        ({"source": "others/volatile"}, InvalidConfig),
        ({"source": "../outside"}, InvalidName),
        ({"source": "templates/debian", "save_on_stop": True}, InvalidConfig),
    ],
)
def test_what_cannot_be(
    pool: Pool, template: Volume, settings: dict[str, Any], error: type[Exception]
) -> None:
    pool.create_volume("others/disposable", source=template)
    pool.create_volume("others/volatile", SIZE, save_on_stop=False)
    with pytest.raises(error):
        pool.create_volume("ci/root", **settings)

    assert "ci/root" not in pool
    assert pool.volumes("ci") == []


def test_both_flags_are_refused_with_the_reason(pool: Pool, template: Volume) -> None:
    with pytest.raises(InvalidConfig, match="never be"):
        pool.create_volume("ci/root", source=template, save_on_stop=True)


def test_a_read_only_volume_can_be_one(pool: Pool, template: Volume) -> None:
    iso = pool.clone(template, "iso/debian", rw=False)
    disposable = pool.create_volume("ci/root", source=iso)
    disposable.start()

    assert seen_by_vm(disposable) == disk(b"debian")


def test_a_volume_of_the_same_vm_can_be_one(pool: Pool) -> None:
    cycle(pool.create_volume("ci/root", SIZE), b"mine")
    second = pool.create_volume("ci/second", source="ci/root")
    pool.vm("ci").start()

    assert seen_by_vm(second) == disk(b"mine")


def test_a_source_is_not_removed(pool: Pool, template: Volume) -> None:
    disposables = [pool.create_volume(f"ci-{n}/root", source=template) for n in range(2)]
    with pytest.raises(Refused, match="ci-0/root, ci-1/root") as refusal:
        template.remove()
    assert refusal.value.event == "remove"
    assert template.state is State.COMMITTED

    for one in disposables:
        one.remove()
    template.remove()
    assert pool.volumes() == []


def test_many_that_need_it_are_not_all_named(pool: Pool, template: Volume) -> None:
    for n in range(8):
        pool.create_volume(f"ci-{n}/root", source=template)
    with pytest.raises(Refused, match="…"):
        template.remove()


def test_it_can_be_changed_at_rest(pool: Pool, template: Volume) -> None:
    other = pool.create_volume("templates/fedora", 2 * SIZE)
    cycle(other, b"fedora")
    disposable = pool.create_volume("ci/root", source=template)
    disposable.start()
    with pytest.raises(Refused, match="at rest"):
        disposable.configure(source=other.id)
    disposable.stop()
    disposable.configure(source=other.id)
    disposable.start()

    assert disposable.source == other
    assert seen_by_vm(disposable) == disk(b"fedora", size=2 * SIZE)
    template.remove()


@pytest.mark.parametrize("source", ["templates/nowhere", "ci/root", "others/volatile", None])
def test_it_cannot_be_changed_to_what_cannot_be(
    pool: Pool, template: Volume, source: str | None
) -> None:
    pool.create_volume("others/volatile", SIZE, save_on_stop=False)
    disposable = pool.create_volume("ci/root", source=template)
    with pytest.raises((InvalidConfig, NoSuchVolume)):
        disposable.configure(source=source)

    assert disposable.source == template


def test_a_persistent_volume_does_not_get_one_later(pool: Pool, template: Volume) -> None:
    volume = pool.create_volume("ci/root", SIZE)
    with pytest.raises(InvalidConfig):
        volume.configure(source=template.id)

    assert volume.source is None
