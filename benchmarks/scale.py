"""How much is measured: all of it, or one small pass that shows that it runs."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks.runner import Effort

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@dataclass(frozen=True, slots=True)
class Scale:
    """What is measured.

    Attributes:
        effort: how often each thing is.
        extents: of an image of `disk` bytes with `kept` revisions.
        sizes: bytes of an image with `few` extents, `kept` revisions.
        revisions: of a volume with `few` extents.
        volumes: in a pool.
        crowd: volumes that start and stop together.
        listed_by_command: the largest pool that the command lists too; it looks at far more of each volume.
        disk: bytes.
        few: extents.
        kept: revisions.
        file_system: bytes of each file system; what is not used takes no room.
    """

    effort: Effort = field(default_factory=Effort)
    extents: tuple[int, ...] = (1, 100, 1_000, 16_000, 50_000)
    sizes: tuple[int, ...] = (64 * MIB, 1 * GIB, 8 * GIB, 64 * GIB)
    revisions: tuple[int, ...] = (1, 10, 100, 1_000)
    volumes: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    crowd: int = 100
    listed_by_command: int = 10_000
    disk: int = 512 * MIB
    few: int = 100
    kept: int = 2
    file_system: int = 16 * GIB


FULL = Scale()
QUICK = Scale(
    effort=Effort(least=1, most=1, patience=0, warm_up=0),
    extents=(100,),
    sizes=(64 * MIB, 128 * MIB),
    revisions=(1, 3),
    volumes=(4, 8),
    crowd=3,
    listed_by_command=4,
    disk=64 * MIB,
    few=100,
    kept=0,
    file_system=1 * GIB,
)
