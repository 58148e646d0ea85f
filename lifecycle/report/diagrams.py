"""The rulebook as pictures and as a table: Mermaid, DOT, SVG, Markdown.

Everything here is worked out from `states.RULES`, and nothing from a pool, so a picture cannot say anything else than
what the machine does. `write` makes the committed pages in diagrams/ (`make diagrams`); a test tells when they are
stale.

In Mermaid and DOT, which others draw, an edge stands for all events that lead from one state to another; events that
leave a volume in its state are listed inside the state, after ↻. SVG is drawn here (drawing/). The numbered
edges are the road from a volume's birth to its first write and back to the empty image.
"""

from __future__ import annotations

import html
import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lifecycle.report.drawing.chart import SHORT_WALK, WALK, Step, road, walk
from lifecycle.report.drawing.svg import svg
from lifecycle.states import AT_REST, RESUMES, RULES, RUNNING, Rule, State

Draw = Callable[[State | None], str]
"""What makes a text of the rules, with one state marked or none."""

# Only what cannot be guessed from the picture; the table has all conditions.
_SHORT = {RESUMES: "left over"}

_LINE = 24  # characters in a line inside a state


@dataclass(frozen=True, slots=True)
class Edge:
    """All events that lead from one state to another.

    Attributes:
        source: the state before.
        dest: the state after.
        events: the events, with what cannot be guessed of their conditions.
        sign: the number of its step on the road; empty if it is off the road.
    """

    source: State
    dest: State
    events: tuple[str, ...]
    sign: str

    @property
    def label(self) -> str:
        """What is written on it."""
        return f"{self.sign} {', '.join(self.events)}".lstrip()


def edges(order: Sequence[State] = tuple(State)) -> list[Edge]:
    """Return the edges of the pictures, sorted by the state they arrive at."""
    events: dict[tuple[State, State], list[str]] = {}
    for rule in RULES:
        for source in rule.sources:
            if rule.dest not in (None, source):
                events.setdefault((source, rule.dest), []).append(_label(rule))
    signs = {(step.source, step.dest): step.sign for step in road()}
    found = [
        Edge(source, dest, tuple(labels), signs.get((source, dest), ""))
        for (source, dest), labels in events.items()
    ]
    return sorted(found, key=lambda edge: order.index(edge.dest))


def _label(rule: Rule) -> str:
    conditions = ", ".join(_SHORT[one] for one in rule.when if one in _SHORT)
    return f"{rule.event.value} ({conditions})" if conditions else rule.event.value


def _inside(state: State) -> list[str]:
    """Return the lines inside a state: how the road arrives there, and the events that stay there."""
    arrivals = [step.rule.note.split(";")[0] for step in walk(WALK) if step.dest is state]
    staying = ", ".join(
        _label(rule) for rule in RULES if state in rule.sources and rule.dest in (None, state)
    )
    return [
        line
        for text in (*arrivals, f"↻ {staying}" if staying else "")
        for line in textwrap.wrap(text, _LINE)
    ]


# ---------------------------------------------------------------- Mermaid

_CLASSES = {
    "rest": "fill:#dafbe1,stroke:#1a7f37,color:#1f2328",
    "running": "fill:#ddf4ff,stroke:#0969da,color:#1f2328",
    "damaged": "fill:#ffebe9,stroke:#cf222e,color:#1f2328",
    "marked": "fill:#fff8c5,stroke:#9a6700,color:#1f2328,stroke-width:4px",
}


def mermaid(marked: State | None = None) -> str:
    """Return the rulebook as a Mermaid state diagram, as code hosts draw it.

    Args:
        marked: the state to highlight; `absent` is drawn as the dots at both ends and cannot be.
    """
    lines = ["stateDiagram-v2"]
    drawn = [state for state in State if state is not State.ABSENT]
    for state in drawn:
        lines.append(f"    {state} : {state}")
        if inside := _inside(state):
            lines.append(f"    {state} : {'<br/>'.join(inside)}")
    lines += [
        f"    {_mermaid_id(edge.source)} --> {_mermaid_id(edge.dest)} : {edge.label}"
        for edge in edges()
    ]
    lines += [f"    classDef {name} {style}" for name, style in _CLASSES.items()]
    lines += [f"    class {state} {_look(state)}" for state in drawn]
    if marked in drawn:
        lines.append(f"    class {marked} marked")
    return "\n".join(lines) + "\n"


def _mermaid_id(state: State) -> str:
    return "[*]" if state is State.ABSENT else state.value


def _look(state: State) -> str:
    if state in AT_REST:
        return "rest"
    return "running" if state in RUNNING else state.value


# ---------------------------------------------------------------- DOT

