"""The floors of the house: which room of lifecycle/ stands above which, and what its imports say of that.

A room is what lies at the top of the package: a module, or a package with all that is in it. The test
tests/project/test_rooms.py holds the code to `FLOORS`, the page docs/architecture.md and the picture
diagrams/rooms.svg are made from what is read here. `python docs/rooms.py [PACKAGE]` prints the figures, of another
version of the package too.

Every import counts: those inside functions and those for type checking as well, since whoever reads or changes a
module needs to know what it speaks of.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Hashable, Iterable, Iterator
from enum import Enum
from pathlib import Path
from typing import NamedTuple, TypeVar

PACKAGE = Path(__file__).resolve().parents[1] / "lifecycle"
DOOR = "__init__"
"""The package's own `__init__`: the public names, for those outside. It stands above all rooms and is none."""
FLOORS: tuple[tuple[str, ...], ...] = (
    ("cli",),
    ("hosts",),
    ("adopt",),
    ("engine",),
    ("backend_reflink", "reflink", "directory", "subscribers"),
    ("report", "transfer"),
    ("backend",),
    ("model",),
    ("config", "machine"),
    ("linux",),
    ("ids", "times", "policies", "terms", "sizes", "readable"),
    ("states", "events", "plugins", "errors"),
)
"""From the top down. A module imports from its own floor and from those below it."""

LOADED_BY_START = (
    "backend_reflink",
    "cli.commands.start_stop",
    "cli.entry",
    "cli.invocation",
    "cli.session",
    "config",
    "engine.batch",
    "engine.locks",
    "engine.metadata",
    "engine.plan",
    "engine.pool",
    "engine.registry",
    "engine.reserve",
    "engine.retention",
    "engine.transaction",
    "engine.vm",
    "engine.volume",
    "engine.wiring",
    "errors",
    "events",
    "ids",
    "linux.copying",
    "linux.directories",
    "linux.durability",
    "linux.failed_flush",
    "linux.fast_exit",
    "linux.files",
    "linux.fork_safety",
    "linux.holders",
    "linux.inode_flags",
    "linux.reflinks",
    "linux.status",
    "linux.xattrs",
    "machine.known_pools",
    "machine.trees",
    "model",
    "plugins",
    "policies",
    "readable",
    "reflink.cloning",
    "reflink.current",
    "reflink.images",
    "reflink.interpret",
    "reflink.listing",
    "reflink.look",
    "reflink.names",
    "reflink.precached",
    "reflink.record",
    "reflink.recording",
    "reflink.removal",
    "reflink.scan",
    "reflink.seals",
    "reflink.store",
    "reflink.tags",
    "reflink.walk",
    "reflink.withdrawal",
    "reflink.working",
    "sizes",
    "states",
    "subscribers.hooks",
    "subscribers.precaching",
    "terms",
    "times",
)
"""What `lifecycle start` loads of the package, which is what a host waits for at each start of a VM."""
LOADED_BY_STOP_TOO = ("reflink.precacher",)
"""What `lifecycle stop` loads beside that, when there is something to commit."""

Node = TypeVar("Node", bound=Hashable)


class When(Enum):
    """When an import is carried out."""

    LOADED = "when the module is loaded"
    CALLED = "when a function is called"
    TYPES = "never: for type checking only"


class Import(NamedTuple):
    """One module imports another; both by their names inside the package, such as `engine.pool`."""

    importer: str
    imported: str
    when: When
    line: int

    def __str__(self) -> str:
        """Where it stands, and of what."""
        return f"{self.importer.replace('.', '/')}.py:{self.line}: imports {self.imported}"


# ---------------------------------------------------------------- what there is


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Return all modules by their names; a package has the name of its directory."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        whole = parts[:-1] if parts[-1] == DOOR and len(parts) > 1 else parts
        found[".".join(whole)] = path
    return found


def room_of(module: str) -> str:
    """Return the room that a module lies in."""
    return module.partition(".")[0]


def floor_of(room: str) -> int:
    """Return on which floor a room stands, counted from the top; of one that has no floor, -1: above all."""
    return next((at for at, floor in enumerate(FLOORS) if room in floor), -1)


# ---------------------------------------------------------------- what imports what


def imports(package: Path = PACKAGE) -> list[Import]:
    """Return every import of a module of the package by another, in the order in which they stand there."""
    known = modules(package)
    return [
        Import(importer, imported, when, node.lineno)
        for importer, path in known.items()
        for node, when in _statements(ast.parse(path.read_text(encoding="utf-8")).body, When.LOADED)
        for imported in dict.fromkeys(_named(node, path, package, set(known)))
        if imported != importer
    ]


