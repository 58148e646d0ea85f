"""Disposables: each start begins from the source's current image, each stop throws away."""

import pytest

from lifecycle import Event, InvalidSize, Kind, Pool, Refused, State, Volume
from support.disks import MIB, SIZE, cycle, disk, draw, numbers, seen, seen_by_vm


@pytest.fixture
def template(pool: Pool) -> Volume:
    template = pool.create_volume("templates/debian", SIZE)
    cycle(template, b"debian")
    return template


@pytest.fixture
def disposable(pool: Pool, template: Volume) -> Volume:
    return pool.create_volume("ci-42/root", source=template)


def test_it_has_its_sources_size_and_no_image_of_its_own(
    disposable: Volume, template: Volume
) -> None:
    assert disposable.kind is Kind.DISPOSABLE
    assert disposable.state is State.CREATED
    assert disposable.source == template
    assert disposable.size == SIZE
    assert disposable.current is None
    assert disposable.revisions == ()


def test_a_start_begins_from_the_sources_current_image(disposable: Volume) -> None:
    assert disposable.start().revision is None
    assert seen_by_vm(disposable) == disk(b"debian")


def test_a_stop_throws_away_what_was_written(disposable: Volume, template: Volume) -> None:
    disposable.start()
    draw(disposable, b"mine")
    change = disposable.stop()

    assert (change.event, change.source, change.dest) == ("revert", "dirty", "reverted")
    assert disposable.state is State.REVERTED
    assert numbers(disposable) == []
    assert seen(template) == disk(b"debian")
    disposable.start()
    assert seen_by_vm(disposable) == disk(b"debian")


def test_a_stop_after_which_nothing_was_written_leaves_it_as_it_rested(disposable: Volume) -> None:
    disposable.start()
    change = disposable.stop()

    assert (change.event, change.dest) == ("release", "created")
    assert disposable.state is State.CREATED


def test_while_its_source_runs_it_begins_from_the_state_before(
    disposable: Volume, template: Volume
) -> None:
    template.start()
    draw(template, b"half done")
    disposable.start()

    assert seen_by_vm(disposable) == disk(b"debian")


def test_many_disposables_of_one_source_do_not_see_each_other(pool: Pool, template: Volume) -> None:
    volumes = [pool.create_volume(f"ci-{n}/root", source=template.id) for n in range(3)]
    for volume in volumes:
        volume.start()
        draw(volume, volume.id.encode())

    assert [seen_by_vm(volume) for volume in volumes] == [
        disk(volume.id.encode()) for volume in volumes
    ]


def test_it_is_outdated_while_it_runs_on_an_image_that_is_not_current_any_more(
    disposable: Volume, template: Volume
) -> None:
    disposable.start()
    assert not disposable.outdated
    cycle(template, b"trixie")
    assert disposable.outdated
    template.revert(to=1)
    assert not disposable.outdated
    template.revert(to=2)
    assert disposable.outdated
    disposable.stop()
    assert not disposable.outdated
    disposable.start()
    assert not disposable.outdated
    assert seen_by_vm(disposable) == disk(b"trixie")


def test_it_is_outdated_when_written_to_as_well(disposable: Volume, template: Volume) -> None:
    disposable.start()
    draw(disposable, b"mine")
    cycle(template, b"trixie")

    assert disposable.outdated


def test_it_can_be_larger_than_its_source(pool: Pool, template: Volume) -> None:
    disposable = pool.create_volume("ci/root", 3 * MIB, source=template)

    assert disposable.size == 3 * MIB
    disposable.start()
    assert disposable.size == 3 * MIB
    assert seen_by_vm(disposable) == disk(b"debian", size=3 * MIB)
    assert disposable.state is State.STARTED


def test_it_grows_with_its_source(disposable: Volume, template: Volume) -> None:
    template.resize(4 * MIB)

    assert disposable.size == 4 * MIB
    disposable.start()
    assert len(seen_by_vm(disposable)) == 4 * MIB


def test_it_cannot_be_smaller_than_its_source(pool: Pool, template: Volume) -> None:
    with pytest.raises(InvalidSize):
        pool.create_volume("ci/root", SIZE // 2, source=template)

    assert "ci/root" not in pool


@pytest.mark.parametrize("event", [Event.COMMIT, Event.CHECKPOINT])
def test_it_never_keeps_what_was_written(disposable: Volume, event: Event) -> None:
    disposable.start()
    draw(disposable, b"mine")
    assert event not in disposable.allowed

    with pytest.raises(Refused, match="not kept"):
        getattr(disposable, event)()


def test_at_rest_it_has_nothing_to_go_back_to_or_to_import_into(
    disposable: Volume, template: Volume
) -> None:
    with pytest.raises(Refused, match="source"):
        disposable.revert()
    with pytest.raises(Refused, match="no content of its own"):
        disposable.import_from(template)


def test_a_revert_while_it_runs_throws_away(disposable: Volume) -> None:
    disposable.start()
    draw(disposable, b"mine")
    disposable.revert()

    assert disposable.state is State.REVERTED


def test_a_source_that_was_reverted_is_begun_from_as_it_is_then(
    disposable: Volume, template: Volume
) -> None:
    cycle(template, b"trixie")
    template.revert(to=1)
    disposable.start()

    assert seen_by_vm(disposable) == disk(b"debian")
