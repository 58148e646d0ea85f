"""Writes the drawing as SVG text, with one state lit if wanted.

The text is the same on every machine. Whatever font is there, each piece of writing is held to the room that it was
given (`textLength`); signs are drawn, not written. Colours for light and dark are in it (`prefers-color-scheme`), on
paper of its own, so that it can lie on any page.

For a page that has it among its elements: an event is a group of the class `event`, with its name in `data-event` and
the states that it leaves in `data-from`; a state is one of the class `state`, with its name in `data-state`.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from lifecycle.report.drawing.chart import Arrow, Chart, Group, chart
from lifecycle.report.drawing.layout import Box, Frame, Line, Picture, Pill, layout
from lifecycle.report.drawing.sizes import (
    BADGE,
    EVENT,
    HEAD,
    LINE,
    MARGIN,
    NAME,
    PAD,
    SMALL,
    text_width,
)
from lifecycle.states import AT_REST, RUNNING, State

_CLASS = "lifecycle-states"
_FONTS = 'system-ui, -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif'
COLOURS = (
    # selector, property, light, dark
    (".paper", "fill", "#ffffff", "#0d1117"),
    (".paper", "stroke", "#d1d9e0", "#3d444d"),
    ("text", "fill", "#1f2328", "#f0f6fc"),
    (".small", "fill", "#59636e", "#a5b0bb"),
    (".line", "stroke", "#6e7781", "#8b949e"),
    (".tip", "fill", "#6e7781", "#8b949e"),
    (".sign", "stroke", "#59636e", "#a5b0bb"),
    (".pill", "fill", "#ffffff", "#161b22"),
    (".pill", "stroke", "#afb8c1", "#57606a"),
    (".road .line, .road .pill", "stroke", "#8250df", "#ab7df8"),
    (".road .tip, .number", "fill", "#8250df", "#ab7df8"),
    (".digit", "fill", "#ffffff", "#0d1117"),
    (".box", "fill", "#f6f8fa", "#151b23"),
    (".box", "stroke", "#818b98", "#818b98"),
    (".rest .box", "fill", "#dafbe1", "#12361f"),
    (".rest .box", "stroke", "#1a7f37", "#3fb950"),
    (".running .box", "fill", "#ddf4ff", "#10305f"),
    (".running .box", "stroke", "#0969da", "#58a6ff"),
    (".damaged .box", "fill", "#ffebe9", "#4b1416"),
    (".damaged .box", "stroke", "#cf222e", "#f85149"),
    (".frame", "fill", "#f6f8fa", "#151b23"),
    (".frame", "stroke", "#d1d9e0", "#3d444d"),
    (".rest .frame", "fill", "#f4fdf6", "#0d1d15"),
    (".rest .frame", "stroke", "#a6dfb4", "#1f5f31"),
    (".running .frame", "fill", "#f3faff", "#0b1a33"),
    (".running .frame", "stroke", "#9bd0f5", "#1c4f92"),
    (".rest .title", "fill", "#1a7f37", "#3fb950"),
    (".running .title", "fill", "#0969da", "#58a6ff"),
    (".lit .box", "fill", "#fff0b3", "#473500"),
    (".lit .box", "stroke", "#bf8700", "#e3b341"),
)
"""What is coloured how, in light and in dark."""
_SHAPES = f"""\
.{_CLASS} {{ font-family: {_FONTS} }}
.{_CLASS} text {{ text-anchor: middle }}
.{_CLASS} .name, .{_CLASS} .digit, .{_CLASS} .title {{ font-weight: 700 }}
.{_CLASS} .begin {{ text-anchor: start }}
.{_CLASS} .line, .{_CLASS} .sign {{ fill: none; stroke-width: 1.5 }}
.{_CLASS} .road .line {{ stroke-width: 2 }}
.{_CLASS} .absent .box {{ stroke-dasharray: 5 4 }}
.{_CLASS} .lit .box {{ stroke-width: 4; stroke-dasharray: none }}
.{_CLASS} .faded {{ opacity: 0.4 }}"""

_TITLE = "The states of a volume and the events between them"
_LEGEND = {
    "frame": "from any state in the frame",
    "stays": "leaves the state as it is",
    "number": "from birth to the first write, and back to the empty disk",
}


def svg(lit: str | None = None, *, shown: Chart | None = None) -> str:
    """Return the rulebook as an SVG picture.

    Args:
        lit: the state to light; the events that do not leave it are faded.
        shown: what is drawn; by default `chart()`, the rules as they are.
    """
    shown = chart() if shown is None else shown
    picture = layout(shown)
    legend, height = _legend(picture, shown.arrows)
    size = f'width="{picture.width}" height="{height}"'
    lines = {line.arrow: line for line in picture.lines}
    told_by = f'aria-labelledby="{_CLASS}-title {_CLASS}-desc"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{_CLASS}" role="img" {told_by}',
        f'     {size} viewBox="0 0 {picture.width} {height}">',
        f'<title id="{_CLASS}-title">{_TITLE}</title>',
        f'<desc id="{_CLASS}-desc">{escape(_description(shown, lit))}</desc>',
        f"<style>\n{_style()}\n</style>",
        f'<rect class="paper" x="0.5" y="0.5" width="{picture.width - 1}" height="{height - 1}" rx="10"/>',
        *(_frame(one) for one in picture.frames),
        *(_box(one, one.state == lit) for one in picture.boxes),
        *(_event(pill, lines.get(pill.arrow), lit) for pill in picture.pills),
        *legend,
        "</svg>",
    ]
    text = "\n".join(parts) + "\n"
    return text.encode("ascii", "xmlcharrefreplace").decode()  # the same in any locale


def _style() -> str:
    """Return the style sheet; each rule is for this picture only, wherever the picture is put."""

    def rules(place: int) -> Iterable[str]:
        for selector, prop, *colours in COLOURS:
            whole = ", ".join(f".{_CLASS} {one}" for one in selector.split(", "))
            yield f"{whole} {{ {prop}: {colours[place]} }}"

    dark = "\n".join(rules(1))
    return "\n".join([_SHAPES, *rules(0), f"@media (prefers-color-scheme: dark) {{\n{dark}\n}}"])


def _description(shown: Chart, lit: str | None) -> str:
    """Say in words what the picture shows."""
    sentences = [] if lit is None else [f"The volume is {lit} now."]
    for state in shown.states:
        by_dest: dict[str, list[str]] = {}
        for arrow in shown.arrows:
            for source, dest in arrow.moves:
                if source == state:
                    by_dest.setdefault(dest, []).append(arrow.event)
        led = [
            f"{' or '.join(events)} {'leaves it so' if dest == state else f'leads to {dest}'}"
            for dest, events in by_dest.items()
        ]
        if led:
            sentences.append(f"From {state}, {', '.join(led)}.")
    return " ".join(sentences)


def _look(states: Iterable[str]) -> str:
    """Return the class that colours these states."""
    found = set(states)
    if found <= set(AT_REST):
        return "rest"
    if found <= set(RUNNING):
        return "running"
    return " ".join(sorted(found & {State.ABSENT, State.DAMAGED}))


def _write(text: str, x: int, y: int, size: int, kind: str = "") -> str:
    """Return writing on a base line, held to its width in any font."""
    bold = kind in ("name", "title begin")
    return (
        f'<text class="{kind}" x="{x}" y="{y}" font-size="{size}" lengthAdjust="spacingAndGlyphs"'
        f' textLength="{text_width(text, size, bold=bold)}">{escape(text)}</text>'
    ).replace(' class=""', "")


def _frame(frame: Frame) -> str:
    area = frame.area
    return (
        f'<g class="{_look(frame.group.states)}"><rect class="frame" x="{area.x}" y="{area.y}"'
        f' width="{area.width}" height="{area.height}" rx="10"/>'
        f"{_write(frame.group.name, area.x + PAD, area.y + 19, SMALL, 'title begin')}</g>"
    )


def _box(box: Box, lit: bool) -> str:
    area, x = box.area, box.area.x + box.area.width // 2
    text = [
        _write(line, x, box.text + HEAD + LINE * at + LINE - 3, SMALL, "small")
        for at, line in enumerate(box.lines)
    ]
    return (
        f'<g class="state {_look([box.state])}{" lit" * lit}" data-state="{escape(box.state)}">'
        f'<rect class="box" x="{area.x}" y="{area.y}" width="{area.width}" height="{area.height}" rx="8"/>'
        f"{_write(box.state, x, box.text + HEAD - 6, NAME, 'name')}{''.join(text)}</g>"
    )


def _event(pill: Pill, line: Line | None, lit: str | None) -> str:
    arrow = pill.arrow
    sources, dests = (" ".join(dict.fromkeys(ends)) for ends in zip(*arrow.moves, strict=True))
    kind = "event" + " road" * bool(arrow.number)
    if lit is not None and not arrow.leaves(lit):
        kind += " faded"
    return (
        f'<g class="{kind}" data-event="{escape(arrow.event)}" data-from="{escape(sources)}"'
        f' data-to="{escape(dests)}"><title>{escape(_told(arrow))}</title>'
        f"{_line(line) if line else ''}{_pill(pill)}</g>"
    )


def _told(arrow: Arrow) -> str:
    return f"{arrow.event}: {'; or: '.join(arrow.notes)}"


def _line(line: Line) -> str:
    """Return a line with its tip, and a dot where it begins at a frame."""
    points = list(line.points)
    (x0, y0), (x, y) = points[-2:]
    dx, dy = (x > x0) - (x < x0), (y > y0) - (y < y0)
    tip = f"{x},{y} {x - 9 * dx - 5 * dy},{y - 9 * dy - 5 * dx} {x - 9 * dx + 5 * dy},{y - 9 * dy + 5 * dx}"
    points[-1] = (x - 6 * dx, y - 6 * dy)
    dot = _dot(*points[0]) if isinstance(line.arrow.tail, Group) else ""
    return f'<path class="line" d="{_path(points)}"/><polygon class="tip" points="{tip}"/>{dot}'


def _path(points: list[tuple[int, int]]) -> str:
    """Return the path from corner to corner, each corner rounded."""
    parts = [f"M{points[0][0]} {points[0][1]}"]
    for (x0, y0), (x, y), (x1, y1) in zip(points, points[1:], points[2:], strict=False):
        before = (x - _sign(x - x0) * 6, y - _sign(y - y0) * 6)
        after = (x + _sign(x1 - x) * 6, y + _sign(y1 - y) * 6)
        parts.append(f"L{before[0]} {before[1]}Q{x} {y} {after[0]} {after[1]}")
    parts.append(f"L{points[-1][0]} {points[-1][1]}")
    return "".join(parts)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)


def _dot(x: int, y: int) -> str:
    return f'<circle class="tip" cx="{x}" cy="{y}" r="4.5"/>'


def _loop(x: int, y: int) -> str:
    """Return the sign of what leaves a state as it is, around a point."""
    return (
        f'<path class="sign" d="M{x + 4} {y - 3}A5 5 0 1 0 {x + 5} {y + 1}"/>'
        f'<path class="sign" d="M{x + 5} {y - 7}V{y - 3}H{x + 1}"/>'
    )


def _number(number: int, x: int, y: int) -> str:
    return (
        f'<circle class="number" cx="{x}" cy="{y}" r="8.5"/>'
        f'<text class="digit" x="{x}" y="{y + 4}" font-size="{SMALL}">{number}</text>'
    )


def _pill(pill: Pill) -> str:
    arrow, area = pill.arrow, pill.area
    width = text_width(arrow.event, EVENT)
    badge = BADGE if arrow.number or arrow.stays else 0
    x = area.x + (area.width - width - badge) // 2
    y = area.y + 13
    sign = ""
    if arrow.number:
        sign = _number(arrow.number, x + 8, y)
    elif arrow.stays:
        sign = _loop(x + 8, y + 1)
    middle = area.x + area.width // 2
    start, kind = (x + badge, "begin") if badge else (middle, "")
    text = _write(arrow.event, start, y + 5, EVENT, kind)
    text += "".join(
        _write(line, middle, area.y + 32 + at * LINE, SMALL, "small")
        for at, line in enumerate(arrow.condition)
    )
    return (
        f'<rect class="pill" x="{area.x}" y="{area.y}" width="{area.width}" height="{area.height}" rx="13"/>'
        f"{sign}{text}"
    )


def _legend(picture: Picture, arrows: Iterable[Arrow]) -> tuple[list[str], int]:
    """Return what explains the signs that are used, below the picture, and how high all is with it."""
    used = {
        "frame": any(isinstance(one.tail, Group) and not one.stays for one in arrows),
        "stays": any(one.stays for one in arrows),
        "number": any(one.number for one in arrows),
    }
    parts, x, y = [], MARGIN, picture.height
    for kind in (one for one in _LEGEND if used[one]):
        text = _LEGEND[kind]
        width = text_width(text, SMALL) * 6 // 5 + 24 + 20
        if x > MARGIN and x + width > picture.width:
            x, y = MARGIN, y + 24
        signs = {"frame": _dot(x + 8, y), "stays": _loop(x + 8, y), "number": _number(1, x + 8, y)}
        parts.append(signs[kind] + _write(text, x + 24, y + 4, SMALL, "small begin"))
        x += width
    return parts, y + MARGIN if parts else picture.height
