"""The invariants, and what is told of one that does not hold."""

from __future__ import annotations

from dataclasses import dataclass

RULES = {
    1: "The state is one of the rulebook's, and not `damaged` unless it was.",
    2: "Every commit that was acknowledged is there, with its number and its content.",
    3: "Every revision that the event was not to remove is there and whole.",
    4: "The event has happened or it has not: nothing in between that its signals do not announce.",
    5: "No number is given twice.",
    6: "What the guest had flushed is in the working image, or in what was made of it.",
    7: "The event can be done again, to its end, and the result is as without a crash.",
    8: "Recovery leaves nothing behind, `verify` finds nothing, and the empty image can be had.",
    9: "Nothing but the volume was touched.",
    10: "Looking changes nothing.",
    11: "What was acknowledged is there in full, at once.",
    12: "A failing file system is told by a LifecycleError.",
    13: "After a flush of an image failed, nothing is acknowledged that the disk does not hold.",
}


UNTOLD = 12
"""The invariant of which nothing is lost if it does not hold."""


@dataclass(frozen=True)
class Violation:
    """An invariant that does not hold.

    Attributes:
        scene, file_system: what was tried where.
        struck: how, and at which operation.
        rule: the invariant's number.
        text: what was found.
        operations: the operations up to the strike.
    """

    scene: str
    file_system: str
    struck: str
    rule: int
    text: str
    operations: tuple[str, ...] = ()

    def __str__(self) -> str:
        done = "".join(f"\n    {i}. {one}" for i, one in enumerate(self.operations, 1))
        return (
            f"{self.scene} on {self.file_system}, {self.struck}: rule {self.rule}"
            f" ({RULES[self.rule]}): {self.text}{done}"
        )


@dataclass
class Tally:
    """How much was tried, and what was found."""

    points: int = 0
    cuts: int = 0
    faults: int = 0
    slowest: float = 0.0
    violations: tuple[Violation, ...] = ()

    def __iadd__(self, other: Tally) -> Tally:
        self.points += other.points
        self.cuts += other.cuts
        self.faults += other.faults
        self.slowest = max(self.slowest, other.slowest)
        self.violations += other.violations
        return self
