"""Write the table of rooms into docs/architecture.md, from the first line of each module. `make docs` runs this."""

import ast
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import rooms

PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "architecture.md")
BEGIN, END = "<!-- rooms: written by `make docs` -->\n", "<!-- end -->"
HEAD = "| floor | room, and what is in it | what it is | loaded |\n|---|---|---|---|\n"


def first_line(module: Path) -> str:
    """Return the first line of what a module says of itself."""
    said = ast.get_docstring(ast.parse(module.read_text(encoding="utf-8")))
    if not said:
        raise LookupError(f"{module} does not say what it is")
    return said.partition("\n")[0].replace("|", "\\|")


def rows() -> Iterator[str]:
    """Yield the rows of the table: each room, in bold, and below it what is in it."""
    known = rooms.modules()
    for number, floor in enumerate(rooms.FLOORS, start=1):
        for room in floor:
            for name in (one for one in known if rooms.room_of(one) == room):
                path = known[name].relative_to(rooms.PACKAGE)
                shown = f"{path.parent}/" if path.stem == rooms.DOOR else str(path)
                linked = f"[`{shown}`](../lifecycle/{shown})"
                strong = "**" if name == room else ""
                where = str(number) if (room, name) == (floor[0], room) else ""
                yield (
                    f"| {where} | {strong}{linked}{strong} | {first_line(known[name])} | {loaded(name)} |\n"
                )


def loaded(name: str) -> str:
    """Return the sign of what a start, or only a stop, loads."""
    if name in rooms.LOADED_BY_START:
        return "●"
    return "○" if name in rooms.LOADED_BY_STOP_TOO else ""


def page() -> str:
    """Return the whole page as it should be: what stands outside the table is kept."""
    with open(PAGE, encoding="utf-8") as file:
        text = file.read()
    if not re.search(f"{re.escape(BEGIN)}.*{END}", text, re.DOTALL):
        raise LookupError(f"{PAGE} has no place for the table: {BEGIN}{END}")
    table = f"{BEGIN}\n{HEAD}{''.join(rows())}\n{END}"
    return re.sub(f"{re.escape(BEGIN)}.*?{END}", lambda _: table, text, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    fresh = page()
    with open(PAGE, "w", encoding="utf-8") as written:
        written.write(fresh)
    sys.stdout.write(f"{PAGE}\n")