def _statements(
    body: Iterable[ast.AST], when: When
) -> Iterator[tuple[ast.Import | ast.ImportFrom, When]]:
    """Yield the imports in a piece of code, with when they are carried out."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, when
        elif isinstance(node, ast.If) and _is_for_types(node.test):
            yield from _statements(node.body, When.TYPES)
            yield from _statements(node.orelse, when)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield from _statements(
                ast.iter_child_nodes(node), When.CALLED if when is When.LOADED else when
            )
        else:
            yield from _statements(ast.iter_child_nodes(node), when)


def _is_for_types(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def _named(
    node: ast.Import | ast.ImportFrom, path: Path, package: Path, known: set[str]
) -> Iterator[str]:
    """Yield the modules of the package that an import names."""
    if isinstance(node, ast.Import):
        whole = [one.name.split(".") for one in node.names]
    else:
        above: list[str] = []
        if node.level:
            inside = [package.name, *path.relative_to(package).parts[:-1]]
            above = inside[: len(inside) + 1 - node.level]
        above += node.module.split(".") if node.module else []
        whole = [[*above, one.name] for one in node.names]
    for first, *rest in whole:
        if first == package.name:
            if ".".join(rest) in known:
                yield ".".join(rest)
            elif rest != ["__version__"]:  # which lies in the door, and speaks of no room
                yield ".".join(rest[:-1]) or DOOR


# ---------------------------------------------------------------- arrows


def between_modules(found: Iterable[Import], *whens: When) -> set[tuple[str, str]]:
    """Return the arrows between modules; only of imports that are carried out then, if it is said when."""
    return {(one.importer, one.imported) for one in found if not whens or one.when in whens}


def between_rooms(found: Iterable[Import]) -> set[tuple[str, str]]:
    """Return the arrows between rooms."""
    inside = [one for one in found if one.importer != DOOR]
    pairs = {(room_of(one.importer), room_of(one.imported)) for one in inside}
    return {(above, below) for above, below in pairs if above != below}


def upward(found: Iterable[Import]) -> list[Import]:
    """Return the imports from a room on a higher floor. That of the door is one too, wherever it stands."""
    return [
        one
        for one in found
        if one.importer != DOOR
        and floor_of(room_of(one.imported)) < floor_of(room_of(one.importer))
    ]


def below(arrows: Iterable[tuple[Node, Node]]) -> dict[Node, set[Node]]:
    """Return what can be reached from each end of an arrow by going along arrows."""
    reached: dict[Node, set[Node]] = {}
    for tail, head in arrows:
        reached.setdefault(tail, set()).add(head)
        reached.setdefault(head, set())
    for middle, further in reached.items():
        for one in [one for one, its in reached.items() if middle in its]:
            reached[one] |= further
    return reached


def circles(arrows: Iterable[tuple[Node, Node]]) -> list[set[Node]]:
    """Return the sets of what can be reached from one another, the largest first."""
    reached = below(arrows)
    found: list[set[Node]] = []
    for one, its in reached.items():
        if one in its and not any(one in other for other in found):
            found.append({other for other in its if one in reached[other]})
    return sorted(found, key=len, reverse=True)


def height(arrows: Iterable[tuple[Node, Node]]) -> int:
    """Return how many stand above one another in the longest chain of arrows; a circle counts as one."""
    arrows = set(arrows)
    reached = below(arrows)
    circle = {one: frozenset(each) for each in circles(arrows) for one in each}
    place: dict[Node, int] = {}
    for one in sorted(
        reached, key=lambda each: len(reached[each] | {each})
    ):  # what is below comes first
        lower = [place[other] for other in reached[one] - circle.get(one, frozenset())]
        place[one] = 1 + max(lower, default=0)
    return max(place.values(), default=0)


def reduced(arrows: Iterable[tuple[Node, Node]]) -> set[tuple[Node, Node]]:
    """Return the arrows without those that a longer way along others says already. Arrows of a circle all stay."""
    arrows = set(arrows)
    reached = below(arrows)
    return {
        (tail, head)
        for tail, head in arrows
        if not any(
            head in reached[other] and other not in reached[head] and tail not in reached[other]
            for start, other in arrows
            if start == tail
        )
    }


# ---------------------------------------------------------------- figures


def figures(package: Path = PACKAGE) -> dict[str, str]:
    """Return what can be counted of a package: of this one, or of another version of it."""
    known = {name: path for name, path in modules(package).items() if name != DOOR}
    found = [one for one in imports(package) if DOOR not in (one.importer, one.imported)]
    rooms = {room_of(one) for one in known}
    has_floors = all(floor_of(one) >= 0 for one in rooms)
    arrows = between_rooms(found)
    lines = {name: len(path.read_text().splitlines()) for name, path in modules(package).items()}
    largest = sorted(lines, key=lambda one: -lines[one])[:5]
    return {
        "rooms": str(len(rooms)),
        "floors": str(len(FLOORS)) if has_floors else "no table of floors fits",
        "floors, by the longest chain of rooms": str(height(arrows)),
        "arrows between rooms": str(len(arrows)),
        "imports back up": str(len(upward(found))) if has_floors else "no table of floors fits",
        "circles among rooms": _sizes(circles(arrows)),
        "modules": str(sum(path.stem != DOOR for path in known.values())),
        "arrows between modules": str(len(between_modules(found))),
        "longest chain of modules": str(height(between_modules(found))),
        "circles among modules, as they are loaded": _sizes(
            circles(between_modules(found, When.LOADED))
        ),
        "circles among modules, of all imports": _sizes(circles(between_modules(found))),
        "lines": str(sum(lines.values())),
        "largest modules": ", ".join(f"{one} {lines[one]}" for one in largest),
    }


def _sizes(found: list[set[str]]) -> str:
    return f"{len(found)} (of {', '.join(str(len(one)) for one in found)})" if found else "0"


def main(words: list[str]) -> None:
    """Print the figures, and what breaks the rules."""
    package = Path(words[0]).resolve() if words else PACKAGE
    for name, value in figures(package).items():
        sys.stdout.write(f"{name:45} {value}\n")
    found = imports(package)
    if all(floor_of(room_of(one)) >= 0 for one in modules(package) if one != DOOR):
        for one in upward(found):
            sys.stdout.write(f"up: {one}, {one.when.value}\n")
    for circle in circles(between_rooms(found)):
        sys.stdout.write(f"circle: {', '.join(sorted(circle))}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
