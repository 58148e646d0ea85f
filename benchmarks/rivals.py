"""What a person would use instead, with the care that durability takes."""

from __future__ import annotations

import subprocess
from abc import abstractmethod
from pathlib import Path
from typing import ClassVar

from benchmarks.places import BLOCK, Image, Place
from benchmarks.ways import Way


class Rival(Way):
    """A way made of programs. States are numbered: `current` is the number of what is current."""

    def __init__(self, where: Path, image: Image, kept: int) -> None:
        super().__init__(where, image, kept)
        self.current = 1
        self.oldest = 1
        self.set_up()
        for _number in range(kept):
            self.once()

    @abstractmethod
    def set_up(self) -> None:
        """Take the image over as the first state."""

    def forget(self, number: int) -> None:
        """Forget a state; only asked of ways that number them."""
        raise NotImplementedError(number)

    def run(self, *command: str) -> None:
        """Run a program in the directory."""
        subprocess.run(command, cwd=self.where, check=True, stdout=subprocess.DEVNULL)

    def shell(self, script: str) -> None:
        """Run a shell script as a person would have it in a file; it gets the numbers of the states."""
        numbers = (str(self.current + step) for step in (-1, 0, 1))
        self.run("sh", "-euc", f"old=$1 current=$2 new=$3\n{script}", "sh", *numbers)

    def trim(self) -> None:
        """Forget the oldest states."""
        while self.current - self.oldest > self.kept:
            self.forget(self.oldest)
            self.oldest += 1


class Script(Rival):
    """`cp --reflink`, `ln`, `mv`, `sync`."""

    name: ClassVar[str] = "shell script"

    def set_up(self) -> None:
        """Clone the image."""
        self.run("cp", "--reflink=always", str(self.image.path), "root.img")

    def start(self) -> None:
        """Clone what is current."""
        self.shell("""
            cp --reflink=always root.img root-new.img
            sync root-new.img
            mv root-new.img root-dirty.img
            sync .""")

    def stop(self) -> None:
        """Keep what is current, put what was written in its place."""
        self.shell("""
            sync root-dirty.img
            ln root.img root.img.$current
            mv root-dirty.img root.img
            sync .""")
        self.current += 1

    def revert(self) -> None:
        """Keep what is current, put the state before in its place."""
        self.shell("""
            ln root.img root.img.$current
            ln root.img.$old root-old.img
            mv root-old.img root.img
            sync .""")
        self.current += 1

    def working(self) -> Path:
        """Return the working image."""
        return self.where / "root-dirty.img"

    def forget(self, number: int) -> None:
        """Remove it."""
        (self.where / f"root.img.{number}").unlink()


class Subvolumes(Rival):
    """`btrfs subvolume snapshot`: one subvolume a state."""

    name: ClassVar[str] = "btrfs subvolumes"
    programs = ("btrfs",)

    @classmethod
    def lacking(cls, place: Place) -> str | None:
        """Return why this cannot be measured there, in words."""
        return super().lacking(place) if place.kind == "btrfs" else "that takes btrfs"

    def set_up(self) -> None:
        """Make a subvolume with a clone of the image."""
        self.run("btrfs", "--quiet", "subvolume", "create", "root")
        self.run("cp", "--reflink=always", str(self.image.path), "root/disk.img")

    def start(self) -> None:
        """Snapshot what is current."""
        self.shell("""
            btrfs --quiet subvolume snapshot root root-dirty
            sync .""")

    def stop(self) -> None:
        """Keep what is current, put what was written in its place."""
        self.shell("""
            sync root-dirty/disk.img
            mv root root.$current
            mv root-dirty root
            sync .""")
        self.current += 1

    def revert(self) -> None:
        """Keep what is current, put a snapshot of the state before in its place."""
        self.shell("""
            btrfs --quiet subvolume snapshot root.$old root-old
            mv root root.$current
            mv root-old root
            sync .""")
        self.current += 1

    def working(self) -> Path:
        """Return the working image."""
        return self.where / "root-dirty" / "disk.img"

    def forget(self, number: int) -> None:
        """Delete it."""
        self.run("btrfs", "--quiet", "subvolume", "delete", f"root.{number}")


class _Qcow2(Rival):
    programs = ("qemu-img", "qemu-io")

    def write(self) -> None:
        """Write one block through qcow2, as the VM would."""
        self.writes += 1
        asked = f"write -P {self.writes % 255 + 1} {self.image.offset(self.writes)} {BLOCK}"
        self.run("qemu-io", "-f", "qcow2", "-c", asked, str(self.working()))

    def working(self) -> Path:
        """Return the image."""
        return self.where / "root.qcow2"


class Overlay(_Qcow2):
    """A qcow2 overlay over a raw image, merged by `qemu-img commit`: then there is nothing to go back to."""

    name: ClassVar[str] = "qcow2 overlay, commit"
    can_revert = False

    def set_up(self) -> None:
        """Clone the image."""
        self.run("cp", "--reflink=always", str(self.image.path), "root.img")

    def start(self) -> None:
        """Make an overlay."""
        self.shell("""
            qemu-img create -q -f qcow2 -b root.img -F raw root.qcow2
            sync root.qcow2 .""")

    def stop(self) -> None:
        """Merge it."""
        self.shell("""
            qemu-img commit -q -d root.qcow2
            sync root.img
            rm root.qcow2
            sync .""")

    def revert(self) -> None:
        """Not possible."""
        raise NotImplementedError


class InternalSnapshots(_Qcow2):
    """qcow2 with internal snapshots (`qemu-img snapshot`). A start needs nothing."""

    name: ClassVar[str] = "qcow2 snapshots"

    def set_up(self) -> None:
        """Convert the image, and keep what it holds."""
        convert = ("qemu-img", "convert", "-q", "-f", "raw", "-O", "qcow2")
        self.run(*convert, str(self.image.path), "root.qcow2")
        self.shell("qemu-img snapshot -c $current root.qcow2")

    def start(self) -> None:
        """Nothing: the VM writes to the image."""

    def stop(self) -> None:
        """Keep what the image holds now."""
        self.shell("""
            qemu-img snapshot -c $new root.qcow2
            sync root.qcow2""")
        self.current += 1

    def revert(self) -> None:
        """Apply the state before."""
        self.shell("""
            qemu-img snapshot -a $old root.qcow2
            sync root.qcow2""")

    def forget(self, number: int) -> None:
        """Delete it."""
        self.run("qemu-img", "snapshot", "-d", str(number), "root.qcow2")
