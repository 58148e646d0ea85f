"""Tags: words on a working image, by which hosts know later whose run it is; they go with the image."""

import pytest

from lifecycle import NoSuchVolume, Pool, Volume
from support.disks import SIZE, draw


@pytest.fixture
def volume(pool: Pool) -> Volume:
    """A running volume with two tags."""
    volume = pool.create_volume("ci-42/root", SIZE)
    volume.start()
    volume.tag("host", "first")
    volume.tag("host", "libvirt's VM ci-42 (größer 🐘)")
    volume.tag("other", "word")
    return volume


def tags(volume: Volume) -> list[str | None]:
    again = Pool.open(volume.pool.path)[volume.id]
    return [again.tagged(key) for key in ("host", "other", "none")]


TAGGED = ["libvirt's VM ci-42 (größer 🐘)", "word", None]


def test_they_are_there_while_it_runs(volume: Volume) -> None:
    assert tags(volume) == TAGGED
    draw(volume, b"first")
    volume.checkpoint()
    volume.resize(2 * SIZE)
    assert tags(volume) == TAGGED


def test_one_is_taken_off(volume: Volume) -> None:
    for _again in range(2):
        volume.tag("other", None)
        assert tags(volume) == [TAGGED[0], None, None]


def test_a_neighbour_has_none_of_them(volume: Volume) -> None:
    other = volume.pool.create_volume("ci-42/private", SIZE)
    other.start()
    assert tags(other) == [None, None, None]


@pytest.mark.parametrize("end", ["release", "commit", "discard"])
def test_they_go_with_the_working_image(volume: Volume, end: str) -> None:
    if end != "release":
        draw(volume, b"first")
    volume.stop(discard=end == "discard")
    assert tags(volume) == [None, None, None]
    volume.start()
    assert tags(volume) == [None, None, None]


def test_a_start_that_uses_it_again_drops_them(volume: Volume) -> None:
    draw(volume, b"left over")
    volume.start()
    assert tags(volume) == [None, None, None]


@pytest.mark.parametrize("value", ["word", None])
def test_what_does_not_run_has_none(volume: Volume, value: str | None) -> None:
    volume.stop()
    with pytest.raises(NoSuchVolume):
        volume.tag("host", value)
    absent = Volume(volume.pool, "ci-42/nowhere")
    assert absent.tagged("host") is None
    with pytest.raises(NoSuchVolume):
        absent.tag("host", value)
