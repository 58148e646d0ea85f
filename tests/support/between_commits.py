"""What happens to a volume between two commits that could confuse the count of its numbers."""

from lifecycle import Volume
from support.disks import draw, numbers


def forget_all(volume: Volume) -> None:
    volume.forget(*numbers(volume))


def prune_to_nothing(volume: Volume) -> None:
    volume.configure(keep="last 0")
    volume.prune()
    volume.configure(keep="all")


def revert_to_empty(volume: Volume) -> None:
    volume.revert(to=0)


def revert_and_forget_what_was_current(volume: Volume) -> None:
    """Now the highest number there was is nowhere to be seen."""
    before = volume.current
    volume.revert(to=0)
    if before:
        volume.forget(before)


def revert_and_forget_everything(volume: Volume) -> None:
    volume.revert(to=0)
    forget_all(volume)


def release(volume: Volume) -> None:
    volume.start()
    volume.stop()


def discard(volume: Volume) -> None:
    volume.start()
    draw(volume, b"lost")
    volume.stop(discard=True)