# Greys and the road's purple are legible on white and on black.
_GREY = "#768390"
_ROAD = "#a259e6"
_LOOKS = {
    "absent": f'width=1.6, style="rounded,dashed", color="{_GREY}", fontcolor="{_GREY}"',
    "rest": 'fillcolor="#dafbe1", color="#1a7f37"',
    "running": 'fillcolor="#ddf4ff", color="#0969da"',
    "damaged": 'fillcolor="#ffebe9", color="#cf222e"',
}
_MARKED = 'style="rounded,filled,bold", fillcolor="#fff8c5", color="#9a6700", fontcolor="#1f2328", penwidth=4'
# Graphviz draws what it is told first straightest; in this order the road leads down and little crosses it.
_DOT_ORDER = (
    State.ABSENT,
    State.CREATED,
    State.REVERTED,
    State.STARTED,
    State.DIRTY,
    State.COMMITTED,
    State.DAMAGED,
)
_FONT = 'fontname="Helvetica,Arial,sans-serif"'


def dot(marked: State | None = None) -> str:
    """Return the rulebook as Graphviz DOT.

    Args:
        marked: the state to highlight.
    """
    lines = [
        "digraph volume {",
        "  graph [bgcolor=transparent, nodesep=0.4, ranksep=0.5, pad=0.2]",
        '  node [shape=box, style="rounded,filled", margin="0.16,0.09", penwidth=1.2]',
        f'  node [{_FONT}, fontsize=13, fontcolor="#1f2328"]',
        f'  edge [color="{_GREY}", fontcolor="{_GREY}", {_FONT}, fontsize=11.5, arrowsize=0.7]',
    ]
    for state in _DOT_ORDER:
        look = _MARKED if state == marked else _LOOKS[_look(state)]
        lines.append(f"  {state} [{look}, label={_dot_label(state)}]")
    lines.append(f"  {{rank=min; {State.ABSENT}}}")
    for edge in edges(_DOT_ORDER):
        look = f', color="{_ROAD}", fontcolor="{_ROAD}", penwidth=2' if edge.sign else ""
        lines.append(f'  {edge.source} -> {edge.dest} [label=" {edge.label} "{look}]')
    return "\n".join((*lines, "}")) + "\n"


def _dot_label(state: State) -> str:
    inside = "".join(
        f'<br/><font point-size="10.5">{html.escape(line)}</font>' for line in _inside(state)
    )
    return f"<<b>{state}</b>{inside}>"


# ---------------------------------------------------------------- the table and the page


def table(marked: State | None = None) -> str:
    """Return the rulebook as a Markdown table.

    Args:
        marked: the state whose rows are set in bold.
    """
    lines = ["| event | from | to | when | what it does |", "|---|---|---|---|---|"]
    for rule in RULES:
        cells = [
            rule.event.value,
            ", ".join(f"`{source}`" for source in rule.sources),
            f"`{rule.dest}`" if rule.dest else "the same",
            "; ".join([one.text for one in rule.when] + ["not in use"] * rule.unused),
            rule.note,
        ]
        if marked in rule.sources:
            cells = [f"**{cell}**" if cell else "" for cell in cells]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """Return the page that shows and explains all of it: diagrams/volume.md."""
    long, short = walk(WALK), walk(SHORT_WALK)
    apart = next(
        at for at, steps in enumerate(zip(long, short, strict=False)) if steps[0] != steps[1]
    )
    return f"""\
# The life of a volume

What can happen to a volume, when, and where it leads. Anything else is refused and changes nothing.
This page and its picture are made from the rulebook, [`lifecycle/states.py`](../lifecycle/states.py), by `make
diagrams`; `lifecycle diagram` prints their parts. Change the rulebook, not this page.

![The states of a volume and the events between them](volume.svg)

An arrow that begins with a dot at a frame is of every state in it, and one that ends at a frame leads back to where the
volume was. No event leads to `damaged`: the files of such a volume do not make a whole one. Of the conditions the
picture has only a word or two; [the rules](#the-rules) have them whole.

<details><summary>The same as a Mermaid diagram</summary>

```mermaid
{mermaid()}```

Green is at rest, blue is running; the dots are a volume that does not exist, not yet or no longer. ↻ lists what leaves
a volume in its state.

</details>

## From the first start back to the empty disk

- {_told(long[:apart])}
- Throw that away, and the disk is empty again: {_told(short[apart:])}
- Or keep it, and have the empty disk back at any time: {_told(long[apart:])}

## The rules

"Not in use" means that no one else holds an image of the volume open.

{table()}"""


def _told(steps: list[Step]) -> str:
    sentences = [f"{step.sign} `{step.rule.event}`: {step.rule.note}." for step in steps]
    return f"{' '.join(sentences)} The volume is `{steps[-1].dest}`."


FORMATS: dict[str, Draw] = {
    "mermaid": mermaid,
    "dot": dot,
    "svg": svg,
    "table": table,
}


def write(directory: str) -> list[str]:
    """Write volume.md and volume.svg into a directory and return their paths."""
    paths = []
    for name, text in (("volume.md", page()), ("volume.svg", svg())):
        path = os.path.join(directory, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write(sys.argv[1]):
        sys.stdout.write(f"{written}\n")
